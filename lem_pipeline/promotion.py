"""Which registered version trades: champion and challenger on the same orders, and a log of every decision."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal

import pandas as pd
import pyarrow as pa

from lem_pipeline.edges import CHAMPION_STRATEGY, average_edge
from lem_pipeline.report_tables import key_durations, signed
from lem_pipeline.storage import Warehouse, create_if_missing

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

    if champion is None:
        return decide("promoted", "it passed every gate, and no version traded before")
    if champion == challenger:
        return decide("kept", "it is the champion already")
    rows = daily[daily["model"] == model]
    if CHAMPION_STRATEGY not in set(rows["strategy"]):
        return decide("refused", f"champion {champion} did not play the same orders; evaluate again, or override")
    edge = average_edge(rows, CHAMPION_STRATEGY, key_durations(int(rows["minimum_duration"].max())))
    found = f"{signed(edge['mean_bps'])} [{signed(edge['low_bps'])}, {signed(edge['high_bps'])}] bps, paired"
    if edge["low_bps"] > 0:
        return decide("promoted", f"it gains more than champion {champion} on the same orders ({found})", **edge)
    if edge["high_bps"] < 0:
        return decide("refused", f"it gains less than champion {champion} on the same orders ({found})", **edge)
    unseen = f"a difference of {edge['minimum_detectable_bps']:.2f} would have been seen"
    return decide("kept", f"champion {champion} stays, it cannot be told from it ({found}; {unseen})", **edge)


def note(warehouse: Warehouse, decision: Decision, report: str, run: str) -> datetime:
    """Append a decision to the log; nothing in this project changes or deletes a row of it."""
    decided_at = datetime.now(UTC)
    row = asdict(decision) | {
        "decided_at": decided_at,
        "evidence": json.dumps(decision.evidence, sort_keys=True),
        "report": report,
        "run": run,
    }
    with warehouse.transaction() as connection:
        create_if_missing(connection, LOG, LOG_SCHEMA)
        connection.register("decision", pa.Table.from_pylist([row], LOG_SCHEMA))
        connection.execute(f"insert into {LOG} by name from decision")
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
        """,
        {"model": model, "champion": champion},
    ).to_pylist()
    return found[0]["champion_before"] if found else None
