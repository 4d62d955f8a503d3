"""Figures of the comparison report, one function each: a frame in, a Plotly figure out."""

from itertools import cycle
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from lem_pipeline.edges import MODEL_STRATEGY, ORACLE, SHUFFLED, STOPPING_STRATEGY, TWAP_STRATEGY, headline_orders
from lem_pipeline.report.scenario_tables import of_groups
from lem_pipeline.report.tables import DETECTABLE_80, NORMAL_95, key_durations, single_order_std, strategies

# Legible on white and on near-black paper, and apart for the colour-blind.
COLOURS = {
    "LEM": "#3b82c4",
    "no-forecast stopping": "#2f9e75",
    "TWAP": "#8b8f97",
    "volume curve": "#d98324",
    "buyback heuristic": "#a367c9",
    "dynamic VWAP": "#c2554d",
    "static linear": "#6b7a1f",
    "LEM, features shuffled": "#94b8dd",
    "LEM with GRU": "#1f9fb4",
    "LEM with LSTM": "#c46a9f",
}
SPARE_COLOURS = ("#5f6b7a", "#b08d57", "#7f5f8f")
DURATION_COLOURS = ("#4a6fe3", "#2ba3a0", "#7cae3f", "#c9a227")  # in order, none of them a strategy's
AXIS = "#8b8f97"  # the zero line and other marks that belong to no strategy
_HOVER = "minimum duration %{customdata[0]}: %{y:+.2f} bps, detectable %{customdata[1]:.2f}"


def strategy_colours(names: list[str]) -> dict[str, str]:
    """A colour per strategy, the same in every figure."""
    spare = cycle(SPARE_COLOURS)
    return {name: COLOURS.get(name) or next(spare) for name in names}


def empty_figure(x_title: str, y_title: str, height: int = 380) -> go.Figure:
    """An empty figure on transparent paper; the page's style sheet colours text and grid, by theme."""
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 56, "r": 12, "t": 36, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0},
    )
    figure.update_xaxes(title={"text": x_title, "font": {"size": 13}}, zeroline=False, fixedrange=True)
    figure.update_yaxes(title={"text": y_title, "font": {"size": 13}}, zerolinewidth=1, fixedrange=True)
    return figure


def without_oracle(frame: pd.DataFrame) -> pd.DataFrame:
    """What a trader could have done: the oracle's bound would flatten all else in a figure."""
    return frame[frame["strategy"] != ORACLE]


def _interval(rows: pd.DataFrame) -> dict[str, Any]:
    """Error bars from the mean to both ends of its interval."""
    above, below = rows["high_bps"] - rows["mean_bps"], rows["mean_bps"] - rows["low_bps"]
    return {"array": above, "arrayminus": below}


def improvement_figure(improvements: pd.DataFrame) -> go.Figure:
    """Side-averaged improvement of one model's headline orders by minimum duration, with 95 % intervals."""
    orders = without_oracle(headline_orders(improvements))
    # Who trades one schedule on either side gains nothing when sides are averaged: one such line stands for all.
    flexible = set(orders.loc[orders["mean_bps"].abs() > 1e-6, "strategy"])
    orders = orders[orders["strategy"].isin(flexible | {TWAP_STRATEGY})]
    names = strategies(orders)
    figure = empty_figure("minimum duration, bars", "improvement on VWAP, bps")
    for position, (name, colour) in enumerate(strategy_colours(names).items()):
        rows = orders[orders["strategy"] == name].sort_values("minimum_duration")
        # A nudge to the side keeps intervals apart where strategies earn the same, and no further than need be.
        nudge = 0.3 * (position / (len(names) - 1) - 0.5) if len(names) > 1 else 0.0
        _add_by_duration(figure, name, rows, nudge, {"color": colour, "width": 2}, cap=3, on_top=name == MODEL_STRATEGY)
    figure.update_xaxes(dtick=1 if orders["minimum_duration"].max() <= 16 else None)
    return figure


def _add_by_duration(
    figure: go.Figure, name: str, rows: pd.DataFrame, nudge: float, line: dict[str, Any], cap: int, on_top: bool
) -> None:
    """A line over minimum durations with intervals, a little to the side so that those of its neighbours stay apart."""
    figure.add_scatter(
        name=name,
        x=rows["minimum_duration"] + nudge,
        y=rows["mean_bps"],
        error_y=_interval(rows) | {"thickness": 1.5, "width": cap},
        customdata=rows[["minimum_duration", "minimum_detectable_bps"]],
        hovertemplate=_HOVER,
        mode="lines+markers",
        line=line,
        zorder=int(on_top),
    )


