"""The plan against the stopping rule, TWAP, and every schedule of a tiny horizon."""

from functools import cache
from itertools import combinations_with_replacement

import pytest
import torch
from builders import FREE, HORIZON, LIMITS, rng
from torch import Tensor

from lem_models.orders import Limits
from lem_models.stopping.gaps import BAR_AVERAGES, POINT_PRICES, BarMoves, GapProcess
from lem_models.stopping.plan import Plan, solve_plan
from lem_models.stopping.rule import solve_rule

LITTLE = 0.01
MOVES = pytest.mark.parametrize("moves", [POINT_PRICES, BAR_AVERAGES], ids=["points", "averages"])


@cache
def solved(limits: Limits, moves: BarMoves, risk_aversion: float = LITTLE) -> Plan:
    return solve_plan(limits, moves, risk_aversion)


@cache
def value(moves: BarMoves) -> Tensor:
    return solve_rule(GapProcess.after_last_close(HORIZON, moves)).value


# --- the mean -----------------------------------------------------------------------------------------------------


@MOVES
def test_a_free_plan_earns_what_the_stopping_rule_is_worth(moves):
    assert solved(FREE, moves).mean == pytest.approx(value(moves), abs=3e-4)


@MOVES
@pytest.mark.parametrize("cap", [0.1, 0.15, 0.2, 0.5])
def test_a_capped_plan_trades_ahead_and_earns_what_the_rule_promises_under_the_cap(moves, cap):
    rule = solve_rule(GapProcess.after_last_close(HORIZON, moves))
    promised = [rule.value_under_cap(cap, m) for m in range(1, HORIZON + 1)]
    assert solved(Limits(HORIZON, cap=cap), moves, 1e-4).mean == pytest.approx(torch.tensor(promised), abs=1e-3)


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
def test_no_limits_make_an_order_worth_more(limits):
    plan = solved(limits, BAR_AVERAGES)
    assert (plan.mean <= value(BAR_AVERAGES) + 5e-5).all()
    assert (plan.mean >= -1e-9).all()
    assert float(plan.mean[-1]) == pytest.approx(0, abs=1e-9)


def test_a_floor_that_ends_the_order_early_leaves_little_to_choose():
    """Three tenths in every bar fill the order in bar 4, whatever its minimum duration."""
    plan = solved(Limits(HORIZON, floor=0.3, cap=0.3), POINT_PRICES)
    assert plan.mean == pytest.approx(torch.zeros(HORIZON), abs=1e-9)
    # By bar 12, what went ahead of the benchmark: the sum over bars of (r − s)², r remaining and s = 12/12, 11/12, …
    ahead = [max(1 - 0.3 * t, 0) - (1 - t / HORIZON) for t in range(HORIZON)]
    assert float(plan.variance[-1]) == pytest.approx(sum(each**2 for each in ahead), rel=0.01)


# --- the schedule -------------------------------------------------------------------------------------------------


@MOVES
def test_an_order_that_never_finishes_early_is_traded_in_equal_slices(moves):
    plan = solved(FREE, moves)
    assert float(plan.variance[-1]) == pytest.approx(0, abs=1e-7)
    for step in range(HORIZON - 1):
        remaining = torch.full((len(plan.gaps), HORIZON), 1 - step / HORIZON)
        kept, boundary = plan.look_up(step, remaining, plan.gaps[:, None])
        assert kept[:, -1] == pytest.approx(torch.full(plan.gaps.shape, 1 - (step + 1) / HORIZON), abs=2e-3)
        assert (boundary[:, -1] == torch.inf).all()


def variances(plan: Plan, moves: BarMoves, horizon: int) -> tuple[Tensor, Tensor]:
    """Variance of the gain for each way to keep sixtieths after bars 1..horizon − 1, and those ways."""
    draw, paths = rng(0), 200_000
    shape = (paths, horizon)
    move = torch.randn(shape, generator=draw, dtype=torch.float64)
    rest = (moves.fill_variance - moves.covariance**2) ** 0.5
    fill = moves.covariance * move + rest * torch.randn(shape, generator=draw, dtype=torch.float64)
    last = torch.cat([torch.zeros(paths, 1), move.cumsum(1)[:, :-1]], dim=1)
    price = last + fill
    bar = torch.arange(1, horizon + 1)
    gap = torch.cat([torch.zeros(paths, 1), (price.cumsum(1) / bar)[:, :-1]], dim=1) - last
    finishes = gap[:, -2] >= plan.boundary[0, horizon - 2, -1]
    benchmark = torch.where(finishes, price[:, :-1].mean(1), price.mean(1))
    # Only before the last bar is there a choice to finish, so a schedule is a number per bar: the gain is linear in it.
    terms = [-price[:, t] for t in range(horizon - 2)]
    terms += [torch.where(finishes, 0.0, -price[:, -2]), torch.where(finishes, 0.0, -price[:, -1])]
    finished_with = torch.where(finishes, -price[:, -2], 0.0)
    covariance = torch.cov(torch.stack([benchmark, finished_with, *terms]))
    ways = list(combinations_with_replacement(range(60, -1, -1), horizon - 1))
    kept = torch.tensor([(60, *way, 0) for way in ways], dtype=torch.float64) / 60
    traded = kept[:, :-1] - kept[:, 1:]
    weights = torch.cat([torch.ones(len(ways), 1), kept[:, [horizon - 2]], traded], dim=1)
    return torch.einsum("wi,ij,wj->w", weights, covariance, weights), kept[:, 1:-1]


