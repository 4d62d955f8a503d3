"""A user's files: what is found in them, and what a user is told where something is missing."""

import csv
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lem_pipeline.errors import ArchiveError, UnknownSymbolError
from lem_pipeline.sources.archive import ArchiveBars
from lem_pipeline.sources.base import RAW_BARS

START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
ALWAYS = datetime(1990, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
HEADER = "ts,symbol,open,high,low,close,volume"


def bars(symbol: str = "BTCUSDT", count: int = 3, **columns: object) -> pd.DataFrame:
    opened = np.arange(100.0, 100 + count)
    frame = pd.DataFrame(
        {
            "ts": pd.date_range(START, periods=count, freq="h"),
            "symbol": symbol,
            "open": opened,
            "high": opened + 2,
            "low": opened - 2,
            "close": opened + 1,
            "volume": np.arange(1, count + 1),
        }
    )
    return frame.assign(**columns)


def written(path: Path, frame: pd.DataFrame) -> ArchiveBars:
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return ArchiveBars(path=str(path))


def csv_archive(path: Path, *rows: str) -> ArchiveBars:
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return ArchiveBars(path=str(path))


def starts_in(source: ArchiveBars) -> list[datetime]:
    return source.fetch("A", START, END)["bar_start"].to_pylist()


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_file_of_bars_is_read_into_the_common_schema(tmp_path, suffix):
    source = written(tmp_path / f"bars{suffix}", bars())
    table = source.fetch("BTC/USDT", START, END)
    assert table.schema == RAW_BARS
    assert table["bar_start"].to_pylist() == [START + timedelta(hours=h) for h in range(3)]
    assert table["close"].to_pylist() == [101.0, 102.0, 103.0]
    assert table["volume"].to_pylist() == [1.0, 2.0, 3.0]
    assert set(table["symbol"].to_pylist()) == {"BTC/USDT"}
    assert table["notional"].null_count == 3
    assert set(table["split_ratio"].to_pylist()) == {1.0}
    assert set(table["dividend"].to_pylist()) == {0.0}
    assert table["splits_until"].equals(table["bar_start"])


def test_the_period_includes_its_start_and_excludes_its_end(tmp_path):
    source = written(tmp_path / "bars.parquet", bars(count=10))
    table = source.fetch("BTC/USDT", START + timedelta(hours=2), START + timedelta(hours=5))
    assert table["bar_start"].to_pylist() == [START + timedelta(hours=h) for h in (2, 3, 4)]


def test_bars_are_ascending_whatever_their_order_in_the_file(tmp_path):
    table = written(tmp_path / "bars.parquet", bars().iloc[::-1]).fetch("BTC/USDT", START, END)
    assert table["bar_start"].to_pylist() == [START + timedelta(hours=h) for h in range(3)]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_files_of_a_folder_are_read_together(tmp_path, suffix):
    written(tmp_path / f"btc{suffix}", bars())
    written(tmp_path / f"eth{suffix}", bars("ETHUSDT"))
    written(tmp_path / f"later{suffix}", bars(ts=pd.date_range(START + timedelta(days=1), periods=3, freq="h")))
    source = ArchiveBars(path=str(tmp_path))
    assert len(source.fetch("BTC/USDT", START, END)) == 6
    assert len(source.fetch("ETH/USDT", START, END)) == 3


def test_parquet_wins_over_csv_in_one_folder(tmp_path):
    written(tmp_path / "bars.csv", bars(close=1.0))
    written(tmp_path / "bars.parquet", bars(close=2.0))
    assert ArchiveBars(path=str(tmp_path)).fetch("BTC/USDT", START, END)["close"].to_pylist() == [2.0] * 3


def test_a_symbol_is_found_with_and_without_its_slash(tmp_path):
    assert len(written(tmp_path / "a.parquet", bars("BTCUSDT")).fetch("BTC/USDT", START, END)) == 3
    assert len(written(tmp_path / "b.parquet", bars("BTC/USDT")).fetch("BTC/USDT", START, END)) == 3


@pytest.mark.parametrize(
    ("columns", "notional"),
    [
        ({"vwap": 50.0}, [50.0, 100.0, 150.0]),
        ({"quote_volume": [7.0, 8.0, 9.0]}, [7.0, 8.0, 9.0]),
        ({"notional": [1.0, 2.0, 3.0], "quote_volume": 0.0, "vwap": 0.0}, [1.0, 2.0, 3.0]),
    ],
)
def test_notional_comes_from_the_column_that_says_it_best(tmp_path, columns, notional):
    table = written(tmp_path / "bars.parquet", bars(**columns)).fetch("BTC/USDT", START, END)
    assert table["notional"].to_pylist() == notional


def test_optional_columns_are_carried_over(tmp_path):
    columns = {"trade_count": 5, "taker_buy_volume": 0.5, "dividend": 0.25, "split_ratio": 4.0}
    table = written(tmp_path / "bars.parquet", bars(adj_close=99.0, **columns)).fetch("BTC/USDT", START, END)
    for name, value in {**columns, "adjusted_close": 99.0}.items():
        assert set(table[name].to_pylist()) == {value}


def test_a_split_ratio_of_zero_or_none_is_a_day_without_a_split(tmp_path):
    source = written(tmp_path / "bars.parquet", bars(split_ratio=[0.0, np.nan, 4.0]))
    assert source.fetch("BTC/USDT", START, END)["split_ratio"].to_pylist() == [1.0, 1.0, 4.0]


def test_the_price_basis_is_what_the_user_says(tmp_path):
    written(tmp_path / "bars.parquet", bars())
    source = ArchiveBars(path=str(tmp_path / "bars.parquet"), price_basis="split_adjusted")
    assert set(source.fetch("BTC/USDT", START, END)["splits_until"].to_pylist()) == {None}


def test_symbols_that_the_archive_does_not_have_are_refused_before_any_download(tmp_path):
    source = written(tmp_path / "bars.parquet", bars())
    source.check(["BTC/USDT"])
    with pytest.raises(UnknownSymbolError, match=r"no symbol 'BTC/USD', 'ETH/USDT'; it has BTCUSDT"):
        source.check(["BTC/USDT", "BTC/USD", "ETH/USDT"])


def test_provenance_names_folder_and_file(tmp_path):
    assert ArchiveBars(path="data/crypto/bars.parquet").provenance == "archive crypto/bars.parquet"


def test_a_period_outside_a_known_symbol_is_an_empty_table(tmp_path):
    source = written(tmp_path / "bars.parquet", bars())
    empty = source.fetch("BTC/USDT", END, END + timedelta(days=1))
    assert len(empty) == 0
    assert empty.schema == RAW_BARS


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_an_unknown_symbol_is_told_which_there_are(tmp_path, suffix):
    source = written(tmp_path / f"bars{suffix}", pd.concat([bars("ETHUSDT"), bars("BTCUSDT")]))
    with pytest.raises(UnknownSymbolError, match=r"has no symbol 'XRP/USDT'; it has BTCUSDT, ETHUSDT$"):
        source.fetch("XRP/USDT", START, END)


def test_a_missing_path_is_explained(tmp_path):
    with pytest.raises(ArchiveError, match=r"there is no bar archive at .*missing; set the source's path"):
        ArchiveBars(path=str(tmp_path / "missing")).fetch("BTC/USDT", START, END)


def test_a_folder_without_bars_is_explained(tmp_path):
    with pytest.raises(ArchiveError, match="holds no parquet or CSV file; set the source's path to one that does"):
        ArchiveBars(path=str(tmp_path)).fetch("BTC/USDT", START, END)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("column", ["symbol", "open", "high", "low", "close", "volume"])
def test_a_missing_column_is_named(tmp_path, suffix, column):
    source = written(tmp_path / f"bars{suffix}", bars().drop(columns=column))
    with pytest.raises(ArchiveError, match=f"has no column {column}; it has "):
        source.fetch("BTC/USDT", START, END)


def test_an_archive_without_a_time_column_is_told_how_to_call_it(tmp_path):
    source = written(tmp_path / "bars.parquet", bars().rename(columns={"ts": "date"}))
    with pytest.raises(ArchiveError, match=r"has no column bar_start \(or ts\); it has close, date, high"):
        source.fetch("BTC/USDT", START, END)


def test_a_file_that_is_no_parquet_is_explained(tmp_path):
    (tmp_path / "bars.parquet").write_text("not a parquet file")
    with pytest.raises(ArchiveError, match="cannot be read"):
        ArchiveBars(path=str(tmp_path / "bars.parquet")).fetch("BTC/USDT", START, END)


@pytest.mark.parametrize(
    "written_as",
    [
        "2024-01-01 05:00:00",  # no zone: taken as UTC
        "2024-01-01T05:00:00Z",
        "2024-01-01 07:00:00+02:00",
        "2024-01-01T07:00:00+02:00",
        "2024-01-01 00:00:00 America/New_York",
    ],
)
def test_csv_times_without_a_zone_are_utc_and_others_are_converted(tmp_path, written_as):
    source = csv_archive(tmp_path / "bars.csv", f"{written_as},A,1,2,1,2,10")
    assert starts_in(source) == [datetime(2024, 1, 1, 5, tzinfo=UTC)]


def test_csv_times_of_summer_and_winter_offsets_are_converted_row_by_row(tmp_path):
    rows = ["2024-01-01 05:00:00+02:00,A,1,2,1,2,10", "2024-01-01 05:00:00+01:00,A,1,2,1,2,10"]
    hours = [start.hour for start in starts_in(csv_archive(tmp_path / "bars.csv", *rows))]
    assert hours == [3, 4]


def test_a_csv_of_dates_begins_its_bars_at_midnight_utc(tmp_path):
    source = csv_archive(tmp_path / "bars.csv", "2024-01-02,A,1,2,1,2,10")
    assert starts_in(source) == [datetime(2024, 1, 2, tzinfo=UTC)]


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_parquet_times_keep_their_moment_in_any_zone(tmp_path, zone):
    frame = bars("A")
    moments = frame["ts"].dt.tz_convert(zone) if zone else frame["ts"].dt.tz_localize(None)
    assert starts_in(written(tmp_path / "bars.parquet", frame.assign(ts=moments))) == list(frame["ts"])


def test_an_empty_cell_is_null_for_the_checks_to_report(tmp_path):
    table = csv_archive(tmp_path / "bars.csv", "2024-01-01 05:00:00,A,1,2,1,,10").fetch("A", START, END)
    assert table["close"].to_pylist() == [None]


@pytest.mark.parametrize(
    "row",
    [
        "1704085200000,A,1,2,1,2,10",
        "yesterday,A,1,2,1,2,10",
        "2024-01-01 05:00:00,A,1,2,1,n/a,10",
        '2024-01-01 05:00:00,A,1,"2,000",1,2,10',
        "2024-01-01 05:00:00,600000,1,2,1,2,10",
    ],
    ids=["time in milliseconds", "time as text", "price as text", "thousands separator", "symbol as number"],
)
def test_a_value_of_the_wrong_kind_is_explained(tmp_path, row):
    source = csv_archive(tmp_path / "bars.csv", row)
    with pytest.raises((ArchiveError, UnknownSymbolError)):
        source.fetch("A", START, END)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_files_of_one_folder_may_differ_in_optional_columns_and_their_order(tmp_path, suffix):
    written(tmp_path / f"a{suffix}", bars("A", vwap=100.0))
    written(tmp_path / f"b{suffix}", bars("A")[["symbol", "ts", "open", "high", "low", "close", "volume"]])
    assert len(ArchiveBars(path=str(tmp_path)).fetch("A", START, END)) == 6


class Malicious:
    """What a pickle may do to whoever loads it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["bars.pkl", "bars.parquet", "bars.csv", "bars.npy"])
def test_a_pickle_is_no_archive_whatever_it_is_called_and_is_not_run(tmp_path, name):
    pd.to_pickle(Malicious(tmp_path / "ran"), tmp_path / name, compression=None)
    with pytest.raises(ArchiveError) as caught:
        ArchiveBars(path=str(tmp_path / name)).check(["BTC/USDT"])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_in_the_description_of_a_parquet_file_is_not_run(tmp_path):
    table = pa.Table.from_pandas(bars())
    evil = pickle.dumps(Malicious(tmp_path / "ran"))
    kind = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": evil}
    fields = [field.with_metadata(kind) for field in table.schema]
    described = {b"pandas": b"{}", b"evil": evil}
    pq.write_table(table.cast(pa.schema(fields, metadata=described)), tmp_path / "bars.parquet")
    assert pq.read_schema(tmp_path / "bars.parquet", memory_map=False).metadata[b"evil"] == evil
    assert len(ArchiveBars(path=str(tmp_path / "bars.parquet")).fetch("BTC/USDT", START, END)) == 3
    assert not (tmp_path / "ran").exists()
    pickle.loads(evil)  # noqa: S301 - our own
    assert (tmp_path / "ran").exists(), "it is dangerous to whoever loads it"


def described(shared_data: Path, name: str, symbol: str) -> dict[str, str]:
    with (shared_data / name / "symbols.csv").open() as file:
        return next(row for row in csv.DictReader(file) if row["symbol"] == symbol)


@pytest.mark.parametrize(
    ("name", "instrument", "symbol"),
    [
        ("crypto-binance-spot-1h", "BTC/USDT", "BTCUSDT"),
        ("dow30-daily", "AAPL", "AAPL"),
        ("dow30-daily-vwap", "AAPL", "AAPL"),
        ("us-equity-1h", "SPY", "SPY"),
    ],
)
def test_recorded_sets_load_whole(shared_data, name, instrument, symbol):
    table = ArchiveBars(path=str(shared_data / name / "bars.parquet")).fetch(instrument, *ALWAYS)
    expected = described(shared_data, name, symbol)
    starts = table["bar_start"].to_pylist()
    assert len(table) == int(expected["rows"]) > 0
    assert [f"{t:%Y-%m-%dT%H:%MZ}" for t in (starts[0], starts[-1])] == [expected["first"], expected["last"]]
    assert starts == sorted(set(starts))
    assert all(table[column].null_count == 0 for column in ("open", "high", "low", "close", "volume"))


def test_recorded_notional_is_the_quote_volume_or_vwap_times_volume(shared_data):
    for name, instrument, column in [
        ("crypto-binance-spot-1h", "BTC/USDT", "quote_volume"),
        ("dow30-daily-vwap", "AAPL", "vwap"),
    ]:
        path = shared_data / name / "bars.parquet"
        wanted = [("symbol", "==", instrument.replace("/", ""))]
        source = pd.read_parquet(path, filters=wanted).sort_values("ts")
        expected = source[column] * (source["volume"] if column == "vwap" else 1)
        table = ArchiveBars(path=str(path)).fetch(instrument, *ALWAYS)
        np.testing.assert_allclose(table["notional"].to_numpy(), expected)


def test_recorded_daily_bars_carry_the_adjusted_close(shared_data):
    table: pa.Table = ArchiveBars(path=str(shared_data / "dow30-daily/bars.parquet")).fetch("AAPL", *ALWAYS)
    assert table["adjusted_close"].null_count == 0
    assert table["notional"].null_count == len(table)
