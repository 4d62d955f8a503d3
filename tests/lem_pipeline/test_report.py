import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from lem_pipeline import report, report_tables
from lem_pipeline.edges import best_strategies, cost_curves, edge_intervals, improvement_intervals, walk_forward_edges
from lem_pipeline.yardsticks import PUBLISHED

REPORTS = Path(__file__).parents[2] / "sql" / "reports"
COMPLETIONS = """
    select model, strategy, minimum_duration, completion_bar, count(*) as orders
    from results.order_results
    group by all
"""
PROVENANCE = [("data snapshot", "sha256 <abc>"), ("seeds", "0, 1, 2")]


def order_results(gain: float, horizon: int = 12, days: int = 20, asset_class: str = "crypto") -> pd.DataFrame:
    """Orders on which the model gains ``gain`` bps a bar of freedom, give or take, and the others nothing."""
    random = np.random.default_rng(3)
    starts = pd.date_range("2024-01-01", periods=2 * days, freq="12h", tz="UTC")
    keys = product(
        ["LEM", "no-forecast stopping", "TWAP"],
        ["VWAP", "TWAP"],
        ["quantity", "notional"],
        range(1, horizon + 1),
        starts,
    )
    windows = pd.DataFrame(keys, columns=["strategy", "benchmark", "target", "minimum_duration", "bar_start"]).assign(
        model=f"lem-{asset_class}", asset_class=asset_class, symbol="A", volatility_bps=30.0
    )
    learned = windows["strategy"] == "LEM"
    tracking = random.normal(0, 20, len(windows))
    earned = learned * (gain * (horizon - windows["minimum_duration"]) + random.normal(0, 2, len(windows)))
    windows["impact_bps"] = 2.0 + 3 * learned  # who finishes early pays more
    windows["filled_fraction"] = 1.0
    windows["completion_bar"] = windows["minimum_duration"].where(learned, horizon)
    orders = pd.concat(
        windows.assign(side=side, slippage_bps=sign * tracking - earned) for side, sign in (("buy", 1), ("sell", -1))
    )
    return orders.assign(
        fixed_window_slippage_bps=orders["slippage_bps"], arrival_slippage_bps=orders["slippage_bps"] * 2
    )


def results(orders: pd.DataFrame) -> report.Results:
    """The frames a report is made of, by the project's own SQL and statistics."""
    headline = orders[(orders["benchmark"] == "VWAP") & (orders["target"] == "quantity")]
    capped = pd.concat(headline.assign(order_size=0.1, participation_cap=cap) for cap in (0.05, 0.25))
    with duckdb.connect() as connection:
        connection.execute("create schema results")
        connection.execute("create schema features")
        connection.execute(
            "create table features.bar_features as "
            "select distinct asset_class, symbol, bar_start, 5.0 as expected_volume, 2.0 as close from orders"
        )
        connection.execute("create schema windows")
        connection.execute(
            "create table windows.order_windows as "
            "select *, false as is_unseen_symbol, 'test' as split from features.bar_features"
        )
        for table, rows in (("order_results", orders), ("capped_order_results", capped)):
            connection.register("rows", rows)
            connection.execute(f"create table results.{table} as from rows")
        queries = {
            "scenarios": (REPORTS / "slippage_by_scenario.sql").read_text(),
            "groups": (REPORTS / "edges_by_group.sql").read_text(),
            "capped": (REPORTS / "capped_orders.sql").read_text(),
            "completions": COMPLETIONS,
        }
        frames = {name: connection.execute(sql).df() for name, sql in queries.items()}
        daily = connection.execute((REPORTS / "daily_improvements.sql").read_text()).df()
    seeds = pd.Series(np.where(daily["strategy"] == "LEM", 0.0, np.nan), daily.index)
    return report.Results(
        walk_forward=walk_forward_edges(daily.assign(fold=1, seed=seeds)),
        improvements=improvement_intervals(daily),
        edges=edge_intervals(daily),
        best=best_strategies(daily),
        cost_curves=cost_curves(daily),
        **frames,
    )


def verdict(frames: report.Results) -> list[str]:
    return report.verdict(frames.improvements, frames.edges, frames.scenarios).splitlines()


