import math

import pytest
import torch
from builders import (
    FREE,
    GRID,
    HORIZON,
    LIMITS,
    heads_that_answer,
    no_context,
    overwritten_from,
    random_market,
    random_size,
    rng,
    sizes,
    wild_markets,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lem_models.baselines.volume_curve import VolumeCurve
from lem_models.execution import relative_price, settle
from lem_models.fills import OpenOrder, capacity, fill
from lem_models.heads import AllocationHeads, base_shares, get_ready, may_finish, modulate
from lem_models.orders import LOT, Limits, MarketPath, OrderBatch, OrderSize

NEVER = torch.tensor(-50.0)
NOTHING = torch.tensor(0.0)
EVERY_LIMIT = pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())


def random_answers(seed: int, size: float) -> tuple[Tensor, Tensor]:
    draw = rng(seed)
    shape = (*GRID.shape, HORIZON)
    return size * torch.randn(shape, generator=draw), size * torch.randn(shape, generator=draw)


def assert_within_limits(schedule: Tensor, limits: Limits) -> None:
    assert schedule.min() >= 0
    assert schedule.max() <= limits.cap_in_lots
    remaining = 1 - (schedule.cumsum(-1) - schedule)
    due = remaining >= max(limits.floor_in_lots, LOT)
    assert (schedule[due] >= limits.floor_in_lots).all()


# --- money adds up ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    wild_markets(),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.1, 3.0, 100.0, 1e8, 1e30]),
    st.sampled_from(sorted(LIMITS)),
    st.permutations(range(HORIZON)),
)
def test_whatever_the_network_answers_the_children_add_up_exactly(market, seed, size, name, summation):
    limits = LIMITS[name]
    decisions = heads_that_answer(*random_answers(seed, size), limits)(no_context(market), market)
    for children in (decisions.path, decisions.schedule()):
        assert (children.sum(-1) == 1).all()
        assert (children[..., list(summation)].cumsum(-1)[..., -1] == 1).all()
        assert_within_limits(children, limits)
    assert ((0 <= decisions.finish_probability) & (decisions.finish_probability <= 1)).all()
    assert (decisions.finish_probability[..., -1] == 1).all()


@settings(max_examples=60, deadline=None)
@given(
    wild_markets(with_untraded_bars=True),
    st.integers(0, 2**31),
    st.sampled_from([0.1, 3.0, 1e8]),
    st.sampled_from(sorted(LIMITS)),
)
def test_nothing_fills_in_a_bar_without_trades_whatever_the_network_answers(market, seed, size, name):
    limits = LIMITS[name]
    decisions = heads_that_answer(*random_answers(seed, size), limits)(no_context(market), market)
    schedule = decisions.schedule()
    traded = market.volume[0] > 0
    for children in (decisions.path, schedule):
        assert (children[..., ~traded] == 0).all()
        assert children.min() >= 0
    assert decisions.path.max() <= limits.cap_in_lots
    results = settle(schedule, market, GRID)
    assert torch.equal(results.filled_fraction, schedule.sum(-1))
    assert (results.filled_fraction <= 1).all()
    if traded[-1] and limits.cap == 1:
        assert (results.filled_fraction == 1).all()
    assert all(torch.isfinite(values).all() for values in vars(results).values())


@pytest.mark.parametrize("pressure", [-1e30, 1e30])
@pytest.mark.parametrize("cap", [0.10, 1 / 12, 0.25])
def test_a_cap_is_a_cap_in_every_bar_and_the_last_one_too(cap, pressure):
    limits = Limits(horizon=HORIZON, cap=cap)
    market = random_market(3)
    for finish in (NEVER, -NEVER):
        schedule = heads_that_answer(torch.tensor(pressure), finish, limits)(no_context(market), market).schedule()
        assert schedule.max() <= cap + LOT
        assert (schedule.sum(-1) == 1).all()


@pytest.mark.parametrize("cap", [0.10, 1 / 12])
def test_a_cap_is_a_cap_in_the_last_bar_after_bars_without_trades(cap):
    limits = Limits(horizon=HORIZON, cap=cap)
    market = random_market(3)
    market.volume[:, 2:8] = 0
    schedule = heads_that_answer(NOTHING, NEVER, limits)(no_context(market), market).schedule()
    assert schedule.max() <= limits.cap_in_lots


