"""Which registered version trades: champion and challenger on the same orders, and a log of every decision."""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

import pandas as pd
import pyarrow as pa

from lem_pipeline.edges import (
    ALL_KINDS,
    CHAMPION_STRATEGY,
    MODEL_STRATEGY,
    STOPPING_STRATEGY,
    difference_intervals,
    headline_orders,
)
from lem_pipeline.errors import LookAheadError, PromotionError, UntrustedVersionError
from lem_pipeline.names import shown
from lem_pipeline.report.tables import key_durations, with_interval
from lem_pipeline.settings import Settings
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking
from lem_pipeline.versions import load_version

Action = Literal["promoted", "kept", "refused", "rolled back"]

LOG = "results.promotion_log"
LOG_SCHEMA = pa.schema(
    {
        "decided_at": pa.timestamp("us", tz="UTC"),
        **dict.fromkeys(
            ("model", "action", "challenger", "champion_before", "champion_after", "decided_by", "reason"), pa.string()
        ),
        **dict.fromkeys(("evidence", "report", "run"), pa.string()),
    }
)


@dataclass(frozen=True)
class Decision:
    """What became of a version that asked to trade.

    Attributes:
        model: Registered model.
        action: What was done.
        challenger: The version in question.
        champion_before: The version that traded until now, if any did.
        champion_after: The version that trades from now on, if any does.
        reason: Why, in one sentence.
        decided_by: A person, or the rule of :func:`judge`.
        evidence: Figures and gate results behind it.
    """

    model: str
    action: Action
    challenger: str
    champion_before: str | None
    champion_after: str | None
    reason: str
    decided_by: str = "rule"
    evidence: dict[str, object] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The decision as a person reads it."""
        return f"{self.model}/{self.challenger} is {self.action}: {self.reason}"


def judge(daily: pd.DataFrame, model: str, challenger: str, champion: str | None) -> Decision:
    """Promote, keep or refuse: is the challenger measurably better than the champion on the same test orders?

    The one figure that decides is the paired, side-averaged gain of fixed-quantity orders against VWAP, averaged over
    the minimum durations of the report's headline, with its interval from a bootstrap of runs of days.

    Args:
        daily: Rows of `reports.daily_improvements`, where strategy LEM is the challenger.
        model: Registered model.
        challenger: Its version.
        champion: The version that trades now, if any does.
    """

    def decide(action: Action, reason: str, **evidence: object) -> Decision:
        after = challenger if action == "promoted" else champion
        return Decision(model, action, challenger, champion, after, reason, evidence=evidence)

    if champion == challenger:
        return decide("kept", "it is the champion already")
    rows = daily[daily["model"] == model]
    over = CHAMPION_STRATEGY if champion else STOPPING_STRATEGY
    if over not in set(rows["strategy"]):
        return decide("refused", f"{over} did not play the same orders; evaluate again, or override")
    edge = _edge(rows, over)
    found = f"{with_interval(edge)} bps, paired"
    if champion is None:
        return decide("promoted", f"no version traded before; over {over} it gains {found}", **edge)
    if edge["low_bps"] > 0:
        return decide("promoted", f"it gains more than champion {champion} on the same orders ({found})", **edge)
    if edge["high_bps"] < 0:
        return decide("refused", f"it gains less than champion {champion} on the same orders ({found})", **edge)
    unseen = f"a difference of {edge['minimum_detectable_bps']:.2f} would have been seen"
    return decide("kept", f"champion {champion} stays, it cannot be told from it ({found}; {unseen})", **edge)


def average_edges(daily: pd.DataFrame, one: str, over: str) -> pd.DataFrame:
    """What one strategy gains over another, averaged over headline orders; a row per asset class."""
    orders = headline_orders(daily)
    orders = orders[orders["minimum_duration"].isin(key_durations(int(orders["minimum_duration"].max())))]
    found = difference_intervals(orders, one, over)
    return found[found["benchmark"] == ALL_KINDS]


def _edge(daily: pd.DataFrame, over: str) -> dict[str, float]:
    """The average over headline orders; of several asset classes, the one that speaks least for the challenger."""
    average = average_edges(daily, MODEL_STRATEGY, over).sort_values("low_bps", na_position="first").iloc[0]
    return {name: float(average[name]) for name in ("mean_bps", "low_bps", "high_bps", "minimum_detectable_bps")}


@dataclass(frozen=True)
class Desk:
    """Where decisions are carried out and written down.

    Attributes:
        chosen: Names the models and their asset classes.
        warehouse: Keeps results and the log.
        tracking: Keeps versions and aliases.
        run: Dagster's name of the run, or who else acts.
    """

    chosen: Settings
    warehouse: Warehouse
    tracking: Tracking
    run: str

    def decide(self, model: str) -> Decision:
        """Judge the latest version by its test orders, and act on it.

        Raises:
            PromotionError: No version has played them.
        """
        champion = self.champion(model)
        if not self.warehouse.has_table("reports.daily_improvements"):
            raise PromotionError(f"no version of {model} has played its test orders yet; run the main job first")
        daily = self.warehouse.read("from reports.daily_improvements where model = $model", {"model": model})
        challenger = str(self.tracking.latest(model).version)
        return self._carry_out(judge(daily.to_pandas(), model, challenger, champion))

    def promote(self, model: str, version: str, person: str, reason: str) -> Decision:
        """Let a version trade because a person says so; the gates are not theirs to overrule."""
        reason, champion = _said(reason), self.champion(model)
        self.tracking.version(model, version)
        return self._carry_out(Decision(model, "promoted", version, champion, version, reason, person))

    def roll_back(self, model: str, person: str, reason: str) -> Decision:
        """Give the place back to the version that traded before.

        Raises:
            PromotionError: Nobody trades, or nobody did before.
        """
        reason, champion = _said(reason), self.champion(model)
        earlier = champion_before(self.warehouse, model, champion) if champion else None
        if champion is None or earlier is None:
            raise PromotionError(f"{model} has no earlier champion to roll back to; lem status shows who trades")
        return self._carry_out(Decision(model, "rolled back", champion, champion, earlier, reason, person))

    def champion(self, model: str) -> str | None:
        """The version that trades.

        Raises:
            PromotionError: There is no such model.
            UnknownVersionError: No version of it was ever registered.
        """
        if model not in self.chosen.models:
            raise PromotionError(f"there is no model {shown(model)}; the models are {', '.join(self.chosen.models)}")
        version = self.tracking.champion(model)
        return str(version.version) if version else None

    def _carry_out(self, decision: Decision) -> Decision:
        if decision.challenger == decision.champion_before == decision.champion_after:
            return decision  # nothing was decided
        if decision.champion_after != decision.champion_before:
            decision = self._through_the_gates(decision)
        report = str(self.chosen.comparison)
        at = note(self.warehouse, decision, report, self.run)  # first: no alias moves without a trail
        self.tracking.note_decision(decision.model, decision.challenger, at, decision.sentence)
        if decision.champion_after != decision.champion_before:
            self.tracking.crown(decision.model, str(decision.champion_after))
        return decision

    def _through_the_gates(self, decision: Decision) -> Decision:
        """Whatever was passed at registration is passed again: tags can be edited, and code changes."""
        version = str(decision.champion_after)
        try:
            gates = self._gates(decision.model, version)
        except (LookAheadError, UntrustedVersionError) as failed:
            return replace(decision, action="refused", champion_after=decision.champion_before, reason=str(failed))
        return replace(decision, evidence={**decision.evidence, **gates})

    def _gates(self, model: str, version: str) -> dict[str, str]:
        from lem_pipeline.gates import pass_gates
        from lem_pipeline.panel import read_panel

        lem = load_version(self.tracking, f"{model}/{version}").network
        data = read_panel(self.warehouse, self.chosen.models[model])
        if lem.config.features != data.features or lem.config.lookback > self.chosen.model.lookback:
            raise PromotionError(
                f"{model}/{version} reads other features or a longer lookback than today's windows hold, so it cannot "
                "pass the gates; train it again"
            )
        return pass_gates(lem, data, lem.config.lookback, lem.config.limits)


def _said(reason: str) -> str:
    if not reason.strip():
        raise PromotionError("a person who overrules the rule gives a reason; none was given")
    return reason.strip()


def note(warehouse: Warehouse, decision: Decision, report: str, run: str) -> datetime:
    """Append a decision to the log; nothing in this project changes or deletes a row of it."""
    decided_at = datetime.now(UTC)
    row = asdict(decision) | {
        "decided_at": decided_at,
        "evidence": json.dumps(decision.evidence, sort_keys=True),
        "report": report,
        "run": run,
    }
    warehouse.append(LOG, pa.Table.from_pylist([row], LOG_SCHEMA))
    return decided_at


def champion_before(warehouse: Warehouse, model: str, champion: str) -> str | None:
    """The version that traded before the champion took its place; None where the log knows of none."""
    if not warehouse.has_table(LOG):
        return None
    found = warehouse.read(
        f"""
        select champion_before from {LOG}
        where model = $model and champion_after = $champion and champion_before is distinct from champion_after
        order by decided_at desc limit 1
        """,  # noqa: S608 - our own names, values bound
        {"model": model, "champion": champion},
    ).to_pylist()
    return found[0]["champion_before"] if found else None
