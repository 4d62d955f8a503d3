"""A session that is filled as planned trades the one-shot schedule, says why, and knows nothing of the future."""

import math

import pytest
import torch
from builders import HORIZON, LOOKBACK, tiny_lem
from desks import FIRST, NUMBER, Bars, bar, fill_of, one_shot, opened, parent, random_panel, trade

from lem_models.events import Fill, ParentOrder, SessionError
from lem_models.execution import settle
from lem_models.fills import capacity
from lem_models.lem import LEM
from lem_models.orders import SCENARIOS, OrderBatch, OrderSize, Target
from lem_models.session import ExecutionSession

MODELS = {
    "free": {},
    "capped": {"cap": 0.15, "floor": 0.02},
    "from a curve": {"prior": "curve", "cap": 0.2},
    "of the default widths": {"width": 32, "memory_width": 16, "head_width": 32, "embedding": 8},
    "gru": {"recurrence": "gru"},
    "none": {"recurrence": "none"},
}


@pytest.fixture(scope="module")
def model() -> LEM:
    return tiny_lem(seed=3)


@pytest.fixture(scope="module")
def capped() -> LEM:
    return tiny_lem(seed=3, cap=0.15, floor=0.02)


@pytest.fixture(scope="module")
def panel():
    return random_panel()


