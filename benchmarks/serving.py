"""MLflow's own model server in front of a registered model, and a client that loads it.

The client is aiohttp's, which comes with ccxt and mlflow: locust and wrk would be one more thing to install, and the
load here is plain: so many clients, each of which asks again as soon as it is answered (a closed loop).
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
from tenacity import Retrying, stop_after_delay, wait_fixed

from lem_models.lem import LEM
from lem_models.orders import OrderBatch
from lem_pipeline.serving import as_input
from lem_pipeline.tracking import CHALLENGER, Tracking

NAME = "lem-load"
STARTS_WITHIN_S = 120


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        url: Where.
        pid: Of the process that all others of the server descend from.
    """

    url: str
    pid: int


def register(model: LEM, example: OrderBatch, home: Path) -> Tracking:
    """A store with one version of a model, as the pipeline registers it."""
    tracking = Tracking(home=str(home))
    with tracking.run(NAME, {}):
        tracking.register(NAME, model, example, {})
    return tracking


@contextmanager
def served(tracking: Tracking, workers: int = 1, model: str = f"{NAME}@{CHALLENGER}") -> Iterator[Server]:
    """``mlflow models serve`` of a version, such as ``lem-crypto@champion``, on a free port, in a process group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{model}"]
    options = ["-p", str(port), "--workers", str(workers), "--env-manager", "local"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking.uri, "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with Path(tracking.home, "serve.log").open("a") as log:
        server = subprocess.Popen(  # noqa: S603 - our own command
            command + options, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        for attempt in Retrying(wait=wait_fixed(0.3), stop=stop_after_delay(STARTS_WITHIN_S), reraise=True):
            with attempt, socket.create_connection(("127.0.0.1", port), timeout=1):
                pass
        yield Server(url, server.pid)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def body_of(orders: OrderBatch) -> bytes:
    """A request for the schedules of some order windows."""
    return json.dumps({"inputs": {name: values.tolist() for name, values in as_input(orders).items()}}).encode()


def schedules_in(answer: bytes) -> np.ndarray:
    """The schedules of an answer; (B, S, M, H)."""
    return np.array(json.loads(answer)["predictions"], np.float32)


@dataclass
class Load:
    """What became of requests.

    Attributes:
        clients: That asked at the same time.
        seconds: For how long.
        taken: Seconds of each request that was answered with status 200.
        errors: How many others, by status or by name of the error.
    """

    clients: int
    seconds: float
    taken: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        """Requests answered a second."""
        return len(self.taken) / self.seconds

    @property
    def error_rate(self) -> float:
        """Part of the requests that were not answered."""
        failed = sum(self.errors.values())
        return failed / max(1, failed + len(self.taken))

    def told(self) -> dict[str, object]:
        """For a line of JSON; times in milliseconds."""
        p50, p99 = (1e3 * np.quantile(self.taken, [0.5, 0.99])) if self.taken else (float("nan"),) * 2
        told = {"clients": self.clients, "per_second": round(self.per_second, 2)}
        told |= {"p50_ms": round(float(p50), 1), "p99_ms": round(float(p99), 1)}
        return told | {"error_rate": round(self.error_rate, 4), "errors": dict(self.errors)}


def loaded(url: str, body: bytes, clients: int, seconds: float, timeout_s: float = 60.0) -> Load:
    """Ask with so many clients for so long; requests under way at the end are awaited and count."""
    return asyncio.run(_loaded(url, body, clients, seconds, timeout_s))


async def _loaded(url: str, body: bytes, clients: int, seconds: float, timeout_s: float) -> Load:
    start = time.perf_counter()
    load = Load(clients, seconds)
    limits = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(timeout=limits, connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(
            *(_client(session, f"{url}/invocations", body, load, start + seconds) for _ in range(clients))
        )
    load.seconds = time.perf_counter() - start
    return load


async def _client(session: aiohttp.ClientSession, url: str, body: bytes, load: Load, end: float) -> None:
    headers = {"Content-Type": "application/json"}
    while (asked := time.perf_counter()) < end:
        try:
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()
                if answer.status == 200:
                    load.taken.append(time.perf_counter() - asked)
                else:
                    load.errors[str(answer.status)] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            load.errors[type(error).__name__] += 1
            await asyncio.sleep(0.05)  # a server that refuses at once is not asked in a tight loop


def asked(url: str, body: bytes) -> tuple[int, bytes]:
    """One request: status and answer."""

    async def ask() -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/invocations", data=body, headers=headers) as answer,
        ):
            return answer.status, await answer.read()

    return asyncio.run(ask())
