"""What is secret in the environment or in the address of a mirror is not written anywhere, and nobody is told of it."""

import base64
import shutil
import sqlite3
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import contents, replayed, simulated, started
from written import places_of

import lem_pipeline.main_job
from lem_pipeline.defs.resources import bar_source
from lem_pipeline.errors import ConfigurationError, LemError
from lem_pipeline.replay import binance, yahoo
from lem_pipeline.replay.bars import Clock
from lem_pipeline.replay.catalogue import parse
from lem_pipeline.replay.server import ReplayServer
from lem_pipeline.settings import Settings, settings
from lem_pipeline.sources.ccxt import CcxtBars
from lem_pipeline.sources.yfinance import YFinanceBars
from lem_pipeline.storage import Warehouse

START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 3, tzinfo=UTC)
PASSWORD = "tr0ub4dor-s3cret"  # noqa: S105 - of nobody
LOGIN = base64.b64encode(f"desk:{PASSWORD}".encode()).decode()


@pytest.fixture(scope="module")
def venues() -> Iterator[ReplayServer]:
    sources, clock = simulated(), Clock(None)
    routes = binance.routes(sources["crypto"], ["BTC/USDT", "ETH/USDT"], clock) | yahoo.routes(sources["dow"], clock)
    with ReplayServer(routes, clock=clock) as server:
        yield server


@pytest.fixture
def home(tmp_path) -> Path:
    folder = tmp_path / "dagster"
    folder.mkdir()
    shutil.copy(Path(lem_pipeline.main_job.__file__).with_name("dagster.yaml"), folder / "dagster.yaml")
    return tmp_path


def test_the_password_of_a_mirror_is_in_no_table_no_log_and_no_sentence(home, venues):
    mirror, log = venues.url.replace("://", f"://desk:{PASSWORD}@"), home / "log.txt"
    venues.faults.replace(parse("connection-reset:path=exchangeInfo connection-reset:path=chart,symbol=AAPL"))
    ran = started(
        home,
        str(home / "warehouse.duckdb"),
        partial(replayed, mirror),
        log,
        months=("2024-01-01", "2024-01-01"),
        home=home / "dagster",
    )
    ran.join(200)
    assert ran.exitcode == 1, log.read_text()
    stored = contents(Warehouse(path=str(home / "warehouse.duckdb")))
    assert set(stored["raw.dow_bars"]["symbol"].to_pylist()) == {"IBM"}
    for told in ("binance could not be reached", "AAPL: Yahoo Finance gave no bars of AAPL"):
        assert len(places_of(told, home / "dagster")) > 1
    assert places_of(f"{venues.url}/api", home / "dagster"), "the errors behind the sentences name the address"
    for secret in (PASSWORD, LOGIN):
        assert places_of(secret, home) == []


def ask_crypto(address: str) -> None:
    CcxtBars(api_url=address, attempts=1).fetch("BTC/USDT", START, END)


def ask_yahoo(address: str) -> None:
    YFinanceBars(api_url=address, attempts=1).fetch("AAPL", START, END)


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a mirror that turns everybody down, and the log-ins it was sent."""
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(self.headers.get("Authorization", "none"))
            self.send_error(400)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://desk:{PASSWORD}@127.0.0.1:{server.server_port}/mirror/", sent
        server.shutdown()


@pytest.mark.parametrize("ask", [ask_crypto, ask_yahoo])
def test_a_mirror_is_sent_its_log_in_and_no_error_quotes_it(asked, ask, no_remembered_zones):
    address, sent = asked
    with pytest.raises(LemError) as caught:
        ask(address)
    assert sent and set(sent) == {f"Basic {LOGIN}"}
    told = "".join(traceback.format_exception(caught.value))
    assert "/mirror" in told or ask is ask_yahoo
    assert PASSWORD not in told and LOGIN not in told


@pytest.mark.parametrize("source", ["ccxt", "yfinance"])
def test_settings_never_show_the_log_in_of_a_mirror(source, monkeypatch):
    market, address = {"ccxt": "CRYPTO", "yfinance": "DOW"}[source], f"https://desk:{PASSWORD}@mirror.test"
    monkeypatch.setenv("LEM_PROFILE", "live")
    monkeypatch.setenv(f"LEM_{market}__BARS__API_URL", address)
    chosen = Settings()
    of_market = chosen.market(market.lower()).bars
    built = bar_source(market.lower(), of_market)
    assert built.api_url == address
    for shown in (repr(chosen), str(chosen.model_dump()), chosen.model_dump_json(), repr(built), built.provenance):
        assert PASSWORD not in shown


@pytest.mark.parametrize("address", ["ftp://desk:{}@mirror.test", "https://mirror.test/?key={}", "{}", "https://"])
def test_an_address_that_is_refused_is_not_quoted(address, monkeypatch):
    monkeypatch.setenv("LEM_PROFILE", "live")
    monkeypatch.setenv("LEM_CRYPTO__BARS__API_URL", address.format(PASSWORD))
    settings.cache_clear()
    with pytest.raises(
        ConfigurationError, match=r"crypto\.bars\.ccxt\.api_url: .*the address of a mirror is http"
    ) as told:
        settings()
    settings.cache_clear()
    assert PASSWORD not in "".join(traceback.format_exception(told.value))


def test_whoever_looks_finds_what_is_there_in_any_kind_of_file(tmp_path):
    """Else the tests above would pass by looking past it."""
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute("create table t as select i, $secret || i as s from range(5000) r(i)", {"secret": PASSWORD})
        connection.execute("checkpoint")
    with sqlite3.connect(tmp_path / "b.db") as store:
        store.execute("create table t (s text)")
        store.execute("insert into t values (?)", ["." * 10_000 + PASSWORD])
    pq.write_table(pa.table({"s": [PASSWORD] * 3}), tmp_path / "c.parquet")
    np.savez_compressed(tmp_path / "d.npz", secret=np.frombuffer(PASSWORD.encode(), np.uint8))
    (tmp_path / PASSWORD).touch()
    found = " ".join(places_of(PASSWORD, tmp_path))
    assert all(name in found for name in ("a.duckdb", "b.db", "c.parquet", "d.npz", f"/{PASSWORD}"))
