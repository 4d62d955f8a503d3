"""How a user's mistake reaches the Dagster UI: as its one sentence, not as a stack trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from lem_pipeline.errors import LemError


@contextmanager
def explained() -> Iterator[None]:
    """Fail the step with the sentence of a :class:`LemError`."""
    try:
        yield
    except LemError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
