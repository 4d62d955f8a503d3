from itertools import product
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

REPORTS = Path(__file__).parents[2] / "sql" / "reports"
SCENARIO = ["model", "asset_class", "strategy", "side", "benchmark", "target", "minimum_duration"]
SIDE_AVERAGED = [key for key in SCENARIO if key != "side"]


def random_orders(days: int = 12) -> pd.DataFrame:
    """Orders of two symbols, two windows a day, the second symbol absent on every third day."""
    random = np.random.default_rng(7)
    starts = pd.date_range("2024-03-08", periods=2 * days, freq="12h", tz="UTC")
    keys = product(
        ["LEM", "no-forecast stopping", "TWAP", "volume curve"], ["buy", "sell"], ["VWAP", "TWAP"], ["quantity"], [1, 2]
    )
    windows = [("A", start) for start in starts] + [("B", start) for start in starts if start.day % 3]
    orders = pd.DataFrame(
        [(*key, *window) for key in keys for window in windows],
        columns=["strategy", "side", "benchmark", "target", "minimum_duration", "symbol", "bar_start"],
    )
    common = orders["bar_start"].map({start: random.normal(0, 10) for start in starts})
    orders.insert(0, "model", "lem-crypto")
    orders.insert(1, "asset_class", "crypto")
    for column in ("slippage_bps", "fixed_window_slippage_bps", "arrival_slippage_bps"):
        orders[column] = common + random.normal(0, 20, len(orders))
    orders["impact_bps"] = random.lognormal(0, 1, len(orders))
    orders["largest_participation"] = random.lognormal(-3, 1, len(orders))
    orders["mean_participation"] = orders["largest_participation"] * random.uniform(0.2, 1, len(orders))
    orders["filled_fraction"] = np.where(random.uniform(size=len(orders)) < 0.2, 0.5, 1.0)
    orders["completion_bar"] = random.integers(1, 3, len(orders))
    volatility = random.lognormal(3, 0.3, len(windows))
    orders["volatility_bps"] = np.resize(volatility, len(orders))
    return orders


def report(name: str, orders: pd.DataFrame, time_zone: str = "UTC") -> pd.DataFrame:
    keys = orders[["asset_class", "symbol", "bar_start"]].drop_duplicates()
    features = keys.assign(expected_volume=np.arange(len(keys)) + 1.0, close=2.0)
    with duckdb.connect() as connection:
        connection.register("features", features)
        connection.execute(f"set timezone = '{time_zone}'")
        connection.execute("create schema results")
        connection.execute("create schema features")
        connection.execute("create table features.bar_features as from features")
        connection.execute("create schema windows")
        connection.execute(
            "create table windows.order_windows as "
            "select asset_class, symbol, bar_start, symbol = 'B' as is_unseen_symbol, 'test' as split from features"
        )
        for table in ("order_results", "capped_order_results"):
            connection.execute(f"create table results.{table} as select * from orders")
        return connection.execute((REPORTS / f"{name}.sql").read_text()).df()


def clustered_standard_error(values: pd.Series, starts: pd.Series) -> float:
    """Cluster-robust error of a mean, from the definition, one cluster at a time."""
    residuals = values - values.mean()
    total = 0.0
    for day in sorted({start.date() for start in starts}):
        inside = [r for r, start in zip(residuals, starts, strict=True) if start.date() == day]
        total += sum(inside) ** 2
    return float(np.sqrt(total) / len(values))


def window_improvements(orders: pd.DataFrame) -> pd.DataFrame:
    """Side-averaged improvement per order window, computed without SQL."""
    window = [*SIDE_AVERAGED, "symbol", "bar_start", "volatility_bps"]
    wide = orders.pivot(index=window, columns="side", values="slippage_bps").dropna()
    return (-(wide["buy"] + wide["sell"]) / 2).rename("improvement").reset_index()


def daily_keys(orders: pd.DataFrame) -> pd.DataFrame:
    return orders[SIDE_AVERAGED].assign(trading_day=orders["bar_start"].dt.date)


@pytest.fixture(scope="module")
def orders():
    return random_orders()


@pytest.fixture(scope="module")
def scenarios(orders):
    return report("slippage_by_scenario", orders).set_index(SCENARIO)


@pytest.fixture(scope="module")
def improvements(orders):
    return report("daily_improvements", orders).set_index([*SIDE_AVERAGED, "trading_day"])


