import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders import FEATURES, GRID, HORIZON, LOOKBACK, rng
from fits import SHORT, TINY, TRAIN, VALIDATION, VOLATILITY, walk_panel

from lem_models.config import TrainingConfig
from lem_models.execution import settle
from lem_models.lem import LEM
from lem_models.objective import mean_dispersion
from lem_models.orders import SCENARIOS, Benchmark, OrderBatch, Side, Target
from lem_models.simulation import random_walks
from lem_models.training import Fit, Report, fit
from lem_models.walks import train_on_walks
from lem_models.windows import MarketPanel


def run(
    folder: Path, config: TrainingConfig = SHORT, report: Report | None = None, panel: MarketPanel | None = None
) -> Fit:
    return fit(panel or walk_panel(), TRAIN, VALIDATION, TINY, config, folder, report)


def assert_same_fit(one: Fit, other: Fit) -> None:
    assert one.history == other.history
    assert one.windows_seen == other.windows_seen
    for (name, weight), twin in zip(one.model.named_parameters(), other.model.parameters(), strict=True):
        assert torch.equal(weight, twin), name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Fit:
    return run(tmp_path_factory.mktemp("undisturbed"))


def hard_loss(model: LEM, rows: torch.Tensor, risk_aversion: float) -> float:
    orders = walk_panel().orders(rows, LOOKBACK, HORIZON)
    cost = settle(model.schedule(orders), orders.market, GRID).slippage_bps / (VOLATILITY * 1e4)
    return (cost + risk_aversion * cost.square()).mean().item()


def test_a_fit_reports_every_epoch(undisturbed):
    assert len(undisturbed.history) == 3
    assert undisturbed.windows_seen == 3 * 3 * 16
    for metrics in undisturbed.history:
        assert set(metrics) == {"train_loss", "validation_loss", "relaxation_gap", "improvement_sigma"}
        assert all(math.isfinite(value) for value in metrics.values())
    assert not undisturbed.model.training


def test_the_same_seed_gives_the_same_weights_bit_for_bit(undisturbed, tmp_path):
    torch.manual_seed(999)
    torch.rand(17)
    assert_same_fit(undisturbed, run(tmp_path))


def test_another_seed_gives_other_weights(undisturbed, tmp_path):
    other = run(tmp_path, TrainingConfig(**{**vars(SHORT), "seed": 6, "max_epochs": 1}))
    assert other.history[0] != undisturbed.history[0]


def test_the_model_of_the_best_epoch_is_kept(undisturbed):
    spread = torch.linspace(0, len(VALIDATION) - 1, SHORT.validation_orders).long()
    best = min(metrics["validation_loss"] for metrics in undisturbed.history)
    assert hard_loss(undisturbed.model, VALIDATION[spread], SHORT.risk_aversion) == pytest.approx(best, abs=1e-5)


class Killed(Exception):
    """The process ends here."""


@pytest.mark.parametrize("after", [1, 2])
def test_a_fit_that_was_killed_goes_on_as_if_nothing_had_happened(undisturbed, tmp_path, after):
    reported = []

    def die(epoch: int, metrics: dict[str, float]) -> None:
        reported.append(metrics)
        if epoch == after:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, report=die)
    assert (tmp_path / "last.ckpt").exists()
    assert reported == undisturbed.history[: after + 1]

    resumed_epochs = []
    resumed = run(tmp_path, report=lambda epoch, _: resumed_epochs.append(epoch))
    assert resumed_epochs == list(range(after, 3))
    assert_same_fit(undisturbed, resumed)


def test_a_finished_fit_is_not_trained_again(undisturbed, tmp_path):
    run(tmp_path)
    epochs = []
    again = run(tmp_path, report=lambda epoch, _: epochs.append(epoch))
    assert epochs == []
    assert_same_fit(undisturbed, again)


def test_training_stops_when_validation_no_longer_improves(tmp_path):
    config = TrainingConfig(**{**vars(SHORT), "max_epochs": 8, "patience": 2, "learning_rate": 1e-12})
    assert len(run(tmp_path, config).history) == 3


def test_every_epoch_draws_windows_of_its_own(tmp_path):
    """A model that stands still sees other losses on other windows, and the same on those of the validation."""
    history = run(tmp_path, TrainingConfig(**{**vars(SHORT), "learning_rate": 1e-12})).history
    assert len({metrics["train_loss"] for metrics in history}) == len(history)
    assert len({round(metrics["validation_loss"], 6) for metrics in history}) == 1


def test_a_loss_that_is_not_a_number_ends_training(tmp_path):
    panel = walk_panel()
    panel.features[:, 1] = math.nan
    with pytest.raises(FloatingPointError, match="training diverged in epoch 1"):
        run(tmp_path, panel=panel)


def test_training_leaves_the_number_of_threads_as_it_was(tmp_path):
    before = torch.get_num_threads()
    run(tmp_path, TrainingConfig(**{**vars(SHORT), "max_epochs": 1, "batches_per_epoch": 1, "threads": before + 1}))
    assert torch.get_num_threads() == before


def test_a_short_fit_reduces_the_loss(tmp_path):
    config = TrainingConfig(
        batch_size=32, batches_per_epoch=8, validation_orders=32, max_epochs=4, patience=10, learning_rate=1e-2
    )
    trained = run(tmp_path, config)
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"] - 0.01
    torch.manual_seed(config.seed)
    orders = random_order_windows(500, rng(3))
    with torch.no_grad():
        before, after = (
            mean_dispersion(model(orders), orders.market, GRID, config.risk_aversion).item()
            for model in (LEM(TINY), trained.model)
        )
    assert after < before


