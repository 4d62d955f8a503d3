import math

import numpy as np
import pytest
import torch

from lem_models.layers.tkan import TKAN, KANMemory

KNOTS = [-3 + 2 / 3 * i for i in range(10)]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def spline(i: int, order: int, v: float) -> float:
    if order == 0:
        return float(KNOTS[i] <= v < KNOTS[i + 1])
    span = order * 2 / 3
    return (v - KNOTS[i]) / span * spline(i, order - 1, v) + (KNOTS[i + order + 1] - v) / span * spline(
        i + 1, order - 1, v
    )


def plain_memory(memory: KANMemory, x: np.ndarray) -> np.ndarray:
    """u = W_x x + W_s s, y = KAN(u), s = k_h y + k_x s, for the steps of one sequence (T, inputs)."""
    w = {name: value.detach().numpy() for name, value in memory.named_parameters()}
    width = len(w["keep_new"])
    s = [0.0] * width
    outputs = []
    for step in x:
        u = [
            sum(w["from_input.weight"][d, j] * step[j] for j in range(len(step)))
            + sum(w["from_state.weight"][d, j] * s[j] for j in range(width))
            for d in range(width)
        ]
        mean = sum(u) / width
        spread = math.sqrt(sum((each - mean) ** 2 for each in u) / width + 1e-5)
        v = [(u[d] - mean) / spread * w["kan.norm.weight"][d] + w["kan.norm.bias"][d] for d in range(width)]
        y = [
            w["kan.base.bias"][d]
            + sum(w["kan.base.weight"][d, j] * max(v[j], 0.0) for j in range(width))
            + sum(w["kan.spline"][d, 6 * j + k] * spline(k, 3, v[j]) for j in range(width) for k in range(6))
            for d in range(width)
        ]
        s = [w["keep_new"][d] * y[d] + w["keep_old"][d] * s[d] for d in range(width)]
        outputs.append(y)
    return np.array(outputs)


def plain_tkan(layer: TKAN, x: np.ndarray) -> np.ndarray:
    """The cell's equations, one scalar at a time, for one sequence (T, inputs)."""
    w = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    memories = np.concatenate([plain_memory(memory, x) for memory in layer.memories], axis=1)
    width = len(w["output_gate.bias"])
    h, c = [0.0] * width, [0.0] * width
    outputs = []
    for step, remembered in zip(x, memories, strict=True):

        def gate(number: int, d: int, x_t=step, h_t=h) -> float:
            row = number * width + d
            from_input = sum(w["gates_from_input.weight"][row, j] * x_t[j] for j in range(len(x_t)))
            from_state = sum(w["gates_from_state.weight"][row, j] * h_t[j] for j in range(width))
            return w["gates_from_input.bias"][row] + from_input + from_state

        c = [sigmoid(gate(1, d)) * c[d] + sigmoid(gate(0, d)) * math.tanh(gate(2, d)) for d in range(width)]
        o = [
            sigmoid(
                w["output_gate.bias"][d]
                + sum(w["output_gate.weight"][d, j] * remembered[j] for j in range(len(remembered)))
            )
            for d in range(width)
        ]
        h = [o[d] * math.tanh(c[d]) for d in range(width)]
        outputs.append(h)
    return np.array(outputs)


def lively(layer: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(0.7 * torch.randn(weight.shape, generator=generator))
    return layer.double()


def sequence(batch: int, length: int, inputs: int) -> torch.Tensor:
    return torch.randn(batch, length, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def assert_gradients_are_those_of_finite_differences(layer: TKAN, x: torch.Tensor, steps: slice, fast: bool) -> None:
    names, weights = zip(*layer.named_parameters(), strict=True)

    def answer(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))[:, steps]

    assert torch.autograd.gradcheck(answer, (x.clone().requires_grad_(), *weights), fast_mode=fast)
    # Where only the weights or only the inputs have a gradient.
    fixed = [weight.detach() for weight in weights]
    assert torch.autograd.gradcheck(lambda *values: answer(x, *values), weights, fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: answer(x, *fixed), (x.clone().requires_grad_(),), fast_mode=True)


def test_a_memory_equals_its_equations_step_by_step():
    memory = lively(KANMemory(3, 4))
    x = sequence(2, 6, 3)
    for order, answer in enumerate(memory(x).detach().numpy()):
        assert answer == pytest.approx(plain_memory(memory, x[order].numpy()), abs=1e-10)


@pytest.mark.parametrize(("memories", "memory_width"), [(1, 5), (1, None), (2, 5), (3, 2)])
@pytest.mark.parametrize("length", [1, 6, 20])
def test_the_layer_equals_its_equations_step_by_step(memories, memory_width, length):
    layer = lively(TKAN(3, 4, memories=memories, memory_width=memory_width))
    x = sequence(2, length, 3)
    for order, answer in enumerate(layer(x).detach().numpy()):
        assert answer == pytest.approx(plain_tkan(layer, x[order].numpy()), abs=1e-10)


def test_the_layer_equals_its_equations_where_a_memory_leaves_the_knots_of_its_splines():
    layer = lively(TKAN(3, 4, memories=2, memory_width=5))
    with torch.no_grad():
        for memory in layer.memories:
            memory.kan.norm.weight.mul_(5)
    x = sequence(2, 6, 3)
    for order, answer in enumerate(layer(x).detach().numpy()):
        assert answer == pytest.approx(plain_tkan(layer, x[order].numpy()), abs=1e-10)
    assert_gradients_are_those_of_finite_differences(layer, x, slice(None), fast=True)


def test_a_memory_is_as_wide_as_the_layer_unless_told_otherwise():
    assert TKAN(3, 4).memories[0].keep_new.shape == (4,)


def test_a_fresh_layer_remembers_rather_than_forgets():
    layer = TKAN(3, 4)
    assert (layer.gates_from_input.bias[4:8] == 1).all()


def test_the_layer_is_blind_to_later_steps():
    layer = lively(TKAN(3, 4))
    x = sequence(2, 6, 3)
    answer = layer(x)
    for step in range(6):
        other = x.clone()
        other[:, step] += 10
        changed = layer(other)
        assert torch.equal(changed[:, :step], answer[:, :step])
        assert not torch.equal(changed[:, step], answer[:, step])


@pytest.mark.parametrize("memories", [1, 2])
def test_the_gradients_of_the_layer_are_those_of_finite_differences(memories):
    layer = lively(TKAN(2, 2, memories=memories, memory_width=3))
    assert_gradients_are_those_of_finite_differences(layer, sequence(1, 3, 2), slice(None), fast=False)


def test_the_gradients_of_several_orders_and_many_steps_add_up():
    layer = lively(TKAN(2, 3, memories=3, memory_width=2))
    assert_gradients_are_those_of_finite_differences(layer, sequence(3, 12, 2), slice(None), fast=True)


def test_the_gradients_of_a_single_step_go_back_through_all_before_it():
    layer = lively(TKAN(2, 2, memories=2, memory_width=3))
    assert_gradients_are_those_of_finite_differences(layer, sequence(2, 5, 2), slice(3, 4), fast=True)


def test_the_gradients_of_a_sequence_that_lies_otherwise_in_memory_are_the_same():
    layer = lively(TKAN(3, 4, memories=2))
    x = sequence(2, 6, 3)
    transposed = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert not transposed.is_contiguous()
    gradients = []
    for each in (x, transposed):
        each = each.requires_grad_()
        weighed = layer(each) * sequence(2, 6, 4)
        gradients.append(torch.autograd.grad(weighed.sum(), [each, *layer.parameters()]))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)
        assert (one != 0).any()
