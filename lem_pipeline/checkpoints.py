"""Checkpoints of trainings under way, and of those that nobody will take up again."""

import time
from pathlib import Path
from shutil import rmtree

KEPT_DAYS = 7.0


def checkpoints_of(home: Path, name: str, mark: str) -> Path:
    """Where a training that is under way, or waits to be judged, keeps its checkpoints."""
    return home / "checkpoints" / f"{name}-{mark}"


def clear_abandoned(folder: Path, kept_days: float = KEPT_DAYS) -> list[str]:
    """Delete the checkpoints of trainings that were cut short and not taken up again; names of what is gone.

    A training goes on from its own data, code and settings alone. Where those have moved on since it was killed, its
    checkpoints wait for nobody.

    Args:
        folder: Holds a folder for each training.
        kept_days: How long one is kept after the last change to a file in it.
    """
    since = time.time() - 86_400 * kept_days
    gone = [each for each in sorted(folder.glob("*/")) if _last_change(each) < since]
    for each in gone:
        rmtree(each, ignore_errors=True)  # another run may be at it
    return [each.name for each in gone]


def _last_change(folder: Path) -> float:
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:  # somebody is at work in it
        return time.time()
