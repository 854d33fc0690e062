"""Rules against their formulas, written out token by token."""

import math
import re
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probe.errors import UsageError
from probe.training.rules import REGISTRY, Tokens, entries, parse, register

DELTAS = st.lists(st.floats(-20, 20), min_size=1, max_size=30)


def tokens(delta, long=None, measured=None, kl=None):
    delta = np.array(delta, dtype=float)
    count = len(delta)
    return Tokens(
        delta,
        np.ones(count) if long is None else np.array(long, dtype=float),
        np.ones(count, dtype=bool) if measured is None else np.array(measured),
        np.zeros(count) if kl is None else np.array(kl, dtype=float),
    )


def to_mean_1(values):
    mean = sum(values) / len(values)
    return [v / mean for v in values] if mean >= sys.float_info.min else [1.0] * len(values)


FORMULAS = {
    "longce": lambda d: [min(math.exp(x), 5) for x in d],
    "longce(gamma=2)": lambda d: [min(math.exp(x), 2) for x in d],
    "dense(lam=0.25)": lambda d: [0.25 + 0.75 * v for v in to_mean_1([abs(x) for x in d])],
    "ppmi(s=2)": lambda d: to_mean_1([max(0, x - math.log(2)) for x in d]),
    "npmi(s=0.5)": lambda d: to_mean_1([max(0, -x - math.log(0.5)) for x in d]),
    "keys": lambda d: [float(x > 2 and -1.0 > -2) for x in d],
}


@pytest.mark.parametrize("text", FORMULAS)
@given(delta=DELTAS)
def test_weights_are_those_of_the_formula(text, delta):
    found = parse(text)(tokens(delta))
    assert np.allclose(found, FORMULAS[text](delta), rtol=1e-9, atol=1e-12)


@given(delta=DELTAS, kappa=st.floats(0.01, 1))
def test_sparse_takes_the_largest(delta, kappa):
    weights = parse(f"sparse(kappa={kappa!r})")(tokens(delta))
    count = max(1, math.floor(kappa * len(delta) + 1e-9))
    taken = weights > 0
    assert taken.sum() == count
    assert weights[taken] == pytest.approx(len(delta) / count)
    smallest = min(abs(x) for x, t in zip(delta, taken, strict=True) if t)
    assert all(abs(x) <= smallest for x, t in zip(delta, taken, strict=True) if not t)


@given(delta=DELTAS)
@example(delta=[0.0, -5e-324, -5e-324])
@pytest.mark.parametrize("name", ["dense", "sparse", "ppmi", "npmi"])
def test_weights_of_a_sequence_have_mean_1(name, delta):
    assert parse(name)(tokens(delta)).mean() == pytest.approx(1)


def test_a_token_without_a_short_context_weighs_what_delta_0_does():
    weights = parse("longce")(tokens([0, 1.5], measured=[False, True]))
    assert weights.tolist() == [1, pytest.approx(math.exp(1.5))]
    assert parse("keys")(tokens([9, 9], measured=[False, True])).tolist() == [0, 1]


def test_a_key_token_is_likely_in_the_long_context():
    """LSD > 2 and LCL > −2, both strict."""
    found = parse("keys")(tokens([2, 2.01, 3, 3], long=[0, 0, 1.99, 2]))
    assert found.tolist() == [0, 1, 1, 0]


