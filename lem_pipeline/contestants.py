"""Everything that a model is measured against, on the same orders."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lem_models.baselines import Strategy
from lem_models.baselines.buyback import BuybackHeuristic
from lem_models.baselines.dynamic_vwap import DynamicVwap
from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.baselines.oracle import Oracle
from lem_models.baselines.shuffled import ShuffledFeatures
from lem_models.baselines.static_linear import StaticLinear
from lem_models.baselines.twap import Twap
from lem_models.baselines.volume_curve import VolumeCurve
from lem_models.costs import CostModel
from lem_models.evaluation import Trial
from lem_models.windows import evenly_spread
from lem_pipeline.settings import settings
from lem_pipeline.universe import ASSET_CLASSES

if TYPE_CHECKING:
    from lem_models.config import LEMConfig
    from lem_models.orders import Limits
    from lem_pipeline.panel import OrderPanel

ONE_PERCENT = 0.01  # of a day's volume, the size that impact is charged for
_FITTED_ON = 4_096  # training windows; what is fitted has a few hundred weights at most


def charged(asset_class: str, fraction_of_daily_volume: float, participation_cap: float | None) -> Trial:
    """Orders of one size on the clock of an asset class, charged square-root impact and nothing else."""
    clock = ASSET_CLASSES[asset_class].with_bars_of(settings().bar(asset_class))
    return Trial(fraction_of_daily_volume, participation_cap, CostModel(bars_per_day=clock.bars_per_day))


def contestants(model: Strategy, rivals: Sequence[Strategy], data: "OrderPanel", config: "LEMConfig") -> list[Strategy]:
    """The model, its rivals, the baselines, the placebo and the bound; what is fitted saw the training split alone.

    Args:
        model: As it is served.
        rivals: Models that differ from it in one part.
        data: Bars and order windows.
        config: Gives lookback, horizon and the participation limits of all.
    """
    limits = config.limits
    training = data.panel.orders(evenly_spread(data.rows("train"), _FITTED_ON), config.lookback, config.horizon)
    return [
        *plain_contestants(model, limits),
        *rivals,
        DynamicVwap.fit(limits, data.features, training.features),
        StaticLinear.fit(limits, training),
        BuybackHeuristic(limits),
        ShuffledFeatures(model),
        Oracle(limits),
    ]


def plain_contestants(model: Strategy, limits: "Limits") -> list[Strategy]:
    """The model and what it is first compared with, where a full field would tell no more."""
    return [model, OptimalStopping(limits), Twap(limits), VolumeCurve(limits)]
