"""The ablations compare the same orders, and their intervals cover what they should."""

import numpy as np
import pytest
import torch
from warehouses import PARAMETERS, build, hourly

from benchmarks.ablations import DEFAULT, REFERENCE, VARIANTS, Market, Variant, lines, markets, without
from benchmarks.paired import Slippages, block_length, compare
from lem_models.config import LEMConfig, TrainingConfig
from lem_pipeline.errors import WarehouseError
from lem_pipeline.panel import read_panel
from lem_pipeline.settings import Settings

DAYS, EACH = 120, 4
TINY = {"lookback": 4, "horizon": 12, "width": 8, "embedding": 4, "memory_width": 4, "head_width": 8}


def slippages(seed: int, seeds: int = 2, shared: float = 0.0) -> Slippages:
    """Costs of orders whose days have something in common."""
    draw = np.random.default_rng(seed)
    days = np.repeat(np.arange(DAYS), EACH)
    common = shared * draw.normal(size=(1, DAYS, 1, 1)).repeat(EACH, axis=1)
    return Slippages(common + draw.normal(size=(seeds, DAYS * EACH, 2, 3)), days)


def test_estimates_are_plain_means_and_standard_deviations():
    one, other = slippages(0), slippages(1, seeds=3)
    found = compare(one, other, block=3)
    np.testing.assert_allclose(found.improvement_bps.estimate, -one.bps.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(
        found.over_other_bps.estimate, other.bps.mean(axis=(0, 1, 2)) - one.bps.mean(axis=(0, 1, 2))
    )
    single, single_other = (np.sqrt(each.bps.var(axis=1).mean(axis=(0, 1))) for each in (one, other))
    np.testing.assert_allclose(found.dispersion_ratio.estimate, single / single_other)


def test_what_does_not_differ_has_no_interval_and_half_the_dispersion_is_half():
    one = slippages(0)
    same = compare(one, one, block=3)
    assert same.over_other_bps.of_kind(0) == [0, 0, 0] and same.dispersion_ratio.of_kind(2) == [1, 1, 1]
    half = compare(Slippages(one.bps / 2, one.days), one, block=3)
    assert half.dispersion_ratio.of_kind(1) == [0.5, 0.5, 0.5]


def test_pairing_removes_what_two_ways_have_in_common_and_days_widen_what_it_leaves():
    base, noise = slippages(0, shared=20.0), slippages(1)
    other = Slippages(base.bps + 0.1 * noise.bps + 0.5, base.days)
    found = compare(other, base, block=1)
    low, high = found.over_other_bps.low, found.over_other_bps.high
    assert ((low < -0.49) & (high > -0.51) & (high - low < 0.05)).all()
    width = found.improvement_bps.high - found.improvement_bps.low
    by_days = 2 * 1.96 * 20 / np.sqrt(DAYS)
    assert (np.abs(width / by_days - 1) < 0.25).all()


def test_another_order_is_no_pair():
    one, other = slippages(0), slippages(1)
    other.days = other.days + 1
    with pytest.raises(AssertionError, match="the same orders"):
        compare(one, other, block=3)


def test_a_block_is_as_long_as_an_order_or_as_days_hang_together():
    assert block_length(slippages(0), least=9) == 9
    days = np.arange(400)
    walk = np.convolve(np.random.default_rng(0).normal(size=430), np.ones(31), mode="valid")
    assert block_length(Slippages(walk[None, :, None, None].repeat(2, axis=2), days), least=2) > 5


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Market:
    parameters = PARAMETERS | {"lookback": 4, "horizon": 12, "asset_classes": ["crypto"]}
    parameters |= {"train": 0.6, "validation": 0.2}
    bars = hourly(1000, ("BTC/USDT", "ETH/USDT"))
    bars["trade_count"], bars["taker_buy_volume"] = None, np.nan
    data = read_panel(build(tmp_path_factory.mktemp("ablations"), bars, parameters=parameters), ["crypto"])
    training = TrainingConfig(batch_size=16, batches_per_epoch=2, max_epochs=1, validation_orders=16)
    return Market("lem-crypto", True, data, LEMConfig(data.features, **TINY), training)


def test_every_window_is_followed_by_a_bar_of_its_symbol(market):
    for split in ("train", "validation", "test"):
        rows = market.rows(split)
        keys = market.data.keys.to_pandas()
        symbol, number = keys["symbol"].to_numpy(), keys["bar_number"].to_numpy()
        assert (symbol[rows + 12] == symbol[rows]).all() and (number[rows + 12] == number[rows] + 12).all()
        market.data.panel.orders(rows, 4, 12, "same_bar")
        last = {name: number[symbol == name].max() for name in set(symbol)}
        lost = [row for row in market.data.rows(split).tolist() if row not in set(rows.tolist())]
        assert all(number[row] + 11 == last[symbol[row]] for row in lost)


def test_a_line_per_variant_compares_it_with_the_default_on_the_same_orders(market):
    chosen = [each for each in VARIANTS if "trade_size" in each.without or each.name.startswith("LOOK-AHEAD")]
    found = {line["variant"]: line for line in lines(market, chosen, seeds=2)}
    assert list(found) == [REFERENCE, DEFAULT.name, *(each.name for each in chosen)]
    assert all(line["simulated"] and line["order_windows"] == len(market.test_rows) for line in found.values())
    default = found[DEFAULT.name]
    assert default["over_default_bps"]["6"] == [0, 0, 0] and default["std_over_default"]["6"] == [1, 1, 1]
    assert default["seed_spread_bps"]["6"] >= 0 and default["training_windows"] == 32
    no_micro = found["no microstructure features"]
    assert no_micro["not_measured"] == "taker_imbalance and trade_size never vary in these bars"
    (ahead,) = (line for name, line in found.items() if name.startswith("LOOK-AHEAD"))
    for line in (ahead, found[REFERENCE]):
        difference, low, high = line["over_default_bps"]["9"]
        assert low <= difference <= high and difference != 0


def test_features_that_are_left_out_are_gone_from_the_panel(market):
    panel, names = without(market.data.panel, market.model.features, ["market_return"])
    assert names == tuple(name for name in market.model.features if name != "market_return")
    place = market.model.features.index("market_return")
    assert torch.equal(panel.features[:, place].nan_to_num(), market.data.panel.features[:, place + 1].nan_to_num())


def test_every_variant_is_one_that_the_configurations_know():
    for variant in VARIANTS:
        assert isinstance(variant, Variant)
        LEMConfig(("return_1",), **variant.model)
        TrainingConfig(**variant.training)


def test_without_a_warehouse_it_says_what_to_run_first(tmp_path, monkeypatch):
    monkeypatch.setenv("LEM_HOME", str(tmp_path))
    monkeypatch.delenv("LEM_PROFILE", raising=False)
    with pytest.raises(WarehouseError) as caught:
        next(markets(Settings(), []))
    assert str(caught.value) == (
        f"there is no warehouse at {tmp_path / 'warehouse.duckdb'}; "
        "run the main job first: .venv/bin/lem run --profile demo"
    )
