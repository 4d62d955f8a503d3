"""The Temporal Kolmogorov-Arnold recurrent layer (TKAN, arXiv 2405.07344)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lem_models.layers.kan import KANLayer
from lem_models.layers.scans import gated_scan, kan_scan

Scan = Callable[..., Tensor]


class KANMemory(nn.Module):
    """A KAN layer with a recurrent state of its own.

    ``u_t = W_x x_t + W_s s_{t−1}``, ``y_t = KAN(u_t)``, ``s_t = k_h ⊙ y_t + k_x ⊙ s_{t−1}``.

    Args:
        inputs: Width of x.
        width: Width of u, y and s.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.from_input = nn.Linear(inputs, width, bias=False)
        self.from_state = nn.Linear(width, width, bias=False)
        self.kan = KANLayer(width, width)
        self.keep_new = nn.Parameter(torch.full((width,), 0.5))
        self.keep_old = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor, scan: Scan = kan_scan) -> Tensor:
        """Scan (B, T, inputs) into the outputs y, (B, T, width)."""
        kan = self.kan
        y = scan(
            self.from_input(x.transpose(0, 1)),
            self.from_state.weight,
            kan.norm.weight,
            kan.norm.bias,
            kan.stacked_weight(),
            kan.base.bias,
            self.keep_new,
            self.keep_old,
        )
        return y.transpose(0, 1)


class TKAN(nn.Module):
    """An LSTM-like cell whose output gate is read from KAN memories.

    Input, forget and candidate gates see ``(x_t, h_{t−1})``; the output gate sees the KAN memories alone, which do
    not depend on h. So the memories are scanned first, and all products with x are taken out of both time loops.

    Args:
        inputs: Width of x.
        width: Width of h.
        memories: Number of KAN memories.
        memory_width: Width of each.
    """

    def __init__(self, inputs: int, width: int, memories: int = 1, memory_width: int | None = None) -> None:
        super().__init__()
        memory_width = memory_width or width
        self.memories = nn.ModuleList(KANMemory(inputs, memory_width) for _ in range(memories))
        self.output_gate = nn.Linear(memories * memory_width, width)
        self.gates_from_input = nn.Linear(inputs, 3 * width)
        self.gates_from_state = nn.Linear(width, 3 * width, bias=False)
        nn.init.ones_(self.gates_from_input.bias[width : 2 * width])  # remember by default

    def forward(self, x: Tensor, kan: Sequence[Scan] | None = None, gated: Scan = gated_scan) -> Tensor:
        """Scan (B, T, inputs) into h, (B, T, width).

        Args:
            x: What is scanned.
            kan: How, in each memory; ``kan_scan`` unless said otherwise.
            gated: How, in the cell.
        """
        scans = kan or [kan_scan] * len(self.memories)
        outputs = [memory(x, scan) for memory, scan in zip(self.memories, scans, strict=True)]
        output_gate = torch.sigmoid(self.output_gate(torch.cat(outputs, dim=-1)))
        h = gated(self.gates_from_input(x.transpose(0, 1)), output_gate.transpose(0, 1), self.gates_from_state.weight)
        return h.transpose(0, 1)
