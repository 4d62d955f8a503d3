"""What has happened to one parent order so far, and what follows from it: bars, what was known before each, own fills.

Nothing is derived and kept: a late bar or a late fill takes its place, and whatever depends on it follows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import torch
from torch import Tensor

from lem_models.events import ClosedBar, Fill, Outlook, ParentOrder, SessionError, exact
from lem_models.orders import LOT, MarketPath


@dataclass
class OrderRecord:
    """The memory of a session.

    Attributes:
        order: The parent order.
        lookback: Rows of features that the model reads, L.
        horizon: Bars granted, H.
        first_bar: Number of the order's first bar; None until it has begun.
        clock: Number of the last bar that is over; None before any is.
        bars: Closed bars by number: the last L before the order began, and those since.
        outlooks: What was known before bars, by their number.
        fills: Own fills, as they were told.
    """

    order: ParentOrder
    lookback: int
    horizon: int
    first_bar: int | None = None
    clock: int | None = None
    bars: dict[int, ClosedBar] = field(default_factory=dict)
    outlooks: dict[int, Outlook] = field(default_factory=dict)
    fills: dict[str, Fill] = field(default_factory=dict)

    # The clock.

    def begin(self) -> None:
        """The next bar is the order's first.

        Raises:
            SessionError: History is too short, or does not tell what is known before that bar.
        """
        if self.clock is None or len(self.outlooks) < self.lookback:
            raise SessionError(
                f"the model reads {self.lookback} bars in a row before an order begins, and knows what precedes "
                f"{len(self.outlooks)}; feed earlier bars"
            )
        expected = self.outlooks[self.clock + 1].expected_volume
        if len(expected) != self.horizon:
            raise SessionError(
                f"expected_volume tells of {len(expected)} bars; an order begins with those of all {self.horizon}"
            )
        self.first_bar = self.clock + 1

    @property
    def start(self) -> int:
        """Number of the first bar of an order that has begun."""
        if self.first_bar is None:
            raise SessionError("the order has not begun; ask for its first advice before telling what became of it")
        return self.first_bar

    @property
    def last_bar(self) -> int:
        """Number of the last bar of the horizon."""
        return self.start + self.horizon - 1

    @property
    def next_bar(self) -> int:
        """Number of the bar in progress."""
        return self.start if self.clock is None else self.clock + 1

    @property
    def steps_over(self) -> int:
        """Bars of the horizon that are over."""
        return min(self.next_bar - self.start, self.horizon)

    def missed(self) -> list[int]:
        """Bars of the horizon that are over and were not told."""
        return [number for number in range(self.start, self.start + self.steps_over) if number not in self.bars]

    # What the session is told.

    def hear(self, bar: ClosedBar) -> list[str]:
        """Take a closed bar; sentences on what is unusual about it.

        Raises:
            SessionError: The bar contradicts what is known.
        """
        number = bar.bar_number
        if known := self.bars.get(number):
            if known.facts != bar.facts:
                raise SessionError(f"bar {number} was told before with other values; the first ones stand")
            return [f"bar {number} was told before; it counts once"]
        if self.first_bar is not None:
            return self._hear_during(bar)
        if self.clock is not None and number <= self.clock:
            raise SessionError(f"bar {number} comes after bar {self.clock}; history is told in order")
        notices = []
        if self.clock is not None and number > self.clock + 1:
            notices.append(f"bars {self.clock + 1} to {number - 1} are missing; history begins anew at bar {number}")
            self._forget()
        if bar.outlook is None:
            self._forget()
        self._keep(bar)
        self.clock = number
        self.bars.pop(number - self.lookback, None)
        self.outlooks.pop(number + 1 - self.lookback, None)
        return notices

    def _hear_during(self, bar: ClosedBar) -> list[str]:
        number = bar.bar_number
        if number < self.start:
            raise SessionError(f"bar {number} is earlier than the order's first, bar {self.start}; it changes nothing")
        if number > self.last_bar:
            self.clock = max(number, self.next_bar - 1)
            return [f"bar {number} is later than the order's last, bar {self.last_bar}; it takes no part"]
        notices = []
        if number < self.next_bar:
            notices.append(f"bar {number} comes late; decisions from now on know it")
        elif number > self.next_bar:
            notices.append(f"no bar came between {self.next_bar - 1} and {number}; they count as without trades")
        if not bar.volume:
            notices.append(f"bar {number} had no trades; nothing can have been filled in it")
        self._keep(bar)
        self.clock = max(number, self.next_bar - 1)
        return notices

    def let_pass(self, bar_number: int) -> list[str]:
        """A bar is over, and nothing is known of it.

        Raises:
            SessionError: It is not the bar in progress.
        """
        if bar_number < self.start or bar_number != self.next_bar:
            raise SessionError(f"bar {bar_number} is not the bar in progress, which is bar {self.next_bar}")
        self.clock = bar_number
        return [f"bar {bar_number} is missing; it counts as without trades until it is told"]

    def revise(self, bar_number: int, outlook: Outlook) -> None:
        """Say what was known before a bar of the order, where a late bar changes it; for decisions from now on.

        Raises:
            SessionError: The bar is none of the order up to the one in progress.
        """
        if not self.start <= bar_number <= min(self.next_bar, self.last_bar):
            raise SessionError(f"bar {bar_number} is none of bars {self.start} to {self.next_bar}")
        if bar_number != self.start:  # the order began with what was known before its first bar
            self.outlooks[bar_number] = outlook

    def fill(self, fill: Fill) -> list[str]:
        """Take an own fill; sentences on what is unusual about it.

        Raises:
            SessionError: The order is complete, or the fill belongs to none of its bars.
        """
        number = fill.bar_number if fill.bar_number is not None else min(self.next_bar, self.last_bar)
        if known := self.fills.get(fill.fill_id):
            if (known.quantity, known.price) != (fill.quantity, fill.price):
                raise SessionError(f"fill {fill.fill_id} was told before with other values; the first ones stand")
            return [f"fill {fill.fill_id} was told before; it counts once"]
        if not self.start <= number <= min(self.next_bar, self.last_bar):
            raise SessionError(
                f"fill {fill.fill_id} belongs to bar {number}, and the order trades from bar {self.start} to "
                f"{min(self.next_bar, self.last_bar)} so far"
            )
        if fill.bar_number is None and self.steps_over == self.horizon:
            raise SessionError(f"fill {fill.fill_id} names no bar, and the order's last one, {self.last_bar}, is over")
        if not self.remaining_lots() and fill.amount(self.order.target) > self.remaining():
            raise SessionError(f"fill {fill.fill_id} comes after the order was complete; it is not counted")
        self.fills[fill.fill_id] = Fill(fill.fill_id, fill.quantity, fill.price, number)
        notices = []
        if (beyond := -self.remaining()) > self.order.amount(1) / 1000:
            notices.append(f"fill {fill.fill_id} takes the order {beyond:f} beyond its size; nothing more is asked for")
        elif number < self.next_bar <= self.last_bar:
            notices.append(f"fill {fill.fill_id} belongs to bar {number}, which is over; ask for advice anew")
        if (bar := self.bars.get(number)) and not bar.volume:
            notices.append(f"fill {fill.fill_id} belongs to bar {number}, which is told to have had no trades")
        return notices

    def _keep(self, bar: ClosedBar) -> None:
        self.bars[bar.bar_number] = ClosedBar(bar.bar_number, *bar.facts)
        if bar.outlook is not None:
            self.outlooks[bar.bar_number + 1] = bar.outlook

    def _forget(self) -> None:
        self.bars.clear()
        self.outlooks.clear()

    # What follows from it.

    def filled(self, before: int | None = None, since: int | None = None) -> Decimal:
        """Units, or cash, filled in bars up to but without ``before``, from ``since`` on."""
        chosen = self._fills_of(range(since or self.start, self.last_bar + 1 if before is None else before))
        return sum((fill.amount(self.order.target) for fill in chosen), Decimal(0))

    def remaining(self, before: int | None = None) -> Decimal:
        """Units, or cash, left before a bar, or by now; negative where fills go beyond the order."""
        return exact(self.order.size) - self.filled(before)

    def remaining_lots(self, before: int | None = None) -> int:
        """Whole lots left before a bar, or by now."""
        return self.order.whole_lots(self.remaining(before))

    def remaining_fraction(self, before: int | None = None) -> float:
        """What the model takes for left: a whole number of its own lots, and none only where the order is complete."""
        return self._as_fraction(self.remaining_lots(before))

    def _as_fraction(self, lots: int) -> float:
        return max(round(lots / self.order.lots / LOT), 1) * LOT if lots else 0.0

    def average_price(self, bars: Iterable[int] | None = None) -> float | None:
        """Own average price in some bars, or in all: cash over units; None without fills."""
        fills = self._fills_of(range(self.start, self.last_bar + 1) if bars is None else bars)
        return _average_price(fills) if fills else None

    def _fills_of(self, bars: Iterable[int]) -> list[Fill]:
        chosen = set(bars)
        return [fill for fill in self.fills.values() if fill.bar_number in chosen]

    def arrival(self) -> float:
        """Last close before the order."""
        return self.bars[self.start - 1].close

    def last_close(self, before: int) -> float:
        """Last close known before a bar of the order."""
        known = self.bars.get(before - 1)
        return (known or self.bars[max(number for number in self.bars if number < before)]).close

    def outlook(self, bar_number: int) -> Outlook:
        """What is known before a bar of the order: where nothing is, the last that was stands in."""
        known = self.outlooks.get(bar_number)
        return known or self.outlooks[max(number for number in self.outlooks if number <= bar_number)]

    def assumptions(self, number: int) -> tuple[str, ...]:
        """Sentences on what stands in for what is not known before a bar."""
        sentences = []
        if missed := self.missed():
            numbers = ", ".join(map(str, missed))
            sentences.append(f"no trades and the last price stand in for bars that were not told: {numbers}")
        if number <= self.last_bar and number not in self.outlooks:
            sentences.append("the last known features and volatility stand in for those of this bar")
        return tuple(sentences)

    def features(self, names: tuple[str, ...]) -> Tensor:
        """Rows for the model; those of bars to come repeat the last, which no decision reads; (1, L + H − 1, F)."""
        last = min(self.next_bar, self.last_bar)
        numbers = range(self.start + 1 - self.lookback, self.last_bar + 1)
        told = (self.outlook(min(number, last)).features for number in numbers)
        rows = [[values[name] for name in names] for values in told]
        return torch.tensor([rows], dtype=torch.float32)

    def market(self) -> MarketPath:
        """The path in multiples of arrival; bars to come repeat the last known one, which no decision reads; B is 1."""
        arrival, over = self.arrival(), self.steps_over
        numbers = range(self.start, self.last_bar + 1)
        facts = []
        for number in numbers:
            last = self.last_close(number)
            assumed = (last, last, 0.0 if number < self.start + over else 1.0)
            facts.append(self.bars[number].facts if number in self.bars else assumed)
        price, close, volume = (_row(column) for column in zip(*facts, strict=True))
        return MarketPath(
            arrival=torch.ones(1),
            price=(price / arrival).float(),
            close=(close / arrival).float(),
            volume=volume.float(),
            volatility=_row(self.outlook(min(number, self.next_bar)).volatility for number in numbers).float(),
            expected_volume=_row(self.outlooks[self.start].expected_volume).float(),
        )

    def course(self, bars: int) -> "Course":
        """What the order's first bars have left of it."""
        of_bar: dict[int, list[Fill]] = {}
        for fill in self.fills.values():
            of_bar.setdefault(fill.bar_number or 0, []).append(fill)
        left, remaining, prices = exact(self.order.size), [self._as_fraction(self.order.lots)], []
        for number in range(self.start, self.start + bars):
            fills = of_bar.get(number, [])
            left -= sum((fill.amount(self.order.target) for fill in fills), Decimal(0))
            remaining.append(self._as_fraction(self.order.whole_lots(left)) if fills else remaining[-1])
            prices.append(_average_price(fills) if fills else 0.0)
        return Course(remaining, prices)

    def seen(self) -> tuple[object, ...]:
        """What tells a window from another: equal for orders of a market that were told the same of it."""
        bars = tuple(self.bars[n].facts if n in self.bars else None for n in range(self.start - 1, self.next_bar))
        return self.first_bar, self.clock, *self.outlooks, *map(id, self.outlooks.values()), *bars


@dataclass(frozen=True)
class Course:
    """How an order has been filled, bar by bar.

    Attributes:
        remaining: As ``OrderRecord.remaining_fraction``, before each bar and after the last.
        prices: Own average price in each bar; zero in one without fills.
    """

    remaining: list[float]
    prices: list[float]


def _average_price(fills: Sequence[Fill]) -> float:
    """Cash over units."""
    first, units = fills[0].price, sum(fill.quantity for fill in fills)
    return first + sum(fill.quantity * (fill.price - first) for fill in fills) / units


def _row(values: Iterable[float]) -> Tensor:
    return torch.tensor([list(values)], dtype=torch.float64)
