"""Simulated markets: driftless walks whose optimum is known, and bars with the habits of real ones.

Nothing here is market data. Whatever shows a figure made from it says SIMULATED.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lem_models.orders import MarketPath

Array = NDArray[np.float64]


def random_walks(orders: int, horizon: int, volatility: float, generator: torch.Generator) -> MarketPath:
    """Driftless Gaussian walks in point prices, with volume that carries no information.

    Args:
        orders: Paths to draw, B.
        horizon: Bars per path, H.
        volatility: Standard deviation of one bar's log return.
        generator: Source of randomness.
    """
    steps = torch.randn(orders, horizon, generator=generator) * volatility
    price = torch.exp(steps.cumsum(1) - torch.arange(1, horizon + 1) * volatility**2 / 2)
    volume = torch.exp(0.5 * torch.randn(orders, horizon, generator=generator))
    flat = torch.ones(orders, horizon)
    return MarketPath(torch.ones(orders), price, price, volume, flat * volatility, flat)


@dataclass(frozen=True)
class WalkLaw:
    """How driftless walks move; the default is what :func:`random_walks` draws.

    Attributes:
        bar_averages: A bar fills at the time average of its path, as a VWAP does where volume carries no information,
            instead of at its close.
        clusters: Standard deviation of log volatility, which is known before each bar and has a half-life of
            ``half_life`` bars.
        surprise: Standard deviation of the log of what volatility turns out to be over what was known: heavy tails, of
            kurtosis ``3 exp(4 surprise²)``.
        half_life: Of volatility clusters, in bars.
    """

    bar_averages: bool = False
    clusters: float = 0.0
    surprise: float = 0.0
    half_life: float = 50.0

    @property
    def keep(self) -> float:
        """Correlation of log volatility from bar to bar."""
        return float(0.5 ** (1 / self.half_life))


def walks(law: WalkLaw, orders: int, horizon: int, volatility: float, generator: torch.Generator) -> MarketPath:
    """Driftless walks of a law: every price is a martingale, and volume carries no information.

    Args:
        law: How they move.
        orders: Paths to draw, B.
        horizon: Bars per path, H.
        volatility: Root mean square of one bar's log return.
        generator: Source of randomness.
    """
    shape = (orders, horizon)
    known = volatility * clustered(law, orders, horizon, generator)
    actual = known * surprises(law.surprise, shape, generator)
    move = torch.randn(shape, generator=generator)
    opened, close = martingale(move, actual)
    price = opened + average_within(move, actual, generator) if law.bar_averages else close
    volume = torch.exp(0.5 * torch.randn(shape, generator=generator))
    return MarketPath(torch.ones(orders), price.exp(), close.exp(), volume, known, torch.ones(shape))


def clustered(law: WalkLaw, orders: int, horizon: int, generator: torch.Generator) -> Tensor:
    """Volatility as known before each bar: the exponential of a stationary autoregression, mean square one; (B, H)."""
    innovations = torch.randn(orders, horizon, generator=generator)
    states = [innovations[:, 0]]
    for innovation in innovations.unbind(1)[1:]:
        states.append(law.keep * states[-1] + (1 - law.keep**2) ** 0.5 * innovation)
    return torch.exp(law.clusters * torch.stack(states, dim=1) - law.clusters**2)


def surprises(spread: float, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Actual over known volatility: lognormal, independent, mean square one."""
    return torch.exp(spread * torch.randn(shape, generator=generator) - spread**2)


def martingale(move: Tensor, volatility: Tensor) -> tuple[Tensor, Tensor]:
    """Logs of each bar's open and close over arrival, whose exponentials have mean one.

    Args:
        move: Close over open, in standard deviations; (B, H).
        volatility: The standard deviations; (B, H).
    """
    close = (volatility * move - volatility.square() / 2).cumsum(1)
    return torch.cat([torch.zeros_like(close[:, :1]), close[:, :-1]], dim=1), close


def average_within(move: Tensor, volatility: Tensor, generator: torch.Generator) -> Tensor:
    """Log of a bar's time average over its open, given where a Brownian path ends; its exponential has mean one.

    Args:
        move: Close over open, in standard deviations; any shape.
        volatility: The standard deviations.
        generator: Source of the bridge's average, which has a variance of 1 / 12.
    """
    bridge = torch.randn(move.shape, generator=generator) / 12**0.5
    return volatility * (move / 2 + bridge) - volatility.square() / 6


