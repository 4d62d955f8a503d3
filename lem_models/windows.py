"""Causal order windows as rows of one feature matrix: a window is a row number, never a copy.

Row t of the feature matrix holds what is known before bar t. The window of an order whose first bar sits in row r
spans rows ``r − L + 1 .. r + H − 1``: L rows of lookback that end with what is known before the first bar, and H − 1
more that become known while the order runs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lem_models.orders import InformationSet, MarketPath, OrderBatch


def evenly_spread(rows: Tensor, count: int) -> Tensor:
    """So many of the rows, or all where there are fewer, from the first to the last."""
    return rows[torch.linspace(0, len(rows) - 1, min(count, len(rows))).long()]


@dataclass
class MarketPanel:
    """All bars of several symbols, stacked symbol by symbol in time order; N rows in all.

    Attributes:
        features: What is known before each bar; (N, F) float32.
        price: Bar VWAP; (N,) float64, as are all market columns.
        close: Last price.
        volume: Units traded.
        volatility: Standard deviation of a one-bar log return, known before the bar.
        expected_volume: Seasonal volume forecast, known a horizon before the bar.
    """

    features: Tensor
    price: Tensor
    close: Tensor
    volume: Tensor
    volatility: Tensor
    expected_volume: Tensor

    def __len__(self) -> int:
        return self.features.shape[0]

    def orders(
        self, first_rows: Tensor, lookback: int, horizon: int, information_set: InformationSet = "causal"
    ) -> OrderBatch:
        """Gather the order windows whose first bars sit in ``first_rows``.

        With ``same_bar`` every row of features is that of the next bar. A decision for bar t then sees return, range,
        average price, volume and trades of bar t itself, the season of bar t + 1, and nothing later. The market path is
        the same: what heads observe of it (last close, running benchmark, volatility) still ends before bar t.

        Args:
            first_rows: Row numbers; (B,) int64.
            lookback: L, rows of history including the first bar's own row.
            horizon: H, bars of the order.
            information_set: ``same_bar`` needs the row after the order's last bar, too.

        Raises:
            IndexError: A window would leave the panel.
        """
        shift = int(information_set == "same_bar")
        last_rows = first_rows + horizon - 1 + shift
        if len(first_rows) and (first_rows.min() < max(lookback - 1, 1) or last_rows.max() >= len(self)):
            raise IndexError(
                f"a window of {lookback} + {horizon} − 1 rows leaves the panel of {len(self)} rows; "
                "its first bar needs a full lookback before it and a full horizon after"
            )
        history = first_rows[:, None] + torch.arange(1 - lookback, horizon)
        ahead = first_rows[:, None] + torch.arange(horizon)
        arrival = self.close[first_rows - 1]
        market = MarketPath(
            arrival=torch.ones_like(arrival, dtype=torch.float32),
            # Prices enter the model as multiples of arrival: scale-free, and exact enough in float32.
            price=(self.price[ahead] / arrival[:, None]).float(),
            close=(self.close[ahead] / arrival[:, None]).float(),
            volume=self.volume[ahead].float(),
            volatility=self.volatility[ahead].float(),
            expected_volume=self.expected_volume[ahead].float(),
        )
        return OrderBatch(self.features[history + shift], market, information_set=information_set)
