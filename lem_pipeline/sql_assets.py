"""``sql/<schema>/<table>.sql`` becomes an asset, ``sql/checks/<schema>/<table>/<claim>.sql`` its blocking check."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import dagster as dg
import sqlglot
from sqlglot import expressions as sql

from lem_pipeline.columns import SHARED
from lem_pipeline.failures import explained
from lem_pipeline.storage import SCHEMAS, Warehouse, Written

SQL = Path(__file__).parents[1] / "sql"

Parameters = Mapping[str, Any]

FOLLOW = (
    dg.AutomationCondition.eager()
    # Months before the first bar of a source stay empty for ever.
    .without(~dg.AutomationCondition.any_deps_missing())
    & dg.AutomationCondition.all_deps_blocking_checks_passed()
).with_label("follow upstream tables that passed their checks")

DAILY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36), warn_window=timedelta(hours=26))


@dataclass(frozen=True)
class SqlFile:
    """One select statement and what its text says about itself.

    Attributes:
        path: The file. Its first line is a comment that states grain and meaning.
    """

    path: Path

    @cached_property
    def text(self) -> str:
        """The statement."""
        return self.path.read_text().strip()

    @cached_property
    def parsed(self) -> sql.Expr:
        """The statement, parsed."""
        return sqlglot.parse_one(self.text, read="duckdb")

    @property
    def table(self) -> str:
        """``schema.table`` of a table's file, or of the table that a check is about."""
        is_check = self.path.is_relative_to(SQL / "checks")
        place = self.path.parent if is_check else self.path.with_suffix("")
        return f"{place.parent.name}.{place.name}"

    @property
    def description(self) -> str:
        """The first comment line."""
        return self.text.splitlines()[0].removeprefix("--").strip()

    @property
    def code_version(self) -> str:
        """Changes whenever the text does."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    @property
    def upstreams(self) -> list[str]:
        """Tables the statement reads, ``schema.table``."""
        return sorted({f"{t.db}.{t.name}" for t in self.parsed.find_all(sql.Table) if t.db in SCHEMAS})

    @property
    def column_descriptions(self) -> dict[str, str]:
        """The comment behind each selected column; what the statement ends with counts, then what it is made of."""
        parts = reversed(list(self.parsed.find_all(sql.Select)))
        selects = [select for part in parts for select in part.selects]
        return {s.alias_or_name: " ".join(s.comments).strip() for s in selects if s.comments}

    def bind(self, parameters: Parameters) -> dict[str, Any]:
        """The parameters that the statement uses; DuckDB refuses the others."""
        used = {str(p.this) for p in self.parsed.find_all(sql.Placeholder)}
        return {name: value for name, value in parameters.items() if name in used}


def sql_files(folder: str) -> list[SqlFile]:
    """The statements of one schema, or of ``checks``."""
    return [SqlFile(path) for path in sorted((SQL / folder).rglob("*.sql"))]


def asset_key(table: str) -> dg.AssetKey:
    """``schema.table`` as an asset key."""
    return dg.AssetKey(table.split("."))


def table_metadata(columns: tuple[tuple[str, str], ...], rows: int, descriptions: Mapping[str, str]) -> dict[str, Any]:
    """Row count and column schema as the Dagster UI shows them; columns not described mean what they do elsewhere."""
    known = SHARED | dict(descriptions)
    schema = dg.TableSchema([dg.TableColumn(name, kind, known.get(name)) for name, kind in columns])
    return {"dagster/row_count": rows, "dagster/column_schema": schema}


def last_bar(table: Written) -> dict[str, str]:
    """Start of the last bar in a table that has bars, as the Dagster UI shows it."""
    return {"last_bar": f"{table.last_bar:%Y-%m-%d %H:%M} UTC"} if table.last_bar else {}


def sql_asset(
    file: SqlFile, parameters: Parameters, freshness: dg.FreshnessPolicy | None = None
) -> dg.AssetsDefinition:
    """The asset that replaces one table by the answer of its statement."""

    @dg.asset(
        key=asset_key(file.table),
        description=file.description,
        group_name=file.path.parent.name,
        deps=[asset_key(table) for table in file.upstreams],
        code_version=file.code_version,
        kinds={"duckdb", "sql"},
        pool="duckdb",
        automation_condition=FOLLOW,
        freshness_policy=freshness,
    )
    def table(warehouse: Warehouse) -> dg.MaterializeResult:
        with explained():
            written = warehouse.create_table(file.table, file.text, file.bind(parameters))
        return dg.MaterializeResult(
            metadata={
                **table_metadata(written.columns, written.rows, inherited_descriptions(file)),
                **last_bar(written),
                "sql": dg.MetadataValue.md(f"```sql\n{file.text}\n```"),
            }
        )

    return table


def inherited_descriptions(file: SqlFile) -> dict[str, str]:
    """A column without a comment means what it means upstream; where upstreams differ, all their meanings stand."""
    return {column: " / ".join(meanings) for column, meanings in _meanings(file).items()}


@lru_cache
def _meanings(file: SqlFile) -> dict[str, list[str]]:
    meanings: dict[str, list[str]] = {}
    for upstream in file.upstreams:
        path = SQL / f"{upstream.replace('.', '/')}.sql"
        for column, theirs in (_meanings(SqlFile(path)) if path.exists() else {}).items():
            known = meanings.setdefault(column, [])
            known += [meaning for meaning in theirs if meaning not in known]
    return meanings | {column: [meaning] for column, meaning in file.column_descriptions.items()}


def sql_check(file: SqlFile, parameters: Parameters) -> dg.AssetChecksDefinition:
    """The blocking check that no row breaks one rule; its statement selects the rows that do, with a reason."""

    @dg.asset_check(asset=asset_key(file.table), name=file.path.stem, description=file.description, blocking=True)
    def check(warehouse: Warehouse) -> dg.AssetCheckResult:
        with explained():
            offending = warehouse.read(file.text, file.bind(parameters))
        return check_result(len(offending), offending.slice(0, 10).to_pylist())

    return check


def check_result(count: int, examples: list[dict[str, Any]]) -> dg.AssetCheckResult:
    """Pass where nothing offends; else fail with the first reason and a few examples."""
    if not count:
        return dg.AssetCheckResult(passed=True, metadata={"offending_rows": 0})
    records = [dg.TableRecord({k: str(v) for k, v in row.items()}) for row in examples]
    return dg.AssetCheckResult(
        passed=False,
        description=f"{examples[0]['reason']} ({count} row{'s' if count > 1 else ''} offend)",
        metadata={"offending_rows": count, "examples": dg.MetadataValue.table(records)},
    )
