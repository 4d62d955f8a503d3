"""What a replayed venue answers: HTTP answers, and bars that become one once faults have had their turn."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Query = dict[str, str]
Row = dict[str, Any]  # one bar, in the columns of RAW_BARS


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; a body that is not text is sent as JSON."""

    body: object = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def payload(self) -> bytes:
        """The body as it travels."""
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()

    @property
    def content_type(self) -> str:
        """HTML for text, else JSON."""
        return "text/html" if isinstance(self.body, str) else "application/json"


@dataclass(frozen=True)
class Page:
    """Bars on their way out.

    Attributes:
        rows: The bars asked for, ascending.
        shape: Makes the venue's answer of them.
    """

    rows: list[Row]
    shape: Callable[[list[Row]], Answer]


Route = Answer | Callable[[Query], Answer | Page]
