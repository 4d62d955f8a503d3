"""Whatever this project serves, it serves to this computer alone."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from servers import free_port, is_open, served, wait_for

from lem_pipeline.replay.server import ReplayServer

ELSEWHERE = "127.0.0.2"  # reaches whoever listens on every address of this computer, and nobody on 127.0.0.1 alone
PROFILE = """
home = "{home}"

[models]
lem-crypto = ["crypto"]

[crypto]
instruments = ["BTC/USDT"]
start = "2024-01-01"
end = "2024-06-01"
bars = {{ source = "simulated", origin = "2024-01-01" }}
"""


@pytest.fixture(autouse=True)
def reachable() -> None:
    """Without it the tests below could not fail."""
    with socket.socket() as everywhere:
        everywhere.bind(("", 0))
        everywhere.listen()
        if not is_open(ELSEWHERE, everywhere.getsockname()[1]):
            pytest.skip(f"this computer has no {ELSEWHERE}")


def test_the_replay_listens_on_this_computer_alone():
    with ReplayServer({}) as server:
        port = int(server.url.rpartition(":")[2])
        assert is_open("127.0.0.1", port) and not is_open(ELSEWHERE, port)


@pytest.fixture(scope="module")
def ports(tmp_path_factory) -> Iterator[dict[str, int]]:
    """Both user interfaces, started as a user starts them, each as a group of processes of its own."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "small.toml").write_text(PROFILE.format(home=folder))
    ports = {"ui": free_port(), "mlflow": free_port()}
    with ExitStack() as at_the_end:
        for command, port in ports.items():
            arguments = [command, "--profile", str(folder / "small.toml"), "--port", str(port)]
            log = folder / f"{command}.log"
            at_the_end.enter_context(served("lem_pipeline.cli", arguments, log, {"OMP_NUM_THREADS": "1"}))
        yield ports


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ui", "mlflow"])
def test_a_user_interface_listens_on_this_computer_alone(ports, command):
    wait_for(ports[command])
    assert not is_open(ELSEWHERE, ports[command])
