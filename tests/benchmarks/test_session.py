"""The benchmark times every decision of an order that trades to its end."""

from benchmarks.inference import FEATURES, random_orders
from benchmarks.session import decisions
from lem_models.config import LEMConfig
from lem_models.lem import LEM


def test_every_bar_of_the_horizon_is_timed():
    config = LEMConfig(FEATURES, lookback=3, horizon=4, width=4, embedding=2, memory_width=4, head_width=4)
    taken = list(decisions(LEM(config).eval(), random_orders(config, 1)))
    assert len(taken) == config.horizon
    assert all(milliseconds > 0 for milliseconds in taken)
