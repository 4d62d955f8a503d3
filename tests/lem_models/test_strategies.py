"""One contract for every strategy: baselines and models."""

from dataclasses import dataclass, replace
from statistics import NormalDist

import pytest
import torch
from builders import (
    FEATURES,
    FREE,
    GRID,
    HORIZON,
    LIMITS,
    LOOKBACK,
    Volumes,
    assert_blind_to_the_future,
    overwritten_from,
    random_orders,
    random_size,
    rng,
    tiny_lem,
)
from documentation import documented
from torch import Tensor

from lem_models.baselines import Strategy
from lem_models.baselines.buyback import BuybackHeuristic
from lem_models.baselines.dynamic_vwap import DynamicVwap
from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.baselines.static_linear import StaticLinear
from lem_models.baselines.twap import Twap
from lem_models.baselines.volume_curve import VolumeCurve
from lem_models.execution import settle
from lem_models.fills import capacity, follow, whole_lots
from lem_models.orders import Limits, MarketPath, OrderBatch, OrderSize
from lem_models.simulation import WalkLaw, walks

CAPPED = Limits(horizon=HORIZON, floor=0.02, cap=0.15)
MODELS: dict[str, tuple[Strategy, Limits]] = {
    "LEM": (tiny_lem(seed=2), FREE),
    "LEM that learns to stop": (tiny_lem(seed=3, prior="curve"), FREE),
    "LEM with independent heads": (tiny_lem(independent_heads=True), FREE),
    "LEM with an LSTM of all features": (tiny_lem(seed=2, recurrence="lstm", variable_selection=False), FREE),
    "LEM without recurrence": (tiny_lem(recurrence="none"), FREE),
    "LEM under limits": (tiny_lem(seed=0, floor=CAPPED.floor, cap=CAPPED.cap), CAPPED),
}
EarlyHalf = documented("docs/extend.md", "EarlyHalf")
LINEAR = torch.randn(len(FEATURES), HORIZON, generator=rng(5)), torch.randn(HORIZON, generator=rng(6))
BASELINES: dict[str, tuple[Strategy, Limits]] = {
    "TWAP": (Twap(FREE), FREE),
    "TWAP under limits": (Twap(CAPPED), CAPPED),
    "volume curve": (VolumeCurve(FREE), FREE),
    "volume curve under limits": (VolumeCurve(CAPPED), CAPPED),
    "dynamic VWAP": (DynamicVwap(FREE, 1, persistence=0.9, gain=0.5), FREE),
    "dynamic VWAP under limits": (DynamicVwap(CAPPED, 1, persistence=0.9, gain=0.5), CAPPED),
    "static linear": (StaticLinear(FREE, *LINEAR), FREE),
    "static linear under limits": (StaticLinear(CAPPED, *LINEAR), CAPPED),
    "buyback heuristic": (BuybackHeuristic(FREE), FREE),
    "buyback heuristic under limits": (BuybackHeuristic(CAPPED), CAPPED),
    "early half, of docs/extend.md": (EarlyHalf(FREE), FREE),
    "early half, of docs/extend.md, under limits": (EarlyHalf(CAPPED), CAPPED),
    "no-forecast stopping": (OptimalStopping(FREE), FREE),
    "no-forecast stopping under limits": (OptimalStopping(CAPPED), CAPPED),
}
STRATEGIES = MODELS | BASELINES
EVERY_STRATEGY = pytest.mark.parametrize(("strategy", "limits"), STRATEGIES.values(), ids=STRATEGIES.keys())


def futures() -> list[object]:
    """Every strategy with every kind of future."""
    cases: list[object] = []
    for name, (strategy, _) in STRATEGIES.items():
        for volumes in ("kept", "overwritten", "untraded"):
            cases.append(pytest.param(strategy, volumes, id=f"{name}, volumes {volumes}"))
    return cases


EVERY_FUTURE = pytest.mark.parametrize(("strategy", "volumes"), futures())


