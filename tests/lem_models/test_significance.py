import numpy as np
import pytest

from lem_models.significance import among_best, better_than_zero, by_day, intervals


def autoregressive(rows: int, columns: int, keep: float, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    state, path = draw.standard_normal(columns), []
    for _ in range(rows):
        state = keep * state + np.sqrt(1 - keep**2) * draw.standard_normal(columns)
        path.append(state)
    return np.stack(path)


def test_the_mean_over_days_is_the_mean_over_orders_however_unequal_the_days():
    days = np.array([3, 1, 1, 1, 2, 2])
    values = np.arange(12.0).reshape(6, 2) ** 2
    daily = by_day(days, values)
    assert daily.shape == (3, 2)
    assert daily.mean(0) == pytest.approx(values.mean(0))


def test_intervals_cover_the_true_mean_as_often_as_they_say():
    daily = autoregressive(400, 400, keep=0.5, seed=1)
    found = intervals(daily, block=20, replicates=400)
    assert 0.90 < ((found.low < 0) & (found.high > 0)).mean() < 0.97


def test_blocks_widen_intervals_where_days_depend_on_each_other():
    daily = autoregressive(400, 50, keep=0.8, seed=2)
    assert intervals(daily, block=25).standard_error.mean() > 1.8 * intervals(daily, block=1).standard_error.mean()


def test_what_is_paired_stays_paired():
    daily = autoregressive(100, 1, keep=0.5, seed=3)
    found = intervals(np.hstack([daily, daily + 1, daily - daily]), block=5)
    assert found.low[1] - found.low[0] == pytest.approx(1)
    assert found.low[2] == found.high[2] == 0


def test_the_minimum_detectable_effect_is_found_four_times_out_of_five():
    effect = intervals(autoregressive(300, 1, 0.0, seed=4), block=1).minimum_detectable[0]
    shifted = autoregressive(300, 500, 0.0, seed=5) + effect
    assert (intervals(shifted, block=1, replicates=400).low > 0).mean() == pytest.approx(0.8, abs=0.07)


def test_luck_among_many_is_called_better_once_in_twenty_times():
    wrong = [better_than_zero(autoregressive(120, 20, 0.0, seed), block=1, replicates=200).any() for seed in range(60)]
    assert np.mean(wrong) < 0.15


def test_what_is_better_is_found_among_many_that_are_not():
    daily = autoregressive(200, 20, 0.0, seed=6)
    daily[:, 7] += 0.5
    daily[:, 8] -= 0.5
    daily[:, 9] = 0.0
    assert np.flatnonzero(better_than_zero(daily, block=5)).tolist() == [7]


def test_what_scatters_widely_does_not_hide_what_is_certain():
    daily = autoregressive(200, 20, 0.0, seed=7)
    daily[:, 1:] *= 20
    daily[:, 0] += 0.4
    assert np.flatnonzero(better_than_zero(daily, block=1)).tolist() == [0]


def test_who_cannot_be_told_from_the_best_is_among_the_best_and_equals_stand_together():
    daily = autoregressive(300, 4, 0.0, seed=8)
    daily[:, 1] = daily[:, 0] + 0.01 * daily[:, 1]  # all but the same
    daily[:, 3] -= 1.0
    daily = np.hstack([daily, daily[:, 3:], daily[:, :1]])
    assert among_best(daily, block=5).tolist() == [True, True, True, False, False, True]
    assert among_best(np.zeros((20, 3)), block=2).all()


def test_the_true_best_is_left_out_once_in_twenty_times():
    kept = [among_best(autoregressive(100, 4, 0.0, seed), block=1, replicates=200).all() for seed in range(40)]
    assert np.mean(kept) > 0.85


def test_too_few_days_are_refused():
    with pytest.raises(ValueError, match="9 days hold fewer than two blocks of 5; test on a longer period"):
        intervals(np.zeros((9, 1)), block=5)