def edge_figure(edges: pd.DataFrame) -> go.Figure:
    """What one model's features and forecasts earn, headline orders, by minimum duration; with 95 % intervals."""
    orders = headline_orders(edges)
    names = [name for name in (STOPPING_STRATEGY, SHUFFLED) if name in set(orders["baseline"])]
    figure = empty_figure("minimum duration, bars", "gain of the model over it, bps")
    _shade_undetectable(figure, orders[orders["baseline"] == STOPPING_STRATEGY].sort_values("minimum_duration"))
    for position, (name, colour) in enumerate(strategy_colours(names).items()):
        rows = orders[orders["baseline"] == name].sort_values("minimum_duration")
        nudge = 0.12 * (position - (len(names) - 1) / 2)
        is_main = name == STOPPING_STRATEGY
        line = {"color": colour, "width": 2 if is_main else 1}
        _add_by_duration(figure, name, rows, nudge, line, cap=2, on_top=is_main)
    figure.add_hline(0, line={"width": 1, "color": AXIS})
    figure.update_xaxes(dtick=1 if orders["minimum_duration"].max() <= 16 else None)
    return figure


def _shade_undetectable(figure: go.Figure, rows: pd.DataFrame) -> None:
    """Gains that the test would miss more often than one time in five."""
    ends = pd.concat([rows, rows.iloc[::-1]])["minimum_duration"]
    band = pd.concat([rows["minimum_detectable_bps"], -rows["minimum_detectable_bps"].iloc[::-1]])
    figure.add_scatter(
        name="too small to detect",
        x=ends,
        y=band,
        fill="toself",
        fillcolor="rgba(139, 143, 151, 0.16)",
        mode="none",
        hoverinfo="skip",
        zorder=-1,
    )


def tail_figure(scenarios: pd.DataFrame) -> go.Figure:
    """How the slippage of one model's and its rivals' buys is spread: the middle 90 and 98 % of headline orders."""
    orders = without_oracle(headline_orders(scenarios))
    half = key_durations(int(orders["minimum_duration"].max()))[0]
    orders = orders[(orders["minimum_duration"] == half) & (orders["side"] == "buy")].set_index("strategy")
    names = strategies(orders.reset_index())
    figure = empty_figure("slippage of one order, bps", "", 120 + 34 * len(names))
    for (low, high), width in (((0.01, 0.99), 2), ((0.05, 0.95), 8)):
        for name, colour in strategy_colours(names).items():
            ends = [orders.loc[name, f"p{round(100 * end):02d}_slippage_bps"] for end in (low, high)]
            label = f"{name}<br>{high - low:.0%} of the orders: %{{x:+.1f}}<extra></extra>"
            line = {"color": colour, "width": width}
            figure.add_scatter(x=ends, y=[name, name], mode="lines", line=line, hovertemplate=label)
    medians = orders.loc[names, "median_slippage_bps"]
    marker = {"color": "#ffffff", "size": 7, "line": {"color": "#5f6b7a", "width": 1.5}}
    figure.add_scatter(
        x=medians, y=names, mode="markers", marker=marker, hovertemplate="median %{x:+.1f}<extra></extra>"
    )
    figure.update_layout(showlegend=False, margin={"t": 12})
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
    return figure


def group_figure(groups: pd.DataFrame) -> go.Figure:
    """Where one model gains over stopping without forecasts: a row per group of order windows, 95 % intervals."""
    rows = of_groups(groups)
    figure = empty_figure("gain over stopping, bps", "", 100 + 20 * len(rows))
    figure.add_scatter(
        x=rows["mean_edge_bps"],
        y=[list(rows["trait"]), list(rows["value"])],
        error_x={"array": NORMAL_95 * rows["standard_error_bps"], "thickness": 1.5, "width": 2},
        customdata=rows.assign(detectable=DETECTABLE_80 * rows["standard_error_bps"])[["order_windows", "detectable"]],
        hovertemplate=(
            "%{y}: %{x:+.2f} bps on %{customdata[0]:,} order windows, detectable %{customdata[1]:.2f}<extra></extra>"
        ),
        mode="markers",
        marker={"color": COLOURS[MODEL_STRATEGY], "size": 7},
    )
    figure.add_vline(0, line={"width": 1, "color": AXIS})
    figure.update_yaxes(autorange="reversed", tickfont={"size": 11}, automargin=True)
    figure.update_layout(margin={"t": 12})
    return figure


