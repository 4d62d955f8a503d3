"""One thread and found helpers for the tests of the model."""

import torch

# The tensors are tiny: a second thread costs more than it gives.
torch.set_num_threads(1)
