"""Who trades: a rule on shared test orders, people with reasons, and gates that nobody passes by."""

import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from warehouses import PARAMETERS, build, execute, hourly

from lem_models.config import LEMConfig
from lem_models.lem import LEM
from lem_pipeline.errors import PromotionError
from lem_pipeline.panel import OrderPanel, read_panel
from lem_pipeline.promotion import LOG, Desk, judge
from lem_pipeline.settings import Settings
from lem_pipeline.settings.markets import CryptoSettings
from lem_pipeline.settings.models import ModelSettings
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking

NAME, HORIZON, LOOKBACK = "lem-crypto", PARAMETERS["horizon"], PARAMETERS["lookback"]


def daily(edge: float, noise: float = 1.0, days: int = 60, other: str = "champion") -> pd.DataFrame:
    """A challenger that gains so much more than another strategy, day by day with some noise."""
    random = np.random.default_rng(3)
    common = random.normal(0, 30, days)
    return pd.concat(
        pd.DataFrame(
            {
                "model": NAME,
                "asset_class": "crypto",
                "strategy": strategy,
                "benchmark": "VWAP",
                "target": "quantity",
                "minimum_duration": duration,
                "trading_day": pd.date_range("2024-01-01", periods=days),
                "order_windows": 5,
                "improvement_sigma": 0.0,
                "improvement_bps": 5 * (common + (strategy == "LEM") * (edge + random.normal(0, noise, days))),
            }
        )
        for strategy in ("LEM", other)
        for duration in range(1, 13)
    )


def test_a_challenger_that_is_measurably_better_is_promoted():
    made = judge(daily(edge=2.0), NAME, "2", "1")
    assert (made.action, made.champion_before, made.champion_after) == ("promoted", "1", "2")
    assert made.evidence["low_bps"] > 0 and made.evidence["mean_bps"] == pytest.approx(2, abs=0.5)
    assert "it gains more than champion 1 on the same orders (+" in made.reason


def test_a_challenger_that_is_measurably_worse_is_refused():
    made = judge(daily(edge=-2.0), NAME, "2", "1")
    assert (made.action, made.champion_after) == ("refused", "1")
    assert "it gains less than champion 1" in made.reason


def test_a_difference_that_nobody_can_measure_keeps_the_champion_and_says_what_would_have_been_seen():
    made = judge(daily(edge=0.0, noise=20.0), NAME, "2", "1")
    assert (made.action, made.champion_after) == ("kept", "1")
    assert "cannot be told from it" in made.reason
    assert f"a difference of {made.evidence['minimum_detectable_bps']:.2f} would have been seen" in made.reason


def test_of_two_asset_classes_the_one_that_speaks_least_for_the_challenger_decides():
    better, worse = daily(edge=2.0), daily(edge=-2.0, days=120).assign(asset_class="dow")
    alike = daily(edge=0.0, noise=20.0, days=120).assign(asset_class="dow")
    assert judge(pd.concat([better, alike]), NAME, "2", "1").action == "kept"
    assert judge(pd.concat([better, worse]), NAME, "2", "1").action == "refused"


def test_too_few_days_promote_nobody():
    assert judge(daily(edge=5.0, days=10), NAME, "2", "1").action == "kept"


def test_a_champion_that_did_not_play_the_same_orders_is_not_replaced():
    made = judge(daily(edge=5.0, other="TWAP"), NAME, "2", "1")
    assert (made.action, made.champion_after) == ("refused", "1")


def test_the_first_version_trades_and_its_gain_over_stopping_is_told():
    made = judge(daily(edge=0.0, other="no-forecast stopping"), NAME, "1", None)
    assert (made.action, made.champion_after) == ("promoted", "1")
    assert "no version traded before; over no-forecast stopping it gains" in made.reason