# --- fractions ----------------------------------------------------------------------------------------------------


@EVERY_STRATEGY
def test_fractions_are_not_negative_and_add_up_exactly(strategy, limits):
    schedule = strategy.schedule(random_orders(50))
    assert schedule.shape == (50, *GRID.shape, HORIZON)
    assert schedule.dtype == torch.float32
    assert schedule.min() >= 0
    assert torch.equal(schedule.sum(-1), torch.ones(50, *GRID.shape))


@EVERY_STRATEGY
def test_floor_and_cap_hold_in_every_bar(strategy, limits):
    schedule = strategy.schedule(random_orders(50))
    remaining = 1 - (schedule.cumsum(-1) - schedule)
    assert schedule.max() <= limits.cap_in_lots
    assert (schedule >= remaining.clamp_max(limits.floor_in_lots)).all()


@EVERY_STRATEGY
def test_nothing_fills_without_trades_and_no_result_is_lost(strategy, limits):
    orders = random_orders(50, untraded=0.4)
    schedule = strategy.schedule(orders)
    traded = (orders.market.volume > 0)[:, None, None]
    assert (schedule * ~traded == 0).all()
    assert schedule.min() >= 0
    results = settle(schedule, orders.market, GRID)
    assert torch.equal(results.filled_fraction, schedule.sum(-1))
    assert all(torch.isfinite(values).all() for values in vars(results).values())
    if limits is FREE:
        traded_at_last = orders.market.volume[:, -1] > 0
        assert (results.filled_fraction[traded_at_last] == 1).all()


@EVERY_STRATEGY
def test_a_cap_holds_after_bars_without_trades(strategy, limits):
    schedule = strategy.schedule(random_orders(50, untraded=0.4))
    assert schedule.max() <= limits.cap_in_lots


# --- orders of a size ---------------------------------------------------------------------------------------------


def sized_orders(orders: int, untraded: float = 0.1) -> OrderBatch:
    """Some fill at once, some never."""
    small = random_orders(orders, untraded=untraded)
    return replace(small, size=random_size(small.market, seed=9))


@EVERY_STRATEGY
def test_orders_of_a_size_take_what_the_volume_allows_and_ask_for_all_in_their_last_bar(strategy, limits):
    orders = sized_orders(60)
    schedule, taken = strategy.schedule(orders), capacity(orders.market, orders.size)
    assert schedule.min() >= 0
    assert (schedule <= taken.clamp_max(limits.cap_in_lots)).all()
    filled = schedule.sum(-1)
    assert (filled <= 1).all()
    at_last = taken.clamp_max(limits.cap_in_lots).expand_as(schedule)[..., -1]
    assert torch.equal(schedule[..., -1], torch.minimum(1 - schedule[..., :-1].sum(-1), at_last))
    assert (filled == 1).any() and (filled < 1).any()


@EVERY_STRATEGY
def test_orders_of_next_to_nothing_trade_as_orders_without_a_size(strategy, limits):
    orders = random_orders(30, untraded=0.1)
    tiny = replace(orders, size=OrderSize(torch.full((30,), 1e-9)))
    assert torch.equal(strategy.schedule(tiny), strategy.schedule(orders))


def assert_decides_before_it_fills(strategy: Strategy, orders: OrderBatch) -> None:
    """Overwrite bars, then lift the limit of the first of them: what was asked of it is the same in every future.

    What it fills is the lesser of that and of its capacity, and nothing before it moves.
    """
    assert orders.size
    schedule = strategy.schedule(orders)
    for step in range(HORIZON):
        other = overwritten_from(orders, step, seed=200 + step, volumes="overwritten")
        volume = torch.where(torch.arange(HORIZON) == step, 1e30, other.market.volume)
        unlimited = replace(other, market=replace(other.market, volume=volume))
        asked, before = strategy.schedule(unlimited)[..., step], slice(0, step)
        for outcome, filled in ((orders, schedule), (other, strategy.schedule(other))):
            assert torch.equal(filled[..., before], schedule[..., before]), f"bar {step + 1} moves an earlier one"
            taken = capacity(outcome.market, orders.size)[..., step]
            assert torch.equal(filled[..., step], torch.minimum(asked, taken)), f"bar {step + 1} sees itself"


