import pytest
import torch
from builders import random_market

from lem_models.orders import OrderBatch, OrderSize
from lem_pipeline.serving import as_input


def test_orders_of_a_size_are_refused_rather_than_served_as_if_they_had_none():
    orders = OrderBatch(torch.zeros(3, 1, 1), random_market(3))
    assert set(as_input(orders)) == {"features", *vars(orders.market)}
    with pytest.raises(ValueError, match="the registered model knows no order sizes"):
        as_input(OrderBatch(orders.features, orders.market, OrderSize(torch.ones(3))))
