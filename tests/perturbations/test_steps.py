"""Conditions as text: read, checked, and written in one way; never evaluated."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from probe.errors import UsageError
from probe.perturbations import registry
from probe.perturbations.condition import parse

CANONICAL = {
    "shuffle": "shuffle",
    "shuffle()": "shuffle",
    " shuffle ( span = 20 ) ": "shuffle(span=20)",
    "shuffle(20)": "shuffle(span=20)",
    "shuffle(span=None)": "shuffle",
    "shuffle(span=0x14)": "shuffle(span=20)",
    'replace("document")': "replace(source='document')",
    "replace(source=[220])": "replace(source=[220])",
    "replace(220)": "replace(source=220)",
    "replace('pad', .1)": "replace(source='pad', rate=0.1)",
    "replace('pad', rate=1)": "replace(source='pad')",
    "shuffle(within='sentence', unit='word')": "shuffle(unit='word', within='sentence')",
    "delete(0, 'closed')": "delete",
    "drop(what='rare', rate=None)": "drop(what='rare')",
    "drop_target(False)": "drop_target",
    "drop(.5)": "drop(rate=0.5)",
    "drop(rate=1)": "drop(rate=1.0)",
    "noise(windows=None)": "noise",
    "[shuffle]": "shuffle",
    "[drop(.5), shuffle(),]": "[drop(rate=0.5), shuffle]",
}
MISTAKES = {
    "shufle": "unknown perturbation 'shufle'; did you mean 'shuffle'",
    "shuffle(spam=2)": "unknown parameter 'spam'; did you mean 'span'\\? parameters of shuffle",
    "hide(2, 3)": r"too many values \(2\); parameters of hide: sinks=0",
    "shuffle(2, span=3)": "parameter 'span' is given twice",
    "shuffle(span=2, span=3)": "parameter 'span' is given twice",
    "shuffle(**{'span': 2})": r"'\*\*' is not allowed",
    "shuffle(*[2])": "the value of 'span' must be a number",
    "shuffle(span=1)": "span must be an integer >= 2; got 1",
    "shuffle(span=open('x'))": "the value of 'span' must be a number",
    "shuffle(span={1, 2})": "the value of 'span' must be a number",
    "keep": "parameter 'what' is required; parameters of keep: what, positions='closed'",
    "drop": "drop takes one of rate and what; got rate=None and what=None",
    "drop(0.5, 'common')": "drop takes one of rate and what; got rate=0.5 and what='common'",
    "keep('noun')": "by '\\+'; got 'noun'; did you mean 'NOUN'\\? known: ADJ, ADP",
    "keep('NOUN+')": "by '\\+'; got ''; known: ADJ",
    "keep(['NOUN'])": r"by '\+'; got \['NOUN'\]",
    "delete(positions='open')": "positions must be 'closed' or 'kept'; got 'open'",
    "hide(sinks=-1)": "sinks must be an integer >= 0; got -1",
    "[hide, shuffle]": "hide keeps positions; allowed: it stands alone",
    "shuffle(unit='letter')": "unit must be 'token' or 'word' or 'sentence'; got 'letter'",
    "shuffle(span=2, unit='word')": "goes with unit='token'; got unit='word'",
    "shuffle(unit='sentence', within='sentence')": "with unit='sentence', must be None; got 'sent",
    "shuffle_spans(3, within='word')": "within must be None or 'sentence'; got 'word'",
    "[drop(rate=0.5), reverse(unit='word')]": "reads the text as it was written; allowed",
    "drop_target(matched=1)": "matched must be True or False; got 1",
    "replace(source=-1)": "source must be an integer >= 0; got -1",
    "replace(source=5, rate=0)": "rate must be a number above 0 and at most 1; got 0",
    "drop(rate=0)": "rate must be a number above 0 and at most 1",
    "drop(rate=1e999)": "the value of 'rate' must be a number",
    "replace(source='books')": "source 'books' is unknown; allowed: 'vocabulary', 'unigram', "
    "'document', 'self'",
    "replace(source=[])": "source must hold at least one token id",
    "[drop(rate=0.5), shuffle(span=1)]": "span must be an integer >= 2",
    "[[shuffle], reverse]": "cannot be read",
    "[intact, shuffle]": "'intact' leaves the text alone and stands alone",
    "[shuffle, noise]": "'noise' leaves the text alone and stands alone",
    "[]": "is empty",
    "": "cannot be read",
    "shuffle(": "cannot be read",
    "shuffle; reverse": "cannot be read",
    "os.remove('x')": "cannot be read",
    "shuffle(1)(2)": "cannot be read",
    "lambda: shuffle": "cannot be read",
}
PIECES = ["shuffle", "drop", "replace", "noise", "(", ")", "[", "]", "span", "rate", "source"]
PIECES += ["=", ",", "'", "'document'", "2", "0.5", "1e999", "-", "*", "None", "\\", " ", "\0"]


@pytest.fixture
def register(monkeypatch):
    registry.load_builtins()
    monkeypatch.setattr(registry.REGISTRY, "entries", dict(registry.REGISTRY.entries))
    return registry.register


@pytest.mark.parametrize(("text", "canonical"), CANONICAL.items())
def test_there_is_one_text_for_a_condition(text, canonical):
    """Keywords in the signature's order, defaults left out; reading it again changes nothing."""
    condition = parse(text)
    assert str(condition) == condition.text == canonical
    assert parse(canonical) == condition
    assert parse(canonical).text == canonical


