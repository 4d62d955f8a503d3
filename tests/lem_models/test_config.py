import json

import pytest
from builders import FEATURES

from lem_models.config import LEMConfig, TrainingConfig


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"lookback": 1}, "lookback is 1; a model needs at least 2"),
        ({"width": 30, "attention_heads": 4}, "width 30 is not a multiple of attention_heads 4"),
        ({"cap": 0.05}, "12 bars at a cap of 0.05 fill only 0.6"),
        ({"floor": 0.5, "cap": 0.2}, "floor is 0.5"),
        ({"recurrence": "rnn"}, "recurrence is 'rnn'; it is one of tkan, lstm, gru, none"),
        ({"recurrent_layers": 0}, "recurrent_layers is 0; for none at all set recurrence to 'none'"),
        ({"information_set": "future"}, "information_set is 'future'; it is one of causal, same_bar"),
        ({"prior": "guess"}, "prior is 'guess'; it is one of stopping, curve"),
    ],
)
def test_impossible_settings_are_refused(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        LEMConfig(FEATURES, **fields)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"risk": "regret"}, "risk is 'regret'; it is one of variance, cvar"),
        ({"cvar_level": 1.0}, "cvar_level is 1.0; it is a part of the orders, between 0 and 1"),
        ({"cvar_level": 0.0}, "cvar_level is 0.0"),
    ],
)
def test_impossible_ways_of_training_are_refused(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        TrainingConfig(**fields)


def test_a_model_sees_nothing_of_the_bar_it_trades_in_unless_asked_to():
    assert LEMConfig(FEATURES).information_set == "causal"


def test_settings_survive_json():
    config = LEMConfig(
        FEATURES, lookback=9, independent_heads=True, floor=0.01, cap=0.3, recurrence="none", variable_selection=False
    )
    assert LEMConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_sizes_of_the_paper_are_available():
    paper = LEMConfig.paper(FEATURES)
    assert (paper.lookback, paper.horizon, paper.width, paper.head_width) == (120, 12, 200, 100)
    assert paper.independent_heads
