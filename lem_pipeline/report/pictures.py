"""Pictures for the Dagster UI, which shows no HTML: PNG, from matplotlib."""

import io

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lem_pipeline.edges import headline_orders
from lem_pipeline.report.figures import AXIS, COLOURS
from lem_pipeline.report.tables import key_durations

_LEM = COLOURS["LEM"]


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


def _plain(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
