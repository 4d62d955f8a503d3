"""One parent order traded step by step: closed bars and own fills in, the next child order out.

Where fills happen as planned, child orders are those of ``LEM.schedule`` to the last bit. What else may happen, and
what a session then does, is in ``docs/session.md``.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from lem_models.advice import Advice
from lem_models.decision import Decision, cap_in_lots, decide
from lem_models.events import ClosedBar, Fill, Outlook, ParentOrder, SessionError, exact
from lem_models.layers.carried import CarriedRecurrence
from lem_models.lem import LEM
from lem_models.order_record import OrderRecord
from lem_models.orders import Target
from lem_models.outcome import Outcome, outcome_of
from lem_models.record_json import record_from_dict, record_to_dict

VERSION = 1
"""Of saved states."""


class ExecutionSession:
    """A parent order under way.

    Feed at least ``lookback`` closed bars and ask for the first advice, which begins the order with the next bar. Then
    go on: a bar once it has closed, fills as they happen, advice before each bar. Asking changes nothing: the same is
    answered again, as after a restart, unless bars or fills have come since.

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
                f"minimum_duration is {order.minimum_duration} bars, and the model's orders last at most "
                f"{config.horizon}"
            )
        if config.information_set != "causal":
            raise SessionError("the model sees the bar it trades in; nobody can trade by it")
        self.order = order
        self.model = model.eval() if model.training else model
        self.record = OrderRecord(order, config.lookback, config.horizon)
        self.advised: dict[int, Advice] = {}
        self._recurrence = CarriedRecurrence(model.recur)

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
        if not self.has_to_decide():
            return self.nothing_to_do()
        return self.advise_as(decide(self.model, [self.record], self._recurrence)[0])

    def has_to_decide(self) -> bool:
        """Whether anything is left to decide on; the first call begins the order.

        Raises:
            SessionError: Too little history has been fed to begin.
        """
        if self.record.first_bar is None:
            self.record.begin()
        return self.record.next_bar <= self.record.last_bar and bool(self.record.remaining_lots())

    def advise_as(self, decision: Decision | None) -> Advice:
        """The child order that a decision on the bar in progress comes to.

        Raises:
            FloatingPointError: There is no decision, as the network overflows on this order.
        """
        if decision is None:
            raise FloatingPointError("the network overflows on this order; check its weights and its inputs")
        advice = self._advice(self.record.next_bar, decision)
        self.advised[advice.bar_number] = advice
        return advice

    def _advice(self, number: int, decision: Decision) -> Advice:
        order, record, cap = self.order, self.record, cap_in_lots(self.model, self.record)
        bar, left, lots = number - record.start + 1, record.remaining(number), record.remaining_lots(number)
        takes_dust = decision.lots == lots and order.lot_size is None  # what fills in parts of a lot have left
        amount = _at_most(left if takes_dust else order.amount(decision.lots), left)
        earliest = bar - 1 + math.ceil(lots / cap)
        advice = replace(
            self._blank(number),
            fraction=decision.lots / order.lots,
            quantity=amount if order.target is Target.QUANTITY else None,
            notional=amount if order.target is Target.NOTIONAL else None,
            remaining_fraction=record.remaining_fraction(number),
            remaining=float(left),
            bound=decision.bound,
            expected_room=self._expected_room(number),
            gap_sigma=decision.gap_sigma,
            fill_gap_sigma=self._fill_gap(number, decision),
            finish_probability=decision.finish_probability,
            earliest_finish=earliest if earliest <= record.horizon else None,
            unfillable=float(order.amount(max(0, lots - (record.horizon - bar + 1) * cap))),
        )
        return replace(advice, reason=advice.sentence(record.horizon))

    def nothing_to_do(self) -> Advice:
        """Advice where :meth:`has_to_decide` says no."""
        number, left = self.record.next_bar, self.record.remaining()
        if not self.record.remaining_lots():
            return replace(self._blank(number), reason="The order is complete.")
        what = "units" if self.order.target is Target.QUANTITY else "cash"
        reason = f"The horizon of {self.record.horizon} bars is over and {left:f} {what} of the order are not filled."
        return replace(self._blank(number), unfillable=float(left), reason=reason)

    def _blank(self, number: int) -> Advice:
        """Advice that asks for nothing, as of now."""
        order, record = self.order, self.record
        return Advice(
            order_id=order.order_id,
            bar_number=number,
            bar=number - record.start + 1,
            fraction=0.0,
            quantity=0.0 if order.target is Target.QUANTITY else None,
            notional=0.0 if order.target is Target.NOTIONAL else None,
            filled_in_bar=float(record.filled(number + 1, since=number)),
            remaining_fraction=record.remaining_fraction(),
            remaining=max(0.0, float(record.remaining())),
            bound="remaining",
            cap=float(order.amount(cap_in_lots(self.model, record))),
            participation_cap=order.participation_cap,
            expected_room=None,
            gap_sigma=0.0,
            fill_gap_sigma=None,
            finish_probability=0.0,
            earliest_finish=None,
            unfillable=0.0,
            reason="",
            assumptions=record.assumptions(number),
        )

    def _expected_room(self, number: int) -> float | None:
        if self.order.participation_cap is None:
            return None
        expected = self.record.outlooks[self.record.start].expected_volume[number - self.record.start]
        units = self.order.participation_cap * expected
        return units if self.order.target is Target.QUANTITY else units * self.record.last_close(number)

    def _fill_gap(self, number: int, decision: Decision) -> float | None:
        own = self.record.average_price(range(self.record.start, number))
        if own is None:
            return None
        paid = own / self.record.arrival()
        return self.order.side.value * (decision.benchmark - paid) / decision.volatility

    def outcome(self) -> Outcome:
        """What the order has come to so far.

        Raises:
            SessionError: The order has not begun.
        """
        return outcome_of(self.record, self.model.grid)

    # How it is kept.

    def save(self) -> str:
        """The whole session as JSON, without the model."""
        return json.dumps({"version": VERSION, "model": identity(self.model), **self.state()})

    def state(self) -> dict[str, Any]:
        """What was told and advised, as plain values that survive JSON."""
        return {
            "record": record_to_dict(self.record),
            "advised": [advice.to_dict() for advice in self.advised.values()],
        }

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
        return cls.of_state(kept, model)

    @classmethod
    def of_state(cls, kept: Mapping[str, Any], model: LEM) -> "ExecutionSession":
        """A session of its :meth:`state`.

        Raises:
            SessionError: The state is damaged.
        """
        try:
            record = record_from_dict(kept["record"])
            session = cls(record.order, model)
            session.record = record
            session.advised = {each["bar_number"]: Advice.from_dict(each) for each in kept["advised"]}
        except (KeyError, TypeError, AttributeError) as error:
            raise SessionError(f"the state is damaged: {error!r}; feed the order's bars and fills anew") from error
        return session


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
