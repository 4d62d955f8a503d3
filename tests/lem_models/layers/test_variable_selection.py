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
