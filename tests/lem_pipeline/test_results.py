"""Order results carry the date of the bars that the order traded on, around gaps too."""

import numpy as np
import pandas as pd
import pytest
import torch
from warehouses import PARAMETERS, build, hourly, read

from lem_models.baselines.twap import Twap
from lem_models.evaluation import evaluate
from lem_models.orders import Limits
from lem_pipeline.contestants import charged
from lem_pipeline.errors import NoOrderWindowsError
from lem_pipeline.panel import read_panel
from lem_pipeline.results import headline_results, order_results
from lem_pipeline.storage import Warehouse

LOOKBACK, HORIZON = PARAMETERS["lookback"], PARAMETERS["horizon"]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> Warehouse:
    """One symbol without a gap, and one that lacks twelve bars."""
    bars = hourly(600, ("BTC/USDT", "ETH/USDT"))
    place = bars.groupby("symbol").cumcount()
    missing = (bars["symbol"] == "ETH/USDT") & place.between(400, 411)
    return build(tmp_path_factory.mktemp("results"), bars[~missing])


def test_an_order_is_dated_by_the_bars_it_traded_on_before_and_after_a_gap(warehouse):
    """Equal slices over the horizon, priced again from the bars of the date that the result names."""
    data = read_panel(warehouse, ["crypto"])
    rows = torch.cat([data.rows(split, every=3) for split in ("train", "validation", "test")])
    batches = evaluate([Twap(Limits(HORIZON))], data.panel, rows, LOOKBACK, HORIZON, batch_size=100)
    orders = pd.concat(table.to_pandas() for table in order_results("a model", data, batches))
    buys = orders[
        (orders["side"] == "buy") & (orders["target"] == "quantity") & (orders["minimum_duration"] == HORIZON)
    ]
    of_gap = buys[buys["symbol"] == "ETH/USDT"]["bar_start"]
    gap = pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(hours=400)
    assert (of_gap < gap).sum() > 20 < (of_gap > gap).sum()

    bars = read(warehouse, "select symbol, bar_start, price, close from bars.market_bars")
    known = {(symbol, start): (price, close) for symbol, start, price, close in bars.itertuples(index=False)}
    hours = [pd.Timedelta(hours=hour) for hour in range(-1, HORIZON)]
    for order in buys.itertuples():
        (_, arrival), *traded = (known[order.symbol, order.bar_start + hour] for hour in hours)
        expected = (np.mean([price for price, _ in traded]) / arrival - 1) * 1e4
        assert order.arrival_slippage_bps == pytest.approx(expected, abs=0.02)


def test_headline_results_are_the_rows_of_a_quantity_against_vwap_with_their_impact(warehouse):
    data = read_panel(warehouse, ["crypto"])
    rows = data.rows("test", every=3, asset_class="crypto")
    small, ten_times = (
        pd.concat(
            table.to_pandas()
            for table in headline_results(
                "a model",
                data,
                evaluate(
                    [Twap(Limits(HORIZON))], data.panel, rows, LOOKBACK, HORIZON, trial=charged("crypto", size, None)
                ),
                [2, HORIZON],
            )
        )
        for size in (0.01, 0.1)
    )
    assert len(small) == len(rows) * 2 * 2
    assert set(small["benchmark"]) == {"VWAP"} and set(small["target"]) == {"quantity"}
    assert set(small["minimum_duration"]) == {2, HORIZON}
    assert (small["impact_bps"] > 0).all()
    np.testing.assert_allclose(ten_times["impact_bps"], 10**0.5 * small["impact_bps"], rtol=1e-5)
    with pytest.raises(NoOrderWindowsError):
        data.rows("test", every=3, asset_class="dow")
