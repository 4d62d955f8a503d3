"""Every strategy on the same test orders, once per registered model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

import dagster as dg
import pyarrow as pa

from lem_pipeline.defs.training import model_key
from lem_pipeline.engine import tried_again
from lem_pipeline.failures import explained
from lem_pipeline.holdout import Look, forget_other_models, look_once
from lem_pipeline.panel import OrderPanel
from lem_pipeline.players import players
from lem_pipeline.progress import Paced
from lem_pipeline.settings import settings
from lem_pipeline.sql_assets import last_bar, table_metadata
from lem_pipeline.storage import Warehouse, written
from lem_pipeline.tracking import Tracking

if TYPE_CHECKING:
    from lem_models.evaluation import EvaluatedBatch

LARGE_ORDER = 0.1  # of a day's expected volume
PARTICIPATION_CAPS = (0.05, 0.10, 0.25)

RESULT_COLUMNS = {
    "slippage_bps": "Against the benchmark over the realised window; positive is a cost",
    "fixed_window_slippage_bps": "Against the benchmark over the whole horizon",
    "arrival_slippage_bps": "Against the last close before the order",
    "completion_bar": "Bar in which the order is done, counted from 1; at least the minimum duration",
    "filled_fraction": "1 unless the market did not trade, or not enough",
    "impact_bps": "Square-root impact of what was filled, beside slippage; 1 % of a day's volume unless a size is told",
    "largest_participation": "Largest child order as a fraction of its bar's volume, for the size that impact is of",
    "mean_participation": "The same of all its child orders, averaged",
    "order_size": "Parent order as a fraction of a day's expected volume; impact is for this size",
    "participation_cap": "Greatest fraction of a bar's volume that a child order fills",
    "volatility_bps": "Standard deviation of one bar's log return, known at the start",
}

MODEL_KEYS = [model_key(name) for name in settings().registered]


@dg.asset(
    key=["results", "order_results"],
    group_name="results",
    deps=MODEL_KEYS,
    kinds={"mlflow", "duckdb"},
    retry_policy=tried_again(settings()),
)
def order_results(context: dg.AssetExecutionContext, warehouse: Warehouse, tracking: Tracking) -> dg.MaterializeResult:
    """What each test order cost under each strategy: all scenarios, all minimum durations, models as registered."""
    from lem_models.evaluation import evaluate
    from lem_pipeline.contestants import ONE_PERCENT, charged, contestants
    from lem_pipeline.results import order_results as tables
    from lem_pipeline.serving import Registered

    chosen = settings().model

    def play(name: str, asset_classes: Sequence[str], data: OrderPanel) -> Iterator[pa.Table]:
        tell = Paced(context.log.info)
        own, *others = players(name, settings().rivals, tracking, data)
        rivals = [Registered(tracking.load(other.model, other.version), other.strategy) for other in others]
        strategies = contestants(Registered(tracking.load(own.model, own.version)), rivals, data, chosen)
        for asset_class in asset_classes:
            rows = data.rows("test", chosen.horizon, asset_class)
            context.log.info(f"{name}: {len(rows):,} test windows that do not overlap")
            trial = charged(asset_class, ONE_PERCENT, participation_cap=None)
            batches = evaluate(strategies, data.panel, rows, chosen.lookback, chosen.horizon, trial=trial)
            yield from tables(name, data, _counted(batches, len(rows) * len(strategies), name, tell))

    return _of_every_model("results.order_results", play, context, warehouse, tracking)


@dg.asset(
    key=["results", "capped_order_results"],
    group_name="results",
    deps=MODEL_KEYS,
    kinds={"mlflow", "duckdb"},
    retry_policy=tried_again(settings()),
)
def capped_order_results(
    context: dg.AssetExecutionContext, warehouse: Warehouse, tracking: Tracking
) -> dg.MaterializeResult:
    """Large test orders that no bar fills beyond a part of its volume: fixed quantity against VWAP."""
    from lem_models.evaluation import evaluate
    from lem_pipeline.contestants import charged, plain_contestants
    from lem_pipeline.report.tables import key_durations
    from lem_pipeline.results import headline_results

    chosen = settings().model

    def play(name: str, asset_classes: Sequence[str], data: OrderPanel) -> Iterator[pa.Table]:
        tell = Paced(context.log.info)
        strategies = plain_contestants(tracking.load(name), chosen.limits)
        for asset_class, cap in product(asset_classes, PARTICIPATION_CAPS):
            rows = data.rows("test", chosen.horizon, asset_class)
            context.log.info(f"{name}: {len(rows):,} test windows, at most {cap:.0%} of any bar")
            trial = charged(asset_class, LARGE_ORDER, cap)
            batches = evaluate(strategies, data.panel, rows, chosen.lookback, chosen.horizon, trial=trial)
            counted = _counted(batches, len(rows) * len(strategies), f"{name}, {cap:.0%}", tell)
            for table in headline_results(name, data, counted, key_durations(chosen.horizon)):
                sized = table.append_column("order_size", pa.repeat(LARGE_ORDER, len(table)))
                yield sized.append_column("participation_cap", pa.repeat(cap, len(table)))

    return _of_every_model("results.capped_order_results", play, context, warehouse, tracking)


def _counted(batches: Iterable["EvaluatedBatch"], windows: int, name: str, tell: Paced) -> Iterator["EvaluatedBatch"]:
    played = 0
    for batch in batches:
        played += len(batch.rows)
        tell(f"{name}: {played:,} of {windows:,} windows played, now by {batch.strategy}")
        yield batch


def _of_every_model(
    table: str,
    play: Callable[[str, Sequence[str], OrderPanel], Iterator[pa.Table]],
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    tracking: Tracking,
) -> dg.MaterializeResult:
    """Play the test orders of each model, unless the very same were played before."""
    from lem_pipeline.panel import read_panel
    from lem_pipeline.tracking import model_code_hash

    chosen = settings()
    with explained():
        for name, asset_classes in chosen.models.items():
            data = read_panel(warehouse, asset_classes)
            versions = tuple(
                f"{player.model}/{player.version}" for player in players(name, settings().rivals, tracking, data)
            )
            look = Look(table, name, versions, data.snapshot, model_code_hash())
            played = look_once(
                warehouse,
                look,
                context.run.run_id,
                lambda: play(name, asset_classes, data),  # noqa: B023
            )
            if not played:
                context.log.info(f"{versions[0]} has met these test orders before; its results are kept")
        forget_other_models(warehouse, table, list(chosen.models))
        with warehouse.connection() as connection:
            stored = written(connection, table, 0)
    described = table_metadata(stored.columns, stored.rows, RESULT_COLUMNS)
    return dg.MaterializeResult(metadata={**described, **last_bar(stored)})
