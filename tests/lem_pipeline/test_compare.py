"""Two versions of a real registry, on the same orders: who is better, what differs, what cannot be compared."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import tiny_lem
from rich.console import Console
from typer.testing import CliRunner
from warehouses import PARAMETERS, build, hourly

from lem_models.config import LEMConfig
from lem_models.execution import settle
from lem_models.lem import LEM
from lem_models.orders import OrderGrid
from lem_pipeline.cli import app
from lem_pipeline.compare import Comparison, compare, refuse_incomparable
from lem_pipeline.errors import ComparisonError, UnknownVersionError
from lem_pipeline.holdout import looks
from lem_pipeline.panel import OrderPanel, read_panel
from lem_pipeline.report.compare_page import comparison_page, gate_evidence, on_screen, verdict, what_differs
from lem_pipeline.settings import settings
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking
from lem_pipeline.versions import OnPanel, Version, load_version

LOOKBACK, HORIZON = PARAMETERS["lookback"], PARAMETERS["horizon"]
REPOSITORY = Path(__file__).parents[2]
PROFILE = """
home = "{home}"

[models]
lem-crypto = ["crypto"]

[crypto]
instruments = ["BTC/USDT", "ETH/USDT"]
start = "2024-01-01"
end = "2024-06-01"
bars = {{ source = "simulated", origin = "2024-01-01" }}

[dow]
instruments = ["AAPL"]
start = "2020-01-01"
end = "2021-01-01"
bars = {{ source = "simulated", origin = "2020-01-01" }}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    (folder / "small.toml").write_text(PROFILE.format(home=folder))
    return folder


@pytest.fixture(scope="module")
def data(home) -> OrderPanel:
    return read_panel(build(home, hourly(3_600)), ["crypto"])


def register(tracking: Tracking, data: OrderPanel, model: LEM, seed: int) -> None:
    import mlflow

    with tracking.run("lem-crypto", {}):
        mlflow.log_params({**model.config.to_dict(), "seed": seed, "snapshot": data.snapshot})
        tags = {"data.snapshot": data.snapshot, "code.version": "a commit", "simulated": "true"}
        tags["gate.decisions_are_blind_to_the_future"] = f"nothing moved with seed {seed}"
        example = data.panel.orders(data.rows("test")[:2], LOOKBACK, HORIZON)
        example = replace(example, features=example.features[..., : len(model.config.features)])
        tracking.register("lem-crypto", model, example, tags)


@pytest.fixture(scope="module")
def tracking(home, data) -> Tracking:
    """Version 1 all but follows the stopping plan; version 2 reads three features and never ends early."""
    store = Tracking(home=str(home))
    sizes = {"lookback": LOOKBACK, "horizon": HORIZON}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        good = LEM(LEMConfig(data.features, width=8, memory_width=4, head_width=8, **sizes)).eval()
    lively = tiny_lem(**sizes)
    bad = LEM(LEMConfig.from_dict({**lively.config.to_dict(), "features": data.features[:3]})).eval()
    bad.load_state_dict(lively.state_dict())
    with torch.no_grad():
        bad.allocate.out.bias[..., 1] = -1e4
    for seed, model in enumerate((good, bad)):
        register(store, data, model, seed)
    return store


@pytest.fixture(scope="module")
def versions(tracking) -> dict[int, Version]:
    """The two, and the first again under another number."""
    one, two = (load_version(tracking, f"lem-crypto/{number}") for number in (1, 2))
    return {1: one, 2: two, 3: replace(one, number="3", parameters={**one.parameters, "seed": "2"})}


@pytest.fixture(scope="module")
def found(versions, data) -> Comparison:
    return compare(versions[1], versions[2], data, ["crypto"], "validation", simulated=True)


def test_a_version_is_named_by_number_by_alias_or_by_its_model_alone(tracking):
    assert load_version(tracking, "lem-crypto/2").name == "lem-crypto/2"
    assert load_version(tracking, "lem-crypto@challenger").name == "lem-crypto/2"
    assert load_version(tracking, "lem-crypto").name == "lem-crypto/2"


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("lem-gold", "there is no model 'lem-gold'; the registry has lem-crypto"),
        ("lem-crypto/9", "lem-crypto has no version 9; its versions are 1, 2, its aliases challenger"),
        ("lem-crypto@champion", "lem-crypto has no alias champion; its versions are 1, 2, its aliases challenger"),
        ("lem-crypto/last", "'lem-crypto/last' names no version; write lem-crypto/3, or lem-crypto@challenger"),
    ],
)
def test_what_the_registry_does_not_know_is_met_with_what_it_has(tracking, reference, sentence):
    with pytest.raises(UnknownVersionError) as caught:
        load_version(tracking, reference)
    assert str(caught.value) == sentence


