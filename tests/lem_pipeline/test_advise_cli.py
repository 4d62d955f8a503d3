"""What docs/session.md shows runs as it stands, with a registered model; and the command says what it cannot do."""

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result
from warehouses import build, hourly

from lem_models.config import LEMConfig
from lem_models.lem import LEM
from lem_models.orders import OrderBatch
from lem_models.simulation import random_walks
from lem_pipeline.cli import app
from lem_pipeline.settings import settings
from lem_pipeline.tracking import Tracking

HOURS, LAST, HORIZON, LOOKBACK = 260, 240, 6, 8
FEATURES = ("return_1", "close_over_price", "volume_surprise", "market_return", "season_volume")
SYMBOLS = ("BTC/USDT", "ETH/USDT")
ORDER = {
    "type": "order",
    "order_id": "A",
    "symbol": "BTC/USDT",
    "side": "buy",
    "benchmark": "VWAP",
    "target": "quantity",
    "size": 12.5,
    "minimum_duration": 4,
    "lot_size": 0.5,
}
PAGE = (Path(__file__).parents[2] / "docs/session.md").read_text()
COLUMNS = ["symbol", "bar_start", "open", "high", "low", "close", "volume", "notional"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder as after ``make demo``: a registered model and bars up to now, and two hours of them to come."""
    folder = tmp_path_factory.mktemp("desk")
    torch.manual_seed(0)
    sizes = {"width": 8, "embedding": 4, "memory_width": 4, "head_width": 8}
    config = LEMConfig(FEATURES, lookback=LOOKBACK, horizon=HORIZON, cap=0.5, **sizes)
    features = torch.zeros(1, LOOKBACK + HORIZON - 1, len(FEATURES))
    example = OrderBatch(features, random_walks(1, HORIZON, 0.01, torch.Generator().manual_seed(0)))
    tracking = Tracking(home=str(folder / "var/demo"))
    with tracking.run("lem-crypto", {}):
        tracking.register("lem-crypto", LEM(config), example, {})
    bars = hourly(HOURS, SYMBOLS)
    place = bars.groupby("symbol").cumcount()
    history, to_come = bars[place < LAST], bars[(place >= LAST) & (place < LAST + 2)]
    history[COLUMNS].to_parquet(folder / "bars.parquet")
    lines = [{"type": "bar", **_plain(row)} for row in history[COLUMNS].to_dict("records")]
    (folder / "bars.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = to_come.sort_values(["bar_start", "symbol"], ascending=[True, False])[COLUMNS].to_dict("records")
    events = [ORDER, *({"type": "bar", **_plain(row)} for row in told)]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def _plain(row: dict) -> dict:
    return row | {"bar_start": row["bar_start"].isoformat()}


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch) -> Iterator[None]:
    """As a user in that folder; whatever the command does to the process is undone."""
    monkeypatch.chdir(folder)
    before = dict(os.environ)
    settings.cache_clear()
    yield
    settings.cache_clear()
    os.environ.clear()
    os.environ.update(before)


def lem(*arguments: str, **more: object) -> Result:
    return CliRunner().invoke(app, ["advise", *arguments], **more)


def answers(result: Result) -> list[dict]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_python_of_the_page_runs(capsys):
    read_so_far: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "docs/session.md", "exec"), read_so_far)
    advised, remaining = capsys.readouterr().out.splitlines()
    assert "Trade 0." in advised
    assert float(remaining.split()[1]) == pytest.approx(100.2)


def test_the_command_of_the_page_runs(folder):
    (line,) = blocks("sh")
    command, advise, *arguments = shlex.split(line)
    assert (command, advise) == ("lem", "advise")
    given = answers(lem(*arguments))
    assert [(each["type"], each["bar"]) for each in given] == [("advice", 1), ("advice", 2), ("advice", 3)]
    fix = (folder / "schedule.fix").read_text().splitlines()
    assert len(fix) == sum(each["quantity"] > 0 for each in given) > 0
    assert fix[0].startswith("35=D\x0111=A-01\x0155=BTC/USDT\x0154=1\x0138=")


def test_every_field_of_the_page_exists_and_every_answer_is_told_of_there():
    [first, *_] = answers(lem("events.jsonl", "--history", "bars.parquet"))
    told = set(re.findall(r"`(\w+)`", PAGE))
    assert set(first) - {"type", "order_id", "bar_number", "bar"} <= told


def test_a_restarted_command_goes_on(tmp_path):
    state, lines = tmp_path / "state.json", Path("events.jsonl").read_text().splitlines(keepends=True)
    at_once = answers(lem("events.jsonl", "--history", "bars.jsonl"))
    by_line = [
        answer
        for line in lines
        for answer in answers(lem("-", "--history", "bars.jsonl", "--state", str(state), input=line))
    ]
    assert by_line == at_once


def test_history_in_parquet_and_in_lines_is_the_same():
    one, other = (answers(lem("events.jsonl", "--history", name)) for name in ("bars.parquet", "bars.jsonl"))
    assert [each["fraction"] for each in one] == pytest.approx([each["fraction"] for each in other], abs=1e-6)


def test_the_warehouse_is_history_where_no_file_is(folder):
    bars = hourly(HOURS, SYMBOLS)
    build(folder / "var/demo", bars[bars.groupby("symbol").cumcount() < LAST], schemas=("staging",))
    assert answers(lem("events.jsonl")) == answers(lem("events.jsonl", "--model", "lem-crypto/1"))
    (folder / "var/demo/warehouse.duckdb").unlink()


def test_refused_lines_are_told_by_the_exit_code():
    result = lem("-", "--history", "bars.parquet", input='{broken\n{"type": "advice", "order_id": "A"}\n')
    assert result.exit_code == 3
    assert [json.loads(line)["line"] for line in result.stdout.splitlines()] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--model", "lem-gold@challenger", "--history", "bars.parquet"], "model lem-gold@challenger of sqlite"),
        (["--export", "schedule.xml"], "schedules are exported as .csv, .json, .fix"),
        (["--asset-class", "bonds"], "asset class 'bonds' is none of crypto, dow"),
        ([], "there is no warehouse at var/demo/warehouse.duckdb; name a file of bars with --history"),
        (["--history", "none.jsonl"], "there is no file of bars at none.jsonl"),
        (
            ["--history", "events.jsonl"],
            "line 1 of events.jsonl: a history holds bars alone, and this is of type order",
        ),
        (["--history", "none.parquet"], "there is no bar archive at none.parquet"),
    ],
)
def test_what_the_command_cannot_start_with_is_said_in_a_sentence(arguments, complaint):
    result = lem("events.jsonl", *arguments)
    assert result.exit_code == 1
    assert complaint in result.stderr
