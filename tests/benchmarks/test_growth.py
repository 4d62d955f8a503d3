"""Known curves are found again, projections are arithmetic of the fits, and every stage can be measured."""

import json
from itertools import product

import pytest

from benchmarks.growth.__main__ import fits_of, print_fits
from benchmarks.growth.curves import Measurement, market_stages, one
from benchmarks.growth.fit import Fit, fitted
from benchmarks.growth.measure import Cost
from benchmarks.growth.models import bootstrap, evaluation
from benchmarks.growth.projection import MARKET_STAGES, SYMBOLS, WORKER_MB, Fits, desk, history, shards_of
from benchmarks.growth.tables import BEGIN, END, bottlenecks, markdown, rewrite

SIZES = (1, 10, 30, 100)
STAGES = (*MARKET_STAGES, "training", "evaluation", "bootstrap", "sessions")


@pytest.mark.parametrize(("fixed", "exponent"), product([0.0, 3.0], [0.5, 1.0, 1.3, 2.0]))
def test_a_known_curve_is_found_again(fixed, exponent):
    found = fitted(SIZES, [fixed + 0.2 * size**exponent for size in SIZES])
    assert found.exponent == pytest.approx(exponent, abs=0.02)
    assert found.at(500) == pytest.approx(fixed + 0.2 * 500**exponent, rel=0.1)


def test_a_fixed_cost_does_not_hide_a_square():
    assert fitted(SIZES, [10 + 0.01 * size**2 for size in SIZES]).exponent == pytest.approx(2, abs=0.05)


def test_the_noise_of_a_fixed_cost_is_no_growth():
    assert fitted(SIZES, [0.24, 0.22, 0.23, 0.29]).exponent == 0.0


def test_what_costs_nothing_grows_with_nothing():
    assert fitted(SIZES, [0.0] * 4) == Fit(0.0, 0.0, 0.0)


def linear(memory_per_bar: float = 1e-6) -> Fits:
    """Fits of stages that take a microsecond, some bytes in memory and some on disk for each bar."""
    scale = {"time": 1e-6, "memory": memory_per_bar, "disk": 1e-4}
    names = product(STAGES, ("bars", "windows", "sessions"), scale)
    return {(stage, dimension, kind): Fit(0.0, scale[kind], 1.0) for stage, dimension, kind in names}


def test_shards_are_as_few_as_fit_a_worker():
    bars = 10**9
    assert shards_of(bars, linear(memory_per_bar=WORKER_MB / bars)) == 1
    assert shards_of(bars, linear(memory_per_bar=3 * WORKER_MB / bars)) == 4
    assert shards_of(bars, linear(memory_per_bar=1.0)) >= SYMBOLS


def test_a_projection_is_arithmetic_of_the_fits():
    bars = 36 * 10**9
    lines = {line.stage: line for line in history(bars, linear())}
    assert lines["features"].core_hours == pytest.approx(10)
    assert lines["features"].disk_tb == pytest.approx(3.6)
    assert lines["features"].memory_gb == pytest.approx(36)
    assert lines["evaluation"].core_hours == pytest.approx(10 * 0.15 / 12)
    assert desk(4_000_000, 4, linear())["core_seconds_a_round"] == pytest.approx(1)


def stages(costs: dict[str, list[float]]) -> list[Measurement]:
    return [
        Measurement(stage, "bars", size, Cost(cost, 100 - cost, 0.0))
        for stage, each in costs.items()
        for size, cost in zip((5, 50), each, strict=True)
    ]


def test_the_bottleneck_of_each_scale_is_named():
    found = bottlenecks(stages({"features": [2.0, 5.0], "windows": [1.0, 9.0]}), "bars")
    assert found == [(1, "features (2.0 s)", "windows (99 MB)"), (10, "windows (9.0 s)", "features (95 MB)")]


def test_what_outgrows_bars_is_said_to(capsys):
    found = [Measurement("features", "bars", size, Cost(size**1.5)) for size in SIZES]
    print_fits(found, fits_of(found))
    lines = {line["name"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert lines["growth/features/bars/time"]["ours"] == 1.5 and not lines["growth/features/bars/time"]["ok"]
    assert lines["growth/features/bars/memory"]["ok"]


@pytest.mark.scale
def test_every_stage_of_a_toy_market_is_measured_and_costs_something(tmp_path):
    found = [*market_stages("bars", 2, 300), *market_stages("bars", 2, 600)]
    assert [each.stage for each in found] == [*MARKET_STAGES] * 2
    assert all(each.cost.time > 0 for each in found) and found[0].cost.disk > 0
    found += [one("bootstrap", "bars", days, bootstrap, days=days, horizon=2, strategies=2) for days in (14, 28)]
    found.append(one("evaluation", "bars", 4, evaluation, windows=4, symbols=2, horizon=4, scenarios=2))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    rewrite(page, markdown(found, linear() | fits_of(found), decisions=4))
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| staging and quality | bars | 1,200 |" in text and text.count("Projection, not measured") == 3