@pytest.mark.parametrize(("moves", "horizon"), [(POINT_PRICES, 4), (BAR_AVERAGES, 3)], ids=["points", "averages"])
def test_no_schedule_of_a_tiny_horizon_has_less_variance(moves, horizon):
    plan = solved(Limits(horizon), moves)
    brute, ways = variances(plan, moves, horizon)
    assert float(plan.variance[0]) == pytest.approx(float(brute.min()), rel=0.02)
    best, remaining = ways[brute.argmin()], 1.0
    for step in range(horizon - 1):
        gap = -0.5 if step == horizon - 2 else 0.0  # before the last choice, a gap at which the order goes on
        kept, _ = plan.look_up(step, torch.full((horizon,), remaining), torch.tensor(gap))
        remaining = float(kept[0])
        assert remaining == pytest.approx(float(best[step]), abs=0.02)


# --- risk aversion ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [FREE, Limits(HORIZON, cap=0.2)], ids=["free", "cap of 0.2"])
def test_more_risk_aversion_gives_up_mean_for_less_variance(limits):
    plans = [solved(limits, BAR_AVERAGES, aversion) for aversion in (0.01, 0.1, 0.5, 2.0)]
    means = torch.stack([plan.mean for plan in plans])
    spreads = torch.stack([plan.variance.sqrt() for plan in plans])
    assert (means.diff(dim=0) < 5e-4).all()
    assert (spreads.diff(dim=0) < 5e-4).all()
    assert (spreads[0] - spreads[-1])[5] > 0.002


def test_without_risk_aversion_there_is_no_plan():
    with pytest.raises(ValueError, match="risk_aversion is 0"):
        solve_plan(FREE, POINT_PRICES, 0.0)


# --- shape --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
def test_a_plan_trades_within_the_limits_and_never_back(limits):
    plan = solved(limits, BAR_AVERAGES)
    fractions = torch.linspace(0, 1, plan.remaining_after.shape[2])[:, None]
    assert (plan.remaining_after >= 0).all()
    assert (plan.remaining_after <= fractions + 1e-6).all()
    step = float(fractions[1])
    assert (fractions - plan.remaining_after <= limits.cap + step + 1e-6).all()
    assert torch.isfinite(plan.remaining_after).all()
    assert not torch.isnan(plan.boundary).any()


def test_an_order_that_may_not_finish_yet_has_an_infinite_boundary():
    plan = solved(Limits(HORIZON, cap=0.2), BAR_AVERAGES)
    for minimum in range(1, HORIZON + 1):
        assert (plan.boundary[minimum - 1, : minimum - 1] == torch.inf).all()
    too_much = torch.linspace(0, 1, plan.boundary.shape[-1]) > 0.2 + 1e-6
    assert (plan.boundary[..., too_much] == torch.inf).all()
    assert (plan.boundary[:, -1, ~too_much] == -torch.inf).all()


@MOVES
@pytest.mark.parametrize("horizon", [2, 3, 7, 16])
def test_any_horizon_has_a_plan(moves, horizon):
    plan = solved(Limits(horizon), moves)
    rule = solve_rule(GapProcess.after_last_close(horizon, moves))
    assert plan.mean == pytest.approx(rule.value, abs=3e-4)
    assert (plan.variance[:-1] >= plan.variance[-1] - 1e-7).all()
    assert torch.isfinite(plan.remaining_after).all()


@MOVES
def test_a_free_plan_finishes_where_the_rule_does(moves):
    rule = solve_rule(GapProcess.after_last_close(HORIZON, moves))
    plan = solved(FREE, moves, 1e-3)
    for step in range(2, HORIZON - 1):
        on_schedule = round((1 - step / HORIZON) * (plan.boundary.shape[-1] - 1))
        assert float(plan.boundary[0, step, on_schedule]) == pytest.approx(float(rule.boundary[step]), abs=0.01)
