"""An ingestion that is killed, again and again and wherever it may be, ends like one that nobody disturbed."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from runs import contents, replayed, simulated, started

from lem_pipeline.replay import binance, yahoo
from lem_pipeline.replay.bars import Clock
from lem_pipeline.replay.server import ReplayServer
from lem_pipeline.storage import Warehouse

INSTRUMENTS = ["BTC/USDT", "ETH/USDT"]
KILLS = {"download": 9, "write": 9, "check": 6}  # a few runs may end before their moment comes
GIVE_UP_S = 60

Moment = Callable[[], bool]


@pytest.fixture(scope="module")
def requests() -> list[str]:
    return []


@pytest.fixture(scope="module")
def venues(requests) -> Iterator[ReplayServer]:
    sources, clock = simulated(), Clock(None)
    routes = binance.routes(sources["crypto"], INSTRUMENTS, clock) | yahoo.routes(sources["dow"], clock)
    with ReplayServer(routes, clock=clock, log=requests.append) as server:
        yield server


def during_a_download(requests: list[str], number: int) -> Moment:
    """While a venue answers a request, counted from now."""
    since = len(requests)
    return lambda: len(requests) - since >= number


def during_a_write(warehouse: Warehouse, number: int) -> Moment:
    """While a transaction is on its way to the disk: its log lies beside the warehouse."""
    log = Path(f"{warehouse.path}.wal")
    was_there, seen = False, 0

    def reached() -> bool:
        nonlocal was_there, seen
        is_there = log.exists()
        seen += is_there and not was_there
        was_there = is_there
        return is_there and seen >= number

    return reached


def during_a_check(log: Path, number: int) -> Moment:
    """While a check of the bars reads them."""
    since = log.read_text().count("… bars/market_bars_")
    return lambda: log.read_text().count("… bars/market_bars_") - since >= number


def killed_at(moment: Moment, run: BaseProcess) -> bool:
    """Kill a run at a moment; false where it ended before."""
    deadline = time.monotonic() + GIVE_UP_S
    while run.is_alive() and time.monotonic() < deadline:
        if moment():
            os.kill(run.pid, signal.SIGKILL)
            break
        time.sleep(0.0005)
    run.join()
    return run.exitcode == -signal.SIGKILL


def test_an_ingestion_killed_at_least_twenty_times_ends_like_an_undisturbed_one(tmp_path, venues, requests):
    sources = partial(replayed, venues.url)
    alone = Warehouse(path=str(tmp_path / "alone" / "warehouse.duckdb"))
    undisturbed = started(tmp_path, alone.path, sources, tmp_path / "alone.log")
    undisturbed.join()
    assert undisturbed.exitcode == 0, (tmp_path / "alone.log").read_text()

    disturbed = Warehouse(path=str(tmp_path / "disturbed" / "warehouse.duckdb"))
    log = tmp_path / "disturbed.log"
    log.touch()
    chance = random.Random(7)
    survived = dict.fromkeys(KILLS, 0)
    for place, count in KILLS.items():
        for _ in range(count):
            moment = {
                "download": partial(during_a_download, requests, chance.randint(1, 7)),
                "write": partial(during_a_write, disturbed, chance.randint(1, 4)),
                "check": partial(during_a_check, log, chance.randint(1, 3)),
            }[place]()
            run = started(tmp_path, disturbed.path, sources, log, refetch=place != "check")
            survived[place] += killed_at(moment, run)
    assert sum(survived.values()) >= 20, survived

    last = started(tmp_path, disturbed.path, sources, log)
    last.join()
    assert last.exitcode == 0, log.read_text()
    found, expected = contents(disturbed), contents(alone)
    assert found.keys() == expected.keys()
    for table in expected:
        assert found[table].equals(expected[table]), table
    assert len(found["raw.revisions"]) == 0
