"""An answer of a replayed venue that changes from request to request."""

from collections.abc import Callable

from lem_pipeline.replay.answers import Answer, Query


def in_turn(*answers: Answer) -> Callable[[Query], Answer]:
    """One answer after the other; the last one stays."""
    left = list(answers)
    return lambda _query: left.pop(0) if len(left) > 1 else left[0]
