"""The documentation holds: every code block runs, every link leads somewhere, what is generated is current."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from documentation import PAGES, REPOSITORY, Block, Reader, blocks, documented, patched, venv_beside
from matplotlib.image import imread
from pydantic import ValidationError
from typer.main import get_command
from warehouses import FEATURES, PARAMETERS, WINDOWS, build, hourly, read

from lem_pipeline.causality import look_ahead
from lem_pipeline.cli import app
from lem_pipeline.errors import UnknownSymbolError
from lem_pipeline.panel import read_panel
from lem_pipeline.reference.pictures import write as write_pictures
from lem_pipeline.reference.settings import fields, meanings, sections
from lem_pipeline.replay import binance
from lem_pipeline.replay.bars import Clock
from lem_pipeline.replay.server import ReplayServer
from lem_pipeline.settings import settings
from lem_pipeline.sources.base import RAW_BARS
from lem_pipeline.sources.simulated import SimulatedBars
from lem_pipeline.sql_assets import SqlFile
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking

EXTEND = "docs/extend.md"
A_READER = 240  # words a minute


@pytest.fixture(scope="module")
def replay() -> Iterator[str]:
    routes = binance.routes(SimulatedBars(asset_class="crypto", origin="2024-01-01"), ["BTC/USDT"], Clock(None))
    with ReplayServer(routes, clock=Clock(None), port=0) as server:
        yield server.url


@pytest.fixture
def reader(demo: Path, replay: str, as_in_the_demo: None, tmp_path: Path, monkeypatch) -> Iterator[Reader]:
    """Somebody in a folder where the demo has run and one more version waits; what they do to the process is undone."""
    shutil.copytree(demo / "var", tmp_path / "var")
    venv_beside(tmp_path)
    monkeypatch.chdir(tmp_path)
    _second_version(tmp_path / "var/demo")
    before = dict(os.environ)
    settings.cache_clear()
    yield Reader(tmp_path, replay)
    settings.cache_clear()
    os.environ.clear()
    os.environ.update(before)


def _second_version(home: Path) -> None:
    """The first one of lem-crypto once more, as a challenger."""
    client = Tracking(home=str(home)).client()
    first = client.get_model_version("lem-crypto", "1")
    second = client.create_model_version("lem-crypto", first.source, first.run_id, tags=first.tags)
    client.set_registered_model_alias("lem-crypto", "challenger", second.version)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_every_block_of_a_page_runs_as_it_stands(page: str, reader: Reader, subtests) -> None:
    for block in blocks(page):
        with subtests.test(str(block)):
            reader.follow(block)


def test_a_block_that_does_not_run_is_noticed(reader: Reader) -> None:
    wrong = {
        "python": "import mflow",
        "sh": "make dmo",
        "sh ": "lem promote lem-crypto --version 9 --reason because",
        "sh  ": "ls nowhere",
        "sql": "from reports.nothing",
        "sql ": "create table raw.crypto_bars (symbol text)",
        "toml": "[training]\nmax_epoch = 3",
        "json": "{'single': 1}",
        "text": "lem_pipelines/   orchestration",
        "diff": "+++ b/sql/features/bar_features.sql\n@@\n-no such line\n",
        "yaml": "home: var/demo",
    }
    for language, text in wrong.items():
        with pytest.raises(Exception):  # noqa: B017, of whatever kind
            reader.follow(Block("a page", 1, language.strip(), "", text))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file(page: str) -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)", (REPOSITORY / page).read_text())
    places = [(REPOSITORY / page).parent / target for target in targets]
    assert [str(place) for place in places if not place.exists()] == []


def test_every_file_that_is_named_exists() -> None:
    """Paths from the repository's root, in code style; those of the promises lie in ``tests/``."""
    named = {
        path
        for page in PAGES
        for path in re.findall(r"`([\w/]+/[\w.-]+\.(?:py|sql|toml))`", (REPOSITORY / page).read_text())
    }
    assert {
        path for path in named if not ((REPOSITORY / path).exists() or (REPOSITORY / "tests" / path).exists())
    } == set()


def test_every_make_target_and_every_command_that_is_named_exists() -> None:
    text = "".join((REPOSITORY / page).read_text() for page in PAGES)
    targets = sorted(set(re.findall(r"`make ([a-z0-9-]+)", text)))
    assert len(targets) > 10
    subprocess.run(["make", "--dry-run", *targets], cwd=REPOSITORY, check=True, capture_output=True)
    commands = set(re.findall(r"`(?:\.venv/bin/)?lem ([a-z-]+)", text))
    assert len(commands) > 4 and commands <= set(get_command(app).commands)


def test_every_page_can_be_found_from_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    assert [page for page in PAGES[1:] if f"({page})" not in readme] == []


def test_the_readme_is_read_in_five_minutes() -> None:
    text = (REPOSITORY / "README.md").read_text()
    for block in blocks("README.md"):
        text = text.replace(block.text, "")
    assert len(re.findall(r"\w+", re.sub(r"\]\([^)]*\)", "]", text))) <= 5 * A_READER