@pytest.mark.parametrize("kind", MODELS)
def test_filled_as_planned_every_order_of_the_grid_trades_the_one_shot_schedule_to_the_last_bit(kind, panel):
    model = tiny_lem(seed=3, **MODELS[kind])
    schedule = model.schedule(one_shot(panel))[0]
    assert len(set(map(tuple, schedule.flatten(0, 1).tolist()))) > 20  # orders differ, or this shows little
    every = 1 if kind == "free" else 17  # the grid's orders
    for place, expected in list(enumerate(schedule.flatten(0, 1).tolist()))[::every]:
        scenario, minimum = SCENARIOS[place // HORIZON], place % HORIZON + 1
        advice = trade(opened(parent(scenario, minimum), model, panel), panel)
        assert [each.fraction for each in advice] == expected, f"{scenario}, {minimum}"


@pytest.mark.parametrize("scenario", SCENARIOS[:4], ids=str)
@pytest.mark.parametrize("kind", ["free", "capped"])
def test_what_halts_and_participation_leave_open_is_decided_on_as_in_one_shot(kind, scenario):
    model, panel = tiny_lem(seed=3, **MODELS[kind]), random_panel(5)
    panel.volume[[FIRST + 2, FIRST + 3, FIRST + 7]] = 0.0
    orders, place = one_shot(panel), (0, SCENARIOS.index(scenario), 4)
    units = 0.6 * float(panel.volume[FIRST : FIRST + HORIZON].sum())
    size = OrderSize(torch.tensor([units], dtype=torch.float64), 0.9)
    expected = model.schedule(OrderBatch(orders.features, orders.market, size))[place].tolist()
    room = capacity(orders.market, size).expand(1, len(SCENARIOS), 1, HORIZON)[0, place[1], 0].tolist()
    total = units if scenario.target is Target.QUANTITY else units * float(panel.close[FIRST - 1])
    filled = []

    def as_far_as_there_is_room(bars: Bars) -> None:
        filled.append(min(bars.advice.fraction, room[bars.row - FIRST]))
        if filled[-1]:
            amount = filled[-1] * total
            quantity = amount if scenario.target is Target.QUANTITY else amount / bars.price
            bars.session.on_fill(Fill(str(bars.row), quantity, bars.price))
        bars.session.on_bar(bar(panel, bars.row))

    trade(opened(parent(scenario, 5, size=total), model, panel), panel, as_far_as_there_is_room)
    assert filled == expected
    assert any(0 < each == most for each, most in zip(filled, room, strict=True))  # or this shows nothing


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_the_outcome_is_the_settlement_of_the_one_shot_schedule(scenario, model, panel):
    orders, place = one_shot(panel), (0, SCENARIOS.index(scenario), 6)
    schedule = model.schedule(orders)
    results = settle(schedule, orders.market, model.grid)
    session = opened(parent(scenario, 7), model, panel)
    trade(session, panel)
    outcome = session.outcome()
    assert outcome.is_final and outcome.filled_fraction == pytest.approx(1, abs=1e-15)
    assert outcome.remaining == pytest.approx(0, abs=1e-12)
    assert outcome.completion_bar == results.completion_bar[place]
    assert outcome.slippage_bps == pytest.approx(float(results.slippage_bps[place]), abs=0.02)  # float32 of a price


@pytest.mark.parametrize("target", Target)
def test_a_child_order_is_its_fraction_of_the_parent_in_units_or_in_cash(target, model, panel):
    order = parent(next(each for each in SCENARIOS if each.target is target), size=12_500.0)
    session = opened(order, model, panel)
    for advice in trade(session, panel):
        amount = advice.quantity if target is Target.QUANTITY else advice.notional
        assert amount == pytest.approx(12_500 * advice.fraction, rel=1e-9)
        assert (advice.notional if target is Target.QUANTITY else advice.quantity) is None
    assert sum(advice.amount for advice in session.advised.values()) == pytest.approx(12_500, rel=1e-12)


def test_reasons_hold_the_gaps_that_the_heads_see(model, panel):
    scenario = SCENARIOS[0]
    session = opened(parent(scenario, 6), model, panel)
    advice = trade(session, panel, bars=4)[-1]
    row = FIRST + 3
    volume, price = panel.volume[FIRST:row], panel.price[FIRST:row]
    vwap = float((volume * price).sum() / volume.sum())
    sigma = float(panel.volatility[row] * panel.close[FIRST - 1])
    fills = list(session.record.fills.values())[:3]
    own = sum(each.quantity * each.price for each in fills) / sum(each.quantity for each in fills)
    assert advice.gap_sigma == pytest.approx((vwap - float(panel.close[row - 1])) / sigma, abs=1e-3)
    assert advice.fill_gap_sigma == pytest.approx((vwap - own) / sigma, abs=1e-3)
    assert advice.remaining == pytest.approx(37.7 - sum(each.quantity for each in fills))
    assert 0 <= advice.finish_probability <= 1
    assert advice.earliest_finish == 4
    assert advice.reason.startswith(f"Trade {advice.fraction:.4f} of the order in bar 4 of 12")
    assert f"{abs(advice.gap_sigma):.2f} σ" in advice.reason


def test_what_bound_a_child_order_is_said(capped, panel):
    cap = capped.config.limits.cap_in_lots
    bounds = {}
    for minimum in range(1, HORIZON + 1):
        for advice in trade(opened(parent(minimum_duration=minimum), capped, panel), panel):
            bounds.setdefault(advice.bound, []).append(advice)
    assert {"cap", "none"} < set(bounds)
    assert all(advice.fraction == cap for advice in bounds["cap"])
    assert all("the most that the cap per bar allows" in advice.reason for advice in bounds["cap"])
    assert all(advice.fraction == advice.remaining_fraction for advice in bounds["remaining"])


def test_earlier_advice_is_blind_to_later_bars(model):
    first, other = random_panel(0), random_panel(1)
    for step in range(HORIZON):
        mixed = random_panel(0)
        row = FIRST + step  # of the bar that is decided: what is known before it stays
        for name in ("price", "close", "volume"):
            getattr(mixed, name)[row:] = getattr(other, name)[row:]
        mixed.features[row + 1 :], mixed.volatility[row + 1 :] = other.features[row + 1 :], other.volatility[row + 1 :]
        mixed.expected_volume[row + HORIZON :] = 1e9
        given = trade(opened(parent(), model, first), first, bars=step + 1)
        again = trade(opened(parent(), model, mixed), mixed, bars=step + 1)
        assert [each.fraction for each in given] == [each.fraction for each in again]
        assert given[-1].gap_sigma == again[-1].gap_sigma


def test_advice_may_be_asked_for_again_and_stays(model, panel):
    session = opened(parent(), model, panel)
    advice = session.advise()
    assert advice.amount and session.advise() == advice
    session.on_fill(fill_of(advice, 90.0, part=0.4))
    again = session.advise()
    assert (again.fraction, again.amount) == (advice.fraction, advice.amount)
    assert again.to_trade == pytest.approx(0.6 * advice.amount)


def test_orders_in_lots_are_whole_lots_within_a_lot_of_the_schedule(capped, panel):
    schedule = capped.schedule(one_shot(panel))[0, 0, 5]
    session = opened(parent(size=120.0, lot_size=1.0), capped, panel)
    given = trade(session, panel)
    assert all(advice.amount == round(advice.amount) for advice in given)
    assert sum(advice.amount for advice in given) == 120
    assert max(advice.amount for advice in given) == 18  # 15 % of 120
    assert [each.fraction for each in given[:2]] == pytest.approx(schedule[:2].tolist(), abs=1 / 120)


def test_a_cap_of_one_part_in_n_fills_an_order_that_n_does_not_divide(panel):
    model = tiny_lem(cap=1 / HORIZON)
    session = opened(parent(size=100.0, lot_size=1.0), model, panel)
    amounts = [advice.amount for advice in trade(session, panel)]
    assert max(amounts) == 9 and sum(amounts) == 100


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"size": 0.0}, "size is 0.0; an order trades a positive number"),
        ({"size": math.nan}, "size is nan; an order trades"),
        ({"minimum_duration": 0}, "minimum_duration is 0; it counts bars from 1"),
        ({"minimum_duration": 2.5}, "minimum_duration is 2.5; it counts bars from 1"),
        ({"lot_size": -1.0}, "lot_size is -1.0; it is the smallest step"),
        ({"size": 10.0, "lot_size": 3.0}, "size 10.0 is no multiple of lot_size 3.0"),
        ({"size": 1e9, "lot_size": 1e-9}, "choose larger lots"),
        ({"participation_cap": 1.5}, "participation_cap is 1.5; it is a part of a bar's volume"),
        ({"order_id": ""}, "neither may be empty"),
        ({"side": "hold"}, "side is 'hold'; it is one of buy, sell"),
        ({"colour": "red"}, "these fields make no order: .*colour"),
    ],
)
def test_what_makes_no_order_is_refused_in_a_sentence(fields, complaint):
    sound = parent().to_dict()
    assert ParentOrder.from_dict(sound) == parent()
    with pytest.raises(SessionError, match=complaint):
        ParentOrder.from_dict(sound | fields)


