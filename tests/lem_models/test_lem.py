import math
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
from torch import Tensor

from lem_models.config import LEMConfig
from lem_models.execution import settle
from lem_models.lem import FEATURE_LIMIT, LEM, CausalAttention
from lem_models.objective import mean_dispersion
from lem_models.orders import Limits, MarketPath, OrderBatch

VARIANTS = pytest.mark.parametrize(
    "variant",
    [
        {},
        {"independent_heads": True},
        {"recurrence": "lstm"},
        {"recurrence": "gru"},
        {"recurrence": "none"},
        {"variable_selection": False},
    ],
    ids=lambda variant: " ".join(f"{name}={value}" for name, value in variant.items()) or "default",
)
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


def plain_attention(attention: CausalAttention, x: list[list[float]]) -> list[list[float]]:
    """One sequence, one scalar at a time: a softmax of q · k / √width over the bars so far, head by head."""
    w = {name: value.tolist() for name, value in attention.named_parameters()}
    width = len(x[0])
    size = width // attention.heads

    def affine(name: str, row: int, values: list[float]) -> float:
        return w[f"{name}.bias"][row] + sum(w[f"{name}.weight"][row][i] * values[i] for i in range(width))

    q, k, v = ([[affine("qkv", part * width + d, bar) for d in range(width)] for bar in x] for part in range(3))
    outputs = []
    for t in range(len(x)):
        mixed = []
        for d in range(width):
            head = range(d // size * size, d // size * size + size)
            scores = [math.exp(sum(q[t][i] * k[past][i] for i in head) / math.sqrt(size)) for past in range(t + 1)]
            mixed.append(sum(scores[past] * v[past][d] for past in range(t + 1)) / sum(scores))
        outputs.append([affine("out", d, mixed) for d in range(width)])
    return outputs


def lively_attention(width: int, heads: int) -> CausalAttention:
    torch.manual_seed(0)
    attention = CausalAttention(width, heads).double()
    with torch.no_grad():
        for weight in attention.parameters():
            weight.normal_()
    return attention


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_attention_equals_its_equations_bar_by_bar(heads):
    attention = lively_attention(6, heads)
    x = torch.randn(2, 5, 6, dtype=torch.float64, generator=rng(0))
    for sequence, answer in zip(x.tolist(), attention(x).tolist(), strict=True):
        for bar, expected in zip(answer, plain_attention(attention, sequence), strict=True):
            assert bar == pytest.approx(expected, abs=1e-10)


def test_the_gradients_of_attention_are_those_of_finite_differences():
    attention = lively_attention(4, heads=2)
    names, weights = zip(*attention.named_parameters(), strict=True)

    def answer(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(attention, dict(zip(names, values, strict=True)), (x,))

    x = torch.randn(2, 3, 4, dtype=torch.float64, generator=rng(1), requires_grad=True)
    assert torch.autograd.gradcheck(answer, (x, *weights))


@pytest.mark.parametrize("last", [1, 4, 10])
def test_attention_answers_for_the_last_bars_alone_as_it_does_for_all(last):
    torch.manual_seed(0)
    attention = CausalAttention(8, heads=2).double()
    x = torch.randn(3, 10, 8, dtype=torch.float64, generator=rng(0))
    answer = attention(x, last=last)
    assert answer.shape == (3, last, 8)
    assert torch.allclose(answer, attention(x)[:, -last:], atol=1e-14)


@VARIANTS
@pytest.mark.parametrize("step", range(HORIZON))
def test_the_context_of_a_bar_is_blind_to_what_becomes_known_later(variant, step):
    model = tiny_lem(**variant)
    orders = random_orders(5)
    context = model.context(orders.features)
    other = model.context(overwritten_from(orders, step, seed=step, volumes="kept").features)
    assert torch.equal(context[:, : step + 1], other[:, : step + 1])
    assert (context[:, step + 1 :] != other[:, step + 1 :]).any(-1).all()


EVERY_PRIOR = pytest.mark.parametrize("prior", ["stopping", "curve"])
# Of each column, how many bars of the horizon are known when bar t is decided, beyond those before it.
KNOWN_AHEAD = {"price": 0, "close": 0, "volume": 0, "volatility": 1}


@EVERY_PRIOR
@VARIANTS
@pytest.mark.parametrize("cap", [1.0, 0.15])
def test_no_gradient_flows_into_a_decision_from_its_own_bar_or_later_ones(prior, variant, cap):
    model, orders = tiny_lem(seed=4, prior=prior, cap=cap, **variant), random_orders(3)
    columns = {name: getattr(orders.market, name).clone().requires_grad_() for name in KNOWN_AHEAD}
    features = orders.features.clone().requires_grad_()
    decisions = model(OrderBatch(features, replace(orders.market, **columns)))
    seen = set()
    for step in range(HORIZON):
        decided = decisions.path[..., step].sum() + decisions.finish_probability[..., step].sum()
        inputs = [features, *columns.values()]
        by_feature, *by_market = torch.autograd.grad(
            decided, inputs, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        own_row = LOOKBACK - 1 + step  # known before the bar
        assert (by_feature[:, own_row + 1 :] == 0).all()
        seen |= {"row of its own bar"} if (by_feature[:, own_row] != 0).any() else set()
        for (name, ahead), gradient in zip(KNOWN_AHEAD.items(), by_market, strict=True):
            assert (gradient[:, step + ahead :] == 0).all(), name
            seen |= {name} if (gradient != 0).any() else set()
    # A base curve looks at no price, and the state of an order is observed without a gradient.
    assert seen == {"row of its own bar", *(KNOWN_AHEAD if prior == "stopping" else ())}


@EVERY_PRIOR
@VARIANTS
@pytest.mark.parametrize("column", ["features", *KNOWN_AHEAD])
def test_a_decision_is_blind_to_each_column_of_its_own_bar_and_later_ones(prior, variant, column):
    """What gradients cannot tell of a state without one: another value of one bar in one column, bar by bar."""
    model, orders = tiny_lem(seed=2, prior=prior, **variant), random_orders(4)
    features = orders.features.repeat(HORIZON, 1, 1)  # all orders once for each bar that is changed
    market = MarketPath(**{name: torch.cat([value] * HORIZON) for name, value in vars(orders.market).items()})
    changed = torch.eye(HORIZON, dtype=torch.bool).repeat_interleave(4, dim=0)
    if column == "features":
        row_after = torch.zeros(features.shape[:2], dtype=torch.bool)  # it tells of the bar
        row_after[:, LOOKBACK:] = changed[:, :-1]
        other = OrderBatch(features + row_after[..., None], market)
    else:
        values = getattr(market, column)
        other = OrderBatch(features, replace(market, **{column: torch.where(changed, 1.01 * values, values)}))
    with torch.no_grad():
        one, two = model(OrderBatch(features, market)), model(other)
    moved = ((one.path != two.path) | (one.finish_probability != two.finish_probability)).flatten(1, 2).any(1)
    moved = moved.view(HORIZON, 4, HORIZON).any(1)  # (bar changed, bar decided)
    ahead = KNOWN_AHEAD.get(column, 0)
    for bar in range(HORIZON):
        first = bar + 1 - ahead
        assert not moved[bar, :first].any(), f"a decision sees the {column} of bar {bar + 1} too early"
        # Before the first bar every gap is zero, in whatever unit.
        assert bar >= HORIZON - 2 or moved[bar, first:].any() or (column, bar) == ("volatility", 0)


# --- variants -----------------------------------------------------------------------------------------------------


def test_recurrences_differ_in_their_cells_alone():
    models = {kind: tiny_lem(recurrence=kind, recurrent_layers=3) for kind in ("tkan", "lstm", "gru", "none")}
    for kind, cells in (("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU)):
        within = models[kind].recur.cells
        assert isinstance(within, cells)
        assert (within.input_size, within.hidden_size, within.num_layers) == (8, 8, 3)
    elsewhere = [
        {name for name, _ in model.named_parameters() if not name.startswith("recur.")} for model in models.values()
    ]
    assert all(names == elsewhere[0] for names in elsewhere)


@pytest.mark.parametrize("kind", ["tkan", "lstm", "gru", "none"])
def test_a_model_can_tell_which_of_two_bars_came_first(kind):
    model, orders = tiny_lem(recurrence=kind), random_orders(3)
    exchanged = orders.features[:, [1, 0, *range(2, LOOKBACK + HORIZON - 1)]]
    # Of attention without positions the sum over past bars is the same in any order.
    assert (model.context(exchanged) - model.context(orders.features)).abs().max() > 1e-4


def test_features_that_are_not_selected_pass_one_affine_map():
    model = tiny_lem(variable_selection=False)
    one, other = (torch.randn(2, 5, len(FEATURES), generator=rng(seed)) for seed in (0, 1))
    between, weights = model.select(0.3 * one + 0.7 * other)
    assert weights is None
    assert torch.allclose(between, 0.3 * model.select(one)[0] + 0.7 * model.select(other)[0], atol=1e-6)


def test_a_model_takes_only_orders_whose_features_tell_what_it_is_made_for():
    causal, ahead = tiny_lem(), tiny_lem(information_set="same_bar")
    orders = random_orders(3)
    looking_ahead = replace(orders, information_set="same_bar")
    with pytest.raises(ValueError, match="the orders' features are same_bar and the model is made for causal"):
        causal.schedule(looking_ahead)
    with pytest.raises(ValueError, match="the orders' features are causal and the model is made for same_bar"):
        ahead.schedule(orders)
    assert torch.equal(ahead.schedule(looking_ahead), causal.schedule(orders))


def test_a_model_that_looks_ahead_says_so_in_its_name():
    assert tiny_lem().name == "LEM"
    assert tiny_lem(information_set="same_bar").name == "LEM with look-ahead"


def test_under_autocast_the_model_is_as_blind_and_as_exact():
    model, orders, step = tiny_lem(cap=0.2), random_orders(5), 4
    with torch.autocast("cpu", torch.bfloat16):
        schedule = model.schedule(orders)
        other = model.schedule(overwritten_from(orders, step, seed=1, volumes="kept"))
    assert torch.equal(schedule.sum(-1), torch.ones(5, 8, HORIZON))
    assert schedule.max() <= Limits(HORIZON, cap=0.2).cap_in_lots
    assert torch.equal(schedule[..., : step + 1], other[..., : step + 1])


# --- size and settings --------------------------------------------------------------------------------------------


@VARIANTS
def test_the_length_of_history_is_the_only_thing_the_context_needs_of_it(variant):
    model = tiny_lem(lookback=9, **variant)
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


@VARIANTS
def test_a_saved_model_decides_as_before(variant, tmp_path):
    model = tiny_lem(cap=0.2, **variant)
    torch.save({"config": model.config.to_dict(), "weights": model.state_dict()}, tmp_path / "model.pt")
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    loaded = LEM(LEMConfig.from_dict(saved["config"]))
    orders = random_orders(5)
    assert not torch.equal(loaded.schedule(orders), model.schedule(orders))
    loaded.load_state_dict(saved["weights"])
    assert torch.equal(loaded.schedule(orders), model.schedule(orders))


# --- learning reaches everything ----------------------------------------------------------------------------------


@VARIANTS
def test_one_optimizer_step_moves_every_weight_and_no_two_minimum_durations_stay_alike(variant):
    torch.manual_seed(0)
    model = LEM(LEMConfig(FEATURES, lookback=LOOKBACK, width=8, memory_width=8, **variant))
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
