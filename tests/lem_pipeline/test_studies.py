"""Studies side by side, from real warehouses that the project's own SQL and statistics have filled."""

import math
from itertools import product
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lem_pipeline.edges import edge_intervals, improvement_intervals
from lem_pipeline.report.rendering import render
from lem_pipeline.report.studies_tables import studies_section
from lem_pipeline.settings import Settings, settings_of
from lem_pipeline.sql_assets import SQL
from lem_pipeline.storage import Warehouse
from lem_pipeline.studies import EFFECTS_SCHEMA, FINISHED, Study, headline_rows, price_effects, read_only

PROFILE = """
home = "{home}"
[models]
lem = ["{asset_class}"]
[{asset_class}]
instruments = ["A"]
start = "2020-01-01"
end = "2024-01-01"
{more}
bars = {{ source = "archive", path = "{folder}/bars.parquet" }}
"""
STRATEGIES = ["LEM", "no-forecast stopping", "TWAP"]
DURATIONS = [1, 6, 9, 11, 12]


def profile(folder: Path, name: str, more: str = "", asset_class: str = "crypto", bars: str = "quarters") -> Settings:
    path = folder / f"{name}.toml"
    path.write_text(PROFILE.format(home=folder / name, more=more, asset_class=asset_class, folder=bars))
    return settings_of(str(path))


def orders(gain: float, seed: int = 3, days: int = 40, asset_class: str = "crypto") -> pd.DataFrame:
    """Orders on which the model gains ``gain`` bps a bar of freedom, give or take, and the others nothing."""
    random = np.random.default_rng(seed)
    starts = pd.date_range("2022-01-03", periods=2 * days, freq="12h", tz="UTC")
    keys = product(STRATEGIES, ["VWAP", "TWAP"], ["quantity"], range(1, 13), starts)
    windows = pd.DataFrame(keys, columns=["strategy", "benchmark", "target", "minimum_duration", "bar_start"])
    windows = windows.assign(model="lem", asset_class=asset_class, symbol="A", volatility_bps=30.0, impact_bps=1.0)
    tracking = random.normal(0, 20, len(windows))
    noise = random.normal(0, 2, len(windows))
    earned = (windows["strategy"] == "LEM") * gain * (12 - windows["minimum_duration"]) + noise
    windows["largest_participation"], windows["mean_participation"] = 0.05, 0.01
    windows["completion_bar"], windows["filled_fraction"] = windows["minimum_duration"], 1.0
    both = pd.concat(
        windows.assign(side=side, slippage_bps=sign * tracking - earned) for side, sign in (("buy", 1), ("sell", -1))
    )
    return both.assign(fixed_window_slippage_bps=both["slippage_bps"], arrival_slippage_bps=both["slippage_bps"])


def finish(chosen: Settings, results: pd.DataFrame, proxy_share: float = 0.0) -> None:
    """Fill a study's warehouse with what a run of it leaves behind."""
    warehouse = Warehouse(path=str(chosen.warehouse))
    write = {"results.order_results": results}
    warehouse.write_table("results.order_results", pa.Table.from_pandas(results, preserve_index=False))
    for table in ("slippage_by_scenario", "daily_improvements"):
        warehouse.create_table(f"reports.{table}", (SQL / f"reports/{table}.sql").read_text(), {})
    daily = warehouse.read("from reports.daily_improvements").to_pandas()
    (asset_class,) = results["asset_class"].unique()
    proxy = {"asset_class": [asset_class], "symbol": ["A"], "bars": [100], "proxy_share": [proxy_share]}
    write = {
        "reports.improvements": improvement_intervals(daily),
        "reports.edges": edge_intervals(daily),
        "quality.price_proxy": pd.DataFrame(proxy),
    }
    for table, rows in write.items():
        warehouse.write_table(table, pa.Table.from_pandas(rows, preserve_index=False))


def study(chosen: Settings) -> Study:
    return Study(Path(chosen.profile).stem, chosen, read_only(chosen.warehouse))


