"""How faults are switched: when they strike, from a test, by hand over HTTP, and in text."""

import json
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from lem_pipeline.errors import ConfigurationError
from lem_pipeline.replay.answers import Answer
from lem_pipeline.replay.catalogue import FAULTS, parse
from lem_pipeline.replay.row_faults import MispricedBar
from lem_pipeline.replay.server import ReplayServer
from lem_pipeline.replay.wire_faults import HtmlPage, Status


def body(server: ReplayServer, path: str, sent: str | None = None) -> str:
    with urlopen(server.url + path, None if sent is None else sent.encode()) as answer:
        return answer.read().decode()


def test_a_fault_strikes_only_its_path_and_symbol():
    fault = MispricedBar(path="klines", symbol="BTC/USDT")
    assert fault.concerns("/api/v3/klines", {"symbol": "BTCUSDT"})
    assert not fault.concerns("/api/v3/klines", {"symbol": "ETHUSDT"})
    assert not fault.concerns("/api/v3/time", {})


def test_chance_is_the_same_every_time_and_another_with_another_seed():
    def struck(seed: int) -> list[int]:
        return [number for number in range(400) if Status(chance=0.25, seed=seed).strikes(number)]

    assert struck(1) == struck(1) != struck(2)
    assert 70 < len(struck(1)) < 130


def test_faults_are_on_from_the_start_and_wrap_recorded_answers_too():
    with ReplayServer({"/time": Answer({"serverTime": 1})}, faults=[HtmlPage(first=1), Status(every=2)]) as server:
        assert "log in" in body(server, "/time")
        with pytest.raises(HTTPError, match="503"):
            body(server, "/time")
        assert json.loads(body(server, "/time")) == {"serverTime": 1}


def test_faults_are_switched_by_hand_over_http():
    with ReplayServer({"/time": Answer("now")}) as server:
        assert json.loads(body(server, "/-/faults"))["faults"].keys() == FAULTS.keys()
        assert json.loads(body(server, "/-/faults", "html-page status:code=451"))["on"] == [
            "html-page",
            "status:code=451",
        ]
        with pytest.raises(HTTPError, match="400"):
            body(server, "/-/faults", "earthquake")
        with pytest.raises(HTTPError, match="451"):
            body(server, "/time")
        assert json.loads(body(server, "/-/faults", ""))["on"] == []
        assert body(server, "/time") == "now"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("earthquake", "no fault 'earthquake'.*connection-reset"),
        ("status:kode=503", "wrong setting kode.*knows path, symbol, .*code"),
        ("slow-drip:every=0", "wrong setting every.*greater than 0"),
        ("null-field:field=colour", "wrong setting field.*'close'"),
    ],
)
def test_a_fault_that_cannot_be_is_told_with_what_can(text, told):
    with pytest.raises(ConfigurationError, match=told):
        parse(text)


def test_every_fault_can_be_written_and_read_again():
    for fault in FAULTS.values():
        assert parse(str(fault(every=2, symbol="AAPL"))) == [fault(every=2, symbol="AAPL")]