def cost_figure(curves: pd.DataFrame, baseline: str) -> go.Figure:
    """What one model gains over another strategy after impact, by order size: a line per key minimum duration."""
    paired = curves[curves["baseline"] == baseline]
    durations = [
        m for m in key_durations(int(curves["minimum_duration"].max())) if m in set(paired["minimum_duration"])
    ]
    figure = empty_figure("order size, percent of a day's volume", f"gain over {baseline}, bps", 400)
    for duration, colour in zip(durations, DURATION_COLOURS, strict=False):
        rows = paired[paired["minimum_duration"] == duration].sort_values("size_percent")
        figure.add_scatter(
            name=f"minimum duration {duration}",
            x=rows["size_percent"],
            y=rows["mean_bps"],
            error_y=_interval(rows) | {"thickness": 1.5, "width": 2},
            customdata=rows["minimum_detectable_bps"],
            hovertemplate="%{x} % of a day: %{y:+.2f} bps, detectable %{customdata:.2f}",
            mode="lines+markers",
            line={"color": colour, "width": 2},
        )
    figure.add_hline(0, line={"width": 1, "color": AXIS})
    figure.update_xaxes(type="log", tickvals=sorted(set(curves["size_percent"])))
    return figure


def participation_figure(participation: pd.DataFrame) -> go.Figure:
    """The largest child order of an order as a fraction of its bar's volume, by minimum duration and strategy."""
    rows = without_oracle(participation)
    figure = empty_figure("minimum duration, bars", "largest child order, of its bar", 400)
    for name, colour in strategy_colours(strategies(rows)).items():
        own = rows[rows["strategy"] == name].sort_values("minimum_duration")
        figure.add_scatter(
            name=name,
            x=own["minimum_duration"],
            y=own["largest_participation"],
            error_y={"array": NORMAL_95 * own["largest_standard_error"], "thickness": 1, "width": 0},
            customdata=DETECTABLE_80 * own["largest_standard_error"],
            hovertemplate="minimum duration %{x}: %{y:.2%}, detectable %{customdata:.2%}",
            mode="lines+markers",
            line={"color": colour, "width": 2 if name == MODEL_STRATEGY else 1},
            marker={"size": 5},
            zorder=int(name == MODEL_STRATEGY),
        )
    figure.update_xaxes(dtick=1 if rows["minimum_duration"].max() <= 16 else None)
    figure.update_yaxes(tickformat=".0%" if rows["largest_participation"].max() > 0.05 else ".1%", rangemode="tozero")
    return figure


def dispersion_figure(improvements: pd.DataFrame, scenarios: pd.DataFrame) -> go.Figure:
    """Mean improvement over the risk of a single order, one point per minimum duration and strategy."""
    orders = without_oracle(headline_orders(improvements)).merge(single_order_std(scenarios))
    labelled = (1, *key_durations(int(orders["minimum_duration"].max())))
    figure = empty_figure("standard deviation of one order, bps", "improvement on VWAP, bps", 420)
    for name, colour in strategy_colours(strategies(orders)).items():
        rows = orders[orders["strategy"] == name].sort_values("minimum_duration")
        figure.add_scatter(
            name=name,
            x=rows["order_std_bps"],
            y=rows["mean_bps"],
            error_y=_interval(rows) | {"thickness": 1, "width": 0},
            zorder=int(name == MODEL_STRATEGY),
            text=rows["minimum_duration"].where(rows["minimum_duration"].isin(labelled), "").astype(str),
            textposition="middle right",
            customdata=rows[["minimum_duration", "minimum_detectable_bps"]],
            hovertemplate=_HOVER + ", at std %{x:.1f}",
            mode="lines+markers+text" if name == MODEL_STRATEGY else "lines+markers",
            line={"color": colour, "width": 1},
            marker={"size": 8},
        )
    return figure


def learning_figure(learning: pd.DataFrame, column: str, y_title: str) -> go.Figure:
    """One measure of one model's training by epoch; the epoch whose weights were kept is ringed."""
    figure = empty_figure("epoch", y_title, 270)
    kept = learning[learning["is_kept"]]
    line, ring = {"color": COLOURS[MODEL_STRATEGY], "width": 2}, {"color": COLOURS["volume curve"], "width": 2.5}
    marker = {"size": 13, "color": "rgba(0,0,0,0)", "line": ring}
    figure.add_scatter(x=learning["epoch"], y=learning[column], mode="lines+markers", line=line, name="")
    figure.add_scatter(x=kept["epoch"], y=kept[column], mode="markers", marker=marker, name="kept", hoverinfo="skip")
    figure.update_layout(showlegend=False, margin={"t": 12, "l": 76})
    figure.update_xaxes(dtick=1 if len(learning) <= 12 else None)
    figure.update_yaxes(zeroline=False, nticks=6, hoverformat=".4f")
    return figure