# --- the base curve -----------------------------------------------------------------------------------------------


def untouched(market: MarketPath, limits: Limits = FREE) -> Tensor:
    return heads_that_answer(NOTHING, NEVER, limits)(no_context(market), market).schedule()


@pytest.mark.parametrize("cap", [1.0, 0.3, 0.10, 1 / 12])
def test_without_a_shift_twap_orders_trade_equal_slices(cap):
    schedule = untouched(random_market(20), Limits(horizon=HORIZON, cap=cap))
    against_twap = schedule[:, ~GRID.is_vwap[:, 0, 0]]
    assert (against_twap - 1 / HORIZON).abs().max() < 16 * LOT


def test_without_a_shift_vwap_orders_trade_the_expected_volume_curve():
    market = random_market(20)
    against_vwap = untouched(market)[:, GRID.is_vwap[:, 0, 0]]
    curve = market.expected_volume / market.expected_volume.sum(1, keepdim=True)
    assert (against_vwap - curve[:, None, None]).abs().max() < 16 * LOT
    baseline = VolumeCurve(FREE).schedule(OrderBatch(torch.zeros(20, 1, 1), market))
    assert (against_vwap - baseline[:, GRID.is_vwap[:, 0, 0]]).abs().max() < 16 * LOT


def test_the_shares_of_the_base_curve_are_parts_of_what_is_still_to_come():
    market = random_market(5)
    shares = base_shares(market, GRID)
    assert (shares[..., -1] == 1).all()
    for scenario in range(len(GRID.side)):
        expected = market.expected_volume if GRID.is_vwap[scenario] else torch.ones(5, HORIZON)
        for step in range(HORIZON):
            share = expected[:, step] / expected[:, step:].sum(1)
            assert torch.allclose(shares[:, scenario, 0, step], share, rtol=1e-5)


@given(st.floats(0, 1), st.floats(-1e6, 1e6), st.floats(0, 1), st.floats(0, 1))
def test_a_shift_moves_a_child_within_its_interval_and_towards_its_sign(base, shift, one, other):
    lo, hi = (torch.floor(torch.tensor(each) / LOT) * LOT for each in sorted([one, other]))
    child = torch.tensor(base).clamp(lo, hi)
    moved = modulate(child.logit(LOT), torch.tensor(shift), lo, hi)
    assert lo <= moved <= hi
    assert moved % LOT == 0
    tolerance = 1e-4 * (hi - lo) + 2 * LOT
    if shift <= 0:
        assert moved <= child + tolerance
    if shift >= 0:
        assert moved >= child - tolerance


def test_a_shift_has_a_gradient():
    shift = torch.zeros(3, requires_grad=True)
    children = modulate(torch.tensor([0.1, 0.5, 0.9]).logit(), shift, torch.tensor(0.0), torch.tensor(1.0))
    children.sum().backward()
    assert shift.grad.tolist() == pytest.approx([0.09, 0.25, 0.09], abs=1e-4)


# --- finishing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bar", range(1, HORIZON + 1))
def test_an_order_can_finish_in_any_bar(bar):
    finish = torch.where(torch.arange(1, HORIZON + 1) >= bar, 50.0, -50.0)
    market = random_market(4)
    schedule = heads_that_answer(NOTHING, finish)(no_context(market), market).schedule()
    assert (schedule[..., :bar] > 0).all()
    assert (schedule[..., bar:] == 0).all()
    completion = settle(schedule, market, GRID).completion_bar
    assert (completion == GRID.minimum_duration.clamp_min(bar)).all()


@pytest.mark.parametrize("bar", range(1, HORIZON + 1))
def test_an_order_under_a_cap_finishes_as_soon_as_the_rest_fits_the_cap(bar):
    limits = Limits(horizon=HORIZON, cap=0.25)
    finish = torch.where(torch.arange(1, HORIZON + 1) >= bar, 50.0, -50.0)
    market = random_market(4)
    schedule = heads_that_answer(torch.tensor(1e30), finish, limits)(no_context(market), market).schedule()
    assert schedule.max() <= limits.cap_in_lots
    assert (settle(schedule, market, GRID).completion_bar == GRID.minimum_duration.clamp_min(max(bar, 4))).all()


