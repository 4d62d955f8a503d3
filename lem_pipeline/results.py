"""From evaluated batches to the table of order results, one row per strategy and parent order."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lem_models.evaluation import EvaluatedBatch
from lem_models.orders import SCENARIOS
from lem_pipeline.panel import OrderPanel
from lem_pipeline.sql_assets import SQL

MEASURES = ("slippage_bps", "fixed_window_slippage_bps", "arrival_slippage_bps", "completion_bar", "filled_fraction")
COSTS = ("impact_bps", "largest_participation", "mean_participation")


def order_results(model: str, data: OrderPanel, batches: Iterable[EvaluatedBatch]) -> Iterator[pa.Table]:
    """One table per batch, one row per order."""
    for batch in batches:
        orders, scenarios, horizon = batch.results.slippage_bps.shape
        window, scenario, duration = (axis.ravel() for axis in np.indices((orders, scenarios, horizon), dtype=np.int32))
        keys = data.keys.take(pa.array(batch.rows.numpy()))
        columns = {
            "model": _repeated([model], np.zeros_like(window)),
            "strategy": _repeated([batch.strategy], np.zeros_like(window)),
            **{name: keys[name].take(pa.array(window)) for name in ("asset_class", "symbol", "bar_start")},
            "side": _repeated([s.side.name.lower() for s in SCENARIOS], scenario),
            "benchmark": _repeated([s.benchmark.value for s in SCENARIOS], scenario),
            "target": _repeated([s.target.value for s in SCENARIOS], scenario),
            "minimum_duration": pa.array(duration + 1),
            **{name: pa.array(getattr(batch.results, name).numpy().ravel()) for name in MEASURES},
            "volatility_bps": pa.array(batch.volatility_bps.numpy()[window]),
        }
        if batch.costs:
            columns |= {name: pa.array(getattr(batch.costs, name).numpy().ravel()) for name in COSTS}
        yield pa.table(columns)


def headline_results(
    model: str, data: OrderPanel, batches: Iterable[EvaluatedBatch], durations: Sequence[int]
) -> Iterator[pa.Table]:
    """The rows of :func:`order_results` that the report's first screen is about: a fixed quantity against VWAP."""
    for table in order_results(model, data, batches):
        kind = pc.and_(pc.equal(table["benchmark"], "VWAP"), pc.equal(table["target"], "quantity"))
        yield table.filter(pc.and_(kind, pc.is_in(table["minimum_duration"], pa.array(durations, pa.int32()))))


def daily_improvements(orders: pa.Table) -> pd.DataFrame:
    """Rows of `reports.daily_improvements` of orders that are not in the warehouse's order results."""
    import duckdb

    with duckdb.connect() as memory:
        memory.execute("set timezone = 'UTC'; create schema results")
        memory.register("given", orders)
        memory.execute("create view results.order_results as from given")
        return memory.sql((SQL / "reports/daily_improvements.sql").read_text()).df()


def _repeated(values: list[str], codes: np.ndarray) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes), values).dictionary_decode()
