"""One parent order traded step by step: closed bars and own fills in, the next child order out.

The model decides as in ``LEM.schedule``, from the same rows and in the same shapes: where fills happen as planned, child
orders are those of the schedule to the last bit. Whatever else happens is in ``docs/session.md``.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import torch

from lem_models.advice import BOUNDS, Advice, Bound, Outcome
from lem_models.events import ClosedBar, Fill, Outlook, ParentOrder, SessionError, exact
from lem_models.execution import RunningMarket, slippage_bps
from lem_models.fills import feasible_bounds
from lem_models.lem import LEM
from lem_models.order_record import OrderRecord
from lem_models.orders import Target
from lem_models.record_json import record_from_dict, record_to_dict

VERSION = 1
"""Of saved states."""


class ExecutionSession:
    """A parent order under way.

    Feed at least ``lookback`` closed bars, ask for the first advice, which begins the order with the next bar, and go on:
    a bar once it has closed, fills as they happen, advice before each bar. Advice changes nothing: it may be asked for
    again, as after a restart, and is the same unless bars or fills have come since.

    Args:
        order: The parent order.
        model: A loaded LEM.

    Raises:
        SessionError: The order does not fit the model.

    Example:
        >>> from lem_models.config import LEMConfig
        >>> from lem_models.orders import Benchmark, Side, Target
        >>> order = ParentOrder("1", "AAPL", Side.BUY, Benchmark.TWAP, Target.QUANTITY, 400.0, 4, lot_size=1.0)
        >>> config = LEMConfig(("calm",), lookback=2, horizon=4, width=4, prior="curve")
        >>> session = ExecutionSession(order, LEM(config))
        >>> ahead = Outlook({"calm": 0.0}, volatility=0.01, expected_volume=(5000.0,) * 4)
        >>> for number in (1, 2):
        ...     _ = session.on_bar(ClosedBar(number, 100.0, 100.0, 5000.0, ahead))
        >>> session.advise().cap
        400.0
    """

    def __init__(self, order: ParentOrder, model: LEM) -> None:
        config = model.config
        if order.minimum_duration > config.horizon:
            raise SessionError(
                f"minimum_duration is {order.minimum_duration} bars, and the model's orders last at most {config.horizon}"
            )
        if config.information_set != "causal":
            raise SessionError("the model sees the bar it trades in; nobody can trade by it")
        self.order = order
        self.model = model.eval()
        self.record = OrderRecord(order, config.lookback, config.horizon)
        self.advised: dict[int, Advice] = {}

    # What happens.

    def on_bar(self, bar: ClosedBar) -> list[str]:
        """Take a closed bar; sentences on what is unusual about it, none for the next bar of an order in good shape.

        Raises:
            SessionError: The bar contradicts what is known; nothing has changed.
        """
        self._check(bar.outlook)
        return self.record.hear(bar)

    def on_fill(self, fill: Fill) -> list[str]:
        """Take an own fill; sentences on what is unusual about it.

        Raises:
            SessionError: The order is complete, or the fill belongs to none of its bars; nothing has changed.
        """
        known = fill.fill_id in self.record.fills
        notices = self.record.fill(fill)
        return notices if known else notices + self._beyond_limits(self.record.fills[fill.fill_id].bar_number or 0)

    def _beyond_limits(self, number: int) -> list[str]:
        """Sentences on a bar that has filled more than was advised, or than its part of the volume."""
        order, notices = self.order, []
        filled = self.record.filled(number + 1, since=number)
        advised = exact(self.advised[number].amount) if number in self.advised else filled
        if filled - advised > order.amount(1) / 1000 and self.record.remaining() >= 0:
            notices.append(f"bar {number} has filled {float(filled - advised):g} more than was advised; it counts")
        if (bar := self.record.bars.get(number)) and bar.volume and order.participation_cap:
            part = sum(fill.quantity for fill in self.record.fills.values() if fill.bar_number == number) / bar.volume
            if part > order.participation_cap * (1 + 1e-9):
                cap = f"the participation cap of {order.participation_cap:.2%}"
                notices.append(f"bar {number} has filled {part:.2%} of its volume, more than {cap}")
        return notices

    def on_missed_bar(self, bar_number: int) -> list[str]:
        """The bar in progress is over and nothing is known of it: it counts as without trades until it is told.

        Raises:
            SessionError: It is not the bar in progress.
        """
        return self.record.let_pass(bar_number)

    def revise(self, bar_number: int, outlook: Outlook) -> None:
        """Say what was known before a bar where a late bar has changed it; decisions from now on know it.

        Raises:
            SessionError: The bar is none of the order up to the one in progress.
        """
        self._check(outlook)
        self.record.revise(bar_number, outlook)

    def _check(self, outlook: Outlook | None) -> None:
        if outlook and (missing := [name for name in self.model.config.features if name not in outlook.features]):
            raise SessionError(f"the model reads {', '.join(missing)}, which this bar does not tell of the next")

    # What to do.

    def advise(self) -> Advice:
        """The child order of the bar in progress; the first call begins the order.

        Raises:
            SessionError: Too little history has been fed to begin.
            FloatingPointError: The network overflows on this order.
        """
        record = self.record
        if record.first_bar is None:
            record.begin()
        number = record.next_bar
        lots = record.remaining_lots(number)
        if number > record.last_bar or not record.remaining_lots():
            return self._nothing_to_do(number)
        advice = self._advice(number, lots, self._decide(number))
        self.advised[number] = advice
        return advice

    @torch.no_grad()
    def _decide(self, number: int) -> "_Decision":
        """What the model answers before a bar, exactly as in ``AllocationHeads.schedule``."""
        record, heads = self.record, self.model.allocate
        market, step = record.market(), number - record.start
        view = heads.view(self.model.context(record.features(self.model.config.features)), market)
        before = record.open_order(number, self.model.grid)
        child, probability = heads.decide(step, before, view)
        if not (torch.isfinite(child).all() and torch.isfinite(probability).all()):
            raise FloatingPointError("the network overflows on this order; check its weights and its inputs")
        cell = (0, *self.order.cell)
        chance = float(probability[cell])
        wanted = before.remaining if chance > 0.5 else child
        lo, _ = feasible_bounds(before.remaining, self.model.config.horizon - step, self.model.config.limits)
        gap = float(view.gap[0, self.order.cell[0], 0, step])
        return _Decision(float(wanted[cell]), float(lo[cell]), chance, gap)

    def _advice(self, number: int, lots: int, decision: "_Decision") -> Advice:
        order, record, horizon = self.order, self.record, self.model.config.horizon
        bar, cap = number - record.start + 1, self.cap_in_lots
        child, bound = self._in_lots(decision, lots, horizon - bar, cap)
        left = record.remaining(number)
        takes_dust = child == lots and order.lot_size is None  # what fills in parts of a lot have left
        amount = _at_most(left if takes_dust else order.amount(child), left)
        left_over = max(0, lots - (horizon - bar + 1) * cap)
        earliest = bar - 1 + math.ceil(lots / cap)
        remaining, assumptions = record.remaining_fraction(number), self._assumptions(number)
        is_quantity = order.target is Target.QUANTITY
        fill_gap = self._fill_gap(number)
        return Advice(
            order_id=order.order_id,
            bar_number=number,
            bar=bar,
            fraction=child / order.lots,
            quantity=amount if is_quantity else None,
            notional=None if is_quantity else amount,
            filled_in_bar=float(record.filled(number + 1, since=number)),
            remaining_fraction=remaining,
            remaining=float(left),
            bound=bound,
            cap=float(order.amount(cap)),
            participation_cap=order.participation_cap,
            expected_room=self._expected_room(number),
            gap_sigma=decision.gap,
            fill_gap_sigma=fill_gap,
            finish_probability=decision.finish_probability,
            earliest_finish=earliest if earliest <= horizon else None,
            unfillable=float(order.amount(left_over)),
            reason=_reason(
                bar, horizon, child / order.lots, remaining, bound, decision, fill_gap, float(order.amount(left_over))
            ),
            assumptions=assumptions,
        )

    @property
    def cap_in_lots(self) -> int:
        """The cap per bar, rounded up to whole lots, so that n bars at a cap of 1/n still fill the order."""
        return math.ceil(self.model.config.limits.cap_in_lots * self.order.lots - 1e-6)

    def _in_lots(self, decision: "_Decision", lots: int, bars_after: int, cap: int) -> tuple[int, Bound]:
        """The model's child order in whole lots of the parent, and what it met."""
        most = min(cap, lots)
        wanted = decision.fraction * self.order.lots
        # A fraction of all that remains, in the model's lots, may be a part of a lot off in those of the order.
        is_all = decision.finish_probability > 0.5
        pace = min(most, lots - bars_after * cap)  # rounding down must not leave more than later bars may take
        child = min(most, max(lots if is_all else math.floor(wanted + 1e-6), pace, 0))
        least = math.floor(decision.least * self.order.lots + 1e-6)
        if child == lots:
            return child, "remaining"
        if child == cap:
            return child, "cap"
        if child <= pace:
            return child, "pace"
        return child, "floor" if child and child <= least else "none"

    def _nothing_to_do(self, number: int) -> Advice:
        order, record = self.order, self.record
        left, is_quantity = max(Decimal(0), record.remaining()), order.target is Target.QUANTITY
        unfillable = float(left) if record.remaining_lots() else 0.0
        what = "cash" if not is_quantity else "units"
        reason = (
            f"The horizon of {record.horizon} bars is over and {left:f} {what} of the order are not filled."
            if record.remaining_lots()
            else "The order is complete."
        )
        return Advice(
            order_id=order.order_id,
            bar_number=number,
            bar=number - record.start + 1,
            fraction=0.0,
            quantity=0.0 if is_quantity else None,
            notional=None if is_quantity else 0.0,
            filled_in_bar=float(record.filled(number + 1, since=number)),
            remaining_fraction=record.remaining_fraction(),
            remaining=float(left),
            bound="remaining",
            cap=float(order.amount(self.cap_in_lots)),
            participation_cap=order.participation_cap,
            expected_room=None,
            gap_sigma=0.0,
            fill_gap_sigma=0.0,
            finish_probability=0.0,
            earliest_finish=None,
            unfillable=unfillable,
            reason=reason,
            assumptions=self._assumptions(number),
        )

    def _assumptions(self, number: int) -> tuple[str, ...]:
        record = self.record
        sentences = []
        if missed := record.missed():
            numbers = ", ".join(map(str, missed))
            sentences.append(f"no trades and the last price stand in for bars that were not told: {numbers}")
        if number <= record.last_bar and number not in record.outlooks:
            sentences.append("the last known features and volatility stand in for those of this bar")
        return tuple(sentences)

    def _expected_room(self, number: int) -> float | None:
        if self.order.participation_cap is None:
            return None
        expected = self.record.outlooks[self.record.start].expected_volume[number - self.record.start]
        units = self.order.participation_cap * expected
        return units if self.order.target is Target.QUANTITY else units * self.record.last_close(number)

    def _fill_gap(self, number: int) -> float:
        record = self.record
        own = record.average_price(range(record.start, number))
        if own is None:
            return 0.0
        market, step = record.market(), number - record.start
        benchmark = RunningMarket.of(market).before(self.model.grid, market)[0, self.order.cell[0], 0, step]
        paid = own / record.arrival()
        return self.order.side.value * (float(benchmark) - paid) / float(market.volatility[0, step])

    # What it came to.

    def outcome(self) -> Outcome:
        """What the order has come to so far.

        Raises:
            SessionError: The order has not begun.
        """
        record, order = self.record, self.order
        is_complete = not record.remaining_lots()
        last_fill = max((fill.bar_number or 0 for fill in record.fills.values()), default=record.start)
        done = max(order.minimum_duration, last_fill - record.start + 1)
        completion = done if is_complete else record.horizon
        known = min(completion, record.steps_over)
        market = record.market()
        traded = bool((market.volume[0, :known] > 0).any())
        running = RunningMarket.of(market).benchmark(self.model.grid)[0, order.cell[0], 0]
        benchmark = float(running[known - 1].double() * record.arrival()) if traded else None
        own = record.average_price()
        slippage = None
        if own is not None and benchmark is not None:
            prices = (torch.tensor(each, dtype=torch.float64) for each in (order.side.value, own, benchmark))
            slippage = float(slippage_bps(*prices))
        return Outcome(
            filled_fraction=1.0 - record.remaining_fraction(),
            remaining=float(max(Decimal(0), record.remaining())),
            average_price=own,
            benchmark_price=benchmark,
            slippage_bps=slippage,
            completion_bar=completion,
            is_final=record.steps_over >= completion,
        )

    # How it is kept.

    def save(self) -> str:
        """The whole session as JSON, without the model."""
        state = {
            "version": VERSION,
            "model": identity(self.model),
            "record": record_to_dict(self.record),
            "advised": [advice.to_dict() for advice in self.advised.values()],
        }
        return json.dumps(state)

    @classmethod
    def restore(cls, state: str, model: LEM) -> "ExecutionSession":
        """A session as it was saved, in this process or in another.

        Args:
            state: From :meth:`save`.
            model: The model it was saved with.

        Raises:
            SessionError: The state is none, or of another version or model.
        """
        try:
            kept: Mapping[str, Any] = json.loads(state)
            version, made_with = kept["version"], kept["model"]
        except (ValueError, KeyError, TypeError) as error:
            raise SessionError(f"this is no state of a session: {error}") from error
        if version != VERSION:
            raise SessionError(f"the state is of version {version}, and this program reads version {VERSION}")
        if made_with != (ours := identity(model)):
            raise SessionError(f"the state was saved with model {made_with}, and this is model {ours}; load that one")
        try:
            record = record_from_dict(kept["record"])
            session = cls(record.order, model)
            session.record = record
            session.advised = {each["bar_number"]: Advice.from_dict(each) for each in kept["advised"]}
        except (KeyError, TypeError, AttributeError) as error:
            raise SessionError(f"the state is damaged: {error!r}; feed the order's bars and fills anew") from error
        return session


