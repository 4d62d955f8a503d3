from dataclasses import replace

import pytest
import torch
from builders import (
    FEATURES,
    HORIZON,
    LIMITS,
    LOOKBACK,
    overwritten_from,
    random_market,
    random_orders,
    rng,
    tiny_lem,
    wild_markets,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lem_models.config import LEMConfig
from lem_models.execution import settle
from lem_models.lem import FEATURE_LIMIT, LEM, CausalAttention
from lem_models.objective import mean_dispersion
from lem_models.orders import Limits, MarketPath, OrderBatch

HEADS = pytest.mark.parametrize("independent_heads", [False, True], ids=["shared heads", "independent heads"])


# --- money adds up ------------------------------------------------------------------------------------------------

MODELS = {
    (name, independent, scale): tiny_lem(
        seed=1, scale=scale, independent_heads=independent, floor=limits.floor, cap=limits.cap
    )
    for name, limits in LIMITS.items()
    for independent in (False, True)
    for scale in (1.0, 30.0, 1000.0)
}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(MODELS)),
    wild_markets(),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 1.0, 1e6]),
    st.permutations(range(HORIZON)),
)
def test_whatever_its_weights_and_market_a_schedule_adds_up_exactly(key, market, seed, size, summation):
    limits = LIMITS[key[0]]
    features = size * torch.randn(1, LOOKBACK + HORIZON - 1, len(FEATURES), generator=rng(seed))
    schedule = MODELS[key].schedule(OrderBatch(features, market))
    assert schedule.dtype == torch.float32
    assert schedule.min() >= 0
    assert schedule.max() <= limits.cap_in_lots
    assert torch.equal(schedule.sum(-1), torch.ones(1, 8, HORIZON))
    assert torch.equal(schedule[..., list(summation)].sum(-1), torch.ones(1, 8, HORIZON))
    remaining = 1 - (schedule.cumsum(-1) - schedule)
    assert (schedule >= remaining.clamp_max(limits.floor_in_lots)).all()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(MODELS)), wild_markets(with_untraded_bars=True), st.integers(0, 2**31))
def test_no_market_makes_a_schedule_or_a_result_that_is_not_a_number(key, market, seed):
    features = torch.randn(1, LOOKBACK + HORIZON - 1, len(FEATURES), generator=rng(seed))
    model = MODELS[key]
    schedule = model.schedule(OrderBatch(features, market))
    assert (schedule[..., market.volume[0] == 0] == 0).all()
    assert ((0 <= schedule) & (schedule <= 1)).all()
    results = settle(schedule, market, model.grid)
    assert all(torch.isfinite(values).all() for values in vars(results).values())


def test_a_network_that_overflows_still_adds_up_or_is_refused():
    model = tiny_lem()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "keep_" in name:
                weight.fill_(1e6)
    try:
        schedule = model.schedule(random_orders(3))
    except (FloatingPointError, ValueError):
        return
    assert (schedule.sum(-1) == 1).all()


def test_one_window_without_volume_or_with_extreme_features_leaves_the_others_as_they_were():
    model = tiny_lem()
    orders = random_orders(4)
    volume = orders.market.volume.clone()
    volume[3] = 0
    features = orders.features.clone()
    features[3] = 1e30
    other = OrderBatch(features, replace(orders.market, volume=volume))
    assert torch.equal(model.schedule(orders)[:3], model.schedule(other)[:3])
    assert (model.schedule(other)[3] == 0).all()


# --- causality ----------------------------------------------------------------------------------------------------


def test_attention_is_blind_to_later_bars():
    torch.manual_seed(0)
    attention = CausalAttention(8, heads=2)
    x = torch.randn(3, 10, 8, generator=rng(0))
    answer = attention(x)
    for step in range(10):
        other = x.clone()
        other[:, step:] = 50 * torch.randn(3, 10 - step, 8, generator=rng(step))
        changed = attention(other)
        assert torch.equal(changed[:, :step], answer[:, :step])
        assert not torch.allclose(changed[:, step], answer[:, step])


