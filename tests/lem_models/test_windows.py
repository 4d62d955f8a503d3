import pytest
import torch

from lem_models.windows import MarketPanel

ROWS, LOOKBACK, HORIZON = 60, 5, 12


def counting_panel(rows: int = ROWS) -> MarketPanel:
    """Every number tells its own row: features r and r + 0.5, price 100 + r, close 200 + r, and so on."""
    row = torch.arange(rows, dtype=torch.float64)
    features = torch.stack([row, row + 0.5], dim=1).float()
    return MarketPanel(features, 100 + row, 200 + row, 300 + row, 400 + row, 500 + row)


def test_a_window_ends_its_lookback_with_the_row_known_before_the_first_bar():
    orders = counting_panel().orders(torch.tensor([10, 30]), LOOKBACK, HORIZON)
    assert orders.features.shape == (2, LOOKBACK + HORIZON - 1, 2)
    for order, first in enumerate([10, 30]):
        rows = [float(r) for r in range(first - LOOKBACK + 1, first + HORIZON)]
        assert orders.features[order, :, 0].tolist() == rows
        assert orders.features[order, :, 1].tolist() == [r + 0.5 for r in rows]
        assert orders.features[order, LOOKBACK - 1, 0] == first


def test_an_order_trades_on_its_own_bars_and_arrives_at_the_close_before():
    market = counting_panel().orders(torch.tensor([10]), LOOKBACK, HORIZON).market
    assert len(market) == 1
    assert market.horizon == HORIZON
    assert market.arrival.tolist() == [1.0]
    for step in range(HORIZON):
        row = 10 + step
        assert market.price[0, step].item() == pytest.approx((100 + row) / 209, rel=1e-7)
        assert market.close[0, step].item() == pytest.approx((200 + row) / 209, rel=1e-7)
        assert market.volume[0, step].item() == 300 + row
        assert market.volatility[0, step].item() == 400 + row
        assert market.expected_volume[0, step].item() == 500 + row
    assert market.last_close[0, 1].item() == pytest.approx(210 / 209, rel=1e-7)


def test_prices_of_any_currency_reach_the_model_as_the_same_multiples_of_arrival():
    panel = counting_panel()
    in_cents = counting_panel()
    in_cents.price, in_cents.close = panel.price * 1e8, panel.close * 1e8
    rows = torch.tensor([10, 20])
    one, other = (each.orders(rows, LOOKBACK, HORIZON).market for each in (panel, in_cents))
    assert torch.allclose(one.price, other.price, rtol=1e-7, atol=0)
    assert torch.allclose(one.close, other.close, rtol=1e-7, atol=0)


def test_a_window_of_known_rows_is_blind_to_later_ones():
    row, step = 20, 4
    before = counting_panel()
    after = counting_panel()
    after.features[row + step + 1 :] = -1
    for column in (after.price, after.close, after.volume):
        column[row + step :] = 9e9
    one, other = (each.orders(torch.tensor([row]), LOOKBACK, HORIZON) for each in (before, after))
    assert torch.equal(one.features[:, : LOOKBACK + step], other.features[:, : LOOKBACK + step])
    for name in ("arrival", "price", "close", "volume"):
        assert torch.equal(getattr(one.market, name)[..., :step], getattr(other.market, name)[..., :step])
    assert not torch.equal(one.features, other.features)


def test_the_first_and_the_last_window_fit_the_panel_exactly():
    panel = counting_panel()
    edges = torch.tensor([LOOKBACK - 1, ROWS - HORIZON])
    features = panel.orders(edges, LOOKBACK, HORIZON).features[..., 0]
    assert features[0, 0] == 0
    assert features[1, -1] == ROWS - 1


def test_a_window_that_looks_ahead_differs_by_one_row_of_features_and_nothing_else():
    panel, rows = counting_panel(), torch.tensor([10, 30])
    causal, ahead = (panel.orders(rows, LOOKBACK, HORIZON, kind) for kind in ("causal", "same_bar"))
    assert (causal.information_set, ahead.information_set) == ("causal", "same_bar")
    assert ahead.to("cpu").information_set == "same_bar"
    assert ahead.features.shape == causal.features.shape
    assert torch.equal(ahead.features, causal.features + 1)  # every number of the panel tells its row
    for name, values in vars(causal.market).items():
        assert torch.equal(values, getattr(ahead.market, name)), name


def test_a_window_that_looks_ahead_needs_the_row_after_its_last_bar():
    panel = counting_panel()
    assert (
        panel.orders(torch.tensor([ROWS - HORIZON - 1]), LOOKBACK, HORIZON, "same_bar").features[0, -1, 0] == ROWS - 1
    )
    with pytest.raises(IndexError, match="leaves the panel of 60 rows"):
        panel.orders(torch.tensor([ROWS - HORIZON]), LOOKBACK, HORIZON, "same_bar")


@pytest.mark.parametrize("row", [-1, 0, LOOKBACK - 2, ROWS - HORIZON + 1, ROWS])
def test_a_window_that_leaves_the_panel_is_refused(row):
    with pytest.raises(IndexError, match="leaves the panel of 60 rows"):
        counting_panel().orders(torch.tensor([20, row]), LOOKBACK, HORIZON)


def test_a_first_bar_without_a_close_before_it_is_refused():
    with pytest.raises(IndexError):
        counting_panel().orders(torch.tensor([0]), 1, HORIZON)


def test_no_windows_make_an_empty_batch():
    assert len(counting_panel().orders(torch.tensor([], dtype=torch.int64), LOOKBACK, HORIZON)) == 0
