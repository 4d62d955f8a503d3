"""The registered model behind MLflow's own server under load: orders a second, waiting, errors, memory over time.

Closed loops of 1, 2, 4, … clients ask for the schedules of one order, and of 64 in a request. Orders a second at
saturation, the fewest clients beyond whom more gain less than a tenth, stand against the same windows scheduled
one request after another in this process, without HTTP and JSON. An overload of many more clients may wait or be
refused: afterwards the same processes have to answer as before.

``WORKERS`` names the numbers of the server's processes, none to leave all this out, ``SECONDS_EACH`` the time for each
number of clients. ``MINUTES`` says for how long a client then goes on asking, while the memory of the server's
processes is sampled; the first fifth warms up. The aim is a slope that is not above zero, or below 5 MB/h. Clients and
server share the machine.
"""

import json
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks import report, seconds
from benchmarks.inference import CONFIGURATIONS, random_orders
from benchmarks.processes import Holding, holding
from benchmarks.serving import Load, Server, asked, body_of, loaded, register, schedules_in, served
from benchmarks.slopes import slope
from lem_models.lem import LEM
from lem_models.orders import OrderBatch

CLIENTS = (1, 2, 4, 8, 16, 32)
OVERLOAD, OVERLOAD_TIMEOUT_S = 200, 10.0
AIMS = {1: 1 / 4, 64: 1 / 4}  # by orders in a request: HTTP and JSON may take three times what the network takes
GAIN = 1.1  # more clients than gain a tenth wait for each other
MOST_MB_PER_HOUR = 5.0


def saturation(loads: Sequence[Load]) -> Load:
    """The fewest clients beyond whom more gain less than a tenth."""
    most = max(load.per_second for load in loads)
    return next(load for load in loads if GAIN * load.per_second >= most)


def measure(
    server: Server, model: LEM, orders: OrderBatch, level_s: float, clients: Sequence[int], workers: int
) -> None:
    """Print one line per number of clients, and one for their saturation."""
    body, size = body_of(orders), len(orders)
    status, answer = asked(server.url, body)
    assert status == 200 and np.array_equal(schedules_in(answer), model.schedule(orders).numpy())
    loads = []
    for count in clients:
        loads.append(loaded(server.url, body, count, level_s))
        line = {"name": f"serve: {size} orders a request, {workers} workers, {count} clients"} | loads[-1].told()
        print(json.dumps(line), flush=True)
    most = saturation(loads)
    alone = size / seconds(lambda: model.schedule(orders), repeats=9)
    sizes = {"request_kb": round(len(body) / 1e3), "answer_kb": round(len(answer) / 1e3)}
    name = f"serve: orders a second at saturation, {size} orders a request, {workers} workers, over no HTTP"
    report(name, round(size * most.per_second, 1), round(alone, 1), AIMS[size], **most.told(), **sizes)


def overload(server: Server, orders: OrderBatch, level_s: float, clients: int = OVERLOAD) -> None:
    """Print what becomes of many more clients than the server can answer, and whether it goes on afterwards."""
    body, before = body_of(orders), holding(server.pid)
    load = loaded(server.url, body, clients, level_s, OVERLOAD_TIMEOUT_S)
    status, _ = asked(server.url, body)
    after = holding(server.pid)
    survived = status == 200 and before.pids == after.pids
    line = {"name": f"serve: overload, patience of {OVERLOAD_TIMEOUT_S:.0f} s"} | load.told()
    line |= {"memory_mb": [round(before.memory_mb), round(after.memory_mb)], "same_processes_answer": survived}
    print(json.dumps(line | {"ok": survived}), flush=True)


def endurance(server: Server, orders: OrderBatch, minutes: float, clients: int = 1, every_s: float = 5.0) -> None:
    """Print whether the memory of the server grows while clients go on asking."""
    samples: list[tuple[float, Holding]] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(every_s):
            samples.append((time.perf_counter(), holding(server.pid)))

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        load = loaded(server.url, body_of(orders), clients, 60 * minutes)
    finally:
        over.set()
        sampling.join()
    kept = samples[len(samples) // 5 :]
    memory = [held.memory_mb for _, held in kept]
    tenths = [round(float(part.mean()), 1) for part in np.array_split(memory, 10) if len(part)]
    grown = slope([at / 3600 for at, _ in kept], memory, lags=24)
    line = {"name": f"serve: memory over {minutes:g} minutes, {len(orders)} orders a request"} | load.told()
    line |= {"requests": len(load.taken), "mb_per_hour": grown.rounded(), "least_mb": round(min(memory), 1)}
    line |= {"most_mb": round(max(memory), 1), "tenths_mb": tenths, "files": [kept[0][1].files, kept[-1][1].files]}
    line |= {"threads": [kept[0][1].threads, kept[-1][1].threads], "processes": len(kept[-1][1].pids)}
    is_flat = not grown.is_growth or grown.high < MOST_MB_PER_HOUR
    print(json.dumps(line | {"aim_mb_per_hour": MOST_MB_PER_HOUR, "ok": is_flat}), flush=True)


def main() -> None:
    torch.set_num_threads(1)
    minutes, level_s = float(os.environ.get("MINUTES", "1")), float(os.environ.get("SECONDS_EACH", "8"))
    workers = [int(each) for each in os.environ.get("WORKERS", "1 2").split()]
    torch.manual_seed(0)
    config, _ = CONFIGURATIONS["default configuration"]
    model = LEM(config).eval()
    one, many = random_orders(config, 1), random_orders(config, 64)
    with tempfile.TemporaryDirectory() as folder:
        tracking = register(model, one, Path(folder))
        for count in workers:
            with served(tracking, count) as server:
                measure(server, model, one, level_s, CLIENTS, count)
                measure(server, model, many, level_s, CLIENTS[:4], count)
                if count == workers[-1]:
                    overload(server, one, level_s)
        with served(tracking) as server:
            endurance(server, one, minutes)


if __name__ == "__main__":
    main()
