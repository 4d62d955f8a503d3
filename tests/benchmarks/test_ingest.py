"""The benchmark of ingestion compares ways that end with the same bars."""

from functools import partial

import pytest

from benchmarks.ingest import (
    TABLE,
    answers_of,
    assert_all_agree,
    contestants,
    file_kept_open,
    file_opened_for_each,
    ingested,
)
from lem_pipeline.storage import Warehouse


@pytest.fixture(scope="module")
def answers():
    return answers_of(bars=50, instruments=["BTC/USDT", "ETH/USDT"])


def test_every_contestant_ends_with_the_bars_of_all_answers(answers, tmp_path):
    ways = contestants(answers, tmp_path)
    assert next(iter(ways)) == "ingestion"
    assert_all_agree(ways, answers, tmp_path)


def test_a_refetch_ends_with_the_same_bars_and_revises_nothing(answers, tmp_path):
    file = tmp_path / "refetched.duckdb"
    ingested(answers, file)
    assert_all_agree({"refetched": partial(ingested, answers)}, answers, tmp_path)
    assert len(Warehouse(path=str(file)).read("from raw.revisions")) == 0


@pytest.mark.parametrize("write", [file_opened_for_each, file_kept_open])
def test_a_contestant_that_loses_a_bar_is_found(answers, tmp_path, write):
    careless = partial(write, answers, f"insert into {TABLE} from answer offset 1")
    with pytest.raises(AssertionError, match="careless"):
        assert_all_agree({"careless": careless}, answers, tmp_path)
