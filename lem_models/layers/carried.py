"""TKAN layers on a window that fills up row by row: what was scanned is not scanned again.

Products with the input are taken over the whole window as ever, and each step of a scan is the same operations on the
same shapes, from places in memory as well aligned (products of other alignment differ in their last bits): answers are
those of the plain layers to the last bit. For inference alone, and for one window at a time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lem_models.layers.kan import N_SPLINES, SplineRows
from lem_models.layers.tkan import TKAN


class CarriedRecurrence:
    """What carries the past from bar to bar, run on one window again and again as its rows become known.

    Rows that have changed are noticed, and scanned anew with all that follow. Recurrences other than TKAN layers are
    run whole.

    Args:
        recur: Of a LEM whose weights stay.
    """

    def __init__(self, recur: nn.Module) -> None:
        self.recur = recur
        self.known = 0
        layers = recur if isinstance(recur, nn.Sequential) else ()
        self.layers = [(layer, _Scans(layer, self)) for layer in layers if isinstance(layer, TKAN)]

    def __call__(self, x: Tensor, known: int) -> Tensor:
        """Scan (1, T, D) into (1, T, D).

        Args:
            x: The window.
            known: Its first rows, which are known; what is answered for the others has no meaning.
        """
        self.known = known
        if not self.layers:
            whole: Tensor = self.recur(x)
            return whole
        for layer, scans in self.layers:
            x = layer(x, scans.kan, scans.gated)
        return x


class _Scans:
    """The scans of one layer."""

    def __init__(self, layer: TKAN, owner: CarriedRecurrence) -> None:
        self.kan: Sequence[_KANScan] = [_KANScan(owner) for _ in layer.memories]
        self.gated = _GatedScan(owner)


class _Carried:
    """Remembers what it was given row by row, and where that has changed."""

    def __init__(self, owner: CarriedRecurrence) -> None:
        self.owner = owner
        self.given: Tensor | None = None
        self.scanned = 0

    def rows_to_scan(self, given: Tensor) -> range:
        """The rows up to the last known one that are new, or follow one that is; ``given`` is (T, 1, ...)."""
        first = 0
        if self.given is not None and self.given.shape == given.shape:
            same = (self.given[: self.scanned] == given[: self.scanned]).flatten(1).all(1)
            first = int(same.long().cumprod(0).sum())
        self.given, self.scanned = given.clone(), self.owner.known
        return range(min(first, self.owner.known), self.owner.known)


class _GatedScan(_Carried):
    """As :func:`~lem_models.layers.scans.gated_scan`."""

    def __call__(self, gates: Tensor, output_gate: Tensor, weight: Tensor) -> Tensor:
        rows = self.rows_to_scan(torch.cat([gates, output_gate], dim=-1))
        width = output_gate.shape[-1]
        if rows.start == 0:
            self.c, _, self.h = output_gate.new_zeros(3, *output_gate.shape).unbind()
        gates = gates.contiguous().clone()
        a, c, h, o = (each.unbind() for each in (gates, self.c, self.h, output_gate))
        switches, candidates = gates[..., : 2 * width].unbind(), gates[..., 2 * width :].unbind()
        i, f = gates[..., :width].unbind(), gates[..., width : 2 * width].unbind()
        to_gates, tanh_c = weight.T, torch.empty_like(h[0])
        for t in rows:  # views made beforehand: making them would take longer than what is done to them
            if t:
                torch.addmm(a[t], h[t - 1], to_gates, out=a[t])
            switches[t].sigmoid_()
            candidates[t].tanh_()
            torch.mul(i[t], candidates[t], out=c[t])
            if t:
                c[t].addcmul_(f[t], c[t - 1])
            torch.tanh(c[t], out=tanh_c)
            torch.mul(o[t], tanh_c, out=h[t])
        return self.h.clone()


class _KANScan(_Carried):
    """As :func:`~lem_models.layers.scans.kan_scan`."""

    def __call__(
        self,
        inputs: Tensor,
        from_state: Tensor,
        scale: Tensor,
        shift: Tensor,
        weight: Tensor,
        bias: Tensor,
        keep_new: Tensor,
        keep_old: Tensor,
    ) -> Tensor:
        rows, (steps, batch, width) = self.rows_to_scan(inputs), inputs.shape
        if rows.start == 0:
            _, self.y = inputs.new_zeros(2, *inputs.shape).unbind()
            self.states = inputs.new_zeros(1 + steps, batch, width)
        u, y, states = inputs.contiguous().clone().unbind(), self.y.unbind(), self.states.unbind()
        phi = inputs.new_empty(batch, 1 + N_SPLINES, width)
        base, splines, basis = phi[:, 0], phi[:, 1:], phi.view(batch, -1)
        rows_of_splines, to_inputs = SplineRows(inputs[0]), from_state.T
        for t in rows:
            if t:
                torch.addmm(u[t], states[t], to_inputs, out=u[t])
            v = torch.native_layer_norm(u[t], (width,), scale, shift, 1e-5)[0]
            torch.clamp_min(v, 0, out=base)
            rows_of_splines.values(v, out=splines)
            y[t].copy_(bias)
            torch.addmm(y[t], basis, weight, out=y[t])
            torch.mul(keep_new, y[t], out=states[t + 1])
            states[t + 1].addcmul_(keep_old, states[t])
        return self.y.clone()
