"""Runs whose process was killed: before the next one starts they are declared failed and leave their pools.

Dagster's daemon does so for runs that it launched. One of the command line has nobody who would notice, and the next
would wait for its place for ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import dagster as dg
from filelock import FileLock, Timeout

ALIVE_TAG = "lem/alive"  # names a lock file, which the operating system frees when its process ends, however it does


@contextmanager
def alive(instance: dg.DagsterInstance) -> Iterator[dict[str, str]]:
    """Tags for a run of this process, by which a later one can tell whether it still goes on."""
    folder = Path(instance.root_directory) / "alive"
    folder.mkdir(exist_ok=True)
    bury(instance, folder)
    mark = uuid4().hex
    try:
        with FileLock(folder / mark):
            yield {ALIVE_TAG: mark}
    finally:
        (folder / mark).unlink(missing_ok=True)


def bury(instance: dg.DagsterInstance, folder: Path) -> None:
    """Declare failed what no living process runs."""
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    for run in instance.get_runs(started):
        lock = folder / run.tags.get(ALIVE_TAG, "")
        # Where several computers share a history, each buries its own dead alone.
        if lock.is_file() and _is_free(lock):
            instance.report_run_failed(run, "Its process was killed.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _is_free(lock: Path) -> bool:
    try:
        with FileLock(lock, timeout=0):
            pass
    except Timeout:
        return False
    lock.unlink(missing_ok=True)
    return True
