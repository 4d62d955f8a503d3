"""The main job as a user runs it: the real command, a real warehouse, a real MLflow store, twice."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import duckdb
import mlflow
import numpy as np
import pytest
from servers import REPOSITORY
from written import places_of

from benchmarks.serving import served as model_server
from lem_pipeline.tracking import Tracking

pytestmark = pytest.mark.slow

PROFILE = """
home = "{home}"

[models]
lem-crypto = ["crypto"]
lem-dow = ["dow"]

[crypto]
instruments = ["BTC/USDT", "ETH/USDT"]
start = "2024-01-01"
end = "2024-04-15"
bars = {{ source = "simulated", origin = "2024-01-01" }}

[dow]
instruments = ["AAPL", "IBM"]
start = "2018-01-01"
end = "2021-01-01"
bars = {{ source = "simulated", origin = "2018-01-01" }}
unseen = ["IBM"]

[model]
lookback = 8
width = 8
attention_heads = 2
memory_width = 4
head_width = 8

[training]
batch_size = 16
batches_per_epoch = 2
max_epochs = 2
validation_orders = 16

[rivals.lem-crypto-gru]
rival_of = "lem-crypto"
recurrence = "gru"

[walk_forward]
folds = 1
seeds = 2
workers = 1
"""


SECRETS = {
    "BINANCE_API_SECRET": "planted-venue-8c1f",
    "MLFLOW_TRACKING_PASSWORD": "planted-registry-42d7",
    "AWS_SECRET_ACCESS_KEY": "planted-bucket-b90e",
    "PIP_EXTRA_INDEX_URL": "https://desk:planted-index-77aa@index.invalid/simple",
}


def lem(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lem_pipeline.cli", *arguments]
    environment = {**os.environ, **SECRETS, **environment}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.toml").write_text(PROFILE.format(home=folder))
    return folder


@pytest.fixture(scope="module")
def first_run(home: Path) -> subprocess.CompletedProcess[str]:
    done = lem("run", "--profile", str(home / "small.toml"))
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def table(home: Path, query: str) -> list[tuple]:
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_it_ends_by_saying_where_everything_is(first_run: subprocess.CompletedProcess[str], home: Path) -> None:
    said = first_run.stdout
    assert "SIMULATED DATA" in said
    assert "models:/lem-crypto/1, alias challenger" in said
    assert str(home / "reports" / "comparison.html") in said
    assert "make ui" in said and "make mlflow" in said
    assert "epoch 2/2" in said


def test_an_asset_page_tells_its_story(first_run: subprocess.CompletedProcess[str], home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        latest = {key: instance.get_latest_materialization_event(key) for key in instance.all_asset_keys()}
    shown = {"/".join(key.path): event.asset_materialization.metadata for key, event in latest.items()}
    tables = {name for name, metadata in shown.items() if "dagster/row_count" in metadata}
    assert set(shown) - tables == {
        *(f"models/lem_{model}" for model in ("crypto", "crypto_gru", "dow")),
        *(f"promotions/lem_{model}" for model in ("crypto", "dow")),
        *(f"reports/{page}" for page in ("comparison", "data_quality", "readers_copy")),
        "results/shadow_orders",  # which has no row yet
    }
    for name in tables:
        columns = shown[name]["dagster/column_schema"].value.columns
        assert [column.name for column in columns if not column.description] == [], name
    assert shown["raw/crypto_bars"]["last_bar"].value == shown["bars/market_bars"]["last_bar"].value
    assert shown["raw/crypto_bars"]["last_bar"].value == "2024-04-14 23:00 UTC"
    report = shown["reports/comparison"]
    assert "stopping without any forecast (" in report["verdict"].value
    assert isinstance(report["lem-dow over stopping, bps"].value, float)
    assert report["lem-dow"].value.startswith("| minimum duration | LEM over stopping, bps |")
    assert len(report["lem-dow"].value) < 1000  # of Markdown, all that the UI shows without a click
    for page, picture in (("reports/comparison", "edges"), ("models/lem_dow", "learning_curve")):
        assert "(data:image/png;base64," in shown[page][picture].value


def test_the_report_is_one_page_that_says_simulated(first_run: subprocess.CompletedProcess[str], home: Path) -> None:
    page = (home / "reports" / "comparison.html").read_text()
    assert "SIMULATED" in page
    assert "<title>" in page


def test_a_script_reads_the_headline_of_the_report(first_run: subprocess.CompletedProcess[str], home: Path) -> None:
    profile = ("--profile", str(home / "small.toml"))
    done = lem("report", "--json", *profile)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["simulated"] is True
    assert [sentence.split(":")[0] for sentence in answer["verdict"]] == ["lem-crypto", "lem-dow"]
    assert all(sentence in first_run.stdout for sentence in answer["verdict"])
    edges = table(
        home,
        """
        select model, minimum_duration, mean_bps from reports.edges
        where baseline = 'no-forecast stopping' and benchmark = 'VWAP' and target = 'quantity'
        """,
    )
    told = [tuple(row.values())[:3] for row in answer["over_no_forecast_stopping"]]
    assert sorted(told) == sorted(edges) and len(edges) == 2 * 12
    shown = lem("report", *profile, COLUMNS="2000").stdout
    assert shown.startswith("SIMULATED DATA") and answer["verdict"][0] in shown and answer["page"] in shown


def test_status_says_what_the_home_holds(first_run: subprocess.CompletedProcess[str], home: Path) -> None:
    profile = ("--profile", str(home / "small.toml"))
    answer = json.loads(lem("status", "--json", *profile).stdout)
    bars = table(home, "select asset_class, count(*) from bars.market_bars group by all order by all")
    assert [(row["asset_class"], row["bars"]) for row in answer["bars"]] == bars
    assert answer["bars"][0]["last_bar"] == "2024-04-14T23:00:00Z"
    challengers = {row["model"]: row["challenger"] for row in answer["models"]}
    assert challengers == {"lem-crypto": 1, "lem-dow": 1, "lem-crypto-gru": 1}
    assert {row["action"] for row in answer["decisions"]} == {"promoted"}
    assert answer["runs"][-1]["job"] == "main" and answer["runs"][-1]["status"] == "success"
    shown = lem("status", *profile, COLUMNS="200").stdout
    assert shown.startswith("SIMULATED DATA") and "2024-04-14 23:00" in shown and "comparison.html" in shown


def test_status_and_report_of_a_home_where_nothing_ran(tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text(PROFILE.format(home=tmp_path / "home"))
    profile = ("--profile", str(tmp_path / "new.toml"))
    answer = json.loads(lem("status", "--json", *profile).stdout)
    assert (answer["bars"], answer["models"], answer["runs"], answer["report"]) == ([], [], [], None)
    assert "none; lem run --profile" in lem("status", *profile).stdout
    assert not (tmp_path / "home" / "warehouse.duckdb").exists() and not (tmp_path / "home" / "mlflow.db").exists()
    refused = lem("report", *profile)
    assert refused.returncode == 1 and "there is no report at" in refused.stderr


def test_every_strategy_meets_the_same_orders(first_run: subprocess.CompletedProcess[str], home: Path) -> None:
    counts = table(
        home,
        """
        select
            model, strategy, count(*), count(distinct (symbol, bar_start)), min(filled_fraction), max(filled_fraction)
        from results.order_results group by all order by all
        """,
    )
    assert "LEM with GRU" in {row[1] for row in counts if row[0] == "lem-crypto"}
    for model, strategies in (("lem-crypto", 10), ("lem-dow", 9)):
        of_model = [row[2:] for row in counts if row[0] == model]
        assert len(of_model) == strategies and len(set(of_model)) == 1
        orders, windows, least, most = of_model[0]
        assert orders == windows * 8 * 12 > 0
        assert least == most == 1.0


def test_an_unseen_symbol_is_tested_on_and_trains_nothing(
    first_run: subprocess.CompletedProcess[str], home: Path
) -> None:
    assert table(home, "select distinct split from windows.order_windows where symbol = 'IBM'") == [("test",)]
    assert table(home, "select count(*) > 0 from results.order_results where symbol = 'IBM'") == [(True,)]
    groups = table(home, "select distinct value from reports.edges_by_group where trait = 'symbols' order by all")
    assert groups == [("seen in training",), ("unseen in training",)]


def test_each_model_is_tried_on_earlier_years_with_every_seed(
    first_run: subprocess.CompletedProcess[str], home: Path
) -> None:
    tried = table(home, "select distinct model, fold, seed from results.walk_forward_results where seed is not null")
    assert sorted(tried) == [(model, 1, seed) for model in ("lem-crypto", "lem-dow") for seed in (0, 1)]
    assert table(home, "select count(*) > 0 from reports.walk_forward where fold = 0") == [(True,)]
    store = f"sqlite:///{home / 'mlflow.db'}"
    client = mlflow.MlflowClient(store, store)
    experiment = client.get_experiment_by_name("lem-crypto walk-forward")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["seed"] for run in runs) == ["0", "1"]
    assert all(len(client.get_metric_history(run.info.run_id, "validation_loss")) == 2 for run in runs)


def test_no_two_test_windows_of_a_symbol_share_a_bar(first_run: subprocess.CompletedProcess[str], home: Path) -> None:
    overlapping = table(
        home,
        """
        with starts as (
            select distinct results.symbol, features.bar_number
            from results.order_results as results
            inner join features.bar_features as features using (asset_class, symbol, bar_start)
        )
        select count(*) from starts as a inner join starts as b
        on a.symbol = b.symbol and b.bar_number > a.bar_number and b.bar_number < a.bar_number + 12
        """,
    )
    assert overlapping == [(0,)]


def test_a_fresh_process_loads_the_registered_model_and_decides_bit_for_bit_the_same(
    first_run: subprocess.CompletedProcess[str], home: Path
) -> None:
    store = f"sqlite:///{home / 'mlflow.db'}"
    client = mlflow.MlflowClient(store, store)
    version = client.get_model_version_by_alias("lem-crypto", "challenger")
    example = client.download_artifacts(version.run_id, "example.npz")
    script = f"""