@EVERY_STRATEGY
def test_what_is_asked_of_a_bar_does_not_depend_on_what_it_can_take(strategy, limits):
    assert_decides_before_it_fills(strategy, sized_orders(30))


@dataclass(frozen=True)
class KnowsItsBar:
    """Asks for half of what the bar can take: what no strategy may do."""

    name: str = "knows its bar"

    def schedule(self, orders: OrderBatch) -> Tensor:
        taken = capacity(orders.market, orders.size).expand(-1, -1, HORIZON, -1)
        return follow(whole_lots(taken / 2, taken * 0, taken), orders.market, FREE, orders.size)


def test_a_strategy_that_knows_the_volume_of_its_bar_is_caught():
    with pytest.raises(AssertionError, match="sees itself"):
        assert_decides_before_it_fills(KnowsItsBar(), sized_orders(30))


@pytest.mark.parametrize(("strategy", "limits"), MODELS.values(), ids=MODELS.keys())
def test_models_decide_on_what_was_filled_not_on_what_was_asked(strategy, limits):
    orders = sized_orders(60, untraded=0.0)
    bars = range(HORIZON)
    sized, free = strategy.schedule(orders), strategy.schedule(replace(orders, size=None))
    later = [(sized[..., step] > free[..., step]).any() for step in bars]
    assert any(later)


# --- what surrounds an order changes nothing ----------------------------------------------------------------------


def chosen(orders: OrderBatch, rows: list[int]) -> OrderBatch:
    market = MarketPath(**{name: values[rows] for name, values in vars(orders.market).items()})
    return OrderBatch(orders.features[rows], market)


@EVERY_STRATEGY
def test_the_other_orders_of_a_batch_change_nothing(strategy, limits):
    orders = random_orders(16, untraded=0.1)
    together = strategy.schedule(orders)
    for rows in ([0], [3, 7], list(reversed(range(16)))):
        apart = strategy.schedule(chosen(orders, rows))
        # Products of other shapes round differently, which rarely moves a probability across one half.
        agree = (apart - together[rows]).abs().amax(-1) < 1e-4
        assert agree.float().mean() > 0.995


@EVERY_STRATEGY
def test_padding_a_batch_to_the_same_size_changes_nothing_at_all(strategy, limits):
    orders, padding = random_orders(8), random_orders(8, seed=77)
    padded = chosen_of_two(orders, padding, keep=5)
    assert torch.equal(strategy.schedule(padded)[:5], strategy.schedule(orders)[:5])


def chosen_of_two(orders: OrderBatch, padding: OrderBatch, keep: int) -> OrderBatch:
    market = {
        name: torch.cat([values[:keep], getattr(padding.market, name)[keep:]])
        for name, values in vars(orders.market).items()
    }
    return OrderBatch(torch.cat([orders.features[:keep], padding.features[keep:]]), MarketPath(**market))


@EVERY_STRATEGY
def test_asking_twice_gives_the_same_schedule_and_leaves_the_orders_alone(strategy, limits):
    orders, untouched = random_orders(5), random_orders(5)
    assert torch.equal(strategy.schedule(orders), strategy.schedule(orders))
    assert torch.equal(orders.features, untouched.features)
    for name, values in vars(orders.market).items():
        assert torch.equal(values, getattr(untouched.market, name))


def test_every_strategy_has_a_name_of_its_own_kind():
    names = {strategy.name for strategy, _ in STRATEGIES.values()}
    fixed = {"TWAP", "volume curve", "dynamic VWAP", "static linear", "early half"}
    assert names == {"LEM", "buyback heuristic", "no-forecast stopping"} | fixed


# --- causality ----------------------------------------------------------------------------------------------------


