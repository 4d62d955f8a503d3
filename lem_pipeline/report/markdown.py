"""The comparison in Markdown: its headline for the Dagster UI, its main tables for whoever reads plain text."""

from collections.abc import Iterator

import pandas as pd

from lem_pipeline.edges import STOPPING_STRATEGY
from lem_pipeline.report import cost_tables, scenario_tables, tables
from lem_pipeline.report.page import Results, verdict
from lem_pipeline.report.rendering import SIMULATED_BANNER, SIMULATED_NOTE
from lem_pipeline.report.studies_tables import StudiesSection
from lem_pipeline.report.walk_forward_tables import walk_forward_table

_ON_ASSET_PAGES = {
    "minimum duration": "minimum duration",
    "LEM over no-forecast stopping, bps": "LEM over stopping, bps",
    "LEM over TWAP, bps": "LEM over TWAP, bps",
    "order windows": "windows",
}

_INTERVALS = "Brackets hold 95 % intervals from a bootstrap of runs of days."


def headline_markdown(improvements: pd.DataFrame, edges: pd.DataFrame, scenarios: pd.DataFrame, simulated: bool) -> str:
    """The headline table in Markdown, for the Dagster UI.

    Args:
        improvements: As :func:`edges.improvement_intervals` gives them.
        edges: As :func:`edges.edge_intervals` gives them.
        scenarios: Rows of `reports.slippage_by_scenario`.
        simulated: Whether any price behind the results was simulated.
    """
    table = _table(tables.headline_table(improvements, edges, scenarios))
    note = (
        "Side-averaged gain of fixed-quantity orders on the VWAP of the bars they were worked in; positive is good. "
        f"{_INTERVALS} σ is the volatility of one bar."
    )
    return "\n".join([*_warning(simulated), table, "", note])


def asset_page_tables(improvements: pd.DataFrame, edges: pd.DataFrame, scenarios: pd.DataFrame) -> dict[str, str]:
    """The headline of each model as a table that an asset page shows without a click: narrow, under 1000 characters."""
    headline = tables.headline_table(improvements, edges, scenarios)
    return {
        str(model): _table(rows[list(_ON_ASSET_PAGES)].rename(columns=_ON_ASSET_PAGES))
        for model, rows in headline.groupby("model")
    }


def comparison_markdown(
    results: Results, facts: list[tuple[str, str]], simulated: bool, studies: StudiesSection | None = None
) -> str:
    """The verdicts and main tables of :func:`report.comparison_html`, without figures.

    Args:
        results: Of every model.
        facts: What the results rest on, name and value.
        simulated: Whether any price behind the results was simulated.
        studies: Other profiles' results beside these, where there are any.
    """
    shown = results.improvements, results.edges, results.scenarios
    sentences = verdict(*shown, results.cost_curves).splitlines()
    parts = [
        *_warning(simulated),
        "## Verdict",
        *(f"- {sentence}" for sentence in sentences),
        "## Gain on the VWAP",
        headline_markdown(*shown, simulated=False),
        *(part for model in sorted(set(results.edges["model"])) for part in _of_model(model, results.of(model))),
        *(_of_studies(studies) if studies else ()),
        "## What this rests on",
        _table(pd.DataFrame(facts, columns=["", "what"])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _of_model(model: str, results: Results) -> Iterator[str]:
    yield f"## {model}"
    yield (
        "Gain of orders by what they are measured by: the VWAP of the bars they were worked in, the VWAP of the whole "
        "horizon, and the last close before the order; in bps."
    )
    yield _table(scenario_tables.window_table(results.improvements))
    yield "What it gains over stopping without forecasts once square-root impact is paid, by order size; in bps."
    yield _table(cost_tables.break_even_table(results.cost_curves, STOPPING_STRATEGY))
    groups = scenario_tables.group_table(results.groups)
    if "symbols" in set(groups["by"]):
        yield "What it gains over stopping without forecasts on symbols that it was trained on, and on others; in bps."
        yield _table(groups[groups["by"] == "symbols"])
    for benchmark in ("VWAP", "TWAP"):
        folds = walk_forward_table(results.walk_forward, benchmark)
        if not folds.empty:
            yield (
                "The same gain on years before the test, where a model was trained anew for each stretch with every "
                f"seed: orders against {benchmark}, in bps. {_INTERVALS}"
            )
            yield _table(folds)


def _of_studies(studies: StudiesSection) -> Iterator[str]:
    yield "## Studies"
    yield (
        "What the model of each study gains over stopping without forecasts, against VWAP, in bps, by minimum "
        f"duration m; behind each interval, what would have been detected. {_INTERVALS}"
    )
    yield _table(studies.edges)
    for setting, table in studies.layouts.items():
        yield f"Slippage in the layout of the published results ({setting}), in bps; positive is a cost on either side."
        yield _table(table)
    if not studies.effects.empty:
        yield "The same orders at the true VWAP and at the typical price."
        yield _table(studies.effects)


def _warning(simulated: bool) -> list[str]:
    return [f"> **{SIMULATED_BANNER}.** {SIMULATED_NOTE}", ""] if simulated else []


def _table(frame: pd.DataFrame) -> str:
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)
