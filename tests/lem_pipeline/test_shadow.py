"""The champion on bars after every hold-out: a simulated market that goes on, a real registry, drift, retraining."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest
import torch
from warehouses import PARAMETERS, build, execute, read

from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.config import LEMConfig
from lem_models.evaluation import evaluate
from lem_models.lem import LEM
from lem_pipeline.contestants import charged
from lem_pipeline.defs.shadow import retrain_on_drift, shadow_evaluation
from lem_pipeline.drift import edge_drift, feature_drift, holdout_days, shadow_days
from lem_pipeline.errors import ShadowError
from lem_pipeline.findings import FINDINGS, findings, note_findings
from lem_pipeline.holdout import LOOKS, UNCAPPED, Look, look_once, looks
from lem_pipeline.panel import read_panel
from lem_pipeline.results import order_results
from lem_pipeline.settings import Settings, settings, settings_of
from lem_pipeline.settings.models import ModelSettings, ShadowSettings
from lem_pipeline.shadow import SHADOW, Watch, replay, shadow, shadow_rows, under_watch
from lem_pipeline.sources.simulated import SimulatedBars
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking, model_code_hash
from lem_pipeline.versions import load_version

NAME, HORIZON, LOOKBACK = "lem-crypto", PARAMETERS["horizon"], PARAMETERS["lookback"]
SYMBOLS = ("BTC/USDT", "ETH/USDT")
START, REGISTERED, HALF_WAY, NOW = (datetime(2024, *day, tzinfo=UTC) for day in ((1, 1), (7, 1), (7, 17), (8, 1)))
RULES = ShadowSettings(feature_weeks=1)
PROFILE = """
home = "{home}"

[models]
lem-crypto = ["crypto"]

[crypto]
instruments = ["BTC/USDT", "ETH/USDT"]
start = "2024-01-01"
end = "2024-07-01"
bars = {{ source = "simulated" }}

[model]
lookback = 8
horizon = 4

[shadow]
feature_weeks = 1
"""


@lru_cache
def bars(until: datetime) -> pd.DataFrame:
    """The simulated market up to some moment."""
    source = SimulatedBars()
    return pd.concat([source.fetch(symbol, START, until).to_pandas() for symbol in SYMBOLS], ignore_index=True)


def grown(folder: Path, before: Warehouse, rows: pd.DataFrame) -> Warehouse:
    """A copy of a warehouse whose bars went on for longer than today's test split."""
    folder.mkdir()
    shutil.copy(before.path, folder / "warehouse.duckdb")
    return build(folder, rows, parameters=PARAMETERS | {"train": 0.75})


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("shadow")


@pytest.fixture(scope="module")
def champion(room) -> Tracking:
    """A registry in which the first version trades, as it was registered on the bars of the time."""
    warehouse = build(room, bars(REGISTERED))
    data, tracking = read_panel(warehouse, ["crypto"]), Tracking(home=str(room))
    shape = LEMConfig(data.features, LOOKBACK, HORIZON, width=8, attention_heads=2, memory_width=4, head_width=8)
    tags = {
        "data.from": data.first_bar("train").isoformat(),
        "data.chosen_until": data.last_bar("validation", HORIZON).isoformat(),
        "data.until": data.last_bar("test", HORIZON).isoformat(),
    }
    torch.manual_seed(1)
    model, rows = LEM(shape).eval(), data.rows("test", HORIZON, "crypto")
    with tracking.run(NAME, {}):
        tracking.register(NAME, model, data.panel.orders(rows[:2], LOOKBACK, HORIZON), tags)
    tracking.crown(NAME, "1")

    def hold_out() -> Iterator[pa.Table]:
        strategies, trial = [model, OptimalStopping(shape.limits)], charged("crypto", 0.01, None)
        yield from order_results(NAME, data, evaluate(strategies, data.panel, rows, LOOKBACK, HORIZON, trial=trial))

    look = Look(UNCAPPED, NAME, (f"{NAME}/1",), data.snapshot, model_code_hash())
    look_once(warehouse, look, "a run", hold_out)
    return tracking


@pytest.fixture(scope="module")
def chosen(room) -> Settings:
    path = room / "small.toml"
    path.write_text(PROFILE.format(home=room))
    return settings_of(str(path))


@pytest.fixture(scope="module")
def before(room, champion) -> Warehouse:
    """As it was when the champion was registered."""
    return Warehouse(path=str(room / "warehouse.duckdb"))


@pytest.fixture(scope="module")
def after(room, chosen, champion, before) -> Warehouse:
    """A month later, replayed."""
    warehouse = grown(room / "after", before, bars(NOW))
    shadow(chosen, warehouse, champion, NAME, "a run")
    return warehouse


