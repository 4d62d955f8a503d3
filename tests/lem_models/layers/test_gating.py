import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from lem_models.layers.gating import GRN, Gate, GroupedLinear


def lively(layer: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return layer.double()


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


def plain_affine(weights: dict[str, np.ndarray], name: str, x: list[float]) -> list[float]:
    matrix, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return [bias[o] + sum(matrix[o, i] * x[i] for i in range(len(x))) for o in range(len(bias))]


def plain_gate(weights: dict[str, np.ndarray], name: str, x: list[float]) -> list[float]:
    both = plain_affine(weights, name, x)
    half = len(both) // 2
    return [both[o] / (1 + math.exp(-both[half + o])) for o in range(half)]


def weights_of(layer: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in layer.named_parameters()}


def weights_of_group(layer: nn.Module, group: int) -> dict[str, np.ndarray]:
    """Those of one group; a grouped map is stored (inputs, outputs), a plain one (outputs, inputs)."""
    return {name: value[group].T for name, value in weights_of(layer).items()}


def plain_grn(weights: dict[str, np.ndarray], x: list[float]) -> list[float]:
    """layer norm of skip + gate(affine(elu(affine(x)))), one scalar at a time."""
    inner = [z if z > 0 else math.exp(z) - 1 for z in plain_affine(weights, "inner", x)]
    gated = plain_gate(weights, "gate.affine", plain_affine(weights, "outer", inner))
    total = [s + g for s, g in zip(plain_affine(weights, "skip", x), gated, strict=True)]
    mean = sum(total) / len(total)
    spread = math.sqrt(sum((each - mean) ** 2 for each in total) / len(total) + 1e-5)
    scale, shift = weights["scale"], weights["shift"]
    return [(each - mean) / spread * scale[o] + shift[o] for o, each in enumerate(total)]


def test_a_gate_is_an_affine_map_times_the_sigmoid_of_another():
    gate = lively(Gate(3, 2))
    x = rows(4, 3)
    for row, answer in zip(x.tolist(), gate(x).tolist(), strict=True):
        assert answer == pytest.approx(plain_gate(weights_of(gate), "affine", row), abs=1e-12)


def test_a_grouped_gate_equals_its_equations_group_by_group():
    gate = lively(Gate(3, 2, groups=4))
    x = rows(2, 5, 4, 3)
    answer = gate(x)
    for order, bar, group in product(range(2), range(5), range(4)):
        expected = plain_gate(weights_of_group(gate, group), "affine", x[order, bar, group].tolist())
        assert answer[order, bar, group].tolist() == pytest.approx(expected, abs=1e-12)


def test_a_gated_residual_network_equals_its_equations():
    layer = lively(GRN(3, 4))
    x = rows(5, 3)
    for row, answer in zip(x.tolist(), layer(x).tolist(), strict=True):
        assert answer == pytest.approx(plain_grn(weights_of(layer), row), abs=1e-10)


def test_a_grouped_residual_network_equals_its_equations_group_by_group():
    layer = lively(GRN(3, 4, groups=5))
    x = rows(2, 6, 5, 3)
    answer = layer(x)
    for order, bar, group in product(range(2), range(6), range(5)):
        expected = plain_grn(weights_of_group(layer, group), x[order, bar, group].tolist())
        assert answer[order, bar, group].tolist() == pytest.approx(expected, abs=1e-10)


def test_a_grouped_affine_map_equals_one_map_per_group():
    layer = lively(GroupedLinear(3, 4, 2))
    x = rows(2, 5, 3, 4)
    answer = layer(x)
    for group in range(3):
        assert torch.allclose(answer[:, :, group], x[:, :, group] @ layer.weight[group] + layer.bias[group])


def test_the_groups_of_a_fresh_map_start_from_different_kernels():
    weight = GroupedLinear(4, 3, 3).weight
    for one in range(4):
        for other in range(one):
            assert not torch.equal(weight[one], weight[other])


def test_a_grouped_map_of_scalars_has_a_slope_and_an_offset():
    layer = lively(GroupedLinear(3, 4, 2))
    scale, shift, x = rows(3, 4), rows(2, 3, 4)[1], rows(5, 3, 1)
    slope, offset = layer.of_scalars(scale, shift)
    assert torch.allclose(x * slope[:, 0] + offset[:, 0], layer(x * scale + shift), atol=1e-12)


def test_a_grouped_map_after_another_is_one_map():
    first, second = lively(GroupedLinear(3, 4, 5), seed=1), lively(GroupedLinear(3, 5, 2), seed=2)
    weight, bias = second.after(first)
    x = rows(6, 3, 4)
    assert torch.allclose(torch.einsum("rgi,gio->rgo", x, weight) + bias[:, 0], second(first(x)), atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Gate(2, 3), (4, 2)),
        (Gate(2, 3, groups=2), (3, 2, 2)),
        (GRN(2, 3), (4, 2)),
        (GRN(2, 3, groups=2), (2, 2, 2)),
        (GroupedLinear(3, 2, 2), (2, 3, 2)),
    ],
    ids=["gate", "grouped gate", "residual network", "grouped residual network", "grouped affine map"],
)
def test_gradients_are_those_of_finite_differences(layer, shape):
    layer = lively(layer)
    names, weights = zip(*layer.named_parameters(), strict=True)

    def answer(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(answer, (rows(*shape).requires_grad_(), *weights))
