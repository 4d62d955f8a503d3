"""What the comparison of two versions says: what differs between them, and which one is better, if either."""

import math
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from lem_pipeline.compare import Comparison
from lem_pipeline.edges import ALL_KINDS
from lem_pipeline.report.rendering import render, screen_banner, screen_table
from lem_pipeline.report.tables import Row, records, signed, with_interval
from lem_pipeline.versions import Version

_MADE_OF = {"data.snapshot": "data snapshot", "code.version": "code"}


def what_differs(one: Version, other: Version) -> pd.DataFrame:
    """Configuration, data, code and seed in which two versions differ: name and two values."""
    made = [
        {**version.parameters, **{name: version.tags.get(tag, "unknown") for tag, name in _MADE_OF.items()}}
        for version in (one, other)
    ]
    names = [name for name in dict.fromkeys([*made[0], *made[1]]) if made[0].get(name) != made[1].get(name)]
    rows = [(name, *(values.get(name, "–") for values in made)) for name in names if name != "snapshot"]
    return pd.DataFrame(rows, columns=["what", one.name, other.name])


def gate_evidence(one: Version, other: Version) -> pd.DataFrame:
    """What each gate found of the two, as their tags say."""
    names = dict.fromkeys(tag for version in (one, other) for tag in version.tags if tag.startswith("gate."))
    rows = [
        (name.removeprefix("gate.").replace("_", " "), *(v.tags.get(name, "not asked then") for v in (one, other)))
        for name in names
    ]
    return pd.DataFrame(rows, columns=["gate", one.name, other.name])


def verdict(found: Comparison) -> str:
    """Better, worse or not measurably different, one sentence per asset class."""
    averages = found.differences[found.differences["benchmark"] == ALL_KINDS]
    return "\n".join(_sentence(found, row) for row in records(averages))


def _sentence(found: Comparison, average: Row) -> str:
    one, other, low, high = found.one.name, found.other.name, average["low_sigma"], average["high_sigma"]
    kinds = found.differences[found.differences["asset_class"] == average["asset_class"]]
    hedged = kinds[kinds["benchmark"] == "VWAP"]
    risk = ((hedged["std_one_bps"] / hedged["std_other_bps"]).mean() - 1) * 100
    gain = f"{with_interval(average, 'sigma', 4)} σ, {with_interval(average)} bps"
    orders = (
        f"averaged over {len(kinds) - 1} kinds of {average['asset_class']} {found.split} orders, "
        f"{average['order_windows']:,} windows of {average['days']:,} days"
    )
    spread = f"the std of a single order against VWAP is {abs(risk):.1f} % {'higher' if risk > 0 else 'lower'}"
    if math.isnan(low):
        return f"{one} against {other} cannot be judged on so few days: {gain}, {orders}; {spread}."
    if low > 0 or high < 0:
        return f"{one} is {'better' if low > 0 else 'worse'} than {other}: {gain}, {orders}; {spread}."
    would = f"{average['minimum_detectable_sigma']:.4f} σ would have been found four times out of five"
    return f"{one} is not measurably different from {other}: {gain}, {orders}; {would}; {spread}."


def difference_table(found: Comparison) -> pd.DataFrame:
    """Differences by kind of order, ready to read."""
    return pd.DataFrame(
        [
            {
                "asset class": row["asset_class"],
                "benchmark": row["benchmark"],
                "minimum duration": str(row["minimum_duration"] or "–"),
                "difference, bps": with_interval(row),
                "detectable, bps": f"{row['minimum_detectable_bps']:.2f}",
                "difference, σ": with_interval(row, "sigma", 4),
                "detectable, σ": f"{row['minimum_detectable_sigma']:.4f}",
                f"std of one order, bps: {found.one.name}": signed(row["std_one_bps"], 1).lstrip("+"),
                found.other.name: signed(row["std_other_bps"], 1).lstrip("+"),
            }
            for row in records(found.differences.sort_values("benchmark", ascending=False, kind="stable"))
        ]
    )


def on_screen(found: Comparison) -> RenderableType:
    """The comparison for a terminal."""
    differs = what_differs(found.one, found.other)
    return Group(
        *screen_banner(found.simulated),
        *(Text(note, "dim") for note in found.notes),
        screen_table("What differs", differs)
        if len(differs)
        else Text("Nothing differs: same settings, data, code and seed."),
        screen_table("What each gate found", gate_evidence(found.one, found.other)),
        screen_table(
            f"{found.one.name} less {found.other.name}, positive is better, 95 % intervals", difference_table(found)
        ),
        Text(verdict(found), "bold"),
    )


def answer(found: Comparison) -> dict[str, Any]:
    """The comparison for a script."""
    return {
        "one": found.one.name,
        "other": found.other.name,
        "split": found.split,
        "simulated": found.simulated,
        "verdict": verdict(found).splitlines(),
        "notes": found.notes,
        "differences": found.differences,
        "what_differs": what_differs(found.one, found.other).astype(str),
    }


def comparison_page(found: Comparison) -> str:
    """The comparison as one page that loads nothing."""
    return render(
        "versions.html.j2",
        simulated=found.simulated,
        one=found.one.name,
        other=found.other.name,
        split=found.split,
        sentences=verdict(found).splitlines(),
        notes=found.notes,
        differences=difference_table(found),
        differs=what_differs(found.one, found.other),
        gates=gate_evidence(found.one, found.other),
    )