def test_every_scenario_has_one_row(orders, scenarios, improvements):
    assert scenarios.index.is_unique and len(scenarios) == len(orders[SCENARIO].drop_duplicates())
    assert improvements.index.is_unique and len(improvements) == len(daily_keys(orders).drop_duplicates())


def test_moments_and_tails_agree_with_numpy(orders, scenarios):
    for key, group in orders.groupby(SCENARIO):
        row, slippage = scenarios.loc[key], group["slippage_bps"].to_numpy()
        p01, p05, median, p95, p99 = np.percentile(slippage, [1, 5, 50, 95, 99])
        expected = {
            "orders": len(slippage),
            "days": group["bar_start"].dt.date.nunique(),
            "mean_slippage_bps": slippage.mean(),
            "std_slippage_bps": slippage.std(ddof=1),
            "p01_slippage_bps": p01,
            "p05_slippage_bps": p05,
            "median_slippage_bps": median,
            "p95_slippage_bps": p95,
            "p99_slippage_bps": p99,
            "cvar95_slippage_bps": slippage[slippage >= p95].mean(),
            "worst_slippage_bps": slippage.max(),
            "win_rate": (slippage < 0).mean(),
            "mean_fixed_window_slippage_bps": group["fixed_window_slippage_bps"].mean(),
            "mean_arrival_slippage_bps": group["arrival_slippage_bps"].mean(),
            "mean_completion_bar": group["completion_bar"].mean(),
            "median_completion_bar": np.percentile(group["completion_bar"], 50, method="inverted_cdf"),
            "p90_completion_bar": np.percentile(group["completion_bar"], 90, method="inverted_cdf"),
            "mean_largest_participation": group["largest_participation"].mean(),
        }
        assert row[list(expected)].to_dict() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("column", "error"),
    [
        ("slippage_bps", "standard_error_bps"),
        ("fixed_window_slippage_bps", "fixed_window_standard_error_bps"),
        ("arrival_slippage_bps", "arrival_standard_error_bps"),
        ("won", "win_rate_standard_error"),
        ("completion_bar", "completion_bar_standard_error"),
        ("largest_participation", "largest_participation_standard_error"),
    ],
)
def test_standard_errors_of_scenarios_are_clustered_by_day(orders, scenarios, column, error):
    for key, group in orders.assign(won=(orders["slippage_bps"] < 0) * 1.0).groupby(SCENARIO):
        expected = clustered_standard_error(group[column], group["bar_start"])
        assert scenarios.loc[key, error] == pytest.approx(expected)


def test_the_standard_error_of_the_mean_of_the_worst_is_that_of_a_bootstrap_of_days():
    many = random_orders(days=400)
    many = many[(many["strategy"] == "LEM") & (many["benchmark"] == "VWAP") & (many["side"] == "buy")]
    many = many[many["minimum_duration"] == 1]
    (row,) = report("slippage_by_scenario", many).to_dict("records")
    days = [day["slippage_bps"].to_numpy() for _, day in many.groupby(many["bar_start"].dt.date)]
    random = np.random.default_rng(1)

    def drawn() -> float:
        slippage = np.concatenate([days[day] for day in random.integers(len(days), size=len(days))])
        return slippage[slippage >= np.percentile(slippage, 95)].mean()

    error = np.std([drawn() for _ in range(2000)])
    assert row["cvar95_standard_error_bps"] == pytest.approx(error, rel=0.1)


def test_copying_an_asset_does_not_shrink_the_standard_error(orders):
    copies = pd.concat([orders, orders.assign(symbol=orders["symbol"] + " copy")])
    alone, twice = report("slippage_by_scenario", orders), report("slippage_by_scenario", copies)
    assert (twice["orders"] == 2 * alone["orders"]).all()
    np.testing.assert_allclose(twice["standard_error_bps"], alone["standard_error_bps"])


def test_a_day_is_a_utc_day_whatever_the_time_zone_of_the_session(orders, scenarios, improvements):
    for name, expected, keys in (
        ("slippage_by_scenario", scenarios, SCENARIO),
        ("daily_improvements", improvements, [*SIDE_AVERAGED, "trading_day"]),
    ):
        elsewhere = report(name, orders, time_zone="Asia/Tokyo").set_index(keys)
        pd.testing.assert_frame_equal(elsewhere, expected)


