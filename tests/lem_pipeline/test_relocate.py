"""A home that was moved finds its models, and one that stayed is left alone."""

from pathlib import Path

import pytest
import torch
from builders import tiny_lem

from lem_models.lem import LEM
from lem_models.orders import OrderBatch
from lem_models.simulation import random_walks
from lem_pipeline.errors import ConfigurationError, UnknownVersionError
from lem_pipeline.relocate import relocate
from lem_pipeline.tracking import Tracking

HORIZON, LOOKBACK = 6, 4


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with one registered version."""
    model: LEM = tiny_lem(lookback=LOOKBACK, horizon=HORIZON)
    features = torch.zeros(1, LOOKBACK + HORIZON - 1, len(model.config.features))
    example = OrderBatch(features, random_walks(1, HORIZON, 0.01, torch.Generator().manual_seed(0)))
    tracking = Tracking(home=str(tmp_path / "old"))
    with tracking.run("lem-crypto", {}):
        tracking.register("lem-crypto", model, example, {})
    return tmp_path / "old"


def test_a_moved_home_finds_its_models_and_files(home: Path) -> None:
    moved = home.rename(home.with_name("new place"))
    tracking = Tracking(home=str(moved))
    with pytest.raises(UnknownVersionError, match="No such artifact"):
        tracking.load("lem-crypto")
    assert relocate(moved) == 4  # an experiment, a run, a logged model, a version
    assert tracking.load("lem-crypto").config.horizon == HORIZON
    example = tracking.client().download_artifacts(tracking.latest("lem-crypto").run_id, "example.npz")
    assert Path(example).is_file()
    with tracking.run("lem-crypto", {}) as run:
        assert run.info.artifact_uri.startswith(moved.as_uri())


def test_a_home_that_stayed_is_left_alone(home: Path) -> None:
    assert relocate(home) == 0
    assert Tracking(home=str(home)).load("lem-crypto").config.horizon == HORIZON


def test_a_folder_without_a_store_is_met_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no MLflow store at .*mlflow\.db; name the folder"):
        relocate(tmp_path)
    assert list(tmp_path.iterdir()) == []