@dataclass(frozen=True)
class SimulatedSymbol:
    """One simulated instrument: seasonal volume, clustered volatility, heavy tails, a shared market factor.

    Attributes:
        symbol: Its name; with the seed, it fixes every random draw.
        seed: Seed of the whole market.
        first_price: Price before the first bar.
        volatility: Typical standard deviation of one bar's log return.
        bar_volume: Typical units per bar.
        season: Volume profile, repeated for ever, mean one: 168 hours of a week, or 5 sessions.
        overnight_share: Part of a bar's variance that happens before its open.
        market_correlation: Correlation of its returns with the market factor of the seed.
    """

    symbol: str
    seed: int
    first_price: float
    volatility: float
    bar_volume: float
    season: Array
    overnight_share: float = 0.0
    market_correlation: float = 0.6

    def bars(self, season_index: NDArray[np.int64]) -> dict[str, Array]:
        """Bars from the beginning of the simulation; asking for more of them later repeats these exactly.

        Args:
            season_index: Each bar's place in the season; its length is the number of bars.

        Returns:
            open, high, low, close, volume, notional, trade_count and taker_buy_volume, one value per bar.
        """
        count = len(season_index)
        season = self.season[season_index]
        clusters = _persistent(self._normal("market", "clusters", count), half_life=50)
        volatility = self.volatility * season**0.25 * np.exp(0.45 * clusters - 0.45**2 / 2)
        shock = self.market_correlation * self._heavy_tailed("market", count)
        shock += np.sqrt(1 - self.market_correlation**2) * self._heavy_tailed(self.symbol, count)

        overnight = np.sqrt(self.overnight_share) * self._normal(self.symbol, "overnight", count)
        session = np.sqrt(1 - self.overnight_share) * shock
        close = np.log(self.first_price) + np.cumsum(volatility * (overnight + session) - volatility**2 / 2)
        opened = close - volatility * session
        high, low, average = self._within_bar(opened, close, volatility * np.sqrt(1 - self.overnight_share))

        activity = 0.3 * _persistent(self._normal(self.symbol, "activity", count), half_life=200)
        noise = 0.35 * self._normal(self.symbol, "volume", count)
        surprise = 0.2 * np.abs(shock) + 0.8 * np.log(volatility / self.volatility)
        volume = self.bar_volume * season * np.exp(activity + noise + surprise)
        taker_share = 0.5 + 0.08 * np.tanh(shock) + 0.04 * self._normal(self.symbol, "taker", count)
        return {
            "open": np.exp(opened),
            "high": np.exp(high),
            "low": np.exp(low),
            "close": np.exp(close),
            "volume": volume,
            "notional": volume * np.exp(average),
            "trade_count": np.ceil(2_000 * volume / self.bar_volume),
            "taker_buy_volume": volume * np.clip(taker_share, 0.02, 0.98),
        }

    def _stream(self, owner: str, purpose: str) -> np.random.Generator:
        # One stream per purpose, so that a longer simulation begins with the shorter one.
        return np.random.default_rng([self.seed, zlib.crc32(f"{owner}/{purpose}".encode())])

    def _normal(self, owner: str, purpose: str, count: int) -> Array:
        return self._stream(owner, purpose).standard_normal(count)

    def _heavy_tailed(self, owner: str, count: int) -> Array:
        """Normal draws of log-normal scale, with unit variance and a kurtosis of about five."""
        return self._normal(owner, "returns", count) * np.exp(0.35 * self._normal(owner, "tails", count) - 0.35**2)

    def _within_bar(self, opened: Array, close: Array, volatility: Array) -> tuple[Array, Array, Array]:
        """Log high, low and average price of Brownian bridges from open to close."""
        count = len(opened)

        def excursion(purpose: str) -> Array:
            uniform = self._stream(self.symbol, purpose).uniform(1e-12, 1.0, count)
            return np.sqrt((close - opened) ** 2 - 2 * volatility**2 * np.log(uniform))

        high = (opened + close + excursion("high")) / 2
        low = (opened + close - excursion("low")) / 2
        average = (opened + close) / 2 + volatility / np.sqrt(12) * self._normal(self.symbol, "average", count)
        return high, low, np.clip(average, low, high)


def _persistent(innovations: Array, half_life: float) -> Array:
    """A stationary first-order autoregression of unit variance."""
    keep = 0.5 ** (1 / half_life)
    fresh = np.sqrt(1 - keep**2)

    def path() -> Iterator[float]:
        yield from accumulate(innovations.tolist(), lambda state, shock: keep * state + fresh * shock)

    return np.fromiter(path(), dtype=np.float64, count=len(innovations))


def hours_of_week() -> Array:
    """A crypto week, Monday 00:00 UTC first: busy when Europe and New York overlap, quiet at weekends."""
    hour = np.arange(168) % 24
    day = 1 + 0.55 * np.exp(-((hour - 15) ** 2) / 18) + 0.15 * np.exp(-((hour - 1) ** 2) / 6)
    profile = day * np.where(np.arange(168) >= 120, 0.7, 1.0)
    normalised: Array = profile / profile.mean()
    return normalised


def days_of_week() -> Array:
    """A trading week: quiet Mondays, busy Fridays."""
    profile = np.array([0.92, 1.0, 1.02, 1.01, 1.05])
    normalised: Array = profile / profile.mean()
    return normalised
