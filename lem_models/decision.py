"""What the model wants of one bar of orders under way, in whole lots of each order and within its cap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from lem_models.execution import RunningMarket
from lem_models.fills import feasible_bounds
from lem_models.layers.carried import CarriedRecurrence
from lem_models.lem import LEM
from lem_models.lockstep import Windows, open_orders
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
        benchmark: The running benchmark before the bar, over arrival.
        volatility: Of the bar.
    """

    lots: int
    bound: Bound
    finish_probability: float
    gap_sigma: float
    benchmark: float
    volatility: float


@torch.no_grad()
def decide(model: LEM, records: Sequence[OrderRecord], recurrence: CarriedRecurrence) -> list[Decision | None]:
    """Decide the bar in progress of orders that are as many bars old, in one pass.

    Of a single order it is what ``AllocationHeads.schedule`` does: the same rows in the same shapes, hence the same
    bits. In a batch, products are taken over other shapes and may differ in their last bits.

    Args:
        model: In evaluation mode.
        records: What is known of each order.
        recurrence: That of the model, which remembers the rows of earlier bars.

    Returns:
        A decision for each order; None where the network overflows on it.
    """
    step, config = records[0].steps_over, model.config
    windows = Windows.of_records(records, config.features)
    context = model.context(windows.features, lambda rows: recurrence(rows, config.lookback + step))
    view = model.allocate.view(context, windows.market)
    if not windows.are_of_one_each:
        view = view.of(windows.of)
    before = open_orders(records, step, model.grid)
    child, probability = model.allocate.decide(step, before, view)
    sound = (child.isfinite() & probability.isfinite()).flatten(1).all(1).tolist()
    least, _ = feasible_bounds(before.remaining, config.horizon - step, config.limits)
    benchmark = RunningMarket.of(view.market).before(model.grid, view.market)
    scenario, minimum = torch.tensor([record.order.cell for record in records]).T
    order = torch.arange(len(records))
    wanted, floor, chance = (each[order, scenario, minimum].tolist() for each in (child, least, probability))
    gap, running = (each[order, scenario, 0, step].tolist() for each in (view.gap, benchmark))
    volatility = view.market.volatility[:, step].tolist()
    decided: list[Decision | None] = []
    for place, record in enumerate(records):
        if not sound[place]:
            decided.append(None)
            continue
        asked = math.inf if chance[place] > 0.5 else wanted[place]
        lots, bound = _in_lots(model, record, record.next_bar, asked, floor[place])
        decided.append(Decision(lots, bound, chance[place], gap[place], running[place], volatility[place]))
    return decided


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
