"""Registered versions by name: found in the registry, loaded, and told what is wrong where that fails."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lem_pipeline.errors import UnknownVersionError
from lem_pipeline.names import is_model_name, quoted
from lem_pipeline.tracking import CHALLENGER, Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from torch import Tensor

    from lem_models.config import LEMConfig
    from lem_models.lem import LEM
    from lem_models.orders import OrderBatch
    from lem_pipeline.serving import Registered

_NUMBER, _ALIAS = re.compile("[0-9]{1,9}"), re.compile(r"[A-Za-z][\w-]{0,59}", re.ASCII)


@dataclass(frozen=True)
class Version:
    """A registered version, loaded.

    Attributes:
        model: Name of the registered model.
        number: Of the version.
        config: What the model was made for.
        parameters: Of the run that trained it.
        tags: Of the version: data, code, gates.
        served: What decides, as a strategy.
    """

    model: str
    number: str
    config: "LEMConfig"
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    served: "Registered"

    @property
    def network(self) -> "LEM":
        """The model itself, for whoever decides bar by bar or trades orders of a size."""
        return self.served.model

    @property
    def name(self) -> str:
        """``lem-crypto/3``."""
        return f"{self.model}/{self.number}"


def load_version(tracking: Tracking, reference: str) -> Version:
    """Load a version, whose own code is not run.

    Args:
        tracking: The store.
        reference: ``lem-crypto@challenger``, ``lem-crypto/3``, or a bare name, which means its challenger.

    Raises:
        UnknownVersionError: The registry does not know it, or it cannot be read.
    """
    from lem_pipeline.model_files import read_version
    from lem_pipeline.serving import Registered

    if not tracking.exists:
        raise UnknownVersionError(f"there is no registry in {tracking.home}; run the main job of the profile first")
    client = tracking.client()
    version = _find(client, reference)
    name, lem = f"{version.name}/{version.version}", read_version(version)
    parameters = client.get_run(version.run_id).data.params if version.run_id else {}
    return Version(version.name, str(version.version), lem.config, parameters, version.tags, Registered(lem, name))


def _find(client: "MlflowClient", reference: str) -> "ModelVersion":
    from mlflow.exceptions import MlflowException

    model, at, alias = reference.partition("@")
    model, slash, number = model.partition("/")
    known = {found.name: found for found in client.search_registered_models() if is_model_name(found.name)}
    if model not in known:
        raise UnknownVersionError(f"there is no model {quoted(model)}; the registry has {', '.join(known) or 'none'}")
    if (at and slash) or (slash and not _NUMBER.fullmatch(number)) or (at and not _ALIAS.fullmatch(alias)):
        raise UnknownVersionError(f"{quoted(reference)} names no version; write {model}/3, or {model}@{CHALLENGER}")
    try:
        if slash:
            return client.get_model_version(model, number)
        return client.get_model_version_by_alias(model, alias or CHALLENGER)
    except MlflowException as error:
        numbers = sorted(int(v.version) for v in client.search_model_versions(f"name = '{model}'"))
        aliases = ", ".join(known[model].aliases) or "none"
        wanted = f"version {number}" if slash else f"alias {alias or CHALLENGER}"
        raise UnknownVersionError(
            f"{model} has no {wanted}; its versions are {', '.join(map(str, numbers))}, its aliases {aliases}"
        ) from error


@dataclass(frozen=True)
class OnPanel:
    """A version on orders of a panel, whose feature columns it picks by name.

    Attributes:
        version: What decides.
        columns: Feature columns of the panel.
    """

    version: Version
    columns: tuple[str, ...]

    @property
    def name(self) -> str:
        """That of the version."""
        return self.version.name

    @property
    def missing(self) -> list[str]:
        """Features that the version was trained on and the panel does not have."""
        return [feature for feature in self.version.config.features if feature not in self.columns]

    def schedule(self, orders: "OrderBatch") -> "Tensor":
        """Fractions of the parent order per bar; (B, S, M, H)."""
        picked = [self.columns.index(feature) for feature in self.version.config.features]
        return self.version.served.schedule(replace(orders, features=orders.features[..., picked]))
