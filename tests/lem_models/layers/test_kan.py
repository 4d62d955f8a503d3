import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lem_models.layers.kan import N_SPLINES, KANLayer, cubic_b_splines

KNOTS = [-3 + 2 / 3 * i for i in range(10)]


def cox_de_boor(i: int, order: int, v: float) -> float:
    """The i-th B-spline of an order on KNOTS, by the textbook's recursion."""
    if order == 0:
        return float(KNOTS[i] <= v < KNOTS[i + 1])
    left = (v - KNOTS[i]) / (KNOTS[i + order] - KNOTS[i]) * cox_de_boor(i, order - 1, v)
    right = (KNOTS[i + order + 1] - v) / (KNOTS[i + order + 1] - KNOTS[i + 1]) * cox_de_boor(i + 1, order - 1, v)
    return left + right


@given(st.floats(-4, 4))
def test_the_splines_are_those_of_the_recursion_over_orders(v):
    splines = cubic_b_splines(torch.tensor(v, dtype=torch.float64)).tolist()
    assert splines == pytest.approx([cox_de_boor(i, 3, v) for i in range(6)], abs=1e-12)


def test_the_splines_add_up_to_one_on_the_grid_and_vanish_outside_the_knots():
    inside = cubic_b_splines(torch.linspace(-1, 1, 201, dtype=torch.float64))
    assert inside.shape == (201, N_SPLINES)
    assert torch.allclose(inside.sum(-1), torch.ones(201, dtype=torch.float64), atol=1e-12)
    assert (inside >= 0).all()
    assert (cubic_b_splines(torch.tensor([-1e6, -3.0, 3.0, 50.0])).abs() < 1e-6).all()


def lively_layer(inputs: int, outputs: int) -> KANLayer:
    torch.manual_seed(3)
    layer = KANLayer(inputs, outputs).double()
    with torch.no_grad():
        for weight in layer.parameters():
            weight.normal_()
    return layer


def plain_kan(layer: KANLayer, v: np.ndarray) -> np.ndarray:
    """One vector through ``relu(v̂) W_b + b + B(v̂) W_s``, edge by edge."""
    weights = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    inputs, outputs = len(v), len(weights["base.bias"])
    spread = np.sqrt(np.mean((v - v.mean()) ** 2) + 1e-5)
    normed = [(v[i] - v.mean()) / spread * weights["norm.weight"][i] + weights["norm.bias"][i] for i in range(inputs)]
    answer = np.array(weights["base.bias"], dtype=np.float64)
    for out in range(outputs):
        for i in range(inputs):
            answer[out] += max(normed[i], 0.0) * weights["base.weight"][out, i]
            for k in range(6):
                answer[out] += cox_de_boor(k, 3, normed[i]) * weights["spline"][out, i * 6 + k]
    return answer


def stretch(layer: KANLayer, by: float) -> KANLayer:
    """Scale what the splines see; from about 5 on, some of it lies beyond all knots."""
    with torch.no_grad():
        layer.norm.weight.mul_(by)
    return layer


@pytest.mark.parametrize("by", [1.0, 5.0])
def test_the_layer_equals_its_equations_edge_by_edge(by):
    layer = stretch(lively_layer(4, 3), by)
    v = torch.randn(5, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    answer = layer(v).detach().numpy()
    for row in range(5):
        for column in range(2):
            assert answer[row, column] == pytest.approx(plain_kan(layer, v[row, column].numpy()), abs=1e-10)


@pytest.mark.parametrize("by", [1.0, 5.0])
def test_the_gradients_of_the_layer_are_those_of_finite_differences(by):
    layer = stretch(lively_layer(3, 2), by)
    v = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(layer, (v,))
    names, weights = zip(*layer.named_parameters(), strict=True)

    def of_weights(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (v.detach(),))

    assert torch.autograd.gradcheck(of_weights, weights)
