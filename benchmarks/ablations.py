"""What each part of the model is worth: the default against variants, on the same windows, seeds and later orders.

Reads the warehouse of the current settings (`LEM_PROFILE`, `LEM_HOME`; the simulated market of `make demo` by default)
and prints a line per market and variant: parameters, training windows per second of CPU (validation included), and by
minimum duration, of orders of a fixed quantity against VWAP in the test split, all side-averaged and with a 95 %
interval:

- `improvement_bps`, the mean over orders and seeds, and `seed_spread_bps`, its standard deviation over seeds;
- `over_default_bps`, the paired difference to the default;
- `std_over_default`, the standard deviation of a single order over that of the default.

Intervals come from a block bootstrap over days and tell of other orders, not of other seeds. A gain at a minimum
duration of 12 can come from nothing but a forecast of prices. The variant of features of the bar it trades in is a
look-ahead: it says what the published code gains by it, and nothing that could be traded.

Every variant has the same budget of training windows, a fraction of what a model of the pipeline gets: figures compare
variants with each other.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.paired import Slippages, block_length, compare
from lem_models.baselines import Strategy
from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.config import LEMConfig, TrainingConfig
from lem_models.evaluation import evaluate
from lem_models.orders import SCENARIOS, Benchmark, InformationSet, Target
from lem_models.training import fit
from lem_models.windows import MarketPanel
from lem_pipeline.errors import LemError, WarehouseError
from lem_pipeline.panel import OrderPanel, read_panel
from lem_pipeline.settings import Settings, settings
from lem_pipeline.storage import Warehouse

MINIMUM_DURATIONS = (6, 9, 11, 12)
CHOSEN = [i for i, s in enumerate(SCENARIOS) if (s.benchmark, s.target) == (Benchmark.VWAP, Target.QUANTITY)]
REFERENCE = "no-forecast stopping"


@dataclass(frozen=True)
class Variant:
    """A configuration that differs from the default in one thing.

    Attributes:
        name: What lines call it.
        model: Fields of the model's configuration.
        training: Fields of the training's.
        without: Features left out.
    """

    name: str
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()


DEFAULT = Variant("default")
VARIANTS = (
    DEFAULT,
    Variant("LSTM", {"recurrence": "lstm"}),
    Variant("GRU", {"recurrence": "gru"}),
    Variant("no recurrence", {"recurrence": "none"}),
    Variant("no variable selection", {"variable_selection": False}),
    Variant("independent heads", {"independent_heads": True}),
    Variant("own readout", {"own_readout": True}),
    Variant("curve prior", {"prior": "curve"}),
    Variant("no market features", without=("market_return", "market_volume_surprise")),
    Variant("no microstructure features", without=("taker_imbalance", "trade_size")),
    Variant("CVaR", training={"risk": "cvar"}),
    Variant("LOOK-AHEAD: features of the bar it trades in", {"information_set": "same_bar"}),
)


@dataclass
class Market:
    """The windows of some asset classes, and the default configuration for them.

    Attributes:
        name: Of the model in the settings.
        simulated: Whether any bar is.
        data: All bars.
        model: Shape of the default.
        training: How every variant is trained.
    """

    name: str
    simulated: bool
    data: OrderPanel
    model: LEMConfig
    training: TrainingConfig

    def rows(self, split: str, every: int = 1) -> Tensor:
        """Rows where windows begin that one more bar with all features follows, which a look-ahead reads."""
        rows, horizon = self.data.rows(split, every), self.model.horizon
        numbers = torch.from_numpy(self.data.keys["bar_number"].to_numpy().copy())
        after = (rows + horizon).clamp_max(len(numbers) - 1)
        # The first bar of the next symbol has no features.
        is_next = (numbers[after] == numbers[rows] + horizon) & self.data.panel.features[after].isfinite().all(1)
        return rows[is_next]

    @property
    def test_rows(self) -> Tensor:
        """Where the test orders begin; they do not overlap."""
        return self.rows("test", every=self.model.horizon)

    @property
    def days(self) -> np.ndarray:
        """The day on which each test order begins."""
        starts = self.data.keys["bar_start"].to_numpy()[self.test_rows.numpy()]
        return starts.astype("datetime64[D]").astype(np.int64)

    def least_block(self) -> int:
        """Days with orders that an order may span."""
        numbers = self.data.keys["bar_number"].to_numpy()[self.test_rows.numpy()]
        first = np.sort([numbers[self.days == day].min() for day in np.unique(self.days)])
        return math.ceil(self.model.horizon / np.median(np.diff(first)))


@dataclass
class Trained:
    """A variant after training with every seed."""

    slippages: Slippages
    parameters: int
    windows_per_cpu_s: float


def markets(chosen: Settings, names: Sequence[str], **budget: Any) -> Iterator[Market]:
    """The markets of the settings' models, with fields of their training replaced.

    Raises:
        WarehouseError: There is no warehouse yet, or one of older features.
    """
    command = f".venv/bin/lem run --profile {chosen.profile}"
    if not chosen.warehouse.exists():
        raise WarehouseError(f"there is no warehouse at {chosen.warehouse}; run the main job first: {command}")
    training = replace(chosen.training, **budget)
    for name, asset_classes in chosen.models.items():
        if name in names or not names:
            data = read_panel(Warehouse(path=str(chosen.warehouse)), asset_classes)
            if missing := {name for variant in VARIANTS for name in variant.without} - set(data.features):
                raise WarehouseError(
                    f"the features of {chosen.warehouse} are older than this code (no {', '.join(sorted(missing))}); "
                    f"run the main job again: {command}"
                )
            model = LEMConfig.from_dict({**chosen.model.to_dict(), "features": data.features})
            simulated = any(chosen.market(each).bars.source == "simulated" for each in asset_classes)
            yield Market(name, simulated, data, model, training)


def without(panel: MarketPanel, names: Sequence[str], left_out: Sequence[str]) -> tuple[MarketPanel, tuple[str, ...]]:
    """A panel that lacks some features, and the names of those it has."""
    kept = [place for place, name in enumerate(names) if name not in left_out]
    return replace(panel, features=panel.features[:, kept]), tuple(names[place] for place in kept)


def slippages_of(
    strategy: Strategy, market: Market, panel: MarketPanel, information_set: InformationSet = "causal"
) -> np.ndarray:
    """What the test orders cost with a strategy; (orders, sides, minimum durations)."""
    shape = market.model
    durations = [minimum - 1 for minimum in MINIMUM_DURATIONS]
    batches = evaluate(
        [strategy], panel, market.test_rows, shape.lookback, shape.horizon, information_set=information_set
    )
    costs = [batch.results.slippage_bps[:, CHOSEN][..., durations] for batch in batches]
    return torch.cat(costs).double().numpy()


def trained(market: Market, variant: Variant, seeds: int) -> Trained:
    """Train a variant with each seed and let it slice the test orders."""
    panel, features = without(market.data.panel, market.model.features, variant.without)
    shape = replace(market.model, features=features, **variant.model)
    windows, seconds, costs = 0, 0.0, []
    for seed in range(seeds):
        training = replace(market.training, seed=market.training.seed + seed, **variant.training)
        with tempfile.TemporaryDirectory() as folder:
            since = time.process_time()
            fitted = fit(panel, market.rows("train"), market.rows("validation"), shape, training, Path(folder))
            seconds += time.process_time() - since
        windows += fitted.windows_seen
        costs.append(slippages_of(fitted.model, market, panel, shape.information_set))
    parameters = sum(weight.numel() for weight in fitted.model.parameters())
    return Trained(Slippages(np.stack(costs), market.days), parameters, windows / seconds)


def by_duration(values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(map(str, MINIMUM_DURATIONS), values, strict=True))


def measures(one: Slippages, default: Slippages, block: int) -> dict[str, Any]:
    """The part of a line that compares with the default."""
    found = compare(one, default, block)
    kinds = range(len(MINIMUM_DURATIONS))
    spread = one.improvement_bps.std(axis=0, ddof=1).round(3).tolist() if len(one.bps) > 1 else [None for _ in kinds]
    return {
        "improvement_bps": by_duration([found.improvement_bps.of_kind(kind) for kind in kinds]),
        "seed_spread_bps": by_duration(spread),
        "over_default_bps": by_duration([found.over_other_bps.of_kind(kind) for kind in kinds]),
        "std_over_default": by_duration([found.dispersion_ratio.of_kind(kind) for kind in kinds]),
    }


def lines(market: Market, variants: Sequence[Variant], seeds: int) -> Iterator[dict[str, Any]]:
    """A line per variant, the default first, after one for the reference that no forecast and no training went into."""
    told = {"market": market.name, "simulated": market.simulated, "snapshot": market.data.snapshot}
    told |= {name: getattr(market.model, name) for name in ("lookback", "width")}
    default = trained(market, DEFAULT, seeds)
    block = block_length(default.slippages, market.least_block())
    days = len(np.unique(market.days))
    told |= {"orders": "fixed quantity against VWAP", "order_windows": len(market.days), "days": days, "block": block}
    reference = slippages_of(OptimalStopping(market.model.limits), market, market.data.panel)[None]
    yield told | {"variant": REFERENCE} | measures(Slippages(reference, market.days), default.slippages, block)
    budget = market.training.max_epochs * market.training.batches_per_epoch * market.training.batch_size
    told |= {"training_windows": budget, "learning_rate": market.training.learning_rate, "seeds": seeds}
    for variant in (DEFAULT, *(each for each in variants if each is not DEFAULT)):
        line = told | {"variant": variant.name}
        if variant.without and not _says_anything(market, variant.without):
            yield line | {"not_measured": f"{' and '.join(variant.without)} never vary in these bars"}
            continue
        own = default if variant is DEFAULT else trained(market, variant, seeds)
        facts = {"parameters": own.parameters, "training_windows_per_cpu_s": round(own.windows_per_cpu_s, 1)}
        yield line | facts | measures(own.slippages, default.slippages, block)


def _says_anything(market: Market, features: Sequence[str]) -> bool:
    seen = market.data.panel.features[market.rows("train")][:, [market.model.features.index(name) for name in features]]
    return bool((seen.amax(0) > seen.amin(0)).any())


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.ablations")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batches", type=int, default=20, help="per epoch")
    parser.add_argument("--learning-rate", type=float, default=1e-2, help="greater where windows are fewer")
    parser.add_argument("--markets", nargs="*", default=[], help="models of the settings; all without")
    parser.add_argument("--variants", nargs="*", default=[each.name for each in VARIANTS])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    variants = [each for each in VARIANTS if each.name in asked.variants]
    try:
        budget = {"max_epochs": asked.epochs, "batches_per_epoch": asked.batches, "learning_rate": asked.learning_rate}
        for market in markets(settings(), asked.markets, **budget):
            for line in lines(market, variants, asked.seeds):
                print(json.dumps(line), flush=True)
    except LemError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
