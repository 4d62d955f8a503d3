"""A Ray cluster on this machine: nodes of processes of their own, each of which can be killed like a machine."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tenacity import Retrying, retry_if_exception_type, stop_after_delay

GIVE_UP_S = 240
SMALLEST = "--object-store-memory=80000000"  # nobody puts anything into it


class Node:
    """A node, and every process that it started."""

    def __init__(self, *arguments: str, environment: dict[str, str]) -> None:
        command = ["ray", "start", "--disable-usage-stats", "--include-log-monitor=false", SMALLEST, *arguments]
        self.started = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said, _ = self.started.communicate(timeout=GIVE_UP_S)

    def processes(self) -> set[psutil.Process]:
        """All of them; a step leads a session of its own, and is found by who started it."""
        own = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getpgid(process.pid) == self.started.pid:
                    own |= {process, *process.children(recursive=True)}
        return own

    def runs(self, step: str) -> bool:
        """Whether a process of the node runs a step."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("DAGSTER_RUN_STEP_KEY") == step:
                    return True
        return False

    def kill(self) -> None:
        """Leave it no moment to say good-bye."""
        doomed = self.processes()
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(doomed, timeout=10)


class Cluster:
    """A head that runs no step, and worker nodes that do."""

    def __init__(self, folder: str, environment: dict[str, str]) -> None:
        self.environment = environment
        self.head = Node(
            *("--head", "--num-cpus=0", "--port=0", f"--temp-dir={folder}"),
            *("--include-dashboard=true", "--dashboard-host=127.0.0.1", "--dashboard-port=0"),
            environment=environment,
        )
        self.workers: list[Node] = []

    @property
    def address(self) -> str:
        """Where jobs are taken."""
        return self._said(r"RAY_API_SERVER_ADDRESS='(\S+)'")

    def add(self, cores: int) -> None:
        """One more worker node, with cores to give away whatever the machine has."""
        joined = self._said(r"ray start --address='(\S+)'")
        self.workers.append(Node(f"--address={joined}", f"--num-cpus={cores}", environment=self.environment))

    def ready(self) -> None:
        """Wait until it takes jobs: the process that does so on the head starts last."""
        from ray.job_submission import JobSubmissionClient

        accepted = Retrying(retry=retry_if_exception_type(RuntimeError), stop=stop_after_delay(GIVE_UP_S), reraise=True)
        accepted(lambda: JobSubmissionClient(self.address).submit_job(entrypoint="true", entrypoint_num_cpus=1))

    def stop(self) -> None:
        """End every process of it."""
        for node in (*self.workers, self.head):
            node.kill()

    def _said(self, pattern: str) -> str:
        found = re.search(pattern, self.head.said)
        if not found:
            pytest.skip(f"Ray cannot start here: {self.head.said[-2000:]}")
        return found[1]


@contextlib.contextmanager
def cluster(workers: int, cores: int) -> Iterator[Cluster]:
    """A head and worker nodes, for as long as the block lasts."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # the path of a socket in it may have 107 characters
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),  # steps are `dagster` there
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": str(os.cpu_count()),  # as without Ray, which sets as many as a job has cores
    }
    started = Cluster(folder, environment)
    try:
        for _ in range(workers):
            started.add(cores)
        started.ready()
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(what: Callable[[], bool], whose: subprocess.Popen) -> None:
    """Wait for something to come true while a process runs."""
    deadline = time.monotonic() + GIVE_UP_S
    while not what():
        assert whose.poll() is None, "it ended before"
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.2)
