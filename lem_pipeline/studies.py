"""Finished results of several profiles side by side: bars of other lengths, other markets, true and proxy prices."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from pathlib import Path

import pandas as pd
import pyarrow as pa

from lem_pipeline.edges import (
    MODEL_STRATEGY,
    STOPPING_STRATEGY,
    TWAP_STRATEGY,
    headline_orders,
    improvement_intervals,
)
from lem_pipeline.report.tables import shown_durations
from lem_pipeline.settings import Settings
from lem_pipeline.settings.markets import MarketSettings
from lem_pipeline.settings.sources import ArchiveSource
from lem_pipeline.stores import warehouse_of

Reader = Callable[[str, Mapping[str, object]], pd.DataFrame]

STRATEGIES = (MODEL_STRATEGY, STOPPING_STRATEGY, TWAP_STRATEGY)
FINISHED = "finished"
READ = (
    "reports.improvements",
    "reports.edges",
    "reports.slippage_by_scenario",
    "results.order_results",
    "quality.price_proxy",
)

TEXTS = ("study", "status", "model", "asset_class", "bar", "source", "price_basis", "strategy")
COUNTS = ("bar_minutes", "minimum_duration", "order_windows", "days")
GAINS = ("mean_bps", "low_bps", "high_bps", "minimum_detectable_bps")
EDGES = ("edge_bps", "edge_low_bps", "edge_high_bps", "edge_detectable_bps")
SIDES = ("buy_bps", "buy_std_bps", "sell_bps", "sell_std_bps")
STUDIES_SCHEMA = pa.schema(
    [(name, pa.string()) for name in TEXTS]
    + [(name, pa.int64()) for name in COUNTS]
    + [(name, pa.float64()) for name in (*GAINS, "mean_sigma", *EDGES, *SIDES)]
)
EFFECTS_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("study", "against", "model", "asset_class", "strategy")]
    + [(name, pa.int64()) for name in ("minimum_duration", "order_windows", "days")]
    + [(name, pa.float64()) for name in (*GAINS, "mean_sigma", "std_bps", "std_against_bps")]
)


@dataclass(frozen=True)
class Study:
    """What one profile asked for, and how to read what became of it.

    Attributes:
        name: The profile.
        chosen: Its settings.
        read: Answers a select statement and its parameters from its warehouse.
    """

    name: str
    chosen: Settings
    read: Reader

    @property
    def status(self) -> str:
        """``finished``, or why there are no results to show."""
        import duckdb

        if not warehouse_of(self.chosen).exists:
            return f"not run yet: lem run --profile {self.name}"
        try:
            for table in READ:
                self.read(f"from {table} limit 0", {})
        except duckdb.CatalogException:
            return f"not finished: lem run --profile {self.name}"
        except duckdb.IOException:
            return f"in use: {self.chosen.warehouse} is open in another program"
        return FINISHED


def reader_of(chosen: Settings) -> Reader:
    """Reads the warehouse of another profile, be it a file or a lake, without writing to it."""
    if chosen.lake:
        return lambda select, parameters: warehouse_of(chosen).read(select, parameters).to_pandas()
    return read_only(chosen.warehouse)


def read_only(warehouse: Path) -> Reader:
    """Reads a file of another profile without writing to it."""

    def read(select: str, parameters: Mapping[str, object]) -> pd.DataFrame:
        import duckdb

        with duckdb.connect(str(warehouse), read_only=True) as connection:
            connection.execute("set timezone = 'UTC'")
            return connection.sql(select, params=dict(parameters)).to_arrow_table().to_pandas()

    return read


def headline_rows(studies: Iterable[Study]) -> pa.Table:
    """The headline orders of each study: the model, stopping without forecasts and TWAP.

    Returns:
        Columns as in ``STUDIES_SCHEMA``, one row per study, model, asset class, strategy and key minimum duration: the
        side-averaged gain on VWAP with its interval, what the model gains over the strategy (``edge_``), and the
        slippage of either side. A study without results is one row that says so.
    """
    parts = [STUDIES_SCHEMA.empty_table().to_pandas()]
    for study in studies:
        status = study.status
        rows = _rows(study) if status == FINISHED else pd.DataFrame([{}])
        parts.append(rows.assign(study=study.name, status=status))
    frame = pd.concat(parts, ignore_index=True).reindex(columns=STUDIES_SCHEMA.names)
    return pa.Table.from_pandas(frame, STUDIES_SCHEMA, preserve_index=False)


def _rows(study: Study) -> pd.DataFrame:
    keys = ["model", "asset_class", "strategy", "minimum_duration"]
    gains = headline_orders(study.read("from reports.improvements", {}))
    edges = headline_orders(study.read("from reports.edges", {})).rename(columns={"baseline": "strategy"})
    edges = edges.rename(columns=dict(zip(GAINS, EDGES, strict=True)))
    sides = headline_orders(study.read("from reports.slippage_by_scenario", {})).pivot(
        index=keys, columns="side", values=["mean_slippage_bps", "std_slippage_bps"]
    )
    names = {"mean_slippage_bps": "bps", "std_slippage_bps": "std_bps"}
    sides.columns = pd.Index([f"{side}_{names[measure]}" for measure, side in sides.columns])
    rows = gains.merge(edges[[*keys, *EDGES]], how="left", on=keys).merge(sides.reset_index(), on=keys)
    shown = shown_durations(int(gains["minimum_duration"].max()))
    rows = rows[rows["strategy"].isin(STRATEGIES) & rows["minimum_duration"].isin(shown)]
    proxies = study.read(
        "select asset_class, sum(proxy_share * bars) / sum(bars) as share from quality.price_proxy group by all", {}
    ).set_index("asset_class")["share"]
    described = [_described(study.chosen, name, proxies.get(name, 0.0)) for name in rows["asset_class"].unique()]
    return rows.merge(pd.DataFrame(described), on="asset_class")


def _described(chosen: Settings, asset_class: str, proxy_share: float) -> dict[str, object]:
    minutes = chosen.bar(asset_class) // timedelta(minutes=1)
    return {
        "asset_class": asset_class,
        "bar_minutes": minutes,
        "bar": length(minutes),
        "source": source(chosen.market(asset_class)),
        "price_basis": "typical price" if proxy_share > 0.5 else "VWAP",
    }


def length(minutes: int) -> str:
    """How long a bar is, for reading.

    >>> length(90), length(240), length(1440)
    ('90 min', '4 h', '1 day')
    """
    if minutes == 1440:
        return "1 day"
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"


def source(market: MarketSettings) -> str:
    """Where bars come from, in a word or two."""
    if isinstance(market.bars, ArchiveSource):
        return Path(market.bars.path).parent.name or market.bars.path
    return "SIMULATED" if market.bars.source == "simulated" else market.bars.source


def price_effects(studies: Sequence[Study]) -> pa.Table:
    """What the same orders gain at true average prices less what they gain at typical prices.

    Studies are compared where one has the bars of another and differs in the price alone. TWAP and stopping without
    forecasts hardly change what they do, so that their difference is the error of the measurement; the model also was
    trained on other prices.

    Returns:
        Columns as in ``EFFECTS_SCHEMA``, one row per pair, strategy and key minimum duration: the paired, side-averaged
        difference with its interval, and the standard deviation of a single order at either price.
    """
    parts = [EFFECTS_SCHEMA.empty_table().to_pandas()]
    done = [study for study in studies if study.status == FINISHED]
    for true, typical in product(done, done):
        for asset_class in _same_bars_other_price(true.chosen.markets, typical.chosen.markets):
            parts.append(_effect(true, typical, asset_class).assign(study=true.name, against=typical.name))
    frame = pd.concat(parts, ignore_index=True).reindex(columns=EFFECTS_SCHEMA.names)
    return pa.Table.from_pandas(frame, EFFECTS_SCHEMA, preserve_index=False)


def _same_bars_other_price(one: Mapping[str, MarketSettings], other: Mapping[str, MarketSettings]) -> list[str]:
    return [
        name
        for name in one.keys() & other.keys()
        if (one[name].price, other[name].price) == ("vwap", "typical")
        and one[name].model_copy(update={"price": "typical"}) == other[name]
    ]


def _effect(true: Study, typical: Study, asset_class: str) -> pd.DataFrame:
    keys = ["model", "asset_class", "strategy", "symbol", "bar_start", "side", "minimum_duration"]
    select = """
        select columns($columns), slippage_bps, volatility_bps
        from results.order_results
        where asset_class = $asset_class and benchmark = 'VWAP' and target = 'quantity' and strategy in $strategies
    """
    bound = {"columns": keys, "asset_class": asset_class, "strategies": list(STRATEGIES)}
    orders = true.read(select, bound).merge(typical.read(select, bound), on=keys, suffixes=("", "_against"))
    orders = orders[orders["minimum_duration"].isin(shown_durations(int(orders["minimum_duration"].max())))]
    gained = (orders["slippage_bps_against"] - orders["slippage_bps"]) / 2  # of a window, over its two sides
    daily = (
        orders.assign(
            benchmark="VWAP",
            target="quantity",
            trading_day=orders["bar_start"].dt.date,
            improvement_bps=gained,
            improvement_sigma=gained / orders["volatility_bps"],
            order_windows=0.5,
        )
        .groupby(["model", "asset_class", "strategy", "minimum_duration", "benchmark", "target", "trading_day"])
        .sum(numeric_only=True)
        .reset_index()
    )
    spread = orders.groupby(["strategy", "minimum_duration"])[["slippage_bps", "slippage_bps_against"]].std()
    spread = spread.rename(columns={"slippage_bps": "std_bps", "slippage_bps_against": "std_against_bps"})
    return improvement_intervals(daily).merge(spread.reset_index(), on=["strategy", "minimum_duration"])
