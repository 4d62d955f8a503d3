"""The Temporal Kolmogorov-Arnold recurrent layer (TKAN, arXiv 2405.07344)."""

import torch
from torch import Tensor, nn

from lem_models.layers.kan import KANLayer


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

    def forward(self, x: Tensor) -> Tensor:
        """Scan (B, T, inputs) into the outputs y, (B, T, width)."""
        projected = self.from_input(x)
        state = projected.new_zeros(x.shape[0], projected.shape[-1])
        outputs = []
        for step in projected.unbind(1):
            y = self.kan(step + self.from_state(state))
            state = self.keep_new * y + self.keep_old * state
            outputs.append(y)
        return torch.stack(outputs, dim=1)


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

    def forward(self, x: Tensor) -> Tensor:
        """Scan (B, T, inputs) into h, (B, T, width)."""
        output_gate = torch.sigmoid(self.output_gate(torch.cat([m(x) for m in self.memories], dim=-1)))
        h = c = torch.zeros_like(output_gate[:, 0])
        outputs = []
        for from_input, gate in zip(self.gates_from_input(x).unbind(1), output_gate.unbind(1), strict=True):
            i, f, candidate = (from_input + self.gates_from_state(h)).chunk(3, dim=-1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(candidate)
            h = gate * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs, dim=1)
