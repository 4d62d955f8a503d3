"""What a person watching the terminal wants to know of a run: steps, checks and messages, one line each."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster import DagsterEventType
from rich.console import Console
from rich.markup import escape

from lem_pipeline.failures import first_line, sentence


class Paced:
    """Says how far a long step is, at most every so many seconds; a short one says nothing.

    Args:
        say: Where sentences go, such as ``context.log.info``.
        every_s: Seconds from one sentence to the next, and to the first.
        clock: What tells the time.

    Example:
        >>> seconds = iter([0, 4, 11, 12, 25])
        >>> tell = Paced(print, every_s=10, clock=lambda: next(seconds))
        >>> for done in range(4):
        ...     tell(f"{done} done")
        1 done
        3 done
    """

    def __init__(
        self, say: Callable[[str], object], every_s: float = 10, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._every_s, self._clock = say, every_s, clock
        self._said_at = clock()

    def __call__(self, sentence: str) -> None:
        """Pass the sentence on, if it is time to."""
        if (now := self._clock()) - self._said_at >= self._every_s:
            self._say(sentence)
            self._said_at = now


class _Progress(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.console = Console(highlight=False, soft_wrap=True)

    def emit(self, record: logging.LogRecord) -> None:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        message = str(meta.get("orig_message", record.getMessage()))
        if line := told(meta.get("dagster_event"), record.levelno, message):
            self.console.print(line)


def told(event: dg.DagsterEvent | None, level: int, message: str) -> str | None:
    """The line that an event, or a message of a step, is worth; None where it is worth none."""
    if event is not None:
        return _line(event)
    return f"    {escape(message)}" if level >= logging.INFO and not _is_consequence(message) else None


def _line(event: dg.DagsterEvent) -> str | None:
    step = (event.step_key or "").replace("__", "/")
    match event.event_type:
        case DagsterEventType.STEP_START | DagsterEventType.STEP_RESTARTED:
            return f"[dim]  … {step}[/dim]"
        case DagsterEventType.STEP_SUCCESS:
            return f"[green]  ✓[/green] {step} [dim]{event.step_success_data.duration_ms / 1000:.1f} s[/dim]"
        case DagsterEventType.STEP_FAILURE:
            return f"[red]  ✗ {step}: {escape(sentence(event))}[/red]"
        case DagsterEventType.STEP_UP_FOR_RETRY:
            return f"[yellow]  ↻ {step} is tried again: {escape(first_line(event.step_retry_data.error))}[/yellow]"
        case DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            claim = check.check_name.replace("_", " ")
            reason = escape(check.description or "")
            return f"[green]    ✓[/green] {claim}" if check.passed else f"[red]    ✗ {claim}: {reason}[/red]"
    return None


def _is_consequence(message: str) -> bool:
    """Dagster lists every step that a failed one keeps from running; the failure itself is what matters."""
    return message.endswith("Not executing.")


@dg.logger
def progress_logger(_: dg.InitLoggerContext) -> logging.Logger:
    """One line per step, check and message."""
    logger = logging.Logger("progress", logging.DEBUG)
    logger.addHandler(_Progress())
    return logger


@contextmanager
def followed(instance: dg.DagsterInstance, every_s: float = 1) -> Iterator[dict[str, str]]:
    """Print the progress of a run whose steps have processes of their own, from its event log.

    Args:
        instance: Keeps the event log.
        every_s: Seconds from one look to the next.

    Yields:
        A tag for the run, by which it is found.
    """
    tag, over = {"lem/followed": uuid4().hex}, Event()
    watcher = Thread(target=_follow, args=(instance, tag, over, every_s))
    watcher.start()
    try:
        yield tag
    finally:
        over.set()
        watcher.join()


def _follow(instance: dg.DagsterInstance, tag: dict[str, str], over: Event, every_s: float) -> None:
    console, cursor = Console(highlight=False, soft_wrap=True), None
    is_last = False
    while not is_last:
        is_last = over.wait(every_s)
        for run in instance.get_runs(dg.RunsFilter(tags=tag)):
            has_more = True
            while has_more:
                found = instance.get_records_for_run(run.run_id, cursor)
                cursor, has_more = found.cursor, found.has_more
                for entry in (record.event_log_entry for record in found.records):
                    if line := told(entry.dagster_event, int(entry.level), entry.user_message):
                        console.print(line)
