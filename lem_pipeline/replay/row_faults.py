"""Faults in the bars themselves: the answer arrives in good shape and says something wrong."""

import random
from abc import ABC, abstractmethod
from math import nan, prod
from typing import Literal

from pydantic import Field, PositiveFloat

from lem_pipeline.replay.answers import Row
from lem_pipeline.replay.bars import PRICES, half_formed, rescaled, scaled, splits_in
from lem_pipeline.replay.faults import RowFault

FieldName = Literal[
    "prices",  # all of them
    "open",
    "high",
    "low",
    "close",
    "adjusted_close",
    "volume",
    "notional",
    "trade_count",
    "taker_buy_volume",
]


class BarFault(RowFault, ABC):
    """Strikes the bar in the middle of an answer."""

    @abstractmethod
    def bar(self, row: Row) -> list[Row]:
        """What is sent in the place of this bar."""

    def rows(self, rows: list[Row]) -> list[Row]:
        """The answer with its middle bar replaced."""
        middle = len(rows) // 2
        struck = [sent for row in rows[middle : middle + 1] for sent in self.bar(row)]
        return [*rows[:middle], *struck, *rows[middle + 1 :]]


class DuplicatedBar(BarFault):
    """One bar twice, the same both times."""

    def bar(self, row: Row) -> list[Row]:
        """The bar and its double."""
        return [row, row]


class ContradictedBar(BarFault):
    """One bar twice, with more volume the second time."""

    def bar(self, row: Row) -> list[Row]:
        """The bar and what contradicts it."""
        return [row, scaled(row, ("volume", "notional"), 1.01)]


class MissingBar(BarFault):
    """One bar left out."""

    def bar(self, row: Row) -> list[Row]:
        """Nothing."""
        return []


class NullField(BarFault):
    """One bar with null where a number should be.

    Attributes:
        field: The column, or ``prices`` for open, high, low, close and adjusted close together.
    """

    field: FieldName = "prices"

    def bar(self, row: Row) -> list[Row]:
        """The bar with a hole."""
        return [{**row, **dict.fromkeys(_columns(self.field))}]


class NanField(BarFault):
    """One bar with NaN where a number should be.

    Attributes:
        field: The column, or ``prices`` for open, high, low, close and adjusted close together.
    """

    field: FieldName = "prices"

    def bar(self, row: Row) -> list[Row]:
        """The bar with a hole."""
        return [{**row, **dict.fromkeys(_columns(self.field), nan)}]


class MispricedBar(BarFault):
    """One bar with all prices too large, as where pence are taken for pounds.

    Attributes:
        factor: How many times too large.
    """

    factor: PositiveFloat = 100.0

    def bar(self, row: Row) -> list[Row]:
        """The bar at its wrong prices."""
        return [scaled(row, PRICES, self.factor)]


class InventedSplit(BarFault):
    """A split on one bar that never happened: prices and volumes know nothing of it.

    Attributes:
        ratio: New shares per old share.
    """

    ratio: PositiveFloat = 2.0

    def bar(self, row: Row) -> list[Row]:
        """The bar with the split."""
        return [{**row, "split_ratio": self.ratio}]


class UnappliedSplit(RowFault):
    """The splits of a period are told, but prices and volumes before them are left as they were traded."""

    def rows(self, rows: list[Row]) -> list[Row]:
        """The bars with their adjustment undone."""
        splits = splits_in(rows)
        return [rescaled(row, 1 / prod(ratio for day, ratio in splits if day > row["bar_start"])) for row in rows]


class HalfFormedBar(RowFault):
    """The last bar of an answer is closed by the clock and sent as it was before that.

    Attributes:
        elapsed: Fraction of the bar that the values cover.
    """

    elapsed: float = Field(default=0.5, gt=0, lt=1)

    def rows(self, rows: list[Row]) -> list[Row]:
        """The bars, the last one half-formed."""
        return [*rows[:-1], *(half_formed(row, self.elapsed) for row in rows[-1:])]


class UnorderedBars(RowFault):
    """All bars of an answer, in an order that the seed decides."""

    def rows(self, rows: list[Row]) -> list[Row]:
        """The bars, shuffled."""
        return random.Random(self.seed).sample(rows, len(rows))  # noqa: S311 - repeatable by its seed, no secret


class NoBars(RowFault):
    """An answer in good shape without bars."""

    def rows(self, rows: list[Row]) -> list[Row]:
        """Nothing."""
        return []


def _columns(field: FieldName) -> tuple[str, ...]:
    return PRICES if field == "prices" else (field,)
