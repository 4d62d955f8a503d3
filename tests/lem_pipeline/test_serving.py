import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders import HORIZON, LOOKBACK, random_market, random_orders, tiny_lem

from lem_models.lem import LEM
from lem_models.orders import OrderBatch, OrderSize
from lem_pipeline.serving import RefusedError, ServedLEM, as_input, content_hash, write

STORED = Path(__file__).with_name("stored_models")


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


def loaded(folder: Path) -> ServedLEM:
    python_model = ServedLEM()
    artifacts = {"weights": str(folder / "weights.pt"), "config": str(folder / "config.json")}
    python_model.load_context(SimpleNamespace(artifacts=artifacts))
    return python_model


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model as the registry keeps it."""
    write(tiny_lem(), tmp_path / "weights.pt", tmp_path / "config.json")
    return tmp_path


def test_what_was_written_is_read_back_to_the_last_bit(folder):
    arrays = as_input(random_orders(3))
    assert np.array_equal(loaded(folder).predict(None, arrays), served(tiny_lem()).predict(None, arrays))


@pytest.mark.parametrize("name", sorted(path.name for path in STORED.iterdir()))
def test_a_version_of_earlier_code_still_decides_as_it_did(name):
    """Whoever breaks this breaks every registry: the default of a new option is the old behaviour."""
    example = dict(np.load(STORED / name / "example.npz"))
    expected = example.pop("schedule")
    assert np.allclose(loaded(STORED / name).predict(None, example), expected, atol=1e-5)


def test_weights_that_are_not_those_registered_are_refused(folder, tmp_path):
    write(tiny_lem(seed=1), folder / "weights.pt", tmp_path / "another.json")
    with pytest.raises(RefusedError, match="the weights are not those that were registered"):
        loaded(folder)


@pytest.mark.parametrize("change", [{"tkan_layers": 2}, {"width": 16}], ids=["an unknown option", "other shapes"])
def test_a_version_of_code_that_cannot_be_reconciled_is_refused_with_a_way_out(folder, change):
    recipe = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(recipe | change))
    with pytest.raises(RefusedError, match="registered by other code than is imported here; load it in a fresh"):
        loaded(folder)


class Malicious:
    """What a pickle may do to whoever loads it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_weights_of_unknown_origin_run_no_code(folder, tmp_path):
    torch.save({"weights": Malicious(tmp_path / "ran")}, folder / "weights.pt")
    recipe = json.loads((folder / "config.json").read_text())
    recipe["weights_sha256"] = content_hash(folder / "weights.pt")
    (folder / "config.json").write_text(json.dumps(recipe))
    with pytest.raises(RefusedError, match="holds more than tensors, and nothing of it was run"):
        loaded(folder)
    assert not (tmp_path / "ran").exists()


def test_a_model_that_sees_the_bar_it_trades_in_is_not_served(tmp_path):
    write(tiny_lem(information_set="same_bar"), tmp_path / "weights.pt", tmp_path / "config.json")
    with pytest.raises(RefusedError, match="sees the bar it trades in"):
        loaded(tmp_path)
