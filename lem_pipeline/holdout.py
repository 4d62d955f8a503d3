"""The hold-out: the test orders of a registered model are played once, and every look at them is counted."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import pyarrow as pa

from lem_pipeline.storage import Warehouse

LOOKS = "results.holdout_looks"
UNCAPPED, COMPARED = "results.order_results", "lem compare"  # where the results of a look go
LOOKS_SCHEMA = pa.schema(
    {
        "results_table": pa.string(),
        "model": pa.string(),
        "versions": pa.list_(pa.string()),
        "data_snapshot": pa.string(),
        "code": pa.string(),
        "run": pa.string(),
        "looked_at": pa.timestamp("us", tz="UTC"),
    }
)


@dataclass(frozen=True)
class Look:
    """One evaluation of the hold-out.

    Attributes:
        results_table: Where the results are kept, ``schema.name``, or who showed them.
        model: Registered model.
        versions: Its version first, then those of the models beside it on the same orders.
        data_snapshot: Hash of bars and windows.
        code: Hash of the code that decides and keeps the accounts.
    """

    results_table: str
    model: str
    versions: tuple[str, ...]
    data_snapshot: str
    code: str


def look_once(warehouse: Warehouse, look: Look, run: str, play: Callable[[], Iterator[pa.Table]]) -> bool:
    """Play test orders and keep the results, unless this very look was taken before and its results are there.

    Args:
        warehouse: Keeps results and the ledger of looks.
        look: What would be evaluated.
        run: Dagster's name of the run, for the ledger.
        play: Gives the results, a table per batch, with a column ``model``.

    Returns:
        Whether orders were played now.
    """
    if _is_kept(warehouse, look):
        return False
    warehouse.replace_streamed(look.results_table, play(), "model = $model", {"model": look.model})
    note(warehouse, look, run)
    return True


def note(warehouse: Warehouse, look: Look, run: str) -> None:
    """Add a look to the ledger; nothing takes one away."""
    row = asdict(look) | {"run": run, "looked_at": datetime.now(UTC)}
    warehouse.append(LOOKS, pa.Table.from_pylist([row], LOOKS_SCHEMA))


def played_as(warehouse: Warehouse, model: str, version: str, names: tuple[str, str]) -> str | None:
    """What a version is called among the order results of its model; None where it did not play.

    Args:
        warehouse: Keeps the ledger.
        model: Registered model.
        version: ``lem-crypto/3``.
        names: Of the version that is judged, and of one beside it.
    """
    if not warehouse.has_table(LOOKS):
        return None
    last = warehouse.read(
        f"select arg_max(versions, looked_at) as versions from {LOOKS} where model = $model and results_table = $table",  # noqa: S608 - our own names, values bound
        {"model": model, "table": UNCAPPED},
    )["versions"][0].as_py()
    return names[last[0] != version] if version in (last or ()) else None


def last_order(warehouse: Warehouse, model: str) -> datetime | None:
    """Start of the last test order of a model, whichever of its versions played it; None where none is stored."""
    if not warehouse.has_table(UNCAPPED):
        return None
    last = warehouse.read(f"select max(bar_start) as start from {UNCAPPED} where model = $model", {"model": model})  # noqa: S608 - our own names, values bound
    start: datetime | None = last["start"][0].as_py()
    return start


def forget_other_models(warehouse: Warehouse, table: str, models: list[str]) -> None:
    """Delete the results of models that the settings no longer name."""
    with warehouse.transaction(table) as connection:
        connection.execute(f"delete from {table} where not list_contains($models, model)", {"models": models})  # noqa: S608 - our own names, values bound


def looks(warehouse: Warehouse, model: str) -> tuple[int, int]:
    """How often the hold-out was looked at: with the latest version, and with all versions of the model.

    What one run of the pipeline plays under caps is part of the same look as what it plays without.
    """
    if not warehouse.has_table(LOOKS):
        return 0, 0
    counts = warehouse.read(
        f"""
        select count(*) filter (where version = latest), count(*)
        from (
            select versions[1] as version, arg_max(versions[1], looked_at) over () as latest
            from {LOOKS} where model = $model and results_table in $tables
        )
        """,  # noqa: S608 - our own names, values bound
        {"model": model, "tables": [UNCAPPED, COMPARED]},
    )
    latest, total = (column[0].as_py() for column in counts.columns)
    return latest, total


def _is_kept(warehouse: Warehouse, look: Look) -> bool:
    if not (warehouse.has_table(LOOKS) and warehouse.has_table(look.results_table)):
        return False
    last = warehouse.read(
        f"""
        select versions, data_snapshot, code from {LOOKS}
        where model = $model and results_table = $results_table
            and exists (from {look.results_table} where model = $model)
        order by looked_at desc limit 1
        """,  # noqa: S608 - our own names, values bound
        {"model": look.model, "results_table": look.results_table},
    ).to_pylist()
    # Models that played beside it and are no longer asked for do not spoil what it did.
    return any(
        (stored["data_snapshot"], stored["code"]) == (look.data_snapshot, look.code)
        and set(stored["versions"]) >= set(look.versions)
        and stored["versions"][0] == look.versions[0]
        for stored in last
    )
