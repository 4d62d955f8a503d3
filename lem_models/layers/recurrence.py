"""What can stand where the TKAN stands: torch's own recurrences, or none and a sense of place."""

import torch
from torch import Tensor, nn


class TorchRecurrence(nn.Module):
    """An LSTM or a GRU of torch that answers with its outputs alone.

    Args:
        cells: The recurrence, batch first.
    """

    def __init__(self, cells: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """Scan (B, T, D) into (B, T, D)."""
        outputs: Tensor = self.cells(x)[0]
        return outputs


class Positions(nn.Module):
    """Adds a learned vector to each row of a window.

    Attention weighs bars by what they hold: without a recurrence it could not tell the last bar from one of last week.

    Args:
        rows: Rows of a window, T.
        width: Width of each, D.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(rows, width) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        return x + self.place