@pytest.mark.parametrize(("name", "means"), [("slippage_by_scenario", 7), ("participation", 2), ("capped_orders", 6)])
def test_a_single_day_has_no_standard_error(orders, name, means):
    one_day = orders[orders["bar_start"].dt.date == orders["bar_start"].min().date()]
    errors = report(name, capped(one_day) if name == "capped_orders" else one_day).filter(like="standard_error")
    assert errors.shape[1] == means and errors.isna().all(axis=None)


def test_improvement_is_the_negated_average_of_buying_and_selling(orders, improvements):
    windows = window_improvements(orders).assign(trading_day=lambda rows: rows["bar_start"].dt.tz_localize(None))
    windows["trading_day"] = windows["trading_day"].dt.normalize()
    for key, group in windows.groupby([*SIDE_AVERAGED, "trading_day"]):
        row = improvements.loc[key]
        assert row["order_windows"] == len(group)
        assert row["improvement_bps"] == pytest.approx(group["improvement"].sum())
        assert row["improvement_sigma"] == pytest.approx((group["improvement"] / group["volatility_bps"]).sum())
    both_sides = orders.groupby(SIDE_AVERAGED)["impact_bps"].sum() / 2
    summed = improvements.groupby(SIDE_AVERAGED)["impact_bps"].sum()
    pd.testing.assert_series_equal(summed, both_sides)
    for measure in ("fixed_window", "arrival"):
        both_sides = -orders.groupby(SIDE_AVERAGED)[f"{measure}_slippage_bps"].sum() / 2
        summed = improvements.groupby(SIDE_AVERAGED)[f"{measure}_improvement_bps"].sum()
        pd.testing.assert_series_equal(summed, both_sides, check_names=False)


def test_drift_cancels_between_buying_and_selling(orders):
    side = orders["side"].map({"buy": 1, "sell": -1})
    drifting = orders.assign(slippage_bps=orders["slippage_bps"] + 50 * side)
    columns = ["improvement_bps", "improvement_sigma"]
    np.testing.assert_allclose(
        report("daily_improvements", drifting)[columns], report("daily_improvements", orders)[columns], atol=1e-9
    )


def test_a_window_that_was_only_bought_is_left_out(orders, improvements):
    first = (orders["symbol"] == "A") & (orders["bar_start"] == orders["bar_start"].min())
    unsold = report("daily_improvements", orders[~(first & (orders["side"] == "sell"))])
    assert unsold["order_windows"].sum() == improvements["order_windows"].sum() - len(orders[first]) / 2


def capped(orders: pd.DataFrame) -> pd.DataFrame:
    headline = orders[orders["benchmark"] == "VWAP"]
    return pd.concat(headline.assign(order_size=0.1, participation_cap=cap) for cap in (0.05, 0.1))


def test_capped_orders_are_averaged_over_sides_and_windows_and_clustered_by_day(orders):
    large = capped(orders)
    found = report("capped_orders", large).set_index(["strategy", "participation_cap", "minimum_duration"])
    assert found.index.is_unique and len(found) == 4 * 2 * 2
    for key, group in large.groupby(["strategy", "participation_cap", "minimum_duration"]):
        row, windows = found.loc[key], group.groupby(["symbol", "bar_start"])
        improvement = -windows["slippage_bps"].mean().reset_index(level="bar_start")["slippage_bps"]
        starts = windows["slippage_bps"].mean().reset_index()["bar_start"]
        assert row["order_windows"] == len(windows)
        assert row["mean_improvement_bps"] == pytest.approx(improvement.mean())
        assert row["standard_error_bps"] == pytest.approx(clustered_standard_error(improvement, starts))
        measures = {
            ("mean_impact_bps", "impact_standard_error_bps"): group["impact_bps"],
            ("mean_filled_fraction", "filled_fraction_standard_error"): group["filled_fraction"],
            ("share_filled", "share_filled_standard_error"): (group["filled_fraction"] == 1) * 1.0,
            ("mean_completion_bar", "completion_bar_standard_error"): group["completion_bar"],
            ("mean_largest_participation", "largest_participation_standard_error"): group["largest_participation"],
        }
        for (mean, error), values in measures.items():
            assert row[mean] == pytest.approx(values.mean()), mean
            assert row[error] == pytest.approx(clustered_standard_error(values, group["bar_start"])), error


