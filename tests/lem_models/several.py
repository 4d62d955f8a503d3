"""Fits in two processes, run by a program of its own: what became of each goes to a file."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from fits import SHORT, TINY, TRAIN, VALIDATION, walk_panel

from lem_models.launch import Report
from lem_models.training import Fit, fit


def fitted(folder: Path, report: Report | None = None, **changes: object) -> dict[str, object]:
    """History and weights of a fit in two processes."""
    found: Fit = fit(walk_panel(), TRAIN, VALIDATION, TINY, replace(SHORT, devices=2, **changes), folder, report)
    return {"history": found.history, "windows_seen": found.windows_seen, "weights": found.model.state_dict()}


def ranks() -> list[int]:
    """The processes that train now, which their own parent was forked to start."""
    return sorted(each.pid for child in psutil.Process().children() for each in child.children())


class Killer:
    """Kills the younger of the two after their second epoch, once."""

    def __init__(self) -> None:
        self.killed: list[int] = []
        self.reported: list[int] = []

    def __call__(self, epoch: int, _: dict[str, float]) -> None:
        self.reported.append(epoch)
        if epoch == 1 and not self.killed:
            self.killed.append(ranks()[-1])
            os.kill(self.killed[0], signal.SIGKILL)


class Enough(Exception):
    """Of this fit."""


def no_further(epoch: int, _: dict[str, float]) -> None:
    raise Enough(f"after epoch {epoch}")


def refused(folder: Path) -> str:
    """What the caller hears whose report wants no further epoch."""
    try:
        fitted(folder, no_further)
    except Enough as error:
        return str(error)
    return "nothing"


def diverged(folder: Path) -> str:
    """What the caller hears of a loss that is not a number."""
    panel = walk_panel()
    panel.features[:, 1] = torch.nan
    try:
        fit(panel, TRAIN, VALIDATION, TINY, replace(SHORT, devices=2), folder)
    except FloatingPointError as error:
        return str(error)
    return "nothing"


def main(folder: Path) -> None:
    killer = Killer()
    before = signal.getsignal(signal.SIGTERM)
    found = {
        "variance": fitted(folder / "variance", validation_orders=49),
        "cvar": fitted(folder / "cvar", risk="cvar", cvar_level=0.8),
        "killed": fitted(folder / "killed", killer, validation_orders=49),
        "reported": killer.reported,
        "killed_ranks": len(killer.killed),
        "refused": refused(folder / "refused"),
        "diverged": diverged(folder / "diverged"),
        "left": ranks(),
        "signals_as_before": signal.getsignal(signal.SIGTERM) is before,
    }
    torch.save(found, folder / "found.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
