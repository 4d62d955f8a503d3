"""How the way a model is made fares on stretches of time before the hold-out: fold by fold, seed by seed."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from lem_pipeline.panel import OrderPanel
from lem_pipeline.storage import Warehouse, Written, create_if_missing, replace_rows, written

if TYPE_CHECKING:
    from lem_models.config import LEMConfig, TrainingConfig


RESULTS = "results.walk_forward_results"
RESULTS_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("fit", "model", "strategy", "asset_class", "symbol"), pa.string()),
        "bar_start": pa.timestamp("us", tz="UTC"),
        **dict.fromkeys(("side", "benchmark", "target"), pa.string()),
        "minimum_duration": pa.int32(),
        **dict.fromkeys(("slippage_bps", "fixed_window_slippage_bps", "arrival_slippage_bps"), pa.float64()),
        "completion_bar": pa.int64(),
        "filled_fraction": pa.float64(),
        "volatility_bps": pa.float32(),
        **dict.fromkeys(("fold", "seed"), pa.int32()),
    }
)


@dataclass(frozen=True)
class Attempt:
    """One fit on one fold with one seed.

    Attributes:
        model: Whose way of being made is tried.
        fold: Which stretch it is tested on, counted from 1.
        config: Shape of the model.
        training: How it is fitted, the seed included.
        with_baselines: Whether baselines play the fold's orders, too; they need no seed, so one attempt does.
    """

    model: str
    fold: int
    config: "LEMConfig"
    training: "TrainingConfig"
    with_baselines: bool

    def fingerprint(self, snapshot: str, code: str) -> str:
        """The same fingerprint, the same results."""
        parts = {"snapshot": snapshot, "code": code, **asdict(self), "training": self.training.made_of()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt: the metrics of each epoch, and the results of its test orders."""

    attempt: Attempt
    history: list[dict[str, float]]
    results: pa.Table


def attempts(model: str, config: "LEMConfig", training: "TrainingConfig", folds: int, seeds: int) -> Iterator[Attempt]:
    """Every fold with every seed."""
    for fold in range(1, folds + 1):
        for seed in range(seeds):
            yield Attempt(model, fold, config, replace(training, seed=training.seed + seed), seed == 0)


def share_of(every: Sequence[Attempt], number: int, shares: int, before: int) -> Sequence[Attempt]:
    """The attempts whose position leaves a number when divided by the number of shares.

    A share is the same on every run, whatever is stored already: nobody else plays what it lacks.

    Args:
        every: Attempts of one model, in their order.
        number: Which share, counted from 0.
        shares: How many there are.
        before: Attempts of other models that come first, so that shares are as equal as can be.

    Example:
        >>> [share_of("abc", number, 2, before=3) for number in (0, 1)]
        ['b', 'ac']
    """
    return every[(number - before) % shares :: shares]


def play(attempt: Attempt, data: OrderPanel) -> Outcome:
    """Fit a model on a fold and let it slice the test orders of the fold; it is not kept.

    Args:
        attempt: What to fit.
        data: Bars, with the splits of the fold.

    Returns:
        Results of fixed-quantity orders of the durations that are reported, columns as in `results.order_results`
        and fold, seed (null for baselines).
    """
    from lem_models.baselines.optimal_stopping import OptimalStopping
    from lem_models.baselines.twap import Twap
    from lem_models.evaluation import evaluate
    from lem_models.training import fit
    from lem_pipeline.edges import MODEL_STRATEGY
    from lem_pipeline.results import order_results

    config, limits = attempt.config, attempt.config.limits
    with TemporaryDirectory() as checkpoints:
        fitted = fit(
            data.panel, data.rows("train"), data.rows("validation"), config, attempt.training, Path(checkpoints)
        )
    strategies = [fitted.model, *((OptimalStopping(limits), Twap(limits)) if attempt.with_baselines else ())]
    batches = evaluate(strategies, data.panel, data.rows("test", every=config.horizon), config.lookback, config.horizon)
    tables = [_reported(table, config.horizon) for table in order_results(attempt.model, data, batches)]
    results = pa.concat_tables(tables)
    is_learned = pc.equal(results["strategy"], MODEL_STRATEGY)
    seed = pc.if_else(is_learned, pa.scalar(attempt.training.seed, pa.int32()), pa.scalar(None, pa.int32()))
    fold = pa.repeat(pa.scalar(attempt.fold, pa.int32()), len(results))
    return Outcome(attempt, fitted.history, results.append_column("fold", fold).append_column("seed", seed))


def play_all(wanted: Sequence[Attempt], folds: dict[int, OrderPanel], workers: int) -> Iterator[Outcome]:
    """Play attempts in processes of their own, so many at a time; outcomes come as they are ready."""
    if not wanted:
        return iter(())
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=min(workers, len(wanted)), return_as="generator_unordered")
    outcomes: Iterator[Outcome] = parallel(delayed(play)(attempt, folds[attempt.fold]) for attempt in wanted)
    return outcomes


def make_ready(warehouse: Warehouse) -> set[str]:
    """Create the table of results where it is missing; the fits whose results it holds."""
    with warehouse.transaction(RESULTS) as connection:
        create_if_missing(connection, RESULTS, RESULTS_SCHEMA)
        return {fit for (fit,) in connection.execute(f"select distinct fit from {RESULTS}").fetchall()}  # noqa: S608 - our own names, values bound


def keep(warehouse: Warehouse, fit: str, outcome: Outcome) -> None:
    """Store the results of one fit in the place of any that it had."""
    rows = outcome.results.append_column("fit", pa.repeat(fit, len(outcome.results)))
    with warehouse.transaction(RESULTS) as connection:
        replace_rows(connection, RESULTS, rows.select(RESULTS_SCHEMA.names), "fit = $fit", {"fit": fit})


def forget_others(warehouse: Warehouse, fits: Sequence[str]) -> Written:
    """Delete the results of fits that are no longer asked for."""
    with warehouse.transaction(RESULTS) as connection:
        connection.execute(f"delete from {RESULTS} where not list_contains($fits, fit)", {"fits": list(fits)})  # noqa: S608 - our own names, values bound
        return written(connection, RESULTS, 0)


def workers_here() -> int:
    """A GPU trains one model at a time; without one, each core does."""
    import joblib
    import torch

    return 1 if torch.cuda.is_available() else joblib.cpu_count()


def _reported(table: pa.Table, horizon: int) -> pa.Table:
    from lem_pipeline.report.tables import shown_durations

    durations = pa.array(shown_durations(horizon), pa.int32())
    is_fixed_quantity = pc.equal(table["target"], "quantity")
    return table.filter(pc.and_(is_fixed_quantity, pc.is_in(table["minimum_duration"], durations)))
