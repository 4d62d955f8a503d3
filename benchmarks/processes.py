"""What running processes hold, read from /proc: memory, files and threads of a process and of all that it started."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holding:
    """What processes hold at a moment, added up.

    Attributes:
        pids: The processes.
        memory_mb: Anonymous memory, where leaks are. Shares of libraries are left out: they change as other programs
            that use the same ones come and go.
        files: Open file descriptors, sockets among them.
        threads: Threads.
    """

    pids: tuple[int, ...]
    memory_mb: float
    files: int
    threads: int


def holding(pid: int) -> Holding:
    """What a process and its descendants hold; those that end meanwhile are left out."""
    found = [(each, held) for each in tree(pid) if (held := _of_one(each))]
    memory, files, threads = (sum(held[place] for _, held in found) for place in range(3))
    return Holding(tuple(each for each, _ in found), memory, int(files), int(threads))


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for each in found:
        try:
            for children in Path(f"/proc/{each}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _of_one(pid: int) -> tuple[float, int, int] | None:
    folder = Path(f"/proc/{pid}")
    try:
        rollup = (folder / "smaps_rollup").read_text().splitlines()
        anonymous = next(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:"))
        return anonymous * 1024 / 1e6, len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))
    except (FileNotFoundError, ProcessLookupError, PermissionError, StopIteration):
        return None
