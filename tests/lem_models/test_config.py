import json

import pytest
from builders import FEATURES

from lem_models.config import LEMConfig


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"lookback": 1}, "lookback is 1; a model needs at least 2"),
        ({"width": 30, "attention_heads": 4}, "width 30 is not a multiple of attention_heads 4"),
        ({"cap": 0.05}, "12 bars at a cap of 0.05 fill only 0.6"),
        ({"floor": 0.5, "cap": 0.2}, "floor is 0.5"),
    ],
)
def test_impossible_settings_are_refused(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        LEMConfig(FEATURES, **fields)


def test_settings_survive_json():
    config = LEMConfig(FEATURES, lookback=9, independent_heads=True, floor=0.01, cap=0.3)
    assert LEMConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_sizes_of_the_paper_are_available():
    paper = LEMConfig.paper(FEATURES)
    assert (paper.lookback, paper.horizon, paper.width, paper.head_width) == (120, 12, 200, 100)
    assert paper.independent_heads
