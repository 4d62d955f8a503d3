"""The compose file of a team: everything in it is defined, and its commands and variables are those of the programs."""

import re
from typing import Any

import click
import pytest
from team import COMPOSE, REPOSITORY

from lem_pipeline.reference.settings import reference
from lem_pipeline.settings import Settings

SERVICES: dict[str, Any] = COMPOSE["services"]
TEXT = (REPOSITORY / "compose.yaml").read_text()
OURS = [name for name, service in SERVICES.items() if service["image"] == "lem-pipeline"]
SECRETS = {"POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def variables(value: str) -> list[tuple[str, str]]:
    """Names, and what follows them."""
    return re.findall(r"\$\{([A-Z_]+)([^}]*)\}", value)


def filled(value: str) -> str:
    """A value as a container sees it, where every variable is called ``secret`` or has its default."""
    return re.sub(r"\$\{[A-Z_]+(?::-([^}]*)|[^}]*)\}", lambda found: found[1] or "secret", value)


def test_every_service_volume_and_file_that_is_named_is_there():
    for name, service in SERVICES.items():
        for other, waits in service.get("depends_on", {}).items():
            assert other in SERVICES, name
            if waits["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], f"{name} waits for {other} for ever"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (REPOSITORY / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], name
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert COMPOSE["volumes"].keys() <= used
    assert {"postgres", "objects", "code", "webserver", "daemon", "mlflow", "ray-head", "ray-worker"} <= SERVICES.keys()


def test_whatever_stays_up_starts_again_and_says_whether_it_is_well():
    for name in SERVICES.keys() - {"bucket"}:
        assert SERVICES[name]["restart"] == "unless-stopped", name
        assert name == "ray-worker" or SERVICES[name]["healthcheck"]["test"][0] == "CMD", name


def test_ports_are_open_on_the_host_alone():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in ports)


def test_no_secret_is_written_and_none_may_be_left_out():
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", (REPOSITORY / ".env.example").read_text(), re.MULTILINE))
    assert example == dict.fromkeys(SECRETS, "")
    used = dict.fromkeys(name for name, _ in variables(TEXT))
    demanded = {name for name, rest in variables(TEXT) if rest.startswith(":?")}
    defaulted = {name for name, rest in variables(TEXT) if rest.startswith(":-")}
    assert demanded == SECRETS and used.keys() == demanded | defaulted
    assert ".env" in (REPOSITORY / ".gitignore").read_text().split()
    assert ".env" in (REPOSITORY / ".dockerignore").read_text().split()
    for address in re.findall(r"://[^\s@]*@", TEXT):
        assert re.fullmatch(r"://lem:\$\{POSTGRES_PASSWORD[^}]*\}@", address), address


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_a_program_is_one_that_is_read_and_has_a_value_that_is_taken(name, monkeypatch):
    given = {variable: filled(str(value)) for variable, value in SERVICES[name]["environment"].items()}
    known = {*re.findall(r"LEM_[A-Z0-9_]+", reference()), "LEM_PROFILE"}
    assert {variable for variable in given if variable.startswith("LEM_")} <= known
    others = {variable for variable in given if not variable.startswith(("LEM_", "AWS_", "MLFLOW_"))}
    assert others == {"DAGSTER_POSTGRES_URL"}
    assert "env: DAGSTER_POSTGRES_URL" in (REPOSITORY / "lem_pipeline/dagster_postgres.yaml").read_text()
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    chosen = Settings()
    assert chosen.lake and chosen.tracking.store and chosen.dagster.store
    assert chosen.lake.catalog.get_secret_value() == "postgresql://lem:secret@postgres:5432/lake"
    assert chosen.s3.environment().keys() == {variable for variable in given if variable.startswith("AWS_")}


def programs() -> dict[str, click.Command]:
    import dagster._cli
    import dagster._daemon.cli
    import dagster_webserver.cli
    import mlflow.cli
    import ray.scripts.scripts

    return {
        "dagster": dagster._cli.create_dagster_cli(),
        "dagster-daemon": dagster._daemon.cli.create_dagster_daemon_cli(),
        "dagster-webserver": dagster_webserver.cli.dagster_webserver,
        "mlflow": mlflow.cli.cli,
        "ray": ray.scripts.scripts.cli,
    }


def test_every_command_is_one_that_its_program_understands():
    known = programs()
    checks = [service["healthcheck"]["test"][1:] for service in SERVICES.values() if "healthcheck" in service]
    commands = [SERVICES[name]["command"] for name in OURS] + [check for check in checks if check[0] in known]
    assert len(commands) > 8
    for program, *arguments in commands:
        understood(known[program], arguments)
    with pytest.raises(click.UsageError):
        understood(known["ray"], ["start", "--no-such-option"])


def understood(command: click.Command, arguments: list[str]) -> None:
    """Parse arguments without doing anything; a group of commands leaves the rest to one of them."""
    while isinstance(command, click.Group):
        name, *arguments = arguments
        found = command.get_command(click.Context(command), name)
        assert found, name
        command = found
    command.make_context(command.name, list(arguments))
