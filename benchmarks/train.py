"""Training windows per second, whole steps: forward, objective, backward, clipping and optimizer.

The published implementation cannot be run here: its rates are those recorded once on a machine of two cores (Keras 3.15
on TensorFlow, its fastest backend), so that ratio means something on such a machine alone. Each further line
compares within this run: the step's arithmetic with the peak of a large matrix product, bfloat16 with float32, the
default configuration with the paper's. Last, where a step's time goes, each stage forward and backward by itself.

Sizes of the paper train on two threads, as the published rates were; the default configuration on one, as it does by
default. In bfloat16 the products of the network are taken under autocast; states, objective and weights stay float32.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import report, seconds, seconds_in_turns
from lem_models.config import LEMConfig, TrainingConfig
from lem_models.lem import LEM
from lem_models.objective import stop_and_hedge
from lem_models.orders import OrderBatch
from lem_models.simulation import random_walks

FEATURES = tuple(f"feature_{number}" for number in range(12))
PAPER = LEMConfig.paper(FEATURES)
SMALLER = LEMConfig(
    FEATURES,
    lookback=120,
    width=64,
    memory_width=64,
    embedding=8,
    attention_heads=4,
    head_width=32,
    independent_heads=True,
    prior="curve",
)
RECORDED = {"200 units, 64 windows a batch": (PAPER, 64, 18.1), "64 units, 256 windows a batch": (SMALLER, 256, 121.0)}
PAPER_THREADS = 2


class Step:
    """One training step of a fresh model, on the same random windows each time."""

    def __init__(self, config: LEMConfig, batch: int, precision: Callable[[], AbstractContextManager[None]]) -> None:
        torch.manual_seed(0)
        rng = torch.Generator().manual_seed(0)
        features = torch.randn(batch, config.lookback + config.horizon - 1, len(FEATURES), generator=rng)
        self.orders = OrderBatch(features, random_walks(batch, config.horizon, 0.01, rng))
        self.training = TrainingConfig()
        self.model, self.precision = LEM(config), precision
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def __call__(self) -> None:
        """Take it."""
        self.optimizer.zero_grad()
        with self.precision():
            loss = self.objective(self.model.context(self.orders.features))
        loss.backward()
        self.update()

    def objective(self, context: Tensor) -> Tensor:
        """Of the decisions on a context, (B, H, D)."""
        decisions = self.model.allocate(context, self.orders.market)
        return stop_and_hedge(decisions, self.orders.market, self.model.grid, self.training.risk_aversion)

    def update(self) -> None:
        """Clip the gradients and move the weights."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.training.gradient_clip)
        self.optimizer.step()

    def stages(self) -> dict[str, Callable[[], None]]:
        """The parts of a step, each forward and backward on its own."""
        model = self.model

        def both_ways(part: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[], None]:
            def run() -> None:
                leaf = given.detach().requires_grad_()
                part(leaf).sum().backward()

            return run

        with torch.no_grad():
            selected, _ = model.select(self.orders.features)
            context = model.context(self.orders.features)
        return {
            "variable selection": both_ways(lambda x: model.select(x)[0], self.orders.features),
            "recurrence": both_ways(model.recur, selected),
            "heads and objective": both_ways(self.objective, context),
            "clipping and optimizer": self.update,
        }


def bfloat16() -> AbstractContextManager[None]:
    return torch.autocast("cpu", torch.bfloat16)


def peak_gflops() -> float:
    square = torch.randn(2048, 2048)
    return 2 * 2048**3 / 1e9 / seconds(lambda: square @ square)


def gflop(step: Step) -> float:
    """Arithmetic of the products of one step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def main() -> None:
    torch.set_num_threads(PAPER_THREADS)
    for name, (config, batch, recorded) in RECORDED.items():
        step, in_bfloat16 = Step(config, batch, nullcontext), Step(config, batch, bfloat16)
        taken, taken_bfloat16 = seconds_in_turns([step, in_bfloat16])
        rate, rate_bfloat16 = round(batch / taken, 1), round(batch / taken_bfloat16, 1)
        baseline = "the published implementation's, recorded"
        report(f"train: windows per second, {name}, over {baseline}", rate, recorded, 2)
        report(f"train: windows per second, {name}, bfloat16, over {baseline}", rate_bfloat16, recorded, 2)
        report(f"train: windows per second, {name}, bfloat16 over float32", rate_bfloat16, rate, 1)
        reached, peak = round(gflop(step) / taken, 1), round(peak_gflops(), 1)
        report(f"train: GFLOP per second, {name}, over those of a large product", reached, peak, 0.5)
        stages = step.stages()
        by_stage = dict(zip(stages, seconds_in_turns(list(stages.values()), 3), strict=True))
        by_stage["gates, attention and the rest"] = max(taken - sum(by_stage.values()), 0.0)
        shares = {stage: round(each / taken, 3) for stage, each in by_stage.items()}
        print(json.dumps({"name": f"train: shares of a step, {name}"} | shares))
        if config is PAPER:
            paper = rate
    torch.set_num_threads(TrainingConfig.threads)
    batch = TrainingConfig.batch_size
    step = Step(LEMConfig(FEATURES), batch, nullcontext)
    default = round(batch / seconds(step), 1)
    report("train: windows per second, default configuration over the paper's sizes", default, paper, 10)


if __name__ == "__main__":
    main()