@EVERY_LIMIT
def test_an_order_that_never_chooses_to_finish_is_finished_by_the_last_bar(limits):
    market = random_market(4)
    decisions = heads_that_answer(torch.tensor(-1e30), NEVER, limits)(no_context(market), market)
    assert (decisions.path.sum(-1) == 1).all()
    if limits.floor == 0:
        assert (settle(decisions.schedule(), market, GRID).completion_bar == HORIZON).all()


# --- decided in training, traded in earnest -----------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    wild_markets(with_untraded_bars=True),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.1, 3.0, 100.0, 1e30]),
    st.sampled_from(sorted(LIMITS)),
)
def test_where_no_volume_limits_an_order_it_trades_as_training_decided_to_the_last_bit(market, seed, size, name):
    heads, context = heads_that_answer(*random_answers(seed, size), LIMITS[name]), no_context(market)
    decided = heads(context, market).schedule()
    assert torch.equal(heads.schedule(context, market), decided)
    nothing = OrderSize(torch.zeros(len(market)), participation_cap=0.1)
    assert torch.equal(heads.schedule(context, market, nothing), decided)


@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    wild_markets(with_untraded_bars=True),
    st.integers(0, 2**31),
    st.sampled_from([0.1, 3.0, 1e8]),
    st.sampled_from(sorted(LIMITS)),
)
def test_whatever_the_network_answers_a_bar_takes_its_capacity_and_the_last_bar_is_asked_for_all(
    data, market, seed, size, name
):
    limits, order_size = LIMITS[name], data.draw(sizes(market))
    schedule = heads_that_answer(*random_answers(seed, size), limits).schedule(no_context(market), market, order_size)
    taken = capacity(market, order_size).clamp_max(limits.cap_in_lots).expand_as(schedule)
    assert schedule.min() >= 0
    assert (schedule <= taken).all()
    assert (schedule % LOT == 0).all()
    assert torch.equal(schedule[..., -1], torch.minimum(1 - schedule[..., :-1].sum(-1), taken[..., -1]))
    results = settle(schedule, market, GRID)
    assert torch.equal(results.filled_fraction, schedule.sum(-1))
    assert (results.filled_fraction <= 1).all()
    assert (results.completion_bar[results.filled_fraction < 0.99] == HORIZON).all()
    assert all(torch.isfinite(values).all() for values in vars(results).values())


def test_an_order_that_finishes_asks_for_all_that_remains_until_nothing_does():
    market = random_market(40, seed=3, untraded=0.1)
    size = random_size(market, seed=4)
    schedule = heads_that_answer(NOTHING, -NEVER).schedule(no_context(market), market, size)
    taken = capacity(market, size)
    remaining = torch.ones(40, *GRID.shape)
    for step in range(HORIZON):
        assert torch.equal(schedule[..., step], torch.minimum(remaining, taken[..., step]))
        remaining = remaining - schedule[..., step]
    assert (remaining == 0).any() and (remaining > 0).any()


def test_decisions_asked_for_one_bar_at_a_time_are_those_of_the_whole_order():
    heads = random_heads(independent=False)
    market = random_market(20, seed=5, untraded=0.1)
    size = random_size(market, seed=6)
    context = torch.randn(20, HORIZON, 5, generator=rng(7))
    schedule = heads.schedule(context, market, size)
    taken, price = capacity(market, size), relative_price(market, GRID)
    order = OpenOrder.untouched(torch.empty(20, *GRID.shape))
    for step in range(HORIZON):
        unknown = overwritten_from(OrderBatch(torch.zeros(20, 1, 1), market), step, seed=step, volumes="overwritten")
        later = torch.arange(HORIZON)[:, None] > step
        view = heads.view(torch.where(later, 7.0, context), unknown.market)
        child, probability = heads.decide(step, order, view)
        filled = fill(torch.where(probability > 0.5, order.remaining, child), taken[..., step])
        assert torch.equal(filled, schedule[..., step])
        order = order.after(filled, price[..., step])
    assert torch.equal(order.remaining, 1 - schedule.sum(-1))


