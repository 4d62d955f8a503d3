import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lem_models.layers.kan import KANLayer, SplineRows, cubic_b_splines
from lem_models.layers.scans import gated_scan, kan_scan

STEPS, BATCH, WIDTH = 7, 3, 4


def values(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def plain_gated_scan(gates: Tensor, output_gate: Tensor, weight: Tensor) -> Tensor:
    h = c = torch.zeros_like(output_gate[0])
    outputs = []
    for step, gate in zip(gates, output_gate, strict=True):
        i, f, candidate = (step + h @ weight.T).chunk(3, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(candidate)
        h = gate * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


def plain_kan_scan(
    inputs: Tensor,
    from_state: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight: Tensor,
    bias: Tensor,
    keep_new: Tensor,
    keep_old: Tensor,
) -> Tensor:
    state = torch.zeros_like(inputs[0])
    outputs = []
    for step in inputs:
        v = F.layer_norm(step + state @ from_state.T, scale.shape, scale, shift)
        basis = torch.cat([v.relu()[:, None], cubic_b_splines(v).transpose(1, 2)], dim=1)
        y = basis.flatten(1) @ weight + bias
        state = keep_new * y + keep_old * state
        outputs.append(y)
    return torch.stack(outputs)


def gated_arguments(seed: int = 0) -> tuple[Tensor, ...]:
    return (
        values(STEPS, BATCH, 3 * WIDTH, seed=seed),
        torch.sigmoid(values(STEPS, BATCH, WIDTH, seed=seed + 1)),
        values(3 * WIDTH, WIDTH, seed=seed + 2),
    )


def kan_arguments(seed: int = 0) -> tuple[Tensor, ...]:
    vectors = (values(WIDTH, seed=seed + each) for each in range(5))
    scale, shift, bias, keep_new, keep_old = vectors
    weight = values(7 * WIDTH, WIDTH, seed=seed + 6) / 3
    return (
        values(STEPS, BATCH, WIDTH, seed=seed + 7),
        values(WIDTH, WIDTH, seed=seed + 8),
        scale,
        shift,
        weight,
        bias,
        0.3 * keep_new,
        0.3 * keep_old,
    )


SCANS = pytest.mark.parametrize(
    ("scan", "plain", "arguments"),
    [(gated_scan, plain_gated_scan, gated_arguments), (kan_scan, plain_kan_scan, kan_arguments)],
    ids=["gated scan", "KAN scan"],
)


@SCANS
@pytest.mark.parametrize("seed", range(3))
def test_a_scan_equals_its_plain_loop_in_values_and_all_gradients(scan, plain, arguments, seed):
    inputs = [each.requires_grad_() for each in arguments(10 * seed)]
    ours, theirs = scan(*inputs), plain(*inputs)
    assert torch.allclose(ours, theirs, atol=1e-12, rtol=0)
    weight = values(*ours.shape, seed=99)
    for mine, plains in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((theirs * weight).sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(mine, plains, atol=1e-9, rtol=1e-9)


@SCANS
def test_the_gradients_of_a_scan_are_those_of_finite_differences(scan, plain, arguments):
    assert torch.autograd.gradcheck(scan, [each.requires_grad_() for each in arguments()])


@SCANS
def test_a_scan_without_gradients_answers_the_same_bits(scan, plain, arguments):
    inputs = [each.float() for each in arguments()]
    with torch.no_grad():
        answer = scan(*inputs)
    assert torch.equal(scan(*(each.clone().requires_grad_() for each in inputs)), answer)
    with torch.inference_mode():
        assert torch.equal(scan(*inputs), answer)


@SCANS
def test_a_scan_leaves_its_arguments_as_they_were(scan, plain, arguments):
    inputs = [each.requires_grad_() for each in arguments()]
    scan(*inputs).square().sum().backward()
    for given, fresh in zip(inputs, arguments(), strict=True):
        assert torch.equal(given, fresh)


@SCANS
def test_a_scan_reads_any_layout_of_memory(scan, plain, arguments):
    inputs = arguments()
    scattered = [each.transpose(0, 1).contiguous().transpose(0, 1) if each.ndim == 3 else each for each in inputs]
    assert not scattered[0].is_contiguous()
    for each in scattered:
        each.requires_grad_()
    answer = scan(*scattered)
    assert torch.equal(answer, scan(*inputs))
    spread = values(BATCH, STEPS, WIDTH).transpose(0, 1)  # a gradient that is not contiguous either
    mine = torch.autograd.grad(answer, scattered, spread)
    for each in inputs:
        each.requires_grad_()
    for one, other in zip(mine, torch.autograd.grad(scan(*inputs), inputs, spread.contiguous()), strict=True):
        assert torch.equal(one, other)


def test_spline_rows_are_the_splines_and_their_slopes():
    v = torch.linspace(-4, 4, 1003, dtype=torch.float64).view(17, 59).requires_grad_()
    splines, out = SplineRows(v), v.new_empty(17, 6, 59)
    with torch.no_grad():
        splines.values(v, out)
    plain = cubic_b_splines(v)
    assert torch.allclose(out, plain.transpose(1, 2), atol=1e-14)
    with torch.no_grad():
        splines.slopes(v, out)
    for each in range(6):
        (slope,) = torch.autograd.grad(plain[..., each].sum(), v, retain_graph=True)
        assert torch.allclose(out[:, each], slope, atol=1e-13)


def test_the_stacked_weight_of_a_kan_layer_gives_its_answer():
    torch.manual_seed(0)
    layer, v = KANLayer(5, 3).double(), values(4, 5)
    normed = layer.norm(v)
    basis = torch.cat([normed.relu()[:, None], cubic_b_splines(normed).transpose(1, 2)], dim=1)
    assert torch.allclose(basis.flatten(1) @ layer.stacked_weight() + layer.base.bias, layer(v), atol=1e-12)


@SCANS
def test_under_autocast_only_products_lose_precision(scan, plain, arguments):
    exact = [each.float().requires_grad_() for each in arguments()]
    rounded = [each.detach().clone().requires_grad_() for each in exact]
    with torch.autocast("cpu", torch.bfloat16):
        ours = scan(*rounded)
    theirs = scan(*exact)
    assert ours.dtype == torch.float32
    assert 0 < (ours - theirs).abs().max() < 0.1 * theirs.abs().max()
    weight = values(*ours.shape, seed=99).float()
    mine = torch.autograd.grad((ours * weight).sum(), rounded)
    for one, other in zip(mine, torch.autograd.grad((theirs * weight).sum(), exact), strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.1 * other.norm()
