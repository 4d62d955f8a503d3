"""A registered model where there is nothing but what it says it needs: no pipeline, no repository, no other library."""

import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest
from builders import random_orders, tiny_lem
from packaging.requirements import Requirement

from lem_pipeline.tracking import Tracking

NAME = "lem-crypto"
SCRIPT = """
import sys
sys.path[:0] = sys.argv[4:]
import mlflow, numpy as np

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
example = dict(np.load(sys.argv[3]))
expected = example.pop("schedule")
assert (model.predict(example) == expected).all(), "another schedule than was registered"
own = [module.__file__ for name, module in sys.modules.items() if name.startswith("lem_")]
assert own and all("/code/lem_models/" in file for file in own), own
for name in ("lem_pipeline", "dagster", "duckdb", "lightning", "ccxt", "pydantic_settings"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(f"{name} can be imported: the environment is not bare")
print("the same to the last bit")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A registry with one version, whose lively weights decide nothing by default."""
    folder = tmp_path_factory.mktemp("bare")
    tracking = Tracking(home=str(folder))
    with tracking.run(NAME, {}):
        tracking.register(NAME, tiny_lem(), random_orders(4), {})
    return folder


def artifact(home: Path, name: str) -> Path:
    (found,) = home.rglob(name)
    return found


def run(home: Path, python: list[str], *places: Path) -> subprocess.CompletedProcess[str]:
    """Load the model from a folder that has nothing to do with it, with an environment that says nothing."""
    store = Tracking(home=str(home)).uri
    asked = [store, f"models:/{NAME}@challenger", str(artifact(home, "example.npz")), *map(str, places)]
    return subprocess.run(
        [*python, "-c", SCRIPT, *asked],
        cwd="/",
        env={"PATH": os.environ["PATH"], "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def needed(requirements: Iterable[str]) -> set[str]:
    """Names of the installed distributions that these ask for, and of all that those ask for."""
    found, waiting = set[str](), [*requirements]
    while waiting:
        asked = Requirement(waiting.pop())
        if asked.name not in found and (asked.marker is None or asked.marker.evaluate({"extra": ""})):
            found.add(asked.name)
            waiting += distribution(asked.name).requires or ()
    return found


def linked(names: Iterable[str], folder: Path) -> Path:
    """A folder of packages with the files of these distributions, and of no others."""
    for name in names:
        for file in distribution(name).files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                place = folder / file
                place.parent.mkdir(parents=True, exist_ok=True)
                if not place.exists():
                    place.symlink_to(file.locate())
    return folder


@pytest.mark.slow
def test_the_recorded_requirements_and_the_code_beside_it_are_all_that_a_model_needs(home, tmp_path):
    recorded = artifact(home, "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in recorded] == ["mlflow", "numpy", "torch"]
    packages = linked(needed(recorded), tmp_path / "packages")
    done = run(home, [sys._base_executable, "-I", "-S"], packages)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "the same to the last bit"


def test_recorded_versions_are_those_of_any_index(home):
    assert "+" not in artifact(home, "requirements.txt").read_text()


@pytest.mark.slow
@pytest.mark.skipif("LEM_BARE_ENVIRONMENT" not in os.environ, reason="make bare installs for minutes what it needs")
def test_a_fresh_environment_of_the_recorded_requirements_loads_the_model(home, tmp_path):
    python = tmp_path / "bare/bin/python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "bare")], check=True)
    requirements = str(artifact(home, "requirements.txt"))
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--requirement", requirements], check=True)
    done = run(home, [str(python), "-I"])
    assert done.returncode == 0, done.stdout + done.stderr