def headline(frames: report.Results) -> pd.DataFrame:
    return report_tables.headline_table(frames.improvements, frames.edges, frames.scenarios)


def page(frames: report.Results, simulated: bool = False) -> str:
    return report.comparison_html(frames, PROVENANCE, simulated)


class Loads(HTMLParser):
    """Collects what a browser would fetch, and the page's words outside its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self._silent = False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self._silent = tag in ("script", "style")
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]

    def handle_endtag(self, tag):
        self._silent = False

    def handle_data(self, data):
        if not self._silent:
            self.words.append(data)


@pytest.fixture(scope="module")
def frames():
    return results(pd.concat([order_results(1.0), order_results(-1.0, days=100, asset_class="dow")]))


@pytest.fixture(scope="module")
def html(frames):
    return page(frames)


@pytest.fixture(scope="module")
def words(html):
    return " ".join(" ".join(Loads(html).words).split())


def test_a_gain_is_reported_with_its_interval_and_the_yardsticks(frames):
    crypto, _ = verdict(frames)
    edge = report_tables.by_duration(frames.edges, "lem-crypto", "no-forecast stopping")[6]
    learned = report_tables.by_duration(frames.improvements, "lem-crypto", "LEM")[6]
    assert crypto.startswith(
        f"lem-crypto: at minimum duration 6 an order gains {report_tables.with_interval(learned)} bps on VWAP, and the "
        f"model is better than stopping without any forecast ({report_tables.with_interval(edge)} bps, paired) "
        "at a standard deviation of one order of "
    )


def test_a_model_that_is_worse_is_said_to_be_worse(frames):
    _, dow = verdict(frames)
    assert re.search(r"at minimum duration 6 an order gains −\d+\.\d\d \[", dow)
    assert re.search(r"the model is worse than stopping without any forecast \(−\d", dow)


def test_an_interval_that_contains_zero_is_no_gain(frames):
    for sentence in verdict(frames):
        fixed = sentence.split("at the fixed duration 12")[1]
        assert "gains nothing measurable (" in fixed
        assert "the model is not measurably different from stopping without any forecast (" in fixed
        assert re.search(r"paired; \d+\.\d\d would have been seen\)", fixed)


def test_a_single_day_gives_no_interval_and_no_claim():
    (sentence,) = verdict(results(order_results(1.0, days=1)))
    assert "the model cannot be told from stopping without any forecast (" in sentence
    assert "too few days for an interval" in sentence
    assert "better" not in sentence


def test_without_headline_orders_there_is_no_verdict(frames):
    only_twap = [frame[frame["benchmark"] == "TWAP"] for frame in (frames.improvements, frames.edges)]
    assert all("no verdict" in line for line in report.verdict(*only_twap, frames.scenarios).splitlines())


def test_the_page_loads_nothing(html):
    assert Loads(html).addresses == []
    assert not re.search(r"@import|url\(\s*['\"]?https?:", html.split("<script>")[0])


def test_plotly_is_inlined_once(html):
    assert html.count("* plotly.js v") == 1
    assert html.count("Plotly.newPlot(") >= 8


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_data_are_named_on_the_page_and_in_the_table_and_only_then(frames, simulated):
    document = page(frames, simulated)
    table = report.headline_markdown(frames.improvements, frames.edges, frames.scenarios, simulated)
    title = re.search("<title>(.*)</title>", document).group(1)
    for text in (title, document.split("<main>")[0], table):
        assert ("SIMULATED DATA" in text) == simulated


def test_text_from_outside_is_escaped(html):
    assert "sha256 &lt;abc&gt;" in html and "sha256 <abc>" not in html


def test_the_page_states_its_artefacts(words):
    for statement in (
        "convexity, not skill",
        "removes the drift",
        "error of that proxy",
        "clustered by day",
        "runs of days are resampled together",
        "a bound on what any strategy could have earned, and no strategy",
        "Only the edge over no-forecast stopping is the worth of what the model has learned",
        "sees the bar it trades in",
    ):
        assert statement in words


def test_without_the_stopping_baseline_nothing_is_said_of_it(frames):
    alone = results(order_results(1.0).query("strategy != 'no-forecast stopping'"))
    assert "without any forecast" not in " ".join(verdict(alone))
    assert set(headline(alone)["LEM over no-forecast stopping, bps"]) == {"–"}


def test_the_headline_puts_every_mean_beside_its_interval_and_yardstick(frames):
    table = headline(frames)
    assert list(table["minimum duration"]) == ["6", "9", "11", "12 (fixed)"] * 2
    for column in (
        "LEM over no-forecast stopping, bps",
        "LEM over TWAP, bps",
        "LEM on VWAP, σ",
    ):
        assert table[column].str.fullmatch(r"[+−]\d+\.\d+ \[[+−]\d+\.\d+, [+−]\d+\.\d+\]").all()
    assert (table["detectable, bps"].astype(float) > 0).all()


def test_the_headline_markdown_is_one_well_formed_table(frames):
    lines = report.headline_markdown(frames.improvements, frames.edges, frames.scenarios, simulated=False).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 8
    assert len({row.count("|") for row in rows}) == 1


def test_a_size_that_eats_the_gain_is_named(frames):
    table = report_tables.break_even_table(frames.of("lem-crypto").cost_curves).set_index("minimum duration")
    # 6 bps over TWAP at minimum duration 6 and 3 bps more impact at one percent: gone at four percent.
    assert table.loc["6", "gains on average up to"] == "2 %"
    assert table.loc["6", "1 % of a day"].startswith("+2.") or table.loc["6", "1 % of a day"].startswith("+3.")
    assert table.loc["12", "gains surely up to"] == "none tried"


def test_the_best_are_named_by_minimum_duration(frames):
    table = report_tables.best_table(frames.of("lem-crypto").best).set_index("minimum duration")
    assert table.loc["6", "cannot be told from the best"] == "LEM"
    dow = report_tables.best_table(frames.of("lem-dow").best).set_index("minimum duration")
    assert "LEM" not in dow.loc["6", "cannot be told from the best"]


def test_orders_under_caps_show_what_was_filled(frames):
    table = report_tables.capped_table(frames.of("lem-crypto").capped)
    assert set(table["at most of a bar"]) == {"5%", "25%"}
    assert set(table["filled"]) == {"100.0%"} and set(table["filled whole"]) == {"100%"}
    assert table["improvement on VWAP, bps"].str.contains(" ± ").all()


def test_the_published_layout_repeats_our_numbers_and_theirs_side_by_side(frames):
    crypto = frames.scenarios[frames.scenarios["model"] == "lem-crypto"]
    layout = report_tables.published_layout(crypto)
    assert [label for label, _, _ in layout] == ["6", "9", "11", "12 (fixed)", "naive TWAP"]
    _, (buy, sell), (published_buy, published_sell, *_) = layout[0]
    own = report_tables.headline_orders(crypto).query("strategy == 'LEM' and minimum_duration == 6")
    means = own.set_index("side")["mean_slippage_bps"]
    assert buy.mean.startswith(report_tables.signed(means["buy"]))
    assert sell.mean.startswith(report_tables.signed(means["sell"]))
    assert (published_buy.mean, published_buy.std) == ("−6.96", "std 32.7")
    assert (published_sell.mean, published_sell.std) == ("−8.81", "std 35.1")


def test_published_sellers_pay_what_published_buyers_pay_when_nobody_may_stop_early():
    buy, sell = PUBLISHED["crypto"][0].learned[12]
    assert sell is not None and sell.mean == pytest.approx(-buy.mean, abs=0.02)


def test_another_horizon_has_its_own_rows_and_borrows_no_published_figures():
    frames = results(order_results(1.0, horizon=8))
    table = headline(frames)
    assert list(table["minimum duration"]) == ["4", "6", "7", "8 (fixed)"]
    assert "No published figures exist for this asset class and horizon." in " ".join(page(frames).split())


def test_earlier_years_stand_on_the_page_where_a_model_was_tried_on_them():
    frames = results(order_results(1.0))
    assert "On earlier years, with other seeds" in page(frames)
    none = replace(frames, walk_forward=frames.walk_forward.iloc[:0])
    assert "On earlier years, with other seeds" not in page(none)
