import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from lem_models.orders import SCENARIOS
from lem_pipeline.edges import (
    best_strategies,
    cost_curves,
    edge_intervals,
    headline_orders,
    improvement_intervals,
    net_improvements,
    walk_forward_edges,
)
from lem_pipeline.provenance import Origin
from lem_pipeline.report import cost_tables, figures, heat_maps, markdown, scenario_tables
from lem_pipeline.report import page as report
from lem_pipeline.report import tables as report_tables
from lem_pipeline.report.order_figures import order_caption, order_figure
from lem_pipeline.report.yardsticks import PUBLISHED

REPORTS = Path(__file__).parents[2] / "sql" / "reports"
COMPLETIONS = (REPORTS.parent / "queries" / "completions.sql").read_text()
ORIGIN = Origin(
    facts=[("data snapshot", "sha256 <abc>"), ("seeds", "0, 1, 2")],
    bars=pd.DataFrame({"asset class": ["crypto"], "bars": ["445,355"], "priced by the proxy": ["0.01%"]}),
    windows=pd.DataFrame({"asset class": ["crypto"], "split": ["test"], "order windows": ["76,116"]}),
    configurations={"lem-crypto": [("lookback", "48"), ("risk_aversion", "0.1")]},
    libraries=[("torch", "2.13.0")],
)


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
    windows["largest_participation"] = (0.02 + 0.1 * learned) * random.uniform(0.5, 1.5, len(windows))
    windows["mean_participation"] = windows["largest_participation"] / 2
    windows["filled_fraction"] = 1.0
    windows["completion_bar"] = windows["minimum_duration"].where(learned, horizon)
    orders = pd.concat(
        windows.assign(side=side, slippage_bps=sign * tracking - earned) for side, sign in (("buy", 1), ("sell", -1))
    )
    return orders.assign(
        fixed_window_slippage_bps=orders["slippage_bps"], arrival_slippage_bps=orders["slippage_bps"] * 2
    )


def mean_schedules(model: str, horizon: int) -> pd.DataFrame:
    """Equal slices until the minimum duration, for every scenario."""
    bars = range(1, horizon + 1)
    kinds = [(s.side.name.lower(), s.benchmark.value, s.target.value) for s in SCENARIOS]
    rows = [(*kind, duration, bar) for kind in kinds for duration in bars for bar in bars]
    found = pd.DataFrame(rows, columns=["side", "benchmark", "target", "minimum_duration", "bar"])
    found["mean_fraction"] = (found["bar"] <= found["minimum_duration"]) / found["minimum_duration"]
    return found.assign(model=model, standard_error=0.01)


def example_orders(model: str, asset_class: str, horizon: int) -> pd.DataFrame:
    """Three windows on which the model is done in half the time, stopping in all of it."""
    bars, half = np.arange(1, horizon + 1), horizon // 2
    parts = [
        pd.DataFrame({"bar": bars, "price_bps": 3.0 * bars, "market_vwap_bps": 1.5 * bars, "volume": 10.0}).assign(
            model=model,
            asset_class=asset_class,
            percentile=percentile,
            symbol="A",
            order_start=pd.Timestamp("2024-01-05", tz="UTC"),
            strategy=strategy,
            fraction=(bars <= done) / done,
            completion_bar=done,
            slippage_bps=percentile - 50.0 - done,
        )
        for percentile in (10, 50, 90)
        for strategy, done in (("LEM", half), ("no-forecast stopping", horizon))
    ]
    return pd.concat(parts)


def learning(model: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "train_loss": [-0.1, -0.2, -0.3],
            "validation_loss": [-0.1, -0.2, -0.15],
            "improvement_sigma": [0.1, 0.2, 0.15],
            "is_kept": [False, True, False],
        }
    ).assign(model=model)


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
            "participation": (REPORTS / "participation.sql").read_text(),
            "completions": COMPLETIONS,
        }
        frames = {name: connection.execute(sql).df() for name, sql in queries.items()}
        daily = connection.execute((REPORTS / "daily_improvements.sql").read_text()).df()
    seeds = pd.Series(np.where(daily["strategy"] == "LEM", 0.0, np.nan), daily.index)
    horizon = int(orders["minimum_duration"].max())
    models = sorted(set(zip(orders["model"], orders["asset_class"], strict=True)))
    return report.Results(
        walk_forward=walk_forward_edges(daily.assign(fold=1, seed=seeds)),
        net_improvements=net_improvements(daily),
        schedules=pd.concat(mean_schedules(model, horizon) for model, _ in models),
        examples=pd.concat(example_orders(*model, horizon) for model in models),
        learning=pd.concat(learning(model) for model, _ in models),
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
    return report.comparison_html(frames, ORIGIN, simulated)


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
        "lem-crypto: better than stopping without any forecast "
        f"({report_tables.with_interval(edge)} bps at minimum duration 6, paired) "
        "at a standard deviation of one order of "
    )
    assert crypto.endswith(f"; on VWAP an order gains {report_tables.with_interval(learned)} bps.")