def test_attention_equals_a_plain_softmax_over_the_bars_so_far():
    torch.manual_seed(0)
    attention = CausalAttention(6, heads=2).double()
    x = torch.randn(1, 5, 6, dtype=torch.float64, generator=rng(0))
    q, k, v = attention.qkv(x)[0].split(6, dim=-1)
    for t in range(5):
        mixed = []
        for head in (slice(0, 3), slice(3, 6)):
            scores = torch.stack([q[t, head] @ k[past, head] / 3**0.5 for past in range(t + 1)])
            weights = scores.exp() / scores.exp().sum()
            mixed.append(sum(weights[past] * v[past, head] for past in range(t + 1)))
        assert torch.allclose(attention(x)[0, t], attention.out(torch.cat(mixed)), atol=1e-12)


@pytest.mark.parametrize("last", [1, 4, 10])
def test_attention_answers_for_the_last_bars_alone_as_it_does_for_all(last):
    torch.manual_seed(0)
    attention = CausalAttention(8, heads=2).double()
    x = torch.randn(3, 10, 8, dtype=torch.float64, generator=rng(0))
    answer = attention(x, last=last)
    assert answer.shape == (3, last, 8)
    assert torch.allclose(answer, attention(x)[:, -last:], atol=1e-14)


@pytest.mark.parametrize("step", range(HORIZON))
def test_the_context_of_a_bar_is_blind_to_what_becomes_known_later(step):
    model = tiny_lem()
    orders = random_orders(5)
    context = model.context(orders.features)
    other = model.context(overwritten_from(orders, step, seed=step, volumes="kept").features)
    assert torch.equal(context[:, : step + 1], other[:, : step + 1])
    assert (context[:, step + 1 :] != other[:, step + 1 :]).any(-1).all()


