"""Raw bars as they close, and what the repository's own SQL makes known before the next: features for sessions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from graphlib import TopologicalSorter
from typing import Any

import pyarrow as pa

from lem_models.events import ClosedBar, Outlook
from lem_pipeline.errors import ConfigurationError, RefusedEventError
from lem_pipeline.sources.base import RAW_BARS
from lem_pipeline.sql_assets import SQL, Parameters, SqlFile
from lem_pipeline.universe import FIRST_MONTH, nyse_sessions

TABLES = {"crypto": "raw.crypto_bars", "dow": "raw.dow_bars"}
FEATURES = SqlFile(SQL / "features/bar_features.sql")
_DEFAULTS = {"dividend": 0.0, "split_ratio": 1.0, "venue": "a stream"}
_SCHEMAS = ("given", "raw", "staging", "bars", "features")


@dataclass(frozen=True)
class KnownBar:
    """A bar of the clock: when it trades, and what the SQL knows of it.

    Attributes:
        bar_number: Place on the clock.
        bar_start: Its label, UTC.
        opens_at: When it begins to trade.
        closes_at: When it is over.
        fault: Why the bar takes part in nothing; None where it is sound.
        facts: Price, close and volume.
        known: Features and volatility known before it; None where history does not tell all of them.
        expected_volume: Known a horizon before; None where no bar of its season is.
    """

    bar_number: int
    bar_start: datetime
    opens_at: datetime
    closes_at: datetime
    fault: str | None
    facts: tuple[float, float, float]
    known: Mapping[str, float] | None
    expected_volume: float | None


class BarFeed:
    """Bars of one asset class in memory, and the feature statement run on them.

    Args:
        asset_class: crypto or dow.
        features: Names of the model's features.
        lookback: Rows that the model reads, L.
        parameters: What the SQL binds, its horizon that of the model.
        history: Closed bars in schema ``RAW_BARS``.

    Raises:
        ConfigurationError: The SQL knows no such features.
    """

    def __init__(
        self,
        asset_class: str,
        features: tuple[str, ...],
        lookback: int,
        parameters: Parameters,
        history: pa.Table,
    ) -> None:
        import duckdb

        self.table = TABLES[asset_class]
        self.features, self.lookback, self.parameters = features, lookback, parameters
        if unknown := sorted(set(features) - set(FEATURES.column_descriptions)):
            raise ConfigurationError(f"the model reads {', '.join(unknown)}, which {FEATURES.table} does not have")
        self.memory = duckdb.connect()
        self.memory.execute("set timezone = 'UTC'; set threads = 1; set enable_progress_bar = false")
        for schema in _SCHEMAS:
            self.memory.execute(f"create schema {schema}")
        self.memory.register("no_bars", RAW_BARS.empty_table())
        for name in (*(table.split(".")[1] for table in TABLES.values()), "to_come"):
            self.memory.execute(f"create table given.{name} as from no_bars")
        self._insert(history)
        self._calendar()

    @property
    def horizon(self) -> int:
        """Bars of an order, H."""
        return int(self.parameters["horizon"])

    @property
    def _name(self) -> str:
        return self.table.split(".")[1]

    def _calendar(self) -> None:
        [(last,)] = self.memory.execute(f"select max(bar_start) from given.{self._name}").fetchall()  # noqa: S608 - our own names, values bound
        until = last or datetime.now(UTC)
        sessions = nyse_sessions(FIRST_MONTH, until + timedelta(days=366))
        self.memory.register("sessions", pa.Table.from_pandas(sessions, preserve_index=False))
        self.memory.execute("create or replace table raw.nyse_sessions as from sessions")

    def _insert(self, rows: pa.Table) -> None:
        self.memory.register("new_bars", rows)
        self.memory.execute(f"insert into given.{self._name} by name from new_bars")

    def add(self, bar: Mapping[str, Any]) -> bool:
        """Take a raw bar; False where it was told before.

        Raises:
            RefusedEventError: It was told before with other values, or SQL finds a fault in it.
        """
        columns = [name for name in bar if name not in ("symbol", "bar_start")]
        differs = " or ".join(f"{name} is distinct from ${name}" for name in columns)
        told = self.memory.execute(
            f"select {differs} from given.{self._name} where symbol = $symbol and bar_start = $bar_start",  # noqa: S608 - our own names, values bound
            dict(bar),
        ).fetchall()
        if told:
            if told[0][0]:
                label = f"{bar['symbol']} at {bar['bar_start']:%Y-%m-%d %H:%M}"
                raise RefusedEventError(f"the bar of {label} was told before with other values; the first ones stand")
            return False
        row = {**_DEFAULTS, "splits_until": bar["bar_start"], **bar}
        self._insert(pa.Table.from_pylist([row], schema=RAW_BARS))
        return True

    def drop(self, symbol: str, bar_start: datetime) -> None:
        """Forget a bar that was added and turned out to be faulty."""
        self.memory.execute(
            f"delete from given.{self._name} where symbol = $symbol and bar_start = $bar_start",  # noqa: S608 - our own names, values bound
            {"symbol": symbol, "bar_start": bar_start},
        )

    def look(self, symbol: str) -> dict[int, KnownBar]:
        """The symbol's last bars, and as many to come as the horizon has; by number.

        Bars to come have a time and what is known before them; of the facts of theirs nothing holds.
        """
        self.memory.execute("truncate given.to_come")
        self._run("bars.market_bars")
        bound = {"symbol": symbol, "horizon": self.horizon}
        self.memory.execute(
            f"insert into given.to_come by name {(SQL / 'queries/bars_to_come.sql').read_text()}", bound
        )
        self._run("features.bar_features")
        query = (SQL / "queries/known_before.sql").read_text()
        wanted = {"symbol": symbol, "rows": self.lookback + 3 * self.horizon}
        rows = self.memory.sql(query, params=wanted).to_arrow_table()
        return {row["bar_number"]: self._known(row) for row in rows.to_pylist()}

    def outlook(self, bars: Mapping[int, KnownBar], bar_number: int) -> Outlook | None:
        """What is known before a bar; None where history does not tell everything."""
        before = bars.get(bar_number)
        if before is None or before.known is None:
            return None
        following = [bars.get(number) for number in range(bar_number, bar_number + self.horizon)]
        expected = [bar.expected_volume for bar in following if bar and bar.expected_volume is not None]
        features = {name: before.known[name] for name in self.features}
        return Outlook(features, before.known["volatility"], tuple(expected))

    def closed(self, bars: Mapping[int, KnownBar], bar_number: int) -> ClosedBar:
        """A bar as a session hears of it."""
        price, close, volume = bars[bar_number].facts
        return ClosedBar(bar_number, price, close, volume, self.outlook(bars, bar_number + 1))

    def _run(self, target: str) -> None:
        """Create a table and everything it is made of, by the repository's own statements."""
        for name in TABLES.values():
            own = "union all by name from given.to_come" if name == self.table else ""
            self.memory.execute(f"create or replace view {name} as from given.{name.split('.')[1]} {own}")
        for file in _made_of(target):
            self.memory.execute(f"create or replace table {file.table} as {file.text}", file.bind(self.parameters))

    def _known(self, row: Mapping[str, Any]) -> KnownBar:
        return KnownBar(
            bar_number=row["bar_number"],
            bar_start=row["bar_start"],
            opens_at=row["opens_at"],
            closes_at=row["bar_end"],
            fault=row["fault"],
            facts=(row["bar_price"], row["bar_close"], row["bar_volume"]),
            known={name: row[name] for name in (*self.features, "volatility")} if row["is_known"] else None,
            expected_volume=row["expected_volume"],
        )


def _made_of(target: str) -> list[SqlFile]:
    """The statements behind a table, its own last."""
    files: dict[str, SqlFile] = {}
    graph: dict[str, list[str]] = {}
    waiting = [target]
    while waiting:
        table = waiting.pop()
        path = SQL / f"{table.replace('.', '/')}.sql"
        if table not in graph and path.exists():
            files[table] = SqlFile(path)
            graph[table] = files[table].upstreams
            waiting += graph[table]
    return [files[table] for table in TopologicalSorter(graph).static_order() if table in files]
