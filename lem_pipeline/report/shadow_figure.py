"""What the champion gained over stopping without forecasts, day by day, on its hold-out and since."""

import io

import pandas as pd

from lem_pipeline.edges import STOPPING_STRATEGY, headline_orders
from lem_pipeline.report.figures import AXIS, COLOURS
from lem_pipeline.report.tables import key_durations


def shadow_picture(holdout: pd.DataFrame, shadow: pd.DataFrame, champion: str) -> bytes:
    """The mean headline edge of each day, added up; a panel for each asset class.

    Args:
        holdout: Rows of `reports.daily_improvements` of the champion's hold-out; may be empty.
        shadow: The same of its shadow orders.
        champion: What its strategy is called.

    Returns:
        A PNG picture.
    """
    from matplotlib.figure import Figure

    classes = sorted(set(shadow["asset_class"]))
    figure = Figure(figsize=(9, 0.4 + 2.6 * len(classes)), dpi=110, layout="constrained")
    for asset_class, panel in zip(classes, figure.subplots(len(classes), 1, squeeze=False)[:, 0], strict=True):
        total = 0.0
        for label, rows, colour in (("hold-out", holdout, AXIS), ("since", shadow, COLOURS["LEM"])):
            if rows.empty:
                continue
            edge = _daily_edge(rows[rows["asset_class"] == asset_class], champion).cumsum() + total
            panel.plot(edge.index, edge, color=colour, label=label, lw=1.5)
            total = edge.iloc[-1] if len(edge) else total
        panel.axhline(0, color=AXIS, lw=0.6)
        panel.set_title(f"{asset_class}: {champion} over {STOPPING_STRATEGY}, daily means added up", fontsize=8)
        panel.set_ylabel("bps", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.legend(fontsize=7, frameon=False)
        panel.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _daily_edge(daily: pd.DataFrame, champion: str) -> pd.Series:
    orders = headline_orders(daily)
    orders = orders[orders["minimum_duration"].isin(key_durations(int(orders["minimum_duration"].max())))]
    by_day = orders.groupby(["trading_day", "strategy"])[["improvement_bps", "order_windows"]].sum()
    means = (by_day["improvement_bps"] / by_day["order_windows"]).unstack("strategy")
    edge: pd.Series = means[champion] - means[STOPPING_STRATEGY]
    return edge
