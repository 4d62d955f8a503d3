"""What a registered version keeps, read as data: its weights and its recipe, and no line of the code beside them.

MLflow's own loader runs code of a version: a pickle, a module, the file that it was logged from. Whoever may write to
a registry could run theirs here, so the pipeline takes tensors and numbers from a version and decides by its own code.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lem_pipeline.errors import UnknownVersionError, UntrustedVersionError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from lem_models.lem import LEM

_LOADER, _CODE = "mlflow.pyfunc.loaders.code_model", "serving.py"  # what `Tracking.register` makes MLflow note
_FILES = {"weights": "artifacts/weights.pt", "config": "artifacts/config.json"}


def read_version(version: "ModelVersion") -> "LEM":
    """The network of a version, as the code of this checkout makes it.

    Raises:
        UntrustedVersionError: It is no version of this pipeline; only its description was read.
        UnknownVersionError: Its files are missing, damaged, or of code that this one cannot be reconciled with.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model

    from lem_pipeline.serving import read

    name = f"{version.name}/{version.version}"
    try:
        _refuse_strangers(name, Model.load(f"models:/{name}").flavors)
        files = {file: Path(download_artifacts(f"models:/{name}/{place}")) for file, place in _FILES.items()}
        return read(**files)
    except UntrustedVersionError:
        raise
    except Exception as error:  # whatever its files stumble over
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UnknownVersionError(f"{name} does not load: {reason}") from error


def _refuse_strangers(name: str, flavors: dict[str, Any]) -> None:
    flavor = flavors.get("python_function", {})
    loader, code = flavor.get("loader_module"), Path(flavor.get("model_code_path", "")).name
    files = {file: each["path"] for file, each in flavor.get("artifacts", {}).items()}
    if (len(flavors), loader, code, files) != (1, _LOADER, _CODE, _FILES):
        what = flavor.get("python_model") or code or loader or "another flavour"
        raise UntrustedVersionError(
            f"{name} was not registered by this pipeline, and nothing of it was run (MLflow would run its {what}); "
            "train the model, or register it anew"
        )
