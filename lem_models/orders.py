"""Parent orders: the eight scenarios, the minimum durations and the participation limits they carry."""

import math
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import product
from typing import Literal, Self

import torch
from torch import Tensor

LOT = 2.0**-23
"""The smallest child order, as a fraction of its parent.

Child orders are whole numbers of lots. A float32 holds every multiple of ``LOT`` in [0, 1] exactly, so fractions
add up to exactly one in whatever order they are summed.
"""

FEATURE_LIMIT = 8.0
"""Features are scale-free; beyond this a bad tick says no more than a large move."""


InformationSet = Literal["causal", "same_bar"]
"""What the feature row of bar t tells: what is known before that bar, or after it (a look-ahead)."""


class Side(Enum):
    """Which way the parent order trades; the value is the sign of every cost formula."""

    BUY = 1
    SELL = -1


class Benchmark(Enum):
    """The market average a parent order is measured against."""

    VWAP = "VWAP"
    TWAP = "TWAP"


class Target(Enum):
    """What the parent order fixes: the number of units, or the cash spent or raised."""

    QUANTITY = "quantity"
    NOTIONAL = "notional"


@dataclass(frozen=True)
class Scenario:
    """One kind of parent order, its minimum duration left open."""

    side: Side
    benchmark: Benchmark
    target: Target

    def __str__(self) -> str:
        return f"{self.side.name.lower()} {self.target.value} against {self.benchmark.value}"


SCENARIOS = tuple(Scenario(*each) for each in product(Side, Benchmark, Target))
"""The eight scenarios in the order of axis S."""


@dataclass(frozen=True)
class OrderGrid:
    """Every order that one model decides at once: axis S (scenarios) by axis M (minimum durations).

    Attributes:
        horizon: Bars granted to the parent order, ``n``. Minimum durations run over 1..n.

    Example:
        >>> grid = OrderGrid(horizon=12)
        >>> grid.shape
        (8, 12)
        >>> grid.side[:, 0, 0].tolist()
        [1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0]
    """

    horizon: int

    def __post_init__(self) -> None:
        if self.horizon < 2:
            raise ValueError(f"horizon is {self.horizon}; an order needs at least 2 bars to be sliced")

    @property
    def shape(self) -> tuple[int, int]:
        """Sizes of axes S and M."""
        return len(SCENARIOS), self.horizon

    @cached_property
    def side(self) -> Tensor:
        """+1 for a buy, −1 for a sell; (S, 1, 1)."""
        return torch.tensor([float(s.side.value) for s in SCENARIOS])[:, None, None]

    @cached_property
    def is_vwap(self) -> Tensor:
        """True where the benchmark is the market VWAP; (S, 1, 1)."""
        return torch.tensor([s.benchmark is Benchmark.VWAP for s in SCENARIOS])[:, None, None]

    @cached_property
    def is_notional(self) -> Tensor:
        """True where the target is a fixed notional; (S, 1, 1)."""
        return torch.tensor([s.target is Target.NOTIONAL for s in SCENARIOS])[:, None, None]

    @cached_property
    def minimum_duration(self) -> Tensor:
        """1..n bars; (M,)."""
        return torch.arange(1, self.horizon + 1)


@dataclass(frozen=True)
class Limits:
    """Participation limits: bounds on each child order, as fractions of the parent order.

    Attributes:
        floor: Least fraction per bar while the order lasts.
        cap: Greatest fraction per bar. Rounded up to whole lots.
        horizon: Bars granted.

    Raises:
        ValueError: The order cannot be filled under its limits, or the limits contradict each other.

    Example:
        >>> Limits(cap=0.05, horizon=12)
        Traceback (most recent call last):
        ...
        ValueError: 12 bars at a cap of 0.05 fill only 0.6 of the order; raise the cap to 0.0834 or allow 20 bars
    """

    horizon: int
    floor: float = 0.0
    cap: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.cap <= 1.0:
            raise ValueError(f"cap is {self.cap}; it is a fraction of the parent order in (0, 1]")
        if not 0.0 <= self.floor <= self.cap:
            raise ValueError(f"floor is {self.floor}; it lies between 0 and the cap of {self.cap}")
        if self.horizon * self.cap_in_lots < 1.0:
            raise ValueError(
                f"{self.horizon} bars at a cap of {self.cap:g} fill only {self.horizon * self.cap:g} of the order; "
                f"raise the cap to {math.ceil(1e4 / self.horizon) / 1e4:g} or allow {math.ceil(1 / self.cap)} bars"
            )

    @property
    def cap_in_lots(self) -> float:
        """The cap rounded up to whole lots, so that n · (1/n) still fills the order."""
        return math.ceil(self.cap / LOT) * LOT

    @property
    def floor_in_lots(self) -> float:
        """The floor rounded down to whole lots."""
        return math.floor(self.floor / LOT) * LOT


