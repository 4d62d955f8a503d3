import numpy as np
import pytest
import torch
from builders import HORIZON, rng

from lem_models.simulation import (
    SimulatedSymbol,
    WalkLaw,
    average_within,
    clustered,
    days_of_week,
    hours_of_week,
    random_walks,
    surprises,
    walks,
)

HOURS = 168
COUNT = HOURS * 150


def symbol(name: str = "COIN", seed: int = 1, **fields: float) -> SimulatedSymbol:
    settings = {"first_price": 100.0, "volatility": 0.008, "bar_volume": 5_000.0} | fields
    return SimulatedSymbol(name, seed, season=hours_of_week(), **settings)


@pytest.fixture(scope="module")
def bars() -> dict[str, np.ndarray]:
    return symbol().bars(np.arange(COUNT) % HOURS)


@pytest.fixture(scope="module")
def returns(bars) -> np.ndarray:
    return np.diff(np.log(bars["close"]))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


# --- random walks -------------------------------------------------------------------------------------------------


def test_random_walks_are_martingales_of_the_volatility_asked_for():
    market = random_walks(100_000, HORIZON, volatility=0.01, generator=rng(0))
    assert market.price.shape == (100_000, HORIZON)
    assert (market.arrival == 1).all()
    steps = torch.log(torch.cat([market.arrival[:, None], market.price], dim=1)).diff(dim=1)
    assert steps.std(0) == pytest.approx([0.01] * HORIZON, rel=0.01)
    standard_error = 0.01 * HORIZON**0.5 / 100_000**0.5
    assert (market.price.mean(0) - 1).abs().max() < 4 * standard_error
    for earlier in range(HORIZON - 1):
        assert abs(correlation(steps[:, earlier].numpy(), steps[:, earlier + 1].numpy())) < 0.015


def test_the_volume_of_random_walks_says_nothing_about_prices():
    market = random_walks(100_000, HORIZON, volatility=0.01, generator=rng(0))
    assert (market.volume > 0).all()
    move = (market.price[:, -1] / market.price[:, 0]).log().numpy()
    assert abs(correlation(market.volume[:, 0].numpy(), move)) < 0.015
    assert abs(correlation(market.volume[:, 0].numpy(), np.abs(move))) < 0.015


# --- walks of other laws ------------------------------------------------------------------------------------------

LAWS = {
    "point prices": WalkLaw(),
    "bar averages": WalkLaw(bar_averages=True),
    "clusters and heavy tails": WalkLaw(bar_averages=True, clusters=0.4, surprise=0.4),
}


def log_returns(market):
    return torch.cat([market.arrival[:, None], market.close], dim=1).log().diff(dim=1)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
def test_walks_of_every_law_are_martingales_of_the_volatility_asked_for(law):
    market = walks(law, 200_000, HORIZON, 0.01, rng(0))
    steps = log_returns(market)
    assert steps.std(0) == pytest.approx([0.01] * HORIZON, rel=0.03)
    standard_error = 0.01 * HORIZON**0.5 / 200_000**0.5
    for prices in (market.price, market.close):
        assert (prices.mean(0) - 1).abs().max() < 4 * standard_error
    for earlier in range(HORIZON - 1):
        assert abs(correlation(steps[:, earlier].numpy(), steps[:, earlier + 1].numpy())) < 0.015
    assert abs(correlation(market.volume[:, 0].numpy(), steps[:, 0].abs().numpy())) < 0.015


def test_the_default_law_fills_at_the_close_and_knows_its_volatility():
    market = walks(WalkLaw(), 1000, HORIZON, 0.01, rng(0))
    assert torch.equal(market.price, market.close)
    assert market.volatility.tolist() == pytest.approx(0.01 * np.ones((1000, HORIZON)))


def test_an_average_within_a_bar_has_the_moments_of_a_brownian_path():
    move = torch.randn(400_000, generator=rng(0))
    average = average_within(move, torch.full_like(move, 0.01), rng(1)) / 0.01
    assert average.var().item() == pytest.approx(1 / 3, rel=0.01)
    assert torch.cov(torch.stack([average, move]))[0, 1].item() == pytest.approx(1 / 2, rel=0.01)
    brownian = torch.randn(20_000, 100, generator=rng(2)).cumsum(1) / 10
    assert average.var().item() == pytest.approx(brownian.mean(1).var().item(), rel=0.04)


def test_surprises_make_heavy_tails():
    actual = surprises(0.4, (100_000, 4), rng(0))
    assert actual.square().mean().item() == pytest.approx(1, rel=0.01)
    steps = actual * torch.randn(actual.shape, generator=rng(1))
    kurtosis = steps.pow(4).mean() / steps.var() ** 2
    assert kurtosis.item() == pytest.approx(3 * np.exp(4 * 0.4**2), rel=0.1)
    assert (surprises(0.0, (3, 3), rng(0)) == 1).all()


