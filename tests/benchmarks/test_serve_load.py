"""The load generator counts what was answered, refused and dropped; slopes tell growth from noise."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from builders import HORIZON, random_orders, tiny_lem

from benchmarks.processes import holding
from benchmarks.serve import saturation
from benchmarks.serving import Load, asked, body_of, loaded, schedules_in
from benchmarks.slopes import slope
from lem_pipeline.serving import answer, as_input


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what is tested."""


@contextmanager
def serving(statuses: list[int], busy_s: float = 0.0) -> Iterator[str]:
    """A server that answers these statuses in turn, ``-1`` by hanging up; each takes so long, one at a time."""
    lock, numbers = threading.Lock(), iter(range(1_000_000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                threading.Event().wait(busy_s)
                status = statuses[next(numbers) % len(statuses)]
            if status < 0:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_every_request_is_counted_as_what_it_came_to():
    with serving([200, 500, -1, 200], busy_s=0.01) as url:
        assert asked(url, b"{}") == (200, b"{}")
        load = loaded(url, b"{}", clients=2, seconds=0.6)
    assert len(load.taken) > 5
    assert {"500", "ServerDisconnectedError"} >= set(load.errors) >= {"500"}
    assert 0.2 < load.error_rate < 0.7
    assert load.told()["per_second"] == pytest.approx(len(load.taken) / load.seconds, abs=0.01)


def test_clients_ask_at_the_same_time_and_give_up_when_their_patience_ends():
    with serving([200], busy_s=0.01) as url:
        crowd = loaded(url, b"{}", clients=6, seconds=0.4)
    # Answered one at a time: whoever is one of six waits for the five before it.
    assert not crowd.errors and np.median(crowd.taken) > 5 * 0.01
    with serving([200], busy_s=0.6) as url:
        impatient = loaded(url, b"{}", clients=6, seconds=0.2, timeout_s=0.1)
    assert set(impatient.errors) == {"TimeoutError"} and impatient.error_rate == 1


def test_saturation_is_where_more_clients_gain_less_than_a_tenth():
    loads = [Load(clients, 1.0, [0.1] * answered) for clients, answered in ((1, 10), (2, 18), (4, 21), (8, 22))]
    assert saturation(loads).clients == 4
    assert saturation(loads[:2]).clients == 2


def test_a_request_and_its_answer_are_those_of_the_registered_model():
    model, orders = tiny_lem(), random_orders(2)
    inputs = {name: np.array(values, np.float32) for name, values in json.loads(body_of(orders))["inputs"].items()}
    assert all(np.array_equal(inputs[name], values) for name, values in as_input(orders).items())
    schedule = answer(model, inputs)
    assert schedule.shape == (2, 8, HORIZON, HORIZON)
    assert np.array_equal(schedules_in(json.dumps({"predictions": schedule.tolist()}).encode()), schedule)


def test_growth_is_told_from_noise():
    draw, times = np.random.default_rng(0), np.arange(200) / 100
    noise = np.convolve(draw.normal(size=209), np.ones(10) / 10, mode="valid")  # neighbours hang together
    flat, growing = slope(times, 500 + noise, lags=24), slope(times, 500 + noise + 3 * times, lags=24)
    assert flat.low < 0 < flat.high and not flat.is_growth
    assert growing.is_growth and growing.low < 3 < growing.high
    with pytest.raises(ValueError, match="2 measurements fix no slope"):
        slope([0, 1], [0, 1])


def test_what_a_process_and_its_children_hold_is_added_up():
    script = "import subprocess, sys; b = bytearray(60_000_000); print(1, flush=True); sys.stdin.read()"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {script!r}])"
    with subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        held = holding(process.pid)
        process.stdin.close()
    assert len(held.pids) == 2 and held.threads == 2 and held.files >= 6
    assert 60 < held.memory_mb < 120
    assert holding(process.pid).pids == ()
