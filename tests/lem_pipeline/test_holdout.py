"""Test orders are played once per registered model, and the ledger counts every look."""

from dataclasses import replace

import pyarrow as pa
import pytest

from lem_pipeline.holdout import COMPARED, LOOKS, Look, forget_other_models, look_once, looks, note
from lem_pipeline.storage import Warehouse

RESULTS = "results.order_results"
FIRST = Look(RESULTS, "lem-crypto", ("lem-crypto/1", "lem-crypto-gru/1"), "a snapshot", "some code")


@pytest.fixture
def warehouse(tmp_path) -> Warehouse:
    return Warehouse(path=str(tmp_path / "warehouse.duckdb"))


def results_of(model: str, slippage: float):
    def play():
        for symbol in ("BTC/USDT", "ETH/USDT"):
            yield pa.table({"model": [model] * 2, "symbol": [symbol] * 2, "slippage_bps": [slippage] * 2})

    return play


def stored(warehouse: Warehouse) -> list[tuple[str, float]]:
    rows = warehouse.read(f"select model, slippage_bps from {RESULTS} order by all").to_pylist()
    return [tuple(row.values()) for row in rows]


def test_the_same_version_on_the_same_data_is_played_once(warehouse):
    assert look_once(warehouse, FIRST, "a run", results_of("lem-crypto", 1.0))
    assert not look_once(warehouse, FIRST, "another run", results_of("lem-crypto", 2.0))
    assert stored(warehouse) == [("lem-crypto", 1.0)] * 4
    assert looks(warehouse, "lem-crypto") == (1, 1)


@pytest.mark.parametrize(
    "changed",
    [{"versions": ("lem-crypto/2", "lem-crypto-gru/1")}, {"data_snapshot": "another"}, {"code": "other code"}],
    ids=str,
)
def test_another_version_other_data_and_other_code_are_another_look(warehouse, changed):
    look_once(warehouse, FIRST, "a run", results_of("lem-crypto", 1.0))
    assert look_once(warehouse, replace(FIRST, **changed), "another run", results_of("lem-crypto", 2.0))
    assert stored(warehouse) == [("lem-crypto", 2.0)] * 4
    assert looks(warehouse, "lem-crypto") == (1 if "versions" in changed else 2, 2)


def test_a_model_that_no_longer_plays_beside_it_asks_for_no_new_look_and_one_that_joins_does(warehouse):
    look_once(warehouse, FIRST, "a run", results_of("lem-crypto", 1.0))
    alone = replace(FIRST, versions=("lem-crypto/1",))
    assert not look_once(warehouse, alone, "another run", results_of("lem-crypto", 2.0))
    joined = replace(FIRST, versions=("lem-crypto/1", "lem-crypto/7"))
    assert look_once(warehouse, joined, "another run", results_of("lem-crypto", 2.0))


def test_results_that_are_gone_are_played_again_and_counted_again(warehouse):
    look_once(warehouse, FIRST, "a run", results_of("lem-crypto", 1.0))
    forget_other_models(warehouse, RESULTS, [])
    assert look_once(warehouse, FIRST, "another run", results_of("lem-crypto", 1.0))
    assert looks(warehouse, "lem-crypto") == (2, 2)


def test_a_look_that_fails_half_way_keeps_the_results_before_and_is_not_counted(warehouse):
    look_once(warehouse, FIRST, "a run", results_of("lem-crypto", 1.0))

    def broken():
        yield from results_of("lem-crypto", 2.0)()
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        look_once(warehouse, replace(FIRST, versions=("lem-crypto/2",)), "another run", broken)
    assert stored(warehouse) == [("lem-crypto", 1.0)] * 4
    assert looks(warehouse, "lem-crypto") == (1, 1)


def test_models_stand_beside_each_other_until_the_settings_drop_one(warehouse):
    look_once(warehouse, FIRST, "a run", results_of("lem-crypto", 1.0))
    look_once(warehouse, replace(FIRST, model="lem-dow", versions=("lem-dow/1",)), "a run", results_of("lem-dow", 3.0))
    assert stored(warehouse) == [("lem-crypto", 1.0)] * 4 + [("lem-dow", 3.0)] * 4
    forget_other_models(warehouse, RESULTS, ["lem-dow"])
    assert stored(warehouse) == [("lem-dow", 3.0)] * 4
    assert len(warehouse.read(f"from {LOOKS}")) == 2


def test_whoever_compares_versions_by_hand_is_counted(warehouse):
    look_once(warehouse, FIRST, "a run", results_of("lem-crypto", 1.0))
    note(warehouse, replace(FIRST, results_table=COMPARED, versions=("lem-crypto/1", "lem-crypto/2")), "command line")
    assert looks(warehouse, "lem-crypto") == (2, 2)
    assert not look_once(warehouse, FIRST, "another run", results_of("lem-crypto", 2.0))


def test_a_model_that_was_never_tested_has_no_look(warehouse):
    assert looks(warehouse, "lem-crypto") == (0, 0)
