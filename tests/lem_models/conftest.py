"""One thread and found helpers for the tests of the model."""

import sys
from pathlib import Path

import torch

# Test files are imported by path, which leaves their helpers out of reach.
sys.path.insert(0, str(Path(__file__).parent))
# With tests/ on the path, this folder would pass for the package lem_models.
sys.path.insert(0, str(Path(__file__).parents[2]))

# The tensors are tiny: a second thread costs more than it gives.
torch.set_num_threads(1)