QUARTERS = "source_bar_minutes = 15\nbar_minutes = 15"
FOUR_HOURS = "bar_minutes = 240"


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> list[Study]:
    """Two finished crypto studies, a Dow study at both prices, and one that was never run."""
    folder = tmp_path_factory.mktemp("studies")
    quarters = profile(folder, "quarters", QUARTERS)
    four_hours = profile(folder, "four-hours", FOUR_HOURS, bars="hours")
    true = profile(folder, "true", asset_class="dow", bars="dow")
    typical = profile(folder, "typical", 'price = "typical"', "dow", "dow")
    finish(quarters, orders(1.0), proxy_share=0.01)
    finish(four_hours, orders(0.0, seed=4), proxy_share=1.0)
    dow = orders(0.0, seed=5, asset_class="dow", days=120)
    finish(true, dow)
    # A proxy that flatters every strategy by 2 bps, in windows of which the true study lacks the first day's.
    shifted = dow.assign(slippage_bps=dow["slippage_bps"] - 2.0)
    finish(typical, shifted[shifted["bar_start"] >= dow["bar_start"].min() + pd.Timedelta(days=1)], proxy_share=1.0)
    return [study(each) for each in (quarters, four_hours, true, typical, profile(folder, "never"))]


@pytest.fixture(scope="module")
def rows(studies) -> pd.DataFrame:
    return headline_rows(studies).to_pandas()


def test_a_study_is_described_by_its_bars_its_source_and_what_its_prices_are(rows):
    described = (
        rows[rows["status"] == FINISHED].groupby("study")[["bar", "bar_minutes", "source", "price_basis"]].first()
    )
    assert described.loc["quarters"].tolist() == ["15 min", 15, "quarters", "VWAP"]
    assert described.loc["four-hours"].tolist() == ["4 h", 240, "hours", "typical price"]
    assert described.loc["true"].tolist() == ["1 day", 1440, "dow", "VWAP"]
    assert described.loc["typical"].tolist() == ["1 day", 1440, "dow", "typical price"]


def test_every_study_has_its_headline_orders_at_the_key_durations(rows):
    finished = rows[rows["status"] == FINISHED]
    assert finished.groupby("study").size().to_dict() == dict.fromkeys(
        ["quarters", "four-hours", "true", "typical"], len(STRATEGIES) * len(DURATIONS)
    )
    assert sorted(finished["minimum_duration"].unique()) == DURATIONS


def test_the_rows_are_those_of_each_studys_own_report(studies, rows):
    own = studies[0].read("from reports.edges where benchmark = 'VWAP' and target = 'quantity'", {})
    expected = own.set_index(["baseline", "minimum_duration"]).loc[("no-forecast stopping", 6)]
    found = rows.set_index(["study", "strategy", "minimum_duration"]).loc[("quarters", "no-forecast stopping", 6)]
    assert found["edge_bps"] == expected["mean_bps"] == pytest.approx(6.0, abs=1)
    assert (found["edge_low_bps"], found["edge_high_bps"]) == (expected["low_bps"], expected["high_bps"])
    assert found["edge_detectable_bps"] == expected["minimum_detectable_bps"]
    orders_of = (
        studies[0]
        .read(
            "select side, avg(slippage_bps) as mean, stddev_samp(slippage_bps) as std from results.order_results "
            "where benchmark = 'VWAP' and strategy = 'no-forecast stopping' and minimum_duration = 6 group by side",
            {},
        )
        .set_index("side")
    )
    assert found["buy_bps"] == pytest.approx(orders_of.loc["buy", "mean"])
    assert found["sell_std_bps"] == pytest.approx(orders_of.loc["sell", "std"])
    learned = rows.set_index(["study", "strategy", "minimum_duration"]).loc[("quarters", "LEM", 6)]
    assert math.isnan(learned["edge_bps"]) and learned["mean_bps"] == pytest.approx(6.0, abs=1)


def test_a_study_that_was_not_run_says_so_and_fails_nothing(rows):
    (never,) = rows[rows["study"] == "never"].to_dict("records")
    assert never["status"] == "not run yet: lem run --profile never"
    assert pd.isna(never["strategy"]) and pd.isna(never["mean_bps"])


