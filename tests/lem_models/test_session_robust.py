"""Whatever desks and markets do, a session keeps within its order and its caps, completes where it can, and says so."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from builders import HORIZON, tiny_lem
from desks import FIRST, NUMBER, Bars, as_planned, bar, fill_of, opened, outlook, parent, random_panel, trade
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lem_models.advice import Advice
from lem_models.decision import cap_in_lots
from lem_models.events import ClosedBar, Fill, SessionError, exact
from lem_models.orders import SCENARIOS
from lem_models.session import ExecutionSession, identity

MODELS = {0.15: tiny_lem(seed=3, cap=0.15, floor=0.02), 0.4: tiny_lem(seed=3, cap=0.4), 1.0: tiny_lem(seed=3)}
PANEL = random_panel()
THIS = NUMBER + FIRST  # number of the order's first bar


def session_with(cap: float = 0.15, **order) -> ExecutionSession:
    return opened(parent(**order), MODELS[cap], PANEL)


def restarted(session: ExecutionSession) -> ExecutionSession:
    saved = session.save()
    other = ExecutionSession.restore(saved, session.model)
    assert other.save() == saved
    return other


# Bars.


def test_a_bar_told_twice_counts_once_and_one_that_differs_is_refused():
    session = session_with()
    trade(session, PANEL, bars=2)
    before = session.advise()
    assert session.on_bar(bar(PANEL, FIRST + 1)) == [f"bar {THIS + 1} was told before; it counts once"]
    with pytest.raises(SessionError, match=f"bar {THIS + 1} was told before with other values; the first ones stand"):
        session.on_bar(bar(PANEL, FIRST + 1, close=1.0))
    assert session.advise() == before


def test_a_bar_that_was_missed_counts_as_one_without_trades():
    missed, halted = session_with(), session_with()
    for session in (missed, halted):
        trade(session, PANEL, bars=2)
    notices = missed.on_bar(bar(PANEL, FIRST + 3))
    assert notices == [f"no bar came between {THIS + 1} and {THIS + 3}; they count as without trades"]
    before = float(PANEL.close[FIRST + 1])
    halted.on_bar(bar(PANEL, FIRST + 2, volume=0.0, close=before, outlook=None))
    halted.on_bar(bar(PANEL, FIRST + 3))
    advice = missed.advise()
    assert advice.bar == 5
    assert advice.assumptions == (f"no trades and the last price stand in for bars that were not told: {THIS + 2}",)
    assert replace(advice, assumptions=()) == halted.advise()


def test_a_bar_that_comes_late_takes_its_place_from_then_on():
    late, timely = session_with(), session_with()
    for session in (late, timely):
        trade(session, PANEL, bars=2)
    assert late.on_missed_bar(THIS + 2) == [f"bar {THIS + 2} is missing; it counts as without trades until it is told"]
    advice = late.advise()
    assert advice.bar == 4
    assert advice.assumptions[1] == "the last known features and volatility stand in for those of this bar"
    assert late.on_bar(bar(PANEL, FIRST + 2)) == [f"bar {THIS + 2} comes late; decisions from now on know it"]
    timely.on_bar(bar(PANEL, FIRST + 2))
    assert late.advise() == timely.advise() != advice


def test_what_a_late_bar_changes_of_later_outlooks_can_be_revised():
    late, timely = session_with(), session_with()
    for session in (late, timely):
        trade(session, PANEL, bars=2)
    late.on_bar(bar(PANEL, FIRST + 3, outlook=None))
    late.on_bar(bar(PANEL, FIRST + 2))
    for row in (FIRST + 2, FIRST + 3):
        timely.on_bar(bar(PANEL, row))
    assert late.advise() != timely.advise()
    late.revise(THIS + 4, outlook(PANEL, FIRST + 4))
    assert late.advise() == timely.advise()
    with pytest.raises(SessionError, match="is none of bars"):
        late.revise(THIS + 5, outlook(PANEL, FIRST + 5))


def test_only_the_bar_in_progress_can_be_missed():
    session = session_with()
    with pytest.raises(SessionError, match="the order has not begun"):
        session.on_missed_bar(THIS)
    session.advise()
    with pytest.raises(SessionError, match=f"bar {THIS + 1} is not the bar in progress, which is bar {THIS}"):
        session.on_missed_bar(THIS + 1)


def test_bars_before_and_after_the_order_change_nothing():
    session = session_with()
    first = session.advise()
    with pytest.raises(SessionError, match=f"bar 7 is earlier than the order's first, bar {THIS}"):
        session.on_bar(replace(bar(PANEL, FIRST), bar_number=7))
    assert session.advise() == first
    trade(session, PANEL)
    outcome = session.outcome()
    notices = session.on_bar(bar(PANEL, FIRST + HORIZON))
    assert notices == [
        f"bar {THIS + HORIZON} is later than the order's last, bar {THIS + HORIZON - 1}; it takes no part"
    ]
    assert session.outcome() == outcome


def test_history_out_of_order_is_refused():
    session = ExecutionSession(parent(), MODELS[1.0])
    session.on_bar(bar(PANEL, 3))
    with pytest.raises(SessionError, match="comes after bar 480003; history is told in order"):
        session.on_bar(bar(PANEL, 2))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"price": math.nan}, "price of bar .* is nan; prices are positive"),
        ({"price": -1.0}, "price of bar .* is -1.0; prices are positive"),
        ({"close": 0.0}, "close of bar .* is 0.0; prices are positive"),
        ({"close": "87"}, "close of bar .* is '87'; prices are positive"),
        ({"volume": -5.0}, "volume of bar .* is -5.0; it counts units, none at least"),
        ({"volume": math.inf}, "volume of bar .* is inf"),
        ({"bar_number": 1.5}, "bar_number is 1.5; bars are counted in whole numbers"),
    ],
)
def test_values_that_no_bar_has_are_refused_by_name(fields, complaint):
    with pytest.raises(SessionError, match=complaint):
        bar(PANEL, FIRST, **fields)


def test_an_outlook_that_lacks_or_spoils_what_the_model_reads_is_refused():
    session = session_with()
    before = session.advise()
    told = outlook(PANEL, FIRST + 1)
    lacking = {name: value for name, value in told.features.items() if name != "season"}
    with pytest.raises(SessionError, match="the model reads season, which this bar does not tell of the next"):
        session.on_bar(bar(PANEL, FIRST, outlook=replace(told, features=lacking)))
    with pytest.raises(SessionError, match="feature season is nan; features are finite numbers"):
        replace(told, features={**told.features, "season": math.nan})
    with pytest.raises(SessionError, match="volatility is 0; it is a standard deviation"):
        replace(told, volatility=0)
    with pytest.raises(SessionError, match="expected_volume holds -1"):
        replace(told, expected_volume=(-1,))
    assert session.advise() == before


def test_a_halt_trades_nothing_and_extends_nothing():
    session = session_with(cap=0.4)
    trade(session, PANEL, bars=1)
    for row in range(FIRST + 1, FIRST + HORIZON):
        session.advise()
        halt = ClosedBar(NUMBER + row, math.nan, float(PANEL.close[FIRST]), 0.0)
        assert session.on_bar(halt) == [f"bar {NUMBER + row} had no trades; nothing can have been filled in it"]
    advice = session.advise()
    assert (advice.amount, advice.bar) == (0, HORIZON + 1)
    assert advice.unfillable == advice.remaining > 0
    assert "The horizon of 12 bars is over and" in advice.reason
    outcome = session.outcome()
    assert outcome.is_final and outcome.completion_bar == HORIZON and outcome.filled_fraction < 1


def test_what_the_cap_cannot_fill_any_more_is_said_in_time():
    session = session_with(size=100.0)  # 15 a bar
    for row in range(FIRST, FIRST + 8):
        session.advise()
        session.on_bar(bar(PANEL, row))
    advice = session.advise()
    assert advice.amount == advice.cap == pytest.approx(15, abs=1e-4)
    assert advice.unfillable == pytest.approx(40, abs=1e-4)
    assert advice.earliest_finish is None
    assert advice.reason.endswith("over whatever happens.")


# Fills.


def test_a_fill_told_twice_counts_once_and_one_that_differs_is_refused():
    session = session_with()
    fill = fill_of(session.advise(), 88.0, part=0.5)
    assert session.on_fill(fill) == []
    assert session.on_fill(fill) == [f"fill {fill.fill_id} was told before; it counts once"]
    with pytest.raises(SessionError, match="was told before with other values; the first ones stand"):
        session.on_fill(replace(fill, price=89.0))
    assert session.record.filled() == exact(fill.quantity)


def test_a_bar_filled_in_pieces_is_a_bar_filled():
    pieces, whole = session_with(), session_with()
    for row in range(FIRST, FIRST + 3):
        advice = pieces.advise()
        part = replace(fill_of(advice, float(PANEL.price[row])), quantity=advice.amount / 4)
        for number in range(4):
            pieces.on_fill(replace(part, fill_id=f"{row}-{number}"))
        pieces.on_bar(bar(PANEL, row))
    trade(whole, PANEL, bars=3)
    ours, theirs = pieces.advise(), whole.advise()
    assert ours.fraction == theirs.fraction
    assert ours.finish_probability == theirs.finish_probability


def test_fills_that_fall_short_are_decided_on_anew():
    session = session_with(cap=0.4)
    first = session.advise()
    session.on_fill(fill_of(first, 88.0, part=0.25))
    session.on_bar(bar(PANEL, FIRST))
    assert session.advise().remaining == pytest.approx(37.7 - first.amount / 4)


def test_a_fill_reported_after_its_bar_revises_the_advice():
    late, timely = session_with(), session_with()
    fill = Fill("x", timely.advise().amount, 88.0, bar_number=THIS)
    late.advise(), timely.on_fill(fill)
    for session in (late, timely):
        session.on_bar(bar(PANEL, FIRST))
    before = late.advise()
    assert late.on_fill(fill) == [f"fill x belongs to bar {THIS}, which is over; ask for advice anew"]
    assert late.advise() == timely.advise() != before


def test_more_than_was_advised_is_counted_and_said():
    session = session_with(cap=0.15)
    advice = session.advise()
    notices = session.on_fill(Fill("x", advice.amount + 1, 88.0))
    assert notices == [f"bar {THIS} has filled 1 more than was advised; it counts"]
    session.on_bar(bar(PANEL, FIRST))
    assert session.advise().remaining == pytest.approx(37.7 - advice.amount - 1)


def test_fills_beyond_the_order_are_counted_and_nothing_more_is_asked_for():
    session = session_with()
    session.advise()
    notices = session.on_fill(Fill("x", 40.0, 88.0))
    assert notices == ["fill x takes the order 2.3 beyond its size; nothing more is asked for"]
    advice = session.advise()
    assert (advice.amount, advice.remaining, advice.reason) == (0, 0, "The order is complete.")
    with pytest.raises(SessionError, match="fill y comes after the order was complete; it is not counted"):
        session.on_fill(Fill("y", 1.0, 88.0))
    assert session.outcome().average_price == 88.0


def test_what_is_less_than_a_lot_completes_an_order_and_is_told_as_it_is():
    session = session_with(size=120.0, lot_size=1.0)
    session.advise()
    session.on_fill(Fill("x", 119.4, 88.0))
    advice, outcome = session.advise(), session.outcome()
    assert (advice.amount, advice.reason) == (0, "The order is complete.")
    assert (outcome.filled_fraction, outcome.remaining) == (pytest.approx(0.995), pytest.approx(0.6))


@pytest.mark.parametrize("filled", [60.0000005, 0.1 + 0.2, 1 / 3])
@pytest.mark.parametrize("lot_size", [1.0, None])
def test_what_is_asked_for_is_never_more_than_what_remains_by_as_much_as_a_rounding(filled, lot_size):
    session = session_with(cap=1.0, size=120.0, lot_size=lot_size)
    session.advise()
    session.on_fill(Fill("x", filled, 88.0))
    for number in range(HORIZON - 1):
        session.on_missed_bar(THIS + number)
    left, asked = session.record.remaining(), exact(session.advise().amount)
    assert left - exact(lot_size or 1e-12) < asked <= left


def test_fills_that_belong_to_no_bar_of_the_order_are_refused():
    session = session_with()
    with pytest.raises(SessionError, match="the order has not begun"):
        session.on_fill(Fill("x", 1.0, 88.0))
    session.advise()
    with pytest.raises(
        SessionError, match=f"belongs to bar {THIS + 1}, and the order trades from bar {THIS} to {THIS}"
    ):
        session.on_fill(Fill("x", 1.0, 88.0, bar_number=THIS + 1))
    for number in range(HORIZON):
        session.on_missed_bar(THIS + number)
    with pytest.raises(SessionError, match="names no bar, and the order's last one"):
        session.on_fill(Fill("x", 1.0, 88.0))
    session.on_fill(Fill("x", 1.0, 88.0, bar_number=THIS + HORIZON - 1))
    assert session.outcome().filled_fraction == pytest.approx(1 / 37.7, rel=1e-4)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"quantity": 0.0}, "quantity of fill x is 0.0; a fill trades something"),
        ({"price": math.nan}, "price of fill x is nan; prices are positive"),
        ({"fill_id": ""}, "a fill has a fill_id"),
    ],
)
def test_values_that_no_fill_has_are_refused_by_name(fields, complaint):
    with pytest.raises(SessionError, match=complaint):
        replace(Fill("x", 1.0, 88.0), **fields)


def test_participation_beyond_the_cap_is_noticed_and_expected_room_said():
    order = {"size": 1e5, "participation_cap": 0.1}
    session = session_with(**order)
    advice = session.advise()
    assert advice.participation_cap == 0.1
    assert advice.expected_room == pytest.approx(0.1 * float(PANEL.expected_volume[FIRST]))
    session.on_bar(bar(PANEL, FIRST))
    notices = session.on_fill(Fill("x", 0.2 * float(PANEL.volume[FIRST]), 88.0, bar_number=THIS))
    assert "which is over" in notices[0]
    assert notices[1] == f"bar {THIS} has filled 20.00% of its volume, more than the participation cap of 10.00%"


# Restarts.

IN_A_NEW_PROCESS = """
import json, sys, torch
from pathlib import Path
from lem_models.config import LEMConfig
from lem_models.lem import LEM
from lem_models.session import ExecutionSession