@pytest.fixture(scope="module")
def bars(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bars")


@pytest.fixture(scope="module")
def warehouse(bars) -> Warehouse:
    return build(bars, hourly(1_500))


@pytest.fixture(scope="module")
def data(warehouse) -> OrderPanel:
    return read_panel(warehouse, ["crypto"])


class OfSomebody(mlflow.pyfunc.PythonModel):
    """What somebody might register by hand."""

    def predict(self, context, model_input, params=None):
        raise NotImplementedError


@pytest.fixture(scope="module")
def registry(tmp_path_factory, data) -> Tracking:
    """Two versions of a tiny model, both sound, and a third that somebody registered by hand."""
    tracking = Tracking(home=str(tmp_path_factory.mktemp("registry")))
    shape = LEMConfig(data.features, LOOKBACK, HORIZON, width=8, attention_heads=2, memory_width=4, head_width=8)
    example = data.panel.orders(data.rows("test")[:2], LOOKBACK, HORIZON)
    for seed in (1, 2):
        torch.manual_seed(seed)
        with tracking.run(NAME, {}):
            tracking.register(NAME, LEM(shape).eval(), example, {})
    with tracking.run(NAME, {}):
        mlflow.pyfunc.log_model(name="model", python_model=OfSomebody(), registered_model_name=NAME)
    return tracking


@pytest.fixture
def desk(registry, warehouse) -> Desk:
    """Nobody trades yet, the second version is the latest, and the log is empty."""
    market = {"bars": {"source": "simulated"}, "instruments": ["BTC/USDT"], "start": "2024-01-01"}
    chosen = Settings(
        home=registry.home,
        crypto=CryptoSettings(**market),
        models={NAME: ["crypto"]},
        model=ModelSettings(lookback=LOOKBACK, horizon=HORIZON),
    )
    client = registry.client()
    client.delete_registered_model_alias(NAME, "champion")
    client.set_registered_model_alias(NAME, "challenger", "2")
    for tag in [tag for tag in registry.version(NAME, "2").tags if tag.startswith("promotion.")]:
        client.delete_model_version_tag(NAME, "2", tag)
    if warehouse.has_table(LOG):
        execute(warehouse, f"drop table {LOG}")
    return Desk(chosen, warehouse, registry, "a test")


def log(desk: Desk) -> list[dict]:
    return desk.warehouse.read(f"from {LOG} order by decided_at").to_pylist()


def played(desk: Desk, rows: pd.DataFrame) -> None:
    desk.warehouse.write_table("reports.daily_improvements", pa.Table.from_pandas(rows, preserve_index=False))


def test_what_is_decided_moves_the_alias_and_leaves_a_trail(desk):
    played(desk, daily(0.0, other="no-forecast stopping"))
    first = desk.promote(NAME, "1", "Ada", "to have one")
    assert desk.champion(NAME) == "1"
    played(desk, daily(2.0))
    second = desk.decide(NAME)
    assert (second.action, desk.champion(NAME)) == ("promoted", "2")
    back = desk.roll_back(NAME, "Ada", "fills were worse than the report said")
    assert (back.action, desk.champion(NAME)) == ("rolled back", "1")
    trail = [(row["action"], row["champion_before"], row["champion_after"], row["decided_by"]) for row in log(desk)]
    assert trail == [("promoted", None, "1", "Ada"), ("promoted", "1", "2", "rule"), ("rolled back", "2", "1", "Ada")]
    assert [row["reason"] for row in log(desk)] == [first.reason, second.reason, back.reason]
    assert all(json.loads(row["evidence"])["decisions_are_blind_to_the_future"] for row in log(desk))
    assert all(row["report"].endswith("comparison.html") and row["run"] == "a test" for row in log(desk))
    tags = desk.tracking.version(NAME, "2").tags
    assert [tags[key] for key in sorted(tags) if key.startswith("promotion.")] == [second.sentence, back.sentence]


def test_deciding_again_when_the_latest_version_trades_changes_nothing_and_logs_nothing(desk):
    played(desk, daily(0.0, other="no-forecast stopping"))
    desk.promote(NAME, "2", "Ada", "to have one")
    assert desk.decide(NAME).action == "kept"
    assert len(log(desk)) == 1


@pytest.fixture
def shared_bars(desk) -> Iterator[None]:
    """The first windows of the test split are training windows, too."""
    windows = desk.warehouse.read("from windows.order_windows")
    first = "(select min(bar_start) from windows.order_windows where split = 'test')"
    execute(desk.warehouse, f"update windows.order_windows set split = 'train' where bar_start = {first}")
    yield
    desk.warehouse.write_table("windows.order_windows", windows)


def test_a_version_that_fails_a_gate_trades_by_no_path(desk, request):
    desk.promote(NAME, "1", "Ada", "to have one")
    request.getfixturevalue("shared_bars")
    made = desk.promote(NAME, "2", "Ada", "it looks wonderful")
    assert (made.action, desk.champion(NAME)) == ("refused", "1")
    assert "train and test windows of BTC/USDT share bar" in made.reason
    played(desk, daily(50.0))
    made = desk.decide(NAME)
    assert (made.action, desk.champion(NAME)) == ("refused", "1")
    assert [row["action"] for row in log(desk)] == ["promoted", "refused", "refused"]


def test_a_version_of_unknown_origin_trades_by_no_path(desk):
    desk.promote(NAME, "1", "Ada", "to have one")
    made = desk.promote(NAME, "3", "Ada", "it looks wonderful")
    assert (made.action, desk.champion(NAME)) == ("refused", "1")
    assert "lem-crypto/3 was not registered by this pipeline, and nothing of it was run" in made.reason
    desk.tracking.client().set_registered_model_alias(NAME, "challenger", "3")
    played(desk, daily(50.0))
    made = desk.decide(NAME)
    assert (made.action, desk.champion(NAME)) == ("refused", "1")
    assert [row["action"] for row in log(desk)] == ["promoted", "refused", "refused"]


def test_a_roll_back_to_a_version_of_unknown_origin_is_refused(desk):
    desk.promote(NAME, "1", "Ada", "to have one")
    desk.promote(NAME, "2", "Ada", "the next")
    # Somebody writes a history in which the third version traded.
    execute(desk.warehouse, f"update {LOG} set champion_before = '3' where champion_after = '2'")
    made = desk.roll_back(NAME, "Ada", "back")
    assert (made.action, desk.champion(NAME)) == ("refused", "2")


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda desk: desk.promote(NAME, "1", "Ada", " "), "gives a reason; none was given"),
        (lambda desk: desk.promote(NAME, "9", "Ada", "why not"), "lem-crypto has no version 9; it has 1, 2, 3"),
        (lambda desk: desk.promote("gold", "1", "Ada", "why not"), "there is no model gold; the models are lem-crypto"),
        (lambda desk: desk.roll_back(NAME, "Ada", "back"), "has no earlier champion to roll back to"),
    ],
    ids=["no reason", "no such version", "no such model", "no champion"],
)
def test_what_cannot_be_done_is_said_in_one_sentence_and_leaves_no_trace(desk, act, sentence):
    with pytest.raises(PromotionError, match=sentence):
        act(desk)
    assert desk.champion(NAME) is None
    assert not desk.warehouse.has_table(LOG)
