"""A replay by hand, for working offline: both venues behind one address, until interrupted."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from threading import Event

from lem_pipeline.replay import binance, yahoo
from lem_pipeline.replay.bars import Clock
from lem_pipeline.replay.catalogue import parse
from lem_pipeline.replay.server import CONTROL, ReplayServer
from lem_pipeline.sources.base import BarSource


def serve(
    crypto: BarSource,
    dow: BarSource,
    instruments: Iterable[str],
    *,
    port: int,
    faults: str,
    now: datetime | None,
    say: Callable[[str], None],
) -> None:
    """Answer as Binance does from ``crypto`` and as Yahoo Finance does from ``dow``, until interrupted.

    Args:
        crypto: Hourly bars.
        dow: Daily bars of US shares.
        instruments: Markets of the exchange, as far as ``crypto`` knows them.
        port: Where to listen; 0 chooses a free port.
        faults: On from the start, as :func:`parse` reads them.
        now: Where the venues' clock stands still; None means real time.
        say: Told how to use the replay, and about every request.

    Raises:
        ConfigurationError: The port is taken or a fault unknown.
    """
    clock = Clock(now)
    routes = binance.routes(crypto, instruments, clock) | yahoo.routes(dow, clock)
    with ReplayServer(routes, faults=parse(faults), clock=clock, port=port, log=say) as server:
        say(f"Binance from {crypto.provenance}")
        say(f"Yahoo Finance from {dow.provenance}")
        say(f"at {server.url} until Ctrl-C. Point the live profile here:\n")
        say(f"export LEM_CRYPTO__BARS__API_URL={server.url}")
        say(f"export LEM_DOW__BARS__API_URL={server.url}\n")
        say(f"Faults, on and to be had: curl {server.url}{CONTROL}")
        say(f"Switch to others (or none): curl -d 'slow-drip status:code=429,first=3' {server.url}{CONTROL}\n")
        with suppress(KeyboardInterrupt):
            Event().wait()
