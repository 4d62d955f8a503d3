"""The comparison report: order results in, a verdict, a table and one self-contained page out."""

import math
import re
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lem_pipeline.edges import MODEL_STRATEGY, STOPPING_STRATEGY, TWAP_STRATEGY
from lem_pipeline.provenance import Origin
from lem_pipeline.report import cost_tables, figures, heat_maps, scenario_tables, tables
from lem_pipeline.report.order_figures import order_caption, order_figure
from lem_pipeline.report.rendering import render
from lem_pipeline.report.studies_tables import StudiesSection
from lem_pipeline.report.tables import Cell, Row, stacked
from lem_pipeline.report.walk_forward_tables import walk_forward_table
from lem_pipeline.report.yardsticks import Published, published_for

VERDICT_SIZE = 1.0  # percent of a day's volume
LEARNING_TITLES = {
    "train_loss": "training loss, σ",
    "validation_loss": "validation loss, σ",
    "improvement_sigma": "validation improvement, σ",
}
PLOTLY_SETTINGS = {"displayModeBar": False, "responsive": True}


def verdict(
    improvements: pd.DataFrame, edges: pd.DataFrame, scenarios: pd.DataFrame, curves: pd.DataFrame | None = None
) -> str:
    """What the results show, one sentence a line, one line per model.

    Args:
        improvements: As :func:`edges.improvement_intervals` gives them.
        edges: As :func:`edges.edge_intervals` gives them.
        scenarios: Rows of `reports.slippage_by_scenario`.
        curves: Rows of `reports.cost_curves`, for what impact leaves.
    """
    spread = tables.single_order_std(scenarios).set_index(["model", "strategy", "minimum_duration"])
    models = sorted(set(improvements["model"]))
    return "\n".join(
        _model_verdict(improvements[improvements["model"] == model], edges, spread["order_std_bps"], curves, model)
        for model in models
    )


def _model_verdict(
    improvements: pd.DataFrame, edges: pd.DataFrame, spread: pd.Series, curves: pd.DataFrame | None, model: str
) -> str:
    horizon = int(improvements["minimum_duration"].max())
    learned = tables.by_duration(improvements, model, MODEL_STRATEGY)
    over_stopping = tables.by_duration(edges, model, STOPPING_STRATEGY)
    m = next((m for m in (math.ceil(horizon / 2), horizon) if m in learned and m in over_stopping), None)
    if m is None:
        return f"{model}: no orders of the model for a fixed quantity against VWAP, hence no verdict."
    clauses = [
        f"{_finding(over_stopping[m], m)}{_risk(spread, model, m)}",
        *_after_impact(curves, model, m),
        f"on VWAP an order gains {_on_vwap(learned[m])}",
    ]
    return f"{model}: {'; '.join(clauses)}."


def _on_vwap(learned: Row) -> str:
    """The gain, and whether the 95 % interval allows to call it one."""
    found = f"{tables.with_interval(learned)} bps"
    if math.isnan(learned["low_bps"]):
        return f"{found} (too few days for an interval)"
    return found if learned["low_bps"] > 0 or learned["high_bps"] < 0 else f"nothing measurable ({found})"


def _finding(edge: Row, duration: int) -> str:
    """Better, worse or neither, by whether the 95 % interval of the paired difference excludes zero."""
    found = f"{tables.with_interval(edge)} bps at minimum duration {duration}, paired"
    if math.isnan(edge["low_bps"]):
        return f"cannot be told from stopping without any forecast ({found})"
    if edge["low_bps"] > 0:
        luck = "" if edge["is_better"] else "; not after correction for all that was looked at"
        return f"better than stopping without any forecast ({found}{luck})"
    if edge["high_bps"] < 0:
        return f"worse than stopping without any forecast ({found})"
    seen = f"; {edge['minimum_detectable_bps']:.2f} would have been seen"
    return f"not measurably different from stopping without any forecast ({found}{seen})"


def _after_impact(curves: pd.DataFrame | None, model: str, duration: int) -> list[str]:
    """What impact leaves of the paired difference."""
    if curves is None:
        return []
    kind = (curves["model"] == model) & (curves["minimum_duration"] == duration)
    left = curves[kind & (curves["baseline"] == STOPPING_STRATEGY) & (curves["size_percent"] == VERDICT_SIZE)]
    return [
        f"{tables.with_interval(row)} bps after impact at {VERDICT_SIZE:g} % of a day's volume"
        for row in tables.records(left)
    ]


def _risk(spread: pd.Series, model: str, duration: int) -> str:
    """How the risk of a single order compares with that of the strategy it is paired with."""
    own, other = (spread.get((model, s, duration), math.nan) for s in (MODEL_STRATEGY, STOPPING_STRATEGY))
    return f" at a standard deviation of one order of {own:.1f} against {other:.1f} bps"


@dataclass(frozen=True)
class Results:
    """The frames that a comparison is made of.

    Attributes:
        scenarios: Rows of `reports.slippage_by_scenario`.
        improvements: Rows of `reports.improvements`.
        edges: Rows of `reports.edges`.
        best: Rows of `reports.best_strategies`.
        cost_curves: Rows of `reports.cost_curves`.
        groups: Rows of `reports.edges_by_group`.
        capped: Rows of `reports.capped_orders`.
        completions: Rows of ``queries/completions.sql``.
        net_improvements: Rows of `reports.net_improvements`.
        participation: Rows of `reports.participation`.
        schedules: Rows of `results.mean_schedules`.
        examples: Rows of `results.example_orders`.
        learning: As :func:`learning.learning_curves` gives them.
        walk_forward: Rows of `reports.walk_forward`.
    """

    scenarios: pd.DataFrame
    improvements: pd.DataFrame
    edges: pd.DataFrame
    best: pd.DataFrame
    cost_curves: pd.DataFrame
    groups: pd.DataFrame
    capped: pd.DataFrame
    completions: pd.DataFrame
    net_improvements: pd.DataFrame
    participation: pd.DataFrame
    schedules: pd.DataFrame
    examples: pd.DataFrame
    learning: pd.DataFrame
    walk_forward: pd.DataFrame

    def of(self, model: str) -> "Results":
        """Those of one model."""
        return Results(**{name: frame[frame["model"] == model] for name, frame in vars(self).items()})


