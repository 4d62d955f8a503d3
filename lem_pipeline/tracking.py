"""MLflow: runs, and the model registry with its aliases."""

import hashlib
import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from filelock import FileLock

import lem_models
from lem_pipeline.addresses import opened, with_driver
from lem_pipeline.errors import LookAheadError, PromotionError, UnknownVersionError
from lem_pipeline.names import shown

if TYPE_CHECKING:
    import mlflow
    from mlflow.entities.model_registry import ModelVersion

    from lem_models.config import LEMConfig, TrainingConfig
    from lem_models.lem import LEM
    from lem_models.orders import OrderBatch

CHALLENGER, CHAMPION = "challenger", "champion"
_ready = set[str]()  # addresses of stores that have their tables
UNCHOSEN = {"snapshot", "seed", "features", "devices"}  # parameters of a run that nobody tunes


class Tracking(dg.ConfigurableResource):
    """An MLflow store: in a folder, SQLite for runs and registry and files for artifacts; or a database or a server.

    Attributes:
        home: The folder; ``mlflow.db`` and ``artifacts`` go into it.
        store: Address of a database or a server in the folder's place, without a password (``addresses.py``).
        artifacts: Where files of runs and models go then; None leaves it to the server.
    """

    home: str
    store: str | None = None
    artifacts: str | None = None

    @property
    def place(self) -> str:
        """Address of the store, for people: without a password."""
        return self.store or f"sqlite:///{Path(self.home).resolve() / 'mlflow.db'}"

    @property
    def uri(self) -> str:
        """Address of the store, for MLflow; it may hold a password."""
        return with_driver(opened(self.place))

    @property
    def exists(self) -> bool:
        """Whether anything was ever written into this store, or may have been."""
        return bool(self.store) or Path(self.home, "mlflow.db").is_file()

    def client(self) -> "mlflow.MlflowClient":
        """A client of this store; also points MLflow's global functions at it."""
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        import mlflow

        for name in ("mlflow", "alembic"):  # their news (migrations, versions created) reach users through Dagster
            logging.getLogger(name).setLevel(logging.WARNING)
        Path(self.home).mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        client = mlflow.MlflowClient(self.uri, self.uri)
        if self.uri not in _ready:
            with self._turn():  # the first question makes the store's tables
                client.search_experiments(max_results=1)
            _ready.add(self.uri)
        return client

    def _turn(self) -> FileLock:
        """Steps that begin at once would otherwise all make the same tables, or the same experiment."""
        return FileLock(Path(self.home) / "mlflow.db.lock")

    @contextmanager
    def run(self, experiment: str, tags: Mapping[str, str]) -> Iterator["mlflow.ActiveRun"]:
        """An MLflow run that ends FINISHED, or FAILED where the body raises."""
        import mlflow

        with mlflow.start_run(experiment_id=self._experiment(experiment), tags=dict(tags)) as run:
            yield run

    def _experiment(self, name: str) -> str:
        client = self.client()
        beside = None if self.store else (Path(self.home) / "artifacts").resolve().as_uri()
        with self._turn():
            found = client.get_experiment_by_name(name)
            return str(found.experiment_id if found else client.create_experiment(name, self.artifacts or beside))

    def begun(self, experiment: str, tags: Mapping[str, str]) -> str:
        """A run that other runs are children of, and that is open until :meth:`close_children`; its id."""
        return str(self.client().create_run(self._experiment(experiment), tags=dict(tags)).info.run_id)

    def close_children(self, experiment: str, parent: str) -> None:
        """End a run that has children, and those of them that died without a word."""
        client = self.client()
        running = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"
        for child in client.search_runs([self._experiment(experiment)], running, max_results=50_000):
            client.set_terminated(child.info.run_id, "KILLED")
        client.set_terminated(parent)

    def note_fit(
        self, experiment: str, tags: Mapping[str, str], parameters: Mapping[str, Any], history: list[dict[str, float]]
    ) -> None:
        """A run of its own for a fit that happened elsewhere and is not registered."""
        with self.run(experiment, tags):
            import mlflow

            mlflow.log_params(dict(parameters))
            for epoch, metrics in enumerate(history):
                mlflow.log_metrics(metrics, step=epoch)

    def configurations_tried(self, name: str) -> int:
        """How many configurations a model was trained with in this store, in sweeps or not, on any data."""
        client = self.client()
        found = [client.get_experiment_by_name(each) for each in (name, sweep_experiment(name))]
        if not (places := [each.experiment_id for each in found if each]):
            return 0
        tried = [run.data.params for run in client.search_runs(places, max_results=50_000) if run.data.params]
        return len({frozenset((k, v) for k, v in params.items() if k not in UNCHOSEN) for params in tried})

    def latest(self, name: str) -> "ModelVersion":
        """The version that was registered last.

        Raises:
            UnknownVersionError: None was.
        """
        with _registered(name):
            return self.client().get_model_version_by_alias(name, CHALLENGER)

    def champion(self, name: str) -> "ModelVersion | None":
        """The version that trades, if any does.

        Raises:
            UnknownVersionError: None was registered.
        """
        client = self.client()
        with _registered(name):
            version = client.get_registered_model(name).aliases.get(CHAMPION)
        return client.get_model_version(name, version) if version else None

    def crown(self, name: str, version: str) -> None:
        """Point alias ``champion`` at a version; ``promotion`` alone calls this, after the gates."""
        self.client().set_registered_model_alias(name, CHAMPION, version)

    def note_decision(self, name: str, version: str, at: datetime, sentence: str) -> None:
        """Tag a version with what was decided about it; every decision has a tag of its own."""
        self.client().set_model_version_tag(name, version, f"promotion.{at:%Y-%m-%dT%H:%M:%S.%fZ}", sentence)

    def describe(self, name: str, number: str, card: str) -> None:
        """Put a model card on a version, and beside its run."""
        client = self.client()
        version = client.update_model_version(name, number, card)
        client.log_text(str(version.run_id), card, "model_card.md")

    def version(self, name: str, number: str) -> "ModelVersion":
        """A registered version.

        Raises:
            PromotionError: There is none of that number.
        """
        versions = {str(v.version): v for v in self.versions(name)}
        if number not in versions:
            known = ", ".join(sorted(versions, key=int)) or "none"
            raise PromotionError(f"{name} has no version {shown(number)}; it has {known}")
        return versions[number]

    def versions(self, name: str) -> "list[ModelVersion]":
        """Every registered version of a model; none where the model was never registered."""
        return list(self.client().search_model_versions(f"name = '{name}'"))

    def registered(self, name: str, fingerprint: str) -> "ModelVersion | None":
        """The version of a model made from the same data, code and settings, if there is one."""
        return next((v for v in self.versions(name) if v.tags.get("fingerprint") == fingerprint), None)

    def register(self, name: str, model: "LEM", example: "OrderBatch", tags: Mapping[str, str]) -> "ModelVersion":
        """Log a model in the active run, register it and point alias ``challenger`` at the new version.

        Raises:
            LookAheadError: The model sees the bar it trades in.
        """
        if model.config.information_set != "causal":
            raise LookAheadError(
                f"{name} sees the bar it trades in (information_set {model.config.information_set!r}) and is not "
                "registered; train it with information_set 'causal', the default"
            )
        import mlflow

        from lem_pipeline import serving

        with tempfile.TemporaryDirectory() as folder:
            weights, config = Path(folder) / "weights.pt", Path(folder) / "config.json"
            serving.write(model, weights, config)
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=serving.__file__,
                artifacts={"weights": str(weights), "config": str(config)},
                code_paths=[str(Path(lem_models.__file__).parent)],
                signature=serving.signature(model.config),
                input_example=serving.as_input(example),
                pip_requirements=[requirement(package) for package in ("mlflow", "numpy", "torch")],
                registered_model_name=name,
            )
            _log_example(example, model, Path(folder))
        client = self.client()
        number = str(logged.registered_model_version)
        for key, value in tags.items():
            client.set_model_version_tag(name, number, key, value)
        client.set_registered_model_alias(name, CHALLENGER, number)
        return client.get_model_version(name, number)

    def load(self, name: str, version: str | None = None) -> "LEM":
        """The network of a registered version, the latest unless one is named; see :func:`read_version`."""
        from lem_pipeline.model_files import read_version

        return read_version(self.client().get_model_version(name, version) if version else self.latest(name))


