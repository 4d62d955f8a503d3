"""The studies section of the report: the published layout side by side, what each study gains, what a proxy costs."""

from dataclasses import dataclass

import pandas as pd

from lem_pipeline.edges import MODEL_STRATEGY, STOPPING_STRATEGY, TWAP_STRATEGY
from lem_pipeline.report.tables import Cell, Row, records, signed, with_interval
from lem_pipeline.report.yardsticks import HORIZON, PUBLISHED, Published, Slippage
from lem_pipeline.studies import FINISHED

NEARLY = 0.1  # bars whose length differs by less stand beside each other


@dataclass(frozen=True)
class StudiesSection:
    """Everything the page shows of several studies.

    Attributes:
        layouts: The published columns by their setting, each beside the studies of like bars.
        edges: What the model of each study gains over stopping without forecasts.
        effects: What true prices change against typical ones; empty where no pair of studies tells.
        without_results: What is to be said of each study without results.
    """

    layouts: dict[str, pd.DataFrame]
    edges: pd.DataFrame
    effects: pd.DataFrame
    without_results: dict[str, str]


def studies_section(studies: pd.DataFrame, effects: pd.DataFrame) -> StudiesSection | None:
    """The section, or None where there is no study beside one's own.

    Args:
        studies: Rows of ``reports.studies``.
        effects: Rows of ``reports.price_effects``.
    """
    if studies["study"].nunique() < 2:
        return None
    finished = studies[studies["status"] == FINISHED]
    lacking = studies[studies["status"] != FINISHED]
    return StudiesSection(
        layouts={
            column.setting: table
            for asset_class, columns in PUBLISHED.items()
            for column in columns
            if (table := _layout(finished[finished["asset_class"] == asset_class], column)) is not None
        },
        edges=_edge_table(finished),
        effects=_effect_table(effects),
        without_results=dict(zip(lacking["study"], lacking["status"], strict=True)),
    )


def _layout(studies: pd.DataFrame, published: Published) -> pd.DataFrame | None:
    """One published column beside the studies whose bars are as long, or None where there is no such study."""
    alike = studies[(studies["bar_minutes"] / published.bar_minutes - 1).abs() < NEARLY]
    alike = alike[alike.groupby("study")["minimum_duration"].transform("max") == HORIZON]
    if alike.empty:
        return None
    return pd.DataFrame(
        [_layout_row(alike, published, duration) for duration in published.learned] + [_naive_row(alike, published)]
    )


def _layout_row(alike: pd.DataFrame, published: Published, duration: int) -> dict[str, str]:
    learned = alike[(alike["strategy"] == MODEL_STRATEGY) & (alike["minimum_duration"] == duration)]
    buy, sell = published.learned[duration]
    return {
        "minimum duration": f"{duration} (fixed)" if duration == HORIZON else str(duration),
        **_own_cells(learned),
        "published BUY": _cell(buy),
        "published SELL": _cell(sell),
    }


def _naive_row(alike: pd.DataFrame, published: Published) -> dict[str, str]:
    naive = alike[(alike["strategy"] == TWAP_STRATEGY) & (alike["minimum_duration"] == HORIZON)]
    return {
        "minimum duration": "TWAP",
        **_own_cells(naive),
        "published BUY": _cell(published.naive),
        "published SELL": _cell(None),
    }


def _own_cells(rows: pd.DataFrame) -> dict[str, str]:
    return {
        f"{row['study']}, {row['price_basis']}: {side.upper()}": _cell(
            Slippage(row[f"{side}_bps"], row[f"{side}_std_bps"])
        )
        for row in records(rows)
        for side in ("buy", "sell")
    }


def _cell(slippage: Slippage | None) -> str:
    if slippage is None:
        return "–"
    return signed(slippage.mean) + (f" ({slippage.std:.1f})" if slippage.std is not None else "")


def _edge_table(studies: pd.DataFrame) -> pd.DataFrame:
    """A row per study and model: what the model gains over stopping without forecasts, by key minimum duration."""
    stopping = studies[studies["strategy"] == STOPPING_STRATEGY]
    durations = sorted(stopping["minimum_duration"].unique())
    rows = []
    for (study, model, _), part in stopping.groupby(["study", "model", "asset_class"], sort=False):
        by_duration = {row["minimum_duration"]: row for row in records(part)}
        first = part.iloc[0]
        rows.append(
            {
                "study": study,
                "model": model,
                "bars": f"{first['bar']}, {first['source']}",
                "price": first["price_basis"],
                "order windows": f"{first['order_windows']:,.0f}",
                **{f"m = {duration:.0f}": _edge(by_duration.get(duration)) for duration in durations},
            }
        )
    return pd.DataFrame(rows)


def _edge(row: Row | None) -> Cell:
    if row is None:
        return Cell("–")
    edge = {"mean_bps": row["edge_bps"], "low_bps": row["edge_low_bps"], "high_bps": row["edge_high_bps"]}
    return Cell(with_interval(edge), f"det. {signed(row['edge_detectable_bps']).lstrip('+')}")


def _effect_table(effects: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "at the VWAP": effects["study"],
            "at the typical price": effects["against"],
            "strategy": effects["strategy"],
            "minimum duration": effects["minimum_duration"],
            "difference, bps": [with_interval(row) for row in records(effects)],
            "detectable, bps": effects["minimum_detectable_bps"].map("{:.2f}".format),
            "difference, σ": effects["mean_sigma"].map(lambda value: signed(value, 4)),
            "std of one order: VWAP / typical": [
                f"{row['std_bps']:.1f} / {row['std_against_bps']:.1f}" for row in records(effects)
            ],
            "order windows": effects["order_windows"].map("{:,}".format),
        }
    )