def test_without_a_registry_it_says_what_to_run_and_makes_none(tmp_path):
    with pytest.raises(UnknownVersionError, match="run the main job of the profile first"):
        load_version(Tracking(home=str(tmp_path)), "lem-crypto")
    assert not list(tmp_path.iterdir())


def test_a_version_whose_files_are_gone_is_said_not_to_load(home, tracking):
    files = list(home.rglob("weights.pt"))
    assert len(files) == 2
    for weights in files:
        weights.rename(weights.with_suffix(".away"))
    try:
        with pytest.raises(UnknownVersionError, match=r"lem-crypto/1 does not load: .*weights.pt"):
            load_version(tracking, "lem-crypto/1")
    finally:
        for weights in files:
            weights.with_suffix(".away").rename(weights)


def test_the_better_one_is_called_better_and_the_other_worse(versions, data, found):
    assert verdict(found).startswith("lem-crypto/1 is better than lem-crypto/2: +")
    turned = compare(versions[2], versions[1], data, ["crypto"], "validation", simulated=True)
    assert verdict(turned).startswith("lem-crypto/2 is worse than lem-crypto/1: −")
    np.testing.assert_allclose(turned.differences["mean_sigma"], -found.differences["mean_sigma"])


def test_the_same_weights_are_not_measurably_different(versions, data):
    same = compare(versions[3], versions[1], data, ["crypto"], "validation", simulated=True)
    assert verdict(same).startswith("lem-crypto/3 is not measurably different from lem-crypto/1: +0.0000 [+0.0000,")
    assert (same.differences[["mean_bps", "low_bps", "high_bps"]] == 0).all(axis=None)


def test_differences_are_plain_means_of_paired_side_averages(versions, data, found):
    orders = data.panel.orders(data.rows("validation", HORIZON), LOOKBACK, HORIZON)
    cost = [
        settle(OnPanel(versions[n], data.features).schedule(orders), orders.market, OrderGrid(HORIZON)).slippage_bps
        for n in (1, 2)
    ]
    gained = cost[1] - cost[0]
    rows = found.differences.set_index(["benchmark", "minimum_duration"])
    for place, benchmark in ((0, "VWAP"), (2, "TWAP")):
        for duration in (1, 2, 3, 4):
            paired = (gained[:, place, duration - 1] + gained[:, place + 4, duration - 1]).double() / 2
            row = rows.loc[benchmark, duration]
            assert row["mean_bps"] == pytest.approx(float(paired.mean()), abs=1e-3)
            assert row["low_bps"] < row["mean_bps"] < row["high_bps"]
            both = cost[0][:, [place, place + 4], duration - 1].double()
            assert row["std_one_bps"] == pytest.approx(float(both.var(0).mean().sqrt()), rel=1e-4)
    assert len(found.differences) == 9


def test_test_orders_are_not_played_where_validation_is_asked_for(versions, data, found):
    hidden = data.panel.price.clone()
    hidden[data.rows("test")] = torch.nan
    blind = replace(data, panel=replace(data.panel, price=hidden))
    again = compare(versions[1], versions[2], blind, ["crypto"], "validation", simulated=True)
    assert again.differences.equals(found.differences)
    assert "one more look at the test split" not in " ".join(found.notes)
    test = compare(versions[1], versions[2], data, ["crypto"], "test", simulated=True)
    assert "one more look at the test split" in test.notes[0]


def test_features_are_picked_by_name_and_a_missing_one_is_named(versions, data):
    orders = data.panel.orders(data.rows("test")[:20], LOOKBACK, HORIZON)
    turned = replace(orders, features=orders.features.flip(2))
    plain, other = OnPanel(versions[2], data.features), OnPanel(versions[2], data.features[::-1])
    assert torch.equal(plain.schedule(orders), other.schedule(turned))
    without = replace(data, features=tuple(f"another {name}" for name in data.features))
    with pytest.raises(ComparisonError, match=r"lem-crypto/1 was trained on return_1, .* features no longer have"):
        compare(versions[1], versions[2], without, ["crypto"], "validation", simulated=True)


