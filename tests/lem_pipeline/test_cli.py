"""Every command explains itself."""

import pytest
import typer
from typer.testing import CliRunner

from lem_pipeline.cli import app

COMMANDS = typer.main.get_command(app).commands


def test_the_commands_are_those_that_people_need() -> None:
    assert set(COMMANDS) == {
        *("demo", "run", "sweep", "report", "compare", "promote", "roll-back", "advise", "status", "doctor"),
        *("ui", "mlflow", "replay"),
    }
    assert "Exit codes: 0 done; 1 " in CliRunner().invoke(app, ["--help"], terminal_width=300).stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_says_what_it_does_and_shows_an_example(name: str) -> None:
    said = CliRunner().invoke(app, [name, "--help"], terminal_width=300).stdout
    assert f"Example: lem {name}" in said


def test_an_unknown_profile_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEM_PROFILE", "put back afterwards")
    done = CliRunner().invoke(app, ["status", "--profile", "nowhere"])
    assert done.exit_code == 1 and "FAILED  LEM_PROFILE is 'nowhere'; it must be one of" in done.stderr