@pytest.fixture(scope="module")
def nightly(room, chosen, champion, before) -> Warehouse:
    """Half of that time later, replayed."""
    warehouse = grown(room / "nightly", before, bars(HALF_WAY))
    shadow(chosen, warehouse, champion, NAME, "one night")
    return warehouse


@pytest.fixture(scope="module")
def tenfold(room, chosen, champion, nightly) -> Warehouse:
    """From half way on ten times as much is traded, at other prices."""
    rows = bars(NOW).copy()
    future = rows["bar_start"] >= HALF_WAY
    rows.loc[future, ["open", "high", "low", "close"]] *= 1.25
    rows.loc[future, ["volume", "taker_buy_volume"]] *= 10
    rows.loc[future, "notional"] *= 12.5
    warehouse = grown(room / "tenfold", nightly, rows)
    shadow(chosen, warehouse, champion, NAME, "another night")
    return warehouse


@pytest.fixture
def copy(tmp_path, after) -> Warehouse:
    """The same, for a test that changes it."""
    return Warehouse(path=shutil.copy(after.path, str(tmp_path / "warehouse.duckdb")))


@pytest.fixture(scope="module")
def watch(before, champion) -> Watch:
    found = under_watch(before, champion, NAME)
    assert found and found.name == "lem-crypto/1"
    return found


def orders(warehouse: Warehouse) -> pd.DataFrame:
    keys = ["symbol", "bar_start", "strategy", "side", "benchmark", "target", "minimum_duration"]
    rows = read(warehouse, f"select * exclude (played_at) from {SHADOW}")
    return rows.sort_values(keys).set_index(keys)


def begins(rows: pd.DataFrame) -> pd.Series:
    return rows.index.get_level_values("bar_start").to_series()


def edge_drifts(warehouse, watch, rules):
    newest, before = shadow_days(warehouse, watch, rules.edge_days), holdout_days(warehouse, watch)
    return edge_drift(newest, before, watch, rules)


def test_without_bars_after_the_hold_out_nothing_is_written_and_one_sentence_says_so(chosen, champion, before):
    tables = read(before, "select table_name from information_schema.tables order by all")
    said = shadow(chosen, before, champion, NAME, "a run")
    assert said == "lem-crypto/1: no bars after 2024-06-30 23:00, where the last hold-out ends; nothing to shadow"
    pd.testing.assert_frame_equal(read(before, "select table_name from information_schema.tables order by all"), tables)


def test_where_nobody_trades_there_is_nothing_to_shadow(chosen, before, champion):
    champion.client().delete_registered_model_alias(NAME, "champion")
    assert shadow(chosen, before, champion, NAME, "a run") == "lem-crypto: no version trades yet; nothing to shadow"
    champion.crown(NAME, "1")


def test_every_window_after_the_hold_out_is_played_whatever_its_split_is_today(after, watch):
    windows = read(after, f"from windows.order_windows where bar_number % {HORIZON} = 0")
    later = windows[windows["bar_start"] > watch.holdout_until]
    played = orders(after).reset_index()
    assert set(zip(played["symbol"], played["bar_start"], strict=True)) == set(
        zip(later["symbol"], later["bar_start"], strict=True)
    )
    assert set(later["split"]) == {"validation", "test"}
    assert len(played) == len(later) * 2 * 8 * HORIZON
    assert set(played["strategy"]) == {"lem-crypto/1", "no-forecast stopping"}


def test_no_bar_of_a_hold_out_order_is_in_a_shadow_order(after, watch):
    held_out = read(after, f"select max(bar_start) as last from {UNCAPPED}")["last"][0] + timedelta(hours=HORIZON - 1)
    assert begins(orders(after)).min() > held_out
    assert watch.holdout_until == held_out


def test_a_look_is_in_the_ledger_and_is_none_at_the_hold_out(after):
    noted = after.read(f"from {LOOKS} order by looked_at").to_pylist()
    assert [(row["results_table"], row["versions"]) for row in noted] == [
        (UNCAPPED, ["lem-crypto/1"]),
        (SHADOW, ["lem-crypto/1"]),
    ]
    assert looks(after, NAME) == (1, 1)


def test_a_second_run_appends_nothing_and_looks_at_nothing(copy, chosen, champion):
    rows, noted = len(orders(copy)), len(read(copy, f"from {LOOKS}"))
    assert "0 new order windows" in shadow(chosen, copy, champion, NAME, "another run")
    assert (len(orders(copy)), len(read(copy, f"from {LOOKS}"))) == (rows, noted)