def test_scores_of_documents():
    """Of measured tokens alone, with the standard error of a mean."""
    one = tokens([1, 3, 8, 5], measured=[1, 1, 0, 1], long=[0, 5, 0, 0], kl=[0.5, 1, 9, 3])
    one = Tokens(one.delta, one.long, one.measured.astype(bool), one.kl)
    assert parse("mean_delta")(one) == (3, pytest.approx(2 / math.sqrt(3)))
    assert parse("longfilter")(one)[0] == 1.5
    assert parse("key_share")(one)[0] == pytest.approx(1 / 3)
    assert parse("p90")(one)[0] == pytest.approx(np.quantile([1, 3, 5], 0.9))
    (value, error) = parse("p90")(tokens([4.0]))
    assert value == 4
    assert math.isnan(error)  # one token says nothing of another
    nothing = tokens([1.0], measured=[False])
    assert all(math.isnan(entry.function(nothing)[0]) for entry in entries("document"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("longce(gamma=0.5)", "gamma is 0.5; allowed: 1 or more"),
        ("dense(lam=1.5)", "lam is 1.5; allowed: 0 to 1"),
        ("sparse(kappa=0)", "kappa is 0; allowed: above 0 and up to 1"),
        ("ppmi(s=-1)", "s is -1; allowed: above 0"),
        ("longce(gamma=1" + "0" * 400 + ")", "the value of 'gamma' must be a number"),
        ("longce(gamma='a')", "the value of 'gamma' must be a number"),
        ("longc", "unknown rule 'longc'; did you mean 'longce'?"),
        ("longce(g=1)", "unknown parameter 'g'"),
        ("1 + 1", "cannot be read; allowed: name, or name(parameter=value)"),
    ],
)
def test_a_mistake_is_one_line(text, line):
    with pytest.raises(UsageError) as error:
        parse(text)
    assert line in str(error.value)


@pytest.mark.parametrize(
    ("level", "name", "line"),
    [
        ("token", "keyz", "unknown rule of tokens 'keyz'; did you mean 'keys'? known: dense, keys"),
        ("token", "mean_delt", "unknown rule of tokens 'mean_delt'; known: dense, keys"),
        ("document", "key_shar", "'key_shar'; did you mean 'key_share'? known: key_share, longfil"),
        ("document", "keyz", "unknown score of documents 'keyz'; known: key_share, longfilter"),
    ],
)
def test_what_is_suggested_is_of_the_level(level, name, line):
    """Nothing is named that would be refused in turn."""
    with pytest.raises(UsageError) as error:
        parse(name, level)
    message = str(error.value)
    assert line in message
    others = {"token": "document", "document": "token"}[level]
    assert not {entry.name for entry in entries(others)} & {*re.findall(r"\w+", message)}
    for entry in entries(level):
        assert parse(entry.name, level).entry is entry


def test_a_text_has_all_digits():
    for text in ("sparse(kappa=0.12345678)", "keys(lsd=1234567.5, lcl=-2)"):
        assert parse(text).text == text
        assert parse(parse(text).text).parameters == parse(text).parameters


@pytest.mark.parametrize(
    ("level", "given", "line"),
    [
        ("token", lambda _: [1.0], r"gave \[1.0\]; allowed: 2 numbers from 0 on"),
        ("token", lambda t: t.delta - 1e3, "gave .*; allowed: 2 numbers from 0 on"),
        ("token", lambda t: t.delta * math.nan, "gave .*; allowed: 2 numbers from 0 on"),
        ("token", lambda t: t.delta + 1e300, "gave .*; allowed: 2 numbers from 0 on"),
        ("token", lambda _: {}["x"], "failed: KeyError: 'x'"),
        ("document", lambda _: 1.0, "failed: TypeError"),
        ("document", lambda _: (1.0, 2.0, 3.0), "too many values"),
    ],
)
def test_what_ones_own_rule_gives_is_judged(level, given, line):
    def mine(tokens):
        """Something else."""
        return given(tokens) if len(tokens) > 1 else (tokens.delta, (0.0, 0.0))[level == "document"]

    register(level=level)(mine)
    try:
        with pytest.raises(UsageError, match=line):
            parse("mine")(tokens([1, 2]))
    finally:
        del REGISTRY.entries["mine"]


def test_a_rule_of_ones_own():
    @register()
    def half(tokens, *, share=0.5):
        """Half of everything."""
        return np.full(len(tokens), share)

    try:
        assert parse("half(share=0.25)").text == "half(share=0.25)"
        assert parse("half")(tokens([1, 2])).tolist() == [0.5, 0.5]
    finally:
        del REGISTRY.entries["half"]


def test_every_rule_says_its_formula():
    for name in REGISTRY.names():
        entry = REGISTRY.get(name)
        assert entry.summary
        assert all(one.default is not one.empty for one in entry.parameters)
