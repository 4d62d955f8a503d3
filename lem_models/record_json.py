"""The memory of a session as plain values, and back: floats survive JSON to the last bit."""

from dataclasses import asdict
from typing import Any

from lem_models.events import ClosedBar, Fill, Outlook, ParentOrder
from lem_models.order_record import OrderRecord


def record_to_dict(record: OrderRecord) -> dict[str, Any]:
    """Plain values that survive JSON."""
    return {
        "order": record.order.to_dict(),
        "lookback": record.lookback,
        "horizon": record.horizon,
        "first_bar": record.first_bar,
        "clock": record.clock,
        "bars": [[bar.bar_number, *bar.facts] for bar in record.bars.values()],
        "outlooks": [[number, _outlook_to_dict(each)] for number, each in record.outlooks.items()],
        "fills": [asdict(fill) for fill in record.fills.values()],
    }


def record_from_dict(kept: dict[str, Any]) -> OrderRecord:
    """Rebuild from :func:`record_to_dict`."""
    bars = [ClosedBar(*values) for values in kept["bars"]]
    fills = [Fill(**values) for values in kept["fills"]]
    return OrderRecord(
        order=ParentOrder.from_dict(kept["order"]),
        lookback=kept["lookback"],
        horizon=kept["horizon"],
        first_bar=kept["first_bar"],
        clock=kept["clock"],
        bars={bar.bar_number: bar for bar in bars},
        outlooks={number: _outlook_from_dict(values) for number, values in kept["outlooks"]},
        fills={fill.fill_id: fill for fill in fills},
    )


def _outlook_to_dict(outlook: Outlook) -> dict[str, Any]:
    return {
        "features": dict(outlook.features),
        "volatility": outlook.volatility,
        "expected_volume": list(outlook.expected_volume),
    }


def _outlook_from_dict(values: dict[str, Any]) -> Outlook:
    return Outlook(values["features"], values["volatility"], tuple(values["expected_volume"]))