def test_bars_to_come_leave_the_orders_before_them_as_they_were(nightly, tenfold, after):
    """Night after night is the same as at once, and another future changes nothing that was decided before."""
    first = orders(nightly)
    pd.testing.assert_frame_equal(orders(tenfold).loc[first.index], first)
    assert begins(first).max() < HALF_WAY < begins(orders(tenfold)).max()
    # Who comes weeks later finds some windows across the splits of the day, which nobody plays.
    both = first.index.intersection(orders(after).index)
    assert 0.95 * len(first) < len(both)
    pd.testing.assert_frame_equal(orders(after).loc[both], first.loc[both])


class Failing(Warehouse):
    """One whose second batch of orders meets a power cut."""

    def append(self, table: str, rows: pa.Table) -> None:
        if table == SHADOW and self.has_table(SHADOW):
            raise RuntimeError("the power went")
        super().append(table, rows)


def test_a_run_cut_short_keeps_whole_orders_and_the_next_one_plays_the_others(copy, champion, watch):
    watch = replace(watch, untouched_since=NOW - timedelta(days=3))
    whole = orders(copy)
    whole = whole[begins(whole).to_numpy() > watch.untouched_since]
    execute(copy, f"drop table {SHADOW}")
    version, data = load_version(champion, watch.name), read_panel(copy, ["crypto"])
    with pytest.raises(RuntimeError):
        replay(Failing(path=copy.path), version, watch, data, "a run", batch_size=20)
    assert len(orders(copy)) == 20 * 2 * 8 * HORIZON
    played = replay(copy, version, watch, data, "another run", batch_size=20)
    assert played == len(whole) // (2 * 8 * HORIZON) - 20
    pd.testing.assert_frame_equal(orders(copy), whole)


@pytest.fixture
def newer(champion) -> Iterator[Tracking]:
    """A version that was registered half way and does not trade: the bars up to then are its hold-out."""
    client = champion.client()
    source = champion.version(NAME, "1").source
    made = client.create_model_version(NAME, source, tags={"data.until": (HALF_WAY - timedelta(hours=1)).isoformat()})
    yield champion
    client.delete_model_version(NAME, made.version)


def test_the_hold_out_of_a_later_version_is_spared_as_well(copy, chosen, newer):
    execute(copy, f"drop table {SHADOW}")
    said = shadow(chosen, copy, newer, NAME, "a run")
    assert "new order windows since 2024-07-16 23:00" in said
    assert begins(orders(copy)).min() == HALF_WAY
    assert set(read(copy, f"select distinct version from {SHADOW}")["version"]) == {"1"}


def test_test_orders_that_somebody_played_on_later_bars_are_spared_as_well(copy, champion):
    last = HALF_WAY - timedelta(hours=HORIZON)
    execute(
        copy, f"insert into {UNCAPPED} by name select model, '{last}'::timestamptz as bar_start from {UNCAPPED} limit 1"
    )
    found = under_watch(copy, champion, NAME)
    assert found and found.untouched_since == last
    (played,) = set(read(copy, f"select min(bar_start) as start from {SHADOW}")["start"])
    assert played < last  # before that look, as it may
    data = read_panel(copy, ["crypto"])
    rows = shadow_rows(data, found, HORIZON, pd.DataFrame(columns=["asset_class", "symbol", "bar_start"]))
    assert data.keys["bar_start"].take(rows.numpy()).to_pandas().min() == HALF_WAY


def test_orders_played_before_a_later_version_took_their_bars_stay(copy, chosen, newer):
    rows = len(orders(copy))
    shadow(chosen, copy, newer, NAME, "a run")
    assert len(orders(copy)) == rows


@pytest.fixture
def nameless(champion) -> Iterator[Tracking]:
    """A champion that nobody knows the data of."""
    client = champion.client()
    made = client.create_model_version(NAME, champion.version(NAME, "1").source)
    champion.crown(NAME, made.version)
    yield champion
    champion.crown(NAME, "1")
    client.delete_model_version(NAME, made.version)


def test_a_champion_of_an_unknown_hold_out_is_not_replayed(after, chosen, nameless):
    with pytest.raises(ShadowError, match="does not say where its hold-out ends"):
        shadow(chosen, after, nameless, NAME, "a run")