MODELS = {"lem-crypto": ["crypto"], "lem-dow": ["dow"]}


def test_versions_of_the_same_orders_are_comparable(versions):
    assert refuse_incomparable(versions[1], versions[2], MODELS) == ["crypto"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"horizon": 6}, "lem-crypto/1 and lem-crypto/2 cannot be compared: horizon 4 against 6"),
        ({"lookback": 9}, "lem-crypto/1 and lem-crypto/2 cannot be compared: lookback 8 against 9"),
        (
            {"model": "lem-dow"},
            "lem-crypto/1 and lem-dow/2 cannot be compared: asset classes crypto against dow",
        ),
        ({"model": "lem-gold"}, "the profile does not say what lem-gold trades; name it in the profile's [models]"),
        ({"number": "1"}, "both are lem-crypto/1; name another version"),
    ],
)
def test_what_was_made_for_other_orders_is_refused(versions, change, sentence):
    of_config = {name: value for name, value in change.items() if name in ("horizon", "lookback")}
    of_version = {name: value for name, value in change.items() if name not in of_config}
    other = replace(versions[2], config=replace(versions[2].config, **of_config), **of_version)
    with pytest.raises(ComparisonError) as caught:
        refuse_incomparable(versions[1], other, MODELS)
    assert str(caught.value) == sentence


def test_what_differs_is_listed_and_nothing_else(versions):
    differs = what_differs(versions[1], versions[2]).set_index("what")
    assert list(differs.loc["seed"]) == ["0", "1"]
    assert "lookback" not in differs.index and "code" not in differs.index
    assert list(what_differs(versions[1], versions[3])["what"]) == ["seed"]
    evidence = gate_evidence(versions[1], versions[2])
    assert list(evidence["lem-crypto/2"]) == ["nothing moved with seed 1"]


def test_other_bars_than_today_s_are_a_doubt(versions, data):
    others = replace(data, snapshot="another")
    noted = compare(versions[1], versions[2], others, ["crypto"], "validation", simulated=True).notes
    assert sum("may have been among its training windows" in note for note in noted) == 2
    assert any(note.startswith("Both decide by the model code of this checkout") for note in noted)


def test_page_and_screen_say_the_same_and_call_simulated_what_is(found):
    console = Console(width=200, record=True, file=open(os.devnull, "w"))
    console.print(on_screen(found))
    screen, page = console.export_text(), comparison_page(found)
    for shown in (screen, page):
        assert "SIMULATED DATA" in shown
        assert "nothing moved with seed 1" in shown
        assert "std of one order" in shown
    assert verdict(found) in page
    real = replace(found, simulated=False)
    assert "SIMULATED" not in comparison_page(real)
    console.print(on_screen(real))
    assert "SIMULATED" not in console.export_text()


def test_the_command_prints_the_verdict_and_writes_the_page(home, tracking):
    profile = ["--profile", str(home / "small.toml")]
    done = subprocess.run(
        [sys.executable, "-m", "lem_pipeline.cli", "compare", "lem-crypto/1", "lem-crypto/2", *profile],
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lem-crypto/1 is better than lem-crypto/2" in done.stdout
    assert "one more look at the test split" in done.stdout
    page = home / "reports" / "compare-lem-crypto-1-lem-crypto-2-test.html"
    assert str(page) in done.stdout
    assert "lem-crypto/1 is better than lem-crypto/2" in page.read_text()
    assert looks(Warehouse(path=str(home / "warehouse.duckdb")), "lem-crypto") == (1, 1)


def test_the_command_refuses_in_one_sentence(home, tracking, monkeypatch):
    for name in ("LEM_PROFILE", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "put back afterwards")
    settings.cache_clear()
    arguments = ["compare", "lem-crypto/1", "lem-crypto/9", "--profile", str(home / "small.toml")]
    done = CliRunner().invoke(app, arguments)
    settings.cache_clear()
    assert done.exit_code == 1
    assert done.stderr.strip().startswith("FAILED  lem-crypto has no version 9;")
