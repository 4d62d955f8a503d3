"""A replay by hand, for working offline: both venues behind one address, until interrupted."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Event

from lem_pipeline.errors import ConfigurationError
from lem_pipeline.replay import binance, yahoo
from lem_pipeline.replay.answers import Route
from lem_pipeline.replay.bars import Clock
from lem_pipeline.replay.catalogue import parse
from lem_pipeline.replay.server import CONTROL, ReplayServer
from lem_pipeline.settings.markets import TIMEFRAMES
from lem_pipeline.sources.base import BarSource


def serve(
    sources: Mapping[str, BarSource],
    instruments: Iterable[str],
    crypto_bar: timedelta,
    *,
    port: int,
    faults: str,
    now: datetime | None,
    say: Callable[[str], None],
) -> None:
    """Answer as Binance does from ``crypto`` and as Yahoo Finance does from ``dow``, until interrupted.

    Args:
        sources: Bars of ``crypto``, daily bars of US shares as ``dow``, or one of the two.
        instruments: Markets of the exchange, as far as ``crypto`` knows them.
        crypto_bar: Length of the bars of ``crypto``.
        port: Where to listen; 0 chooses a free port.
        faults: On from the start, as :func:`parse` reads them.
        now: Where the venues' clock stands still; None means real time.
        say: Told how to use the replay, and about every request.

    Raises:
        ConfigurationError: The port is taken, a fault unknown, or Binance has no bars of this length.
    """
    clock = Clock(now)
    routes: dict[str, Route] = {}
    if crypto := sources.get("crypto"):
        routes |= binance.routes(crypto, instruments, clock, _interval(crypto_bar), crypto_bar)
    if dow := sources.get("dow"):
        routes |= yahoo.routes(dow, clock)
    with ReplayServer(routes, faults=parse(faults), clock=clock, port=port, log=say) as server:
        if crypto:
            say(f"Binance from {crypto.provenance}")
        if dow:
            say(f"Yahoo Finance from {dow.provenance}")
        say(f"at {server.url} until Ctrl-C. Point the live profile here:\n")
        say(f"export LEM_CRYPTO__BARS__API_URL={server.url}")
        say(f"export LEM_DOW__BARS__API_URL={server.url}\n")
        say(f"Faults, on and to be had: curl {server.url}{CONTROL}")
        say(f"Switch to others (or none): curl -d 'slow-drip status:code=429,first=3' {server.url}{CONTROL}\n")
        with suppress(KeyboardInterrupt):
            Event().wait()


def _interval(bar: timedelta) -> str:
    minutes = bar // timedelta(minutes=1)
    if minutes not in TIMEFRAMES:
        raise ConfigurationError(
            f"Binance has no bars of {minutes} minutes, so it cannot be replayed from them; choose a profile whose "
            f"source has bars of {', '.join(map(str, TIMEFRAMES))} minutes"
        )
    return TIMEFRAMES[minutes]