@pytest.mark.slow
@settings(deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.integers(2, 2**63 - 1).map("shuffle({})".format),
            st.floats(0, 1, exclude_min=True).map("drop({!r})".format),
            st.lists(st.integers(0, 99), min_size=1).map("replace({})".format),
            st.sampled_from(["reverse", "truncate()", "replace('self')"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_canonical_text_is_a_fixed_point(steps):
    """Reading the canonical text gives the same steps, as one text or as a list of texts."""
    condition = parse(f"[{', '.join(steps)}]")
    again = parse(condition.text)
    assert again.text == condition.text
    assert again.steps == condition.steps
    assert parse(steps).text == condition.text


@pytest.mark.parametrize(("text", "said"), MISTAKES.items())
def test_a_mistake_is_quoted_and_explained(text, said):
    """The error shows the text as it was written and says what is allowed."""
    with pytest.raises(UsageError, match=said) as caught:
        parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("wrong", [None, 3, ["shuffle", 3], {"shuffle": 1}, b"shuffle"])
def test_a_condition_is_text_or_texts(wrong):
    """Whatever else a configuration holds is refused as a mistake of its writer."""
    with pytest.raises(UsageError, match="a condition must be text or a list of texts; got"):
        parse(wrong)


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=12).map("".join)))
@example("(" * 5000)
@example("-" * 100_000 + "1")
@example("shuffle(span=" + "[" * 100 + "]" * 100 + ")")
@example("shuffle(span=0x" + "f" * 5000 + ")")
@example("shuffle(span=" + "9" * 5000 + ")")
@example("replace(source={[]: 1})")
@example("\ud800")
def test_no_text_makes_parse_fail_in_another_way(text):
    """Any text is either a condition, whose canonical text is one too, or a usage error."""
    try:
        condition = parse(text)
    except UsageError:
        return
    assert parse(condition.text).text == condition.text


def test_nothing_in_a_text_is_evaluated(register):
    """A call inside an argument is refused, not made."""
    called = []

    @register("touch")
    def touch(far, *, rng, value=None):
        called.append(value)
        return far

    with pytest.raises(UsageError, match="must be a number"):
        parse("touch(value=touch([1]))")
    assert not called


def test_parameters_follow_the_signature(register):
    """Whatever order they are written in; a value equal to the default of another type stays."""

    @register("mix")
    def mix(far, *, rng, first=1, second="a", third=False):
        return far

    assert parse("mix(third=True, first=2)").text == "mix(first=2, third=True)"
    assert parse("mix(2, 'it\\'s')").text == 'mix(first=2, second="it\'s")'
    assert parse("mix(first=1, second='a', third=False)").text == "mix"
    assert parse("mix(first=True, third=0)").text == "mix(first=True, third=0)"


def test_what_a_users_function_refuses_is_a_usage_error(register):
    """Its own complaint about a value reaches the user with the text of the condition."""

    @register("picky")
    def picky(far, *, rng, by):
        return far // by

    with np.errstate(divide="raise"), pytest.raises(UsageError, match=r"'picky\(0\)': divide by"):
        parse("picky(0)")
    with pytest.raises(UsageError, match=r"picky\('a'\)"):
        parse("picky('a')")