def sweep_experiment(name: str) -> str:
    """The experiment of MLflow that the trials of a model are runs of."""
    return f"{name} sweep"


def requirement(package: str) -> str:
    """The installed version, as every index has it: a build such as ``2.13.0+cpu`` is found on few."""
    return f"{package}=={version(package).partition('+')[0]}"


@contextmanager
def _registered(name: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise UnknownVersionError(f"no version of {name} is registered yet; train it first, by job train") from error


def _log_example(example: "OrderBatch", model: "LEM", folder: Path) -> None:
    """Keep a few windows and their schedules, so that anyone can check a loaded model bit by bit."""
    import mlflow
    import numpy as np

    from lem_pipeline.serving import as_input

    path = folder / "example.npz"
    arrays = {"schedule": model.schedule(example).numpy(), **as_input(example)}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    mlflow.log_artifact(str(path))


def fingerprint(snapshot: str, model: "LEMConfig", training: "TrainingConfig") -> str:
    """What a model is made of: the same fingerprint, the same model."""
    parts = {"snapshot": snapshot, "code": model_code_hash(), "model": model.to_dict(), "training": training.made_of()}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def model_code_hash() -> str:
    """A hash of the source of ``lem_models``."""
    folder = Path(lem_models.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def code_version() -> str:
    """The git commit, marked where the tree differs from it; the package version outside a repository."""
    git = ["git", "-C", str(Path(lem_models.__file__).parents[1])]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)  # noqa: S603 - no shell, every argument ours
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)  # noqa: S603 - no shell, every argument ours
    except (OSError, subprocess.CalledProcessError):
        return f"{version('lem-pipeline')} (no git repository)"
    return commit.stdout.strip() + (" with uncommitted changes" if changed.stdout.strip() else "")
