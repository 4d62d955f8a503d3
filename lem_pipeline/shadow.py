"""The champion on bars that came after every hold-out: what its orders would have cost, appended once per order.

A version's hold-out ends with the last bar that was stored when the version was registered; its tags say which. What
comes later was in nobody's hold-out yet, and is the shadow period of the champion. A version that is registered
afterwards has these bars in a hold-out of its own: they are played before that, by the champion alone, and tell whether
it is time to train, never which of two versions is better. Every time counts in the ledger of looks.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch

from lem_models.baselines import Strategy
from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.evaluation import evaluate
from lem_pipeline.contestants import ONE_PERCENT, charged
from lem_pipeline.errors import ShadowError
from lem_pipeline.holdout import Look, last_order, note
from lem_pipeline.panel import OrderPanel, read_panel
from lem_pipeline.results import order_results
from lem_pipeline.settings import Settings
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking, model_code_hash
from lem_pipeline.versions import OnPanel, Version, load_version

SHADOW = "results.shadow_orders"
_KEYS = ["asset_class", "symbol", "bar_start"]


@dataclass(frozen=True)
class Watch:
    """The champion of a model, and what it has seen.

    Attributes:
        model: Registered model.
        version: The version that trades.
        trained_from: First bar of its training orders.
        chosen_until: Last bar of its validation orders.
        holdout_until: Last bar of its hold-out.
        untouched_since: Last bar of any hold-out of the model's versions, or start of a later test order; shadow orders
            begin after it.
    """

    model: str
    version: str
    trained_from: datetime
    chosen_until: datetime
    holdout_until: datetime
    untouched_since: datetime

    @property
    def name(self) -> str:
        """``lem-crypto/3``."""
        return f"{self.model}/{self.version}"


def under_watch(warehouse: Warehouse, tracking: Tracking, model: str) -> Watch | None:
    """The champion of a model; None where no version trades.

    Raises:
        ShadowError: The champion does not say where its hold-out ends.
    """
    versions = {str(version.version): version.tags for version in tracking.versions(model)}
    champion = tracking.champion(model) if versions else None
    if champion is None:
        return None
    seen = [champion.tags.get(f"data.{name}") for name in ("from", "chosen_until", "until")]
    if None in seen:
        raise ShadowError(
            f"{model}/{champion.version} does not say where its hold-out ends, so nobody can tell which bars came "
            "after it; train the model again"
        )
    trained_from, chosen_until, until = (datetime.fromisoformat(str(moment)) for moment in seen)
    holdouts = [datetime.fromisoformat(tags["data.until"]) for tags in versions.values() if "data.until" in tags]
    # Somebody may have evaluated again on bars that came later than any version.
    if played := last_order(warehouse, model):
        holdouts.append(played)
    return Watch(model, str(champion.version), trained_from, chosen_until, until, max(holdouts))


def shadow(chosen: Settings, warehouse: Warehouse, tracking: Tracking, model: str, run: str) -> str:
    """Replay the champion of a model on the bars that came after every hold-out; what came of it, in one sentence.

    Raises:
        ShadowError: The champion was made for other order windows than today's.
    """
    watch = under_watch(warehouse, tracking, model)
    if watch is None:
        return f"{model}: no version trades yet; nothing to shadow"
    data = read_panel(warehouse, chosen.models[model])
    since = f"{watch.untouched_since:%Y-%m-%d %H:%M}, where the last hold-out ends"
    if pc.max(data.keys["bar_start"]).as_py() <= watch.untouched_since:
        return f"{watch.name}: no bars after {since}; nothing to shadow"
    champion = load_version(tracking, watch.name)
    made_for, held = champion.config, chosen.model
    if made_for.horizon != held.horizon or made_for.lookback > held.lookback:
        raise ShadowError(
            f"{watch.name} was made for {made_for.lookback} + {made_for.horizon} bars, and today's windows hold "
            f"{held.lookback} + {held.horizon}; train it again"
        )
    played = replay(warehouse, champion, watch, data, run)
    return f"{watch.name}: {played:,} new order windows since {since}"


def shadow_rows(data: OrderPanel, watch: Watch, horizon: int, stored: pd.DataFrame) -> torch.Tensor:
    """Panel rows where shadow orders begin that are not stored: whole windows without a bar of any hold-out.

    Args:
        data: Today's bars and order windows, whatever split of today's a window is in.
        watch: Says where hold-outs end.
        horizon: Bars of an order; windows do not overlap.
        stored: Asset class, symbol and start of the orders that are there.
    """
    keys = data.keys.to_pandas()
    chosen = (
        keys["split"].notna()
        & (keys["bar_number"] % horizon == 0)
        & (keys["bar_start"] > pd.Timestamp(watch.untouched_since))
        & ~pd.MultiIndex.from_frame(keys[_KEYS]).isin(pd.MultiIndex.from_frame(stored[_KEYS]))
    )
    return torch.from_numpy(chosen.to_numpy().nonzero()[0])


def stored_orders(warehouse: Warehouse, watch: Watch) -> pd.DataFrame:
    """Asset class, symbol and start of the champion's shadow orders."""
    if not warehouse.has_table(SHADOW):
        return pd.DataFrame(columns=_KEYS)
    return warehouse.read(
        f"select distinct {', '.join(_KEYS)} from {SHADOW} where model = $model and version = $version",  # noqa: S608 - our own names, values bound
        {"model": watch.model, "version": watch.version},
    ).to_pandas()


def replay(
    warehouse: Warehouse, champion: Version, watch: Watch, data: OrderPanel, run: str, batch_size: int = 256
) -> int:
    """Let the champion and stopping without forecasts slice the new shadow orders, and append what they cost.

    A batch is appended at once, so a run cut short leaves whole orders, and the next one plays the others.

    Args:
        warehouse: Keeps the orders and the ledger of looks.
        champion: The version that trades.
        watch: What it has seen.
        data: Today's bars and order windows.
        run: Dagster's name of the run, for the ledger.
        batch_size: Windows at once.

    Returns:
        Order windows played now.

    Raises:
        ShadowError: Today's windows are not such as the champion was made for.
    """
    config, player = champion.config, OnPanel(champion, data.features)
    if player.missing:
        raise ShadowError(f"{watch.name} was trained on {', '.join(player.missing)}, which today's features lack")
    rows = shadow_rows(data, watch, config.horizon, stored_orders(warehouse, watch))
    if not len(rows):
        return 0
    note(warehouse, Look(SHADOW, watch.model, (watch.name,), data.snapshot, model_code_hash()), run)
    classes = data.keys["asset_class"].to_numpy(zero_copy_only=False)[rows.numpy()]
    strategies: list[Strategy] = [player, OptimalStopping(config.limits)]
    for asset_class in sorted(set(classes)):
        trial = charged(asset_class, ONE_PERCENT, participation_cap=None)
        for part in torch.split(rows[torch.from_numpy(classes == asset_class)], batch_size):
            batches = evaluate(strategies, data.panel, part, config.lookback, config.horizon, trial=trial)
            played = pa.concat_tables(order_results(watch.model, data, batches))
            version = pa.repeat(watch.version, len(played))
            at = pa.repeat(pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC")), len(played))
            warehouse.append(SHADOW, played.append_column("version", version).append_column("played_at", at))
    return len(rows)
