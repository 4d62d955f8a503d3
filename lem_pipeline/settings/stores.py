"""Where tables, models and histories are kept, once several computers share them."""

import os
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from lem_pipeline.settings.strict import Strict


def _of_postgres(address: SecretStr) -> SecretStr:
    if not _is_postgres(address.get_secret_value()):
        raise ValueError("the address of a database is postgresql://user:password@host:port/database")
    return address


def _of_mlflow(address: SecretStr) -> SecretStr:
    parts = urlsplit(address.get_secret_value())
    if not (_is_postgres(address.get_secret_value()) or (parts.scheme in ("http", "https") and parts.hostname)):
        raise ValueError("MLflow's store is postgresql://user:password@host:port/database, or http:// and its server")
    return address


def _is_postgres(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme == "postgresql" and len(parts.path) > 1 and "'" not in address


PostgresAddress = Annotated[SecretStr, AfterValidator(_of_postgres)]  # it may hold a log-in
MlflowAddress = Annotated[SecretStr, AfterValidator(_of_mlflow)]


class S3Settings(Strict):
    """The object store of a lake and of MLflow's files; what is left out is read from the usual variables.

    Attributes:
        endpoint: Its address, such as ``http://objects:8333``; ``AWS_ENDPOINT_URL``, and without either Amazon's own.
        region: Its region; ``AWS_REGION`` or ``AWS_DEFAULT_REGION``, else ``us-east-1``.
        key: Who asks; ``AWS_ACCESS_KEY_ID``.
        secret: What proves it; ``AWS_SECRET_ACCESS_KEY``.
        url_style: Whether a bucket is named in the path or in the host of an address.
    """

    endpoint: str | None = Field(default=None, pattern="^https?://[^'/]+/?$")
    region: str | None = Field(default=None, pattern="^[a-z0-9-]+$")
    key: SecretStr | None = None
    secret: SecretStr | None = None
    url_style: Literal["path", "vhost"] = "path"

    def environment(self) -> dict[str, str]:
        """The variables that every client of such a store knows, as far as they are set here or there."""
        ours = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.key and self.key.get_secret_value(),
            "AWS_SECRET_ACCESS_KEY": self.secret and self.secret.get_secret_value(),
        }
        usual = {"AWS_DEFAULT_REGION": os.environ.get("AWS_REGION", "us-east-1"), **os.environ}
        found = {name: value or usual.get(name) for name, value in ours.items()}
        return {name: value for name, value in found.items() if value}


class LakeSettings(Strict):
    """Tables of many writers: Parquet files in a place that all reach, their catalog in PostgreSQL.

    Attributes:
        catalog: The database of the catalog, ``postgresql://user:password@host:port/database``.
        data: Where the files go: ``s3://bucket/prefix``, or a folder that every computer has under the same name.
    """

    catalog: PostgresAddress
    data: str = Field(pattern="^[^']+$")


class TrackingSettings(Strict):
    """MLflow's store; without it, a SQLite file and a folder in the home.

    Attributes:
        store: A database, ``postgresql://...``, or the address of an MLflow server.
        artifacts: Where models and files of runs go, such as ``s3://bucket/prefix``; a server chooses for itself.
    """

    store: MlflowAddress | None = None
    artifacts: str | None = None

    @model_validator(mode="after")
    def _a_database_needs_a_place_for_files(self) -> Self:
        if self.store and self.store.get_secret_value().startswith("postgresql") and not self.artifacts:
            raise ValueError("with a database as store, artifacts has to say where files go, as in s3://bucket/mlflow")
        return self


class DagsterSettings(Strict):
    """Dagster's own state; without it, files in the home.

    Attributes:
        store: The database of runs, events and schedules, ``postgresql://user:password@host:port/database``.
    """

    store: PostgresAddress | None = None