def test_heads_that_overflow_trade_nothing():
    heads = heads_that_answer(NOTHING, NEVER)
    market = random_market(2)
    for answer in (0, 1):
        with torch.no_grad():
            heads.out.bias.zero_()
            heads.out.bias[:, answer] = float("nan")
        with pytest.raises(FloatingPointError, match="the network overflows"):
            heads.schedule(no_context(market), market)


# --- one network per order, or one for all ------------------------------------------------------------------------


def random_heads(independent: bool, seed: int = 0) -> AllocationHeads:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        heads = AllocationHeads(GRID, FREE, 5, 6, independent=independent, prior="curve", own_readout=True)
        with torch.no_grad():
            for weight in heads.parameters():
                weight.normal_()
    return heads


def test_independent_heads_with_equal_weights_decide_as_a_shared_one():
    shared, independent = random_heads(independent=False), random_heads(independent=True)
    with torch.no_grad():
        for name, weight in independent.named_parameters():
            weight.copy_(shared.get_parameter(name).expand_as(weight))
    market = random_market(4, untraded=0.1)
    context = torch.randn(4, HORIZON, 5, generator=rng(1))
    one, other = shared(context, market), independent(context, market)
    assert torch.allclose(one.path, other.path, atol=1e-4)
    assert torch.allclose(one.finish_probability, other.finish_probability, atol=1e-4)


def test_independent_heads_do_not_share_a_weight():
    heads = random_heads(independent=True)
    market = random_market(4)
    context = torch.randn(4, HORIZON, 5, generator=rng(1))
    before = heads(context, market)
    scenario, duration = 3, 6
    with torch.no_grad():
        heads.out.weight[scenario * HORIZON + duration] += 1
    after = heads(context, market)
    same = torch.ones(GRID.shape, dtype=torch.bool)
    same[scenario, duration] = False
    assert torch.equal(before.path[:, same], after.path[:, same])
    assert not torch.equal(before.path[:, ~same], after.path[:, ~same])


@pytest.mark.parametrize("independent", [True, False])
def test_no_two_orders_of_fresh_heads_decide_alike(independent):
    torch.manual_seed(0)
    heads = AllocationHeads(GRID, FREE, 5, 6, independent=independent, prior="curve", own_readout=True)
    market = random_market(4)
    probability = heads(torch.randn(4, HORIZON, 5, generator=rng(1)), market).finish_probability
    by_order = probability.permute(1, 2, 0, 3).reshape(8 * HORIZON, -1)
    differences = torch.cdist(by_order, by_order, p=1) + torch.eye(8 * HORIZON)
    assert differences.min() > 0


def test_the_state_of_an_order_is_free_of_the_scale_of_prices():
    heads = random_heads(independent=False)
    market = random_market(4)
    context = torch.randn(4, HORIZON, 5, generator=rng(1))
    in_other_currency = MarketPath(
        64 * market.arrival,
        64 * market.price,
        64 * market.close,
        market.volume,
        market.volatility,
        market.expected_volume,
    )
    assert torch.equal(heads(context, market).path, heads(context, in_other_currency).path)


def test_the_two_sides_see_mirrored_gaps():
    """With equal codes and weights, a sell in a falling market decides as a buy in a market that rises as far."""
    heads = random_heads(independent=False)
    with torch.no_grad():
        heads.order_code[4:] = heads.order_code[:4]
        heads.own_out[4:] = heads.own_out[:4]
    market = random_market(4)
    mirrored = MarketPath(
        market.arrival,
        2 * market.arrival[:, None] - market.price,
        2 * market.arrival[:, None] - market.close,
        market.volume,
        market.volatility,
        market.expected_volume,
    )
    context = torch.randn(4, HORIZON, 5, generator=rng(1))
    quantity = [0, 2]  # notional orders average inverse prices, which do not mirror
    assert not GRID.is_notional[quantity].any()
    buys = heads(context, market).path[:, quantity]
    sells = heads(context, mirrored).path[:, [4 + s for s in quantity]]
    assert torch.allclose(buys, sells, atol=1e-3)


