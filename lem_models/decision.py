"""What the model wants of one bar of one order under way, in whole lots of that order and within its cap."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from lem_models.fills import feasible_bounds
from lem_models.layers.carried import CarriedRecurrence
from lem_models.lem import LEM
from lem_models.order_record import OrderRecord

Bound = Literal["none", "remaining", "cap", "pace", "floor"]
"""What a child order met: all that remains, the cap per bar, the least that keeps the rest fillable, or the floor."""


@dataclass(frozen=True)
class Decision:
    """A child order and what the model saw.

    Attributes:
        lots: Of the parent order.
        bound: What the child order met.
        finish_probability: Chance of finishing in the bar; from one half on the child is all that remains.
        gap_sigma: How far the running benchmark is on the good side of the last close, in σ.
    """

    lots: int
    bound: Bound
    finish_probability: float
    gap_sigma: float


@torch.no_grad()
def decide(model: LEM, record: OrderRecord, number: int, recurrence: CarriedRecurrence) -> Decision:
    """Decide a bar as ``AllocationHeads.schedule`` does: the same rows in the same shapes, hence the same bits.

    Args:
        model: In evaluation mode.
        record: What is known.
        number: The bar in progress.
        recurrence: That of the model, which remembers the rows of earlier bars.

    Raises:
        FloatingPointError: The network overflows on this order.
    """
    step, (scenario, minimum) = number - record.start, record.order.cell
    market = record.market()
    context = model.context(
        record.features(model.config.features), lambda rows: recurrence(rows, model.config.lookback + step)
    )
    view = model.allocate.view(context, market)
    before = record.open_order(number, model.grid)
    child, probability = model.allocate.decide(step, before, view)
    if not (torch.isfinite(child).all() and torch.isfinite(probability).all()):
        raise FloatingPointError("the network overflows on this order; check its weights and its inputs")
    chance = float(probability[0, scenario, minimum])
    least, _ = feasible_bounds(before.remaining, model.config.horizon - step, model.config.limits)
    wanted, floor = (float(each[0, scenario, minimum]) for each in (child, least))
    lots, bound = _in_lots(model, record, number, math.inf if chance > 0.5 else wanted, floor)
    return Decision(lots, bound, chance, float(view.gap[0, scenario, 0, step]))


def cap_in_lots(model: LEM, record: OrderRecord) -> int:
    """The cap per bar, rounded up to whole lots, so that n bars at a cap of 1/n still fill the order."""
    return math.ceil(model.config.limits.cap_in_lots * record.order.lots - 1e-6)


def _in_lots(model: LEM, record: OrderRecord, number: int, wanted: float, least: float) -> tuple[int, Bound]:
    """A fraction of the order, all that remains where it is infinite, in whole lots; and what it met."""
    order, remaining, cap = record.order, record.remaining_lots(number), cap_in_lots(model, record)
    most = min(cap, remaining)
    # Lots rounded down must not leave more than later bars may take.
    pace = max(0, min(most, remaining - (record.last_bar - number) * cap))
    child = most if wanted == math.inf else min(most, max(pace, math.floor(wanted * order.lots + 1e-6)))
    if child == remaining:
        return child, "remaining"
    if child == cap:
        return child, "cap"
    if child and child == pace:
        return child, "pace"
    return child, "floor" if child and child <= math.floor(least * order.lots + 1e-6) else "none"
