"""The simulated market: the same bars whatever period is asked for, and never more than a clock allows."""

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from warehouses import build, read, sessions

from lem_pipeline.errors import UnknownSymbolError
from lem_pipeline.sources.base import RAW_BARS
from lem_pipeline.sources.simulated import SimulatedBars
from lem_pipeline.universe import nyse_sessions

START, END = datetime(2023, 10, 2, tzinfo=UTC), datetime(2023, 12, 1, tzinfo=UTC)
SPLIT_SESSION = 200  # of AAPL
SPLITS_ON = datetime(2023, 10, 19, tzinfo=UTC)
CRYPTO = SimulatedBars(asset_class="crypto", origin="2023-09-01")
DOW = SimulatedBars(asset_class="dow", origin="2023-01-01")
MARKETS = [pytest.param(CRYPTO, "ETH/USDT", id="crypto"), pytest.param(DOW, "AAPL", id="dow")]


def between(table: pa.Table, start: datetime, end: datetime) -> pa.Table:
    return table.filter(pa.array([start <= moment < end for moment in table["bar_start"].to_pylist()]))


@cache
def whole_period(asset_class: str) -> pa.Table:
    source, instrument = (CRYPTO, "ETH/USDT") if asset_class == "crypto" else (DOW, "AAPL")
    return source.fetch(instrument, START, END)


def same(left: pa.Table, right: pa.Table) -> bool:
    return left.combine_chunks().equals(right.combine_chunks())


@pytest.mark.parametrize(("source", "instrument"), MARKETS)
def test_the_same_seed_gives_the_same_bars(source, instrument):
    again = SimulatedBars(**source.model_dump())
    assert same(whole_period(source.asset_class), again.fetch(instrument, START, END))


@pytest.mark.parametrize(("source", "instrument"), MARKETS)
def test_other_seeds_origins_and_instruments_give_other_bars(source, instrument):
    other = next(each for each in ("BTC/USDT", "MSFT") if ("/" in each) == ("/" in instrument))
    tables = [
        whole_period(source.asset_class),
        source.fetch(other, START, END),
        source.model_copy(update={"seed": 8}).fetch(instrument, START, END),
        source.model_copy(update={"origin": "2023-09-15"}).fetch(instrument, START, END),
    ]
    assert len({tuple(table["close"].to_pylist()) for table in tables}) == len(tables)


@pytest.mark.parametrize(("source", "instrument"), MARKETS)
def test_a_part_of_the_period_has_the_bars_of_the_whole(source, instrument):
    whole = whole_period(source.asset_class)
    day_after = SPLITS_ON + timedelta(days=1, hours=5)
    for start, end in [(START, SPLITS_ON), (SPLITS_ON, day_after), (day_after, END), (END, END)]:
        assert same(source.fetch(instrument, start, end), between(whole, start, end))


@pytest.mark.parametrize(("source", "instrument"), MARKETS)
def test_there_is_nothing_before_the_origin(source, instrument):
    before = source.fetch(instrument, datetime(2022, 1, 1, tzinfo=UTC), datetime(2022, 6, 1, tzinfo=UTC))
    assert len(before) == 0
    assert before.schema == RAW_BARS


@pytest.mark.parametrize(("source", "instrument"), MARKETS)
def test_bars_are_sound(source, instrument):
    bars = whole_period(source.asset_class).to_pandas()
    assert bars["bar_start"].is_monotonic_increasing and bars["bar_start"].is_unique
    assert (bars["low"] <= bars[["open", "close"]].min(axis=1)).all()
    assert (bars["high"] >= bars[["open", "close"]].max(axis=1)).all()
    assert (bars[["low", "volume", "notional", "taker_buy_volume"]] > 0).all(axis=None)
    assert (bars["taker_buy_volume"] < bars["volume"]).all()
    assert (bars["notional"] / bars["volume"]).between(bars["low"] * (1 - 1e-12), bars["high"] * (1 + 1e-12)).all()


def test_crypto_has_every_hour():
    bars = CRYPTO.fetch("BTC/USDT", START, END)
    assert bars["bar_start"].to_pylist() == [START + timedelta(hours=h) for h in range(60 * 24)]


def test_dow_bars_fall_on_every_session_and_on_nothing_else():
    bars = DOW.fetch("IBM", START, END)["bar_start"].to_pandas()
    calendar = sessions()["bar_start"]
    assert bars.tolist() == calendar[(calendar >= START) & (calendar < END)].tolist()


def test_an_unknown_symbol_is_told_which_there_are():
    with pytest.raises(
        UnknownSymbolError, match=r"^the simulated crypto market has no 'AAPL'; it has BTC/USDT, ETH/USDT"
    ):
        CRYPTO.fetch("AAPL", START, END)


@pytest.mark.parametrize(("source", "instrument"), MARKETS)
def test_provenance_and_venue_say_that_the_market_is_simulated(source, instrument):
    assert source.provenance.startswith(f"SIMULATED {source.asset_class} market, seed 7")
    assert set(whole_period(source.asset_class)["venue"].to_pylist()) == {"simulated"}


def test_no_hourly_bar_that_has_not_ended_is_given():
    origin = datetime.now(UTC) - timedelta(days=3)
    source = SimulatedBars(asset_class="crypto", origin=f"{origin:%Y-%m-%d}")
    last = source.fetch("BTC/USDT", origin, datetime.now(UTC) + timedelta(days=3))["bar_start"].to_pylist()[-1]
    now = datetime.now(UTC)
    assert now - timedelta(hours=2) < last <= now - timedelta(hours=1)


def test_no_session_that_has_not_closed_is_given():
    now = datetime.now(UTC)
    source = SimulatedBars(asset_class="dow", origin=f"{now - timedelta(days=30):%Y-%m-%d}")
    given = source.fetch("IBM", now - timedelta(days=20), now + timedelta(days=20))["bar_start"].to_pandas()
    calendar = nyse_sessions(now - timedelta(days=20), now + timedelta(days=20))
    assert given.tolist() == calendar.loc[calendar["closes_at"] <= now, "bar_start"].tolist()


def test_a_split_makes_the_traded_price_jump_and_leaves_notional_alone(tmp_path):
    raw = DOW.fetch("AAPL", datetime(2023, 1, 1, tzinfo=UTC), END).to_pandas()
    assert raw.index[raw["split_ratio"] != 1].tolist() == [SPLIT_SESSION]
    assert raw["bar_start"][SPLIT_SESSION] == SPLITS_ON
    overnight = np.log(raw["open"] / raw["close"].shift()).to_numpy()
    assert overnight[SPLIT_SESSION] == pytest.approx(np.log(1 / 4), abs=0.2)
    assert np.abs(np.delete(overnight, SPLIT_SESSION)[1:]).max() < 0.2

    warehouse = build(tmp_path, dow=raw, schemas=["staging", "bars"])
    staged = read(warehouse, "from bars.market_bars order by bar_start")
    assert np.abs(np.log(staged["open"] / staged["close"].shift())).max() < 0.2
    np.testing.assert_allclose(staged["notional"], raw["notional"])
    np.testing.assert_allclose(staged["price"] * staged["volume"], raw["notional"])
    after = staged.index >= SPLIT_SESSION
    np.testing.assert_array_equal(staged["close"][after], raw["close"][after])
    np.testing.assert_allclose(staged["close"][~after], raw["close"][~after] / 4)
    np.testing.assert_allclose(staged["volume"][~after], raw["volume"][~after] * 4)
