"""Child orders as other programs take them: CSV, JSON with the names of FIX, and FIX fields as tag=value."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from lem_models.advice import Advice
from lem_models.events import ParentOrder
from lem_models.orders import Side
from lem_pipeline.errors import ConfigurationError

SEPARATOR = "\x01"  # of FIX fields
TAGS = {
    "MsgType": 35,
    "ClOrdID": 11,
    "Symbol": 55,
    "Side": 54,
    "OrderQty": 38,
    "CashOrderQty": 152,
    "OrdType": 40,
    "TimeInForce": 59,
    "TransactTime": 60,
    "EffectiveTime": 168,
    "ExpireTime": 126,
    "TargetStrategy": 847,
    "ParticipationRate": 849,
}
"""FIX 4.4, NewOrderSingle."""


@dataclass(frozen=True)
class ChildOrder:
    """One bar's slice of a parent order, and when it may trade.

    Attributes:
        parent: The parent order.
        advice: What the session said.
        opens_at: When the bar begins to trade, UTC.
        closes_at: When it is over.
    """

    parent: ParentOrder
    advice: Advice
    opens_at: datetime
    closes_at: datetime

    @property
    def fix(self) -> dict[str, str]:
        """Fields of a NewOrderSingle by their FIX names: a market order, worked over its bar and gone at its end."""
        is_quantity = self.advice.quantity is not None
        cap = self.parent.participation_cap
        return {
            "MsgType": "D",
            "ClOrdID": f"{self.parent.order_id}-{self.advice.bar:02d}",
            "Symbol": self.parent.symbol,
            "Side": "1" if self.parent.side is Side.BUY else "2",
            "OrderQty" if is_quantity else "CashOrderQty": plain(self.advice.amount),
            "OrdType": "1",  # market
            "TimeInForce": "6",  # good till ExpireTime
            "TransactTime": _fix_time(self.opens_at),
            "EffectiveTime": _fix_time(self.opens_at),
            "ExpireTime": _fix_time(self.closes_at),
            "TargetStrategy": "1",  # VWAP: spread over the bar as trading is, which is what fills are taken for
            **({} if cap is None else {"ParticipationRate": plain(cap)}),
        }


def _fix_time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%d-%H:%M:%S}"


def plain(number: float) -> str:
    """A number without an exponent.

    Example:
        >>> plain(1e-05), plain(40000.0)
        ('0.00001', '40000')
    """
    text = f"{Decimal(repr(number)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_csv(children: Sequence[ChildOrder]) -> str:
    """One row per child order, with the reason behind it."""
    file = io.StringIO()
    columns = ["order_id", "symbol", "side", "bar", "opens_at", "closes_at", "fraction", "quantity", "notional"]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*columns, "participation_cap", "reason"])
    for child in children:
        advice, parent = child.advice, child.parent
        times = [f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for moment in (child.opens_at, child.closes_at)]
        amounts = ["" if each is None else plain(each) for each in (advice.fraction, advice.quantity, advice.notional)]
        cap = "" if parent.participation_cap is None else plain(parent.participation_cap)
        row = [parent.order_id, parent.symbol, parent.side.name.lower(), advice.bar, *times, *amounts, cap]
        writer.writerow([*row, advice.reason])
    return file.getvalue()


def to_json(children: Sequence[ChildOrder]) -> str:
    """A list of objects with the names of FIX."""
    return json.dumps([child.fix for child in children], indent=2) + "\n"


def to_fix(children: Sequence[ChildOrder]) -> str:
    """One line per child order, the body of a NewOrderSingle; SOH ends its fields, a FIX session adds the rest."""
    lines = ("".join(f"{TAGS[name]}={value}{SEPARATOR}" for name, value in child.fix.items()) for child in children)
    return "".join(line + "\n" for line in lines)


WRITERS = {".csv": to_csv, ".json": to_json, ".fix": to_fix}


def write(path: Path, children: Sequence[ChildOrder]) -> None:
    """Write child orders that ask for anything; the name of the file says how.

    Raises:
        ConfigurationError: No such format.
    """
    check_format(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(WRITERS[path.suffix]([child for child in children if child.advice.amount > 0]))


def check_format(path: Path) -> None:
    """Refuse a name that says no format.

    Raises:
        ConfigurationError: No such format.
    """
    if path.suffix not in WRITERS:
        raise ConfigurationError(f"schedules are exported as {', '.join(WRITERS)}; {path.name} ends in none of them")
