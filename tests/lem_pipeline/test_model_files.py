"""Versions of unknown origin: whoever may write to a registry runs nothing in the pipeline that reads it."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
import torch
import yaml
from builders import random_orders, tiny_lem
from typer.testing import CliRunner

from lem_models.lem import LEM
from lem_pipeline.cli import app
from lem_pipeline.errors import UnknownVersionError, UntrustedVersionError
from lem_pipeline.settings import settings
from lem_pipeline.tracking import Tracking
from lem_pipeline.versions import load_version

NAME = "lem-crypto"
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
MARKS = "import pathlib; pathlib.Path({mark!r}).touch()\n"
MODULE = MARKS + "def _load_pyfunc(path): ...\n"
SCRIPT = (
    MARKS + "import mlflow\nclass Evil(mlflow.pyfunc.PythonModel):\n    def predict(self, context, model_input): ...\n"
)
STRANGERS = ("2", "3", "4")


class Pickled(mlflow.pyfunc.PythonModel):
    """Does something to whoever unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)

    def predict(self, context, model_input): ...


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("strangers")
    (folder / "small.toml").write_text(PROFILE.format(home=folder))
    (folder / "events.jsonl").touch()
    return folder


@pytest.fixture(scope="module")
def mark(home) -> Path:
    """Exists once a stranger's code has run."""
    return home / "ran"


@pytest.fixture(scope="module")
def tracking(home, mark) -> Tracking:
    """Version 1 is ours; 2 is a pickle, 3 a script, 4 has a module that loads it; 5 is ours with other code in it."""
    store = Tracking(home=str(home))

    def ours(model: LEM) -> Path:
        with store.run(NAME, {}):
            store.register(NAME, model, random_orders(2), {})
        return max(home.rglob("serving.py"), key=lambda path: path.stat().st_mtime_ns).parent

    ours(tiny_lem())
    script, module = home / "script.py", home / "evil_loader.py"
    script.write_text(SCRIPT.format(mark=str(mark)) + "mlflow.models.set_model(Evil())\n")
    module.write_text(MODULE.format(mark=str(mark)))
    for how in (
        {"python_model": Pickled(mark)},
        {"python_model": str(script)},
        {"loader_module": "evil_loader", "code_paths": [str(module)]},
    ):
        with store.run(NAME, {}):
            mlflow.pyfunc.log_model(name="model", registered_model_name=NAME, pip_requirements=[], **how)
    altered = ours(tiny_lem(seed=1))
    for file in (altered / "serving.py", altered / "code/lem_models/__init__.py"):
        file.write_text(MARKS.format(mark=str(mark)) + file.read_text())
    mark.unlink(missing_ok=True)  # logging a script runs it, here where it was written
    return store


@pytest.fixture(autouse=True)
def unmarked(tracking, mark, monkeypatch) -> Iterator[None]:
    """Whatever a test asks for, no stranger's code has run."""
    for name in ("LEM_PROFILE", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "put back afterwards")
    settings.cache_clear()
    yield
    settings.cache_clear()
    assert not mark.exists()


@pytest.mark.parametrize("number", [*STRANGERS, "5"])
def test_the_strangers_are_dangerous_to_whoever_loads_them_by_mlflow(tracking, mark, number, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "lem_models"]:
        monkeypatch.delitem(sys.modules, name)
    with suppress(Exception):  # what comes of it need not be a model
        mlflow.pyfunc.load_model(f"models:/{NAME}/{number}")
    assert mark.exists()
    mark.unlink()


@pytest.mark.parametrize("number", STRANGERS)
def test_a_stranger_is_refused_before_anything_of_it_runs(tracking, number):
    with pytest.raises(
        UntrustedVersionError, match=f"{NAME}/{number} was not registered by this pipeline, and nothing"
    ):
        load_version(tracking, f"{NAME}/{number}")
    with pytest.raises(UntrustedVersionError):
        tracking.load(NAME, number)


@pytest.mark.parametrize("number", STRANGERS)
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["compare", f"{NAME}/1", f"{NAME}@challenger"], 1),
        (["promote", NAME, "--version", "{number}", "--reason", "it looks wonderful"], 3),
        (["advise", "{home}/events.jsonl", "--model", f"{NAME}@challenger"], 1),
    ],
    ids=["compare", "promote", "advise"],
)
def test_no_command_runs_a_challenger_of_unknown_origin(home, tracking, number, command, code):
    tracking.client().set_registered_model_alias(NAME, "challenger", number)
    arguments = [part.format(number=number, home=home) for part in command]
    done = CliRunner().invoke(app, [*arguments, "--profile", str(home / "small.toml")])
    assert done.exit_code == code
    assert f"{NAME}/{number} was not registered by this pipeline" in done.output
    assert tracking.champion(NAME) is None


def test_code_that_was_put_into_a_version_of_ours_decides_nothing(tracking):
    orders = random_orders(4)
    assert torch.equal(load_version(tracking, f"{NAME}/5").served.schedule(orders), tiny_lem(seed=1).schedule(orders))


@pytest.mark.parametrize("place", ["../../../../small.toml", "/etc/passwd", "artifacts/other.pt"])
def test_a_description_that_points_elsewhere_is_refused(tracking, place):
    file = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/1/MLmodel"))
    text = file.read_text()
    description = yaml.safe_load(text)
    description["flavors"]["python_function"]["artifacts"]["weights"]["path"] = place
    file.write_text(yaml.safe_dump(description))
    try:
        with pytest.raises(UntrustedVersionError, match="was not registered by this pipeline"):
            load_version(tracking, f"{NAME}/1")
    finally:
        file.write_text(text)
    assert load_version(tracking, f"{NAME}/1").network.config == tiny_lem().config


@pytest.mark.parametrize("text", ["", "flavors: 3", "!!python/object/apply:os.system ['touch {mark}']", "\x00"])
def test_a_description_that_is_none_runs_nothing_and_is_said_not_to_load(tracking, mark, text):
    file = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/1/MLmodel"))
    before = file.read_text()
    file.write_text(text.format(mark=mark))
    try:
        with pytest.raises(UnknownVersionError, match=f"{NAME}/1 does not load: ") as caught:
            load_version(tracking, f"{NAME}/1")
    finally:
        file.write_text(before)
    assert os.linesep not in str(caught.value)
