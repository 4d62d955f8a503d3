"""The two recurrences of a TKAN layer as scans over time, with backward passes written by hand.

Autograd would take a small product per step for the gradient of each weight, and would keep every intermediate value.
Here the loops hold only what depends on the step before; all else is taken over all steps at once, the gradient of a
weight as one product. Time is the first axis, so that a step is one block of memory.

Under autocast the products in the loops are taken in its precision, states and gates in that of the weights.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lem_models.layers.kan import N_SPLINES, SplineRows


def gated_scan(gates: Tensor, output_gate: Tensor, weight: Tensor) -> Tensor:
    """Scan an LSTM cell whose output gate o is known beforehand.

    ``(i, f, g) = (sigmoid, sigmoid, tanh)(a_t + W h_{t−1})``, ``c_t = f ⊙ c_{t−1} + i ⊙ g``, ``h_t = o_t ⊙ tanh(c_t)``.

    Args:
        gates: What the gates see of the input, a; (T, B, 3 D).
        output_gate: o; (T, B, D).
        weight: W; (3 D, D).

    Returns:
        h; (T, B, D).
    """
    dtype, product_weight = weight.dtype, _for_products(weight)
    with torch.autocast(weight.device.type, enabled=False):
        h: Tensor = GatedScan.apply(gates.to(dtype), output_gate.to(dtype), product_weight)  # type: ignore[no-untyped-call]
    return h


def kan_scan(
    inputs: Tensor,
    from_state: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight: Tensor,
    bias: Tensor,
    keep_new: Tensor,
    keep_old: Tensor,
) -> Tensor:
    """Scan a KAN layer with a recurrent state of its own.

    ``u_t = a_t + W s_{t−1}``, ``v_t = LayerNorm(u_t)``, ``φ_t = (relu(v_t), B(v_t))``, ``y_t = φ_t A + b``,
    ``s_t = k_h ⊙ y_t + k_x ⊙ s_{t−1}``.

    Args:
        inputs: What the layer sees of the input, a; (T, B, D).
        from_state: W; (D, D).
        scale: Of the layer norm; (D,).
        shift: Of the layer norm; (D,).
        weight: A, as ``KANLayer.stacked_weight`` gives it; (7 D, D).
        bias: b; (D,).
        keep_new: k_h; (D,).
        keep_old: k_x; (D,).

    Returns:
        y; (T, B, D).
    """
    products = _for_products(from_state), _for_products(weight)
    with torch.autocast(weight.device.type, enabled=False):
        y: Tensor = KANScan.apply(  # type: ignore[no-untyped-call]
            inputs.to(keep_new.dtype), products[0], scale, shift, products[1], bias, keep_new, keep_old
        )
    return y


class GatedScan(torch.autograd.Function):
    """:func:`gated_scan` and its gradients.

    With δ the gradient by what stands behind it, h̄ that of the answer, and ``⊙`` left out:

        δh_t = h̄_t + Wᵀ δa_{t+1}
        δc_t = δh_t o_t (1 − tanh²c_t) + δc_{t+1} f_{t+1}
        δa_t = δc_t (g i (1 − i), c_{t−1} f (1 − f), i (1 − g²))
        δo_t = δh_t tanh(c_t)
        δW = Σ δa_t h_{t−1}ᵀ
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, output_gate: Tensor, weight: Tensor) -> Tensor:
        """Scan, and keep what the gradients need."""
        steps, batch, width = output_gate.shape
        gates = gates.clone(memory_format=torch.contiguous_format)
        c, tanh_c, h = output_gate.new_empty(3, steps, batch, width).unbind()
        for t in range(steps):
            if t:
                _add_product(gates[t], h[t - 1], weight.T)
            gates[t, :, : 2 * width].sigmoid_()
            gates[t, :, 2 * width :].tanh_()
            i, f, g = gates[t].chunk(3, dim=-1)
            torch.mul(i, g, out=c[t])
            if t:
                c[t].addcmul_(f, c[t - 1])
            torch.tanh(c[t], out=tanh_c[t])
            torch.mul(output_gate[t], tanh_c[t], out=h[t])
        ctx.save_for_backward(gates, output_gate, weight, c, tanh_c, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by gates, output gate and weight."""
        gates, output_gate, weight, c, tanh_c, h = ctx.saved_tensors
        steps, batch = h.shape[:2]
        i, f, g = gates.chunk(3, dim=-1)
        before = torch.cat([torch.zeros_like(c[:1]), c[:-1]])
        slope = torch.stack([g * i * (1 - i), before * f * (1 - f), i * (1 - g * g)], dim=2)  # of c by a; (T, B, 3, D)
        through_tanh = output_gate * (1 - tanh_c * tanh_c)
        grad_h = grad_h.clone(memory_format=torch.contiguous_format)
        grad_gates = torch.empty_like(slope)
        grad_c = torch.zeros_like(c[0])
        for t in reversed(range(steps)):
            grad_c.addcmul_(grad_h[t], through_tanh[t])
            torch.mul(grad_c[:, None], slope[t], out=grad_gates[t])
            if t:
                _add_product(grad_h[t - 1], grad_gates[t].view(batch, -1), weight)
                grad_c.mul_(f[t])
        grad_gates = grad_gates.view_as(gates)
        return grad_gates, grad_h * tanh_c, _summed_product(grad_gates[1:], h[:-1], weight.dtype)


class KANScan(torch.autograd.Function):
    """:func:`kan_scan` and its gradients.

    With δ the gradient by what stands behind it, ȳ that of the answer, and ``⊙`` left out:

        δy_t = ȳ_t + k_h δs_t
        δv_t = Σ_k (A δy_t)_k φ'_k(v_t)
        δa_t = δu_t = δv_t through the layer norm
        δs_{t−1} = k_x δs_t + Wᵀ δu_t
        δA = Σ φ_tᵀ δy_t,  δb = Σ δy_t,  δW = Σ δu_t s_{t−1}ᵀ,  δk_h = Σ δs_t y_t,  δk_x = Σ δs_t s_{t−1}
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        from_state: Tensor,
        scale: Tensor,
        shift: Tensor,
        weight: Tensor,
        bias: Tensor,
        keep_new: Tensor,
        keep_old: Tensor,
    ) -> Tensor:
        """Scan, and keep what the gradients need."""
        steps, batch, width = inputs.shape
        kept = steps if any(ctx.needs_input_grad) else 1
        basis = weight.new_empty(kept, batch, 1 + N_SPLINES, width)
        u = inputs.clone(memory_format=torch.contiguous_format)
        v, y = inputs.new_empty(2, steps, batch, width).unbind()
        mean, rstd = inputs.new_empty(2, steps, batch, 1).unbind()
        states = inputs.new_zeros(1 + steps, batch, width)  # s before each step, and after the last
        splines = SplineRows(v[0])
        for t in range(steps):
            if t:
                _add_product(u[t], states[t], from_state.T)
            v[t], mean[t], rstd[t] = torch.native_layer_norm(u[t], (width,), scale, shift, 1e-5)
            phi = basis[t % kept]
            phi[:, 0] = v[t].relu()
            splines.values(v[t], out=phi[:, 1:])
            y[t] = bias
            _add_product(y[t], phi.view(batch, -1), weight)
            torch.mul(keep_new, y[t], out=states[t + 1])
            states[t + 1].addcmul_(keep_old, states[t])
        ctx.save_for_backward(from_state, scale, shift, weight, keep_new, keep_old, u, v, mean, rstd, basis, y, states)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, ...]:
        """Gradients by inputs and weights."""
        from_state, scale, shift, weight, keep_new, keep_old, u, v, mean, rstd, basis, y, states = ctx.saved_tensors
        steps, batch, width = u.shape
        to_basis = weight.T.contiguous()
        grad_y = grad_y.clone(memory_format=torch.contiguous_format)
        grad_u, grad_v, grad_s = torch.zeros_like(torch.stack([u, u, u])).unbind()  # grad_s: after each step
        slopes, grad_basis = u.new_empty(2, batch, 1 + N_SPLINES, width).unbind()
        splines = SplineRows(v[0])
        for t in reversed(range(steps)):
            grad_y[t].addcmul_(keep_new, grad_s[t])
            slopes[:, 0] = v[t] > 0
            splines.slopes(v[t], out=slopes[:, 1:])
            _product(grad_y[t], to_basis, out=grad_basis.view(batch, -1))
            torch.sum(slopes.mul_(grad_basis), dim=1, out=grad_v[t])
            grad_u[t] = torch.ops.aten.native_layer_norm_backward(
                grad_v[t], u[t], (width,), mean[t], rstd[t], scale, shift, (True, False, False)
            )[0]
            if t:
                torch.mul(keep_old, grad_s[t], out=grad_s[t - 1])
                _add_product(grad_s[t - 1], grad_u[t], from_state)
        return (
            grad_u,
            _summed_product(grad_u, states[:-1], from_state.dtype),
            (grad_v * (u - mean) * rstd).sum((0, 1)),
            grad_v.sum((0, 1)),
            _summed_product(basis.flatten(2), grad_y, weight.dtype),
            grad_y.sum((0, 1)),
            (grad_s * y).sum((0, 1)),
            (grad_s * states[:-1]).sum((0, 1)),
        )


def _for_products(weight: Tensor) -> Tensor:
    device = weight.device.type
    return weight.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else weight


def _product(rows: Tensor, matrix: Tensor, out: Tensor) -> None:
    """``out = rows @ matrix`` in the precision of the matrix."""
    if rows.dtype == matrix.dtype == out.dtype:
        torch.mm(rows, matrix, out=out)
    else:
        out.copy_(rows.to(matrix.dtype) @ matrix)


def _add_product(total: Tensor, rows: Tensor, matrix: Tensor) -> None:
    """``total += rows @ matrix``, the product in the precision of the matrix."""
    if rows.dtype == matrix.dtype == total.dtype:
        torch.addmm(total, rows, matrix, out=total)
    else:
        total += rows.to(matrix.dtype) @ matrix


def _summed_product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Σ leftᵀ right over steps and orders, as one product."""
    return left.flatten(0, 1).to(dtype).T @ right.flatten(0, 1).to(dtype)
