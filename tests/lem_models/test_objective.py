from dataclasses import replace

import pytest
import torch
from builders import (
    FREE,
    GRID,
    HORIZON,
    LIMITS,
    heads_that_answer,
    no_context,
    random_market,
    random_orders,
    rng,
    tiny_lem,
)

from lem_models.execution import expected_slippage, settle, slippage_on_finish
from lem_models.heads import Decisions
from lem_models.objective import conditional_value_at_risk, mean_dispersion, paper_objective, stop_and_hedge
from lem_models.orders import Limits, MarketPath


def hard_decisions(market: MarketPath, limits: Limits, seed: int = 0) -> Decisions:
    """Decisions of a network that is certain in every bar: finish probabilities are zero or one."""
    draw = rng(seed)
    shape = (*GRID.shape, HORIZON)
    desired = 2 * torch.randn(shape, generator=draw)
    finish = torch.where(torch.rand(shape, generator=draw) < 0.15, 1000.0, -1000.0)
    return heads_that_answer(desired, finish, limits)(no_context(market), market)


def assert_loss_is_metric(decisions: Decisions, market: MarketPath) -> None:
    assert ((decisions.finish_probability == 0) | (decisions.finish_probability == 1)).all()
    mean, second = expected_slippage(decisions.path, decisions.finish_probability, market, GRID)
    settled = settle(decisions.schedule(), market, GRID).slippage_bps
    assert torch.allclose(mean, settled, atol=0.01)
    sigma = (market.volatility[:, 0] * 1e4)[:, None, None]
    for risk_aversion in (0.0, 0.1, 2.0):
        loss = mean_dispersion(decisions, market, GRID, risk_aversion)
        expected = (settled / sigma + risk_aversion * (settled / sigma).square()).mean()
        assert loss.item() == pytest.approx(expected.item(), abs=1e-4)
    assert torch.allclose(second, settled.square(), atol=0.5, rtol=1e-3)


@pytest.mark.parametrize("name", ["free", "cap of 0.10", "cap of exactly one twelfth"])
def test_the_loss_of_a_certain_decision_is_the_metric(name):
    market = random_market(30, seed=1)
    assert_loss_is_metric(hard_decisions(market, LIMITS[name]), market)


def test_the_loss_of_a_certain_decision_is_the_metric_where_bars_do_not_trade():
    market = random_market(30, seed=1, untraded=0.3)
    market.volume[:, -1] = 1.0
    assert_loss_is_metric(hard_decisions(market, FREE), market)


def test_the_loss_of_a_certain_decision_is_the_metric_where_a_floor_completes_the_order():
    market = random_market(30, seed=1)
    assert_loss_is_metric(hard_decisions(market, LIMITS["large floor"]), market)


def test_the_loss_of_a_certain_decision_is_the_metric_where_the_last_bar_does_not_trade():
    market = random_market(30, seed=1)
    market.volume[:, -1] = 0
    assert_loss_is_metric(hard_decisions(market, FREE), market)


def test_nothing_after_a_certain_completion_enters_the_loss():
    market = random_market(30, seed=2)
    finish = torch.where(torch.arange(HORIZON) >= 4, 1000.0, -1000.0)
    decisions = heads_that_answer(torch.tensor(0.0), finish)(no_context(market), market)
    mean, _ = expected_slippage(decisions.path, decisions.finish_probability, market, GRID)
    market.price[:, 5:] *= 3
    after, _ = expected_slippage(decisions.path, decisions.finish_probability, market, GRID)
    assert torch.equal(mean[..., :5], after[..., :5])
    assert not torch.equal(mean[..., 5:], after[..., 5:])


@pytest.mark.parametrize("objective", [mean_dispersion, stop_and_hedge, paper_objective])
def test_nothing_after_a_certain_completion_teaches_an_order_anything(objective):
    """Neither a later price nor a later volume, whatever is minimised: not half of it, and no part."""
    market = random_market(30, seed=2)
    finish = torch.where(torch.arange(HORIZON) >= 4, 1000.0, -1000.0)
    decisions = heads_that_answer(torch.tensor(0.0), finish)(no_context(market), market)
    later = torch.arange(HORIZON) >= 5
    wild = replace(
        market,
        price=torch.where(later, 3 * market.price, market.price),
        volume=torch.where(later, 1000 * market.volume, market.volume),
    )
    lessons = []
    for each in (market, wild):
        leaves = [values.detach().requires_grad_() for values in (decisions.path, decisions.finish_probability)]
        objective(Decisions(*leaves), each, GRID, 0.1).backward()
        # What would have happened had it not finished is a lesson of its own, on the probability of that bar.
        lessons.append((leaves[0].grad[:, :, :5], leaves[1].grad[:, :, :5, :4]))
    for one, other in zip(*lessons, strict=True):
        assert torch.equal(one, other)
    assert (lessons[0][0][..., 5:] == 0).all()
    assert (lessons[0][1] != 0).any()