def test_a_champion_made_for_other_windows_or_features_is_not_replayed(after, chosen, champion, watch):
    longer = chosen.model_copy(update={"model": ModelSettings(lookback=LOOKBACK, horizon=5)})
    with pytest.raises(ShadowError, match=r"made for 8 \+ 4 bars, and today's windows hold 8 \+ 5; train it again"):
        shadow(longer, after, champion, NAME, "a run")
    data = read_panel(after, ["crypto"])
    data.features = ("return_1",)
    with pytest.raises(ShadowError, match=r"was trained on return_4, .*, which today's features lack"):
        replay(after, load_version(champion, watch.name), watch, data, "a run")


def test_features_of_the_market_that_goes_on_as_it_was_have_not_drifted(after, watch):
    judged = list(feature_drift(after, watch, ["crypto"], HORIZON, RULES))
    assert len(judged) == len(read_panel(after, ["crypto"]).features)
    assert all(row["is_judged"] and not row["is_drift"] for row in judged)


def test_ten_times_the_volume_is_drift_of_the_features_of_volume(tenfold, watch):
    drifted = [row for row in feature_drift(tenfold, watch, ["crypto"], HORIZON, RULES) if row["is_drift"]]
    assert {"volume_surprise", "market_volume_surprise"} <= {row["feature"] for row in drifted}
    assert not {"return_1", "close_over_price", "hour_sin", "weekday_cos"} & {row["feature"] for row in drifted}
    assert drifted[0]["psi"] > 1 and "stretches of training as long had" in drifted[0]["reason"]


def test_few_days_and_a_short_training_are_not_judged(tenfold, watch):
    for weeks, why in ((9, "31 days of shadow orders are too few to judge; 63 are asked for"), (3, "too few to say")):
        rules = ShadowSettings(feature_weeks=weeks)
        judged = list(feature_drift(tenfold, watch, ["crypto"], HORIZON, rules))
        assert judged and not any(row["is_judged"] or row["is_drift"] for row in judged)
        assert all(why in row["reason"] for row in judged)
    (edge,) = edge_drifts(tenfold, watch, ShadowSettings(fewest_edge_days=60))
    assert not edge["is_judged"] and "60 are asked for" in edge["reason"]


def test_an_edge_that_is_what_it_was_has_not_drifted_and_is_told_beside_the_hold_out(after, watch):
    (edge,) = edge_drifts(after, watch, RULES)
    assert edge["is_judged"] and not edge["is_drift"]
    assert "shows neither a fall nor a loss" in edge["reason"] and "on its hold-out" in edge["reason"]
    assert edge["first_day"] == REGISTERED.date() and edge["last_day"] == NOW.date() - timedelta(days=1)
    assert edge["order_windows"] == len(orders(after)) / (2 * 8 * HORIZON)
    assert holdout_days(after, watch)["trading_day"].max() < shadow_days(after, watch, 182)["trading_day"].min()


def test_an_edge_is_the_mean_over_orders_of_what_was_paid_less(after, watch):
    (edge,) = edge_drifts(after, watch, RULES)
    rows = orders(after).query("benchmark == 'VWAP' and target == 'quantity' and minimum_duration in (2, 3, 4)")
    cost = rows.groupby("strategy")["slippage_bps"].mean()
    assert edge["mean_bps"] == pytest.approx(cost["no-forecast stopping"] - cost["lem-crypto/1"], abs=1e-5)


def test_orders_that_cost_more_than_on_the_hold_out_are_drift_of_the_edge(copy, watch):
    execute(copy, f"update {SHADOW} set slippage_bps = slippage_bps + 3 where strategy = 'lem-crypto/1'")
    (edge,) = edge_drifts(copy, watch, RULES)
    assert edge["is_drift"] and "has fallen and is a loss" in edge["reason"]
    assert edge["mean_bps"] == pytest.approx(-3, abs=0.1)
    assert edge["low_change_sigma"] < edge["change_sigma"] < edge["high_change_sigma"] < 0
    (let_pass,) = edge_drifts(copy, watch, ShadowSettings(edge_fall_sigma=1))
    assert let_pass["is_drift"] and "the edge is a loss" in let_pass["reason"]


def test_a_hold_out_of_few_days_is_told_and_not_compared_with(copy, watch):
    execute(copy, f"delete from {UNCAPPED} where bar_start < '2024-06-20'")
    (edge,) = edge_drifts(copy, watch, RULES)
    assert not edge["is_drift"] and "of too few days to compare with" in edge["reason"]


def test_without_the_results_of_its_hold_out_a_champion_is_judged_by_its_loss_alone(copy, watch):
    execute(copy, f"drop table {UNCAPPED}")
    (edge,) = edge_drifts(copy, watch, RULES)
    assert not edge["is_drift"] and "its hold-out is not stored to compare with" in edge["reason"]


