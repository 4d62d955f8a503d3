"""Orders to look at, bar by bar: rows of `results.example_orders` in, Plotly figures out."""

import pandas as pd
import plotly.graph_objects as go

from lem_pipeline.edges import MODEL_STRATEGY
from lem_pipeline.report.figures import AXIS, COLOURS, empty_figure, strategy_colours
from lem_pipeline.report.tables import signed, strategies


def order_figure(example: pd.DataFrame) -> go.Figure:
    """One order window: price and market VWAP above, the child orders of each strategy below, its end dotted."""
    figure = empty_figure("bar", "", 420)
    names = strategies(example)
    path = example[example["strategy"] == names[0]].sort_values("bar")
    figure.add_scatter(
        name="bar price",
        x=path["bar"],
        y=path["price_bps"],
        mode="lines+markers",
        line={"color": AXIS, "width": 1.5},
        marker={"size": 5},
        hovertemplate="%{y:+.1f} bps",
    )
    figure.add_scatter(
        name="market VWAP",
        x=path["bar"],
        y=path["market_vwap_bps"],
        mode="lines",
        line={"color": COLOURS["volume curve"], "width": 2},
        hovertemplate="%{y:+.1f} bps",
    )
    for name, colour in strategy_colours(names).items():
        rows = example[example["strategy"] == name].sort_values("bar")
        figure.add_bar(
            name=name,
            x=rows["bar"],
            y=rows["fraction"],
            yaxis="y2",
            marker={"color": colour},
            hovertemplate="%{y:.1%} of the order",
        )
        end = int(rows["completion_bar"].iloc[0]) + (0.44 if name == MODEL_STRATEGY else 0.56)
        line = {"color": colour, "width": 1.5, "dash": "dot"}
        figure.add_shape(type="line", x0=end, x1=end, y0=0, y1=1, yref="paper", line=line)
    figure.update_layout(
        yaxis={"domain": [0.42, 1], "title": {"text": "over arrival, bps"}, "zeroline": True},
        yaxis2={"domain": [0, 0.34], "tickformat": ".0%", "rangemode": "tozero", "fixedrange": True, "nticks": 4},
        bargap=0.25,
        hovermode="x",
        legend={"font": {"size": 11}, "entrywidth": 112, "x": -0.16},
        margin={"t": 52},
    )
    figure.update_xaxes(anchor="y2", dtick=1, showgrid=False, range=[0.4, path["bar"].max() + 0.7])
    return figure


def order_caption(example: pd.DataFrame) -> str:
    """Which order it is, and how each strategy fared."""
    first = example.iloc[0]
    fared = []
    for name in strategies(example):
        order = example[example["strategy"] == name].iloc[0]
        fared.append(f"{name} {signed(order['slippage_bps'], 1)} bps, done in bar {order['completion_bar']}")
    start = pd.Timestamp(first["order_start"])
    when = (
        f"{start:%Y-%m-%d}"
        if start == start.normalize() and first["asset_class"] == "dow"
        else f"{start:%Y-%m-%d %H:%M} UTC"
    )
    return f"{first['percentile']}th percentile: {first['symbol']} from {when}. Slippage: {'; '.join(fared)}."
