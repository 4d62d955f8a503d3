"""The markets that orders trade in: instruments, periods, lengths of bars."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lem_pipeline.names import instrument
from lem_pipeline.settings.sources import CcxtSource, SimulatedSource, Source
from lem_pipeline.settings.strict import Strict
from lem_pipeline.universe import DAY, FIRST_MONTH

DAY_MINUTES = DAY // timedelta(minutes=1)

# Lengths of bars in minutes, and what ccxt calls them; a venue need not have them all.
TIMEFRAMES = {
    1: "1m", 3: "3m", 5: "5m", 15: "15m", 30: "30m", 60: "1h", 120: "2h", 240: "4h", 360: "6h", 480: "8h", 720: "12h",
    DAY_MINUTES: "1d",
}  # fmt: skip

Instrument = Annotated[str, AfterValidator(instrument)]


class MarketSettings(Strict):
    """One asset class: where its bars come from, which instruments, since when.

    Attributes:
        bars: Where bars come from, never with a silent fallback; see the sources below.
        instruments: What to fetch.
        start: First day.
        end: The day after the last one; without it, up to the last closed bar.
        unseen: Instruments that are tested on and that no model is trained on.
        price: What child orders fill at: ``vwap``, the typical price where there is none; or ``typical`` throughout.
    """

    bars: Source
    instruments: list[Instrument] = Field(min_length=1)
    start: date
    end: date | None = None
    unseen: list[str] = Field(default=[])
    price: Literal["vwap", "typical"] = "vwap"

    @model_validator(mode="after")
    def _unseen_among_others(self) -> Self:
        if strangers := sorted(set(self.unseen) - set(self.instruments)):
            raise ValueError(f"unseen names {', '.join(strangers)}, which is not among the instruments")
        if set(self.unseen) == set(self.instruments):
            raise ValueError("every instrument is unseen, which leaves none to train on")
        return self

    @model_validator(mode="after")
    def _start_before_end_and_now(self) -> Self:
        if self.end and self.start >= self.end:
            raise ValueError(f"the period starts on {self.start} and ends before, on {self.end}")
        if self.start < FIRST_MONTH.date():
            raise ValueError(f"the period starts on {self.start}, and bars are kept from {FIRST_MONTH:%Y-%m-%d} on")
        if self.start > datetime.now(UTC).date():
            raise ValueError(f"the period starts on {self.start}, in the future")
        return self


class CryptoSettings(MarketSettings):
    """A market around the clock: how long the bars of its source last, and those that orders trade in.

    Attributes:
        source_bar_minutes: Length of the bars that the source is asked for.
        bar_minutes: Length of the bars that orders trade in, counted from midnight UTC of 1970-01-01 on: a multiple of
            ``source_bar_minutes``.
    """

    source_bar_minutes: int = Field(default=60, ge=1, le=DAY_MINUTES)
    bar_minutes: int = Field(default=60, ge=1, le=DAY_MINUTES)

    @model_validator(mode="after")
    def _lengths_that_the_source_can_give(self) -> Self:
        asked = self.source_bar_minutes
        if self.bar_minutes % asked:
            raise ValueError(
                f"bars of {self.bar_minutes} minutes cannot be put together from bars of {asked}; "
                f"set bar_minutes to a multiple of source_bar_minutes"
            )
        if isinstance(self.bars, SimulatedSource) and asked != 60:
            raise ValueError(
                f"the simulated market has bars of 60 minutes and none of {asked}; leave source_bar_minutes at 60 and "
                "set bar_minutes to a multiple of it"
            )
        if isinstance(self.bars, CcxtSource) and asked not in TIMEFRAMES:
            raise ValueError(
                f"no venue has bars of {asked} minutes; set source_bar_minutes to one of "
                f"{', '.join(map(str, TIMEFRAMES))}, and bar_minutes to a multiple of it"
            )
        return self
