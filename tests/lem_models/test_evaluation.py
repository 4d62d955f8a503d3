from dataclasses import replace

import pytest
import torch
from builders import FEATURES, FREE, GRID, HORIZON, LOOKBACK, rng, tiny_lem

from lem_models.baselines.twap import Twap
from lem_models.costs import CostModel, order_costs
from lem_models.evaluation import EvaluatedBatch, Trial, evaluate
from lem_models.execution import settle
from lem_models.orders import OrderSize
from lem_models.windows import MarketPanel


def walk_panel(rows: int, seed: int = 0) -> MarketPanel:
    draw = rng(seed)
    close = 100 * torch.exp((0.01 * torch.randn(rows, generator=draw, dtype=torch.float64)).cumsum(0))
    flat = torch.ones(rows, dtype=torch.float64)
    features = torch.randn(rows, len(FEATURES), generator=draw)
    return MarketPanel(features, close, close, 1000 * flat, 0.01 * flat, 1000 * flat)


def test_every_strategy_trades_the_same_windows_in_batches_of_any_size():
    panel, rows = walk_panel(200), torch.arange(10, 180, 7)
    strategies = [Twap(FREE), tiny_lem()]
    for batch_size in (4, 25, 1000):
        batches = list(evaluate(strategies, panel, rows, LOOKBACK, HORIZON, batch_size))
        for strategy in strategies:
            own = [batch for batch in batches if batch.strategy == strategy.name]
            assert torch.equal(torch.cat([batch.rows for batch in own]), rows)
            assert all(len(batch.rows) <= batch_size for batch in own)
            assert torch.cat([batch.volatility_bps for batch in own]).allclose(torch.tensor(100.0))
    orders = panel.orders(rows, LOOKBACK, HORIZON)
    expected = settle(strategies[0].schedule(orders), orders.market, GRID)
    found = torch.cat([batch.results.slippage_bps for batch in batches if batch.strategy == "TWAP"])
    assert torch.equal(found, expected.slippage_bps)


def evaluated(trial: Trial | None) -> EvaluatedBatch:
    """TWAP over hourly bars that all let expect a volume of 1000."""
    (batch,) = evaluate([Twap(FREE)], walk_panel(200), torch.arange(10, 180, 7), LOOKBACK, HORIZON, trial=trial)
    return batch


def test_without_a_trial_orders_are_small_and_cost_nothing():
    batch = evaluated(None)
    assert batch.costs is None
    assert (batch.results.filled_fraction == 1).all()


def test_a_trial_without_a_participation_cap_charges_the_same_schedules():
    twice_the_daily_volume = Trial(2.0, None, CostModel(bars_per_day=24))
    batch = evaluated(twice_the_daily_volume)
    for name, values in vars(evaluated(None).results).items():
        assert torch.equal(getattr(batch.results, name), values), name
    assert batch.costs is not None
    impact = 1e4 * 0.01 * 24**0.5 * (2 / HORIZON) ** 0.5
    assert batch.costs.impact_bps[:, ~GRID.is_notional[:, 0, 0]].allclose(torch.tensor(impact), rtol=1e-4)


@pytest.mark.parametrize(("fraction", "filled"), [(0.001, 1.0), (0.04, 1.0), (0.1, 0.5), (0.25, 0.2)])
def test_orders_of_a_trial_fill_as_far_as_its_participation_cap_goes(fraction, filled):
    """Twelve bars at a tenth of their volume take a twentieth of a day."""
    trial = Trial(fraction, 0.1, CostModel(bars_per_day=24))
    batch = evaluated(trial)
    quantity = ~GRID.is_notional[:, 0, 0]
    assert (batch.results.filled_fraction[:, quantity] - filled).abs().max() < 1e-5
    orders = walk_panel(200).orders(batch.rows, LOOKBACK, HORIZON)
    size = OrderSize.of_daily_volume(orders.market, fraction, 24, 0.1)
    schedule = Twap(FREE).schedule(replace(orders, size=size))
    assert batch.costs is not None
    expected = order_costs(schedule, orders.market, size, trial.costs)
    assert torch.equal(batch.costs.total_bps, expected.total_bps)


def test_a_model_that_looks_ahead_trades_the_same_bars_and_is_labelled():
    panel, rows = walk_panel(200), torch.arange(10, 180, 7)
    strategies = [Twap(FREE), tiny_lem(information_set="same_bar")]
    ahead = list(evaluate(strategies, panel, rows, LOOKBACK, HORIZON, information_set="same_bar"))
    assert [batch.strategy for batch in ahead] == ["TWAP", "LEM with look-ahead"]
    (causal,) = evaluate([Twap(FREE)], panel, rows, LOOKBACK, HORIZON)
    assert torch.equal(ahead[0].results.slippage_bps, causal.results.slippage_bps)
