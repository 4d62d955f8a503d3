"""The ledger of drift: what was found, once per champion and kind of drift; each finding asks for one training."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa

from lem_pipeline.storage import Warehouse

FINDINGS = "results.drift_findings"
FINDINGS_SCHEMA = pa.schema(
    {
        "found_at": pa.timestamp("us", tz="UTC"),
        **dict.fromkeys(("model", "version", "kind"), pa.string()),
        "last_day": pa.date32(),
        **dict.fromkeys(("reason", "run"), pa.string()),
    }
)
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


def note_findings(warehouse: Warehouse, kind: str, judged: Sequence[dict[str, Any]], days: int, run: str) -> None:
    """Add what has drifted to the ledger; a drift that lasts is found again once no day is left that it was found by.

    Args:
        warehouse: Keeps the ledger.
        kind: features or edge.
        judged: Rows of `drift`, model by model.
        days: How many of the newest days they are judged by.
        run: Dagster's name of the run.
    """
    drifted = [row for row in judged if row["is_drift"]]
    for (model, version), grouped in groupby(drifted, itemgetter("model", "version")):
        rows = list(grouped)
        last_day = max(row["last_day"] for row in rows)
        key = {"model": model, "version": version, "kind": kind}
        known = [row["last_day"] for row in findings(warehouse) if key.items() <= row.items()]
        if all(day <= last_day - timedelta(days=days) for day in known):
            told = {"last_day": last_day, "reason": "; ".join(row["reason"] for row in rows), "run": run}
            found = {"found_at": datetime.now(UTC), **key, **told}
            warehouse.append(FINDINGS, pa.Table.from_pylist([found], FINDINGS_SCHEMA))


def findings(warehouse: Warehouse, since: datetime = _ALWAYS) -> list[dict[str, Any]]:
    """What was found after a moment, the oldest first."""
    if not warehouse.has_table(FINDINGS):
        return []
    found = warehouse.read(f"from {FINDINGS} where found_at > $since order by found_at", {"since": since})
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows
