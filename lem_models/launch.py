"""Runs a function in several processes of this machine that train together, by torch's own elastic agent.

The agent watches over them: where one dies, it stops the others and starts all of them anew, so a function that goes
on from its last checkpoint loses an epoch at most.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any
from uuid import uuid4

from torch import multiprocessing

RESTARTS = 3

Report = Callable[[int, dict[str, float]], None]


class Stopped(Exception):
    """Whoever is told of each epoch wants no further one."""


class Line:
    """How rank 0 reports to the process that launched it, and hears whether to go on.

    Args:
        end: Its end of the line.
    """

    def __init__(self, end: Connection) -> None:
        self._end = end

    def __call__(self, epoch: int, metrics: dict[str, float]) -> None:
        """Report an epoch.

        Raises:
            Stopped: There is to be no further one.
        """
        while self._end.poll():
            self._end.recv()  # the answer to one that died before it heard
        self._end.send((epoch, metrics))
        if not self._end.recv():
            raise Stopped


def in_processes(function: Callable[..., Any], arguments: tuple[Any, ...], count: int, report: Report | None) -> Any:
    """What a function answers in rank 0 of so many processes.

    Args:
        function: Of a module; called in every process with the arguments, and with a :class:`Line` or None.
        arguments: As they can be pickled.
        count: Processes.
        report: Called in a thread of this process with what goes over the line. What it raises is raised here, once all
            processes have stopped.

    Raises:
        torch.distributed.elastic.multiprocessing.errors.ChildFailedError: A process failed once more than ``RESTARTS``.
        KeyboardInterrupt: This process was told to end; so have the others been.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # A store that outlives a restart tells the new processes where the dead ones listened.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    # Forked from a process that has imported everything: a restart takes no time.
    multiprocessing.get_context("forkserver").set_forkserver_preload([function.__module__])
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=RESTARTS,
        start_method="forkserver",
    )
    with _line(report) as line, _own_signals():
        try:
            return elastic_launch(config, function)(*arguments, line)[0]
        except SignalException as told:
            raise KeyboardInterrupt from told


@contextmanager
def _line(report: Report | None) -> Iterator[Line | None]:
    if report is None:
        yield None
        return
    ours, theirs = multiprocessing.get_context("forkserver").Pipe()
    refused: list[BaseException] = []

    def listen() -> None:
        while told := ours.recv():
            try:
                report(*told)
            except BaseException as error:  # raised below, in the thread that waits
                refused.append(error)
            ours.send(not refused)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield Line(theirs)
    finally:
        theirs.send(None)
        listener.join()
        ours.close()
        theirs.close()
    if refused:
        raise refused[0]


@contextmanager
def _own_signals() -> Iterator[None]:
    """The agent's handlers of signals stay set after it; those of the program are put back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
