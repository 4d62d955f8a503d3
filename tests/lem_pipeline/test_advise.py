"""A desk answers lines: orders, bars and fills in, advice out; whatever is wrong with one, the next is answered."""

import json
import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import torch
from warehouses import PARAMETERS, build, hourly, raw, read

from lem_models.config import LEMConfig
from lem_models.lem import LEM
from lem_models.windows import MarketPanel
from lem_pipeline.advise import Desk
from lem_pipeline.bar_feed import BarFeed
from lem_pipeline.errors import ConfigurationError

HOURS, LAST, HORIZON, LOOKBACK = 260, 240, 6, 8
FEATURES = ("return_1", "close_over_price", "volume_surprise", "market_return", "season_volume")
BOUND = {**PARAMETERS, "horizon": HORIZON, "lookback": LOOKBACK}
SYMBOLS = ("BTC/USDT", "ETH/USDT")
ORDER = {
    "type": "order",
    "order_id": "A",
    "symbol": "BTC/USDT",
    "side": "buy",
    "benchmark": "VWAP",
    "target": "quantity",
    "size": 12.5,
    "minimum_duration": 4,
}


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return hourly(HOURS, SYMBOLS).drop(columns=["adjusted_close", "dividend", "splits_until", "venue"])


@pytest.fixture(scope="module")
def model() -> LEM:
    torch.manual_seed(0)
    sizes = {"width": 8, "embedding": 4, "memory_width": 4, "head_width": 8}
    return LEM(LEMConfig(FEATURES, lookback=LOOKBACK, horizon=HORIZON, cap=0.5, **sizes)).eval()


@pytest.fixture
def desk(model, bars, tmp_path) -> Desk:
    return desk_on(model, bars, tmp_path)


def desk_on(model, bars, folder, last: int = LAST) -> Desk:
    history = bars[bars.groupby("symbol").cumcount() < last]
    full = hourly(HOURS, SYMBOLS)
    history = full.loc[history.index].reset_index(drop=True)
    return Desk(model, BarFeed("crypto", FEATURES, LOOKBACK, BOUND, raw(history)), folder / "desk.json")


def start_of(row: int) -> str:
    return f"{datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=row):%Y-%m-%dT%H:%M:%SZ}"


def bar(bars: pd.DataFrame, row: int, symbol: str = "BTC/USDT", **other: object) -> dict:
    found = bars[bars["symbol"] == symbol].iloc[row].to_dict()
    return {"type": "bar", **found, "bar_start": start_of(row), **other}


def closed(bars: pd.DataFrame, row: int) -> list[dict]:
    """Bars of an hour, that of the order's symbol last."""
    return [bar(bars, row, symbol) for symbol in reversed(SYMBOLS)]


def tell(desk: Desk, *events: dict | str) -> list[dict]:
    return list(desk.answers(each if isinstance(each, str) else json.dumps(each) for each in events))


def of_type(answers: list[dict], kind: str) -> list[dict]:
    return [each for each in answers if each["type"] == kind]


def fill(advice: dict, price: float, **other: object) -> dict:
    identity = f"{advice['order_id']}-{advice['bar']}"
    amount = advice["quantity"] if advice["quantity"] is not None else advice["notional"] / price
    return {
        "type": "fill",
        "order_id": advice["order_id"],
        "fill_id": identity,
        "quantity": amount,
        "price": price,
    } | other


def one_shot(model, bars, tmp_path_factory) -> tuple[torch.Tensor, np.ndarray]:
    """The schedule of the window in the warehouse, and the price of each bar."""
    folder = tmp_path_factory.mktemp("warehouse")
    warehouse = build(folder, hourly(HOURS, SYMBOLS), parameters=BOUND, schemas=("staging", "bars", "features"))
    rows = read(warehouse, "from features.bar_features where symbol = 'BTC/USDT' order by bar_number")
    market = {
        name: torch.from_numpy(rows[name].to_numpy(np.float64).copy())
        for name in ("price", "close", "volume", "volatility", "expected_volume")
    }
    panel = MarketPanel(torch.from_numpy(rows[list(FEATURES)].to_numpy(np.float32)), **market)
    return model.schedule(panel.orders(torch.tensor([LAST]), LOOKBACK, HORIZON))[0], rows["price"].to_numpy()