def test_clusters_last_and_are_known_before_the_bar():
    law = WalkLaw(clusters=0.4, half_life=5)
    state = clustered(law, 100_000, 11, rng(0)).log()
    assert state.std(0) == pytest.approx([0.4] * 11, rel=0.02)
    assert correlation(state[:, 0].numpy(), state[:, 5].numpy()) == pytest.approx(0.5, abs=0.02)
    assert correlation(state[:, 0].numpy(), state[:, 10].numpy()) == pytest.approx(0.25, abs=0.02)
    market = walks(law, 100_000, HORIZON, 0.01, rng(0))
    standardised = log_returns(market) / market.volatility
    assert standardised.std(0) == pytest.approx([1] * HORIZON, rel=0.02)
    assert abs(correlation(standardised[:, 3].abs().numpy(), market.volatility[:, 3].numpy())) < 0.015


# --- bars ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 7, 1000, 1001, 4099])
def test_a_longer_simulation_begins_with_the_shorter_one_bit_for_bit(bars, count):
    shorter = symbol().bars(np.arange(count) % HOURS)
    for name, values in shorter.items():
        assert np.array_equal(values, bars[name][:count]), name


def test_the_same_symbol_and_seed_repeat_themselves_and_others_differ():
    index = np.arange(500) % HOURS
    one, again = symbol().bars(index), symbol().bars(index)
    for name, values in one.items():
        assert np.array_equal(values, again[name]), name
    for other in (symbol("TOKEN"), symbol(seed=2)):
        assert not np.array_equal(one["close"], other.bars(index)["close"])


def test_a_bar_is_a_bar(bars):
    average = bars["notional"] / bars["volume"]
    slack = 1 + 1e-12
    for inside in (bars["open"], bars["close"], average):
        assert (bars["low"] <= inside * slack).all()
        assert (inside <= bars["high"] * slack).all()
    for name, values in bars.items():
        assert values.shape == (COUNT,)
        assert np.isfinite(values).all(), name
        assert (values > 0).all(), name
    assert (bars["taker_buy_volume"] < bars["volume"]).all()
    assert np.array_equal(bars["trade_count"], np.round(bars["trade_count"]))


def test_the_first_bar_opens_near_the_first_price(bars):
    assert bars["open"][0] == pytest.approx(100, rel=1e-3)


def test_returns_have_heavy_tails(returns):
    standardised = (returns - returns.mean()) / returns.std()
    assert (standardised**4).mean() > 4


def test_returns_are_of_the_volatility_asked_for_and_cannot_be_forecast_from_the_last(returns):
    assert returns.std() == pytest.approx(0.008, rel=0.25)
    assert abs(correlation(returns[:-1], returns[1:])) < 0.03


def test_volatility_clusters(returns):
    size = np.abs(returns)
    for lag in (1, 5, 20):
        assert correlation(size[:-lag], size[lag:]) > 0.1, lag
    assert correlation(size[:-1], size[1:]) > correlation(size[:-200], size[200:])


def test_volume_comes_with_volatility(bars, returns):
    assert correlation(np.log(bars["volume"][1:]), np.abs(returns)) > 0.2


def test_the_hours_of_the_week_are_visible_in_volume_and_volatility(bars, returns):
    hour = np.arange(COUNT) % HOURS
    volume = np.array([bars["volume"][hour == h].mean() for h in range(HOURS)])
    assert correlation(volume, hours_of_week()) > 0.9
    # An hour's volatility is the fourth root of its season and clusters blur it: days have to be averaged, too.
    size = np.array([np.abs(returns)[hour[1:] % 24 == h].mean() for h in range(24)])
    assert correlation(size, hours_of_week().reshape(7, 24).mean(0)) > 0.5


def test_symbols_of_one_market_move_together(returns):
    index = np.arange(COUNT) % HOURS
    other = np.diff(np.log(symbol("TOKEN").bars(index)["close"]))
    elsewhere = np.diff(np.log(symbol("TOKEN", seed=9).bars(index)["close"]))
    assert correlation(returns, other) == pytest.approx(0.36, abs=0.1)
    assert abs(correlation(returns, elsewhere)) < 0.05


def test_the_price_moves_overnight_where_a_market_closes():
    index = np.arange(5000) % 5
    settings = {"first_price": 100.0, "volatility": 0.012, "bar_volume": 1e6, "season": days_of_week()}
    bars = SimulatedSymbol("STOCK", 1, overnight_share=0.3, **settings).bars(index)
    overnight = np.log(bars["open"][1:] / bars["close"][:-1])
    daily = np.diff(np.log(bars["close"]))
    assert overnight.var() / daily.var() == pytest.approx(0.3, abs=0.08)
    around_the_clock = SimulatedSymbol("COIN", 1, **settings).bars(index)
    gaps = np.log(around_the_clock["open"][1:] / around_the_clock["close"][:-1])
    assert gaps.var() < 1e-3 * daily.var()


@pytest.mark.parametrize(("profile", "length"), [(hours_of_week(), 168), (days_of_week(), 5)])
def test_a_season_averages_one(profile, length):
    assert profile.shape == (length,)
    assert profile.mean() == pytest.approx(1)
    assert (profile > 0).all()