@dataclass(frozen=True)
class _Decision:
    """The model's answer for one order, in fractions of the parent and σ."""

    fraction: float
    least: float
    finish_probability: float
    gap: float


def identity(model: LEM) -> str:
    """A hash of configuration and weights: the same identity, the same decisions."""
    digest = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _at_most(amount: Decimal, remaining: Decimal) -> float:
    """The nearest number that is no more than what remains."""
    number = float(min(amount, remaining))
    return number if exact(number) <= remaining else math.nextafter(number, 0.0)


def _reason(
    bar: int,
    horizon: int,
    fraction: float,
    remaining: float,
    bound: Bound,
    decision: _Decision,
    fill_gap: float,
    unfillable: float,
) -> str:
    """One sentence on a child order."""
    what = f", {BOUNDS[bound]}" if BOUNDS[bound] else ""
    side = "good" if decision.gap >= 0 else "bad"
    text = (
        f"Trade {fraction:.4f} of the order in bar {bar} of {horizon}{what}, of {remaining:.4f} that remains: the "
        f"benchmark is {abs(decision.gap):.2f} σ on the {side} side of the last close, own fills are {fill_gap:+.2f} σ "
        f"against it, and the chance to finish now is {decision.finish_probability:.2f}"
    )
    return text + (f"; {unfillable:g} cannot be filled under the cap any more." if unfillable else ".")
