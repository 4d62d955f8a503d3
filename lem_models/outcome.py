"""What an order under way has come to, from its real fills and the bars that are known."""

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

import torch

from lem_models.events import exact
from lem_models.execution import RunningMarket, slippage_bps
from lem_models.order_record import OrderRecord
from lem_models.orders import OrderGrid


@dataclass(frozen=True)
class Outcome:
    """What an order has come to, from its real fills and the bars that are known.

    Attributes:
        filled_fraction: Of the parent order.
        remaining: Units, or cash, that are not filled.
        average_price: Own average fill price; None before any fill.
        benchmark_price: Market average over the bars up to ``completion_bar`` that are known; None before any trades.
        slippage_bps: Cost against the benchmark; positive is a cost. None where either price is.
        completion_bar: Last bar of the realised window, counted from 1: that of the last fill, at least the minimum
            duration; the horizon's last for an order that is not complete.
        is_final: True once the order is complete, or its horizon is over, and all bars of the window are over.
    """

    filled_fraction: float
    remaining: float
    average_price: float | None
    benchmark_price: float | None
    slippage_bps: float | None
    completion_bar: int
    is_final: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values that survive JSON."""
        return asdict(self)


def outcome_of(record: OrderRecord, grid: OrderGrid) -> Outcome:
    """Own fills against the market average of the realised window, as ``execution.settle`` defines it.

    Raises:
        SessionError: The order has not begun.
    """
    order = record.order
    last_fill = max((fill.bar_number or 0 for fill in record.fills.values()), default=record.start)
    done = max(order.minimum_duration, last_fill - record.start + 1)
    completion = record.horizon if record.remaining_lots() else done
    known = min(completion, record.steps_over)
    market, own = record.market(), record.average_price()
    benchmark, slippage = None, None
    if (market.volume[0, :known] > 0).any():
        running = RunningMarket.of(market).benchmark(grid)[0, order.cell[0], 0, known - 1]
        benchmark = float(running) * record.arrival()
    if own is not None and benchmark is not None:
        prices = (torch.tensor(each, dtype=torch.float64) for each in (order.side.value, own, benchmark))
        slippage = float(slippage_bps(*prices))
    return Outcome(
        filled_fraction=min(1.0, float(record.filled() / exact(order.size))),
        remaining=float(max(Decimal(0), record.remaining())),
        average_price=own,
        benchmark_price=benchmark,
        slippage_bps=slippage,
        completion_bar=completion,
        is_final=record.steps_over >= completion,
    )
