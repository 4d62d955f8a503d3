"""A user's own bars, as one parquet or CSV file or a folder of them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lem_pipeline.errors import ArchiveError, UnknownSymbolError
from lem_pipeline.names import shown
from lem_pipeline.sources.base import BarSource, raw_bars

if TYPE_CHECKING:
    import duckdb

REQUIRED = ("symbol", "open", "high", "low", "close", "volume")
TIME_COLUMNS = ("bar_start", "ts")
OPTIONAL = {  # our column: expressions over the archive's columns, the first that exists wins
    "notional": {"notional": "notional", "quote_volume": "quote_volume", "vwap": "vwap * volume"},
    "trade_count": {"trade_count": "trade_count"},
    "taker_buy_volume": {"taker_buy_volume": "taker_buy_volume"},
    "adjusted_close": {"adjusted_close": "adjusted_close", "adj_close": "adj_close"},
    "dividend": {"dividend": "dividend"},
    # Yahoo writes 0 on a day without a split, and so do files made of its answers.
    "split_ratio": {"split_ratio": "coalesce(nullif(split_ratio::double, 0), 1)"},
}


class ArchiveBars(BarSource):
    """Bars from files; ``BTC/USDT`` also finds rows whose symbol is ``BTCUSDT``.

    Attributes:
        path: A parquet or CSV file, or a folder whose parquet (else CSV) files are read together.
        price_basis: ``as_traded``, or ``split_adjusted`` where later splits have rescaled the prices.
    """

    path: str
    price_basis: str = "as_traded"

    @property
    def provenance(self) -> str:
        """Names the file."""
        return f"archive {Path(self.path).parent.name}/{Path(self.path).name}"

    def check(self, instruments: Sequence[str]) -> None:
        """Refuse symbols that the archive does not have."""
        with self._opened() as memory:
            self._columns(memory)
            self._require_symbols(memory, instruments)

    def fetch(self, instrument: str, start: datetime, end: datetime) -> pa.Table:
        """Bars of the archive; see :meth:`BarSource.fetch`."""
        with self._opened() as memory:
            bars = self._select(memory, instrument, start, end)
            if not len(bars):
                self._require_symbols(memory, [instrument])
        columns = {name: bars[name].combine_chunks() for name in bars.column_names}
        if self.price_basis == "split_adjusted":
            columns["splits_until"] = pa.nulls(len(bars))
        return raw_bars(columns, symbol=instrument, venue=self.provenance)

    def symbols(self) -> list[str]:
        """Every symbol of the archive, as it is written there."""
        with self._opened() as memory:
            self._columns(memory)
            return self._symbols(memory)

    @contextmanager
    def _opened(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        import duckdb

        with duckdb.connect() as memory:
            memory.execute("set timezone = 'UTC'")
            try:
                yield memory
            except duckdb.Error as error:
                raise ArchiveError(
                    f"the bar archive {self.path} cannot be read as bars: {str(error).splitlines()[0]}; "
                    "times must be timestamps in UTC, prices and volumes numbers"
                ) from error

    def _select(self, memory: "duckdb.DuckDBPyConnection", instrument: str, start: datetime, end: datetime) -> pa.Table:
        columns = self._columns(memory)
        time = f"{next(c for c in TIME_COLUMNS if c in columns)}::timestamptz"
        selected = [f"{time} as bar_start", *(f"{name}::double as {name}" for name in REQUIRED if name != "symbol")]
        for ours, choices in OPTIONAL.items():
            if found := next((sql for theirs, sql in choices.items() if theirs in columns), None):
                selected.append(f"({found})::double as {ours}")
        return memory.sql(
            f"select {', '.join(selected)} from {self._scan()} "  # noqa: S608 - our own names, values bound
            f"where symbol::varchar in ($symbol, replace($symbol, '/', '')) "
            f"and {time} >= $start and {time} < $end order by {time}",
            params={"files": self._files(), "symbol": instrument, "start": start, "end": end},
        ).to_arrow_table()

    def _files(self) -> list[str]:
        path = Path(self.path)
        if not os.path.exists(path):  # unlike Path's, also false for what no file can be called
            raise ArchiveError(
                f"there is no bar archive at {shown(self.path)}; set the source's path to a parquet or CSV file"
            )
        if path.is_file():
            return [str(path)]
        found = sorted(path.glob("*.parquet")) or sorted(path.glob("*.csv"))
        if not found:
            raise ArchiveError(
                f"the folder {path} holds no parquet or CSV file; set the source's path to one that does"
            )
        return [str(f) for f in found]

    def _scan(self) -> str:
        parquet = self._files()[0].endswith(".parquet")
        return "read_parquet($files, union_by_name = true)" if parquet else "read_csv($files, union_by_name = true)"

    def _columns(self, memory: "duckdb.DuckDBPyConnection") -> set[str]:
        description = memory.execute(f"select * from {self._scan()} limit 0", {"files": self._files()}).description  # noqa: S608 - our own names, values bound
        columns = {column[0] for column in description or []}
        missing = [name for name in REQUIRED if name not in columns]
        if not columns.intersection(TIME_COLUMNS):
            missing.insert(0, "bar_start (or ts)")
        if missing:
            raise ArchiveError(
                f"the bar archive {self.path} has no column {', '.join(missing)}; it has {', '.join(sorted(columns))}"
            )
        return columns

    def _symbols(self, memory: "duckdb.DuckDBPyConnection") -> list[str]:
        query = f"select distinct symbol::varchar from {self._scan()} order by all"  # noqa: S608 - our own names, values bound
        return [row[0] for row in memory.execute(query, {"files": self._files()}).fetchall()]

    def _require_symbols(self, memory: "duckdb.DuckDBPyConnection", instruments: Sequence[str]) -> None:
        symbols = self._symbols(memory)
        unknown = [i for i in instruments if i not in symbols and i.replace("/", "") not in symbols]
        if unknown:
            raise UnknownSymbolError(
                f"the bar archive {self.path} has no symbol {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(symbols)}"
            )
