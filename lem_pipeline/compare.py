"""Two registered versions on the same orders, paired."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lem_pipeline.edges import difference_intervals
from lem_pipeline.errors import ComparisonError, WarehouseError
from lem_pipeline.holdout import COMPARED, Look, note
from lem_pipeline.panel import OrderPanel, read_panel
from lem_pipeline.report.tables import shown_durations
from lem_pipeline.results import daily_improvements, order_results
from lem_pipeline.settings import settings
from lem_pipeline.stores import tracking_of, warehouse_of
from lem_pipeline.tracking import code_version, model_code_hash
from lem_pipeline.versions import OnPanel, Version, load_version

Split = Literal["test", "validation"]

CAVEAT = {
    "test": "This was one more look at the test split, and is counted: every look, and every choice after it, wears "
    "the hold-out out. Choose between versions on validation orders (--split validation).",
    "validation": "Validation orders told training when to stop, which flatters both versions; the test split was not "
    "looked at.",
}


@dataclass(frozen=True)
class Comparison:
    """Everything that is shown of two versions.

    Attributes:
        one: The version that is judged.
        other: What it is judged by.
        split: Whose orders were played.
        differences: Rows of :func:`edges.difference_intervals`, with the ``std_one_bps`` and ``std_other_bps`` of a
            single order, pooled over buying and selling.
        notes: What a reader has to know before the figures.
        simulated: Whether any price behind them was simulated.
    """

    one: Version
    other: Version
    split: Split
    differences: pd.DataFrame
    notes: tuple[str, ...]
    simulated: bool

    @property
    def file_name(self) -> str:
        """Of its page, unless told otherwise."""
        names = "-".join(version.name.replace("/", "-") for version in (self.one, self.other))
        return f"compare-{names}-{self.split}.html"


def compare_versions(one: str, other: str, split: Split) -> Comparison:
    """Load two versions from the registry of the settings and play both on orders of their warehouse.

    Raises:
        UnknownVersionError: The registry does not know one, or cannot load it.
        ComparisonError: They were not made for the same orders.
        WarehouseError: There is no warehouse.
    """
    chosen = settings()
    tracking = tracking_of(chosen)
    first, second = (load_version(tracking, reference) for reference in (one, other))
    asset_classes = refuse_incomparable(first, second, chosen.registered)
    warehouse = warehouse_of(chosen)
    if not warehouse.exists:
        raise WarehouseError(f"there is no warehouse at {warehouse.place}; run the main job of the profile first")
    simulated = any(chosen.market(name).bars.source == "simulated" for name in asset_classes)
    data = read_panel(warehouse, asset_classes)
    found = compare(first, second, data, asset_classes, split, simulated)
    if split == "test":
        look = Look(COMPARED, first.model, (first.name, second.name), data.snapshot, model_code_hash())
        note(warehouse, look, "command line")
    return found


def refuse_incomparable(one: Version, other: Version, models: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Asset classes whose orders both were made for.

    Args:
        one: A version.
        other: Another one.
        models: What each model of the settings trades.

    Raises:
        ComparisonError: They are the same version, or were not made for the same orders.
    """
    if one.name == other.name:
        raise ComparisonError(f"both are {one.name}; name another version")
    for version in (one, other):
        if version.model not in models:
            raise ComparisonError(
                f"the profile does not say what {version.model} trades; name it in the profile's [models]"
            )
    for what, of_one, of_other in (
        ("asset classes", " and ".join(models[one.model]), " and ".join(models[other.model])),
        ("horizon", one.config.horizon, other.config.horizon),
        ("lookback", one.config.lookback, other.config.lookback),
    ):
        if of_one != of_other:
            raise ComparisonError(f"{one.name} and {other.name} cannot be compared: {what} {of_one} against {of_other}")
    return models[one.model]


def compare(
    one: Version, other: Version, data: OrderPanel, asset_classes: Sequence[str], split: Split, simulated: bool
) -> Comparison:
    """Play both versions on the same orders, which do not overlap.

    Raises:
        ComparisonError: The features of today lack one that a version was trained on.
    """
    played = [OnPanel(version, data.features) for version in (one, other)]
    for strategy in played:
        if strategy.missing:
            raise ComparisonError(
                f"{strategy.name} was trained on {', '.join(strategy.missing)}, which today's features no longer have"
            )
    orders = pa.concat_tables(_played(played, data, asset_classes, split))
    found = difference_intervals(daily_improvements(orders), one.name, other.name)
    spread = _single_order_std(orders).unstack("strategy")
    kinds = ["asset_class", "benchmark", "minimum_duration"]
    for column, version in (("std_one_bps", one), ("std_other_bps", other)):
        found = found.join(spread[version.name].rename(column), on=kinds)
    notes = (CAVEAT[split], *_doubts(one, other, data.snapshot))
    return Comparison(one, other, split, found, notes, simulated)


def _played(played: list[OnPanel], data: OrderPanel, asset_classes: Sequence[str], split: Split) -> Iterator[pa.Table]:
    from lem_models.evaluation import evaluate
    from lem_pipeline.contestants import ONE_PERCENT, charged

    config = played[0].version.config
    durations = pa.array(shown_durations(config.horizon), pa.int32())
    for asset_class in asset_classes:
        rows = data.rows(split, config.horizon, asset_class)
        trial = charged(asset_class, ONE_PERCENT, participation_cap=None)
        batches = evaluate(played, data.panel, rows, config.lookback, config.horizon, trial=trial)
        for table in order_results("compared", data, batches):
            shown = pc.and_(pc.equal(table["target"], "quantity"), pc.is_in(table["minimum_duration"], durations))
            yield table.filter(shown)


def _single_order_std(orders: pa.Table) -> pd.Series:
    """Dispersion of a single order in bps, by asset class, benchmark, minimum duration and strategy."""
    kinds = ["asset_class", "benchmark", "minimum_duration", "strategy"]
    frame = orders.select([*kinds, "side", "slippage_bps"]).to_pandas()
    variance: pd.Series = frame.groupby([*kinds, "side"])["slippage_bps"].var().groupby(kinds).mean()
    return variance.pow(0.5)


def _doubts(one: Version, other: Version, snapshot: str) -> Iterator[str]:
    for version in (one, other):
        if (trained_on := version.tags.get("data.snapshot", "unknown data")) != snapshot:
            yield (
                f"{version.name} was trained on other bars than today's (snapshot {trained_on}, now {snapshot}): some "
                "of these orders may have been among its training windows."
            )
    if any(version.tags.get("code.version") != code_version() for version in (one, other)):
        yield f"Both decide by the model code of this checkout ({code_version()}), whatever they were trained by."
