"""bfloat16 and translation are settings of training alone; and what holds wherever a GPU is."""

from dataclasses import replace

import pytest
import torch
from builders import HORIZON, LOOKBACK
from fits import SHORT, TINY, TRAIN, VALIDATION, walk_panel

from lem_models.lem import LEM
from lem_models.training import fit

gpus = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and there is none here")
two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


def orders():
    return walk_panel().orders(VALIDATION, LOOKBACK, HORIZON)


def test_training_in_bfloat16_gives_a_model_in_full_precision_that_learnt_about_the_same(tmp_path):
    half = fit(walk_panel(), TRAIN, VALIDATION, TINY, replace(SHORT, precision="bf16-mixed"), tmp_path / "half")
    full = fit(walk_panel(), TRAIN, VALIDATION, TINY, SHORT, tmp_path / "full")
    assert {weight.dtype for weight in half.model.parameters()} == {torch.float32}
    assert half.history != full.history, "nothing was done in bfloat16"
    for one, other in zip(half.history, full.history, strict=True):
        assert one == pytest.approx(other, abs=0.01)
    schedule = half.model.schedule(orders())
    assert schedule.dtype == torch.float32
    assert (schedule.sum(-1) == 1).all()


@pytest.mark.parametrize("cap", [1.0, 0.2])
def test_fractions_of_an_order_sum_to_exactly_one_under_bfloat16(cap):
    torch.manual_seed(3)
    model = LEM(replace(TINY, cap=cap))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        decided = model(orders()).schedule()
        traded = model.schedule(orders())
    for schedule in (decided, traded):
        assert schedule.dtype == torch.float32
        assert (schedule.sum(-1) == 1).all()
        assert schedule.min() >= 0 and schedule.max() <= cap + 1e-6


def test_a_model_that_is_to_be_translated_is_trained_and_handed_over_as_written(tmp_path):
    """The compiler itself takes minutes on two busy cores: it is run where a GPU is."""
    brief = replace(SHORT, max_epochs=1, batches_per_epoch=1)
    plain = fit(walk_panel(), TRAIN, VALIDATION, TINY, brief, tmp_path / "plain")
    with torch.compiler.set_stance("force_eager"):
        translated = fit(walk_panel(), TRAIN, VALIDATION, TINY, replace(brief, compile=True), tmp_path / "translated")
    assert translated.history == plain.history
    assert translated.model.state_dict().keys() == plain.model.state_dict().keys()


@pytest.mark.gpu
@gpus
@pytest.mark.parametrize(
    ("changes", "loss", "part"),
    [({}, 1e-3, 0.01), ({"precision": "bf16-mixed"}, 0.02, 0.1), ({"compile": True}, 1e-3, 0.01)],
    ids=["float32", "bfloat16", "compiled"],
)
def test_a_gpu_trains_what_a_core_trains(tmp_path, monkeypatch, changes, loss, part):
    """Schedules are cut at one half of a probability: that of a few orders may fall on its other side."""
    on_gpu = fit(walk_panel(), TRAIN, VALIDATION, TINY, replace(SHORT, **changes), tmp_path / "gpu")
    with monkeypatch.context() as without:
        without.setattr(torch.cuda, "is_available", lambda: False)
        on_core = fit(walk_panel(), TRAIN, VALIDATION, TINY, SHORT, tmp_path / "core")
    for one, other in zip(on_gpu.history, on_core.history, strict=True):
        assert one == pytest.approx(other, abs=loss)
    schedules = [each.model.schedule(orders()) for each in (on_gpu, on_core)]
    assert all((schedule.sum(-1) == 1).all() for schedule in schedules)
    assert (schedules[0] - schedules[1]).abs().amax(-1).gt(0.05).float().mean() < part


@pytest.mark.gpu
@two_gpus
def test_two_gpus_get_what_one_gets(tmp_path):
    one = fit(walk_panel(), TRAIN, VALIDATION, TINY, SHORT, tmp_path / "one")
    two = fit(walk_panel(), TRAIN, VALIDATION, TINY, replace(SHORT, devices=2), tmp_path / "two")
    for together, single in zip(two.history, one.history, strict=True):
        assert together == pytest.approx(single, abs=1e-3)