def test_a_model_that_is_worse_is_said_to_be_worse(frames):
    _, dow = verdict(frames)
    assert re.search(r"^lem-dow: worse than stopping without any forecast \(−\d", dow)
    assert re.search(r"on VWAP an order gains −\d+\.\d\d \[", dow)


def test_a_gain_that_luck_among_many_may_explain_is_said_to_be_one(frames):
    lucky = replace(frames, edges=frames.edges.assign(is_better=False))
    crypto, dow = verdict(lucky)
    assert "paired; not after correction for all that was looked at) at a standard deviation" in crypto
    assert "correction" not in verdict(frames)[0] and "correction" not in dow


def test_an_interval_that_contains_zero_is_no_gain(frames):
    fixed = [frame[frame["minimum_duration"] == 12] for frame in (frames.improvements, frames.edges)]
    for sentence in report.verdict(*fixed, frames.scenarios).splitlines():
        assert "gains nothing measurable (" in sentence
        assert ": not measurably different from stopping without any forecast (" in sentence
        assert re.search(r"minimum duration 12, paired; \d+\.\d\d would have been seen\)", sentence)


def test_a_single_day_gives_no_interval_and_no_claim():
    (sentence,) = verdict(results(order_results(1.0, days=1)))
    assert ": cannot be told from stopping without any forecast (" in sentence
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
    table = markdown.headline_markdown(frames.improvements, frames.edges, frames.scenarios, simulated)
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
    lines = markdown.headline_markdown(
        frames.improvements, frames.edges, frames.scenarios, simulated=False
    ).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 8
    assert len({row.count("|") for row in rows}) == 1


def test_a_size_that_eats_the_gain_is_named(frames):
    table = cost_tables.break_even_table(frames.of("lem-crypto").cost_curves, "TWAP").set_index("minimum duration")
    # 6 bps over TWAP at minimum duration 6 and 3 bps more impact at one percent: gone at four percent.
    assert table.loc["6", "gains on average up to"] == "2 %"
    assert table.loc["6", "1 % of a day"].startswith("+2.") or table.loc["6", "1 % of a day"].startswith("+3.")
    assert table.loc["12", "gains surely up to"] == "none tried"


def test_the_best_are_named_by_minimum_duration(frames):
    table = scenario_tables.best_table(frames.of("lem-crypto").best).set_index("minimum duration")
    assert table.loc["6", "cannot be told from the best"] == "LEM"
    dow = scenario_tables.best_table(frames.of("lem-dow").best).set_index("minimum duration")
    assert "LEM" not in dow.loc["6", "cannot be told from the best"]


def test_orders_under_caps_show_what_was_filled(frames):
    table = cost_tables.capped_table(frames.of("lem-crypto").capped)
    assert set(table["at most of a bar"]) == {"5%", "25%"}
    assert set(table["filled"]) == {"100.0 ± 0.0 %"} and set(table["filled whole"]) == {"100.0 ± 0.0 %"}
    assert table["improvement on VWAP, bps"].str.contains(" ± ").all()


def test_the_published_layout_repeats_our_numbers_and_theirs_side_by_side(frames):
    crypto = frames.scenarios[frames.scenarios["model"] == "lem-crypto"]
    layout = scenario_tables.published_layout(crypto)
    assert [label for label, _, _ in layout] == ["6", "9", "11", "12 (fixed)", "naive TWAP"]
    _, (buy, sell), (published_buy, published_sell, *_) = layout[0]
    own = headline_orders(crypto).query("strategy == 'LEM' and minimum_duration == 6")
    means = own.set_index("side")["mean_slippage_bps"]
    assert buy.mean.startswith(report_tables.signed(means["buy"]))
    assert sell.mean.startswith(report_tables.signed(means["sell"]))
    assert (published_buy.mean, published_buy.note) == ("−6.96", "std 32.7")
    assert (published_sell.mean, published_sell.note) == ("−8.81", "std 35.1")


