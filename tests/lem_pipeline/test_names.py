"""Names from outside: whatever they hold, they name what they are meant to, or are refused in one line."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as patiently
from hypothesis import strategies as st
from typer.testing import CliRunner
from warehouses import build, hourly, read

from lem_pipeline import names
from lem_pipeline.advise_events import event_of
from lem_pipeline.cli import app
from lem_pipeline.defs.resources import bar_sources
from lem_pipeline.errors import ConfigurationError, LemError, RefusedEventError, UnknownVersionError
from lem_pipeline.ingest import ingest
from lem_pipeline.settings import settings, settings_of
from lem_pipeline.sources.archive import ArchiveBars
from lem_pipeline.sources.ccxt import CcxtBars
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking
from lem_pipeline.universe import CRYPTO_HOURLY
from lem_pipeline.versions import load_version

NASTY = (
    "",
    " ",
    "../../etc/passwd",
    "..",
    "/etc/passwd",
    "a/../b",
    "x'); drop table raw.crypto_bars; --",
    '"; select 1; "',
    "a\nb",
    "a\x00b",
    "a\x0135=D",
    "=HYPERLINK(1)",
    "🚀",
    "a\u202eb",
    "<script>alert(1)</script>",
    "%s{0}$(id)`id`",
    "x" * 5_000,
)
PROFILE = """
home = {home}

[models]
{model} = ["crypto"]

