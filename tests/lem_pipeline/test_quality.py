"""The quality page and the check on the ledger: what people see of their data."""

import base64
import os
import re
import struct
import subprocess
import sys
from datetime import timedelta

import dagster as dg
import pandas as pd
import pytest
from warehouses import build, daily, hourly, read

from lem_pipeline.defs.quality import every_fault_is_explained
from lem_pipeline.quality import as_image, headline, heat_map, incomplete_months, proxy_table, quality_html
from lem_pipeline.report.rendering import SIMULATED_BANNER
from lem_pipeline.sql_assets import DAILY, SQL
from lem_pipeline.storage import Warehouse

CHECKED = ("staging", "bars", "quality")


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> Warehouse:
    """Two months of hours with one silent and one missing bar, and a year of sessions without a fault."""
    bars = hourly(1_400)
    bars.loc[200, ["volume", "notional", "taker_buy_volume"]] = 0.0
    return build(tmp_path_factory.mktemp("quality"), bars.drop(index=300), daily(250), schemas=CHECKED)


@pytest.fixture(scope="module")
def completeness(warehouse) -> pd.DataFrame:
    return read(warehouse, "from quality.completeness order by all")


def page(warehouse: Warehouse, completeness: pd.DataFrame, simulated: bool = False) -> str:
    faults = read(warehouse, (SQL / "queries/faults_by_kind.sql").read_text())
    coverage = read(warehouse, "from quality.dow_coverage order by year")
    proxy = read(warehouse, "from quality.price_proxy order by all")
    picture = as_image(heat_map(completeness))
    return quality_html(completeness, picture, faults, coverage, proxy, ["crypto: a test"], simulated)


def test_the_headline_says_what_is_stored_of_what_must_exist(completeness):
    crypto, dow = headline(completeness).splitlines()
    assert crypto == (
        "crypto: 2,799 of 2,800 bars that must exist are stored (99.964%), 1 of the 1 missing ones without an "
        "explanation; order windows leave out 1 of the stored."
    )
    assert dow == "dow: all 500 bars that must exist are stored; order windows leave out none."


def test_only_months_that_are_not_complete_are_listed_the_worst_first(completeness):
    months = incomplete_months(completeness)
    assert months[["symbol", "month", "complete"]].to_numpy().tolist() == [["BTC/USDT", "2024-01", "99.73%"]]
    assert months[["stored", "masked", "unexplained gaps"]].to_numpy().tolist() == [["743", "1", "1"]]


def test_the_page_says_which_prices_are_proxies_and_what_a_proxy_is_worth(warehouse, completeness):
    table = proxy_table(read(warehouse, "from quality.price_proxy order by all"))
    assert table["symbol"].tolist() == ["BTC/USDT", "ETH/USDT", "AAPL", "IBM"]
    assert table["bars"].tolist() == ["1,398", "1,400", "250", "250"]
    shown = page(warehouse, completeness)
    assert "What the price proxy costs" in shown
    assert all(f"<td>{value}</td>" in shown for value in table["rms, bps"])


def test_the_heat_map_is_a_picture_that_grows_with_its_symbols(completeness):
    few, many = (
        struct.unpack(">II", heat_map(rows)[16:24])
        for rows in (completeness[completeness["asset_class"] == "crypto"], completeness)
    )
    assert few[0] == many[0] > 800
    assert few[1] < many[1]


def test_the_page_shows_every_kind_of_fault_the_picture_and_what_survivorship_remains(warehouse, completeness):
    html = page(warehouse, completeness)
    assert {"zero volume", "missing"} <= set(re.findall(r'<td class="label">([a-z ]+)</td>', html))
    (picture,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert "Survivorship in the Dow" in html and "Boeing" in html
    assert SIMULATED_BANNER not in html
    assert not re.findall(r'(?:src|href)="(?!data:)', html)


def test_a_page_over_simulated_bars_says_so(warehouse, completeness):
    assert SIMULATED_BANNER in page(warehouse, completeness, simulated=True)


def test_a_page_without_any_fault_says_that(tmp_path):
    sound = build(tmp_path, hourly(100), schemas=CHECKED)
    html = page(sound, read(sound, "from quality.completeness"))
    assert "No bar has a fault." in html and "Every month of every symbol is complete." in html
    assert "Survivorship" not in html


def evaluation(warehouse: Warehouse) -> dg.AssetCheckEvaluation:
    result = dg.materialize(
        [dg.AssetSpec(["quality", "gap_ledger"]), every_fault_is_explained],
        selection=dg.AssetSelection.checks(every_fault_is_explained),
        resources={"warehouse": warehouse},
    )
    (found,) = result.get_asset_check_evaluations()
    return found


def test_an_unexplained_gap_is_a_warning_with_a_picture_and_a_row_per_symbol_and_month(warehouse):
    found = evaluation(warehouse)
    assert not found.passed and not found.blocking
    assert found.severity is dg.AssetCheckSeverity.WARN
    assert found.description.startswith("crypto: 2,799 of 2,800 bars")
    assert found.metadata["unexplained_faults"].value == 1
    assert len(found.metadata["incomplete_months"].records) == 1
    assert found.metadata["completeness"].value.startswith("![completeness by symbol and month](data:image/png;base64,")


def test_a_ledger_without_doubts_passes(tmp_path):
    found = evaluation(build(tmp_path, hourly(100), daily(100), schemas=CHECKED))
    assert found.passed
    assert found.metadata["incomplete_months"].records == []


LIVE = """
from lem_pipeline.definitions import defs
graph = defs().resolve_asset_graph()
for key in sorted(graph.get_all_asset_keys()):
    policy = graph.get(key).freshness_policy
    print(key.to_user_string(), policy.fail_window.to_timedelta() if policy else None)
"""


@pytest.mark.parametrize(("profile", "policy"), [("live", str(DAILY.fail_window.to_timedelta())), ("demo", "None")])
def test_every_table_of_a_live_market_turns_stale_after_a_day_and_a_half(profile, policy):
    environment = os.environ | {"LEM_PROFILE": profile}
    run = subprocess.run([sys.executable, "-c", LIVE], env=environment, capture_output=True, text=True, check=True)
    policies = dict(line.split(" ", 1) for line in run.stdout.splitlines())
    tables = [f"raw/{name}_bars" for name in ("crypto", "dow")]
    tables += ["bars/market_bars", "quality/gap_ledger", "features/bar_features", "windows/order_windows"]
    assert {policies[table] for table in tables} == {policy}
    assert DAILY.fail_window.to_timedelta() == timedelta(hours=36)