def test_an_order_that_does_not_fit_the_model_is_refused(model):
    with pytest.raises(SessionError, match="minimum_duration is 13 bars, and the model's orders last at most 12"):
        ExecutionSession(parent(minimum_duration=13), model)
    with pytest.raises(SessionError, match="sees the bar it trades in"):
        ExecutionSession(parent(), tiny_lem(information_set="same_bar"))


def test_an_order_begins_with_a_full_lookback_and_not_across_a_gap(model, panel):
    session = ExecutionSession(parent(), model)
    with pytest.raises(SessionError, match=f"reads {LOOKBACK} bars in a row .* knows what precedes 0; feed earlier"):
        session.advise()
    for row in (0, 1, 2, 3, 5):  # without 4
        notices = session.on_bar(bar(panel, row))
    assert notices == [f"bars {NUMBER + 4} to {NUMBER + 4} are missing; history begins anew at bar {NUMBER + 5}"]
    with pytest.raises(SessionError, match="knows what precedes 1"):
        session.advise()
    for row in range(6, 5 + LOOKBACK):
        session.on_bar(bar(panel, row))
    assert session.advise().bar_number == NUMBER + 5 + LOOKBACK


def test_a_network_that_overflows_is_refused(panel):
    model = tiny_lem()
    with torch.no_grad():
        model.allocate.out.weight.fill_(math.inf)
    with pytest.raises(FloatingPointError, match="the network overflows on this order"):
        opened(parent(), model, panel).advise()