@dataclass
class MarketPath:
    """What the market did over each order's horizon, and what was known of it beforehand.

    Attributes:
        arrival: Last close before the order starts; (B,).
        price: Each bar's volume-weighted average price, at which its child order fills; (B, H).
        close: Each bar's last price; (B, H).
        volume: Units traded in each bar; zero where nothing could be filled; (B, H).
        volatility: Close-to-close standard deviation of one bar's log return, as known before the bar; (B, H).
        expected_volume: Seasonal volume forecast, as known before the order starts; (B, H).
    """

    arrival: Tensor
    price: Tensor
    close: Tensor
    volume: Tensor
    volatility: Tensor
    expected_volume: Tensor

    def __len__(self) -> int:
        return self.price.shape[0]

    @property
    def horizon(self) -> int:
        """Bars in the path."""
        return self.price.shape[1]

    @property
    def last_close(self) -> Tensor:
        """The close known when bar t is decided, that of bar t−1; (B, H)."""
        return torch.cat([self.arrival[:, None], self.close[:, :-1]], dim=1)

    def expected_daily_volume(self, bars_per_day: float) -> Tensor:
        """Units that a day lets expect: the mean expected volume of the horizon's bars, times bars per day; (B,)."""
        return self.expected_volume.double().mean(dim=1) * bars_per_day

    def to(self, device: torch.device | str) -> "MarketPath":
        """The same path on another device."""
        return MarketPath(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass(frozen=True)
class OrderSize:
    """How large parent orders are, and how much of a bar's volume they may take.

    Attributes:
        quantity: Units of each parent order; (B,). An order of fixed notional is worth so many units at its arrival
            price.
        participation_cap: Greatest fraction of a bar's volume that a child order fills. It binds when the bar is
            simulated, not when the child order is decided; at one, a bar fills no more than was traded in it.

    Raises:
        ValueError: The cap is no fraction, or a quantity is negative or not finite.
    """

    quantity: Tensor
    participation_cap: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.participation_cap <= 1.0:
            raise ValueError(f"participation_cap is {self.participation_cap}; it is a part of a bar's volume in (0, 1]")
        sound = self.quantity.isfinite() & (self.quantity >= 0)
        if not sound.all():
            raise ValueError(f"quantity holds {self.quantity[~sound][0]:g}; an order trades a finite number of units")

    @classmethod
    def of_daily_volume(
        cls, market: MarketPath, fraction: float, bars_per_day: float, participation_cap: float = 1.0
    ) -> Self:
        """Orders of the same fraction of the volume that a day lets expect, whatever the symbol and its units.

        Args:
            market: Gives the expected volume.
            fraction: Of :meth:`MarketPath.expected_daily_volume`.
            bars_per_day: 24 for hourly bars of a market that never closes, 1 for daily bars.
            participation_cap: As the attribute.
        """
        return cls(fraction * market.expected_daily_volume(bars_per_day), participation_cap)

    def to(self, device: torch.device | str) -> "OrderSize":
        """The same sizes on another device."""
        return OrderSize(self.quantity.to(device), self.participation_cap)


@dataclass
class OrderBatch:
    """Parent orders ready to be sliced: B windows of the market, each carrying the whole order grid.

    Attributes:
        features: Row t holds only what is known before bar t; (B, L + H − 1, F). The last H rows belong to the
            horizon.
        market: The path over the horizon.
        size: Of the orders. Without one they are small: a bar with trades takes any child order.
        information_set: ``same_bar`` where row t holds what is known after bar t, against the rule above.
    """

    features: Tensor
    market: MarketPath
    size: OrderSize | None = None
    information_set: InformationSet = "causal"

    def __len__(self) -> int:
        return self.features.shape[0]

    def to(self, device: torch.device | str) -> "OrderBatch":
        """The same orders on another device."""
        size = self.size and self.size.to(device)
        return OrderBatch(self.features.to(device), self.market.to(device), size, self.information_set)
