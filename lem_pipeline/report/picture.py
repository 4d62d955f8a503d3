"""The report's first figures as one picture, for pages that show no HTML."""

import io
from typing import TYPE_CHECKING

import pandas as pd
import plotly.graph_objects as go

from lem_pipeline.report.figures import AXIS, edge_figure, improvement_figure
from lem_pipeline.report.rendering import SIMULATED_BANNER, SIMULATED_NOTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def headline_picture(improvements: pd.DataFrame, edges: pd.DataFrame, model: str, simulated: bool) -> bytes:
    """What one model's headline orders gain, and what its forecasts add, as the report shows both.

    Args:
        improvements: As :func:`edges.improvement_intervals` gives them.
        edges: As :func:`edges.edge_intervals` gives them.
        model: The registered model.
        simulated: Whether any price behind the results was simulated; the picture says so.

    Returns:
        A PNG picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw(improvement_figure(improvements[improvements["model"] == model]), left)
    _draw(edge_figure(edges[edges["model"] == model]), right)
    right.axhline(0, color=AXIS, linewidth=1)
    if simulated:
        figure.suptitle(f"{SIMULATED_BANNER}. {SIMULATED_NOTE}", color="#b3261e", fontsize=9, fontweight="bold")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _draw(figure: go.Figure, panel: "Axes") -> None:
    """The lines, intervals and shaded bands of a Plotly figure."""
    for trace in figure.data:
        if trace.fill:
            panel.fill(trace.x, trace.y, color=AXIS, alpha=0.16, linewidth=0, label=trace.name)
        else:
            panel.errorbar(
                trace.x,
                trace.y,
                yerr=[trace.error_y.arrayminus, trace.error_y.array],
                color=trace.line.color,
                linewidth=trace.line.width,
                marker="o",
                markersize=4,
                capsize=2,
                label=trace.name,
            )
    panel.set_xlabel(figure.layout.xaxis.title.text)
    panel.set_ylabel(figure.layout.yaxis.title.text)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=8)
