"""What holds for every perturbation, whatever the far context."""

from collections import Counter

import numpy as np
import pytest
import torch
from builtin_conditions import (
    AGAIN,
    CONTROLS,
    CUTTING,
    EVERY,
    KEEPING,
    ORDER,
    PREFIXED,
    REMOVING,
    WITHIN,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from token_texts import spelled

from probe.corpus.windows import Window
from probe.perturbations import registry
from probe.perturbations.condition import parse
from probe.perturbations.samplers import passages, stretch, unigram, vocabulary
from probe.protocols.branches import Draw, FirstToken, TargetRun, perturbed

pytestmark = pytest.mark.usefixtures("stand_in_for_spacy")

SOURCES = {
    "vocabulary": vocabulary(range(100, 200)),
    "unigram": unigram([0, 3, 1, 0, 2]),
    "document": stretch([np.arange(1000, 1400), np.arange(2000, 2030)], room=300),
    "self": stretch([np.arange(3000, 3100)], room=300),
    "passage": passages([np.arange(4000, 4020)]),
    "newline": vocabulary([6]),
    "pad": vocabulary([7000]),
    "mask": vocabulary([7001]),
}
IDS = st.integers(0, 300)
ANY_IDS = st.lists(IDS, max_size=200)
SEEDS = st.integers(0, 2**32)
TARGETS = st.lists(IDS, min_size=1, max_size=1) | st.just([8])
RUN = settings(deadline=None)  # the first example loads the perturbations


def apply(text, far, seed, targets=(8,), whole=None):
    """A condition applied to *far*, which is the start of the text of *whole*."""
    written = spelled([int(token) for token in (far if whole is None else whole)])
    return parse(text).apply(
        far,
        rng=seed,
        sources=SOURCES,
        text=written[: len(far)],
        targets=np.array(targets),
        passage=slice(0, len(far) // 3),
    )


def test_every_builtin_is_under_the_laws():
    """A perturbation that is added to the package is added here."""
    entries = map(registry.get, registry.names())
    ours = {entry.name for entry in entries if entry.function.__module__ in registry.BUILTINS}
    assert ours == {step.name for text in EVERY for step in parse(text).steps}


@pytest.mark.slow
@RUN
@given(text=st.sampled_from(EVERY), ids=ANY_IDS, seed=SEEDS)
def test_kind_is_kept_and_far_untouched(text, ids, seed):
    """List, array and tensor give the same ids, each as its own kind, and stay as they were."""
    array, tensor = np.array(ids, dtype=np.int32), torch.tensor(ids, dtype=torch.int32)
    expected = apply(text, list(ids), seed)
    from_array, from_tensor = apply(text, array, seed), apply(text, tensor, seed)
    assert isinstance(expected, list)
    assert from_array.dtype == np.int32
    assert from_tensor.dtype == torch.int32
    assert from_array.tolist() == from_tensor.tolist() == expected
    assert array.tolist() == tensor.tolist() == ids
    assert not np.shares_memory(array, from_array)


@RUN
@given(text=st.sampled_from(EVERY), ids=ANY_IDS, seed=SEEDS, targets=TARGETS)
def test_equal_seeds_give_equal_results(text, ids, seed, targets):
    """Nothing but far, its text, the targets and the generator's state decides the result."""
    again = apply(text, ids, np.random.default_rng(seed), targets)
    assert apply(text, ids, seed, targets) == again


@RUN
@given(text=st.sampled_from(KEEPING), ids=ANY_IDS, seed=SEEDS, targets=TARGETS)
def test_length_is_kept_unless_tokens_are_removed(text, ids, seed, targets):
    """As many tokens come out as went in, so that no near token moves."""
    assert not parse(text).removes
    assert len(apply(text, ids, seed, targets)) == len(ids)


@RUN
@given(text=st.sampled_from(REMOVING), ids=ANY_IDS, seed=SEEDS, targets=TARGETS)
def test_removing_says_so(text, ids, seed, targets):
    """What may shorten far is marked, never makes it longer and puts nothing new there."""
    assert parse(text).removes
    assert not Counter(apply(text, ids, seed, targets)) - Counter(ids)


@RUN
@given(text=st.sampled_from(CUTTING), ids=ANY_IDS, seed=SEEDS)
def test_sinks_are_what_is_left(text, ids, seed):
    """Exactly the first tokens that were asked for stay."""
    assert apply(text, ids, seed) == ids[: 3 if "sinks=3" in text else 0]


@RUN
@given(ids=ANY_IDS, seed=SEEDS, target=IDS)
def test_the_matched_control_removes_as_many(ids, seed, target):
    """As many tokens, none of them an occurrence; all others where there are fewer."""
    targeted = apply("drop_target", ids, seed, [target])
    control = apply("drop_target(matched=True)", ids, seed, [target])
    occurrences, others = ids.count(target), len(ids) - ids.count(target)
    assert len(targeted) == others
    assert len(control) == len(ids) - min(occurrences, others)
    assert control.count(target) == occurrences


@RUN
@given(text=st.sampled_from([*ORDER, *WITHIN]), ids=ANY_IDS, seed=SEEDS)
def test_order_perturbations_keep_the_tokens(text, ids, seed):
    """The same tokens come out, each as often."""
    assert sorted(apply(text, ids, seed)) == sorted(ids)


@RUN
@given(text=st.sampled_from(CONTROLS), ids=ANY_IDS, seed=SEEDS)
def test_controls_change_nothing(text, ids, seed):
    """The text of the controls is the intact text."""
    assert apply(text, ids, seed) == ids


@RUN
@given(text=st.sampled_from(AGAIN), ids=ANY_IDS, seed=SEEDS, targets=TARGETS)
def test_done_again_nothing_changes(text, ids, seed, targets):
    """What has been removed, replaced by one token or pasted is so once and for all."""
    once = apply(text, ids, seed, targets)
    if text.startswith(("keep", "drop(what")):  # which types are common is the data set's business
        common = np.arange(301) % 7 == 0
        assert once == [token for token in ids if common[token]]
    else:
        assert apply(text, once, seed + 1, targets) == once


@RUN
@given(unit=st.sampled_from(["token", "word", "sentence"]), ids=ANY_IDS)
def test_a_reversal_runs_from_the_last_unit_to_the_first(unit, ids):
    """Units never rise, and inside each the tokens follow one another."""
    text = spelled(ids)
    places = parse(f"reverse(unit={unit!r})").apply(np.arange(len(ids)), rng=0, text=text)
    units = text.units(unit)[places]
    assert (np.diff(units) <= 0).all()
    assert (np.diff(places)[np.diff(units) == 0] == 1).all()


@RUN
@given(text=st.sampled_from(PREFIXED), ids=ANY_IDS, seed=SEEDS, targets=TARGETS, data=st.data())
def test_a_longer_far_context_begins_with_the_shorter_one(text, ids, seed, targets, data):
    """No draw depends on how long far is, in a chain neither."""
    m = data.draw(st.integers(0, len(ids)))
    short, long = apply(text, ids[:m], seed, targets, ids), apply(text, ids, seed, targets)
    assert long[: len(short)] == short


@pytest.mark.slow
@RUN
@given(text=st.sampled_from(WITHIN), ids=ANY_IDS, seed=SEEDS, data=st.data())
def test_a_shuffle_inside_groups_is_nested_up_to_whole_groups(text, ids, seed, data):
    """Spans, sentences and words that are whole in both far contexts are permuted alike."""
    m = data.draw(st.integers(0, len(ids)))
    parameters = parse(text).steps[0].parameters
    groups = np.zeros(m, dtype=int)
    if within := parameters.get("within"):
        groups = spelled(ids).units(within)[:m]
    elif span := parameters.get("span"):
        groups = np.arange(m) // span
    whole = int(np.searchsorted(groups, groups[-1])) if m else 0
    # A word that goes on behind a sentence's end is permuted with the words of that sentence.
    if m and parameters.get("unit") == "word":
        words = spelled(ids).units("word")[:m]
        whole = int(np.searchsorted(words, words[whole]))
        same = groups[whole] == groups[whole - 1] if whole else False
        whole = int(np.searchsorted(groups, groups[whole])) if same else whole
    short, long = apply(text, ids[:m], seed, whole=ids), apply(text, ids, seed)
    assert long[:whole] == short[:whole]


@RUN
@given(
    text=st.sampled_from(EVERY),
    boundary=st.integers(0, 40),
    before=st.integers(0, 5),
    first_token=st.sampled_from(
        [FirstToken(mode, bos) for mode in ("keep", "none", "published") for bos in (9, None)]
    ),
    seed=SEEDS,
)
def test_near_is_never_touched(text, boundary, before, first_token, seed):
    """Near tokens and targets are the window's, at their own places where positions are kept."""
    condition, ids = parse(text), np.arange(200, 260)
    nothing = np.empty(0, dtype=np.int32)
    window = Window("a", 0, 0, ids, None, nothing, nothing)
    place = slice(0, boundary // 3)
    run = TargetRun(boundary, boundary + before, 60, passage=place)
    whole = spelled(ids.tolist())
    branch = perturbed(
        window,
        run,
        Draw(condition, seed=seed),
        first_token,
        sources=SOURCES,
        text=whole,
    ).branch
    near = ids[boundary:]
    assert np.array_equal(branch.ids[-len(near) :], near)
    assert np.array_equal(branch.labels, ids[branch.origin :])
    if condition.keeps_positions:
        places = branch.places[-len(near) :]
        assert np.array_equal(places, first_token.extra + np.arange(boundary, 60))


@pytest.mark.parametrize("text", EVERY)
def test_no_far_context_stays_none(text):
    """At boundary 0 there is nothing to perturb, and nothing comes out."""
    assert apply(text, [], 0) == []


@pytest.mark.slow
@RUN
@given(
    text=st.sampled_from([text for text in EVERY if text != "replace(source='self')"]),
    ids=st.lists(IDS, min_size=20, max_size=60),
    first=st.integers(0, 19),
    seed=SEEDS,
)
def test_a_part_of_a_text_may_begin_anywhere(text, ids, first, seed):
    """Far may begin in the middle of a sentence or word, behind text that stays intact."""
    part = spelled(ids)[first:]
    result = parse(text).apply(
        ids[first:],
        rng=seed,
        sources=SOURCES,
        text=part,
        targets=np.array([8]),
        passage=slice(2, 9),
    )
    assert len(result) <= len(ids) - first
    if text in [*ORDER, *WITHIN]:
        assert sorted(result) == sorted(ids[first:])
