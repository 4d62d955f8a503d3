import numpy as np
import pytest
import torch
from builders import HORIZON, LOOKBACK, random_market, random_orders, tiny_lem

from lem_models.lem import LEM
from lem_models.orders import OrderBatch, OrderSize
from lem_pipeline.serving import ServedLEM, as_input


def test_orders_of_a_size_are_refused_rather_than_served_as_if_they_had_none():
    orders = OrderBatch(torch.zeros(3, 1, 1), random_market(3))
    assert set(as_input(orders)) == {"features", *vars(orders.market)}
    with pytest.raises(ValueError, match="the registered model knows no order sizes"):
        as_input(OrderBatch(orders.features, orders.market, OrderSize(torch.ones(3))))


def served(model: LEM) -> ServedLEM:
    python_model = ServedLEM()
    python_model.model = model
    return python_model


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("price", 0.0, "price holds 0, and must be positive"),
        ("volatility", 0.0, "volatility holds 0, and must be positive"),
        ("volume", -1.0, "volume holds -1, and cannot be negative"),
        ("close", float("nan"), "close holds a value that is not finite"),
    ],
)
def test_what_no_market_shows_is_refused_by_name_with_a_remedy(column, value, complaint):
    arrays = as_input(random_orders(3))
    arrays[column] = arrays[column].copy()
    arrays[column][:, -1] = value
    with pytest.raises(ValueError, match=f"{complaint}; repeat the last known bar for bars to come"):
        served(tiny_lem()).predict(None, arrays)


@pytest.mark.parametrize("step", range(HORIZON))
def test_an_order_under_way_is_served_with_the_last_known_bar_repeated(step):
    model, orders = served(tiny_lem()), random_orders(10)
    arrays = as_input(orders)
    known = {name: values.copy() for name, values in arrays.items()}
    for name in ("price", "close", "volume"):
        before = known[name][:, step - 1] if step else known["arrival"]
        known[name][:, step:] = before[:, None]
    known["volatility"][:, step + 1 :] = known["volatility"][:, step, None]
    known["features"][:, LOOKBACK + step :] = 0.0
    asked = model.predict(None, known)[..., : step + 1]
    assert np.array_equal(asked, model.predict(None, arrays)[..., : step + 1])
