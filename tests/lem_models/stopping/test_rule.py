"""The stopping rule against published tables, closed forms, every history of a tiny horizon, and its own play."""

import math

import pytest
import torch
from builders import HORIZON, rng
from torch import Tensor

from lem_models.stopping.gaps import BAR_AVERAGES, POINT_PRICES, GapProcess
from lem_models.stopping.rule import StoppingRule, solve_rule

MINIMUM_DURATIONS = [1, 3, 6, 7, 9, 10, 11, 12]
SIGMA_BPS = 30


@pytest.fixture(scope="module")
def points() -> StoppingRule:
    return solve_rule(GapProcess.after_last_close(HORIZON, POINT_PRICES))


@pytest.fixture(scope="module")
def averages() -> StoppingRule:
    return solve_rule(GapProcess.after_last_close(HORIZON, BAR_AVERAGES))


# --- known values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("process", "table", "digits"),
    [
        (GapProcess.after_last_close(HORIZON, POINT_PRICES), [8.97, 8.97, 7.72, 6.76, 4.37, 2.99, 1.53, 0], 2),
        (GapProcess.seeing_own_bar(HORIZON), [13.33, 13.00, 9.81, 8.37, 5.20, 3.52, 1.78, 0], 2),
        (GapProcess.after_last_close(HORIZON, BAR_AVERAGES), [11.0, 11.0, 8.8, 7.6, 4.8, 3.3, 1.7, 0], 1),
        (GapProcess.after_past_averages(HORIZON), [9.7, 9.7, 8.1, 7.1, 4.5, 3.1, 1.6, 0], 1),
    ],
    ids=["point prices", "seeing the own bar", "bar averages", "past averages only"],
)
def test_the_value_is_that_of_the_yardsticks(process, table, digits):
    value = solve_rule(process).value * SIGMA_BPS
    found = [float(value[m - 1]) for m in MINIMUM_DURATIONS]
    assert found == pytest.approx(table, abs=0.52 * 10**-digits)


def test_a_fifth_of_the_order_per_bar_is_enough_for_the_headline_values(points):
    found = [points.value_under_cap(0.2, m) for m in (6, 9, 11, 12)]
    assert found == pytest.approx([0.257, 0.145, 0.051, 0], abs=5e-4)


def test_a_cap_is_worth_a_longer_minimum_duration(points):
    assert points.value_under_cap(0.1, 3) == float(points.value[9])
    assert points.value_under_cap(1 / HORIZON, 1) == float(points.value[-1])
    assert points.value_under_cap(1.0, 1) == float(points.value[0])


def test_the_published_buyback_is_worth_what_it_was_published_at():
    """Guéant, Pu and Royer, arXiv 1312.5617: about 134 bps near risk neutrality, execution costs included."""
    price, daily_move, days, first_exercise = 45, 0.6, 63, 22
    rule = solve_rule(GapProcess.seeing_own_bar(days))
    without_costs = float(rule.value[first_exercise - 1]) * daily_move / price * 1e4
    assert without_costs == pytest.approx(144.7, abs=0.1)
    # Their costs are 0.1 · (participation rate)^0.75 a share, for 20 million shares where 4 million trade a day. Buying
    # evenly until the first exercise date is one way to pay them.
    even_buying = 0.1 * (20 / 4 / first_exercise) ** 0.75 / price * 1e4
    assert without_costs - even_buying == pytest.approx(134, rel=0.03)


@pytest.mark.parametrize(
    ("process", "value"),
    [
        # Going on earns a fixed part of the gap x, finishing a larger one: E[max(p x, q x)] = (p − q) E[x⁺].
        (GapProcess.after_last_close(4, POINT_PRICES), (2 / 3 - 1 / 2) * (1 / 2) / math.sqrt(2 * math.pi)),
        (GapProcess.after_last_close(3, BAR_AVERAGES), (1 / 2 - 1 / 3) * math.sqrt(1 / 3) / math.sqrt(2 * math.pi)),
        (GapProcess.seeing_own_bar(3), (1 - 2 / 3) * (1 / 2) / math.sqrt(2 * math.pi)),
    ],
)
def test_horizons_of_a_single_choice_have_the_value_worked_out_by_hand(process, value):
    assert float(solve_rule(process).value[0]) == pytest.approx(value, abs=2e-5)


