"""Every fault of a replayed venue, through the real client into a real warehouse, ends in an error or a ledger row."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from markets import (
    AFTER_LAST_DAY,
    AFTER_LAST_HOUR,
    FIRST_DAY,
    FIRST_HOUR,
    HOURS,
    SPLIT_DAY,
    crypto_archive,
    dow_archive,
)
from warehouses import read, run, with_raw_tables

from lem_pipeline.errors import EmptyPeriodError, IncompleteIngestionError, LemError, VenueBlockedError
from lem_pipeline.ingest import ingest
from lem_pipeline.replay import binance, yahoo
from lem_pipeline.replay.bars import Clock
from lem_pipeline.replay.catalogue import FAULTS, parse
from lem_pipeline.replay.server import ReplayServer
from lem_pipeline.sources.base import BarSource
from lem_pipeline.sources.ccxt import CcxtBars
from lem_pipeline.sources.yfinance import YFinanceBars
from lem_pipeline.storage import Warehouse
from lem_pipeline.universe import CRYPTO_HOURLY, DOW_DAILY, AssetClass

pytestmark = pytest.mark.usefixtures("no_remembered_zones", "unthrottled")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ReplayServer]:
    folder, clock = tmp_path_factory.mktemp("archive"), Clock(AFTER_LAST_HOUR)
    routes = binance.routes(crypto_archive(folder), ["BTC/USDT"], clock) | yahoo.routes(dow_archive(folder), clock)
    with ReplayServer(routes, clock=clock) as server:
        yield server


@dataclass
class Desk:
    """A warehouse fed by the real client of one asset class."""

    server: ReplayServer
    warehouse: Warehouse
    asset: AssetClass

    @property
    def source(self) -> BarSource:
        """A client that never met this venue before."""
        client = CcxtBars if self.asset.always_open else YFinanceBars
        return client(api_url=self.server.url, backoff_s=0.001, attempts=2, timeout_s=1)

    @property
    def instrument(self) -> str:
        return "BTC/USDT" if self.asset.always_open else "AAPL"

    @property
    def period(self) -> tuple[datetime, datetime]:
        if self.asset.always_open:
            return FIRST_HOUR, FIRST_HOUR + timedelta(hours=HOURS)
        return FIRST_DAY, AFTER_LAST_DAY

    def ingest(self, fault: str = "", refetch: bool = False) -> None:
        path, table = ("klines" if self.asset.always_open else "chart"), f"raw.{self.asset.name}_bars"
        source, asked = self.source, [self.instrument]
        with ExitStack() as switched_on:
            for each in parse(fault):
                switched_on.enter_context(self.server.faults.add(each.model_copy(update={"path": path})))
            ingest(source, self.asset, asked, self.warehouse, table, *self.period, refetch=refetch, log=str)

    def ledger(self) -> pd.DataFrame:
        run(self.warehouse, schemas=["staging", "bars", "quality"])
        # The small market pays dividends and has no close that is adjusted for them.
        return read(self.warehouse, "from quality.gap_ledger where kind <> 'dividend_mismatch' order by bar_start")


@pytest.fixture(params=[CRYPTO_HOURLY, DOW_DAILY], ids=lambda asset: asset.name)
def desk(request, server, tmp_path: Path) -> Desk:
    return Desk(server, with_raw_tables(tmp_path), request.param)


ERRORS = {
    "timeout": IncompleteIngestionError,
    "connection-reset": IncompleteIngestionError,
    "truncated-body": IncompleteIngestionError,
    "html-page": IncompleteIngestionError,
    "slow-drip:piece_bytes=1,pause_s=1.5": IncompleteIngestionError,
    "status:code=418,retry_after_s=3600": IncompleteIngestionError,
    "status:code=429": IncompleteIngestionError,
    "status:code=451": IncompleteIngestionError,
    "status:code=500": IncompleteIngestionError,
    "no-bars": (EmptyPeriodError, IncompleteIngestionError),
}
ROWS = {
    "missing-bar": {"missing"},
    "duplicated-bar": {"duplicate"},
    "contradicted-bar": {"duplicate", "restated"},
    "null-field": {"incomplete"},
    "nan-field": {"incomplete"},
    "null-field:field=volume": {"incomplete", "zero_volume"},  # Yahoo's client turns it into zero
    "mispriced-bar": {"level_shift"},
    "unapplied-split": {"level_shift", "split_mismatch"},
}
MENDED = {"unordered-bars": set(), "half-formed-bar": {"restated"}, "invented-split:ratio=3": {"restated"}}


def test_every_fault_of_the_catalogue_is_tried():
    assert {fault.partition(":")[0] for fault in (*ERRORS, *ROWS, *MENDED)} == set(FAULTS)


@pytest.mark.parametrize("fault", ERRORS)
def test_an_answer_that_is_no_answer_is_one_clear_error_and_leaves_nothing_behind(desk, fault):
    with pytest.raises(ERRORS[fault]) as caught:
        desk.ingest(fault)
    assert isinstance(caught.value, LemError) and not isinstance(caught.value, VenueBlockedError)
    assert "\n" not in str(caught.value)
    assert desk.ledger().empty
    assert read(desk.warehouse, "from bars.market_bars").empty
    desk.ingest()
    assert desk.ledger().empty
    assert not read(desk.warehouse, "from bars.market_bars").empty


@pytest.mark.parametrize("fault", ROWS)
def test_bars_that_are_wrong_become_rows_of_the_ledger_and_windows_leave_them_out(desk, fault):
    if desk.asset.always_open and fault == "unapplied-split":
        pytest.skip("coins do not split")
    try:
        desk.ingest(fault)
    except IncompleteIngestionError as error:  # an answer that is no JSON any more
        assert fault == "nan-field" and "JSON" in str(error)
        return
    found = desk.ledger()
    if fault in ("duplicated-bar", "contradicted-bar") and not desk.asset.always_open:
        assert found.empty  # Yahoo's client gives one of the two, and nobody behind it can know
        return
    assert len(found)
    assert set(found["kind"]) <= ROWS[fault]
    if fault == "unapplied-split":
        assert SPLIT_DAY in set(found["bar_start"].dt.to_pydatetime())
    assert found["reason"].str.len().min() > 10
    # What the venue says rightly the next time is believed, and the ledger then says that it was restated.
    desk.ingest(refetch=True)
    assert set(desk.ledger()["kind"]) <= {"restated", "duplicate", "withdrawn"}


@pytest.mark.parametrize("fault", MENDED)
def test_what_cannot_be_seen_at_once_is_recorded_when_the_venue_takes_it_back(desk, fault):
    if desk.asset.always_open and "split" in fault:
        pytest.skip("coins do not split")
    desk.ingest(fault)
    desk.ingest(refetch=True)
    assert set(desk.ledger()["kind"]) == MENDED[fault]
