"""The registered model: what ``mlflow.pyfunc.load_model("models:/lem-crypto@challenger")`` gives back.

MLflow runs this file as it is ("models from code"), with ``lem_models`` beside it: it imports nothing of the pipeline.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, Schema, TensorSpec

from lem_models.config import LEMConfig
from lem_models.lem import LEM
from lem_models.orders import SCENARIOS, MarketPath, OrderBatch

_POSITIVE = ("arrival", "price", "close", "volatility")
_NOT_NEGATIVE = ("volume", "expected_volume")
_HASH = "weights_sha256"
_REMEDY = "repeat the last known bar for bars to come"


class RefusedError(MlflowException, ValueError):
    """Input that no market shows, or a model that must not be served; MLflow's server answers it with status 400."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(sentence, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """The sentence, and nothing before it."""
        return self.sentence

    @message.setter
    def message(self, _: str) -> None:
        """MLflow's server would put all of the input before it."""


class ServedLEM(PythonModel):
    """Slices order windows with a trained LEM.

    Input is a dictionary of float32 arrays: ``features`` (B, L + H − 1, F), ``arrival`` (B,) and ``price``, ``close``,
    ``volume``, ``volatility``, ``expected_volume``, each (B, H). Output is the schedule, (B, 8, H, H): scenario,
    minimum duration − 1, bar. A child order depends on no price and no volume of its own bar or later ones, so an order
    under way is served by repeating the last known bar for those to come: they need prices, a volatility and some
    volume, as a bar without volume takes nothing.
    """

    model: LEM

    def load_context(self, context: Any) -> None:
        """Read configuration and weights; see :func:`read`."""
        self.model = read(*(Path(context.artifacts[name]) for name in ("weights", "config")))

    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> np.ndarray:
        """Fractions of the parent order per bar, summing to one; see :func:`answer`."""
        # MLflow warns about every type hint that it cannot turn into a schema; arrays are the one it leaves alone.
        return answer(self.model, cast(dict[str, np.ndarray], model_input))


def answer(model: LEM, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """What the registered model gives back.

    Raises:
        RefusedError: The arrays hold what no market shows.
    """
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise RefusedError(f"{name} holds a value that is not finite; {_REMEDY}")
        if name in _POSITIVE and not (tensor > 0).all():
            raise RefusedError(f"{name} holds {tensor.min():g}, and must be positive; {_REMEDY}")
        if name in _NOT_NEGATIVE and (tensor < 0).any():
            raise RefusedError(f"{name} holds {tensor.min():g}, and cannot be negative; {_REMEDY}")
    return model.schedule(OrderBatch(tensors.pop("features"), MarketPath(**tensors))).numpy()


def read(weights: Path, config: Path) -> LEM:
    """The model that :func:`write` wrote; weights are tensors alone, no code is loaded.

    Raises:
        RefusedError: The weights are not those that were registered, other code made them, or the model was made to
            see the bar it trades in, which nobody can serve.
    """
    recipe = json.loads(config.read_text())
    expected = recipe.pop(_HASH, None)
    if recipe.get("information_set", "causal") != "causal":
        raise RefusedError(
            f"this model sees the bar it trades in (information_set {recipe['information_set']!r}) and cannot be "
            "served; serve one that was trained with information_set 'causal'"
        )
    if expected not in (None, content_hash(weights)):
        raise RefusedError("the weights are not those that were registered; fetch the version again, or train anew")
    try:
        model = LEM(LEMConfig.from_dict(recipe))
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except UnpicklingError as error:
        raise RefusedError("the weights file holds more than tensors, and nothing of it was run") from error
    except (TypeError, RuntimeError) as error:
        raise RefusedError(
            "this version was registered by other code than is imported here; load it in a fresh process, which "
            f"takes the code that was saved with it, or train it again ({str(error).splitlines()[0]})"
        ) from error
    return model.eval()


def write(model: LEM, weights: Path, config: Path) -> None:
    """Write what :func:`read` reads: tensors, and a recipe that knows their hash."""
    torch.save(model.state_dict(), weights)
    config.write_text(json.dumps({**model.config.to_dict(), _HASH: content_hash(weights)}, indent=2))


def content_hash(weights: Path) -> str:
    """SHA-256 of a file."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def signature(config: LEMConfig) -> ModelSignature:
    """Names, types and shapes of what the registered model takes and gives."""
    per_bar = ("price", "close", "volume", "volatility", "expected_volume")
    single = np.dtype(np.float32)
    rows = config.lookback + config.horizon - 1
    inputs: list[ColSpec | TensorSpec] = [
        TensorSpec(single, (-1, rows, len(config.features)), "features"),
        TensorSpec(single, (-1,), "arrival"),
        *(TensorSpec(single, (-1, config.horizon), name) for name in per_bar),
    ]
    schedule = TensorSpec(single, (-1, len(SCENARIOS), config.horizon, config.horizon))
    return ModelSignature(Schema(inputs), Schema([schedule]))


def as_input(orders: OrderBatch) -> dict[str, np.ndarray]:
    """An order batch as the dictionary that the registered model takes.

    Raises:
        ValueError: The orders have a size; the registered model answers as if every bar took any child order.
    """
    if orders.size is not None:
        raise ValueError("the registered model knows no order sizes; load its LEM to trade orders of a size")
    return {"features": orders.features.numpy(), **{name: t.numpy() for name, t in vars(orders.market).items()}}


@dataclass(frozen=True)
class Registered:
    """A registered model as a strategy: what is compared is what is served."""

    model: LEM
    name: str = "LEM"

    def schedule(self, orders: OrderBatch) -> torch.Tensor:
        """Fractions of the parent order per bar; (B, S, M, H)."""
        return torch.from_numpy(answer(self.model, as_input(orders)))


set_model(ServedLEM())
