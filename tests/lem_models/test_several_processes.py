"""Two processes that train one model get what one process gets, and survive the death of either."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fits import SHORT, TINY, TRAIN, VALIDATION, walk_panel
from hypothesis import given
from hypothesis import strategies as st

from lem_models.config import TrainingConfig
from lem_models.order_windows import drawn
from lem_models.ranks import of_all, share
from lem_models.training import Fit, fit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("several")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("several.py")), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "found.pt", weights_only=True)


def alone(folder: Path, **changes: Any) -> Fit:
    return fit(walk_panel(), TRAIN, VALIDATION, TINY, replace(SHORT, **changes), folder)


def assert_same(several: dict[str, Any], one: Fit) -> None:
    assert several["windows_seen"] == one.windows_seen and len(several["history"]) == len(one.history)
    for together, single in zip(several["history"], one.history, strict=True):
        assert together == pytest.approx(single, abs=1e-5)
    # The first steps of AdamW are as long as the learning rate, however small a gradient is.
    moved = max((weight - fresh).abs().max() for weight, fresh in zip(weights(one), weights_before(), strict=True))
    apart = max((several["weights"][name] - weight).abs().max() for name, weight in one.model.state_dict().items())
    assert apart < 1e-4 < moved / 10


def weights(one: Fit) -> list[torch.Tensor]:
    return list(one.model.parameters())


def weights_before() -> list[torch.Tensor]:
    from lem_models.lem import LEM

    torch.manual_seed(SHORT.seed)
    return list(LEM(TINY).parameters())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    return alone(tmp_path_factory.mktemp("alone"), validation_orders=49)


def test_two_processes_get_what_one_gets_at_the_same_batch(several, undisturbed):
    """The last of the 49 validation windows is one that the two cannot share."""
    assert_same(several["variance"], undisturbed)


def test_two_processes_rank_the_worst_orders_among_those_of_both(several, tmp_path):
    assert_same(several["cvar"], alone(tmp_path, risk="cvar", cvar_level=0.8))


def test_a_fit_one_of_whose_processes_is_killed_ends_like_an_undisturbed_one(several, undisturbed):
    assert several["killed_ranks"] == 1
    assert several["reported"] == [0, 1, 1, 2], "it goes on after the last epoch that was saved"
    assert_same(several["killed"], undisturbed)


def test_what_the_report_raises_ends_all_processes_and_reaches_the_caller(several):
    assert several["refused"] == "after epoch 0"
    assert several["left"] == []
    assert several["signals_as_before"]


def test_a_loss_that_is_not_a_number_ends_all_processes_with_its_sentence(several):
    assert several["diverged"] == "training diverged in epoch 1; lower the learning rate"


@given(
    windows=st.integers(1, 40), ranks=st.integers(1, 5), each=st.integers(1, 4), batches=st.integers(1, 3),
    epoch=st.integers(0, 3),
)  # fmt: skip
def test_together_the_processes_draw_every_window_of_an_epoch_once_and_equally_many(
    windows, ranks, each, batches, epoch
):
    training = TrainingConfig(batch_size=ranks * each, batches_per_epoch=batches)
    rows = torch.arange(100, 100 + windows)
    sequence = drawn(rows, training, epoch)
    for batch in sequence:
        shares = [share(batch, rank, ranks) for rank in range(ranks)]
        assert [len(own) for own in shares] == [each] * ranks
        assert torch.equal(torch.cat(shares), batch)
    assert all(torch.equal(*pair) for pair in zip(sequence, drawn(rows, training, epoch), strict=True))


def test_a_batch_that_processes_cannot_share_equally_is_refused():
    with pytest.raises(ValueError, match="batch_size 16 is not a multiple of 3 devices"):
        replace(SHORT, devices=3)
    with pytest.raises(ValueError, match="one process trains at least"):
        replace(SHORT, devices=0)
    with pytest.raises(ValueError, match="precision is '16-true'; it is one of 32-true, bf16-mixed"):
        replace(SHORT, precision="16-true")


def test_a_process_by_itself_holds_the_whole_batch():
    held = torch.ones(3, requires_grad=True)
    assert of_all(held) is held
