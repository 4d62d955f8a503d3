"""A batch that several processes hold together: who takes which windows, and what all of them hold.

Each process is one rank of a world, as torch.distributed says; a process by itself is the whole world.
"""

import os

import torch
from torch import Tensor


def launched() -> bool:
    """Whether this process was started as one of several, by ``torchrun`` or by :func:`lem_models.launch.in_processes`.

    A world of one counts, too: what launched it has said where it belongs.
    """
    return torch.distributed.is_torchelastic_launched()


def world_size() -> int:
    """Processes that train together, on all machines."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def rank() -> int:
    """The number of this process among them."""
    return int(os.environ["RANK"]) if launched() else 0


def on_this_machine() -> int:
    """Those of them that run on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if launched() else 1


def share(rows: Tensor, rank: int, world_size: int) -> Tensor:
    """The windows of a batch that a rank takes: neighbours, and as many as any other or one more.

    Example:
        >>> [share(torch.arange(5), rank, 2).tolist() for rank in range(2)]
        [[0, 1, 2], [3, 4]]
    """
    return torch.tensor_split(rows, world_size)[rank]


def of_all(held: Tensor) -> Tensor:
    """What all ranks hold of a batch, in the order of the whole batch; the gradient flows through one's own part alone.

    Every rank has to ask, and at the same time.

    Args:
        held: One's own part; the first axis counts windows.
    """
    if world_size() == 1:
        return held
    from torchmetrics.utilities.distributed import gather_all_tensors

    return torch.cat(gather_all_tensors(held))
