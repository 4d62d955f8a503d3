"""The comparison report: order results in, a verdict, a table and one self-contained page out."""

import math
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lem_pipeline import figures, report_tables
from lem_pipeline.pages import SIMULATED_BANNER, SIMULATED_NOTE, render
from lem_pipeline.report_tables import MODEL_STRATEGY, NORMAL_95, TWAP_STRATEGY, Cell, Row
from lem_pipeline.yardsticks import Published, published_for

PLOTLY_SETTINGS = {"displayModeBar": False, "responsive": True}


def verdict(improvements: pd.DataFrame) -> str:
    """What the results show, one sentence a line, one line per model.

    Args:
        improvements: Rows of `reports.side_averaged_improvement`.
    """
    models = sorted(set(improvements["model"]))
    return "\n".join(_model_verdict(improvements[improvements["model"] == model], model) for model in models)


def _model_verdict(improvements: pd.DataFrame, model: str) -> str:
    horizon = int(improvements["minimum_duration"].max())
    learned = report_tables.by_duration(improvements, model, MODEL_STRATEGY)
    twap = report_tables.by_duration(improvements, model, TWAP_STRATEGY)
    durations = [m for m in sorted({math.ceil(horizon / 2), horizon}) if m in learned]
    if not durations:
        return f"{model}: no orders of the model for a fixed quantity against VWAP, hence no verdict."
    clauses = [
        f"at {'the fixed' if m == horizon else 'minimum'} duration {m} {_finding(learned[m])}"
        f"{_against_twap(learned[m], twap.get(m))} on {learned[m]['orders']:,} order windows"
        f"{_against_stopping(learned[m])}"
        for m in durations
    ]
    return f"{model}: {'; '.join(clauses)}."


def _finding(learned: Row) -> str:
    """Gain, loss or neither, by whether the 95 % interval excludes zero."""
    mean, half = learned["mean_improvement_bps"], NORMAL_95 * learned["standard_error_bps"]
    if math.isnan(half):
        return f"the mean improvement on VWAP is {mean:.2f} bps, with no interval as all orders lie in one day,"
    unit = "bps per order (side-averaged)"
    if mean - half > 0:
        return f"the model improves on VWAP by {mean:.2f} ± {half:.2f} {unit}"
    if mean + half < 0:
        return f"the model does not improve on VWAP, it costs {-mean:.2f} ± {half:.2f} {unit}"
    return (
        "the model does not measurably improve on VWAP: "
        f"{report_tables.signed(mean)} ± {half:.2f} {unit}, an interval that contains zero,"
    )


def _against_twap(learned: Row, twap: Row | None) -> str:
    """The yardstick beside the finding, and a warning where the paired difference denies a gain."""
    if twap is None:
        return ""
    own = report_tables.estimate(twap["mean_improvement_bps"], twap["standard_error_bps"])
    edge, error = learned["edge_over_twap_bps"], learned["edge_over_twap_standard_error_bps"]
    gained = learned["mean_improvement_bps"] - NORMAL_95 * learned["standard_error_bps"] > 0
    unproven = gained and not edge - NORMAL_95 * error > 0
    doubt = f" (not measurably better: {report_tables.estimate(edge, error)} paired)" if unproven else ""
    return f" against {own} for TWAP{doubt}"


def _against_stopping(learned: Row) -> str:
    """What the model's forecasts add to what needs none."""
    edge, error = learned["edge_over_stopping_bps"], learned["edge_over_stopping_standard_error_bps"]
    if math.isnan(edge) or math.isnan(error):
        return ""
    half = NORMAL_95 * error
    against = "better than" if edge > half else "worse than" if edge < -half else "no measurable difference from"
    return f" ({against} stopping without any forecast: {report_tables.estimate(edge, error)} bps paired)"


def headline_markdown(improvements: pd.DataFrame, scenarios: pd.DataFrame, simulated: bool) -> str:
    """The headline table in Markdown, for the Dagster UI.

    Args:
        improvements: Rows of `reports.side_averaged_improvement`.
        scenarios: Rows of `reports.slippage_by_scenario`.
        simulated: Whether any price behind the results was simulated.
    """
    warning = [f"> **{SIMULATED_BANNER}.** {SIMULATED_NOTE}", ""] if simulated else []
    table = _markdown_table(report_tables.headline_table(improvements, scenarios))
    note = (
        "Side-averaged improvement on VWAP of fixed-quantity orders; positive is good. "
        "± is a 95 % interval, clustered by day. σ is the volatility of one bar."
    )
    return "\n".join([*warning, table, "", note])


def _markdown_table(frame: pd.DataFrame) -> str:
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)


def comparison_html(
    scenarios: pd.DataFrame,
    improvements: pd.DataFrame,
    completions: pd.DataFrame,
    provenance: list[tuple[str, str]],
    simulated: bool,
) -> str:
    """The comparison of every strategy on the same orders, as one page that loads nothing.

    Args:
        scenarios: Rows of `reports.slippage_by_scenario`.
        improvements: Rows of `reports.side_averaged_improvement`.
        completions: Number of ``orders`` by model, strategy, minimum_duration and completion_bar.
        provenance: What the results rest on (data snapshot, code, seeds, configuration), name and value.
        simulated: Whether any price behind the results was simulated.
    """
    models = sorted(set(improvements["model"]))
    return render(
        "comparison.html.j2",
        simulated=simulated,
        verdicts=verdict(improvements).splitlines(),
        headline=report_tables.headline_table(improvements, scenarios),
        sections=[
            _model_section(number, model, scenarios, improvements, completions) for number, model in enumerate(models)
        ],
        provenance=provenance,
        plotly_js=Markup(get_plotlyjs()),
    )


@dataclass(frozen=True)
class ModelSection:
    """Everything the page shows of one model."""

    model: str
    improvement_figure: Markup
    published: tuple[Published, ...]
    layout: list[tuple[str, list[Cell], list[Cell]]]
    scenario_figure: Markup
    completion_figure: Markup
    dispersion_figure: Markup
    improvement_table: pd.DataFrame
    scenario_tables: dict[str, pd.DataFrame]


def _model_section(
    number: int,
    model: str,
    scenarios: pd.DataFrame,
    improvements: pd.DataFrame,
    completions: pd.DataFrame,
) -> ModelSection:
    scenarios, improvements, completions = (
        frame[frame["model"] == model] for frame in (scenarios, improvements, completions)
    )
    asset_class = str(scenarios["asset_class"].iloc[0])
    horizon = int(scenarios["minimum_duration"].max())
    return ModelSection(
        model=model,
        improvement_figure=_embed(figures.improvement_figure(improvements), f"improvement-{number}"),
        published=published_for(asset_class, horizon),
        layout=report_tables.published_layout(scenarios),
        scenario_figure=_embed(figures.scenario_figure(scenarios), f"scenarios-{number}"),
        completion_figure=_embed(figures.completion_figure(completions), f"completion-{number}"),
        dispersion_figure=_embed(figures.dispersion_figure(improvements, scenarios), f"dispersion-{number}"),
        improvement_table=report_tables.improvement_table(improvements),
        scenario_tables={
            strategy: report_tables.scenario_table(scenarios[scenarios["strategy"] == strategy])
            for strategy in report_tables.strategies(scenarios)
        },
    )


def _embed(figure: go.Figure, element: str) -> Markup:
    """A figure as a page fragment; the page itself carries Plotly, once."""
    html = figure.to_html(full_html=False, include_plotlyjs=False, div_id=element, config=PLOTLY_SETTINGS)
    return Markup(html)