def improvement_sigma(model: LEM, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Improvement of quantity orders against TWAP on fresh walks, by minimum duration: mean and dispersion."""
    chosen = [
        index for index, s in enumerate(SCENARIOS) if (s.benchmark, s.target) == (Benchmark.TWAP, Target.QUANTITY)
    ]
    assert [SCENARIOS[index].side for index in chosen] == [Side.BUY, Side.SELL]
    draw = rng(seed)
    gains = []
    for _ in range(count // 1000):
        orders = random_order_windows(1000, draw)
        costs = settle(model.schedule(orders), orders.market, GRID).slippage_bps
        gains.append(-costs[:, chosen] / (VOLATILITY * 1e4))
    gain = torch.cat(gains)
    return gain.mean(dim=(0, 1)), gain.std(dim=0).mean(dim=0)


def random_order_windows(count: int, draw: torch.Generator) -> OrderBatch:
    features = torch.randn(count, LOOKBACK + HORIZON - 1, len(FEATURES), generator=draw)
    return OrderBatch(features, random_walks(count, HORIZON, VOLATILITY, draw))


def test_a_model_that_is_wary_of_its_worst_orders_has_better_ones_and_learns_to_stop_all_the_same():
    worst, gain = {}, {}
    orders = random_order_windows(3000, rng(9))
    for aversion in (0.0, 0.2):
        config = TrainingConfig(
            batch_size=48, batches_per_epoch=100, max_epochs=1, learning_rate=2e-2, risk_aversion=aversion, risk="cvar"
        )
        model = train_on_walks(random_order_windows, TINY, config)
        cost = settle(model.schedule(orders), orders.market, GRID).slippage_bps / (VOLATILITY * 1e4)
        worst[aversion] = cost.sort(dim=0, descending=True).values[:150].mean()  # five percent
        gain[aversion] = -cost[..., 6 - 1].mean()
    assert gain[0.2] > 0.2
    assert worst[0.2] < worst[0.0] - 0.02


def test_a_fit_that_is_wary_of_its_worst_orders_keeps_the_epoch_that_is_best_for_them(tmp_path):
    config = TrainingConfig(**{**vars(SHORT), "risk": "cvar", "cvar_level": 0.8, "validation_orders": 16})
    fitted = run(tmp_path, config)
    rows = VALIDATION[torch.linspace(0, len(VALIDATION) - 1, 16).long()]
    orders = walk_panel().orders(rows, LOOKBACK, HORIZON)
    cost = settle(fitted.model.schedule(orders), orders.market, GRID).slippage_bps / (VOLATILITY * 1e4)
    ranked = cost.sort(dim=0, descending=True).values
    tail = (ranked[:3].sum(0) + 0.2 * ranked[3]) / 3.2
    best = min(metrics["validation_loss"] for metrics in fitted.history)
    assert (cost.mean() + config.risk_aversion * tail.mean()).item() == pytest.approx(best, abs=1e-5)


def test_a_model_that_looks_ahead_earns_where_nothing_is_to_be_earned(tmp_path):
    """An order over all bars cannot finish early: what it gains on a walk is what it should not know."""
    panel = walk_panel()
    last_return = panel.close[1:-1].log() - panel.close[:-2].log()  # known before bars 2, 3, ...
    panel.features[2:, 0] = last_return.float() / VOLATILITY
    shape = replace(TINY, information_set="same_bar")
    config = TrainingConfig(
        batch_size=32, batches_per_epoch=60, validation_orders=160, max_epochs=1, learning_rate=2e-2, risk_aversion=0.05
    )
    model = fit(panel, TRAIN, VALIDATION, shape, config, tmp_path).model
    orders = panel.orders(VALIDATION, LOOKBACK, HORIZON, "same_bar")
    cost = settle(model.schedule(orders), orders.market, GRID).slippage_bps / (VOLATILITY * 1e4)
    assert cost[..., -1].mean() < -0.08


@pytest.mark.slow
def test_a_tiny_model_learns_to_stop_and_hedge_as_well_as_can_be_and_gains_nothing_where_nothing_can_be_gained():
    """The optimum at a minimum duration of 6 is 0.257 σ at a dispersion of 0.2 σ; a gain at 12 would be a leak."""
    config = TrainingConfig(batches_per_epoch=120, max_epochs=1, learning_rate=2e-2, risk_aversion=0.05)
    model = train_on_walks(random_order_windows, TINY, config)
    gain, dispersion = improvement_sigma(model, count=10_000, seed=2)
    assert gain[6 - 1] > 0.245
    assert dispersion[6 - 1] < 0.25
    assert gain[12 - 1].abs() < 0.002
    assert dispersion[12 - 1] < 0.05


@pytest.mark.slow
def test_a_tiny_model_under_a_cap_learns_to_trade_ahead_so_that_it_may_stop():
    """The optimum under a fifth per bar is 0.257 σ as well: four fifths are traded by bar 5."""
    config = TrainingConfig(batches_per_epoch=120, max_epochs=1, learning_rate=2e-2, risk_aversion=0.05)
    model = train_on_walks(random_order_windows, replace(TINY, cap=0.2), config)
    gain, _ = improvement_sigma(model, count=10_000, seed=2)
    assert gain[6 - 1] > 0.23
    assert gain[12 - 1].abs() < 0.005
