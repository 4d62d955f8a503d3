"""How a user's mistake reaches the Dagster UI: as its one sentence, not as a stack trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from lem_pipeline.errors import LemError


@contextmanager
def explained() -> Iterator[None]:
    """Fail the step with the sentence of a :class:`LemError`."""
    try:
        yield
    except LemError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def sentence(event: dg.DagsterEvent) -> str:
    """What a failed step has to say to a person."""
    failure = event.step_failure_data
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    return first_line(failure.error)


def first_line(error: SerializableErrorInfo | None) -> str:
    """What an error says first; what caused it says more than Dagster's word for it."""
    error = error and (error.cause or error)
    return error.message.strip().splitlines()[0] if error else "no reason given"
