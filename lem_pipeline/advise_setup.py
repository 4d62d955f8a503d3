"""What ``lem advise`` starts with: a registered model, the history of its bars, a desk."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from lem_pipeline.advise import Desk
from lem_pipeline.advise_events import BarEvent, event_of
from lem_pipeline.bar_feed import TABLES, BarFeed
from lem_pipeline.errors import ConfigurationError, RefusedEventError, UnknownSymbolError, UnknownVersionError
from lem_pipeline.settings import Settings
from lem_pipeline.sources.archive import ArchiveBars
from lem_pipeline.sources.base import RAW_BARS, raw_bars
from lem_pipeline.sql_assets import Parameters
from lem_pipeline.stores import tracking_of, warehouse_of
from lem_pipeline.versions import load_version

_LINES = (".jsonl", ".ndjson")


def open_desk(
    chosen: Settings,
    parameters: Parameters,
    model: str,
    asset_class: str,
    history: Path | None = None,
    state: Path | None = None,
) -> Desk:
    """A desk that trades by a registered model.

    Args:
        chosen: The profile: where models and warehouse are.
        parameters: What SQL binds under the profile; horizon and lookback are those of the model.
        model: ``name@alias``, ``name/version``, or a bare name, which means its challenger.
        asset_class: crypto or dow.
        history: Closed bars up to now, as an archive or as JSON lines; None for those of the warehouse.
        state: Where the desk keeps what it was told, and finds what it was told before.

    Raises:
        ConfigurationError: The model, the history or the state cannot be used.
    """
    import torch

    if asset_class not in TABLES:
        raise ConfigurationError(f"asset class {asset_class!r} is none of {', '.join(TABLES)}")
    if chosen.crypto and chosen.crypto.source_bar_minutes != chosen.crypto.bar_minutes:
        raise ConfigurationError(
            f"profile {chosen.profile} puts bars of {chosen.crypto.bar_minutes} minutes together from shorter ones, "
            "and advice is given on bars as they come; set crypto.source_bar_minutes to crypto.bar_minutes"
        )
    torch.set_num_threads(1)
    tracking = tracking_of(chosen)
    try:
        lem = load_version(tracking, model).network
    except UnknownVersionError as error:
        raise ConfigurationError(f"model {model} of {tracking.place} cannot be loaded: {error}") from error
    config = lem.config
    bound = {**parameters, "horizon": config.horizon, "lookback": config.lookback}
    bars = read_history(history, asset_class, chosen)
    return Desk(lem, BarFeed(asset_class, config.features, config.lookback, bound, bars), state)


def read_history(path: Path | None, asset_class: str, chosen: Settings) -> pa.Table:
    """Closed bars in schema ``RAW_BARS``, of every symbol there is.

    Raises:
        ConfigurationError: There are none at this place.
        ArchiveError: The archive is malformed.
    """
    if path is None:
        warehouse = warehouse_of(chosen)
        if not warehouse.exists:
            raise ConfigurationError(f"there is no warehouse at {warehouse.place}; name a file of bars with --history")
        return warehouse.read(f"from {TABLES[asset_class]}").select(RAW_BARS.names)
    if path.suffix in _LINES:
        return _from_lines(path)
    archive = ArchiveBars(path=str(path))
    market = chosen.crypto if asset_class == "crypto" else chosen.dow
    known = market.instruments if market else []
    names = dict.fromkeys([*known, *archive.symbols()])  # BTC/USDT before BTCUSDT, which are the same bars
    tables, seen = [RAW_BARS.empty_table()], set[str]()
    for name in names:
        if name.replace("/", "") in seen:
            continue
        try:
            tables.append(archive.fetch(name, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)))
        except UnknownSymbolError:
            continue
        seen.add(name.replace("/", ""))
    return pa.concat_tables(tables)


def _from_lines(path: Path) -> pa.Table:
    if not path.exists():
        raise ConfigurationError(f"there is no file of bars at {path}")
    rows: dict[str, list[dict[str, object]]] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            event = event_of(line)
            if not isinstance(event, BarEvent):
                raise RefusedEventError(f"a history holds bars alone, and this is of type {event.type}")
        except RefusedEventError as error:
            raise ConfigurationError(f"line {number} of {path}: {error}") from error
        rows.setdefault(event.symbol, []).append(event.row())
    tables = [RAW_BARS.empty_table()]
    for symbol, bars in rows.items():
        names = [name for name in BarEvent.model_fields if name not in ("type", "symbol")]
        columns: dict[str, object] = {name: [bar.get(name) for bar in bars] for name in names}
        columns["split_ratio"] = [bar.get("split_ratio", 1.0) for bar in bars]
        tables.append(raw_bars(columns, symbol=symbol, venue=path.name))
    return pa.concat_tables(tables)
