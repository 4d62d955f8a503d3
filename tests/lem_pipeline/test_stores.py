"""Which stores the settings choose, and that none of their passwords is shown."""

import os
import traceback

import pytest

from lem_pipeline.errors import ConfigurationError
from lem_pipeline.lake import Lake, s3_secret
from lem_pipeline.main_job import dagster_home
from lem_pipeline.settings import Settings, settings
from lem_pipeline.stores import tracking_of, warehouse_of

PASSWORD, KEY = "tr0ub4dor-s3cret", "s3cret-k3y"
TEAM = {
    "LEM_LAKE__CATALOG": f"postgresql://lem:{PASSWORD}@db.test:5432/lake",
    "LEM_LAKE__DATA": "s3://lem/lake",
    "LEM_TRACKING__STORE": f"postgresql://lem:{PASSWORD}@db.test:5432/mlflow",
    "LEM_TRACKING__ARTIFACTS": "s3://lem/mlflow",
    "LEM_DAGSTER__STORE": f"postgresql://lem:{PASSWORD}@db.test:5432/dagster",
    "LEM_S3__SECRET": KEY,
}


@pytest.fixture(autouse=True)
def this_environment_alone(monkeypatch, tmp_path):
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LEM_HOME", str(tmp_path))
    settings.cache_clear()
    yield
    settings.cache_clear()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def of_a_team(monkeypatch) -> Settings:
    for name, value in TEAM.items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_without_a_word_about_it_everything_is_in_the_home(tmp_path):
    chosen = Settings()
    assert not isinstance(warehouse_of(chosen), Lake)
    assert warehouse_of(chosen).path == str(tmp_path / "warehouse.duckdb")
    assert tracking_of(chosen).uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert "postgres" not in (dagster_home(chosen.home, chosen.dagster.store) / "dagster.yaml").read_text()


def test_stores_are_opened_with_their_passwords_and_shown_without(of_a_team):
    lake, tracking = warehouse_of(of_a_team), tracking_of(of_a_team)
    assert isinstance(lake, Lake)
    assert tracking.uri == f"postgresql+psycopg2://lem:{PASSWORD}@db.test:5432/mlflow"
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == KEY
    shown = (repr(of_a_team), of_a_team.model_dump_json(), repr(lake), repr(tracking), lake.place, tracking.place)
    for text in shown:
        assert PASSWORD not in text and KEY not in text


def test_the_file_of_dagster_names_its_database_by_a_variable(of_a_team):
    text = (dagster_home(of_a_team.home, of_a_team.dagster.store) / "dagster.yaml").read_text()
    assert "env: DAGSTER_POSTGRES_URL" in text and "default_limit: 1" in text and PASSWORD not in text
    assert os.environ["DAGSTER_POSTGRES_URL"] == f"postgresql+psycopg2://lem:{PASSWORD}@db.test:5432/dagster"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("LEM_LAKE__CATALOG", f"mysql://lem:{PASSWORD}@db.test/lake", "the address of a database is postgresql://"),
        ("LEM_DAGSTER__STORE", f"postgresql://lem:{PASSWORD}@db.test", "the address of a database is postgresql://"),
        ("LEM_TRACKING__STORE", f"file:///{PASSWORD}", "MLflow's store is postgresql://"),
        ("LEM_TRACKING__ARTIFACTS", "", ""),
    ],
)
def test_an_address_that_is_refused_is_not_quoted(of_a_team, monkeypatch, name, value, reason):
    if value:
        monkeypatch.setenv(name, value)
    else:
        monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match=reason or "artifacts has to say where files go") as told:
        settings()
    assert PASSWORD not in "".join(traceback.format_exception(told.value))


def test_keys_of_the_object_store_are_those_of_the_environment_unless_set(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "theirs")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert Settings().s3.environment() == {"AWS_ACCESS_KEY_ID": "theirs", "AWS_DEFAULT_REGION": "eu-central-1"}
    monkeypatch.setenv("LEM_S3__KEY", "ours")
    monkeypatch.setenv("LEM_S3__ENDPOINT", "http://objects.test:8333")
    found = Settings().s3.environment()
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_ENDPOINT_URL"]) == ("ours", "http://objects.test:8333")


def test_a_quote_in_a_key_ends_no_statement(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "it's; drop")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://objects.test:8333")
    assert "'it''s; drop'" in s3_secret("path") and "use_ssl false" in s3_secret("path")


def test_a_transaction_on_a_lake_names_its_tables(of_a_team):
    with pytest.raises(ValueError, match="has to name the tables"), warehouse_of(of_a_team).transaction():
        pass
