"""What a SQL file says about itself, and how it becomes an asset with blocking checks."""

import re
from pathlib import Path

import dagster as dg
import pytest
from warehouses import FEATURES, PARAMETERS, WINDOWS, build, execute, hourly, with_raw_tables

from lem_pipeline.sql_assets import SQL, SqlFile, asset_key, sql_asset, sql_check, sql_files, table_metadata
from lem_pipeline.storage import SCHEMAS, Warehouse

TABLE_FILES = {file.table: file for schema in SCHEMAS for file in sql_files(schema)}
CHECK_FILES = {f"{file.table}/{file.path.stem}": file for file in sql_files("checks")}


def sql_file(folder: Path, text: str, name: str = "features/some_table.sql") -> SqlFile:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return SqlFile(path)


def test_a_table_is_called_as_its_folder_and_file():
    assert set(TABLE_FILES) >= {
        "staging.crypto_bars",
        "staging.dow_bars",
        "bars.market_bars",
        "features.bar_features",
        "windows.order_windows",
    }
    assert asset_key("features.bar_features") == dg.AssetKey(["features", "bar_features"])


def test_a_check_is_about_the_table_of_its_folders():
    check = CHECK_FILES["windows.order_windows/splits_share_no_bar"]
    assert check.path.relative_to(SQL).parts == ("checks", "windows", "order_windows", "splits_share_no_bar.sql")


def test_a_table_is_called_as_its_folder_and_file_wherever_the_repository_lies():
    assert SqlFile(Path("/home/me/checks/repository/sql/features/bar_features.sql")).table == "features.bar_features"


@pytest.mark.parametrize(
    ("table", "upstreams"),
    [
        ("staging.crypto_bars", ["raw.crypto_bars"]),
        ("staging.dow_bars", ["raw.dow_bars", "raw.nyse_sessions"]),
        ("bars.market_bars", ["staging.crypto_bars", "staging.dow_bars"]),
        ("features.bar_features", ["bars.market_bars"]),
        ("quality.completeness", ["quality.expected_bars", "quality.gap_ledger"]),
        ("windows.order_windows", ["features.bar_features", "quality.gap_ledger", "raw.dow_members"]),
    ],
)
def test_upstreams_are_the_tables_a_statement_reads(table, upstreams):
    assert TABLE_FILES[table].upstreams == upstreams


def test_upstreams_are_found_in_subqueries_and_joins_and_common_table_expressions_are_none(tmp_path):
    text = """
        -- One row per something.
        with features as (select * from features.bar_features)
        select *, (select count(*) from results.order_results) as orders
        from features
        left join (from bars.market_bars) as bars using (symbol)
        where symbol in (select symbol from elsewhere.symbols) -- not from raw.crypto_bars
    """
    assert sql_file(tmp_path, text).upstreams == ["bars.market_bars", "features.bar_features", "results.order_results"]


@pytest.mark.parametrize("name", [*TABLE_FILES, *CHECK_FILES])
def test_the_first_line_of_a_file_states_its_meaning(name):
    file = TABLE_FILES.get(name) or CHECK_FILES[name]
    first = file.path.read_text().splitlines()[0]
    assert first.startswith("-- ")
    assert file.description == first[3:]
    assert len(file.description) > 20


@pytest.mark.parametrize("table", TABLE_FILES)
def test_a_table_file_is_one_select_statement_whose_first_line_states_its_grain(table):
    file = TABLE_FILES[table]
    assert file.description.startswith("One row per ")
    assert not re.search(r"\b(create|insert|update|delete|drop)\b", re.sub(r"--.*", "", file.text), re.IGNORECASE)


@pytest.mark.parametrize("file", [FEATURES, WINDOWS], ids=["features", "windows"])
def test_every_column_is_described(file, tmp_path):
    warehouse = build(tmp_path, hourly(50))
    written = warehouse.create_table(file.table, file.text, file.bind(PARAMETERS))
    for name, _ in written.columns:
        assert len(file.column_descriptions.get(name, "")) > 5, name


@pytest.mark.parametrize("file", [FEATURES, WINDOWS], ids=["features", "windows"])
def test_a_description_is_the_comment_behind_its_column(file):
    final_select = file.text[file.text.rindex("\nselect") :]
    behind = dict(re.findall(r"(\w+),? -- (.+)$", final_select, re.MULTILINE))
    assert behind
    assert {name: file.column_descriptions[name] for name in behind} == behind


