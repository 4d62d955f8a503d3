"""Cost curves: time, memory and disk of each stage by size, fitted exponents, bottlenecks, projections.

Time is seconds of a core over all threads; of the Dagster UI, seconds until the page's queries are answered. Memory is
a process's growth at its peak. Growth is linear where the exponent is one; for bars and symbols the aim is 1.05.
``--markdown`` rewrites the tables in ``docs/scale.md``; ``--largest`` ends the curves early.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.growth.curves import FACTORS, Base, Measurement, all_measurements
from benchmarks.growth.fit import Fit, fitted
from benchmarks.growth.models import DECISIONS
from benchmarks.growth.projection import BARS, SESSIONS, desk, history
from benchmarks.growth.tables import bottlenecks, markdown, rewrite

AIM = 1.05
HELD = ("bars", "symbols")  # dimensions that nothing may outgrow
RESOURCES = ("time", "memory", "disk")
PAGE = Path("docs/scale.md")


def fits_of(found: Sequence[Measurement]) -> dict[tuple[str, str, str], Fit]:
    """A fit for each stage, dimension and resource."""
    fits = {}
    for stage, dimension in dict.fromkeys((each.stage, each.dimension) for each in found):
        mine = [each for each in found if (each.stage, each.dimension) == (stage, dimension)]
        for resource in RESOURCES:
            costs = [getattr(each.cost, resource) for each in mine]
            fits[stage, dimension, resource] = fitted([each.size for each in mine], costs)
    return fits


def print_fits(found: Sequence[Measurement], fits: dict[tuple[str, str, str], Fit]) -> None:
    """A line per fit, with the sizes and costs it rests on."""
    for (stage, dimension, resource), fit in fits.items():
        mine = [each for each in found if (each.stage, each.dimension) == (stage, dimension)]
        costs = [round(getattr(each.cost, resource), 3) for each in mine]
        ours = round(fit.exponent, 2)
        line = {"name": f"growth/{stage}/{dimension}/{resource}", "ours": ours, "baseline": 1.0, "ratio": ours}
        aim = {"aim": AIM, "ok": ours <= AIM} if dimension in HELD else {"aim": None, "ok": True}
        print(json.dumps(line | aim | {"sizes": [each.size for each in mine], "costs": costs}))


def main(arguments: Sequence[str] | None = None, base: Base | None = None) -> None:
    """Measure, fit, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="rewrite the tables in docs/scale.md")
    parser.add_argument("--largest", type=int, default=FACTORS[-1], help="end the curves at this multiple")
    given = parser.parse_args(arguments)
    factors = tuple(factor for factor in FACTORS if factor <= given.largest)
    found = []
    for each in all_measurements(base or Base(), factors):
        print(f"{each.stage}, {each.dimension} {each.size:,.0f}: {each.cost.time:.2f} s", file=sys.stderr, flush=True)
        found.append(each)
    fits = fits_of(found)
    print_fits(found, fits)
    for dimension in HELD:
        for factor, slowest, largest in bottlenecks(found, dimension):
            print(json.dumps({"name": f"growth/bottleneck/{dimension}/{factor}x", "time": slowest, "memory": largest}))
    for name, bars in BARS.items():
        for line in history(bars, fits):
            print(json.dumps({"name": f"growth/projection/{name}/{line.stage}", "bars": bars} | vars(line)))
    print(json.dumps({"name": f"growth/projection/{SESSIONS} sessions"} | desk(SESSIONS, DECISIONS, fits)))
    if given.markdown:
        rewrite(PAGE, markdown(found, fits, DECISIONS))


if __name__ == "__main__":
    main()
