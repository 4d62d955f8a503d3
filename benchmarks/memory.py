"""Memory of a training epoch's windows, streamed from a panel of a million bars: bars per MB, in a process of its own.

A window is a row number. If windows were copied as a whole, each bar would be held once per row of the window, 131
times. What is counted: the feature matrix itself, and all that the process grows by, at its peak, while the rows where
windows begin are listed and the batches of one epoch are gathered. What the process held before (Python, torch, the
market columns) is not. The allowance is twice the feature matrix. It needs Linux.
"""

import gc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks import report, resident_mb
from lem_models.config import LEMConfig, TrainingConfig
from lem_models.windows import MarketPanel

BARS, LOOKBACK, HORIZON = 1_000_000, 120, 12
FEATURES = tuple(f"feature_{number}" for number in range(12))
ALLOWED = 2  # feature matrices


def market_panel() -> MarketPanel:
    generator = torch.Generator().manual_seed(0)
    close = torch.randn(BARS, generator=generator, dtype=torch.float64).mul_(0.001).cumsum(0).exp_()
    return MarketPanel(
        features=torch.randn(BARS, len(FEATURES), generator=generator),
        price=close.clone(),
        close=close,
        volume=torch.ones(BARS, dtype=torch.float64),
        volatility=torch.full((BARS,), 0.001, dtype=torch.float64),
        expected_volume=torch.ones(BARS, dtype=torch.float64),
    )


def matrix_and_growth_mb() -> tuple[float, float]:
    """Size of the feature matrix, and the peak of what streaming an epoch adds to the process."""
    from lem_models.training import OrderWindows

    panel = market_panel()
    model = LEMConfig(FEATURES, lookback=LOOKBACK, horizon=HORIZON)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident_mb("VmRSS")
    rows = torch.arange(LOOKBACK, BARS - HORIZON)
    windows = OrderWindows(panel, rows, rows, model, TrainingConfig())
    for loader in (windows.train_dataloader(), windows.val_dataloader()):
        seen = 0
        for orders in loader:
            assert orders.features.shape[1:] == (LOOKBACK + HORIZON - 1, len(FEATURES))
            seen += len(orders)
    assert seen == TrainingConfig.validation_orders
    growth = resident_mb("VmHWM") - before
    return panel.features.nbytes / 1e6, growth


def main() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        matrix, growth = process.submit(matrix_and_growth_mb).result()
    ours, allowed = round(BARS / (matrix + growth)), round(BARS / (ALLOWED * matrix))
    copied = round(matrix * (LOOKBACK + HORIZON - 1))
    more = {"matrix_mb": round(matrix, 1), "growth_mb": round(growth, 1), "if_windows_were_copied_mb": copied}
    report("memory: bars per MB while training, over those of twice the feature matrix", ours, allowed, 1, **more)


if __name__ == "__main__":
    main()
