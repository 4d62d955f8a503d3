import math
from itertools import chain, product

import numpy as np
import pytest
import torch

from lem_models.layers import variable_selection
from lem_models.layers.variable_selection import VariableSelection


@pytest.fixture
def selection() -> VariableSelection:
    torch.manual_seed(2)
    layer = VariableSelection(features=4, embedding=3, width=5)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.normal_()
    return layer.double()


def bars(batch: int = 2, length: int = 6) -> torch.Tensor:
    return torch.randn(batch, length, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def test_the_weights_of_the_features_sum_to_one_in_every_bar(selection):
    _, weights = selection(bars())
    assert weights.shape == (2, 6, 4)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(-1), torch.ones(2, 6, dtype=torch.float64))


def test_the_selection_is_the_weighted_sum_of_features_transformed_one_by_one(selection):
    x = bars()
    selected, weights = selection(x)
    for order in range(2):
        for bar in range(6):
            embedded = torch.stack(
                [x[order, bar, f] * selection.embedding_scale[f] + selection.embedding_shift[f] for f in range(4)]
            )
            scores = selection.weigh(embedded.reshape(-1))
            assert torch.allclose(weights[order, bar], scores.exp() / scores.exp().sum())
            transformed = selection.transform(embedded)
            expected = sum(weights[order, bar, f] * transformed[f] for f in range(4))
            assert torch.allclose(selected[order, bar], expected)


def plain_affine(matrix: np.ndarray, bias: np.ndarray, x: list[float]) -> list[float]:
    """A matrix (inputs, outputs) applied one scalar at a time."""
    return [bias[o] + sum(x[i] * matrix[i, o] for i in range(len(x))) for o in range(len(bias))]


def plain_grn(w: dict[str, np.ndarray], x: list[float]) -> list[float]:
    inner = [z if z > 0 else math.exp(z) - 1 for z in plain_affine(w["inner.weight"], w["inner.bias"], x)]
    outer = plain_affine(w["outer.weight"], w["outer.bias"], inner)
    both = plain_affine(w["gate.affine.weight"], w["gate.affine.bias"], outer)
    width = len(outer)
    total = [
        skipped + both[o] / (1 + math.exp(-both[width + o]))
        for o, skipped in enumerate(plain_affine(w["skip.weight"], w["skip.bias"], x))
    ]
    mean = sum(total) / width
    spread = math.sqrt(sum((each - mean) ** 2 for each in total) / width + 1e-5)
    return [(each - mean) / spread * w["scale"][o] + w["shift"][o] for o, each in enumerate(total)]


def plain_selection(layer: VariableSelection, x: list[float]) -> tuple[list[float], list[float]]:
    """One bar: embed, weigh by softmax, transform each feature by itself, add up; one scalar at a time."""
    w = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    weigh = {name.removeprefix("weigh."): value.T for name, value in w.items() if name.startswith("weigh.")}
    transform = {name.removeprefix("transform."): each for name, each in w.items() if name.startswith("transform.")}
    features, embedding = w["embedding_scale"].shape
    embedded = [
        [value * w["embedding_scale"][f, e] + w["embedding_shift"][f, e] for e in range(embedding)]
        for f, value in enumerate(x)
    ]
    scores = [math.exp(score) for score in plain_grn(weigh, list(chain.from_iterable(embedded)))]
    weights = [score / sum(scores) for score in scores]
    transformed = [plain_grn({name: each[f] for name, each in transform.items()}, embedded[f]) for f in range(features)]
    width = len(transformed[0])
    return [sum(weights[f] * transformed[f][d] for f in range(features)) for d in range(width)], weights


def test_the_layer_equals_its_equations_bar_by_bar(selection):
    x = bars()
    selected, weights = selection(x)
    for order, bar in product(range(2), range(6)):
        expected, expected_weights = plain_selection(selection, x[order, bar].tolist())
        assert selected[order, bar].tolist() == pytest.approx(expected, abs=1e-10)
        assert weights[order, bar].tolist() == pytest.approx(expected_weights, abs=1e-12)


def test_the_gradients_of_the_layer_are_those_of_finite_differences():
    torch.manual_seed(2)
    layer = VariableSelection(features=3, embedding=2, width=2).double()
    names, weights = zip(*layer.named_parameters(), strict=True)

    def answer(x: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(answer, (bars(1, 2)[..., :3].requires_grad_(), *weights))


def test_a_feature_is_transformed_without_regard_to_the_others(selection):
    x = bars()
    other = x.clone()
    other[..., 1:] += 5

    def transformed(values: torch.Tensor) -> torch.Tensor:
        return selection.transform(values[..., None] * selection.embedding_scale + selection.embedding_shift)

    assert torch.equal(transformed(x)[:, :, 0], transformed(other)[:, :, 0])
    assert not torch.allclose(transformed(x)[:, :, 1], transformed(other)[:, :, 1])


def test_a_bar_is_selected_without_regard_to_other_bars(selection):
    x = bars()
    other = x.clone()
    other[:, 3] += 5
    selected, changed = selection(x)[0], selection(other)[0]
    assert torch.equal(selected[:, :3], changed[:, :3])
    assert torch.equal(selected[:, 4:], changed[:, 4:])
    assert not torch.equal(selected[:, 3], changed[:, 3])


@pytest.mark.parametrize("rows", [1, 5, 100])
def test_the_size_of_a_block_changes_nothing(selection, monkeypatch, rows):
    x = bars()
    selected, weights = selection(x)
    monkeypatch.setattr(variable_selection, "_BLOCK", rows * 4 * 5)
    in_blocks, same_weights = selection(x)
    assert torch.allclose(in_blocks, selected, atol=1e-13)
    assert torch.equal(same_weights, weights)


def test_the_gradients_of_the_selection_are_those_of_finite_differences(selection, monkeypatch):
    monkeypatch.setattr(variable_selection, "_BLOCK", 2 * 4 * 5)
    x = bars(1, 3)
    assert torch.autograd.gradcheck(selection, (x.clone().requires_grad_(),))
    names, weights = zip(*selection.named_parameters(), strict=True)

    def of_weights(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(selection, dict(zip(names, values, strict=True)), (x,))[0]

    assert torch.autograd.gradcheck(of_weights, weights)
