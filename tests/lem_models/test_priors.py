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


def test_an_order_that_missed_its_cap_answers_that_it_would_have_finished():
    prior = StoppingPrior(GRID, Limits(HORIZON, cap=0.2))
    wide = torch.full((1, 1, 1), 3.0)
    for remaining in (0.2, 0.25, 1.0):
        _, logit = prior(7, torch.full((1, 1, HORIZON), remaining), wide, wide)
        assert (logit[..., :8] > 0).all()
        assert (logit[..., 8:] < 0).all()  # before the minimum duration nobody would
