"""The job that tries other settings and variants of each model, in several steps where the executor lets them."""

from dataclasses import replace

import dagster as dg

from lem_pipeline.failures import explained
from lem_pipeline.settings import Settings, settings
from lem_pipeline.storage import Warehouse
from lem_pipeline.sweep import Ranked, Sweep, as_toml, begin, end, work
from lem_pipeline.tracking import Tracking

DESCRIPTION = (
    "Try the settings and ablations of section sweep, each judged by its validation loss; bad trials stop early, and a "
    "sweep that was killed goes on. No test order is played."
)


def sweep_of(name: str, chosen: Settings, warehouse: Warehouse) -> Sweep:
    """The sweep over one model that the settings ask for."""
    from lem_pipeline.panel import read_panel

    data = read_panel(warehouse, chosen.models[name])
    stored = chosen.sweep.storage
    storage = stored.get_secret_value() if stored else f"sqlite:///{(chosen.home / 'sweep.db').resolve()}"
    return Sweep(name, replace(chosen.model, features=data.features), chosen.training, chosen.sweep, data, storage)


def begin_op(name: str) -> dg.OpDefinition:
    """Queues the trials of one model."""

    @dg.op(name=f"begin_{name.replace('-', '_')}", out=dg.Out(dg.Nothing), description=f"Queue the trials of {name}.")
    def begin_sweep(context: dg.OpExecutionContext, warehouse: Warehouse, tracking: Tracking) -> None:
        with explained():
            study = begin(sweep_of(name, settings(), warehouse), tracking)
        context.log.info(f"{name}: sweep {study.study_name}, {len(study.trials)} trials queued or made")

    return begin_sweep


def work_op(name: str, number: int) -> dg.OpDefinition:
    """Makes trials of one model until none is left."""

    @dg.op(
        name=f"try_{name.replace('-', '_')}_{number}",
        ins={"begun": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        pool="gpu",
        description=f"Make trials of {name} until none is left.",
    )
    def try_settings(context: dg.OpExecutionContext, warehouse: Warehouse, tracking: Tracking) -> None:
        with explained():
            made = work(sweep_of(name, settings(), warehouse), tracking)
        context.log.info(f"{name}: {made} trials made in this step")

    return try_settings


def end_op(name: str) -> dg.OpDefinition:
    """Ranks the trials of one model."""

    @dg.op(
        name=f"rank_{name.replace('-', '_')}", ins={"tried": dg.In(dg.Nothing)}, description=f"Rank {name}'s trials."
    )
    def rank(context: dg.OpExecutionContext, warehouse: Warehouse, tracking: Tracking) -> None:
        with explained():
            found = end(sweep_of(name, settings(), warehouse), tracking)
        best = as_toml(found[0].changes) or "the settings as they are"
        records = [dg.TableRecord(_shown(each)) for each in found]
        context.log_event(
            dg.AssetMaterialization(
                ["sweeps", name.replace("-", "_")],
                description=f"Trials of {name}, the best first.",
                metadata={
                    "trials": len(found),
                    "best_validation_loss": found[0].loss,
                    "best_settings": dg.MetadataValue.md(f"```toml\n{best}\n```"),
                    "ranking": dg.MetadataValue.table(records),
                },
            )
        )
        states = {state: sum(each.state == state for each in found) for state in ("complete", "pruned", "failed")}
        context.log.info(f"{name}: {', '.join(f'{count} {state}' for state, count in states.items())}; best: {best}")

    return rank


def _shown(each: Ranked) -> dict[str, str | int | float]:
    changes = ", ".join(f"{place} = {value}" for place, value in each.changes.items())
    loss = "" if each.loss is None else f"{each.loss:+.5f}"
    return {
        "trial": each.name,
        "state": each.state,
        "validation_loss": loss,
        "epochs": each.epochs,
        "changes": changes,
        "reason": each.reason,
    }


@dg.definitions
def sweeps() -> dg.Definitions:
    """The job, over every model of the settings."""
    chosen = settings()

    @dg.job(name="sweep", description=DESCRIPTION)
    def sweep() -> None:
        for name in chosen.models:
            begun = begin_op(name)()
            end_op(name)([work_op(name, number)(begun) for number in range(1, chosen.sweep.workers + 1)])

    return dg.Definitions(jobs=[sweep])
