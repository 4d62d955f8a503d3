"""A model that sees the bar it trades in is measured, and neither registered nor served."""

import json
from types import SimpleNamespace

import pytest
from builders import random_orders, tiny_lem

from lem_pipeline.errors import LookAheadError
from lem_pipeline.tracking import Tracking


def test_a_model_that_looks_ahead_is_not_registered(tmp_path):
    tracking = Tracking(home=str(tmp_path / "home"))
    model = tiny_lem(information_set="same_bar")
    with pytest.raises(LookAheadError) as caught:
        tracking.register("lem-crypto", model, random_orders(2), {})
    assert str(caught.value) == (
        "lem-crypto sees the bar it trades in (information_set 'same_bar') and is not registered; "
        "train it with information_set 'causal', the default"
    )
    assert not (tmp_path / "home").exists()


def test_a_model_that_looks_ahead_is_not_served(tmp_path):
    from lem_pipeline.serving import ServedLEM

    config = tmp_path / "config.json"
    config.write_text(json.dumps(tiny_lem(information_set="same_bar").config.to_dict()))
    artifacts = {"config": str(config), "weights": str(tmp_path / "none.pt")}
    with pytest.raises(ValueError, match="sees the bar it trades in"):
        ServedLEM().load_context(SimpleNamespace(artifacts=artifacts))