# --- without reducing the state -----------------------------------------------------------------------------------


def mean_before(prices: list[Tensor]) -> Tensor:
    """Mean of prices that broadcast against each other, one axis per bar."""
    return sum(prices[1:], start=prices[0]) / len(prices)


def test_no_rule_over_whole_price_histories_does_better():
    """Every history of five bars on a lattice of moves, none of them summarised by its gap."""
    horizon, reach, count = 5, 4.5, 37
    move = torch.linspace(-reach, reach, count, dtype=torch.float64)
    chance = torch.softmax(-move.square() / 2, 0)
    prices: list[Tensor] = []
    for bar in range(horizon - 1):
        last = prices[-1] if prices else torch.zeros(())
        prices.append(last[..., None] + move.view([1] * bar + [count]))
    spread = [price.view(*price.shape, *[1] * (horizon - 1 - price.dim())) for price in prices]

    def gain(bar: int) -> Tensor:
        """Of finishing in a bar, over the histories of the bars before it."""
        seen = spread[: bar - 1]
        gap = mean_before(seen) - seen[-1]
        return ((bar - 1) / bar * gap).expand([count] * (bar - 1) + [1] * (horizon - bar)).squeeze()

    value = gain(horizon)
    for bar in range(horizon - 1, 1, -1):
        value = torch.maximum(gain(bar), value @ chance)
    rule = solve_rule(GapProcess.after_last_close(horizon, POINT_PRICES))
    assert float(value @ chance) == pytest.approx(float(rule.value[0]), rel=2e-3)


# --- play ---------------------------------------------------------------------------------------------------------

PATHS = 100_000


def walks(fill_variance: float, covariance: float, seed: int) -> tuple[Tensor, Tensor]:
    """Last closes and fill prices of driftless walks in σ; (paths, H) each."""
    draw = rng(seed)
    move = torch.randn(PATHS, HORIZON, generator=draw, dtype=torch.float64)
    own = torch.randn(PATHS, HORIZON, generator=draw, dtype=torch.float64)
    close = move.cumsum(1)
    last = torch.cat([torch.zeros(PATHS, 1), close[:, :-1]], dim=1)
    return last, last + covariance * move + max(fill_variance - covariance**2, 0) ** 0.5 * own


def play(finishes: Tensor, path: Tensor, fills: Tensor, minimum_duration: int) -> Tensor:
    """Gain of trading along a path and finishing where told, not before the minimum duration; (paths,)."""
    bar = torch.arange(1, HORIZON + 1)
    completion = torch.where(finishes & (bar >= minimum_duration), bar, HORIZON).amin(1, keepdim=True)
    remaining = 1 - (path.cumsum(0) - path)
    schedule = torch.where(bar < completion, path, torch.where(bar == completion, remaining, 0.0))
    benchmark = (fills.cumsum(1) / bar).gather(1, completion - 1)[:, 0]
    return benchmark - (schedule * fills).sum(1)


def assert_earns(gains: Tensor, rule: StoppingRule, minimum_duration: int) -> None:
    standard_error = float(gains.std()) / PATHS**0.5
    value = float(rule.value[minimum_duration - 1])
    assert float(gains.mean()) == pytest.approx(value, abs=3.5 * standard_error + 1e-9)


EQUAL_SLICES = torch.full((HORIZON,), 1 / HORIZON, dtype=torch.float64)
IN_A_HURRY = torch.tensor([0.5, 0.3] + [0.02] * 10, dtype=torch.float64)


@pytest.mark.parametrize("path", [EQUAL_SLICES, IN_A_HURRY], ids=["equal slices", "in a hurry"])
@pytest.mark.parametrize("minimum_duration", [1, 6, 9, 11, 12])
@pytest.mark.parametrize("moves", [POINT_PRICES, BAR_AVERAGES], ids=["points", "averages"])
def test_playing_the_rule_earns_its_value_whatever_is_traded_before(moves, minimum_duration, path, points, averages):
    rule = points if moves is POINT_PRICES else averages
    last, fills = walks(moves.fill_variance, moves.covariance, seed=minimum_duration)
    bar = torch.arange(1, HORIZON + 1)
    seen = torch.cat([torch.zeros(PATHS, 1), fills.cumsum(1)[:, :-1]], dim=1) / (bar - 1).clamp_min(1)
    gains = play(seen - last >= rule.boundary, path, fills, minimum_duration)
    standard_error = float(gains.std()) / PATHS**0.5
    assert float(gains.mean()) == pytest.approx(
        float(rule.value[minimum_duration - 1]), abs=3.5 * standard_error + 1e-9
    )


