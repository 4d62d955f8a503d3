from itertools import product

import numpy as np
import pandas as pd
import pytest

from lem_pipeline.edges import best_strategies, cost_curves, edge_intervals, improvement_intervals, net_improvements

KEYS = ["strategy", "benchmark", "target", "minimum_duration"]


def daily(days: int = 60, asset_class: str = "crypto", every: int = 1) -> pd.DataFrame:
    """A model that gains 2 bps a window at minimum duration 1, nothing at 2, over others that share its days' luck."""
    random = np.random.default_rng(1)
    kinds = product(["LEM", "TWAP", "no-forecast stopping"], ["VWAP", "TWAP"], ["quantity"], [1, 2])
    starts = pd.date_range("2024-01-01", periods=days, freq=f"{every}D")
    luck, windows = random.normal(0, 30, days), random.integers(1, 5, days)
    return pd.concat(
        pd.DataFrame(
            {
                **dict(zip(KEYS, kind, strict=True)),
                "trading_day": starts,
                "order_windows": windows,
                "improvement_bps": windows
                * (luck + random.normal(0, 1, days) + 2 * (kind[0] == "LEM" and kind[3] == 1)),
                "improvement_sigma": windows * random.normal(0, 1, days),
                "fixed_window_improvement_bps": windows * (5 + luck),
                "arrival_improvement_bps": windows * (9 + luck),
                "impact_bps": windows * (1.0 + (kind[0] == "LEM")),
            }
        )
        for kind in kinds
    ).assign(model=f"lem-{asset_class}", asset_class=asset_class)


def test_means_are_means_over_order_windows():
    rows = daily()
    found = improvement_intervals(rows).set_index(KEYS)
    for key, group in rows.groupby(KEYS):
        expected = group["improvement_bps"].sum() / group["order_windows"].sum()
        assert found.loc[key, "mean_bps"] == pytest.approx(expected)
        assert found.loc[key, "order_windows"] == group["order_windows"].sum()
        assert found.loc[key, "days"] == 60
        for measure in ("fixed_window", "arrival"):
            expected = group[f"{measure}_improvement_bps"].sum() / group["order_windows"].sum()
            assert found.loc[key, f"mean_{measure}_bps"] == pytest.approx(expected)
            assert found.loc[key, f"low_{measure}_bps"] < expected < found.loc[key, f"high_{measure}_bps"]
            assert found.loc[key, f"minimum_detectable_{measure}_bps"] > 0
        assert found.loc[key, "low_sigma"] < found.loc[key, "mean_sigma"] < found.loc[key, "high_sigma"]


def test_an_edge_is_the_difference_of_two_means_and_far_more_certain_than_either():
    rows = daily()
    means, edges = improvement_intervals(rows).set_index(KEYS), edge_intervals(rows)
    assert sorted(set(edges["baseline"])) == ["TWAP", "no-forecast stopping"]
    for _, edge in edges.iterrows():
        kind = (edge["benchmark"], edge["target"], edge["minimum_duration"])
        own, other = (means.loc[(name, *kind)] for name in ("LEM", edge["baseline"]))
        assert edge["mean_bps"] == pytest.approx(own["mean_bps"] - other["mean_bps"])
        assert edge["high_bps"] - edge["low_bps"] < 0.2 * (own["high_bps"] - own["low_bps"])
        assert edge["is_better"] == (edge["minimum_duration"] == 1)


def test_the_best_are_those_that_cannot_be_told_from_the_best():
    best = best_strategies(daily()).set_index(["minimum_duration", "strategy"])["is_among_best"]
    assert best.loc[1].to_dict() == {"LEM": True, "TWAP": False, "no-forecast stopping": False}
    assert best.loc[2].sum() >= 2
    assert best_strategies(daily(days=13)).empty


def test_impact_grows_with_the_square_root_of_size_and_eats_the_edge():
    rows = daily()
    edges, curves = edge_intervals(rows), cost_curves(rows)
    assert set(curves["baseline"]) == {"TWAP", "no-forecast stopping"}
    for _, point in curves.iterrows():
        kind = (edges["baseline"] == point["baseline"]) & (edges["benchmark"] == "VWAP")
        (free,) = edges[kind & (edges["minimum_duration"] == point["minimum_duration"])]["mean_bps"]
        assert point["mean_bps"] == pytest.approx(free - np.sqrt(point["size_percent"]))
        assert point["low_bps"] < point["mean_bps"] < point["high_bps"]


def test_what_is_left_of_an_improvement_is_the_improvement_less_impact_by_the_square_root_of_size():
    rows = daily()
    gains = improvement_intervals(rows).query("benchmark == 'VWAP'").set_index(["strategy", "minimum_duration"])
    net = net_improvements(rows)
    assert set(net["strategy"]) == {"LEM", "TWAP", "no-forecast stopping"}
    for _, point in net.iterrows():
        paid = (1.0 + (point["strategy"] == "LEM")) * np.sqrt(point["size_percent"])
        gain = gains.loc[(point["strategy"], point["minimum_duration"])]
        assert point["mean_bps"] == pytest.approx(gain["mean_bps"] - paid)
        assert point["low_bps"] < point["mean_bps"] < point["high_bps"]
        assert point["minimum_detectable_bps"] > 0


def test_edges_after_impact_are_differences_of_what_is_left():
    rows = daily()
    net = net_improvements(rows).set_index(["strategy", "minimum_duration", "size_percent"])["mean_bps"]
    for _, point in cost_curves(rows).iterrows():
        kind = (point["minimum_duration"], point["size_percent"])
        assert point["mean_bps"] == pytest.approx(net[("LEM", *kind)] - net[(point["baseline"], *kind)])


@pytest.mark.parametrize(
    ("asset_class", "days", "every", "known"),
    [
        ("crypto", 13, 1, False),
        ("crypto", 14, 1, True),
        ("dow", 5, 17, False),
        ("dow", 6, 17, True),
    ],
)
def test_fewer_than_two_blocks_of_days_leave_the_interval_unknown(asset_class, days, every, known):
    rows = daily(days, asset_class, every)
    for found in (improvement_intervals(rows), edge_intervals(rows)):
        assert found["mean_bps"].notna().all()
        assert found[["low_bps", "high_bps", "minimum_detectable_bps"]].notna().all(axis=None) == known
    assert known or not edge_intervals(rows)["is_better"].any()
