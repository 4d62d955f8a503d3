"""The benchmark of evaluation compares the same accounting, and adds up what the whole test set gives at once."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks.evaluate import (
    FEATURES,
    TRIAL,
    Clock,
    account,
    assert_same,
    loop_over,
    order_panel,
    streamed,
    untrained,
)
from lem_models.baselines.twap import Twap
from lem_models.config import LEMConfig
from lem_models.evaluation import evaluate
from lem_models.orders import LOT
from lem_pipeline.contestants import contestants
from lem_pipeline.panel import OrderPanel
from lem_pipeline.results import order_results

TINY = LEMConfig(FEATURES, lookback=4, horizon=4, width=8, embedding=4, memory_width=4, head_width=8)


@pytest.fixture(scope="module")
def data() -> OrderPanel:
    return order_panel(300, symbols=3, config=TINY)


def test_the_loop_and_the_batch_agree_on_every_strategy(data):
    orders = data.panel.orders(data.rows("test")[:5], TINY.lookback, TINY.horizon)
    orders.market.volume[1, 2] = 0.0
    for strategy in contestants(untrained(TINY), [], data, TINY):
        schedule = strategy.schedule(orders)
        assert_same(account(schedule, orders), loop_over(schedule, orders.market))


def test_a_single_order_filled_otherwise_is_a_disagreement(data):
    orders = data.panel.orders(data.rows("test")[:5], TINY.lookback, TINY.horizon)
    schedule = Twap(TINY.limits).schedule(orders)
    other = schedule.clone()
    other[3, 0, 1] = torch.tensor([1 - LOT, 0.0, 0.0, LOT])
    with pytest.raises(AssertionError):
        assert_same(account(other, orders), loop_over(schedule, orders.market))


def test_batches_add_up_to_the_improvements_of_all_orders(data):
    clock = Clock()
    daily = streamed(data, TINY, clock)
    assert {"model", "baselines", "accounting", "rows", "daily sums"} <= set(clock.spent)
    rows = data.rows("test")
    batches = evaluate([Twap(TINY.limits)], data.panel, rows, TINY.lookback, TINY.horizon, trial=TRIAL)
    orders = pa.concat_tables(order_results("simulated", data, batches)).to_pandas()
    twap = daily[daily["strategy"] == "TWAP"]
    assert twap["order_windows"].sum() == len(rows) * 4 * TINY.horizon
    np.testing.assert_allclose(twap["improvement_bps"].sum(), -orders["slippage_bps"].sum() / 2, atol=0.05)
    assert len(daily.drop_duplicates(["strategy", "benchmark", "target", "minimum_duration", "trading_day"])) == len(
        daily
    )
