"""Heat maps of the comparison report: a frame in, a Plotly figure out."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lem_pipeline.edges import MODEL_STRATEGY
from lem_pipeline.report.figures import empty_figure
from lem_pipeline.report.tables import DETECTABLE_80, NORMAL_95, detectable, estimate

# Pale enough for dark text in every cell, on either paper; the page's style sheet colours it.
GAIN_TO_COST = ((0.0, "#6ea6dd"), (0.5, "#f1f2f4"), (1.0, "#ee9d63"))
SHARES = ((0.0, "#f1f2f4"), (1.0, "#5f9bd8"))
DEEP_SHARES = ((0.0, "#f1f2f4"), (0.5, "#5f9bd8"), (1.0, "#1d4f91"))  # without text
_WITHIN = " ± %{customdata[0]:.1f} %, detectable %{customdata[1]:.1f} %<extra></extra>"


def _percent(standard_errors: pd.DataFrame) -> np.ndarray:
    """Half of each 95 % interval and what is detectable, in percent; (rows, columns, 2)."""
    errors = 100 * standard_errors.to_numpy(float)
    return np.stack([NORMAL_95 * errors, DETECTABLE_80 * errors], axis=-1)


def scenario_figure(scenarios: pd.DataFrame) -> go.Figure:
    """Slippage of one model's own orders, minimum duration by scenario; each cell with its 95 % interval."""
    rows = scenarios[scenarios["strategy"] == MODEL_STRATEGY].copy()
    rows["scenario"] = rows["benchmark"] + "<br>" + rows["target"] + "<br>" + rows["side"]
    rows["text"] = [
        estimate(mean, error, 1).replace(" ±", "<br>±")
        for mean, error in zip(rows["mean_slippage_bps"], rows["standard_error_bps"], strict=True)
    ]
    rows["detectable"] = rows["standard_error_bps"].map(detectable)
    least = rows.pivot(index="minimum_duration", columns="scenario", values="detectable")
    means = rows.pivot(index="minimum_duration", columns="scenario", values="mean_slippage_bps")
    texts = rows.pivot(index="minimum_duration", columns="scenario", values="text")
    figure = empty_figure("", "minimum duration, bars", 120 + 38 * len(means))
    figure.add_heatmap(
        x=means.columns,
        y=means.index,
        z=means,
        text=texts,
        texttemplate="%{text}",
        textfont={"size": 11},
        customdata=least,
        hovertemplate="%{x}<br>minimum duration %{y}<br>%{text} bps<br>detectable %{customdata}<extra></extra>",
        colorscale=GAIN_TO_COST,
        zmid=0,
        xgap=2,
        ygap=2,
        showscale=False,
    )
    figure.update_xaxes(side="top", showgrid=False, tickangle=0, tickfont={"size": 11})
    figure.update_yaxes(autorange="reversed", dtick=1, showgrid=False)
    figure.update_layout(margin={"t": 72, "b": 12})
    return figure


def completion_figure(completions: pd.DataFrame) -> go.Figure:
    """In which bar one model's own orders were complete: share of orders, by minimum duration."""
    rows = completions[completions["strategy"] == MODEL_STRATEGY]
    shares = rows.pivot(index="minimum_duration", columns="completion_bar", values="share")
    errors = rows.pivot(index="minimum_duration", columns="completion_bar", values="standard_error")
    figure = empty_figure("completion bar", "minimum duration, bars", 110 + 26 * len(shares))
    figure.add_heatmap(
        x=shares.columns,
        y=shares.index,
        z=shares,
        customdata=_percent(errors),
        texttemplate="%{z:.0%}",
        textfont={"size": 11},
        hovertemplate="minimum duration %{y}<br>complete in bar %{x}: %{z:.1%}" + _WITHIN,
        colorscale=SHARES,
        zmin=0,
        zmax=1,
        xgap=2,
        ygap=2,
        showscale=False,
        hoverongaps=False,
    )
    figure.update_xaxes(dtick=1, showgrid=False)
    figure.update_yaxes(autorange="reversed", dtick=1, showgrid=False)
    figure.update_layout(margin={"t": 12})
    return figure


def schedule_figure(schedules: pd.DataFrame) -> go.Figure:
    """The mean schedule of one model: bar by minimum duration, a panel per scenario, one scale for all."""
    kinds = [(benchmark, target) for benchmark in ("VWAP", "TWAP") for target in ("quantity", "notional")]
    titles = [f"{side} {target}, {benchmark}" for side in ("buy", "sell") for benchmark, target in kinds]
    figure = make_subplots(2, 4, True, True, subplot_titles=titles, horizontal_spacing=0.02, vertical_spacing=0.1)
    horizon = int(schedules["bar"].max())
    for number, (side, (benchmark, target)) in enumerate((s, kind) for s in ("buy", "sell") for kind in kinds):
        rows = schedules[
            (schedules["side"] == side) & (schedules["benchmark"] == benchmark) & (schedules["target"] == target)
        ]
        means, errors = (
            rows.pivot(index="minimum_duration", columns="bar", values=name)
            for name in ("mean_fraction", "standard_error")
        )
        figure.add_heatmap(
            x=means.columns,
            y=means.index,
            z=means,
            customdata=_percent(errors),
            hovertemplate="minimum duration %{y}, bar %{x}:<br>%{z:.1%}" + _WITHIN,
            coloraxis="coloraxis",
            xgap=1,
            ygap=1,
            row=number // 4 + 1,
            col=number % 4 + 1,
        )
    bar = {"title": {"text": "of the<br>order"}, "tickformat": ".0%", "thickness": 10, "len": 0.9}
    figure.update_layout(
        empty_figure("", "", 470).layout,
        coloraxis={"colorscale": DEEP_SHARES, "cmin": 0, "colorbar": bar},
        margin={"l": 52, "r": 12, "t": 28, "b": 44},
    )
    figure.update_annotations(font={"size": 12})
    ticks = {"tickvals": sorted({1, horizon // 2, horizon}), "showgrid": False, "zeroline": False, "fixedrange": True}
    figure.update_xaxes(**ticks).update_yaxes(autorange="reversed", **ticks)
    figure.update_xaxes(title={"text": "bar", "font": {"size": 12}, "standoff": 4}, row=2)
    figure.update_yaxes(title={"text": "minimum duration", "font": {"size": 12}, "standoff": 4}, col=1)
    return figure
