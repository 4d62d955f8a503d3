"""The lines that ``lem advise`` reads: one JSON object each, told apart by ``type``."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lem_pipeline.errors import RefusedEventError
from lem_pipeline.names import identifier, instrument

Identifier = Annotated[str, AfterValidator(identifier)]
Symbol = Annotated[str, AfterValidator(instrument)]


class Event(BaseModel):
    """What a line says; names that it does not know are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class OrderEvent(Event):
    """A parent order, which begins with the next bar of its symbol; fields as in ``ParentOrder``."""

    type: Literal["order"]
    order_id: Identifier
    symbol: Symbol
    side: Literal["buy", "sell"]
    benchmark: Literal["VWAP", "TWAP"]
    target: Literal["quantity", "notional"]
    size: float
    minimum_duration: int
    lot_size: float | None = None
    participation_cap: float | None = None


class BarEvent(Event):
    """A closed bar of any symbol of the asset class; columns as in an archive."""

    type: Literal["bar"]
    symbol: Symbol
    bar_start: AwareDatetime
    open: float
    high: float
    low: float
    close: float
    volume: Annotated[float, Field(ge=0)]
    notional: float | None = None
    trade_count: int | None = None
    taker_buy_volume: float | None = None
    split_ratio: Annotated[float, Field(gt=0)] = 1.0

    def row(self) -> dict[str, Any]:
        """Its columns in schema ``RAW_BARS``."""
        return self.model_dump(exclude={"type"}, exclude_unset=True) | {"bar_start": self.bar_start.astimezone(UTC)}


class MissedEvent(Event):
    """The bar in progress of a symbol is over and nothing is known of it."""

    type: Literal["missed"]
    symbol: Symbol
    bar_start: AwareDatetime


class FillEvent(Event):
    """An own fill; without ``bar_start`` it belongs to the bar in progress."""

    type: Literal["fill"]
    order_id: Identifier
    fill_id: Identifier
    quantity: float
    price: float
    bar_start: AwareDatetime | None = None


class AdviceEvent(Event):
    """Asks for the advice of an order once more."""

    type: Literal["advice"]
    order_id: Identifier


AnyEvent = OrderEvent | BarEvent | MissedEvent | FillEvent | AdviceEvent

_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="type")])


def event_of(line: str) -> AnyEvent:
    """What a line says.

    Raises:
        RefusedEventError: It is no JSON, or no event.
    """
    try:
        return _ADAPTER.validate_python(json.loads(line))
    except ValidationError as error:
        raise RefusedEventError("; ".join(_sentence(each) for each in error.errors())) from error
    except (ValueError, RecursionError) as error:  # no JSON, or a number or a nesting without end
        raise RefusedEventError(f"the line is no JSON: {error}") from error


def _sentence(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"][1:]) or "the line"
    return f"{place}: {error['msg'][0].lower()}{error['msg'][1:]}"


def utc(moment: datetime) -> str:
    """A time as it is written in answers."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
