"""Fixtures that more than one test file needs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from servers import free_port

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as commands set it; read by torch when it is imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first, so that nobody waits for one at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True, scope="module")
def no_store_of_another_file() -> Iterator[None]:
    """MLflow hands its last store on, to other tests of the process and to the processes that they start."""
    yield
    if mlflow := sys.modules.get("mlflow"):
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
        os.environ.pop("MLFLOW_REGISTRY_URI", None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recorded market data: LEM_SHARED_DATA, else ``shared/data`` beside the repository."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LEM_SHARED_DATA", beside))
    if not (folder / "payloads").is_dir():
        pytest.skip(f"no recorded payloads in {folder}; LEM_SHARED_DATA can name another folder")
    return folder


@pytest.fixture
def closed_port() -> str:
    """An address at which nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def unthrottled(monkeypatch: pytest.MonkeyPatch) -> None:
    """ccxt's own pauses between requests, up to more than a second, are left out."""
    monkeypatch.setattr("ccxt.Exchange.throttle", lambda *_: None)


@pytest.fixture(scope="module")
def no_remembered_zones(tmp_path_factory: pytest.TempPathFactory) -> None:
    """yfinance keeps zones and cookies in a folder; one that cannot exist leaves it without memory."""
    import yfinance

    file = tmp_path_factory.mktemp("yfinance") / "file"
    file.touch()
    yfinance.set_tz_cache_location(str(file / "folder"))


# The profile of `make demo`, small enough for tests.
SMALL_DEMO = {
    "LEM_CRYPTO__INSTRUMENTS": '["BTC/USDT", "ETH/USDT"]',
    "LEM_CRYPTO__END": "2024-03-15",
    "LEM_DOW__INSTRUMENTS": '["AAPL", "IBM"]',
    "LEM_DOW__END": "2020-06-01",
    "LEM_MODEL__LOOKBACK": "8",
    "LEM_MODEL__WIDTH": "8",
    "LEM_MODEL__ATTENTION_HEADS": "2",
    "LEM_MODEL__MEMORY_WIDTH": "4",
    "LEM_MODEL__HEAD_WIDTH": "8",
    "LEM_TRAINING__BATCH_SIZE": "16",
    "LEM_TRAINING__BATCHES_PER_EPOCH": "2",
    "LEM_TRAINING__MAX_EPOCHS": "1",
    "LEM_TRAINING__VALIDATION_ORDERS": "16",
}


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the main job of a small demo has run; its home is ``var/demo``. Copy it before changing it."""
    workers = "PYTEST_XDIST_WORKER" in os.environ
    folder = (tmp_path_factory.getbasetemp().parent if workers else tmp_path_factory.getbasetemp()) / "demo"
    finished = folder.with_suffix(".finished")
    with FileLock(folder.with_suffix(".lock")):  # whichever worker needs it first makes it for all
        if not finished.exists():
            folder.mkdir(exist_ok=True)
            _run_small_demo(folder)
            finished.touch()
    return folder


def _run_small_demo(folder: Path) -> None:
    environment = {**os.environ, **SMALL_DEMO, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "lem_pipeline.cli", "run", "--profile", "demo"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def as_in_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings that the small demo ran with."""
    for name, value in SMALL_DEMO.items():
        monkeypatch.setenv(name, value)
