import torch
from builders import FEATURES, FREE, GRID, HORIZON, LOOKBACK, rng, tiny_lem

from lem_models.baselines.twap import Twap
from lem_models.evaluation import evaluate
from lem_models.execution import settle
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


def test_a_model_that_looks_ahead_trades_the_same_bars_and_is_labelled():
    panel, rows = walk_panel(200), torch.arange(10, 180, 7)
    strategies = [Twap(FREE), tiny_lem(information_set="same_bar")]
    ahead = list(evaluate(strategies, panel, rows, LOOKBACK, HORIZON, information_set="same_bar"))
    assert [batch.strategy for batch in ahead] == ["TWAP", "LEM with look-ahead"]
    (causal,) = evaluate([Twap(FREE)], panel, rows, LOOKBACK, HORIZON)
    assert torch.equal(ahead[0].results.slippage_bps, causal.results.slippage_bps)