# --- what is generated -------------------------------------------------------------------------------------------


def test_the_generated_parts_are_current(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    pages = ("README.md", "docs/configuration.md", "docs/operations.md")
    for page in pages:
        shutil.copy(REPOSITORY / page, tmp_path / page)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEM_")}
    command = [sys.executable, "-m", "lem_pipeline.reference.pages", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, timeout=120)
    stale = [page for page in pages if (tmp_path / page).read_text() != (REPOSITORY / page).read_text()]
    assert stale == [], "make docs writes them anew"


@pytest.mark.parametrize("kind", sections(), ids=lambda kind: kind.__name__)
def test_every_setting_says_what_it_means(kind: type) -> None:
    told = meanings(kind)
    assert [name for name in fields(kind) if not told.get(name, "").endswith(".")] == []
    assert kind.__doc__, "a sentence for the section"


def test_the_picture_of_the_report_is_small_and_says_that_its_market_is_simulated(
    demo: Path, as_in_the_demo: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(demo)
    settings.cache_clear()
    drawn = write_pictures(tmp_path, settings())
    settings.cache_clear()
    shown = REPOSITORY / "docs/pictures" / drawn.name
    assert all(path.stat().st_size < 150_000 for path in (drawn, shown))
    assert all(_red(path) for path in (drawn, shown))


def _red(picture: Path) -> bool:
    """Whether a picture has red letters at its top."""
    red, green, blue, *_ = imread(picture)[:30].transpose(2, 0, 1)
    return bool(((red > 0.6) & (green < 0.3) & (blue < 0.3)).any())


# --- how to extend it --------------------------------------------------------------------------------------------


def _features_with(change: str, folder: Path) -> SqlFile:
    """The statement of the features after a change."""
    file = folder / "features/bar_features.sql"
    file.parent.mkdir()
    file.write_text(patched(FEATURES.text, change))
    return SqlFile(file)


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return build(tmp_path_factory.mktemp("bars"), hourly(620), schemas=("staging", "bars", "quality"))


@pytest.fixture(scope="module")
def change() -> str:
    (block,) = (each for each in blocks(EXTEND) if each.language == "diff")
    return block.text


def test_the_feature_of_the_page_is_built_and_becomes_an_input_of_models(bars, change, tmp_path) -> None:
    file = _features_with(change, tmp_path)
    assert file.column_descriptions["pressure"].startswith("Feature: ")
    assert look_ahead(bars, file, PARAMETERS) == []
    bars.create_table(file.table, file.text, file.bind(PARAMETERS))
    complete = read(bars, "from features.bar_features where is_complete")
    assert len(complete) > 0 and complete["pressure"].notna().all()
    bars.create_table(WINDOWS.table, WINDOWS.text, WINDOWS.bind(PARAMETERS))
    assert "pressure" in read_panel(bars, ["crypto"]).features


def test_without_its_lag_the_feature_of_the_page_is_caught(bars, change, tmp_path) -> None:
    hasty = change.replace(
        "lag(close_over_price * volume_surprise) over by_segment as", "close_over_price * volume_surprise as"
    )
    assert hasty != change
    (caught,) = look_ahead(bars, _features_with(hasty, tmp_path), PARAMETERS)
    assert caught["column_name"] == "pressure"


def test_the_venue_of_the_page_answers_closed_bars_in_the_schema_of_all(tmp_path) -> None:
    first, hours = datetime(2024, 1, 1, tzinfo=UTC), 5
    rows = [("BTC/USDT", first.timestamp() + 3600 * hour, 100, 102, 99, 101, 7, 707) for hour in reversed(range(hours))]
    with closing(sqlite3.connect(tmp_path / "desk.db")) as database, database:
        database.execute("create table bars (symbol, bar_start, open, high, low, close, volume, notional)")
        database.executemany("insert into bars values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    source = documented(EXTEND, "DeskBars")(path=str(tmp_path / "desk.db"))
    found = source.fetch("BTC/USDT", first, first + timedelta(hours=hours - 1))
    assert found.schema == RAW_BARS
    assert found["bar_start"].to_pylist() == [first + timedelta(hours=hour) for hour in range(hours - 1)]
    assert set(found["notional"].to_pylist()) == {707.0} and set(found["trade_count"].to_pylist()) == {None}
    assert len(source.fetch("BTC/USDT", first - timedelta(days=1), first)) == 0
    with pytest.raises(UnknownSymbolError, match="has no 'NO/SUCH'; it has BTC/USDT"):
        source.fetch("NO/SUCH", first, first + timedelta(days=1))


def test_the_settings_of_the_page_refuse_what_they_do_not_know() -> None:
    kind = documented(EXTEND, "DeskSource")
    assert meanings(kind).keys() == fields(kind).keys() == {"source", "path"}
    assert kind(source="desk", path="desk.db").path == "desk.db"
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        kind(source="desk", path="desk.db", file="desk.db")
