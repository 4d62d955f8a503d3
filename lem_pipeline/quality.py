"""Data quality as people look at it: a sentence, a heat map of completeness, one page."""

import base64
import io

import pandas as pd
from markupsafe import Markup

from lem_pipeline.report.rendering import render

LEVELS = [0.0, 0.5, 0.9, 0.99, 0.999999, 1.0]  # of completeness, one colour between each two
COLOURS = ["#7a1f1f", "#c8611a", "#e8a15c", "#f3d9a4", "#d5e3ef"]


def headline(completeness: pd.DataFrame) -> str:
    """What is stored of what must exist, one sentence a line, one line per asset class.

    Args:
        completeness: Rows of ``quality.completeness``.
    """
    return "\n".join(_sentence(asset_class, rows) for asset_class, rows in completeness.groupby("asset_class"))


def _sentence(asset_class: object, rows: pd.DataFrame) -> str:
    expected, stored = int(rows["expected"].sum()), int(rows["stored"].sum())
    unexplained, masked = int(rows["unexplained_gaps"].sum()), int(rows["masked"].sum())
    if stored == expected:
        missing = f"all {expected:,} bars that must exist are stored"
    else:
        missing = (
            f"{stored:,} of {expected:,} bars that must exist are stored ({stored / expected:.3%}), "
            f"{unexplained:,} of the {expected - stored:,} missing ones without an explanation"
        )
    return f"{asset_class}: {missing}; order windows leave out {f'{masked:,} of the stored' if masked else 'none'}."


def incomplete_months(completeness: pd.DataFrame) -> pd.DataFrame:
    """Symbols and months in which not every bar can be relied on, the worst first, ready to read."""
    rows = completeness[completeness["completeness"] < 1].sort_values(["completeness", "symbol", "month"])
    return pd.DataFrame(
        {
            "asset class": rows["asset_class"],
            "symbol": rows["symbol"],
            "month": pd.to_datetime(rows["month"]).dt.strftime("%Y-%m"),
            "complete": rows["completeness"].map("{:.2%}".format),
            **{name: rows[name].map("{:,.0f}".format) for name in ("expected", "stored", "masked")},
            "unexplained gaps": rows["unexplained_gaps"].map("{:,.0f}".format),
        }
    )


def proxy_table(proxy: pd.DataFrame) -> pd.DataFrame:
    """Which prices are proxies, and how good a proxy is where the true average price is known, ready to read.

    Args:
        proxy: Rows of ``quality.price_proxy``.
    """

    def measured(column: str, digits: int, sign: str = "") -> pd.Series:
        return proxy[column].map(lambda value: "–" if pd.isna(value) else f"{value:{sign}.{digits}f}")

    return pd.DataFrame(
        {
            "asset class": proxy["asset_class"],
            "symbol": proxy["symbol"],
            "bars": proxy["bars"].map("{:,}".format),
            "at the typical price": proxy["proxy_share"].map("{:.2%}".format),
            "VWAP known": proxy["bars_with_vwap"].map("{:,}".format),
            "typical over VWAP, mean, bps": measured("mean_error_bps", 2, "+"),
            "rms, bps": measured("rms_error_bps", 2),
            "mean, σ": measured("mean_error_sigma", 4, "+"),
            "rms, σ": measured("rms_error_sigma", 3),
        }
    )


def heat_map(completeness: pd.DataFrame) -> bytes:
    """Completeness by symbol and month, a panel for each asset class; blank where no bar must exist.

    Returns:
        A PNG picture.
    """
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.figure import Figure

    parts = [
        rows.pivot(index="symbol", columns="month", values="completeness").sort_index(ascending=False)
        for _, rows in completeness.assign(month=pd.to_datetime(completeness["month"])).groupby("asset_class")
    ]
    colours, levels = ListedColormap(COLOURS), BoundaryNorm(LEVELS, len(COLOURS))
    heights = [len(part) + 3 for part in parts]
    figure = Figure(figsize=(11, 0.6 + 0.17 * sum(heights)), dpi=110, layout="constrained")
    panels = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, panel in zip(parts, panels, strict=True):
        months = part.columns.append(pd.DatetimeIndex([part.columns[-1] + pd.offsets.MonthBegin()]))
        drawn = panel.pcolormesh(
            months,
            range(len(part) + 1),
            part.to_numpy(float),
            cmap=colours,
            norm=levels,
            edgecolors="white",
            lw=0.2 if len(months) < 120 else 0,
        )
        panel.set_yticks([row + 0.5 for row in range(len(part))], part.index, fontsize=7)
        panel.tick_params(length=0, labelsize=7)
        panel.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=list(panels), shrink=0.5, aspect=30, spacing="uniform", ticks=LEVELS)
    bar.ax.set_yticklabels(["0", "50 %", "90 %", "99 %", "", "all"], fontsize=7)
    bar.set_label("bars to rely on, of those that must exist", fontsize=7)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def as_image(png: bytes) -> str:
    """An address that carries a picture within itself, for pages and Markdown."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def quality_html(
    completeness: pd.DataFrame,
    picture: str,
    faults: pd.DataFrame,
    coverage: pd.DataFrame,
    proxy: pd.DataFrame,
    provenance: list[str],
    simulated: bool,
) -> str:
    """The quality page.

    Args:
        completeness: Rows of ``quality.completeness``.
        picture: Address of its heat map, see :func:`as_image`.
        faults: The ledger by kind of fault, ``queries/faults_by_kind.sql``.
        coverage: Rows of ``quality.dow_coverage``.
        proxy: Rows of ``quality.price_proxy``.
        provenance: Where the bars come from, a line each.
        simulated: Whether any bar was simulated.
    """
    shown = coverage.assign(coverage=coverage["coverage"].map("{:.1%}".format))
    return render(
        "quality.html.j2",
        simulated=simulated,
        provenance=provenance,
        sentences=headline(completeness).splitlines(),
        heat_map=Markup(picture),  # noqa: S704 - a picture that we drew
        faults=faults,
        months=incomplete_months(completeness),
        proxy=proxy_table(proxy),
        coverage=shown.rename(columns=lambda name: name.replace("_", " ")).fillna(""),
    )