@EVERY_FUTURE
def test_a_child_order_is_blind_to_its_own_bar_and_later_ones(strategy, volumes: Volumes):
    assert_blind_to_the_future(strategy, random_orders(50), volumes)


@EVERY_FUTURE
def test_deciding_step_by_step_gives_the_schedule_decided_at_once(strategy, volumes: Volumes):
    orders = random_orders(50, seed=30)
    steps = [
        strategy.schedule(overwritten_from(orders, step, seed=step, volumes=volumes))[..., step]
        for step in range(HORIZON)
    ]
    assert torch.equal(torch.stack(steps, dim=-1), strategy.schedule(orders))


@pytest.mark.parametrize(("strategy", "limits"), MODELS.values(), ids=MODELS.keys())
def test_models_do_react_to_the_bar_before(strategy, limits):
    """Without this, the tests of causality would pass for a model that sees nothing."""
    orders = random_orders(20)
    schedule = strategy.schedule(orders)
    for step in range(1, HORIZON - 1):
        other = strategy.schedule(overwritten_from(orders, step - 1, seed=step, volumes="kept"))
        assert not torch.equal(schedule[..., step], other[..., step])


@pytest.mark.parametrize(("strategy", "limits"), MODELS.values(), ids=MODELS.keys())
def test_models_of_random_weights_finish_in_many_different_bars(strategy, limits):
    orders = random_orders(50)
    completion = settle(strategy.schedule(orders), orders.market, GRID).completion_bar[:, :, 0]
    assert len(completion.unique()) >= 4


@dataclass(frozen=True)
class Leaky:
    """Trades more where the bar it trades in turns out cheap for it: what no strategy may do."""

    peeked: str
    ahead: int
    name: str = "leaky"

    def schedule(self, orders: OrderBatch) -> Tensor:
        values = getattr(orders.market, self.peeked)
        if self.ahead:
            values = torch.cat([values[:, self.ahead :], values[:, -self.ahead :]], dim=1)
        weight = torch.exp(-values / values.mean(1, keepdim=True))
        return (weight / weight.sum(1, keepdim=True))[:, None, None].expand(-1, *GRID.shape, -1)


@pytest.mark.parametrize(
    ("peeked", "ahead", "volumes"),
    [
        ("price", 0, "kept"),
        ("close", 0, "kept"),
        ("price", 1, "kept"),
        ("volatility", 1, "kept"),
        ("volume", 0, "overwritten"),
        ("volume", 1, "untraded"),
    ],
)
def test_a_strategy_that_peeks_is_caught(peeked, ahead, volumes: Volumes):
    with pytest.raises(AssertionError, match="sees bar"):
        assert_blind_to_the_future(Leaky(peeked, ahead), random_orders(20), volumes)


@dataclass(frozen=True)
class PeeksAtOneBar:
    """Equal slices, but for half a slice that moves between two bars by the price of the first of them."""

    bar: int
    name: str = "peeks at one bar"

    def schedule(self, orders: OrderBatch) -> Tensor:
        price = orders.market.price
        cheap = (price[:, self.bar] < price[:, self.bar - 1]).float()
        schedule = torch.full((len(orders), HORIZON), 1 / HORIZON)
        schedule[:, self.bar] += cheap / 24
        schedule[:, self.bar - 1] -= cheap / 24
        return schedule[:, None, None].expand(-1, *GRID.shape, -1)


@pytest.mark.parametrize("bar", range(1, HORIZON))
def test_a_strategy_that_peeks_at_a_single_bar_is_caught_there(bar):
    with pytest.raises(AssertionError, match="sees bar"):
        assert_blind_to_the_future(PeeksAtOneBar(bar), random_orders(20), "kept")


