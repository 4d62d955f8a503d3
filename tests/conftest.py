"""Fixtures that more than one test file needs."""

import os
import socket
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as commands set it; read by torch when it is imported


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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


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
