"""Servers that tests start as a user starts them: at a free port, with every process that they start in turn."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tenacity import retry, stop_after_delay, wait_fixed

REPOSITORY = Path(__file__).parents[1]
STARTS_S = 120  # on a busy computer


def free_port() -> int:
    """A port of this computer at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_open(host: str, port: int) -> bool:
    """True where somebody listens."""
    with socket.socket() as asking:
        asking.settimeout(5)
        return asking.connect_ex((host, port)) == 0


@retry(wait=wait_fixed(0.3), stop=stop_after_delay(STARTS_S), reraise=True)
def wait_for(port: int) -> None:
    """Return once somebody listens at a port of this computer."""
    assert is_open("127.0.0.1", port), f"nothing listens at port {port}"


@contextmanager
def served(module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator:
    """``python -m module arguments``, until the block ends; what it says goes to ``log``."""
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {})},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