def test_a_feature_row_of_the_next_bar_is_caught():
    @dataclass(frozen=True)
    class SameBarFeatures:
        name: str = "reads the row that is known after the bar"

        def schedule(self, orders: OrderBatch) -> Tensor:
            rows = orders.features[:, -HORIZON:, 0].roll(-1, dims=1)
            return rows.softmax(1)[:, None, None].expand(-1, *GRID.shape, -1)

    with pytest.raises(AssertionError, match="sees bar"):
        assert_blind_to_the_future(SameBarFeatures(), random_orders(20), "kept")


# --- nothing to be had where nothing can be known -------------------------------------------------------------------


def driftless_orders(count: int) -> OrderBatch:
    features = torch.randn(count, LOOKBACK + HORIZON - 1, len(FEATURES), generator=rng(5))
    return OrderBatch(features, walks(WalkLaw(bar_averages=True), count, HORIZON, 0.01, rng(6)))


def gains_in_standard_errors(strategy: Strategy) -> tuple[Tensor, Tensor]:
    """Of quantity orders: against arrival, for all of them; against the benchmark, for those of fixed duration."""
    orders = driftless_orders(3000)
    results = settle(strategy.schedule(orders), orders.market, GRID)
    quantity = ~GRID.is_notional[:, 0, 0]  # a fixed notional gains by convexity, which is no skill
    against_arrival = results.arrival_slippage_bps[:, quantity].flatten(1)
    tracking = results.slippage_bps[:, quantity, -1]
    return tuple(-each.mean(0) / each.std(0) * 3000**0.5 for each in (against_arrival, tracking))


@pytest.mark.parametrize("strategy", [strategy for strategy, _ in MODELS.values()], ids=MODELS.keys())
def test_a_market_without_drift_pays_nothing_over_arrival_and_a_fixed_duration_has_tracking_error_alone(strategy):
    for gain in gains_in_standard_errors(strategy):
        # So many orders are looked at that one in a thousand models would fail by luck.
        assert gain.abs().max() < NormalDist().inv_cdf(1 - 0.001 / 2 / len(gain))


def test_a_strategy_that_peeks_gains_at_a_fixed_duration_where_nothing_can_be_gained():
    _, tracking = gains_in_standard_errors(Leaky("price", 0))
    _, buy_against_twap, _, sell_against_twap = tracking
    assert buy_against_twap > 20  # it trades where prices are low: good for a buy, bad for a sell
    assert sell_against_twap < -20


# --- the baselines themselves -------------------------------------------------------------------------------------


def test_twap_trades_equal_slices_and_costs_nothing_against_the_market_twap():
    orders = random_orders(100)
    schedule = Twap(FREE).schedule(orders)
    assert (schedule - 1 / HORIZON).abs().max() < 2e-6
    costs = settle(schedule, orders.market, GRID).slippage_bps
    is_twap_quantity = ~(GRID.is_vwap | GRID.is_notional)[:, 0, 0]
    assert costs[:, is_twap_quantity].abs().max() < 0.01


def test_the_volume_curve_costs_nothing_against_vwap_where_the_forecast_comes_true():
    orders = random_orders(100)
    foreseen = OrderBatch(orders.features, replace(orders.market, expected_volume=orders.market.volume))
    schedule = VolumeCurve(FREE).schedule(foreseen)
    curve = orders.market.volume / orders.market.volume.sum(1, keepdim=True)
    assert (schedule - curve[:, None, None]).abs().max() < 2e-6
    costs = settle(schedule, orders.market, GRID).slippage_bps
    is_vwap_quantity = (GRID.is_vwap & ~GRID.is_notional)[:, 0, 0]
    assert costs[:, is_vwap_quantity].abs().max() < 0.01


def test_a_cap_below_the_peak_of_the_volume_curve_is_made_up_for_later():
    orders = random_orders(50)
    schedule = VolumeCurve(LIMITS["cap of 0.10"]).schedule(orders)
    free = VolumeCurve(FREE).schedule(orders)
    assert free.max() > 0.15
    assert schedule.max() <= LIMITS["cap of 0.10"].cap_in_lots
    assert (schedule.sum(-1) == 1).all()
