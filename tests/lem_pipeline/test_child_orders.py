"""Child orders in the words of other programs."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lem_models.advice import Advice
from lem_models.events import ParentOrder
from lem_models.orders import Benchmark, Side, Target
from lem_pipeline.child_orders import TAGS, ChildOrder, to_csv, to_fix, to_json, write
from lem_pipeline.errors import ConfigurationError

PARENT = ParentOrder("A7", "BTC/USDT", Side.SELL, Benchmark.VWAP, Target.QUANTITY, 12.5, 6, 0.0001, 0.1)
ADVICE = Advice(
    order_id="A7",
    bar_number=486_421,
    bar=2,
    fraction=0.000008,
    quantity=0.0001,
    notional=None,
    filled_in_bar=0.0,
    remaining_fraction=1.0,
    remaining=12.5,
    bound="none",
    cap=2.5,
    participation_cap=0.1,
    expected_room=17.0,
    gap_sigma=0.0,
    fill_gap_sigma=None,
    finish_probability=0.0,
    earliest_finish=6,
    unfillable=0.0,
    reason="A reason, with a comma.",
)
OPENS, CLOSES = datetime(2025, 6, 28, 13, tzinfo=UTC), datetime(2025, 6, 28, 14, tzinfo=UTC)
IN_UNITS = ChildOrder(PARENT, ADVICE, OPENS, CLOSES)
IN_CASH = ChildOrder(
    replace(PARENT, side=Side.BUY, target=Target.NOTIONAL, lot_size=None, participation_cap=None),
    replace(ADVICE, quantity=None, notional=1_250_000.0),
    OPENS,
    CLOSES,
)


def test_a_child_order_in_units_is_a_market_order_good_for_its_bar():
    assert IN_UNITS.fix == {
        "MsgType": "D",
        "ClOrdID": "A7-02",
        "Symbol": "BTC/USDT",
        "Side": "2",
        "OrderQty": "0.0001",
        "OrdType": "1",
        "TimeInForce": "6",
        "TransactTime": "20250628-13:00:00",
        "EffectiveTime": "20250628-13:00:00",
        "ExpireTime": "20250628-14:00:00",
        "TargetStrategy": "1",
        "ParticipationRate": "0.1",
    }


def test_a_child_order_in_cash_says_so():
    assert IN_CASH.fix["CashOrderQty"] == "1250000"
    assert IN_CASH.fix["Side"] == "1"
    assert not {"OrderQty", "ParticipationRate"} & set(IN_CASH.fix)


def test_fix_lines_are_the_numbers_of_the_names_in_json():
    lines = to_fix([IN_UNITS, IN_CASH]).splitlines()
    named = json.loads(to_json([IN_UNITS, IN_CASH]))
    for line, names in zip(lines, named, strict=True):
        assert line.endswith("\x01")
        fields = dict(field.split("=") for field in line.removesuffix("\x01").split("\x01"))
        assert fields == {str(TAGS[name]): value for name, value in names.items()}


def test_csv_has_a_row_for_each_with_its_reason():
    rows = list(csv.DictReader(io.StringIO(to_csv([IN_UNITS, IN_CASH]))))
    assert rows[0]["quantity"] == "0.0001" and rows[0]["notional"] == ""
    assert rows[0]["fraction"] == "0.000008"
    assert rows[1]["notional"] == "1250000"
    assert rows[0]["opens_at"] == "2025-06-28T13:00:00Z"
    assert rows[0]["reason"] == "A reason, with a comma."


def test_files_hold_what_asks_for_something(tmp_path):
    nothing = ChildOrder(PARENT, replace(ADVICE, quantity=0.0), OPENS, CLOSES)
    for suffix in (".csv", ".json", ".fix"):
        write(tmp_path / f"schedule{suffix}", [nothing, IN_UNITS])
        assert (tmp_path / f"schedule{suffix}").read_text().count("A7") == 1
    with pytest.raises(ConfigurationError, match=r"exported as \.csv, \.json, \.fix; schedule\.xml ends in none"):
        write(tmp_path / "schedule.xml", [IN_UNITS])
