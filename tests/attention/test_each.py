"""One text for many conditions: every layer, every head."""

import pytest

from probe.attention.parse import expand
from probe.config import check
from probe.errors import UsageError

CONTENT = {"name": "each", "model": {"path": "tiny"}, "data": {"path": "stdlib"}}


def test_every_combination_once_and_in_order():
    written = expand("attend(heads(zero, layers=each(2), heads=each( 3 )))")
    pairs = [(layer, head) for layer in range(2) for head in range(3)]
    assert written == [f"attend(heads(zero, layers=[{a}], heads=[{b}]))" for a, b in pairs]


def test_without_it_a_condition_stays_one():
    assert expand("shuffle(span=3)") == ["shuffle(span=3)"]


def test_in_a_configuration():
    """The conditions of a configuration are those written out, each in its canonical form."""
    config = check({**CONTENT, "conditions": ["truncate", "attend(heads(zero, layers=each(2)))"]})
    assert config.conditions == [
        "truncate",
        "attend(heads(zero, layers=[0]))",
        "attend(heads(zero, layers=[1]))",
    ]


@pytest.mark.parametrize(
    "text", ["each()", "each(0)", "each(-1)", "each(1.5)", "each(x)", f"each({'9' * 5000})"]
)
def test_what_is_no_number_is_refused(text):
    with pytest.raises(UsageError, match="a whole number from 1 to 10,000"):
        check({**CONTENT, "conditions": [f"attend(heads(zero, layers={text}))"]})


def test_too_many_are_refused():
    with pytest.raises(UsageError, match="stands for 1,000,000"):
        expand("attend(heads(zero, layers=each(1000), heads=each(1000)))")


@pytest.mark.parametrize(
    "text",
    ["shuffle(span=each(3))", "attend(each(3))", "attend(local(w=each(3)))", "each(2)"],
)
def test_it_stands_for_layers_and_heads_alone(text):
    """One mistake, about what was written."""
    with pytest.raises(
        UsageError, match=r"each\(.\); allowed: as layers= or heads= of heads"
    ) as told:
        check({**CONTENT, "conditions": [text]})
    assert "1 mistake(s)" in str(told.value)


def test_a_space_before_the_bracket():
    assert len(expand("attend(heads(zero, layers = each (2)))")) == 2