def test_a_parameter_is_bound_only_where_it_is_used(tmp_path):
    assert FEATURES.bind(PARAMETERS) == {name: PARAMETERS[name] for name in ("horizon", "crypto_bar_minutes")}
    assert set(WINDOWS.bind(PARAMETERS)) == {
        "lookback",
        "horizon",
        "train",
        "validation",
        "dow_members_only",
        "unseen_symbols",
    }
    assert set(TABLE_FILES["staging.crypto_bars"].bind(PARAMETERS)) == {
        "crypto_source_bar_minutes",
        "crypto_bar_minutes",
    }
    assert TABLE_FILES["staging.dow_bars"].bind(PARAMETERS) == {}
    file = sql_file(tmp_path, "-- One row.\nselect $lookback + $lookback as twice, '$horizon' as text -- $train")
    assert file.bind(PARAMETERS) == {"lookback": PARAMETERS["lookback"]}


def test_the_code_version_changes_with_the_text_alone(tmp_path):
    text = "-- One row.\nselect 1 as one"
    one = sql_file(tmp_path, text)
    other_place = sql_file(tmp_path, text + "\n", "bars/other_table.sql")
    other_text = sql_file(tmp_path, text + " where true", "bars/third_table.sql")
    assert one.code_version == other_place.code_version != other_text.code_version


def test_row_count_and_columns_are_shown_with_their_descriptions():
    metadata = table_metadata((("close", "DOUBLE"), ("other", "BIGINT")), 7, {"close": "Last price"})
    assert metadata["dagster/row_count"] == 7
    columns = metadata["dagster/column_schema"].columns
    assert [(c.name, c.type, c.description) for c in columns] == [
        ("close", "DOUBLE", "Last price"),
        ("other", "BIGINT", None),
    ]


def materialized(warehouse: Warehouse, *files: SqlFile, check: str | None = None) -> dg.ExecuteInProcessResult:
    checks = [sql_check(CHECK_FILES[check], PARAMETERS)] if check else []
    assets = [sql_asset(file, PARAMETERS) for file in files]
    return dg.materialize([*assets, *checks], resources={"warehouse": warehouse}, raise_on_error=False)


@pytest.fixture
def warehouse(tmp_path) -> Warehouse:
    return with_raw_tables(tmp_path, hourly(60))


CHAIN = [TABLE_FILES[table] for table in ("staging.crypto_bars", "staging.dow_bars", "bars.market_bars")]
UNIQUE = "bars.market_bars/one_row_per_bar"


def test_assets_replace_their_tables_and_tell_what_is_in_them(warehouse):
    result = materialized(warehouse, *CHAIN, FEATURES, check=UNIQUE)
    assert result.success
    (event,) = result.asset_materializations_for_node("bars__market_bars")
    assert event.metadata["dagster/row_count"].value == 120
    columns = {c.name: c.description for c in event.metadata["dagster/column_schema"].value.columns}
    assert columns["asset_class"] == "Family of instruments that trade on one clock"
    # A column that is passed on means what it means where it comes from.
    assert columns["taker_buy_volume"].startswith(("Units bought", "Shares bought"))
    assert "select" in event.metadata["sql"].value
    assert [evaluation.passed for evaluation in result.get_asset_check_evaluations()] == [True]
    assert warehouse.has_table("features.bar_features")


def test_a_failing_check_blocks_what_is_downstream(warehouse):
    execute(warehouse, "insert into raw.crypto_bars from raw.crypto_bars where bar_start = '2024-01-02 05:00:00+00'")
    result = materialized(warehouse, *CHAIN, FEATURES, check=UNIQUE)
    assert not result.success
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.blocking and not evaluation.passed
    assert evaluation.description.startswith("the bar is stored 2 times; ingest its month again")
    assert evaluation.description.endswith("(2 rows offend)")
    assert warehouse.has_table("bars.market_bars")
    assert not warehouse.has_table("features.bar_features")


def test_a_locked_warehouse_fails_an_asset_with_its_sentence_alone(warehouse):
    impatient = Warehouse(path=warehouse.path, patience_s=0.1)
    with warehouse.connection():
        result = materialized(impatient, CHAIN[0])
    failure = result.failure_data_for_node("staging__crypto_bars")
    assert failure is not None and failure.user_failure_data is not None
    assert failure.user_failure_data.description.startswith(f"another run has kept {warehouse.path} busy")
