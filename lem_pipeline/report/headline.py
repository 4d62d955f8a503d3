"""The first screen of the last report, for a terminal or a script."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from lem_pipeline.edges import STOPPING_STRATEGY, headline_orders
from lem_pipeline.errors import WarehouseError
from lem_pipeline.report.page import verdict
from lem_pipeline.report.rendering import screen_banner, screen_table
from lem_pipeline.report.tables import headline_table, stacked
from lem_pipeline.settings import Settings
from lem_pipeline.stores import warehouse_of

BEHIND_IT = ("reports.improvements", "reports.edges", "reports.slippage_by_scenario", "reports.cost_curves")
_FIGURES = ["mean_bps", "low_bps", "high_bps", "minimum_detectable_bps"]


@dataclass(frozen=True)
class Headline:
    """What a reader sees first.

    Attributes:
        verdict: One sentence per model.
        table: Ready to read, as :func:`tables.headline_table` gives it.
        edges: What each model gains over no-forecast stopping: model, minimum_duration, mean_bps, low_bps, high_bps,
            minimum_detectable_bps, is_better.
        page: The whole report.
        simulated: Whether any price behind it was simulated.
    """

    verdict: tuple[str, ...]
    table: pd.DataFrame
    edges: pd.DataFrame
    page: Path
    simulated: bool

    def answer(self) -> dict[str, Any]:
        """The same for a script."""
        return {
            "simulated": self.simulated,
            "verdict": self.verdict,
            "over_no_forecast_stopping": self.edges,
            "page": self.page,
        }


def headline(chosen: Settings) -> Headline:
    """Read the results behind the last report of a profile.

    Raises:
        WarehouseError: There is no report yet.
    """
    page = chosen.comparison.resolve()
    if not page.is_file():
        raise WarehouseError(f"there is no report at {page}; lem run --profile {chosen.profile} writes it")
    warehouse = warehouse_of(chosen)
    if missing := [table for table in BEHIND_IT if not warehouse.has_table(table)]:
        raise WarehouseError(
            f"{warehouse.place} has no table {missing[0]}, as another version left it; "
            f"lem run --profile {chosen.profile} writes it anew"
        )
    improvements, edges, scenarios, curves = (
        warehouse.read(f"from {table} order by all").to_pandas() for table in BEHIND_IT
    )
    over_stopping = headline_orders(edges)
    over_stopping = over_stopping[over_stopping["baseline"] == STOPPING_STRATEGY]
    return Headline(
        verdict=tuple(verdict(improvements, edges, scenarios, curves).splitlines()),
        table=stacked(headline_table(improvements, edges, scenarios)),
        edges=over_stopping[["model", "minimum_duration", *_FIGURES, "is_better"]].reset_index(drop=True),
        page=page,
        simulated=chosen.simulated,
    )


def on_screen(found: Headline) -> RenderableType:
    """The headline for a terminal."""
    return Group(
        *screen_banner(found.simulated),
        *(Text(sentence, "bold") for sentence in found.verdict),
        screen_table("Side-averaged gain on the VWAP, bps; brackets hold 95 % intervals", found.table),
        Text(f"report      {found.page}"),
    )
