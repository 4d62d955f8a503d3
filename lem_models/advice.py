"""What an execution session answers: the next child order and why, and what the order has come to."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

Bound = Literal["none", "remaining", "cap", "pace", "floor"]
"""What a child order met: all that remains, the cap per bar, the least that keeps the rest fillable, or the floor."""

BOUNDS: dict[Bound, str] = {
    "none": "",
    "remaining": "all that remains",
    "cap": "the most that the cap per bar allows",
    "pace": "the least that leaves a rest which the cap allows to finish",
    "floor": "the least that the floor allows",
}


@dataclass(frozen=True)
class Advice:
    """The child order of one bar, decided before it.

    Attributes:
        order_id: Of the parent order.
        bar_number: The bar it is for; where nothing is left to trade, the bar in progress.
        bar: The same counted from the order's first bar, from 1.
        fraction: Of the parent order, for the whole bar.
        quantity: Units, for an order of fixed quantity; else None.
        notional: Cash, for an order of fixed notional; else None.
        filled_in_bar: Units, or cash, that the bar has filled already: the child order includes them.
        remaining_fraction: Before the bar.
        remaining: Units, or cash, before the bar.
        bound: What the child order met.
        cap: Units, or cash, that the cap per bar allows; every child order is at most so large.
        participation_cap: Greatest part of the bar's volume that the child may take, kept by whoever trades it.
        expected_room: Units, or cash, that this comes to if the bar trades as its season lets expect; None without one.
        gap_sigma: How far the running benchmark is on the good side of the last close, in σ of a bar.
        fill_gap_sigma: How far the own average price is on the good side of the running benchmark, in σ; 0 without fills.
        finish_probability: Chance, as the model puts it, of finishing in this bar; from one half on it does.
        earliest_finish: First bar, counted from 1, in which the cap lets the order be complete; None where none does.
        unfillable: Units, or cash, that the cap leaves over at the end of the horizon, whatever the market does.
        reason: All this in a sentence.
        assumptions: Sentences on what stood in for what is not known; empty where everything is.
    """

    order_id: str
    bar_number: int
    bar: int
    fraction: float
    quantity: float | None
    notional: float | None
    filled_in_bar: float
    remaining_fraction: float
    remaining: float
    bound: Bound
    cap: float
    participation_cap: float | None
    expected_room: float | None
    gap_sigma: float
    fill_gap_sigma: float
    finish_probability: float
    earliest_finish: int | None
    unfillable: float
    reason: str
    assumptions: tuple[str, ...] = ()

    @property
    def amount(self) -> float:
        """The child order in units, or cash, as its parent is sized."""
        return self.quantity if self.quantity is not None else self.notional or 0.0

    @property
    def to_trade(self) -> float:
        """Units, or cash, of the child order that are not filled yet."""
        return max(0.0, self.amount - self.filled_in_bar)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that survive JSON."""
        return asdict(self) | {"assumptions": list(self.assumptions)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        return cls(**{**fields, "assumptions": tuple(fields["assumptions"])})


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