def test_published_sellers_pay_what_published_buyers_pay_when_nobody_may_stop_early():
    buy, sell = PUBLISHED["crypto"][0].learned[12]
    assert sell is not None and sell.mean == pytest.approx(-buy.mean, abs=0.02)


def test_another_horizon_has_its_own_rows_and_borrows_no_published_figures():
    frames = results(order_results(1.0, horizon=8))
    table = headline(frames)
    assert list(table["minimum duration"]) == ["4", "6", "7", "8 (fixed)"]
    assert "No published figures exist for this asset class and horizon." in " ".join(page(frames).split())


def test_the_plain_text_repeats_verdicts_tables_and_what_they_rest_on(frames):
    shown = frames.improvements, frames.edges, frames.scenarios
    text = markdown.comparison_markdown(frames, [("seed", "7")], simulated=True)
    assert "SIMULATED" in text
    for sentence in report.verdict(*shown, frames.cost_curves).splitlines():
        assert f"- {sentence}" in text
    for model in ("lem-crypto", "lem-dow"):
        own = text[text.index(f"## {model}") :]
        table = scenario_tables.window_table(frames.of(model).improvements)
        assert all(f"| {value} |" in own for value in table["whole horizon, bps"])
        assert "on years before the test" in own
    assert "| seed | 7 |" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in lines)


def test_earlier_years_stand_on_the_page_where_a_model_was_tried_on_them():
    frames = results(order_results(1.0))
    assert "On earlier years, with other seeds" in page(frames)
    none = replace(frames, walk_forward=frames.walk_forward.iloc[:0])
    assert "On earlier years, with other seeds" not in page(none)


# --- every mean with its interval and what would have been detected -------------------------------------------------


def tables(frames: report.Results) -> dict[str, pd.DataFrame]:
    one = frames.of("lem-crypto")
    return {
        "headline": headline(one),
        "break-even": cost_tables.break_even_table(one.cost_curves, "no-forecast stopping"),
        "net of costs": cost_tables.net_cost_table(one.net_improvements),
        "participation": cost_tables.participation_table(one.participation),
        "windows": scenario_tables.window_table(one.improvements),
        "capped": cost_tables.capped_table(one.capped),
        "groups": scenario_tables.group_table(one.groups),
        "edges": scenario_tables.edge_table(one.edges),
        "improvements": scenario_tables.improvement_table(one.improvements),
        "scenarios": scenario_tables.scenario_table(one.scenarios),
    }


INTERVAL = re.compile(r".* ± .*|.* \[.*, .*\]")


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("headline", 3),
        ("break-even", 4),
        ("net of costs", 4),
        ("participation", 2),
        ("windows", 3),
        ("capped", 6),
        ("groups", 1),
        ("edges", 1),
        ("improvements", 2),
        ("scenarios", 7),
    ],
)
def test_every_mean_has_an_interval_and_below_it_what_would_have_been_detected(frames, name, means):
    table = tables(frames)[name]
    assert len(table) > 0
    intervals = {column for column in table if table[column].map(lambda text: bool(INTERVAL.match(str(text)))).any()}
    assert len(intervals) == means
    shown = report_tables.stacked(table)
    assert len(shown.columns) == len(table.columns) - means
    for column in shown:
        cells = [value for value in shown[column] if isinstance(value, report_tables.Cell)]
        assert len(cells) == (len(shown) if column in intervals else 0)
        assert all(INTERVAL.match(cell.mean) and re.fullmatch(r"det\. \d+\.\d+( %)?", cell.note) for cell in cells)


def test_what_is_detectable_is_two_and_eight_tenths_standard_errors(frames):
    one = frames.of("lem-crypto")
    groups = scenario_tables.of_groups(one.groups)
    table = scenario_tables.group_table(one.groups)
    for least, error in zip(table["detectable, edge, bps"], groups["standard_error_bps"], strict=True):
        assert float(least) == pytest.approx(2.8 * error, rel=0.01, abs=0.006)