[crypto]
instruments = [{instrument}]
start = "2024-01-01"
bars = {{ source = "ccxt", venues = [{venue}] }}
"""


def profile(folder: Path, model: str = "lem-crypto", instrument: str = "BTC/USDT", venue: str = "binance") -> str:
    path = folder / "small.toml"
    quoted = {"model": model, "instrument": instrument, "venue": venue, "home": str(folder)}
    path.write_text(PROFILE.format(**{name: json.dumps(text, ensure_ascii=False) for name, text in quoted.items()}))
    return str(path)


def said(error: pytest.ExceptionInfo[LemError]) -> str:
    """One line that a person can read."""
    sentence = str(error.value)
    assert sentence.isprintable() and len(sentence) < 1_000
    return sentence


@pytest.mark.parametrize("name", [*NASTY, "LEM", "lem_crypto", "1em", "lem crypto"])
def test_a_model_is_called_by_small_letters_and_hyphens(tmp_path, name):
    with pytest.raises(ConfigurationError) as error:
        settings_of(profile(tmp_path, model=name))
    assert "names no model; use up to 60 of a-z, 0-9 and -, such as lem-crypto" in said(error)


@pytest.mark.parametrize("name", NASTY)
def test_a_symbol_has_no_room_for_anything_else(tmp_path, name):
    with pytest.raises(ConfigurationError) as error:
        settings_of(profile(tmp_path, instrument=name))
    assert "crypto.instruments.0: Value error, " in said(error) and "is no symbol; use up to 60 letters" in said(error)


@pytest.mark.parametrize(
    "name", ["BTC/USDT", "BTC/USDT:USDT-240329", "1INCH/USDT", "BRK.B", "BF-B", "M&M.NS", "^GSPC", "ES=F", "0700.HK"]
)
def test_symbols_of_venues_and_vendors_are_symbols(tmp_path, name):
    assert settings_of(profile(tmp_path, instrument=name)).crypto.instruments == [name]


@pytest.mark.parametrize("name", NASTY)
def test_a_venue_that_ccxt_does_not_know_is_refused(tmp_path, name):
    source = bar_sources(settings_of(profile(tmp_path, venue=name)))["crypto"]
    assert isinstance(source, CcxtBars)
    with pytest.raises(ConfigurationError, match="ccxt knows no venue") as error:
        source.check(["BTC/USDT"])
    assert said(error)


@pytest.mark.parametrize("name", NASTY)
def test_a_profile_that_is_no_file_is_refused(name):
    with pytest.raises(ConfigurationError) as error:
        settings_of(name)
    assert said(error)


@pytest.mark.parametrize("name", NASTY)
def test_an_archive_that_is_no_file_of_bars_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LemError) as error:
        ArchiveBars(path=name).check(["BTC/USDT"])
    assert said(error)


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Tracking:
    """A model, and one that somebody called so that a filter of MLflow breaks on it."""
    tracking = Tracking(home=str(tmp_path_factory.mktemp("registry")))
    for name in ("lem-crypto", "x' or name = 'y"):
        tracking.client().create_registered_model(name)
    return tracking


@pytest.mark.parametrize("form", ["{}", "{}/1", "{}@champion", "lem-crypto/{}", "lem-crypto@{}"])
@pytest.mark.parametrize("name", [*NASTY, "x' or name = 'y", "²", "٣"])
def test_a_reference_that_names_no_version_is_refused(registry, form, name):
    with pytest.raises(UnknownVersionError) as error:
        load_version(registry, form.format(name))
    assert said(error)


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize(
    "command",
    [
        ["compare", "{}", "lem-crypto/1"],
        ["compare", "lem-crypto/1", "{}"],
        ["promote", "{}"],
        ["promote", "lem-crypto", "--reason", "why", "--version", "{}"],
        ["roll-back", "{}", "--reason", "why"],
    ],
    ids=["compare one", "compare other", "promote", "promote version", "roll back"],
)
def test_a_command_says_in_one_line_what_it_cannot_find(registry, tmp_path, command, name, monkeypatch):
    for variable in ("LEM_PROFILE", "DAGSTER_HOME"):
        monkeypatch.setenv(variable, "put back afterwards")
    small = Path(profile(tmp_path))
    small.write_text(small.read_text().replace(json.dumps(str(tmp_path)), json.dumps(registry.home)))
    settings.cache_clear()
    arguments = [name if part == "{}" else part for part in command]
    done = CliRunner().invoke(app, [*arguments[:1], "--profile", str(small), *arguments[1:]], catch_exceptions=False)
    settings.cache_clear()
    assert done.exit_code in (1, 2)  # 2 is the command line's own, of what looks like no argument
    assert "Traceback" not in done.output
    if done.exit_code == 1:
        line = done.stderr.strip()
        assert line.startswith("FAILED  ") and line.isprintable() and len(line) < 1_000


ORDER = {"side": "buy", "benchmark": "VWAP", "target": "quantity", "size": 1.0, "minimum_duration": 1}


@patiently(deadline=None)
@given(name=st.one_of(st.sampled_from(NASTY), st.text(max_size=80)))
def test_what_an_order_is_called_fits_one_field_of_fix_and_one_cell(name):
    line = json.dumps({"type": "order", "order_id": name, "symbol": "BTC/USDT", **ORDER})
    try:
        order = event_of(line)
    except RefusedEventError as refused:
        assert str(refused).isprintable() and "is no id" in str(refused)
    else:
        assert order.order_id.isascii() and order.order_id.isprintable() and order.order_id[0] not in "=+-@ "


@patiently(deadline=None)
@given(name=st.one_of(st.sampled_from(NASTY), st.text(max_size=80)))
def test_a_symbol_names_no_path_ends_no_text_and_begins_no_formula(name):
    try:
        symbol = names.instrument(name)
    except ValueError as refused:
        assert str(refused).isprintable()
    else:
        assert symbol.isascii() and ".." not in symbol and not symbol.startswith("/") and len(symbol) <= 60
        assert not set(symbol) & set("'\"`;\\ \n<>${}()%|*?#@,+")


@pytest.mark.parametrize("line", ["[" * 100_000, '{"type": ' + "9" * 5_000 + "}", "\x00", "🚀", '"', "{}", "null"])
def test_a_line_that_is_no_event_is_refused(line):
    with pytest.raises(RefusedEventError) as error:
        event_of(line)
    assert said(error)


SYMBOLS = ["BTC/USDT", "x'); drop table raw.crypto_bars; --", '"quoted"', "$symbol", "🚀/USDT", "a\nb"]
START = datetime(2024, 1, 1, tzinfo=UTC)


def test_symbols_of_a_file_are_values_and_never_part_of_a_statement(tmp_path):
    bars = hourly(48, SYMBOLS)
    bars.drop(columns=["adjusted_close", "splits_until", "venue"]).to_parquet(tmp_path / "bars.parquet")
    warehouse = Warehouse(path=str(tmp_path / "fetched/warehouse.duckdb"))
    source, end = ArchiveBars(path=str(tmp_path / "bars.parquet")), START + timedelta(hours=48)
    for _ in range(2):
        ingest(source, CRYPTO_HOURLY, SYMBOLS, warehouse, "raw.crypto_bars", START, end, refetch=True, log=str)
    stored = read(warehouse, "select symbol, count(*) as bars from raw.crypto_bars group by symbol")
    assert stored.set_index("symbol")["bars"].to_dict() == dict.fromkeys(SYMBOLS, 48)


def test_symbols_with_quotes_go_through_every_table(tmp_path):
    warehouse = build(tmp_path, hourly(400, SYMBOLS))
    for table in ("staging.crypto_bars", "bars.market_bars", "features.bar_features", "windows.order_windows"):
        counts = read(warehouse, f"select symbol, count(*) as n from {table} group by symbol").set_index("symbol")["n"]
        assert set(counts.index) == set(SYMBOLS) and counts.nunique() == 1, table
    assert isinstance(counts, pd.Series) and counts.min() > 0