folder = Path(sys.argv[1])
model = LEM(LEMConfig.from_dict(json.loads((folder / "config.json").read_text())))
model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
torch.set_num_threads(1)
session = ExecutionSession.restore((folder / "state.json").read_text(), model)
print(json.dumps([session.advise().to_dict(), session.outcome().to_dict(), session.save()]))
"""


def test_a_session_goes_on_in_a_new_process_to_the_last_bit(tmp_path):
    session = session_with()
    trade(session, PANEL, bars=3)
    session.on_missed_bar(THIS + 3)
    session.on_fill(fill_of(session.advise(), 88.1, part=0.3))
    (tmp_path / "state.json").write_text(session.save())
    (tmp_path / "config.json").write_text(json.dumps(session.model.config.to_dict()))
    torch.save(session.model.state_dict(), tmp_path / "weights.pt")
    root = Path(__file__).parents[2]
    answer = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS, str(tmp_path)], cwd=root, capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == [session.advise().to_dict(), session.outcome().to_dict(), session.save()]


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ("{", "this is no state of a session"),
        ("[]", "this is no state of a session"),
        ('{"version": 9, "model": ""}', "the state is of version 9, and this program reads version 1"),
        (
            '{"version": 1, "model": "x"}',
            "the state was saved with model x, and this is model [0-9a-f]{16}; load that one",
        ),
    ],
)
def test_a_state_that_is_none_or_of_another_model_is_refused(state, complaint):
    with pytest.raises(SessionError, match=complaint):
        ExecutionSession.restore(state, MODELS[1.0])


def test_a_damaged_state_is_refused():
    session = session_with(cap=1.0)
    session.advise()
    kept = json.loads(session.save())
    del kept["record"]["fills"]
    with pytest.raises(SessionError, match="the state is damaged: KeyError"):
        ExecutionSession.restore(json.dumps(kept), session.model)


def test_another_weight_is_another_model():
    other = tiny_lem(seed=3)
    assert identity(other) == identity(MODELS[1.0])
    with torch.no_grad():
        other.allocate.out.bias[0, 0] += 1e-6
    assert identity(other) != identity(MODELS[1.0])


# Anything.

PARTS = st.one_of(st.just(1.0), st.floats(0.01, 1.0))


@st.composite
def happenings(draw: st.DrawFn) -> dict[str, object]:
    """What becomes of one bar: its fills, when they are told, what is told of the bar, a restart."""
    return {
        "parts": draw(st.lists(PARTS, max_size=3)),
        "price": draw(st.floats(20, 300)),
        "told_late": draw(st.booleans()),
        "bar": draw(st.sampled_from(["told", "twice", "halted", "missed", "silent", "broken", "late", "jump"])),
        "restart": draw(st.booleans()),
    }


def happen(bars: Bars, what: dict[str, object]) -> ExecutionSession:
    session, number, told = bars.session, bars.advice.bar_number, bar(bars.panel, bars.row)
    fills = []
    for place, part in enumerate(what["parts"]):
        left = session.advise() if not what["told_late"] else bars.advice
        share = part / len(what["parts"]) if what["told_late"] else part
        if left.to_trade * share > 0:
            fills.append(
                replace(fill_of(left, what["price"], f"-{len(session.record.fills)}-{place}", share), bar_number=number)
            )
            if not what["told_late"]:
                session.on_fill(fills[-1])
    match what["bar"]:
        case "told":
            session.on_bar(told)
        case "twice":
            session.on_bar(told), session.on_bar(told)
        case "halted":
            session.on_bar(replace(told, volume=0.0, price=math.nan, outlook=None))
        case "missed":
            session.on_missed_bar(number)
        case "broken":
            with pytest.raises(SessionError):
                session.on_bar(replace(told, close=-1.0))
            session.on_missed_bar(number)
        case "late":
            session.on_missed_bar(number)
            session.advise()
            session.on_bar(told)
        case "jump" if bars.row + 1 < FIRST + HORIZON:
            session.on_bar(bar(bars.panel, bars.row + 1))
    if what["restart"]:
        session = restarted(session)
    for fill in fills:
        session.on_fill(fill)  # again where it was told in time
    return session


def assert_within_limits(session: ExecutionSession, advice: Advice) -> None:
    size = exact(session.order.size)
    filled = session.record.filled()
    rounding = size * Decimal("1e-15")  # cash is units times a price, and units are floats
    assert exact(advice.to_trade) + filled <= size + rounding
    assert 0 <= advice.amount <= advice.cap
    lots, cap = session.order.lots, session.model.config.limits.cap_in_lots
    assert advice.cap < (cap * lots + 1) / lots * session.order.size * (1 + 1e-12)
    assert advice.fraction * lots == pytest.approx(round(advice.fraction * lots), rel=1e-12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    scenario=st.sampled_from(SCENARIOS),
    minimum=st.integers(1, HORIZON),
    cap=st.sampled_from(list(MODELS)),
    sizes=st.sampled_from([(37.7, None), (1e-5, None), (123_456_789.01, 0.01), (120.0, 1.0)]),
    disturbed=st.lists(happenings(), max_size=HORIZON),
)
def test_whatever_happens_an_order_keeps_its_limits_and_completes_where_the_cap_lets_it(
    scenario, minimum, cap, sizes, disturbed
):
    size, lot_size = sizes
    session = session_with(cap, scenario=scenario, minimum_duration=minimum, size=size, lot_size=lot_size)
    session.advise()
    for what in disturbed:
        advice = session.advise()
        assert_within_limits(session, advice)
        if advice.bar > HORIZON:
            break
        row = advice.bar_number - NUMBER
        session = happen(Bars(session, PANEL, row, advice), what)
    record = session.record
    remaining, left = record.remaining_lots(record.next_bar), record.last_bar + 1 - record.next_bar
    can_finish = remaining <= max(left, 0) * cap_in_lots(session.model, session.record)
    while (advice := session.advise()).bar <= HORIZON:
        assert_within_limits(session, advice)
        assert not remaining or (advice.unfillable == 0) == can_finish
        as_planned(Bars(session, PANEL, advice.bar_number - NUMBER, advice))
    assert session.outcome().is_final
    assert (session.record.remaining_lots() == 0) == can_finish