def test_the_scenario_table_repeats_the_numbers_of_its_rows(frames):
    rows = frames.scenarios.query("model == 'lem-crypto' and strategy == 'LEM'")
    table = scenario_tables.scenario_table(rows)
    for shown, row in zip(table.to_dict("records"), rows.to_dict("records"), strict=True):
        assert shown["mean"] == report_tables.estimate(row["mean_slippage_bps"], row["standard_error_bps"])
        assert shown["CVaR 95"] == report_tables.estimate(
            row["cvar95_slippage_bps"], row["cvar95_standard_error_bps"], 1
        )
        assert shown["worst window"] == report_tables.signed(row["worst_slippage_bps"], 1)
        assert shown["won"] == report_tables.share(row["win_rate"], row["win_rate_standard_error"])
        assert shown["completion: 10, 50, 90 %"] == ", ".join([str(row["minimum_duration"])] * 3)


def test_each_benchmark_has_its_own_column(frames):
    table = scenario_tables.window_table(frames.of("lem-crypto").improvements)
    assert list(table["strategy"]) == ["LEM", "no-forecast stopping"] * 4
    row = frames.improvements.query(
        "model == 'lem-crypto' and strategy == 'LEM' and minimum_duration == 6 and benchmark == 'VWAP' "
        "and target == 'quantity'"
    ).iloc[0]
    for column, mean in (
        ("window of the order, bps", row["mean_bps"]),
        ("whole horizon, bps", row["mean_fixed_window_bps"]),
        ("arrival price, bps", row["mean_arrival_bps"]),
    ):
        assert table[column][0].startswith(report_tables.signed(mean) + " [")
    assert row["mean_arrival_bps"] == pytest.approx(2 * row["mean_bps"])  # as the orders of this test were made


def test_fees_shift_what_is_left_and_cancel_in_the_gain_over_another(frames):
    one = frames.of("lem-crypto")
    table = cost_tables.net_cost_table(one.net_improvements).query("`minimum duration` == '6'")
    curve = one.cost_curves.query("minimum_duration == 6 and baseline == 'TWAP'").set_index("size_percent")["mean_bps"]
    left = {
        (row["strategy"], row["fee + half-spread"], size): float(
            row[f"{size:g} % of a day"].split(" ")[0].replace("−", "-")
        )
        for row in table.to_dict("records")
        for size in cost_tables.SIZES_SHOWN
    }
    for strategy in ("LEM", "no-forecast stopping", "TWAP"):
        for size in cost_tables.SIZES_SHOWN:
            free = left[strategy, "0 bps", size]
            for fee in (2, 5, 10):
                assert left[strategy, f"{fee} bps", size] == pytest.approx(free - fee, abs=0.11)
    for fee in (0, 2, 5, 10):
        for size in cost_tables.SIZES_SHOWN:
            edge = left["LEM", f"{fee} bps", size] - left["TWAP", f"{fee} bps", size]
            assert edge == pytest.approx(curve[size], abs=0.11)


def test_the_verdict_says_what_impact_leaves(frames):
    crypto, dow = report.verdict(frames.improvements, frames.edges, frames.scenarios, frames.cost_curves).splitlines()
    curves = frames.cost_curves.query(
        "baseline == 'no-forecast stopping' and minimum_duration == 6 and size_percent == 1"
    )
    for sentence, model in ((crypto, "lem-crypto"), (dow, "lem-dow")):
        curve = curves[curves["model"] == model]
        left = report_tables.with_interval(report_tables.records(curve)[0])
        assert f"; {left} bps after impact at 1 % of a day's volume; on VWAP" in sentence
        assert sentence.count("after impact") == 1


# --- figures --------------------------------------------------------------------------------------------------------


def test_the_grey_band_ends_at_the_gain_over_stopping_that_would_have_been_detected(frames):
    edges = frames.of("lem-crypto").edges
    figure = figures.edge_figure(edges)
    (band,) = [trace for trace in figure.data if trace.name == "too small to detect"]
    expected = headline_orders(edges).query("baseline == 'no-forecast stopping'").sort_values("minimum_duration")
    upper, lower = np.split(np.array(band.y), 2)
    np.testing.assert_array_equal(upper, expected["minimum_detectable_bps"])
    np.testing.assert_array_equal(lower[::-1], -expected["minimum_detectable_bps"])


def test_the_participation_figure_repeats_the_table_of_each_strategy_with_its_intervals(frames):
    participation = frames.of("lem-crypto").participation
    for trace in figures.participation_figure(participation).data:
        rows = participation[participation["strategy"] == trace.name].sort_values("minimum_duration")
        np.testing.assert_array_equal(trace.y, rows["largest_participation"])
        np.testing.assert_allclose(trace.error_y.array, 1.96 * rows["largest_standard_error"])


