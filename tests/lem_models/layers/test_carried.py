"""A window that fills up is scanned as a whole one is, to the last bit, and no row twice."""

import pytest
import torch
from builders import rng
from torch import nn

from lem_models.layers.carried import CarriedRecurrence
from lem_models.layers.recurrence import TorchRecurrence
from lem_models.layers.tkan import TKAN

ROWS, WIDTH = 9, 8


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def layers(memories: int = 2) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(TKAN(WIDTH, WIDTH, memories, 5), TKAN(WIDTH, WIDTH, memories, 5))


def window(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, ROWS, WIDTH, generator=rng(seed))


def filled_up_to(known: int) -> torch.Tensor:
    """The window with its last known row repeated."""
    rows = window()
    rows[:, known:] = rows[:, known - 1, None]
    return rows


def test_every_row_is_that_of_the_whole_scan_to_the_last_bit():
    plain, carried = layers(), CarriedRecurrence(layers())
    whole = plain(window())
    for known in (3, 4, 4, 6, ROWS):
        assert torch.equal(carried(filled_up_to(known), known)[:, :known], whole[:, :known]), known


def test_a_row_that_changes_is_noticed():
    plain, carried = layers(), CarriedRecurrence(layers())
    carried(window(), ROWS)
    changed = window()
    changed[:, 2] = window(seed=9)[:, 2]
    assert torch.equal(carried(changed, ROWS), plain(changed))
    assert torch.equal(carried(window(), ROWS), plain(window()))


def test_no_row_is_scanned_twice():
    carried = CarriedRecurrence(layers(memories=1))
    carried(filled_up_to(5), 5)
    for _, scans in carried.layers:
        for scan in (*scans.kan, scans.gated):
            row = scan.given.clone()
            assert scan.rows_to_scan(row) == range(5, 5)
            carried.known = 7
            assert scan.rows_to_scan(row) == range(5, 7)
            row[3] += 1
            assert scan.rows_to_scan(row) == range(3, 7)
            carried.known = 5


def test_other_recurrences_are_run_whole():
    gru = TorchRecurrence(nn.GRU(WIDTH, WIDTH, batch_first=True))
    assert torch.equal(CarriedRecurrence(gru)(window(), 3), gru(window()))
