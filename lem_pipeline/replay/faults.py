"""Faults: when each one strikes, and the switchboard of those that are on."""

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from socket import socket
from threading import Lock

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from lem_pipeline.replay.answers import Answer, Query, Row


class Fault(BaseModel):
    """One thing that goes wrong, at every request unless its settings say otherwise.

    Attributes:
        path: Strike only where the path contains this.
        symbol: Strike only requests for this instrument, ``BTC/USDT`` or ``BTCUSDT``.
        first: Strike only the first so many of those requests.
        every: Strike each so-manieth of them.
        chance: Strike each of them with this probability.
        seed: Decides which requests chance strikes, and what a random fault does to them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = ""
    symbol: str = ""
    first: PositiveInt | None = None
    every: PositiveInt = 1
    chance: float = Field(default=1.0, gt=0, le=1)
    seed: int = 0

    @classmethod
    def name(cls) -> str:
        """The fault's name in text: ``ConnectionReset`` is ``connection-reset``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def concerns(self, path: str, query: Query) -> bool:
        """Whether requests of this kind are struck at all."""
        symbol = self.symbol.replace("/", "")
        return self.path in path and symbol in ("", query.get("symbol"))

    def strikes(self, number: int) -> bool:
        """Whether the request with this number, among those that the fault concerns, is struck.

        Example:
            >>> [number for number in range(1, 8) if Fault(every=2, first=5).strikes(number)]
            [2, 4]
        """
        spared = random.Random(f"{self.seed}/{number}").random() >= self.chance  # noqa: S311 - repeatable by its seed, no secret
        return number <= (self.first or number) and number % self.every == 0 and not spared

    def __str__(self) -> str:
        settings = ",".join(f"{name}={value}" for name, value in self.model_dump(exclude_defaults=True).items())
        return f"{self.name()}:{settings}" if settings else self.name()


class RowFault(Fault, ABC):
    """Changes bars before the venue's answer is made of them."""

    @abstractmethod
    def rows(self, rows: list[Row]) -> list[Row]:
        """The bars as they are sent."""


class AnswerFault(Fault, ABC):
    """Puts another answer in the place of the right one."""

    @abstractmethod
    def answer(self, answer: Answer, path: str) -> Answer:
        """What is answered to a request for ``path``."""


class DeliveryFault(Fault, ABC):
    """Spoils the way of the answer to the client."""

    @abstractmethod
    def deliver(self, connection: socket, send_head: Callable[[], None], payload: bytes) -> None:
        """Send what gets through: ``send_head`` sends status and headers, ``payload`` is the body."""


_Counted = tuple[Fault, Iterator[int]]  # with the number of the next request that it concerns


def _counted(fault: Fault) -> _Counted:
    return fault, count(1)


class Switchboard:
    """The faults that are on; may change while the server answers."""

    def __init__(self, faults: Sequence[Fault] = ()):
        self._lock = Lock()
        self._on = [_counted(fault) for fault in faults]

    @property
    def on(self) -> list[Fault]:
        """The faults that are on."""
        return [fault for fault, _ in self._on]

    def add(self, fault: Fault) -> ExitStack:
        """Switch a fault on; at the end of a ``with`` block around this it is off again."""
        entry = _counted(fault)
        off = ExitStack()
        off.callback(self._remove, entry)
        with self._lock:
            self._on = [*self._on, entry]
        return off

    def replace(self, faults: Sequence[Fault]) -> None:
        """Switch these faults on, and all others off."""
        with self._lock:
            self._on = [_counted(fault) for fault in faults]

    def striking(self, path: str, query: Query) -> list[Fault]:
        """The faults that strike this request; counts it."""
        with self._lock:
            return [fault for fault, number in self._on if fault.concerns(path, query) and fault.strikes(next(number))]

    def _remove(self, entry: _Counted) -> None:
        with self._lock:
            self._on = [other for other in self._on if other is not entry]