def test_cost_figures_are_each_about_one_rival(frames):
    curves = frames.of("lem-crypto").cost_curves.sort_values("size_percent")
    for baseline in ("TWAP", "no-forecast stopping"):
        lines = figures.cost_figure(curves, baseline).data
        assert [line.name for line in lines] == [f"minimum duration {m}" for m in (6, 9, 11, 12)]
        for line, duration in zip(lines, (6, 9, 11, 12), strict=True):
            rows = curves[(curves["baseline"] == baseline) & (curves["minimum_duration"] == duration)]
            np.testing.assert_array_equal(line.y, rows["mean_bps"])


def test_learning_curves_ring_the_epoch_that_was_kept():
    curve = learning("lem-crypto")
    for column in report.LEARNING_TITLES:
        line, ring = figures.learning_figure(curve, column, "").data
        assert list(line.y) == list(curve[column])
        assert (list(ring.x), list(ring.y)) == ([2], [curve[column][1]])


def test_completions_are_shares_of_orders_with_their_intervals(frames):
    completions = frames.of("lem-crypto").completions
    (cells,) = heat_maps.completion_figure(completions).data
    own = completions.query("strategy == 'LEM'").set_index(["minimum_duration", "completion_bar"])
    shown = np.array(cells.z, dtype=float)
    np.testing.assert_allclose(np.nansum(shown, axis=1), 1)
    for row, column in zip(*np.nonzero(~np.isnan(shown)), strict=True):
        expected = own.loc[(cells.y[row], cells.x[column])]
        assert shown[row, column] == expected["share"]
        assert cells.customdata[row][column][0] == pytest.approx(196 * expected["standard_error"])


def test_schedule_heat_maps_show_each_scenario_once_and_every_row_adds_up_to_one():
    schedules = mean_schedules("lem-crypto", 12)
    schedules["mean_fraction"] *= np.where(schedules["side"] == "buy", 1.0, 0.5)  # so that a mix-up would show
    figure = heat_maps.schedule_figure(schedules)
    titles = [note.text for note in figure.layout.annotations]
    assert len(set(titles)) == len(figure.data) == 8
    for title, panel in zip(titles, figure.data, strict=True):
        total = 1.0 if title.startswith("buy") else 0.5
        np.testing.assert_allclose(np.array(panel.z).sum(axis=1), total)


def test_an_example_shows_the_fills_of_both_until_each_is_done():
    example = example_orders("lem-crypto", "crypto", 12).query("percentile == 50")
    figure = order_figure(example)
    bars = {trace.name: np.array(trace.y) for trace in figure.data if trace.type == "bar"}
    ends = [shape.x0 for shape in figure.layout.shapes if shape.x0 == shape.x1]
    assert list(bars) == ["LEM", "no-forecast stopping"]
    for (name, fractions), end in zip(bars.items(), ends, strict=True):
        rows = example[example["strategy"] == name]
        np.testing.assert_array_equal(fractions, rows["fraction"])
        assert fractions.sum() == pytest.approx(1)
        assert rows["completion_bar"].iloc[0] < end < rows["completion_bar"].iloc[0] + 1
    assert order_caption(example) == (
        "50th percentile: A from 2024-01-05 00:00 UTC. "
        "Slippage: LEM −6.0 bps, done in bar 6; no-forecast stopping −12.0 bps, done in bar 12."
    )


def test_groups_stand_in_reading_order():
    days = ["Friday", "Monday", "Tuesday"]
    groups = pd.DataFrame(
        [("symbol", "A"), *(("session", day) for day in days), ("symbols", "seen"), ("year", "2024")],
        columns=["trait", "value"],
    ).assign(minimum_duration=1)
    assert list(scenario_tables.of_groups(groups)["value"]) == ["2024", "Monday", "Tuesday", "Friday", "seen", "A"]


# --- what the page rests on -----------------------------------------------------------------------------------------


def test_the_page_ends_with_limits_and_provenance_its_configurations_folded(html, words):
    for statement in (
        "Costs are charged afterwards and not fed back",
        "Survivorship:",
        "flatters. Only test windows enter the tables above.",
        "Chosen by a rule, not by eye",
        "They cancel in a gain over another strategy",
    ):
        assert statement in words
    assert html.index("<h2>Limits</h2>") < html.index("<h2>Provenance</h2>")
    folded = re.search(r"<details>\s*<summary>Configuration of lem-crypto</summary>(.*?)</details>", html, re.DOTALL)
    assert folded and "risk_aversion" in folded.group(1)
    assert "445,355" in words and "2.13.0" in words
