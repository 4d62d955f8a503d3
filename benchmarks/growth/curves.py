"""Which stage is measured along which dimension, and at which sizes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.growth import interface, market, models
from benchmarks.growth.measure import Cost, measured

FACTORS = (1, 10, 30, 100)
# Every minimum duration has a child order in every bar: horizon² entries, each decided by a plan of optimal stopping
# with thousands of states, a gigabyte at a horizon of 96. Scenarios are eight. Neither can grow a hundredfold.
HORIZONS = (12, 24, 48)
SCENARIOS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Base:
    """Sizes of 1x.

    Attributes:
        symbols: Symbols of the market.
        bars: Bars of each symbol.
        windows: Order windows that are trained on, evaluated or predicted at once.
        days: Days of the bootstrap, two blocks at least.
        sessions: Orders under way.
        months: Partitions of an asset.
    """

    symbols: int = 5
    bars: int = 2_000
    windows: int = 20
    days: int = 14
    sessions: int = 10
    months: int = 12


@dataclass(frozen=True)
class Measurement:
    """One stage at one size.

    Attributes:
        stage: Its name.
        dimension: What grows.
        size: How much of it there is, in the unit of the dimension: bars of all symbols, or what its name says.
        cost: What it took.
    """

    stage: str
    dimension: str
    size: float
    cost: Cost


def all_measurements(base: Base, factors: tuple[int, ...] = FACTORS) -> Iterator[Measurement]:
    """Every stage along every dimension that applies to it."""
    for factor in factors:
        yield from market_stages("bars", base.symbols, base.bars * factor)
        yield from market_stages("symbols", base.symbols * factor, base.bars)
    for factor in factors:
        many = base.windows * factor
        yield one("training", "windows", many, models.training, windows=many, batch=min(32, base.windows))
        yield one("training", "bars", many, models.training, windows=base.windows, panel_windows=10 * many)
        yield one("evaluation", "bars", many, models.evaluation, windows=many, symbols=4)
        yield one("evaluation", "symbols", many, models.evaluation, windows=many, symbols=4 * factor)
        yield one("bootstrap", "bars", base.days * factor, models.bootstrap, days=base.days * factor)
        yield one("serving", "windows", many, models.serving, windows=many)
        yield one("sessions", "sessions", base.sessions * factor, models.sessions, sessions=base.sessions * factor)
    for factor in factors[:2] if len(factors) < 3 else (1, 10, 100):
        yield one("interface", "partitions", base.months * factor, interface.asset_page, months=base.months * factor)
    few = base.windows
    stages = {"training": models.training, "evaluation": models.evaluation, "serving": models.serving}
    for name, stage in stages.items():
        given = {"symbols": 4} if name == "evaluation" else {"batch": few} if name == "training" else {}
        for horizon in HORIZONS[: len(factors)]:
            yield one(name, "horizon", horizon, stage, windows=few, horizon=horizon, **given)
        for scenarios in SCENARIOS[-len(factors) :]:
            yield one(name, "scenarios", scenarios, stage, windows=few, scenarios=scenarios, **given)


def one(stage: str, dimension: str, size: float, prepare: Callable, **given: object) -> Measurement:
    """A stage on an empty folder."""
    with TemporaryDirectory() as folder:
        if prepare is interface.asset_page:
            cost = interface.asset_page(Path(folder), **given)
        else:
            cost = measured(prepare, Path(folder), **given)
    return Measurement(stage, dimension, size, cost)


def market_stages(dimension: str, symbols: int, bars: int) -> Iterator[Measurement]:
    """From a source to the panel, each stage on what the one before has stored."""
    stages: dict[str, tuple[Callable, dict[str, object]]] = {
        "ingestion": (market.ingestion, {"symbols": symbols, "bars": bars}),
        "staging and quality": (market.tables, {"schemas": ("staging", "bars", "quality")}),
        "features": (market.tables, {"schemas": ("features",)}),
        "windows": (market.tables, {"schemas": ("windows",)}),
        "panel": (market.panel, {}),
    }
    with TemporaryDirectory() as folder:
        for stage, (prepare, given) in stages.items():
            yield Measurement(stage, dimension, symbols * bars, measured(prepare, Path(folder), **given))
