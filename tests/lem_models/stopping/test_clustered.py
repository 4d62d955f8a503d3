import pytest
import torch

from lem_models.stopping.clustered import Clusters, value_with_clusters
from lem_models.stopping.gaps import BAR_AVERAGES, POINT_PRICES, GapProcess
from lem_models.stopping.rule import solve_rule

HORIZON = 6


def draws(bar_averages: bool, surprise: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    move = torch.randn(200_000, generator=generator)
    bridge = torch.randn(200_000, generator=generator) / 12**0.5
    actual = torch.exp(surprise * torch.randn(200_000, generator=generator) - surprise**2)
    return actual * (move / 2 + bridge if bar_averages else move), actual * move


@pytest.mark.parametrize("moves", [POINT_PRICES, BAR_AVERAGES], ids=["point prices", "bar averages"])
def test_without_clusters_and_surprises_the_value_is_that_of_the_gaussian_rule(moves):
    fill, move = draws(moves is BAR_AVERAGES)
    value = value_with_clusters(HORIZON, fill, move, Clusters(spread=0.0, keep=0.9))
    expected = solve_rule(GapProcess.after_last_close(HORIZON, moves)).value
    assert value.tolist() == pytest.approx(expected.tolist(), rel=0.01, abs=1e-9)


def test_nothing_is_gained_where_nothing_can_be_chosen_whatever_the_law():
    value = value_with_clusters(HORIZON, *draws(True, surprise=0.5), Clusters(spread=0.5, keep=0.9))
    assert value[-1].abs() < 1e-9
    assert (value[:-1].diff() <= 1e-9).all()


def test_rare_large_moves_are_worth_less_to_stop_on_than_many_of_the_same_variance():
    """Of two gains of the same variance the one with heavier tails has the smaller mean absolute value."""
    calm, heavy = (value_with_clusters(3, *draws(True, s), Clusters(0.0, 0.9)) for s in (0.0, 0.7))
    assert heavy[1] < calm[1] - 0.005
