"""The planted language says truly which of its words need far text; detection is counted right."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.planted_language import FAR, NEAR, VALUES, asked, detection, document, table


@pytest.mark.parametrize("shape", [NEAR, FAR], ids=["near", "far"])
def test_asked_values_were_stated_as_far_away_as_is_said(shape):
    """Each is the value of the same fact, whose last mention is at least so many words ago."""
    found = 0
    for number in range(20):
        words = document(np.random.default_rng([3, number]), shape)
        assert len(words) == shape.words
        places = asked(words, shape.nearest)
        found += len(places)
        for place in places:
            mark = max(at for at in range(place - VALUES - 1, place) if words[at] == "ask")
            name, number_of_value = words[mark + 1], place - mark - 2
            before = [at for at in range(mark) if words[at] in ("fact", "ask")]
            last = max(at for at in before if words[at + 1] == name)
            assert mark - last >= shape.nearest
            assert words[last + 2 + number_of_value] == words[place]
            assert words.index("fact") < shape.lead + shape.beginning
    assert found / (20 * shape.words) > 0.03


def test_documents_follow_from_their_seed():
    first, again, other = table(3, 0, NEAR), table(3, 0, NEAR), table(3, 1, NEAR)
    assert first == again
    assert first != other


def test_detection_counts_what_is_found():
    weights = pd.DataFrame(
        {
            "document": ["0"] * 5 + ["1"] * 2,
            "position": [0, 1, 2, 3, 4, 0, 1],
            "delta": [np.nan, 0.1, 2.0, 0.2, 1.5, 3.0, 0.0],
            "weight": [9.0, 1.1, 5.0, 1.2, 4.5, 5.0, 1.0],
        }
    )
    found = detection(weights, {"0": {0, 2, 3}, "1": {1}}, least=2.0)
    assert found == {
        "tokens": 6,
        "need far text": 3,
        "found": 3,
        "precision": pytest.approx(1 / 3),
        "recall": pytest.approx(1 / 3),
    }