def test_a_study_that_stopped_half_way_says_so(tmp_path):
    chosen = profile(tmp_path, "half")
    Warehouse(path=str(chosen.warehouse)).write_table("quality.price_proxy", pa.table({"bars": [1]}))
    assert study(chosen).status == "not finished: lem run --profile half"


def test_a_study_is_read_and_never_written(studies):
    with pytest.raises(duckdb.InvalidInputException, match="read-only"):
        studies[0].read("create table raw.mine as select 1", {})


def test_the_effect_of_the_proxy_is_paired_order_by_order(studies):
    effects = price_effects(studies)
    assert effects.schema == EFFECTS_SCHEMA
    frame = effects.to_pandas()
    assert frame[["study", "against"]].drop_duplicates().to_numpy().tolist() == [["true", "typical"]]
    assert len(frame) == len(STRATEGIES) * len(DURATIONS)
    np.testing.assert_allclose(frame[["mean_bps", "low_bps", "high_bps"]], -2.0, atol=1e-9)
    assert frame["order_windows"].unique().tolist() == [2 * 119], "windows that only one of the two has do not count"
    np.testing.assert_allclose(frame["mean_sigma"], -2.0 / 30.0)
    np.testing.assert_allclose(frame["std_bps"], frame["std_against_bps"])


def test_without_a_pair_there_is_no_effect(studies):
    assert price_effects(studies[:2]).num_rows == 0
    assert price_effects([studies[2], studies[0]]).num_rows == 0


def test_the_published_columns_stand_beside_studies_of_like_bars_alone(studies, rows):
    section = studies_section(rows, price_effects(studies).to_pandas())
    assert list(section.layouts) == ["crypto, 15 min bars", "crypto, 250 min bars", "Dow, daily bars"]
    quarters = section.layouts["crypto, 15 min bars"]
    assert quarters["minimum duration"].tolist() == ["6", "9", "11", "12 (fixed)", "TWAP"]
    assert quarters["published BUY"].tolist() == ["−6.96 (32.7)", "−4.38", "−1.16", "+1.13 (24.0)", "+1.30 (30.5)"]
    assert list(quarters.columns[1:3]) == ["quarters, VWAP: BUY", "quarters, VWAP: SELL"]
    assert section.layouts["crypto, 250 min bars"]["published SELL"][0] == "−33.80"
    assert len(section.layouts["Dow, daily bars"].columns) == 1 + 2 * 2 + 2


def test_the_page_shows_every_study_and_says_what_differs(studies, rows):
    section = studies_section(rows, price_effects(studies).to_pandas())
    html = " ".join(render_fragment(section).split())
    assert "never (not run yet: lem run --profile never)" in html
    for text in ("quarters", "4 h, hours", "typical price", "the published implementation sees the bar it trades in"):
        assert text in html
    edge = rows.set_index(["study", "strategy", "minimum_duration"]).loc[("quarters", "no-forecast stopping", 6)]
    interval = f"+{edge['edge_bps']:.2f} [+{edge['edge_low_bps']:.2f}, +{edge['edge_high_bps']:.2f}]"
    assert f"{interval}<small>det. {edge['edge_detectable_bps']:.2f}</small>" in html
    assert "What the price proxy changes" in html and "−2.00 [−2.00, −2.00]" in html


def test_a_profile_without_studies_has_no_such_section(rows):
    alone = rows[rows["study"] == "quarters"]
    assert studies_section(alone, EFFECTS_SCHEMA.empty_table().to_pandas()) is None
    assert "Studies" not in render_fragment(None)


def test_studies_none_of_which_was_run_are_named_and_nothing_else(rows):
    never = rows[rows["study"] == "never"]
    section = studies_section(
        pd.concat([never, never.assign(study="nor this")]), EFFECTS_SCHEMA.empty_table().to_pandas()
    )
    html = render_fragment(section)
    assert "nor this" in html and "<table>" not in html


def render_fragment(section: object) -> str:
    return render("studies.html.j2", simulated=False, studies=section)