@pytest.mark.parametrize("objective", [mean_dispersion, stop_and_hedge, paper_objective])
@pytest.mark.parametrize("prior", ["stopping", "curve"])
def test_a_window_without_any_trade_neither_spoils_a_loss_nor_a_gradient(objective, prior):
    model, orders = tiny_lem(prior=prior), random_orders(8)
    orders.market.volume[3] = 0
    orders.market.price[3] = 0
    loss = objective(model(orders), orders.market, GRID, 0.1)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)


def test_an_order_completes_in_one_bar_or_another_and_costs_there_what_the_market_says():
    market = random_market(30, seed=3)
    decisions = heads_that_answer(torch.tensor(0.0), torch.tensor(-1.0))(no_context(market), market)
    weight, slippage = slippage_on_finish(decisions.path, decisions.finish_probability, market, GRID)
    assert (weight > 0).all() and torch.allclose(weight.sum(-1), torch.ones(30, *GRID.shape))
    for bar in (0, 5, HORIZON - 1):
        certain = (torch.arange(HORIZON) == bar).expand_as(weight).to(weight.dtype)
        settled = settle(Decisions(decisions.path, certain).schedule(), market, GRID).slippage_bps
        assert torch.allclose(slippage[..., bar], settled, atol=0.02)


def test_cost_is_counted_in_volatilities_of_one_bar():
    market = random_market(30, seed=3)
    decisions = hard_decisions(market, FREE)
    loss = mean_dispersion(decisions, market, GRID, risk_aversion=0.0)
    market.volatility = 4 * market.volatility
    assert mean_dispersion(decisions, market, GRID, risk_aversion=0.0).item() == pytest.approx(
        loss.item() / 4, rel=1e-5
    )


def test_aversion_to_risk_weighs_squared_cost_and_so_the_risk_of_finishing_at_chance():
    market = random_market(30, seed=3)
    decisions = heads_that_answer(torch.tensor(0.0), torch.tensor(-1.0))(no_context(market), market)
    mean, second = expected_slippage(decisions.path, decisions.finish_probability, market, GRID)
    sigma = (market.volatility[:, 0] * 1e4)[:, None, None]
    assert (second > mean.square()).float().mean() > 0.9
    for risk_aversion in (0.0, 0.1, 2.0):
        loss = mean_dispersion(decisions, market, GRID, risk_aversion)
        expected = (mean / sigma + risk_aversion * second / sigma.square()).mean()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


# --- the worst orders ---------------------------------------------------------------------------------------------

RISKS = pytest.mark.parametrize("cvar_level", [None, 0.95], ids=["variance", "cvar"])


def mean_of_the_worst(costs: list[float], masses: list[float], mass: float) -> float:
    """Sorted, and counted from the top until so much mass is reached."""
    left, total = mass, 0.0
    for cost, own in sorted(zip(costs, masses, strict=True), reverse=True):
        total += cost * min(own, left)
        left -= min(own, left)
    return total / mass


@pytest.mark.parametrize("level", [0.9, 0.95, 0.5, 0.999])
def test_the_cvar_of_a_certain_decision_is_the_mean_of_its_worst_orders(level):
    market = random_market(30, seed=1)
    decisions = hard_decisions(market, FREE)
    sigma = (market.volatility[:, 0] * 1e4)[:, None, None]
    settled = settle(decisions.schedule(), market, GRID).slippage_bps / sigma
    worst = [
        mean_of_the_worst(settled[:, scenario, minimum].tolist(), [1.0] * 30, 30 * (1 - level))
        for scenario in range(8)
        for minimum in range(HORIZON)
    ]
    for risk_aversion in (0.0, 0.7):
        loss = mean_dispersion(decisions, market, GRID, risk_aversion, cvar_level=level)
        expected = settled.mean().item() + risk_aversion * sum(worst) / len(worst)
        assert loss.item() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_cvar_counts_every_completion_bar_by_its_probability(level):
    draw = rng(4)
    weight = torch.rand(25, 2, 3, 5, generator=draw).softmax(-1)
    cost = torch.randn(25, 2, 3, 5, generator=draw)
    tail = conditional_value_at_risk(weight, cost, level)
    for cell in ((0, 0), (1, 2)):
        costs, masses = (each[:, *cell].flatten().tolist() for each in (cost, weight))
        assert tail[cell].item() == pytest.approx(mean_of_the_worst(costs, masses, 25 * (1 - level)), rel=1e-5)


