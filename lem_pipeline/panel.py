"""From DuckDB to the market panel that models read: one feature matrix, and the rows where order windows begin."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from lem_models.windows import MarketPanel
from lem_pipeline.errors import NoOrderWindowsError
from lem_pipeline.sql_assets import SQL
from lem_pipeline.storage import ContentHash, Warehouse

KEYS = ("asset_class", "symbol", "bar_start", "bar_number", "split")
PANEL = SQL / "queries/panel.sql"
MARKET = ("price", "close", "volume", "volatility", "expected_volume")


@dataclass
class OrderPanel:
    """Bars of some asset classes and the order windows on them.

    Attributes:
        panel: The bars.
        features: Names of the feature columns.
        keys: Asset class, symbol, start, number and split of each row.
        snapshot: Hash of everything above: the same hash, the same data.
    """

    panel: MarketPanel
    features: tuple[str, ...]
    keys: pa.Table
    snapshot: str

    def rows(self, split: str, every: int = 1, asset_class: str | None = None) -> torch.Tensor:
        """Rows where order windows of a split begin.

        Args:
            split: train, validation or test.
            every: Keep only bars whose number is a multiple. With the horizon, windows do not overlap and those of
                all symbols begin together.
            asset_class: Keep only its windows.

        Raises:
            NoOrderWindowsError: There is none.
        """
        number: NDArray[Any] = self.keys["bar_number"].to_numpy()
        chosen = self._where("split", split) & (number % every == 0)
        if asset_class:
            chosen &= self._where("asset_class", asset_class)
        if not chosen.any():
            raise NoOrderWindowsError(
                f"there is no {split} window; ingest a longer period, or shorten lookback or horizon"
            )
        return torch.from_numpy(np.flatnonzero(chosen))

    def _where(self, key: str, value: str) -> NDArray[np.bool_]:
        """Which rows have a key; compared where they lie, as an object per row would outweigh the panel."""
        return cast(NDArray[np.bool_], pc.fill_null(pc.equal(self.keys[key], value), False).to_numpy())

    def last_bar(self, split: str, horizon: int) -> datetime:
        """Start of the last bar that orders of a split trade in."""
        return cast(datetime, pc.max(self.keys["bar_start"].take((self.rows(split) + horizon - 1).numpy())).as_py())

    def first_bar(self, split: str) -> datetime:
        """Start of the first bar that orders of a split trade in."""
        return cast(datetime, pc.min(self.keys["bar_start"].take(self.rows(split).numpy())).as_py())


def on_fold(data: OrderPanel, warehouse: Warehouse, asset_classes: Sequence[str], fold: int) -> OrderPanel:
    """The same bars with the splits of one walk-forward fold, counted from 1."""
    parameters = {"asset_classes": list(asset_classes), "fold": fold}
    splits = warehouse.read((SQL / "queries/fold_splits.sql").read_text(), parameters)
    column = data.keys.column_names.index("split")
    return replace(data, keys=data.keys.set_column(column, "split", splits["split"]))


def read_panel(warehouse: Warehouse, asset_classes: Sequence[str]) -> OrderPanel:
    """Read all bars of the asset classes, stacked symbol by symbol; beside the panel, no more than a part of them."""
    classes = {"asset_classes": list(asset_classes)}
    with warehouse.reading(PANEL.read_text(), classes) as (count, reader):
        return _gathered(reader.schema, reader, count)


def panel_of(table: pa.Table) -> OrderPanel:
    """The panel of rows of ``PANEL``."""
    return _gathered(table.schema, table.to_batches(), len(table))


def _gathered(schema: pa.Schema, parts: Iterable[pa.RecordBatch], count: int) -> OrderPanel:
    features = tuple(name for name in schema.names if name not in KEYS + MARKET)
    matrix = np.empty((count, len(features)), dtype=np.float32)
    market = {name: np.empty(count) for name in MARKET}
    keys, snapshot, row = [], ContentHash(schema), 0
    for part in parts:
        rows = slice(row, row + len(part))
        for column, name in enumerate(features):
            matrix[rows, column] = part[name].to_numpy(zero_copy_only=False)
        for name, values in market.items():
            values[rows] = part[name].to_numpy(zero_copy_only=False)
        # A copy, as a column of DuckDB's keeps all columns of its part in memory.
        keys.append(part.select(list(KEYS)).copy_to(pa.default_cpu_memory_manager()))
        snapshot.add(part)
        row = rows.stop
    panel = MarketPanel(torch.from_numpy(matrix), **{name: torch.from_numpy(values) for name, values in market.items()})
    kept = pa.Table.from_batches(keys, pa.schema([schema.field(name) for name in KEYS]))
    return OrderPanel(panel, features, kept, str(snapshot))