import json, mlflow, numpy as np, torch
torch.set_num_threads(1)
mlflow.set_tracking_uri({store!r})
example = dict(np.load({example!r}))
expected = example.pop("schedule")
schedule = mlflow.pyfunc.load_model("models:/lem-crypto@challenger").predict(example)
print(json.dumps([bool((schedule == expected).all()), bool((schedule.sum(-1) == 1).all()), list(schedule.shape)]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd=home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [True, True, [4, 8, 12, 12]]


def test_the_served_model_is_blind_to_the_bar_it_trades_in_and_later_ones(
    first_run: subprocess.CompletedProcess[str], home: Path
) -> None:
    store = f"sqlite:///{home / 'mlflow.db'}"
    mlflow.set_tracking_uri(store)
    client = mlflow.MlflowClient(store, store)
    version = client.get_model_version_by_alias("lem-dow", "challenger")
    example = dict(np.load(client.download_artifacts(version.run_id, "example.npz")))
    schedule = example.pop("schedule")
    served = mlflow.pyfunc.load_model("models:/lem-dow@challenger")
    for step in range(12):
        future = {name: values.copy() for name, values in example.items()}
        for name in ("price", "close", "volume"):
            future[name][:, step:] *= 1.7
        future["volatility"][:, step + 1 :] *= 3
        future["features"][:, 8 + step :] += 1  # row 7 + s is that of bar s
        assert (served.predict(future)[..., : step + 1] == schedule[..., : step + 1]).all()


@pytest.fixture
def served(first_run: subprocess.CompletedProcess[str], home: Path) -> Iterator[str]:
    """The champion behind MLflow's own server."""
    with model_server(Tracking(home=str(home)), model="lem-crypto@champion") as server:
        yield f"{server.url}/invocations"


def asked(address: str, arrays: dict[str, np.ndarray]) -> tuple[int, dict]:
    body = json.dumps({"inputs": {name: values.tolist() for name, values in arrays.items()}}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_the_champion_answers_over_http_and_refuses_what_no_market_shows(served: str, home: Path) -> None:
    store = f"sqlite:///{home / 'mlflow.db'}"
    client = mlflow.MlflowClient(store, store)
    version = client.get_model_version_by_alias("lem-crypto", "champion")
    example = dict(np.load(client.download_artifacts(version.run_id, "example.npz")))
    schedule = example.pop("schedule")
    status, answer = asked(served, example)
    assert status == 200
    assert (np.array(answer["predictions"], np.float32) == schedule).all()
    status, answer = asked(served, example | {"price": 0 * example["price"]})
    assert status == 400
    assert answer["message"] == "price holds 0, and must be positive; repeat the last known bar for bars to come"
    status, answer = asked(served, {name: values for name, values in example.items() if name != "price"})
    assert status == 400
    assert answer["message"].endswith("Model is missing inputs ['price'].")


def test_the_run_and_the_model_name_each_other(first_run: subprocess.CompletedProcess[str], home: Path) -> None:
    store = f"sqlite:///{home / 'mlflow.db'}"
    client = mlflow.MlflowClient(store, store)
    version = client.get_model_version_by_alias("lem-crypto", "challenger")
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert {"dagster.run_id", "data.snapshot", "code.version", "fingerprint"} <= set(run.data.tags)
    page = f"http://127.0.0.1:3000/runs/{run.data.tags['dagster.run_id']}"
    assert run.data.tags["dagster.run_page"] == version.tags["dagster.run_page"] == page
    assert f"]({page})" in run.data.tags["mlflow.note.content"] and f"]({page})" in version.description
    assert version.tags["simulated"] == "true"
    epochs = [metric.step for metric in client.get_metric_history(version.run_id, "validation_loss")]
    assert epochs == [0, 1]
    assert run.data.params["horizon"] == "12"


def test_the_first_version_trades_and_the_log_says_why(first_run: subprocess.CompletedProcess[str], home: Path) -> None:
    logged = table(home, "select model, action, champion_after, decided_by from results.promotion_log order by all")
    assert logged == [("lem-crypto", "promoted", "1", "rule"), ("lem-dow", "promoted", "1", "rule")]
    assert "lem-crypto/1 is promoted: no version traded before" in first_run.stdout
    # Shadow orders are played before anything trains.
    assert "lem-crypto: no version trades yet; nothing to shadow" in first_run.stdout


def test_the_registry_shows_a_card_with_purpose_data_results_gates_and_limits(
    first_run: subprocess.CompletedProcess[str], home: Path
) -> None:
    store = f"sqlite:///{home / 'mlflow.db'}"
    client = mlflow.MlflowClient(store, store)
    version = client.get_model_version_by_alias("lem-dow", "challenger")
    card = version.description
    assert Path(client.download_artifacts(version.run_id, "model_card.md")).read_text() == card
    assert card.startswith("# lem-dow, version 1\n") and "SIMULATED" in card
    assert "- instruments: AAPL, IBM\n" in card
    assert "| lem-dow | 6 |" in card and "lem-crypto" not in card
    assert "not a bit moved" in card
    assert "## Limits" in card


def test_a_second_run_loses_and_doubles_nothing(first_run: subprocess.CompletedProcess[str], home: Path) -> None:
    tables = ("raw.crypto_bars", "raw.dow_bars", "features.bar_features", "windows.order_windows")
    before = {name: sorted(table(home, f"from {name}"), key=str) for name in tables}
    done = lem("run", "--profile", str(home / "small.toml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: sorted(table(home, f"from {name}"), key=str) for name in tables} == before
    assert "version 1 was made from the same data, code and settings" in done.stdout
    assert "has met these test orders before; its results are kept" in done.stdout
    assert "2 fits on earlier years, 0 of them to train" in done.stdout
    assert "lem-crypto/1: no bars after 2024-04-14 23:00, where the last hold-out ends" in done.stdout
    looks = "select results_table, model, count(*) from results.holdout_looks group by all order by all"
    assert [count for *_, count in table(home, looks)] == [1, 1, 1, 1]
    assert " bars since " in first_run.stdout
    assert " bars since " not in done.stdout  # what has settled is not fetched again


def test_a_new_version_meets_the_champion_and_people_overrule_and_roll_back(
    first_run: subprocess.CompletedProcess[str], home: Path
) -> None:
    profile = ("--profile", str(home / "small.toml"))
    done = lem("run", *profile, LEM_TRAINING__SEED="5", LEM_WALK_FORWARD__FOLDS="0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "models:/lem-crypto/2, alias challenger" in done.stdout
    players = "select distinct strategy from results.order_results where strategy in ('LEM', 'champion') order by all"
    assert table(home, players) == [("LEM",), ("champion",)]
    assert lem("roll-back", "lem-crypto", "--reason", "too early", *profile).returncode == 1
    refused = lem("promote", "lem-crypto", "--version", "2", *profile)
    assert refused.returncode == 1 and "gives a reason; none was given" in refused.stderr
    promoted = lem("promote", "lem-crypto", "--version", "2", "--reason", "another seed", *profile)
    assert (promoted.returncode, promoted.stdout) == (0, "lem-crypto/2 is promoted: another seed\n")
    back = lem("roll-back", "lem-crypto", "--reason", "the first was fine", *profile)
    assert (back.returncode, back.stdout) == (0, "lem-crypto/2 is rolled back: the first was fine\n")
    store = f"sqlite:///{home / 'mlflow.db'}"
    version = mlflow.MlflowClient(store, store).get_model_version_by_alias("lem-crypto", "champion")
    assert str(version.version) == "1"


def test_no_secret_of_the_environment_is_said_or_written(
    first_run: subprocess.CompletedProcess[str], home: Path
) -> None:
    assert len(places_of("lem-crypto", home)) > 10, "nothing was looked at"
    assert places_of("planted-", home) == []
    assert "planted-" not in first_run.stdout + first_run.stderr


CRYPTO_BARS = '{{ source = "simulated", origin = "2024-01-01" }}'


@pytest.mark.parametrize(
    ("setting", "instead", "sentence"),
    [
        ("lookback = 8", "lookback = 8\ncap = 0.05", "12 bars at a cap of 0.05 fill only 0.6 of the order"),
        (
            CRYPTO_BARS,
            '{{ source = "archive", path = "nowhere" }}',
            "there is no bar archive at nowhere; set the source's path",
        ),
        ('["BTC/USDT", "ETH/USDT"]', '["NO/SUCH"]', "has no 'NO/SUCH'; it has BTC/USDT"),
        (
            'start = "2024-01-01"\nend = "2024-04-15"',
            'start = "2023-01-01"\nend = "2023-06-01"',
            "has no bar of BTC/USDT, ETH/USDT between 2023-01-01 and 2023-06-01",
        ),
        ("lookback = 8", "lookback = 3000", "a window spans 3011 bars"),
        (CRYPTO_BARS, '{{ source = "ccxt", api_url = "http://127.0.0.1:9" }}', "could not be reached"),
        ("max_epochs = 2", "max_epoch = 2", "training.max_epoch"),
    ],
    ids=["cap", "archive", "symbol", "period", "horizon", "venue", "misspelt"],
)
def test_bad_input_is_met_with_one_sentence(setting: str, instead: str, sentence: str, tmp_path: Path) -> None:
    assert PROFILE.count(setting) == 1
    (tmp_path / "small.toml").write_text(PROFILE.replace(setting, instead).format(home=tmp_path))
    done = lem("run", "--profile", str(tmp_path / "small.toml"))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("FAILED") and sentence in last
    assert "Traceback" not in done.stdout + done.stderr


def test_an_open_database_is_met_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(PROFILE.format(home=tmp_path))
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")):
        done = lem("run", "--profile", str(tmp_path / "small.toml"), LEM_PATIENCE_S="1")
    assert done.returncode == 1
    assert "has been open in another program for" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stdout + done.stderr


def test_a_profile_that_does_not_exist_is_met_with_one_sentence() -> None:
    done = lem("run", "--profile", "nonsense")
    assert done.returncode == 1
    assert "it must be one of archive, archive-15m, " in done.stderr
    assert ", demo, live, or the path of a TOML file" in done.stderr
