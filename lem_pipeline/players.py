"""Which registered versions play the test orders of a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lem_pipeline.edges import CHAMPION_STRATEGY, MODEL_STRATEGY
from lem_pipeline.panel import OrderPanel
from lem_pipeline.settings.models import Rival
from lem_pipeline.tracking import Tracking

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Player:
    """A registered version, and what its strategy is called among the results."""

    model: str
    version: str
    strategy: str


def players(name: str, rivals: Mapping[str, Rival], tracking: Tracking, data: OrderPanel) -> list[Player]:
    """The latest version of a model, its rivals, and the champion where that is another version.

    A champion that was trained or chosen on bars of these test orders does not play: it would know the answers.
    """
    latest, champion = tracking.latest(name), tracking.champion(name)
    found = [Player(name, str(latest.version), MODEL_STRATEGY)]
    for rival, settings in rivals.items():
        if settings.rival_of == name:
            strategy = f"LEM with {settings.recurrence.upper()}"
            found.append(Player(rival, str(tracking.latest(rival).version), strategy))
    if champion and champion.version != latest.version and _is_older_than_the_test(champion, data):
        found.append(Player(name, str(champion.version), CHAMPION_STRATEGY))
    return found


def _is_older_than_the_test(version: "ModelVersion", data: OrderPanel) -> bool:
    chosen_until = version.tags.get("data.chosen_until")
    return chosen_until is not None and datetime.fromisoformat(chosen_until) < data.first_bar("test")