@pytest.mark.parametrize("target", ["quantity", "notional"])
def test_filled_as_planned_the_advice_is_the_schedule_of_the_warehouse(target, desk, model, bars, tmp_path_factory):
    schedule, prices = one_shot(model, bars, tmp_path_factory)
    expected = schedule[0 if target == "quantity" else 1, 3].tolist()
    assert sum(each > 0 for each in expected) > 2
    given, outcomes = tell(desk, ORDER | {"target": target}), []
    for row in range(LAST, LAST + HORIZON):
        if not outcomes:
            if given[-1]["fraction"]:
                tell(desk, fill(given[-1], float(prices[row])))
            answers = tell(desk, *closed(bars, row))
            given += of_type(answers, "advice")
            outcomes = of_type(answers, "outcome")
    fractions = [each["fraction"] for each in given]
    assert fractions == pytest.approx(expected[: len(given)], abs=2e-6) and sum(fractions) == 1
    assert given[0]["opens_at"] == start_of(LAST) and given[0]["closes_at"] == start_of(LAST + 1)
    [outcome] = outcomes
    assert outcome["filled_fraction"] == pytest.approx(1, abs=1e-15) and outcome["slippage_bps"] is not None
    assert desk.refused == 0


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{broken", "the line is no JSON"),
        ("[1]", "the line: "),
        ('{"type": "wish"}', "the line: input tag 'wish' found using 'type' does not match any of the expected tags"),
        ({"type": "bar", "symbol": "BTC/USDT"}, "bar_start: field required"),
        (ORDER | {"side": "hold"}, "side: input should be 'buy' or 'sell'"),
        (ORDER | {"order_id": "B", "size": -1}, "size is -1.0; an order trades a positive number"),
        (ORDER | {"order_id": "B", "minimum_duration": 7}, "minimum_duration is 7 bars, and the model's orders last"),
        (ORDER | {"order_id": "B", "colour": "red"}, "colour: extra inputs are not permitted"),
        (ORDER | {"order_id": "B", "symbol": "DOGE/USDT"}, "no bar of DOGE/USDT has been told; feed its history first"),
        (ORDER | {"size": 13.0}, "order A is under way with other terms; give this one a new id"),
        ({"type": "advice", "order_id": "B"}, "order B is not under way; A is"),
        ({"type": "missed", "symbol": "XRP/USDT", "bar_start": start_of(LAST)}, "no order of XRP/USDT is under way"),
        ({"type": "missed", "symbol": "BTC/USDT", "bar_start": "1999-01-01T00:00:00Z"}, "is the start of no bar"),
        (
            {"type": "missed", "symbol": "BTC/USDT", "bar_start": "2024-01-01T00:00:00"},
            "bar_start: input should have timezone",
        ),
    ],
)
def test_a_line_that_makes_no_sense_gets_a_sentence_and_changes_nothing(line, complaint, desk):
    [before] = tell(desk, ORDER)
    answers = tell(desk, line, {"type": "advice", "order_id": "A"})
    assert answers[0]["type"] == "error" and answers[0]["line"] == 1
    assert complaint in answers[0]["error"]
    assert answers[1] == before
    assert desk.refused == 1


def test_the_same_order_told_again_counts_once(desk):
    [first] = tell(desk, ORDER)
    notice, again = tell(desk, ORDER)
    assert notice["notice"] == "this order is under way; it counts once"
    assert again == first


@pytest.mark.parametrize("fault", [{"high": 0.001}, {"close": 1e6, "high": 2e6}])
def test_a_faulty_bar_is_refused_and_a_sound_one_takes_its_place(fault, desk, bars):
    tell(desk, ORDER)
    [error] = tell(desk, bar(bars, LAST, **fault))
    assert error["type"] == "error" and "send it anew, or say that it was missed" in error["error"]
    [advice] = tell(desk, bar(bars, LAST))
    assert advice["bar"] == 2 and not advice["assumptions"]


def test_a_bar_that_comes_late_restores_what_is_known(model, bars, tmp_path):
    timely, late = (desk_on(model, bars, tmp_path / name) for name in ("timely", "late"))
    for each in (timely, late):
        tell(each, ORDER)
    for row in range(LAST, LAST + 3):
        told = tell(timely, *closed(bars, row))
    tell(late, *closed(bars, LAST))
    missed = tell(late, {"type": "missed", "symbol": "BTC/USDT", "bar_start": start_of(LAST + 1)})
    assert missed[0]["notice"].endswith("it counts as without trades until it is told")
    assert missed[1]["bar"] == 3
    tell(late, bar(bars, LAST + 1, "ETH/USDT"))
    without = tell(late, *closed(bars, LAST + 2))[-1]
    assert "the last known features and volatility stand in" in without["assumptions"][1]
    restored = tell(late, bar(bars, LAST + 1))
    assert "comes late" in restored[0]["notice"]
    assert restored[-1] == told[-1]


