"""What ``docs/scale.md`` quotes: exponents, bottlenecks and projections as tables."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.growth.curves import Measurement
from benchmarks.growth.projection import BARS, EPOCHS, GPU_OVER_CORE, SESSIONS, WORKER_MB, WORKERS, Fits, desk, history

BEGIN, END = "<!-- growth, by make bench NAME=growth -->\n", "<!-- end of growth -->\n"


def bottlenecks(found: Sequence[Measurement], dimension: str) -> list[tuple[int, str, str]]:
    """At each scale: the stage that takes most time, and the one that takes most memory."""
    mine = [each for each in found if each.dimension == dimension]
    by_stage: dict[str, list[Measurement]] = {}
    for each in sorted(mine, key=lambda m: m.size):
        by_stage.setdefault(each.stage, []).append(each)
    scales = []
    for place in range(min(map(len, by_stage.values()), default=0)):
        here = [each[place] for each in by_stage.values()]
        factor = round(here[0].size / by_stage[here[0].stage][0].size)
        slowest, largest = max(here, key=lambda m: m.cost.time), max(here, key=lambda m: m.cost.memory)
        scales.append(
            (factor, f"{slowest.stage} ({slowest.cost.time:.1f} s)", f"{largest.stage} ({largest.cost.memory:,.0f} MB)")
        )
    return scales


def markdown(found: Sequence[Measurement], fits: Fits, decisions: int) -> str:
    """All tables."""
    rows = ["| stage | grows in | largest measured | time | memory | disk |", "|---|---|---|---|---|---|"]
    for stage, dimension in dict.fromkeys((each.stage, each.dimension) for each in found):
        largest = max((m for m in found if (m.stage, m.dimension) == (stage, dimension)), key=lambda m: m.size)
        cost = largest.cost
        said = [
            f"{value:,.1f} {unit}, ^{fits[stage, dimension, resource].exponent:.2f}"
            for resource, value, unit in (("time", cost.time, "s"), ("memory", cost.memory, "MB"))
        ]
        disk = f"{cost.disk:,.1f} MB, ^{fits[stage, dimension, 'disk'].exponent:.2f}" if cost.disk >= 1 else "–"
        rows.append(f"| {stage} | {dimension} | {largest.size:,.0f} | {said[0]} | {said[1]} | {disk} |")
    rows += ["", "| scale | grows in | most time | most memory |", "|---|---|---|---|"]
    for dimension in ("bars", "symbols"):
        rows += [f"| {at}x | {dimension} | {slow} | {big} |" for at, slow, big in bottlenecks(found, dimension)]
    for name, bars in BARS.items():
        rows += ["", f"Projection, not measured: 5,000 symbols, 10 years of 1-minute bars, {name}: {bars:,} bars.", ""]
        rows += [
            f"| stage | core hours | on {WORKERS} workers, hours | GB a worker | TB on disk | plan |",
            "|---|---|---|---|---|---|",
        ]
        rows += [
            f"| {line.stage} | {line.core_hours:,.1f} | {line.core_hours / WORKERS:,.1f} | {line.memory_gb:,.1f} | "
            f"{line.disk_tb:,.2f} | {line.plan} |"
            for line in history(bars, fits)
        ]
    at = desk(SESSIONS, decisions, fits)
    rows += [
        "",
        f"Projection, not measured: {SESSIONS:,} sessions, each process with a book of its share, take "
        f"{at['core_seconds_a_round']:,.1f} core seconds a round, {at['cores_for_a_round_a_second']:,.0f} cores for a "
        f"round a second, and {at['memory_gb']:,.1f} GB; no disk.",
        "",
        f"Assumed: workers of one core of this machine and {WORKER_MB / 1e3:.0f} GB; training passes {EPOCHS} times "
        f"over windows that do not overlap; a GPU is {GPU_OVER_CORE} times as fast as a core, which was not measured.",
    ]
    return "\n".join(rows)


def rewrite(page: Path, text: str) -> None:
    """Put the tables between the marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}{text}\n{END}{rest.partition(END)[2]}")