@HEADS
@pytest.mark.parametrize("cap", [1.0, 0.15])
def test_decisions_have_no_gradient_from_later_feature_rows_or_prices(independent_heads, cap):
    model = tiny_lem(independent_heads=independent_heads, cap=cap)
    orders = random_orders(4)
    orders.features.requires_grad_()
    orders.market.price.requires_grad_()
    decisions = model(orders)
    seen_somewhere = False
    for step in range(HORIZON):
        for decided in (decisions.path, decisions.finish_probability):
            if not decided[..., step].requires_grad:
                continue
            features, price = torch.autograd.grad(
                decided[..., step].sum(),
                (orders.features, orders.market.price),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            assert (features[:, LOOKBACK + step :] == 0).all()
            assert (price[:, step:] == 0).all()
            seen_somewhere |= bool((features[:, LOOKBACK + step - 1] != 0).any())
    assert seen_somewhere, "no decision depends on the feature row of its own bar"


def test_under_autocast_the_model_is_as_blind_and_as_exact():
    model, orders, step = tiny_lem(cap=0.2), random_orders(5), 4
    with torch.autocast("cpu", torch.bfloat16):
        schedule = model.schedule(orders)
        other = model.schedule(overwritten_from(orders, step, seed=1, volumes="kept"))
    assert torch.equal(schedule.sum(-1), torch.ones(5, 8, HORIZON))
    assert schedule.max() <= Limits(HORIZON, cap=0.2).cap_in_lots
    assert torch.equal(schedule[..., : step + 1], other[..., : step + 1])


# --- size and settings --------------------------------------------------------------------------------------------


@HEADS
def test_the_length_of_history_is_the_only_thing_the_context_needs_of_it(independent_heads):
    model = tiny_lem(independent_heads=independent_heads, lookback=9)
    features = torch.randn(2, 9 + HORIZON - 1, 3, generator=rng(0))
    decisions = model(OrderBatch(features, random_market(2)))
    assert model.context(features).shape == (2, HORIZON, 8)
    assert decisions.path.shape == decisions.finish_probability.shape == (2, 8, HORIZON, HORIZON)


@pytest.mark.parametrize("horizon", [2, 5, 20])
def test_any_horizon_has_its_own_grid(horizon):
    model = tiny_lem(horizon=horizon, cap=0.5)
    features = torch.randn(2, LOOKBACK + horizon - 1, 3, generator=rng(0))
    schedule = model.schedule(OrderBatch(features, random_market(2, horizon=horizon)))
    assert schedule.shape == (2, 8, horizon, horizon)
    assert (schedule.sum(-1) == 1).all()
    assert schedule.max() <= 0.5


def test_features_beyond_the_limit_count_as_the_limit():
    model = tiny_lem()
    orders = random_orders(3)
    large, larger = orders.features.clone(), orders.features.clone()
    large[:, 2, 1], larger[:, 2, 1] = FEATURE_LIMIT, 1e20
    assert torch.equal(model.context(large), model.context(larger))
    assert not torch.equal(model.context(large), model.context(orders.features))


def test_a_model_without_features_is_refused():
    with pytest.raises(ValueError, match="no features; a model reads at least one feature column"):
        LEM(LEMConfig(features=()))


@HEADS
def test_a_saved_model_decides_as_before(independent_heads, tmp_path):
    model = tiny_lem(independent_heads=independent_heads, cap=0.2)
    torch.save({"config": model.config.to_dict(), "weights": model.state_dict()}, tmp_path / "model.pt")
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    loaded = LEM(LEMConfig.from_dict(saved["config"]))
    orders = random_orders(5)
    assert not torch.equal(loaded.schedule(orders), model.schedule(orders))
    loaded.load_state_dict(saved["weights"])
    assert torch.equal(loaded.schedule(orders), model.schedule(orders))


# --- learning reaches everything ----------------------------------------------------------------------------------


@HEADS
def test_one_optimizer_step_moves_every_weight_and_no_two_minimum_durations_stay_alike(independent_heads):
    torch.manual_seed(0)
    model = LEM(LEMConfig(FEATURES, lookback=LOOKBACK, width=8, memory_width=8, independent_heads=independent_heads))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    orders = random_orders(16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    mean_dispersion(model(orders), orders.market, model.grid, risk_aversion=0.1).backward()
    optimizer.step()
    for name, weight in model.named_parameters():
        assert torch.isfinite(weight).all(), name
        assert not torch.equal(weight, before[name]), name
    with torch.no_grad():
        decisions = model(orders)
    for values in (decisions.path, decisions.finish_probability):
        for one in range(HORIZON):
            for other in range(one):
                assert not torch.equal(values[:, :, one], values[:, :, other]), (one + 1, other + 1)


@pytest.mark.parametrize("prior", ["stopping", "curve"])
def test_no_gradient_flows_into_a_decision_from_its_own_bar_or_later_ones(prior):
    model, orders = tiny_lem(seed=2, prior=prior), random_orders(3)
    market = orders.market
    ahead = {name: getattr(market, name).clone().requires_grad_() for name in ("price", "close", "volume")}
    features = orders.features.clone().requires_grad_()
    decisions = model(OrderBatch(features, MarketPath(**{**vars(market), **ahead})))
    for step in range(HORIZON):
        decided = decisions.path[..., step].sum() + decisions.finish_probability[..., step].sum()
        inputs = [features, *ahead.values()]
        by_feature, *by_market = torch.autograd.grad(decided, inputs, retain_graph=True, allow_unused=True)
        assert (by_feature[:, LOOKBACK + step :] == 0).all()  # row LOOKBACK − 1 + step is known before the bar
        assert (by_feature[:, : LOOKBACK + step] != 0).any() or step == HORIZON - 1
        assert all(gradient is None or (gradient[:, step:] == 0).all() for gradient in by_market)