def test_a_desk_goes_on_after_a_restart_and_catches_up_with_history(model, bars, desk, tmp_path):
    [advice] = tell(desk, ORDER)
    tell(desk, fill(advice, 100.0))
    before = tell(desk, *closed(bars, LAST))
    again = desk_on(model, bars, tmp_path)
    assert tell(again, {"type": "advice", "order_id": "A"}) == before
    assert [each.fix for each in again.children()] == [each.fix for each in desk.children()]
    [next_advice] = of_type(tell(desk, *closed(bars, LAST + 1)), "advice")
    while_away = desk_on(model, bars, tmp_path, last=LAST + 2)  # the history file has grown by the bars since
    assert tell(while_away, {"type": "advice", "order_id": "A"}) == [next_advice]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda kept: kept | {"version": 9}, "is of version 9; this program reads 1"),
        (lambda kept: {"version": 1}, "it is damaged"),
        (
            lambda kept: kept | {"sessions": [each | {"model": "another"} for each in kept["sessions"]]},
            "the state was saved with model another",
        ),
        (
            lambda kept: kept | {"bars": [each | {"bar_start": start_of(3)} for each in kept["bars"]]},
            "contradicts the history",
        ),
    ],
)
def test_a_state_that_cannot_be_used_is_refused(change, complaint, model, bars, desk, tmp_path):
    tell(desk, ORDER, bar(bars, LAST))
    desk.state.write_text(json.dumps(change(json.loads(desk.state.read_text()))))
    with pytest.raises(ConfigurationError, match=complaint):
        desk_on(model, bars, tmp_path)


def test_bars_of_finished_orders_are_answered_by_nothing(desk, bars):
    [advice] = tell(desk, ORDER)
    answers = tell(desk, fill(advice, 100.0, quantity=12.5))
    assert of_type(answers, "advice")[0]["reason"] == "The order is complete."
    for row in range(LAST, LAST + 4):
        answers = tell(desk, *closed(bars, row))
    assert of_type(answers, "outcome")[0]["completion_bar"] == 4  # the minimum duration
    assert tell(desk, *closed(bars, LAST + 4)) == []


def test_orders_of_several_symbols_are_under_way_at_once(desk, bars):
    tell(desk, ORDER, ORDER | {"order_id": "B", "symbol": "ETH/USDT", "side": "sell"})
    answers = tell(desk, *closed(bars, LAST))
    assert [(each["order_id"], each["bar"]) for each in answers] == [("B", 2), ("A", 2)]


def test_no_order_begins_after_a_gap(model, bars, tmp_path):
    broken = bars.drop(index=LAST - 30)
    history = hourly(HOURS, SYMBOLS).loc[broken[broken.groupby("symbol").cumcount() < LAST - 1].index]
    feed = BarFeed("crypto", FEATURES, LOOKBACK, BOUND, raw(history.reset_index(drop=True)))
    [error] = tell(Desk(model, feed), ORDER)
    assert "the order cannot begin after" in error["error"] and "the model reads 8 bars in a row" in error["error"]


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_in_disorder_is_answered_to_its_end_and_never_asks_for_too_much(seed, model, bars, tmp_path):
    draw, desk, row, missed, filled = random.Random(seed), desk_on(model, bars, tmp_path), LAST, [], 0.0
    tell(desk, ORDER)
    while row < LAST + HORIZON + 1:
        [advice, *_] = tell(desk, {"type": "advice", "order_id": "A"})
        assert advice["quantity"] <= advice["cap"]
        assert filled + advice["quantity"] <= ORDER["size"] * (1 + 1e-12)
        if part := advice["quantity"] * draw.choice([0, 0.3, 1]):
            one = fill(advice, draw.uniform(80, 120), quantity=part, bar_start=start_of(row))
            assert not of_type(tell(desk, one, one), "error")
            filled += part
        happens, told = draw.choice(["told", "told", "twice", "halted", "missed", "broken", "late"]), bar(bars, row)
        pause = {"type": "missed", "symbol": "BTC/USDT", "bar_start": start_of(row)}
        late = [bar(bars, missed.pop(0))] if happens == "late" and missed else []
        events = {
            "twice": [told, told],
            "halted": [told | {"volume": 0.0, "notional": 0.0, "taker_buy_volume": 0.0}],
            "missed": [pause],
            "broken": [told | {"high": -1.0}, pause],
        }.get(happens, [*late, told])
        missed += [row] if pause in events else []
        refused = of_type(tell(desk, *events), "error")
        is_over = "A" in desk.settled
        assert is_over or len(refused) == (happens == "broken"), refused
        if draw.random() < 0.3:
            desk = desk_on(model, bars, tmp_path)
        row += 1
    assert desk.sessions["A"].outcome().is_final
