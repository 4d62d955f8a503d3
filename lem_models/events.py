"""What an execution session is told: the parent order, closed bars with what they let know of the next, own fills."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import ROUND_FLOOR, Decimal
from functools import cached_property
from typing import Any, Self

from lem_models.orders import LOT, SCENARIOS, Benchmark, Scenario, Side, Target

_MOST_LOTS = 2**40  # beyond it a lot is no more than the rounding of the size
_ROUNDING = Decimal("1e-6")  # of a lot, by which sums of fills may miss whole lots


class SessionError(ValueError):
    """An event, a state or an order that a session refuses; it goes on as if it had not been told."""


@dataclass(frozen=True)
class ParentOrder:
    """One parent order, as a desk gives it.

    Attributes:
        order_id: What the desk calls it.
        symbol: What is traded.
        side: Buy or sell.
        benchmark: The market average it is measured against.
        target: Whether ``size`` counts units or cash.
        size: Units of an order of fixed quantity, cash of one of fixed notional.
        minimum_duration: Bars before which it is not to be done, 1 up to the model's horizon.
        lot_size: Smallest step of a child order, in units or cash as ``size``; None for 2⁻²³ of the order.
        participation_cap: Greatest fraction of a bar's volume that its child order may take. Volume is known once the
            bar is over: whoever trades the child keeps the cap, and fills beyond it are noticed.

    Raises:
        SessionError: The fields make no order.
    """

    order_id: str
    symbol: str
    side: Side
    benchmark: Benchmark
    target: Target
    size: float
    minimum_duration: int
    lot_size: float | None = None
    participation_cap: float | None = None

    def __post_init__(self) -> None:
        if not self.order_id or not self.symbol:
            raise SessionError("an order has an order_id and a symbol; neither may be empty")
        _refuse_unless_positive("size", self.size, "an order trades a positive number of units, or of cash")
        if type(self.minimum_duration) is not int or self.minimum_duration < 1:
            raise SessionError(f"minimum_duration is {self.minimum_duration!r}; it counts bars from 1")
        if self.lot_size is not None:
            _refuse_unless_positive("lot_size", self.lot_size, "it is the smallest step of a child order")
            if exact(self.size) % exact(self.lot_size):
                raise SessionError(
                    f"size {self.size} is no multiple of lot_size {self.lot_size}; round the size to lots"
                )
            if self.lots > _MOST_LOTS:
                raise SessionError(f"lot_size {self.lot_size} cuts the order into {self.lots} lots; choose larger lots")
        if self.participation_cap is not None and not 0 < self.participation_cap <= 1:
            raise SessionError(
                f"participation_cap is {self.participation_cap}; it is a part of a bar's volume in (0, 1]"
            )

    @property
    def scenario(self) -> Scenario:
        """Its place on axis S."""
        return Scenario(self.side, self.benchmark, self.target)

    @property
    def cell(self) -> tuple[int, int]:
        """Its place on axes S and M."""
        return SCENARIOS.index(self.scenario), self.minimum_duration - 1

    @cached_property
    def lots(self) -> int:
        """Lots of the whole order."""
        return int(1 / LOT) if self.lot_size is None else int(exact(self.size) / exact(self.lot_size))

    @cached_property
    def _size(self) -> Decimal:
        return exact(self.size)

    def amount(self, lots: int) -> Decimal:
        """So many lots, in units or cash."""
        return self._size * lots / self.lots

    def whole_lots(self, amount: Decimal) -> int:
        """The lots that an amount holds, none where it is negative."""
        lots = amount * self.lots / self._size
        rounding = _ROUNDING + Decimal("1e-14") * self.lots
        return max(0, int((lots + rounding).to_integral_value(ROUND_FLOOR)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values that survive JSON."""
        names = {"side": self.side.name.lower(), "benchmark": self.benchmark.value, "target": self.target.value}
        return asdict(self) | names

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`.

        Raises:
            SessionError: A field is missing, unknown, or no value of its kind.
        """
        choices: dict[str, dict[str, Any]] = {
            "side": {side.name.lower(): side for side in Side},
            "benchmark": {benchmark.value: benchmark for benchmark in Benchmark},
            "target": {target.value: target for target in Target},
        }
        values = dict(fields)
        for name, known in choices.items():
            if name in values:
                if values[name] not in known:
                    raise SessionError(f"{name} is {values[name]!r}; it is one of {', '.join(known)}")
                values[name] = known[values[name]]
        try:
            return cls(**values)
        except TypeError as error:
            raise SessionError(f"these fields make no order: {str(error).removeprefix(f'{cls.__name__}.')}") from error


@dataclass(frozen=True)
class Outlook:
    """What is known before a bar, once the bar before it has closed.

    Attributes:
        features: By name; those of the model's configuration.
        volatility: Close-to-close standard deviation of one bar's log return.
        expected_volume: Seasonal volume forecast of the bar and those after it, as many as the horizon has.
    """

    features: Mapping[str, float]
    volatility: float
    expected_volume: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, value in self.features.items():
            if not _is_finite(value):
                raise SessionError(f"feature {name} is {value}; features are finite numbers")
        _refuse_unless_positive("volatility", self.volatility, "it is a standard deviation")
        for value in self.expected_volume:
            if not _is_finite(value) or value < 0:
                raise SessionError(f"expected_volume holds {value}; it counts units, none at least")


@dataclass(frozen=True)
class ClosedBar:
    """What a bar was, once it has closed.

    Attributes:
        bar_number: Place on the clock; consecutive bars differ by one.
        price: Volume-weighted average price; of no meaning in a bar without trades.
        close: Last price.
        volume: Units traded; zero in a halt.
        outlook: What is known before the bar that follows; None where history does not tell.

    Raises:
        SessionError: The values make no bar.
    """

    bar_number: int
    price: float
    close: float
    volume: float
    outlook: Outlook | None = None

    def __post_init__(self) -> None:
        if type(self.bar_number) is not int:
            raise SessionError(f"bar_number is {self.bar_number!r}; bars are counted in whole numbers")
        if not _is_finite(self.volume) or self.volume < 0:
            raise SessionError(f"volume of bar {self.bar_number} is {self.volume}; it counts units, none at least")
        _refuse_unless_positive(f"close of bar {self.bar_number}", self.close, "prices are positive")
        if self.volume > 0:
            _refuse_unless_positive(f"price of bar {self.bar_number}", self.price, "prices are positive")

    @property
    def facts(self) -> tuple[float, float, float]:
        """What tells a bar from another of its number."""
        return self.price if self.volume > 0 else self.close, self.close, self.volume


@dataclass(frozen=True)
class Fill:
    """An own fill, or a part of one.

    Attributes:
        fill_id: What the venue calls it; told twice, it counts once.
        quantity: Units.
        price: Paid or received per unit.
        bar_number: The bar it happened in; None for the bar in progress.

    Raises:
        SessionError: The values make no fill.
    """

    fill_id: str
    quantity: float
    price: float
    bar_number: int | None = None

    def __post_init__(self) -> None:
        if not self.fill_id:
            raise SessionError("a fill has a fill_id, by which it counts once however often it is told")
        _refuse_unless_positive(f"quantity of fill {self.fill_id}", self.quantity, "a fill trades something")
        _refuse_unless_positive(f"price of fill {self.fill_id}", self.price, "prices are positive")

    def amount(self, target: Target) -> Decimal:
        """What it adds to a parent order: units, or cash."""
        return self._units if target is Target.QUANTITY else self._cash

    @cached_property
    def _units(self) -> Decimal:
        return exact(self.quantity)

    @cached_property
    def _cash(self) -> Decimal:
        return self._units * exact(self.price)


def exact(value: float) -> Decimal:
    """The number as it is written, so that three lots of 0.1 are 0.3."""
    return Decimal(repr(float(value)))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refuse_unless_positive(name: str, value: Any, why: str) -> None:
    if not _is_finite(value) or value <= 0:
        raise SessionError(f"{name} is {value!r}; {why}")