@pytest.mark.parametrize("days", [1, 12])
def test_shares_of_completion_bars_are_clustered_by_day(days):
    orders = random_orders(days)
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'America/New_York'; create schema results")
        connection.execute("create table results.order_results as from orders")
        found = connection.execute((REPORTS.parent / "queries" / "completions.sql").read_text()).df()
    keys = ["strategy", "minimum_duration"]
    for key, group in orders.groupby(keys):
        rows = found[(found[keys] == key).all(axis=1)].set_index("completion_bar")
        assert rows["orders"].to_dict() == group["completion_bar"].value_counts().to_dict()
        assert rows["share"].sum() == pytest.approx(1)
        for bar, row in rows.iterrows():
            complete = (group["completion_bar"] == bar) * 1.0
            assert row["share"] == pytest.approx(complete.mean())
            if days == 1:
                assert np.isnan(row["standard_error"])
            else:
                assert row["standard_error"] == pytest.approx(clustered_standard_error(complete, group["bar_start"]))


def test_participation_is_averaged_over_buys_and_sells_and_clustered_by_day(orders):
    found = report("participation", orders).set_index(["strategy", "minimum_duration"])
    headline = orders[orders["benchmark"] == "VWAP"]
    assert found.index.is_unique and len(found) == 4 * 2
    for key, group in headline.groupby(["strategy", "minimum_duration"]):
        row, largest = found.loc[key], group["largest_participation"]
        assert row["orders"] == len(group)
        assert row["mean_participation"] == pytest.approx(group["mean_participation"].mean())
        assert row["largest_participation"] == pytest.approx(largest.mean())
        assert row["p95_participation"] == pytest.approx(np.percentile(largest, 95))
        assert row["most_participation"] == pytest.approx(largest.max())
        for mean, column in (("mean", "mean_participation"), ("largest", "largest_participation")):
            error = clustered_standard_error(group[column], group["bar_start"])
            assert row[f"{mean}_standard_error"] == pytest.approx(error)


TRAITS = {
    "symbol": {"A", "B"},
    "symbols": {"seen in training", "unseen in training"},
    "year": {"2024"},
    "session": {"Asia, 00 to 07 UTC", "Europe, 07 to 13 UTC"},
    "volatility": {"1 calm", "2 usual", "3 wild"},
    "liquidity": {"1 thin", "2 middling", "3 deep"},
}


def test_edges_by_group_are_paired_side_averaged_and_add_up_to_all_windows(orders):
    found = report("edges_by_group", orders).set_index(["minimum_duration", "trait", "value"])
    headline = orders[orders["benchmark"] == "VWAP"]
    wide = headline.pivot(
        index=["minimum_duration", "symbol", "bar_start"], columns=["strategy", "side"], values="slippage_bps"
    )
    edge = (wide["no-forecast stopping"].mean(axis=1) - wide["LEM"].mean(axis=1)).rename("edge").reset_index()
    for duration, windows in edge.groupby("minimum_duration"):
        for trait, values in TRAITS.items():
            rows = found.loc[(duration, trait)]
            assert set(rows.index) == values
            assert rows["order_windows"].sum() == len(windows)
            assert np.average(rows["mean_edge_bps"], weights=rows["order_windows"]) == pytest.approx(
                windows["edge"].mean()
            )
        for symbol, group in windows.groupby("symbol"):
            row = found.loc[(duration, "symbol", symbol)]
            assert row["mean_edge_bps"] == pytest.approx(group["edge"].mean())
            error = clustered_standard_error(group["edge"], group["bar_start"])
            assert row["standard_error_bps"] == pytest.approx(error)
        unseen = found.loc[(duration, "symbols", "unseen in training")]
        assert unseen["mean_edge_bps"] == found.loc[(duration, "symbol", "B"), "mean_edge_bps"]


@pytest.mark.parametrize(
    "name", ["slippage_by_scenario", "daily_improvements", "edges_by_group", "capped_orders", "participation"]
)
def test_every_column_is_described(name, orders):
    orders = capped(orders) if name == "capped_orders" else orders
    text = (REPORTS / f"{name}.sql").read_text()
    final_select = text[text.rindex("\nselect\n") :]
    described = [line for line in final_select.splitlines() if " -- " in line]
    assert text.startswith("-- One row per ")
    assert len(described) == report(name, orders).shape[1]