# --- what untrained heads answer ----------------------------------------------------------------------------------


def fresh_schedule(limits: Limits, finish_logit: float) -> Tensor:
    """Heads whose network is silent, so that their prior speaks, with one finish logit in all bars from m on."""
    heads = AllocationHeads(GRID, limits, context=1, width=4, independent=False, prior="curve")
    with torch.no_grad():
        heads.out.weight.zero_()
        heads.out.bias[:, 1] = finish_logit
        market = random_market(20)
        return heads(no_context(market), market).schedule()


@pytest.mark.parametrize("cap", [1.0, 0.25, 0.2, 0.15, 0.10])
def test_an_untrained_order_may_finish_from_its_minimum_duration_or_the_first_bar_its_cap_allows(cap):
    schedule = fresh_schedule(Limits(horizon=HORIZON, cap=cap), finish_logit=15.0)
    first_exit = GRID.minimum_duration.clamp_min(math.ceil(1 / cap))
    last_fill = torch.where(schedule > 0, torch.arange(1, HORIZON + 1), 0).amax(-1)
    against_twap = ~GRID.is_vwap[:, 0, 0]
    assert (last_fill[:, against_twap] == first_exit).all()


def test_an_untrained_order_without_a_cap_trades_equal_slices_until_it_finishes():
    schedule = fresh_schedule(FREE, finish_logit=-50.0)
    assert (schedule[:, ~GRID.is_vwap[:, 0, 0]] - 1 / HORIZON).abs().max() < 16 * LOT


def test_whether_an_order_may_finish_is_a_step_with_the_gradient_of_a_ramp():
    remaining = torch.tensor([0.1, 0.19, 0.2, 0.21, 0.9], requires_grad=True)
    fits = may_finish(remaining, remaining.clamp_max(0.2), cap=0.2)
    assert fits.tolist() == pytest.approx([1, 1, 1, 0, 0])
    fits.sum().backward()
    assert (remaining.grad[1:4] < -1).all()
    assert remaining.grad[4].abs() < 1e-3
    assert remaining.grad[0].abs() < 1e-3  # what fits with room to spare is not taught to trade further ahead
    free = may_finish(remaining, remaining, cap=1.0)
    assert (free == 1).all() and not free.requires_grad


def test_an_order_that_all_but_fits_into_the_bar_in_which_it_may_finish_is_made_to_fit():
    target = torch.tensor([0.77, 0.79, 0.8, 0.85], requires_grad=True)
    anywhere = torch.ones(4)
    ready = get_ready(target, anywhere, torch.tensor(True), cap=0.2)
    assert ready.tolist() == pytest.approx([0.77, 0.8, 0.8, 0.85])
    ready.sum().backward()
    assert (target.grad == 1).all()
    for hi, may_end, cap in ((anywhere, False, 0.2), (0.795 * anywhere, True, 0.2), (anywhere, True, 1.0)):
        assert torch.equal(get_ready(target, hi, torch.tensor(may_end), cap), target)


def test_the_weights_of_an_order_and_bar_move_that_order_from_that_bar_on_and_no_other():
    heads, market = random_heads(independent=False), random_market(4)
    context = torch.randn(4, HORIZON, 5, generator=rng(1))
    before = heads(context, market).path
    with torch.no_grad():
        heads.own_out[2, 7, 3] += 1.0
    moved = (heads(context, market).path != before).any(0)
    assert moved[2, 7, 3]
    moved[2, 7, 3:] = False
    assert not moved.any()


def test_an_order_behind_its_curve_returns_to_it_at_once():
    market = random_market(3)
    market.volume[:, 2:6] = 0
    schedule = untouched(market)[:, ~GRID.is_vwap[:, 0, 0]]
    assert (schedule[..., 6] - 5 / HORIZON).abs().max() < 16 * LOT
    assert (schedule[..., 7:] - 1 / HORIZON).abs().max() < 16 * LOT
