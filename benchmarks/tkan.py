"""A TKAN layer against recurrent layers of the same width: passes per second, forward and training step, in turns.

The baselines are an LSTM and the TKAN itself, both as plain loops of torch operations under autograd, and torch's own
LSTM and GRU, which are one fused operation. A TKAN does twice an LSTM's arithmetic: per step 16 D² products, an LSTM 8.
All run on one thread, as training does by default.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import report, seconds_in_turns
from lem_models.layers.tkan import TKAN, KANMemory

BATCH, STEPS, WIDTH = 64, 131, 200
AIMS = {"a plain loop": 1, "an LSTM in a plain loop": 1 / 3, "torch's LSTM": 1 / 6, "torch's GRU": 1 / 8}


class PlainLSTM(nn.Module):
    """An LSTM as a loop, its products with the input taken out."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.gates_from_input = nn.Linear(inputs, 4 * width)
        self.gates_from_state = nn.Linear(width, 4 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scan (B, T, inputs) into h, (B, T, width)."""
        h = c = x.new_zeros(x.shape[0], self.gates_from_state.in_features)
        outputs = []
        for from_input in self.gates_from_input(x).unbind(1):
            i, f, candidate, o = (from_input + self.gates_from_state(h)).chunk(4, dim=-1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(candidate)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs, dim=1)


def plain_memory(memory: KANMemory, x: Tensor) -> Tensor:
    projected = memory.from_input(x)
    state = torch.zeros_like(projected[:, 0])
    outputs = []
    for step in projected.unbind(1):
        y = memory.kan(step + memory.from_state(state))
        state = memory.keep_new * y + memory.keep_old * state
        outputs.append(y)
    return torch.stack(outputs, dim=1)


def plain_tkan(layer: TKAN, x: Tensor) -> Tensor:
    """The layer's equations, step by step."""
    output_gate = torch.sigmoid(layer.output_gate(torch.cat([plain_memory(m, x) for m in layer.memories], dim=-1)))
    h = c = torch.zeros_like(output_gate[:, 0])
    outputs = []
    for from_input, gate in zip(layer.gates_from_input(x).unbind(1), output_gate.unbind(1), strict=True):
        i, f, candidate = (from_input + layer.gates_from_state(h)).chunk(3, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(candidate)
        h = gate * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs, dim=1)


def assert_agree(layer: TKAN, x: Tensor) -> None:
    """Raise an AssertionError where scan and plain loop differ, in values or in gradients."""
    grad = torch.randn_like(layer(x))
    inputs = [x, *layer.parameters()]
    ours, theirs = layer(x), plain_tkan(layer, x)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    for mine, plain in zip(
        torch.autograd.grad(ours, inputs, grad), torch.autograd.grad(theirs, inputs, grad), strict=True
    ):
        torch.testing.assert_close(mine, plain, atol=1e-3 * float(plain.abs().max()), rtol=1e-3)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(BATCH, STEPS, WIDTH, requires_grad=True)
    ours, plain = TKAN(WIDTH, WIDTH), PlainLSTM(WIDTH, WIDTH)
    lstm, gru = (kind(WIDTH, WIDTH, batch_first=True) for kind in (nn.LSTM, nn.GRU))
    assert_agree(ours, x)
    layers: list[Callable[[Tensor], Tensor]] = [
        ours,
        lambda x: plain_tkan(ours, x),
        plain,
        lambda x: lstm(x)[0],
        lambda x: gru(x)[0],
    ]

    def forward(layer: Callable[[Tensor], Tensor]) -> None:
        with torch.no_grad():
            layer(x)

    for name, work in (("forward", forward), ("training steps", lambda layer: layer(x).sum().backward())):
        taken = seconds_in_turns([lambda layer=layer, work=work: work(layer) for layer in layers])
        own, *others = (round(1 / each, 2) for each in taken)
        for (baseline, aim), rate in zip(AIMS.items(), others, strict=True):
            report(f"tkan: {name} per second over those of {baseline}", own, rate, round(aim, 3))


if __name__ == "__main__":
    main()
