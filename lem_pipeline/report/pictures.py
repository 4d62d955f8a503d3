"""Pictures for pages that show no HTML, such as Dagster's and the documentation's: PNG, from matplotlib."""

import io

import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lem_pipeline.edges import STOPPING_STRATEGY, headline_orders
from lem_pipeline.report.figures import AXIS, COLOURS, edge_figure, improvement_figure
from lem_pipeline.report.rendering import SIMULATED_BANNER, SIMULATED_NOTE
from lem_pipeline.report.tables import key_durations

_LEM = COLOURS["LEM"]


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
    figure = Figure(figsize=(10, 4.4), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw(improvement_figure(improvements[improvements["model"] == model]), left)
    _draw(edge_figure(edges[edges["model"] == model]), right)
    right.axhline(0, color=AXIS, linewidth=1)
    if simulated:
        figure.suptitle(f"{SIMULATED_BANNER}. {SIMULATED_NOTE}", color="#b3261e", fontsize=9, fontweight="bold")
    return _png(figure)


def edges_picture(edges: pd.DataFrame) -> bytes:
    """What each model gains over each baseline at the shortest key duration, with 95 % intervals; a panel per model.

    Args:
        edges: As :func:`edges.edge_intervals` gives them.
    """
    headline = headline_orders(edges)
    shown = headline[headline["minimum_duration"] == key_durations(int(headline["minimum_duration"].max()))[0]]
    models = sorted(set(shown["model"]))
    figure = Figure(figsize=(8, 0.8 + 2.4 * len(models)), dpi=100, layout="constrained")
    for panel, model in zip(figure.subplots(len(models), 1, squeeze=False)[:, 0], models, strict=True):
        rows = shown[shown["model"] == model].sort_values("mean_bps", ascending=False)
        low, high = rows["mean_bps"] - rows["low_bps"], rows["high_bps"] - rows["mean_bps"]
        panel.errorbar(rows["mean_bps"], rows["baseline"], xerr=[low, high], fmt="o", color=_LEM, capsize=3)
        panel.axvline(0, color=AXIS, lw=1)
        panel.set_title(f"{model} over each baseline, minimum duration {rows['minimum_duration'].iloc[0]}", fontsize=9)
        panel.set_xlabel("gain, bps", fontsize=8)
        _plain(panel)
    return _png(figure)


def learning_picture(history: list[dict[str, float]]) -> bytes:
    """Training and validation loss by epoch.

    Args:
        history: Metrics of each epoch, as :class:`Fit` has them.
    """
    figure = Figure(figsize=(7, 3), dpi=100, layout="constrained")
    panel = figure.subplots()
    epochs = range(1, len(history) + 1)
    for metric, colour in (("train_loss", AXIS), ("validation_loss", _LEM)):
        panel.plot(epochs, [epoch[metric] for epoch in history], "o-", color=colour, label=metric.replace("_", " "))
    panel.set_xlabel("epoch", fontsize=8)
    panel.legend(frameon=False, fontsize=8)
    _plain(panel)
    return _png(figure)


def shadow_picture(holdout: pd.DataFrame, shadow: pd.DataFrame, champion: str) -> bytes:
    """The mean headline edge of each day, added up; a panel for each asset class.

    Args:
        holdout: Rows of `reports.daily_improvements` of the champion's hold-out; may be empty.
        shadow: The same of its shadow orders.
        champion: What its strategy is called.

    Returns:
        A PNG picture.
    """
    classes = sorted(set(shadow["asset_class"]))
    figure = Figure(figsize=(9, 0.4 + 2.6 * len(classes)), dpi=110, layout="constrained")
    for asset_class, panel in zip(classes, figure.subplots(len(classes), 1, squeeze=False)[:, 0], strict=True):
        total = 0.0
        for label, rows, colour in (("hold-out", holdout, AXIS), ("since", shadow, _LEM)):
            if rows.empty:
                continue
            edge = _daily_edge(rows[rows["asset_class"] == asset_class], champion).cumsum() + total
            panel.plot(edge.index, edge, color=colour, label=label, lw=1.5)
            total = edge.iloc[-1] if len(edge) else total
        panel.axhline(0, color=AXIS, lw=0.6)
        panel.set_title(f"{asset_class}: {champion} over {STOPPING_STRATEGY}, daily means added up", fontsize=8)
        panel.set_ylabel("bps", fontsize=8)
        panel.legend(fontsize=7, frameon=False)
        _plain(panel)
    return _png(figure)


def _daily_edge(daily: pd.DataFrame, champion: str) -> pd.Series:
    orders = headline_orders(daily)
    orders = orders[orders["minimum_duration"].isin(key_durations(int(orders["minimum_duration"].max())))]
    by_day = orders.groupby(["trading_day", "strategy"])[["improvement_bps", "order_windows"]].sum()
    means = (by_day["improvement_bps"] / by_day["order_windows"]).unstack("strategy")
    edge: pd.Series = means[champion] - means[STOPPING_STRATEGY]
    return edge


def _draw(figure: go.Figure, panel: Axes) -> None:
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
    _plain(panel)
    panel.legend(frameon=False, fontsize=8)


def _plain(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
