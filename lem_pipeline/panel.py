"""From DuckDB to the market panel that models read: one feature matrix, and the rows where order windows begin."""

from collections.abc import Sequence
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
from lem_pipeline.storage import Warehouse, content_hash

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
        chosen = (self.keys["split"].to_numpy(zero_copy_only=False) == split) & (number % every == 0)
        if asset_class:
            chosen &= self.keys["asset_class"].to_numpy(zero_copy_only=False) == asset_class
        if not chosen.any():
            raise NoOrderWindowsError(
                f"there is no {split} window; ingest a longer period, or shorten lookback or horizon"
            )
        return torch.from_numpy(np.flatnonzero(chosen))

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
    """Read all bars of the asset classes, stacked symbol by symbol."""
    return panel_of(warehouse.read(PANEL.read_text(), {"asset_classes": list(asset_classes)}))


def panel_of(table: pa.Table) -> OrderPanel:
    """The panel of rows of ``PANEL``."""
    features = tuple(name for name in table.column_names if name not in KEYS + MARKET)
    matrix = np.empty((len(table), len(features)), dtype=np.float32)
    for column, name in enumerate(features):
        matrix[:, column] = table[name].to_numpy()
    market = {name: torch.from_numpy(table[name].to_numpy().copy()) for name in MARKET}
    panel = MarketPanel(features=torch.from_numpy(matrix), **market)
    return OrderPanel(panel, features, table.select(list(KEYS)), content_hash(table))
