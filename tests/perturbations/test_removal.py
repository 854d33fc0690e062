"""Fewer tokens, in their order, beside the plain way; and none removed by the controls."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_spacy import POS, forget, install
from token_texts import spelled, written

from probe.errors import UsageError
from probe.perturbations.condition import code_versions, parse
from probe.perturbations.content import noise
from probe.perturbations.removal import KINDS, drop, keep, truncate
from probe.perturbations.units import TAGS

TOKENS = ["Anna", " Sm", "ith", " saw", "\n", " the", " old", " cats", ",", " and", " she", "."]
PLACES = list(range(len(TOKENS)))
KEPT = {
    "NOUN": [" cats"],
    "VERB": [" saw"],
    "NOUN+PRON+PROPN": ["Anna", " Sm", "ith", " cats", " she"],
    "content": ["Anna", " Sm", "ith", " saw", " old", " cats", " she"],
    "function": [" the", " and"],
    "function+PUNCT": [" the", ",", " and", "."],
    "PUNCT": [",", "."],
    "SPACE": ["\n"],
    "entity": ["Anna", " Sm", "ith"],
    "entity+PUNCT": ["Anna", " Sm", "ith", ",", "."],
    "X": [],
}


@pytest.fixture(autouse=True)
def _stand_in_for_spacy(monkeypatch):
    install(monkeypatch)
    yield
    forget()


@settings(deadline=None)
@given(n=st.integers(0, 200), rate=st.floats(0, 1, exclude_min=True), seed=st.integers(0, 2**32))
def test_each_token_is_dropped_on_its_own(n, rate, seed):
    """A token stays where its own draw is not below the rate."""
    rng = np.random.default_rng(seed)
    plain = [i for i in range(n) if rng.random() >= rate]
    assert drop(list(range(n)), rng=seed, rate=rate) == plain


def test_the_rate_is_the_share_that_goes():
    """Of 10,000 tokens a quarter goes, within 5 SD; at rate 1 all."""
    left = len(drop(np.arange(10_000), rng=0, rate=0.25))
    assert abs(left - 7500) < 5 * np.sqrt(10_000 * 0.25 * 0.75)
    assert drop([1, 2, 3], rng=0, rate=1) == []


@pytest.mark.parametrize("rate", [0, -0.1, 1.01, True, float("nan"), "0.5"])
def test_a_rate_must_be_a_share(rate):
    """Nothing dropped is `intact`, so rate 0 is a mistake too."""
    with pytest.raises(ValueError, match=f"rate must be .* above 0 and at most 1; got {rate!r}"):
        drop([1, 2, 3], rng=0, rate=rate)


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 1000)))
def test_truncation_leaves_nothing(ids):
    """All of far is gone, however long it was."""
    assert truncate(ids, rng=0) == []


@pytest.mark.parametrize("windows", [0, -1, 1.5, True, "all"])
def test_noise_is_measured_on_at_least_one_window(windows):
    """The number of windows is checked though the text is left alone."""
    with pytest.raises(ValueError, match=f"windows must be an integer >= 1; got {windows!r}"):
        noise([1, 2, 3], rng=0, windows=windows)


# ------------------------------------------------------------------------------ kinds of words


@pytest.mark.parametrize(("what", "expected"), KEPT.items())
def test_words_are_kept_or_dropped_as_wholes(what, expected):
    """Both pieces of a word go together; what one filter keeps the other drops."""
    text = written(TOKENS)
    kept = keep(PLACES, rng=0, what=what, text=text)
    dropped = drop(PLACES, rng=0, what=what, text=text)
    assert [TOKENS[place] for place in kept] == expected
    assert sorted(kept + dropped) == PLACES


def test_content_and_function_words_are_all_words():
    """Every part of speech but punctuation and white space is of one of the two."""
    content, function = KINDS["content"], KINDS["function"]
    assert not content & function
    assert content | function | {"PUNCT", "SPACE"} == set(TAGS)
    assert set(POS.values()) <= set(TAGS)


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 60), max_size=80), cut=st.integers(0, 10))
def test_common_types_are_those_of_the_data(ids, cut):
    """Token by token, by what the text was told; no pipeline is needed."""
    text, common = spelled(ids), [token % 7 == 0 for token in ids]
    far = list(range(len(ids)))[cut:]
    assert keep(far, rng=0, what="common", text=text[cut:]) == [i for i in far if common[i]]
    assert keep(far, rng=0, what="rare", text=text[cut:]) == [i for i in far if not common[i]]
    assert keep(far, rng=0, what="common+rare", text=text[cut:]) == far
    assert drop(far, rng=0, what="common", text=text[cut:]) == [i for i in far if not common[i]]


def test_positions_are_kept_where_asked():
    """What is left is known by its places, the same tokens as with positions closed up."""
    text, ids = written(TOKENS), np.arange(100, 112)
    for call in ("keep(what='content'{})", "drop(what='content'{})", "drop(rate=0.4{})"):
        closed = parse(call.format(""))
        kept = parse(call.format(", positions='kept'"))
        assert (closed.keeps_positions, kept.keeps_positions) == (False, True)
        places = kept.remaining(ids, rng=5, text=text)
        assert ids[places].tolist() == closed.apply(ids, rng=5, text=text).tolist()


def test_what_a_filter_needs():
    """The text for words, nothing for chance; the pipeline only for what it tells."""
    assert parse("keep(what='rare')").needs_text
    assert not parse("drop(rate=0.5)").needs_text
    assert parse("[keep(what='rare'), drop(rate=0.5)]").needs_text
    with pytest.raises(
        UsageError, match=r"\[drop\(rate=0.5\), keep\(what='NOUN'\)\].* first in a l"
    ):
        parse("[drop(rate=0.5), keep(what='NOUN')]")
    with pytest.raises(ValueError, match="'NOUN' is found in the text of the far context"):
        keep([1, 2], rng=0, what="NOUN")
    with pytest.raises(UsageError, match="'missing' cannot be loaded"):
        parse("keep(what='NOUN', model='missing')")
    assert parse("keep(what='rare', model='missing')").text == "keep(what='rare', model='missing')"


def test_a_run_is_marked_with_the_pipeline(monkeypatch):
    """Another version of spaCy or of the pipeline gives other rows; common types need none."""
    monkeypatch.setattr(
        "probe.perturbations.condition.pipeline_version", lambda model: f"1, {model}"
    )
    conditions = ["keep(what='NOUN+rare')", "drop(what='entity', model='own')", "shuffle"]
    conditions += ["keep(what='common')", "drop(rate=0.5)"]
    expected = {"keep(model='en_core_web_sm')": "1, en_core_web_sm", "drop(model='own')": "1, own"}
    assert code_versions(map(parse, conditions)) == expected


@pytest.mark.parametrize("condition", ["keep(what='NOUN')", "drop(what='entity+rare')"])
def test_without_the_extra(condition):
    """A condition says at once what to install; common and rare need nothing."""
    code = f"""
import sys
sys.modules["spacy"] = None  # as if it were not installed
from probe.perturbations.condition import parse
parse("keep(what='common')")
try:
    parse({condition!r})
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f'UsageError condition "{condition}": ')
    assert done.stdout.endswith("need spaCy: pip install spacy (extra nlp)\n")
    assert done.stdout.count("\n") == 1


@pytest.mark.slow
def test_with_spacy_itself(tmp_path, monkeypatch):
    """A real pipeline, tagged by rule, gives what the stand-in gives."""
    monkeypatch.undo()
    forget()
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed (extra nlp)")
    nlp = spacy.blank("en")
    tags = nlp.add_pipe("attribute_ruler")
    for word, tag in POS.items():
        tags.add([[{"ORTH": word}]], {"POS": tag})
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Anna Smith"}])
    nlp.to_disk(tmp_path / "pipeline")
    for what, expected in KEPT.items():
        found = keep(
            PLACES, rng=0, what=what, model=str(tmp_path / "pipeline"), text=written(TOKENS)
        )
        assert [TOKENS[place] for place in found] == expected
