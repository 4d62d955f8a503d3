"""Who trades: an asset per model that judges its latest version, and the jobs by which people overrule it."""

from typing import Any

import dagster as dg

from lem_pipeline.defs.training import model_key
from lem_pipeline.failures import explained
from lem_pipeline.promotion import LOG, Decision, Desk
from lem_pipeline.settings import settings
from lem_pipeline.sql_assets import asset_key
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking


class OverrideConfig(dg.Config):
    """What a person decides against or without the rule."""

    model: str  # such as lem-crypto
    version: str  # number of the version that shall trade
    person: str  # who decides
    reason: str  # why, for the log


class RollBackConfig(dg.Config):
    """Why the version before takes over again."""

    model: str  # such as lem-crypto
    person: str  # who decides
    reason: str  # why, for the log


def promotion_asset(name: str) -> dg.AssetsDefinition:
    """The asset that promotes, keeps or refuses the latest version of one model."""

    @dg.asset(
        key=["promotions", *model_key(name).path[-1:]],
        group_name="promotions",
        description=f"Whether the latest version of `{name}` trades, judged on test orders that the champion met, too.",
        deps=[model_key(name), asset_key("reports.daily_improvements"), asset_key("reports.comparison")],
        kinds={"mlflow", "duckdb"},
    )
    def promotion(context: dg.AssetExecutionContext, warehouse: Warehouse, tracking: Tracking) -> dg.MaterializeResult:
        with explained():
            decision = Desk(settings(), warehouse, tracking, context.run.run_id).decide(name)
            log = warehouse.read(
                f"""
                select decided_at, action, challenger, champion_after, decided_by, reason
                from {LOG} where model = $model order by decided_at desc limit 10
                """,  # noqa: S608 - our own names, values bound
                {"model": name},
            )
        context.log.info(decision.sentence)
        return dg.MaterializeResult(
            metadata={
                "decision": decision.sentence,
                "champion": f"{name}/{decision.champion_after}" if decision.champion_after else "none",
                "evidence": dg.MetadataValue.json(decision.evidence),
                "latest_decisions": dg.MetadataValue.md(_told(log.to_pylist())),
            }
        )

    return promotion


def _told(log: list[dict[str, Any]]) -> str:
    """A line each: Dagster's tables grow tall with long reasons."""
    return "\n".join(
        f"- {row['decided_at']:%Y-%m-%d %H:%M} UTC, by {row['decided_by']}: version {row['challenger']} "
        f"**{row['action']}**, {row['champion_after'] or 'none'} trades; {row['reason']}"
        for row in log
    )


def _report(context: dg.OpExecutionContext, decision: Decision) -> None:
    if decision.action == "refused":
        raise dg.Failure(decision.sentence, allow_retries=False)
    context.log.info(decision.sentence)
    context.add_output_metadata({"decision": decision.sentence, "champion": decision.champion_after or "none"})


@dg.op
def promote_version(
    context: dg.OpExecutionContext, config: OverrideConfig, warehouse: Warehouse, tracking: Tracking
) -> None:
    """Let a version trade because a person says so; it must pass every gate all the same."""
    with explained():
        desk = Desk(settings(), warehouse, tracking, context.run_id)
        _report(context, desk.promote(config.model, config.version, config.person, config.reason))


@dg.op
def give_the_place_back(
    context: dg.OpExecutionContext, config: RollBackConfig, warehouse: Warehouse, tracking: Tracking
) -> None:
    """Let the version trade that did before."""
    with explained():
        desk = Desk(settings(), warehouse, tracking, context.run_id)
        _report(context, desk.roll_back(config.model, config.person, config.reason))


@dg.job
def promote() -> None:
    """Let a version trade because a person says so, with a reason; gates are not theirs to overrule."""
    promote_version()


@dg.job
def roll_back() -> None:
    """Give the place back to the version that traded before, with a reason."""
    give_the_place_back()


@dg.definitions
def promotions() -> dg.Definitions:
    """One judgement per model, and the two jobs of people."""
    return dg.Definitions(assets=[promotion_asset(name) for name in settings().models], jobs=[promote, roll_back])