def comparison_html(results: Results, origin: Origin, simulated: bool, studies: StudiesSection | None = None) -> str:
    """The comparison of every strategy on the same orders, as one page that loads nothing.

    Args:
        results: Of every model.
        origin: What the results rest on: bars, snapshots, code, seeds, configurations.
        simulated: Whether any price behind the results was simulated.
        studies: Other profiles' results beside these, where there are any.
    """
    models = sorted(set(results.improvements["model"]))
    sentences = verdict(results.improvements, results.edges, results.scenarios, results.cost_curves)
    return render(
        "comparison.html.j2",
        simulated=simulated,
        verdicts=[_unbroken(sentence) for sentence in sentences.splitlines()],
        headline=stacked(tables.headline_table(results.improvements, results.edges, results.scenarios)),
        sections=[_model_section(number, model, results.of(model)) for number, model in enumerate(models)],
        origin=origin,
        studies=studies,
        plotly_js=Markup(get_plotlyjs()),  # noqa: S704 - the library itself
    )


def _unbroken(sentence: str) -> str:
    """The sentence with its intervals kept on one line.

    >>> _unbroken("+1.00 [+0.50, +1.50] bps, or more").split(" ")[1:]
    ['bps,', 'or', 'more']
    """
    return re.sub(r" (?=\[)|(?<=\d,) (?=[+−]\d)", "\u00a0", sentence)


@dataclass(frozen=True)
class ModelSection:
    """Everything the page shows of one model."""

    model: str
    published: tuple[Published, ...]
    layout: list[tuple[str, list[Cell], list[Cell]]]
    window_table: pd.DataFrame
    break_even_tables: dict[str, pd.DataFrame]
    net_cost_table: pd.DataFrame
    participation_table: pd.DataFrame
    capped_table: pd.DataFrame
    group_table: pd.DataFrame
    best_table: pd.DataFrame
    edge_table: pd.DataFrame
    improvement_table: pd.DataFrame
    scenario_tables: dict[str, pd.DataFrame]
    walk_forward_tables: dict[str, pd.DataFrame]
    figures: dict[str, Markup]
    examples: list[tuple[Markup, str]]


def _model_section(number: int, model: str, results: Results) -> ModelSection:
    scenarios, improvements, edges = results.scenarios, results.improvements, results.edges
    asset_class = str(scenarios["asset_class"].iloc[0])
    horizon = int(scenarios["minimum_duration"].max())
    drawn = {
        "improvement": figures.improvement_figure(improvements),
        "edge": figures.edge_figure(edges),
        "scenario": heat_maps.scenario_figure(scenarios),
        "completion": heat_maps.completion_figure(results.completions),
        "schedule": heat_maps.schedule_figure(results.schedules),
        **{
            column: figures.learning_figure(results.learning, column, title)
            for column, title in LEARNING_TITLES.items()
        },
        "dispersion": figures.dispersion_figure(improvements, scenarios),
        "tail": figures.tail_figure(scenarios),
        "group": figures.group_figure(results.groups),
        "cost_over_stopping": figures.cost_figure(results.cost_curves, STOPPING_STRATEGY),
        "cost_over_twap": figures.cost_figure(results.cost_curves, TWAP_STRATEGY),
        "participation": figures.participation_figure(results.participation),
    }
    return ModelSection(
        model=model,
        published=published_for(asset_class, horizon),
        layout=scenario_tables.published_layout(scenarios),
        window_table=stacked(scenario_tables.window_table(improvements)),
        break_even_tables={
            baseline: stacked(cost_tables.break_even_table(results.cost_curves, baseline))
            for baseline in tables.strategies(results.cost_curves, "baseline")
        },
        net_cost_table=stacked(cost_tables.net_cost_table(results.net_improvements)),
        participation_table=stacked(cost_tables.participation_table(results.participation)),
        capped_table=stacked(cost_tables.capped_table(results.capped)),
        group_table=stacked(scenario_tables.group_table(results.groups)),
        best_table=scenario_tables.best_table(results.best),
        edge_table=stacked(scenario_tables.edge_table(edges)),
        improvement_table=stacked(scenario_tables.improvement_table(improvements)),
        scenario_tables={
            strategy: stacked(scenario_tables.scenario_table(scenarios[scenarios["strategy"] == strategy]))
            for strategy in tables.strategies(scenarios)
        },
        walk_forward_tables={
            benchmark: walk_forward_table(results.walk_forward, benchmark) for benchmark in ("VWAP", "TWAP")
        },
        figures={name: _embed(figure, f"{name}-{number}") for name, figure in drawn.items()},
        examples=[
            (_embed(order_figure(example), f"example-{percentile}-{number}"), order_caption(example))
            for (_, percentile), example in results.examples.groupby(["asset_class", "percentile"])
        ],
    )


def _embed(figure: go.Figure, element: str) -> Markup:
    """A figure as a page fragment; the page itself carries Plotly, once."""
    html = figure.to_html(full_html=False, include_plotlyjs=False, div_id=element, config=PLOTLY_SETTINGS)
    return Markup(html)  # noqa: S704 - Plotly escapes what a figure says