def drifted(day: int, version: str = "1") -> list[dict]:
    rows = [{"model": NAME, "version": version, "last_day": date(2024, 4, day), "reason": "so much"}]
    return [row | {"is_drift": True} for row in rows] + [row | {"is_drift": False} for row in rows]


def asked(warehouse: Warehouse, cursor: str | None = None) -> tuple[list[str], str | None]:
    """Run keys that a tick of the sensor asks for, and its cursor."""
    context = dg.build_sensor_context(cursor=cursor, resources={"warehouse": warehouse})
    answer = retrain_on_drift(context)
    if isinstance(answer, dg.SkipReason):
        return [], cursor
    return [request.run_key for request in answer.run_requests], answer.cursor


def test_a_drift_that_lasts_is_found_once_until_its_days_have_passed(tmp_path):
    warehouse = Warehouse(path=str(tmp_path / "warehouse.duckdb"))
    for day in (1, 1, 2, 13, 15):
        note_findings(warehouse, "features", drifted(day), days=14, run="a run")
    note_findings(warehouse, "features", drifted(15, version="2"), days=14, run="a run")
    note_findings(warehouse, "features", [row | {"is_drift": False} for row in drifted(29)], days=14, run="a run")
    found = [(row["version"], row["last_day"].day) for row in findings(warehouse)]
    assert found == [("1", 1), ("1", 15), ("2", 15)]


def test_each_finding_asks_for_one_training_and_none_for_two(tmp_path):
    warehouse = Warehouse(path=str(tmp_path / "warehouse.duckdb"))
    assert asked(warehouse) == ([], None)
    note_findings(warehouse, "features", drifted(1), days=14, run="a run")
    keys, cursor = asked(warehouse)
    assert keys == ["drift of lem-crypto/1 until 2024-04-01"]
    assert asked(warehouse, cursor) == ([], cursor)
    # The other kind of drift on the same day has the key of the run that was asked for already.
    note_findings(warehouse, "edge", drifted(1), days=182, run="a run")
    again, cursor = asked(warehouse, cursor)
    assert again == keys and asked(warehouse) == (keys, cursor)
    note_findings(warehouse, "features", drifted(2, version="2"), days=14, run="a run")
    assert asked(warehouse, cursor)[0] == ["drift of lem-crypto/2 until 2024-04-02"]


@pytest.fixture
def profile(monkeypatch, room) -> Iterator[None]:
    monkeypatch.setenv("LEM_PROFILE", str(room / "small.toml"))
    settings.cache_clear()
    yield
    settings.cache_clear()


def made(warehouse: Warehouse, tracking: Tracking) -> dg.ExecuteInProcessResult:
    """The job of every night."""
    job = dg.Definitions.merge(
        shadow_evaluation(), dg.Definitions(resources={"warehouse": warehouse, "tracking": tracking})
    ).resolve_job_def("shadow")
    return job.execute_in_process()


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def test_the_pages_of_a_market_that_did_not_go_on_say_so_and_the_checks_pass(profile, chosen, champion, before):
    result = made(before, champion)
    told = result.asset_materializations_for_node("results__shadow_orders")[0].metadata
    assert "no bars after 2024-06-30 23:00" in told["shadow"].value
    for check in verdicts(result).values():
        assert check.passed and check.description == "no shadow orders to judge"


def test_drift_is_shown_warned_of_and_asks_for_one_training(profile, chosen, champion, tenfold):
    first, second = made(tenfold, champion), made(tenfold, champion)
    check = verdicts(first)["features_are_those_of_training"]
    assert not check.passed and check.severity is dg.AssetCheckSeverity.WARN
    assert "lem-crypto: crypto " in check.description and "volume_surprise" in check.description
    assert verdicts(first)["the_champion_keeps_its_edge"].passed
    page = first.asset_materializations_for_node("reports__feature_drift")[0].metadata
    assert page["champions"].value == "lem-crypto/1"
    assert "volume_surprise" in page["most_moved"].records[0].data["feature"]
    page = second.asset_materializations_for_node("reports__edge_drift")[0].metadata
    assert "bps over no-forecast stopping since 2024-07-01" in page["verdict"].value
    assert page["edges"].records[0].data["days"] == "31"
    assert "data:image/png;base64," in page[NAME].value
    assert len(read(tenfold, f"from {FINDINGS}")) == 1
    assert len(asked(tenfold)[0]) == 1


def test_schedule_and_sensor_are_off_until_someone_switches_them_on_and_training_waits_for_the_shadow(profile, chosen):
    found = shadow_evaluation()
    (schedule,), (sensor,) = found.schedules, found.sensors
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 2 * * *", "UTC")
