"""Patterns as text: one canonical text each, every mistake one line; one text for many heads."""

import re

import pytest

from probe.attention.parse import expand, parse
from probe.attention.pattern import HeadRule
from probe.attention.term import names
from probe.attention.terms.hardcoded import Gaussian
from probe.attention.terms.lowrank import Pool
from probe.attention.terms.mask import Dilated, Local
from probe.config import check
from probe.errors import UsageError
from probe.perturbations.condition import parse as parse_condition


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("local(512)", "local(w=512, sinks=1)"),
        (" local( sinks=4, w=512 ) ", "local(w=512, sinks=4)"),
        ("local(8, 0)", "local(w=8, sinks=0)"),
        ("dilated(8, 1)", "dilated(w=8, gap=1, sinks=1)"),
        ("local(8) + global([9, 2, 9])", "global(positions=[2, 9], sinks=1) + local(w=8, sinks=1)"),
        ("global(3)", "global(positions=[3], sinks=1)"),
        ("random(3, 0)", "random(links=3, sinks=1)"),
        ("strided(4) + strided(4)", "strided(stride=4, sinks=1)"),
        ("gaussian()", "gaussian"),
        ("gaussian(offset=0, sigma=2)", "gaussian(offset=0, sigma=2.0)"),
        ("heads(zero, heads=3)", "heads(zero, heads=[3])"),
        ("heads(pool(8), heads=(1, 0), layers=[2])", "heads(pool(k=8), layers=[2], heads=[0, 1])"),
        (
            "heads(local(4) + global(0), layers=[1])",
            "heads(global(positions=[0], sinks=1), layers=[1]) + "
            "heads(local(w=4, sinks=1), layers=[1])",
        ),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    """However a pattern is written it has one text, which names its sinks and reads back."""
    pattern = parse(text)
    assert str(pattern) == canonical
    assert parse(canonical) == pattern
    assert hash(parse(canonical)) == hash(pattern)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("local", "parameter 'w' is required; parameters of local: w, sinks=1"),
        ("local(0)", "w must be an integer >= 1; got 0"),
        ("local(True)", "w must be an integer >= 1; got True"),
        ("local(2, sinks=-1)", "sinks must be an integer >= 0; got -1"),
        ("local(2, w=3)", "'w' is given twice"),
        ("local(2, gap=3)", "unknown parameter 'gap'"),
        ("local(n)", "the value of 'w' must be a number or a list of them"),
        ("local(**{})", "'**' is not allowed"),
        ("locale(2)", "unknown pattern 'locale'; did you mean 'local'?"),
        ("local(2", "cannot be read"),
        ("local(2) * 2", "cannot be read"),
        ("", "cannot be read"),
        ("blocks(0)", "size must be"),
        ("dilated(3, -1)", "gap must be"),
        ("strided(0)", "stride must be"),
        ("global([])", "positions must hold"),
        ("global([-1])", "positions must be"),
        ("random(0)", "links must be"),
        ("local(2147483648)", "w must be an integer up to 2,147,483,647; got 2147483648"),
        ("pool(10**30)", "the value of 'k' must be a number"),
        ("project(70000)", "k must be an integer up to 65,536"),
        ("random(2000)", "links must be an integer up to 1,024"),
        ("gaussian(sigma=1e999)", "sigma must be a number from 0.1 to 2,147,483,647; got inf"),
        ("heads(zero, layers=each(3))", "makes a condition for each number, in a configuration"),
        ("random(1, 2147483648)", "seed must be an integer up to 2,147,483,647"),
        ("gaussian(0.5)", "offset must be an integer within ±2,147,483,647; got 0.5"),
        ("gaussian(sigma=0)", "sigma must be a number from 0.1 to 2,147,483,647; got 0"),
        ("gaussian(renormalise=1)", "renormalise must be True or False"),
        ("pool(0)", "k must be"),
        ("svd(0)", "k must be"),
        ("project(1, -1)", "seed must be"),
        ("heads(local(2))", "heads names none"),
        ("heads(layers=[1])", "heads takes one pattern"),
        ("heads(local(2), layers=[-1])", "layers must be integers from 0"),
        ("heads(local(2), heads=[])", "heads must be integers from 0"),
        ("heads(local(2), rows=[1])", "unknown parameter 'rows'"),
        ("heads(heads(zero, heads=1), layers=2)", "heads stands in heads"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    """A mistake is one line that names the pattern, the value and what is allowed."""
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        parse(text)
    assert str(caught.value).startswith(f"pattern {text!r}")
    assert "\n" not in str(caught.value)


def test_no_text() -> None:
    """A pattern is text and nothing else."""
    with pytest.raises(UsageError, match="a pattern must be text; got 5"):
        parse(5)  # type: ignore[arg-type]


def test_terms_say_nothing_about_other_heads() -> None:
    """Longformer's dilation on chosen heads: elsewhere there is the plain window alone."""
    pattern = parse("local(4) + heads(dilated(4, 1), layers=[1], heads=[0])")
    assert pattern.rules(0, 2) == {HeadRule((Local(4),)): [0, 1]}
    # In the order of the text.
    assert pattern.rules(1, 2) == {
        HeadRule((Dilated(4, 1), Local(4))): [0],
        HeadRule((Local(4),)): [1],
    }
    alone = parse("heads(gaussian, layers=[1], heads=[0])")
    assert alone.rules(0, 2) == {HeadRule(): [0, 1]}
    assert alone.rules(1, 2) == {HeadRule(weights=Gaussian()): [0], HeadRule(): [1]}


def test_masks_and_hard_coded_heads_go_together() -> None:
    """A hard-coded head can be limited to what a mask lets through."""
    pattern = parse("local(4) + heads(gaussian, heads=[1])")
    assert pattern.rule(0, 1) == HeadRule((Local(4),), Gaussian())


@pytest.mark.parametrize("text", ["zero + mean", "local(3) + pool(2)", "pool(2) + svd(2)"])
def test_clashes(text: str) -> None:
    """Two terms that cannot both hold in a head are refused, apart they are not."""
    with pytest.raises(UsageError, match="layer 0, head 0 has"):
        parse(text).rule(0, 0)
    one, other = text.split(" + ")
    apart = parse(f"heads({one}, heads=[0]) + heads({other}, heads=[1])")
    assert len(apart.rules(0, 2)) == 2


def test_layers_and_heads_that_are_not_there() -> None:
    """A head beyond the model's is refused; the last one is not."""
    parse("heads(zero, layers=[2], heads=[3])").refuse_unknown(3, 4)
    with pytest.raises(UsageError, match=r"layers holds 3; allowed: 0 to 2"):
        parse("heads(zero, layers=[0, 3])").refuse_unknown(3, 4)
    with pytest.raises(UsageError, match=r"heads holds 4; allowed: 0 to 3"):
        parse("heads(zero, heads=4)").refuse_unknown(3, 4)
    with pytest.raises(UsageError, match="layer 2, head 1 has"):
        parse("heads(zero, layers=[2]) + heads(mean, heads=[1])").refuse_unknown(3, 4)


def test_what_needs_what() -> None:
    """Only low-rank patterns tell far from near, only last_token needs an encoder."""
    assert parse("heads(pool(3), layers=[0])").needs_boundary
    assert not parse("local(3) + gaussian").needs_boundary
    assert parse("last_token").bidirectional
    assert not parse("first_token").bidirectional
    assert parse("pool(3)").rule(0, 0) == HeadRule(lowrank=Pool(3))


def test_all_are_listed() -> None:
    """Every pattern of the issue has its name."""
    masks = "local blocks dilated strided global random"
    heads = "gaussian first_token last_token zero uniform mean"
    assert names() == tuple(sorted(f"{masks} {heads} pool project svd".split()))


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


def test_words_in_quotes_are_left_alone() -> None:
    """Python keeps the word ``global`` for itself; a text that holds it is no pattern."""
    with pytest.raises(UsageError, match=r"source 'global\(1\)'"):
        parse_condition("replace(source='global(1)')")
    assert parse("global ([3])").text == "global(positions=[3], sinks=1)"
