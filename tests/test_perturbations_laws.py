"""What holds for every perturbation, whatever the far context."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.perturbations import registry
from probe.perturbations.condition import parse
from probe.perturbations.samplers import stretch, unigram, vocabulary

SOURCES = {
    "vocabulary": vocabulary(range(100, 200)),
    "unigram": unigram([0, 3, 1, 0, 2]),
    "document": stretch([np.arange(1000, 1400), np.arange(2000, 2030)], room=300),
    "self": stretch([np.arange(3000, 3100)], room=300),
}
ORDER = ["shuffle", "shuffle(span=2)", "shuffle(span=7)", "reverse"]
ORDER += ["shuffle_spans(span=1)", "shuffle_spans(span=7)"]
CONTROLS = ["intact", "noise", "noise(windows=3)"]
REPLACING = [f"replace(source={name!r})" for name in SOURCES]
REMOVING = ["drop(rate=0.3)", "drop(rate=1.0)", "truncate", "[drop(rate=0.5), shuffle]"]
KEEPING = [*ORDER, *CONTROLS, *REPLACING, "[reverse, shuffle(span=3)]"]
EVERY = [*KEEPING, *REMOVING]
ANY_CONDITION = st.sampled_from(EVERY).map(parse)
ANY_IDS = st.lists(st.integers(0, 2**31 - 1), max_size=300)
SEEDS = st.integers(0, 2**32)


def apply(condition, far, seed):
    return condition.apply(far, rng=seed, sources=SOURCES)


def test_every_builtin_is_under_the_laws():
    """A perturbation that is added to the package is added here."""
    entries = map(registry.get, registry.names())
    ours = {entry.name for entry in entries if entry.function.__module__ in registry.BUILTINS}
    assert ours == {step.name for text in EVERY for step in parse(text).steps}


@settings(deadline=None)
@given(condition=ANY_CONDITION, ids=ANY_IDS, seed=SEEDS)
def test_kind_is_kept_and_far_untouched(condition, ids, seed):
    """List, array and tensor give the same ids, each as its own kind, and stay as they were."""
    array, tensor = np.array(ids, dtype=np.int32), torch.tensor(ids, dtype=torch.int32)
    expected = apply(condition, list(ids), seed)
    from_array, from_tensor = apply(condition, array, seed), apply(condition, tensor, seed)
    assert isinstance(expected, list)
    assert from_array.dtype == np.int32
    assert from_tensor.dtype == torch.int32
    assert from_array.tolist() == from_tensor.tolist() == expected
    assert array.tolist() == tensor.tolist() == ids
    assert not np.shares_memory(array, from_array)


@settings(deadline=None)
@given(condition=ANY_CONDITION, ids=ANY_IDS, seed=SEEDS)
def test_equal_seeds_give_equal_results(condition, ids, seed):
    """Nothing but far and the generator's state decides the result."""
    assert apply(condition, ids, seed) == apply(condition, ids, np.random.default_rng(seed))


@settings(deadline=None)
@given(text=st.sampled_from(KEEPING), ids=ANY_IDS, seed=SEEDS)
def test_length_is_kept_unless_tokens_are_removed(text, ids, seed):
    """As many tokens come out as went in, so that no near token moves."""
    assert not parse(text).removes
    assert len(apply(parse(text), ids, seed)) == len(ids)


@settings(deadline=None)
@given(text=st.sampled_from(REMOVING), ids=ANY_IDS, seed=SEEDS)
def test_removing_says_so(text, ids, seed):
    """What may shorten far is marked, and never makes it longer."""
    assert parse(text).removes
    assert len(apply(parse(text), ids, seed)) <= len(ids)


@settings(deadline=None)
@given(text=st.sampled_from(ORDER), ids=ANY_IDS, seed=SEEDS)
def test_order_perturbations_keep_the_tokens(text, ids, seed):
    """The same tokens come out, each as often."""
    assert sorted(apply(parse(text), ids, seed)) == sorted(ids)


@settings(deadline=None)
@given(text=st.sampled_from(CONTROLS), ids=ANY_IDS, seed=SEEDS)
def test_controls_change_nothing(text, ids, seed):
    """The text of the controls is the intact text."""
    assert apply(parse(text), ids, seed) == ids


@settings(deadline=None)
@given(
    text=st.sampled_from([*REPLACING, *CONTROLS, "drop(rate=0.3)", "truncate",
                          "[drop(rate=0.3), replace(source='document')]"]),
    ids=ANY_IDS,
    seed=SEEDS,
    data=st.data(),
)  # fmt: skip
def test_a_longer_far_context_begins_with_the_shorter_one(text, ids, seed, data):
    """No draw depends on how long far is, in a chain neither."""
    m = data.draw(st.integers(0, len(ids)))
    short, long = apply(parse(text), ids[:m], seed), apply(parse(text), ids, seed)
    assert long[: len(short)] == short


@settings(deadline=None)
@given(span=st.integers(2, 40), ids=ANY_IDS, seed=SEEDS, data=st.data())
def test_a_shuffle_inside_spans_is_nested_up_to_whole_spans(span, ids, seed, data):
    """Spans that are whole in both far contexts are permuted alike."""
    m = data.draw(st.integers(0, len(ids)))
    condition = parse(f"shuffle(span={span})")
    whole = m // span * span
    short, long = apply(condition, ids[:m], seed), apply(condition, ids, seed)
    assert long[:whole] == short[:whole]


@pytest.mark.parametrize("text", EVERY)
def test_no_far_context_stays_none(text):
    """At boundary 0 there is nothing to perturb, and nothing comes out."""
    assert apply(parse(text), [], 0) == []
