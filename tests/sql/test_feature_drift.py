"""The stability index of features, against the same in numpy; what lies outside both times plays no part."""

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

QUERY = (Path(__file__).parents[2] / "sql" / "queries" / "feature_drift.sql").read_text()
HORIZON, DAYS, START = 4, 3, pd.Timestamp("2024-01-01", tz="UTC")
TRAINED, NEWEST = (24, 20 * 24), (25 * 24, 30 * 24)  # hours, the end left out
PARAMETERS = {
    "model": "lem-crypto",
    "version": "2",
    "asset_classes": ["crypto"],
    "horizon": HORIZON,
    "days": DAYS,
    "trained_from": START + pd.Timedelta(hours=TRAINED[0]),
    "chosen_until": START + pd.Timedelta(hours=TRAINED[1] - 1),
}


def features() -> pd.DataFrame:
    """A feature that stays, one that moves, and one of few values, of two symbols."""
    random = np.random.default_rng(5)
    hours = np.tile(np.arange(31 * 24), 2)
    moved = (hours >= NEWEST[0]) * 1.5
    return pd.DataFrame(
        {
            "asset_class": "crypto",
            "symbol": np.repeat(["A", "B"], 31 * 24),
            "bar_start": START + pd.to_timedelta(hours, unit="h"),
            "bar_number": 1_000 + hours,
            **dict.fromkeys(["segment", "history_bars"], 1),
            **dict.fromkeys(["price", "close", "volume", "volatility", "expected_volume"], 1.0),
            "stays": random.normal(size=len(hours)),
            "moves": random.normal(size=len(hours)) + moved,
            "seldom": random.choice([0.0, 0.0, 0.0, 1.0], len(hours)),
            "is_complete": True,
        }
    )


def drift(rows: pd.DataFrame, **changed: object) -> pd.DataFrame:
    hours = (rows["bar_start"] - START) / pd.Timedelta(hours=1)
    begins = hours.between(NEWEST[0], NEWEST[1] - HORIZON) & (rows["bar_number"] % HORIZON == 0)
    windows = rows[begins][["asset_class", "symbol", "bar_start"]].assign(model="lem-crypto", version="2")
    others = rows[rows["bar_number"] % HORIZON == 0][["asset_class", "symbol", "bar_start"]]
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'; create schema features; create schema results")
        connection.execute("create table features.bar_features as from rows")
        orders = [windows, windows, others.assign(model="lem-crypto", version="1")]
        connection.register("orders", pd.concat(orders))
        connection.execute("create table results.shadow_orders as from orders")
        return connection.execute(QUERY, PARAMETERS | changed).df().set_index("feature")


def by_hand(rows: pd.DataFrame, feature: str) -> tuple[float, list[float]]:
    """The index of the newest days, and those of stretches of training."""
    hours = rows["bar_number"].to_numpy() - 1_000
    values = rows[feature].to_numpy()
    training = (hours >= TRAINED[0]) & (hours < TRAINED[1])
    newest = (hours > NEWEST[1] - 1 - DAYS * 24) & (hours < NEWEST[1])
    deciles = np.quantile(values[training], np.arange(1, 10) / 10, method="inverted_cdf")

    def counts(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(np.searchsorted(deciles, values[chosen]), minlength=10)

    def index(chosen: np.ndarray) -> float:
        here, there = counts(chosen), counts(training)
        seen = (here + there) > 0
        share, usual = ((part[seen] + 0.5) / (part[seen] + 0.5).sum() for part in (here, there))
        return float(((share - usual) * np.log(share / usual)).sum())

    length = DAYS * 24
    stretches = [
        index((hours >= begin) & (hours < begin + length))
        for begin in range(TRAINED[0], TRAINED[1] - length + 1, length)
    ]
    return index(newest), stretches


@pytest.mark.parametrize("feature", ["stays", "moves", "seldom"])
def test_the_index_is_that_of_numpy_over_deciles_of_training(feature):
    rows = features()
    found = drift(rows).loc[feature]
    newest, stretches = by_hand(rows, feature)
    assert found["psi"] == pytest.approx(newest, rel=1e-9)
    assert found["highest_training_psi"] == pytest.approx(max(stretches), rel=1e-9)
    assert (found["stretches"], found["bars"]) == (len(stretches), 2 * DAYS * 24)


def test_what_moves_stands_above_every_stretch_of_training_and_what_stays_does_not():
    found = drift(features())
    assert found.index[0] == "moves"
    assert found.loc["moves", "psi"] > 1 > found.loc["moves", "highest_training_psi"]
    assert found.loc["stays", "psi"] < 0.25
    assert found.loc["moves", "newest_mean"] - found.loc["moves", "training_mean"] == pytest.approx(1.5, abs=0.2)


def test_bars_of_neither_time_incomplete_ones_and_orders_of_another_version_play_no_part():
    rows = features()
    hours = rows["bar_number"] - 1_000
    outside = (hours < TRAINED[0]) | hours.between(TRAINED[1], NEWEST[1] - DAYS * 24 - 1) | (hours >= NEWEST[1])
    moved = rows.assign(**{name: rows[name].where(~outside, 99.0) for name in ("stays", "moves", "seldom")})
    extra = rows[hours == 100].assign(symbol="C", stays=99.0, is_complete=False)
    pd.testing.assert_frame_equal(drift(pd.concat([moved, extra])), drift(rows))


def test_the_days_of_the_shadow_orders_are_told_and_without_orders_there_is_nothing():
    found = drift(features())
    assert set(found["first_day"]) == {pd.Timestamp("2024-01-26")}
    assert set(found["last_day"]) == {pd.Timestamp("2024-01-30")}
    assert drift(features(), version="3").empty
