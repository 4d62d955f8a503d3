"""What heads answer before they have learned anything."""

import pytest
import torch
from builders import FEATURES, FREE, GRID, HORIZON, LOOKBACK, random_market, random_orders

from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.config import LEMConfig
from lem_models.execution import gap_to_benchmark, settle
from lem_models.heads import AllocationHeads, base_shares
from lem_models.lem import LEM
from lem_models.orders import LOT, Limits
from lem_models.priors import CurvePrior, StoppingPrior
from lem_models.simulation import WalkLaw
from lem_models.walks import WALK_FEATURES, walk_orders


@pytest.mark.parametrize("limits", [FREE, Limits(HORIZON, cap=0.2), Limits(HORIZON, floor=0.02, cap=0.15)], ids=str)
def test_silent_heads_follow_the_no_forecast_optimum(limits):
    heads = AllocationHeads(GRID, limits, context=1, width=4, independent=False, prior="stopping")
    with torch.no_grad():
        heads.out.weight.zero_()
        orders = walk_orders(WalkLaw(bar_averages=True), 200, 4, HORIZON, 0.01, torch.Generator().manual_seed(0))
        schedule = heads(torch.zeros(200, HORIZON, 1), orders.market).schedule()
    optimum = OptimalStopping(limits).schedule(orders)
    ours, theirs = (settle(each, orders.market, GRID) for each in (schedule, optimum))
    assert (ours.completion_bar == theirs.completion_bar).float().mean() > 0.999
    assert (schedule - optimum).abs().float().quantile(0.99) < 4 * LOT


def test_an_untrained_model_earns_what_stopping_earns_at_no_more_dispersion():
    config = LEMConfig(WALK_FEATURES, lookback=4, width=8, embedding=4, memory_width=8, head_width=8)
    orders = walk_orders(WalkLaw(bar_averages=True), 2_000, 4, HORIZON, 0.01, torch.Generator().manual_seed(1))
    gains = [
        -settle(strategy.schedule(orders), orders.market, GRID).slippage_bps / 100
        for strategy in (LEM(config), OptimalStopping(FREE))
    ]
    model, optimum = (gain[:, ~GRID.is_vwap[:, 0, 0], 5] for gain in gains)
    assert (model - optimum).mean().abs() < 0.01
    assert model.std() < 1.05 * optimum.std()


def test_the_plan_is_kept_with_the_weights():
    config = LEMConfig(FEATURES, lookback=LOOKBACK, width=8, memory_width=8)
    model, other = LEM(config), LEM(config)
    with torch.no_grad():
        model.allocate.prior.boundary.fill_(torch.inf)  # a plan of another time
    other.load_state_dict(model.state_dict())
    orders = random_orders(5)
    assert torch.equal(other.schedule(orders), model.schedule(orders))


@pytest.mark.parametrize("prior", [CurvePrior(GRID, FREE), StoppingPrior(GRID, FREE)], ids=lambda p: type(p).__name__)
def test_a_prior_answers_in_finite_logits_whatever_remains(prior):
    market = random_market(6)
    gap = gap_to_benchmark(market, GRID)
    course = 1 - (1 - base_shares(market, GRID)).cumprod(-1)
    for step in range(HORIZON):
        for fraction in (0.0, LOT, 0.3, 1.0):
            remaining = torch.full((6, *GRID.shape), fraction)
            for answer in prior(step, remaining, gap[..., step], course[..., step]):
                assert torch.isfinite(answer).all()


# --- every bar and every minimum duration is within reach ---------------------------------------------------------


def untrained(prior: str) -> LEM:
    torch.manual_seed(0)
    sizes = {"lookback": 4, "width": 8, "embedding": 4, "memory_width": 8, "head_width": 8}
    return LEM(LEMConfig(WALK_FEATURES, **sizes, prior=prior))


def test_an_untrained_order_may_learn_to_finish_in_every_bar_from_its_minimum_duration_on():
    orders = walk_orders(WalkLaw(bar_averages=True), 50, 4, HORIZON, 0.01, torch.Generator().manual_seed(2))
    probability = untrained("curve")(orders).finish_probability
    bar = torch.arange(1, HORIZON + 1)
    for minimum in range(1, HORIZON + 1):
        of_duration = probability[:, :, minimum - 1]
        assert (of_duration[..., bar >= minimum] > 0.02).all()  # a chance, and a gradient of that size
        assert (of_duration[..., bar < minimum] < 1e-6).all()


def test_untrained_orders_finish_early_and_no_two_minimum_durations_alike():
    """But for the first bar: before it the gap is zero, and waiting costs nothing in a market without drift."""
    orders = walk_orders(WalkLaw(bar_averages=True), 500, 4, HORIZON, 0.01, torch.Generator().manual_seed(2))
    schedule = untrained("stopping").schedule(orders)
    completion = settle(schedule, orders.market, GRID).completion_bar
    for minimum in range(2, HORIZON + 1):
        assert (completion[:, :, minimum - 1] == minimum).any(0).all(), minimum
        for other in range(2, minimum):
            assert (schedule[:, :, minimum - 1] != schedule[:, :, other - 1]).any(-1).any(0).all(), (minimum, other)


def test_the_base_curve_of_a_minimum_duration_is_its_own_and_runs_over_the_bars():
    orders = walk_orders(WalkLaw(), 5, 4, HORIZON, 0.01, torch.Generator().manual_seed(3))
    model = untrained("curve")
    with torch.no_grad():
        model.allocate.out.weight.zero_()  # the prior alone
        before = model(orders).path
        expected = base_shares(orders.market, GRID).expand_as(before)
        curve = 1 - (1 - expected).cumprod(-1)
        assert (before.cumsum(-1) - curve).abs().max() < 16 * LOT
        for minimum in range(HORIZON):
            kept = model.allocate.prior.shift[minimum].clone()
            model.allocate.prior.shift[minimum] += 1
            moved = (model(orders).path != before).any(-1).flatten(0, 1)
            assert moved.all(0).tolist() == moved.any(0).tolist() == [m == minimum for m in range(HORIZON)]
            model.allocate.prior.shift[minimum] = kept


def test_an_order_that_missed_its_cap_answers_that_it_would_have_finished():
    prior = StoppingPrior(GRID, Limits(HORIZON, cap=0.2))
    wide = torch.full((1, 1, 1), 3.0)
    for remaining in (0.2, 0.25, 1.0):
        _, logit = prior(7, torch.full((1, 1, HORIZON), remaining), wide, wide)
        assert (logit[..., :8] > 0).all()
        assert (logit[..., 8:] < 0).all()  # before the minimum duration nobody would
