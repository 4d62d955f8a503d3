"""What an execution session answers: the next child order, and why."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from lem_models.decision import Bound

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
        fill_gap_sigma: How far the own average price is on the good side of the running benchmark, in σ; None without.
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
    fill_gap_sigma: float | None
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

    def sentence(self, horizon: int) -> str:
        """The child order and what led to it, in words."""
        bound = f", {BOUNDS[self.bound]}" if BOUNDS[self.bound] else ""
        side = "good" if self.gap_sigma >= 0 else "bad"
        own = "nothing is filled before it"
        if self.fill_gap_sigma is not None:
            judged = "better" if self.fill_gap_sigma >= 0 else "worse"
            own = f"own fills are {abs(self.fill_gap_sigma):.2f} σ {judged} than it"
        text = (
            f"Trade {self.fraction:.4f} of the order in bar {self.bar} of {horizon}{bound}: "
            + f"{self.remaining_fraction:.4f} remains, "
            + f"the benchmark is {abs(self.gap_sigma):.2f} σ on the {side} side of the last close, {own}, "
            + f"and the chance to finish now is {self.finish_probability:.2f}"
        )
        return text + (f"; the cap leaves {self.unfillable:g} over whatever happens." if self.unfillable else ".")

    def to_dict(self) -> dict[str, Any]:
        """Plain values that survive JSON."""
        return asdict(self) | {"assumptions": list(self.assumptions)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        return cls(**{**fields, "assumptions": tuple(fields["assumptions"])})
