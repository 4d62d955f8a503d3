"""The benchmark of lockstep advises every order of a book in every bar, as one by one."""

import pytest

from benchmarks.inference import FEATURES, random_orders
from benchmarks.lockstep import assert_same, bars_of, one_by_one, orders_of, together
from lem_models.config import LEMConfig
from lem_models.lem import LEM
from lem_models.orders import SCENARIOS


def test_a_book_and_its_orders_one_by_one_are_asked_the_same_and_answer_alike():
    config = LEMConfig(FEATURES, lookback=3, horizon=4, width=4, embedding=2, memory_width=4, head_width=4, cap=0.4)
    model, windows = LEM(config).eval(), random_orders(config, 2)
    bars = [bars_of(windows, place, config) for place in range(2)]
    orders = orders_of(18, 2, config.horizon)
    assert {order.scenario for order in orders} == set(SCENARIOS) and {order.symbol for order in orders} == {"0", "1"}
    book, alone = together(model, orders, bars), one_by_one(model, orders, bars)
    assert len(book.taken_ms) == len(book.cpu_ms) == config.horizon and min(book.taken_ms) > 0
    assert [set(told) for told in alone.advice] == [{order.order_id for order in orders}] * config.horizon
    assert_same(book, alone)
    other = together(model, orders, bars[::-1])
    with pytest.raises(AssertionError, match="order"):
        assert_same(other, alone)