def expected_last_close(fills: Tensor) -> Tensor:
    """Last close before each bar, given the bar averages so far alone: Gaussian conditioning on all of them at once."""
    bar = torch.arange(1.0, HORIZON + 1, dtype=torch.float64)
    among_fills = torch.minimum(bar[:, None], bar) - 1 / 2 - torch.eye(HORIZON, dtype=torch.float64) / 6
    expected = [torch.zeros(len(fills), dtype=torch.float64)]
    for last in range(1, HORIZON):
        with_close = bar[:last] - 1 / 2
        weights = torch.linalg.solve(among_fills[:last, :last], with_close)
        expected.append(fills[:, :last] @ weights)
    return torch.stack(expected, dim=1)


@pytest.mark.parametrize("minimum_duration", [1, 6, 11])
def test_playing_on_past_averages_alone_earns_their_value(minimum_duration):
    rule = solve_rule(GapProcess.after_past_averages(HORIZON))
    _, fills = walks(BAR_AVERAGES.fill_variance, BAR_AVERAGES.covariance, seed=minimum_duration)
    bar = torch.arange(1, HORIZON + 1)
    seen = torch.cat([torch.zeros(PATHS, 1), fills.cumsum(1)[:, :-1]], dim=1) / (bar - 1).clamp_min(1)
    gains = play(seen - expected_last_close(fills) >= rule.boundary, EQUAL_SLICES, fills, minimum_duration)
    assert_earns(gains, rule, minimum_duration)


@pytest.mark.parametrize("minimum_duration", [1, 6, 11])
def test_playing_with_the_own_bar_in_sight_earns_its_value(minimum_duration):
    rule = solve_rule(GapProcess.seeing_own_bar(HORIZON))
    _, fills = walks(POINT_PRICES.fill_variance, POINT_PRICES.covariance, seed=minimum_duration)
    running = fills.cumsum(1) / torch.arange(1, HORIZON + 1)
    gains = play(running - fills >= rule.boundary, EQUAL_SLICES, fills, minimum_duration)
    assert_earns(gains, rule, minimum_duration)


# --- shape --------------------------------------------------------------------------------------------------------


def test_more_freedom_is_never_worth_less(points, averages):
    for rule in (points, averages):
        assert (rule.value.diff() <= 1e-6).all()
        assert float(rule.value[-1]) == pytest.approx(0, abs=1e-9)


def test_knowing_more_is_worth_more():
    past = solve_rule(GapProcess.after_past_averages(HORIZON)).value[:-1]
    last_close = solve_rule(GapProcess.after_last_close(HORIZON, BAR_AVERAGES)).value[:-1]
    assert (last_close > past).all()
    own_bar = solve_rule(GapProcess.seeing_own_bar(HORIZON)).value[:-1]
    assert (own_bar > solve_rule(GapProcess.after_last_close(HORIZON, POINT_PRICES)).value[:-1]).all()


def test_the_longer_an_order_has_waited_the_less_it_asks_for(points, averages):
    for rule in (points, averages):
        assert (rule.boundary[1:].diff() < 0).all()
        assert rule.boundary[0] == math.inf  # nothing can be gained before anything has moved
        assert float(rule.boundary[-2]) == pytest.approx(0, abs=1e-6)
        assert rule.boundary[-1] == -math.inf


def test_a_finer_grid_changes_nothing_that_is_shown(points):
    finer = solve_rule(GapProcess.after_last_close(HORIZON, POINT_PRICES), points=1601)
    assert points.value == pytest.approx(finer.value, abs=1e-5)
    assert points.boundary[1:-1] == pytest.approx(finer.boundary[1:-1], abs=1e-3)