def test_cvar_of_all_orders_is_their_mean_and_of_hardly_any_the_worst():
    cost = torch.randn(50, 1, 1, 1, generator=rng(5))
    certain = torch.ones_like(cost)
    assert conditional_value_at_risk(certain, cost, 1e-6).item() == pytest.approx(cost.mean().item(), abs=1e-4)
    assert conditional_value_at_risk(certain, cost, 0.999).item() == pytest.approx(cost.max().item(), rel=1e-4)


def test_the_gradient_of_cvar_is_that_of_its_value():
    draw = rng(6)
    shape = (9, 1, 2, 3)
    cost = torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_()
    weight = torch.rand(shape, generator=draw, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda w, c: conditional_value_at_risk(w, c, 0.8), (weight, cost))


# --- the objective of training ------------------------------------------------------------------------------------


def undecided(seed: int = 0) -> Decisions:
    """Decisions with a gradient of their own, apart from any network."""
    draw = rng(seed)
    path = torch.rand(40, *GRID.shape, HORIZON, generator=draw)
    probability = 0.5 * torch.rand(path.shape, generator=draw)
    return Decisions((path / path.sum(-1, keepdim=True)).requires_grad_(), probability.requires_grad_())


@RISKS
def test_a_schedule_learns_from_dispersion_alone_and_stopping_from_the_mean_too(cvar_level):
    market, decisions = random_market(40), undecided()
    stop_and_hedge(decisions, market, GRID, 0.0, cvar_level).backward()
    assert decisions.path.grad is None or (decisions.path.grad == 0).all()
    assert (decisions.finish_probability.grad[..., :-1] != 0).any()
    decisions = undecided()
    stop_and_hedge(decisions, market, GRID, 0.1, cvar_level).backward()
    assert (decisions.path.grad != 0).any()


def test_a_schedule_hears_of_the_mean_where_it_decides_whether_an_order_may_finish():
    market, decisions = random_market(40), undecided()
    tied = decisions.finish_probability * (1 + decisions.path - decisions.path.detach())
    stop_and_hedge(Decisions(decisions.path, tied), market, GRID, risk_aversion=0.0).backward()
    assert (decisions.path.grad != 0).any()


def test_a_schedule_hears_of_the_mean_where_prices_are_no_martingale_to_it():
    market, decisions = random_market(40), undecided()
    stop_and_hedge(decisions, market, GRID, 0.0, is_martingale=False).backward()
    assert (decisions.path.grad != 0).any()


@RISKS
def test_orders_of_small_dispersion_count_as_much_as_those_of_large(cvar_level):
    """A benchmark ten times as near weighs as before, as every order is measured in its own dispersion."""
    market, decisions = random_market(40), undecided()
    calm = replace(market, volatility=market.volatility / 10)
    loss, scaled = (stop_and_hedge(decisions, each, GRID, 0.1, cvar_level).item() for each in (market, calm))
    assert scaled == pytest.approx(loss, rel=0.02)


def test_the_objective_of_the_paper_adds_a_buy_and_a_sell_and_takes_the_fixed_order_by_its_size():
    market, decisions = random_market(40), undecided()
    mean, _ = expected_slippage(decisions.path, decisions.finish_probability, market, GRID)
    terms = []
    for minimum in range(HORIZON):
        for scenario in range(4):
            buy, sell = mean[:, scenario, minimum] / 100, mean[:, scenario + 4, minimum] / 100
            fixed = minimum == HORIZON - 1
            terms += [buy.abs(), sell.abs()] if fixed else [buy + sell]
    expected = torch.nn.functional.softplus(torch.stack(terms)).mean()
    assert paper_objective(decisions, market, GRID).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_schedule_hears_of_dispersion_alone_and_as_loud_as_it_is_told():
    market = random_market(20, seed=5)
    decisions = heads_that_answer(torch.tensor(0.2), torch.tensor(-1.0))(no_context(market), market)
    paths = [decisions.path.detach().requires_grad_() for _ in range(2)]
    chance = decisions.finish_probability.detach()
    stop_and_hedge(Decisions(paths[0], chance), market, GRID, 0.3, schedule_gain=10.0).backward()

    _, second_moment = expected_slippage(paths[1], chance, market, GRID)
    in_sigmas = second_moment / (market.volatility[:, 0] * 1e4).square()[:, None, None]
    (0.3 * in_sigmas / (in_sigmas.detach().mean(0) + 0.02**2)).mean().backward()
    assert torch.allclose(paths[0].grad, 10 * paths[1].grad, rtol=1e-3, atol=1e-9)
