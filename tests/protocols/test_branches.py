"""Branches: near text and targets untouched, rows that say where they stand."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plain_forwards import SAME_LENGTH

from probe.corpus.windows import Window
from probe.perturbations.condition import parse
from probe.perturbations.samplers import vocabulary
from probe.protocols.branches import Draw, FirstToken, Scored, TargetRun, intact, perturbed

LENGTH, START, BOS = 60, 1000, 7
CONDITIONS = (*SAME_LENGTH, "drop(rate=0.5)", "drop(rate=1.0)", "[drop(rate=0.3), shuffle]")
NESTED = ("noise", "shuffle(span=4)", "replace(source='vocabulary')", "drop(rate=0.5)")
SOURCES = {"vocabulary": vocabulary(range(10_000, 20_000))}
FIRST_TOKENS = {
    "keep": FirstToken("keep", BOS),
    "own": FirstToken("keep", None),
    "none": FirstToken("none", BOS),
    "published": FirstToken("published", BOS),
    "published, own": FirstToken("published", None),
}
IDS = np.arange(100, 100 + LENGTH)  # each once, so that a token tells where it was


def window(index: int = 0, document: str = "a") -> Window:
    nothing = np.empty(0, dtype=np.int32)
    return Window(document, index, START, IDS.copy(), None, nothing, nothing)


def apply(condition: str, run: TargetRun, mode: str = "keep", **how: int) -> Scored:
    draw = Draw(parse(condition), **how)
    return perturbed(window(), run, draw, FIRST_TOKENS[mode], sources=SOURCES)


def far_of(scored: Scored, run: TargetRun) -> NDArray[np.int64]:
    """What stands before the near text, kept first token included."""
    return scored.branch.ids[: len(scored.branch.ids) - (run.stop - run.boundary)]


@st.composite
def runs(draw: st.DrawFn) -> TargetRun:
    boundary = draw(st.integers(1, LENGTH - 2))
    first = draw(st.integers(boundary, LENGTH - 2))
    return TargetRun(boundary, first, draw(st.integers(first + 2, LENGTH)))


@settings(deadline=None)  # the first example loads the perturbations
@given(st.sampled_from(CONDITIONS), runs(), st.sampled_from(list(FIRST_TOKENS)))
def test_near_is_untouched(condition: str, run: TargetRun, mode: str) -> None:
    """Near tokens and targets are the window's, the last tokens of every branch."""
    given_window = window()
    scored = perturbed(
        given_window,
        run,
        Draw(parse(condition), seed=3),
        FIRST_TOKENS[mode],
        sources=SOURCES,
    )
    near = IDS[run.boundary : run.stop]
    assert np.array_equal(scored.branch.ids[-len(near) :], near)
    assert np.array_equal(scored.branch.labels, IDS[scored.branch.origin : run.stop])
    assert scored.branch.stop == len(scored.branch.ids)
    assert np.array_equal(given_window.ids, IDS)


@settings(deadline=None)
@given(st.sampled_from(CONDITIONS), runs(), st.sampled_from(list(FIRST_TOKENS)))
def test_columns(condition: str, run: TargetRun, mode: str) -> None:
    """Position, far_start and boundary are indices in the document; distance follows from them."""
    scored = apply(condition, run, mode)
    branch = scored.branch
    assert scored.condition == parse(condition).text
    assert scored.position == START + branch.origin
    assert branch.labels[0] == IDS[scored.position - START]
    assert scored.boundary == START + run.boundary
    nothing_before = branch.first == 1 and branch.origin == run.boundary + 1
    assert scored.position - scored.boundary == run.first - run.boundary or nothing_before
    kept = FIRST_TOKENS[mode].kept
    lead = far_of(scored, run)[: FIRST_TOKENS[mode].extra + kept]
    is_empty = len(far_of(scored, run)) == len(lead)
    assert scored.far_start == START + (run.boundary if is_empty else kept)


@settings(deadline=None)
@given(st.sampled_from(CONDITIONS), runs(), st.sampled_from(list(FIRST_TOKENS)))
def test_targets_have_a_predictor(condition: str, run: TargetRun, mode: str) -> None:
    """A target is dropped only where nothing at all stands before it."""
    branch = apply(condition, run, mode).branch
    assert branch.first >= 1
    wanted = run.stop - run.first
    no_predictor = len(branch.ids) == run.stop - run.boundary and run.first == run.boundary
    assert branch.targets == wanted - no_predictor


@settings(deadline=None)
@given(st.sampled_from(CONDITIONS), runs(), st.sampled_from(list(FIRST_TOKENS)))
def test_intact_holds_every_target(condition: str, run: TargetRun, mode: str) -> None:
    """The targets of a condition are targets of intact, at the place that origin says."""
    whole = intact(window(), (run.first, run.stop), FIRST_TOKENS[mode]).branch
    branch = apply(condition, run, mode).branch
    at = branch.origin - whole.origin
    assert at >= 0
    assert np.array_equal(whole.labels[at : at + branch.targets], branch.labels)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_first_token_keep(condition: str) -> None:
    """The BOS stands in front of intact and of every condition, and far text may all change."""
    run = TargetRun(30, 40, 50)
    scored = apply(condition, run)
    assert scored.branch.ids[0] == BOS
    assert BOS not in scored.branch.ids[1:]
    whole = intact(window(), (20, LENGTH), FIRST_TOKENS["keep"])
    assert np.array_equal(whole.branch.ids, [BOS, *IDS])
    assert (whole.branch.first, whole.branch.origin) == (21, 20)
    assert (whole.position, whole.far_start, whole.boundary) == (START + 20, -1, -1)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_first_token_without_bos(condition: str) -> None:
    """Without a BOS the window's own first token is kept in front and never perturbed."""
    scored = apply(condition, TargetRun(30, 40, 50), "own")
    assert scored.branch.ids[0] == IDS[0]
    assert IDS[0] not in scored.branch.ids[1:]
    whole = intact(window(), (20, LENGTH), FIRST_TOKENS["own"]).branch
    assert np.array_equal(whole.ids, IDS)
    assert whole.first == whole.origin == 20


def test_first_token_without_bos_perturbs_all_else() -> None:
    """A replacement leaves the kept token alone and no other one of the far text."""
    branch = apply("replace(source='vocabulary')", TargetRun(30, 40, 50), "own").branch
    assert (branch.ids[1:30] >= 10_000).all()


@pytest.mark.parametrize("condition", CONDITIONS)
def test_first_token_none(condition: str) -> None:
    """Nothing stands in front: the branch is far and near alone."""
    run = TargetRun(30, 40, 50)
    far = far_of(apply(condition, run, "none"), run)
    assert BOS not in far
    assert len(far) <= 30


def test_first_token_none_truncated() -> None:
    """With nothing in front, the token at distance 0 of truncated text is no target."""
    scored = apply("truncate", TargetRun(30, 30, 50), "none")
    assert np.array_equal(scored.branch.ids, IDS[30:50])
    assert (scored.branch.first, scored.branch.origin) == (1, 31)
    assert scored.position == START + 31
    assert np.array_equal(scored.branch.labels, IDS[31:50])


def test_first_token_none_intact() -> None:
    """With nothing in front, the window's first token is no target."""
    whole = intact(window(), (0, LENGTH), FIRST_TOKENS["none"])
    assert (whole.branch.first, whole.branch.origin, whole.position) == (1, 1, START + 1)


@pytest.mark.parametrize(("mode", "first"), [("published", BOS), ("published, own", IDS[0])])
def test_first_token_published(mode: str, first: int) -> None:
    """As published: in front of intact and where far text remains, not of truncated text."""
    run = TargetRun(30, 40, 50)
    assert intact(window(), (20, LENGTH), FIRST_TOKENS[mode]).branch.ids[0] == first
    assert apply("shuffle", run, mode).branch.ids[0] == first
    assert np.array_equal(apply("truncate", run, mode).branch.ids, IDS[30:50])


@pytest.mark.slow
@settings(deadline=None)
@given(st.sampled_from(NESTED), st.sampled_from(list(FIRST_TOKENS)), st.data())
def test_nested_far_texts(condition: str, mode: str, data: st.DataObject) -> None:
    """A longer far text begins with what a shorter one became: boundaries share their prefix."""
    skip = FIRST_TOKENS[mode].kept
    boundaries = sorted(data.draw(st.sets(st.integers(0, 13), min_size=2)))
    cuts = [TargetRun(skip + 4 * n, LENGTH - 2, LENGTH) for n in boundaries if n]  # whole spans
    keys = []
    for run in cuts:
        branch = apply(condition, run, mode).branch
        keys.append(branch.keys[: len(branch.ids) - (run.stop - run.boundary)])
    for shorter, longer in pairwise(keys):
        assert np.array_equal(longer[: len(shorter)], shorter)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_draws_do_not_depend_on_order(condition: str) -> None:
    """A boundary's draw is the same whichever boundaries were drawn before it."""
    some = [TargetRun(boundary, 50, 60) for boundary in (10, 33, 47)]
    forth = [apply(condition, run).branch.ids for run in some]
    back = [apply(condition, run).branch.ids for run in reversed(some)]
    for one, other in zip(forth, reversed(back), strict=True):
        assert np.array_equal(one, other)


def test_draws_differ() -> None:
    """Another seed, repeat, window or document is another draw."""
    run, condition = TargetRun(40, 40, 60), parse("shuffle")
    cases = [
        (window(), 0, 0),
        (window(), 1, 0),
        (window(), 0, 1),
        (window(index=1), 0, 0),
        (window(document="b"), 0, 0),
    ]
    drawn = {
        perturbed(
            own, run, Draw(condition, repeat, seed), FIRST_TOKENS["keep"]
        ).branch.ids.tobytes()
        for own, seed, repeat in cases
    }
    assert len(drawn) == len(cases)


@pytest.mark.parametrize("mode", FIRST_TOKENS)
def test_noise_shares_with_noise_alone(mode: str) -> None:
    """Keys of noise agree with no key of intact; two noise branches share their far text only."""
    whole = intact(window(), (20, LENGTH), FIRST_TOKENS[mode]).branch
    one, other = (apply("noise", TargetRun(b, b, LENGTH), mode).branch for b in (30, 40))
    before = 30 + FIRST_TOKENS[mode].extra
    assert np.array_equal(one.ids, whole.ids)
    assert not np.isin(one.keys, whole.keys).any()
    assert np.array_equal(one.keys[:before], other.keys[:before])
    assert not np.isin(one.keys[before:], other.keys).any()


@pytest.mark.parametrize("condition", ["truncate", "noise"])
@pytest.mark.parametrize("mode", FIRST_TOKENS)
def test_nothing_far(mode: str, condition: str) -> None:
    """A boundary at the window's start cuts nothing off: the branch is how intact begins."""
    scored = apply(condition, TargetRun(0, 40, 50), mode)
    whole = intact(window(), (0, LENGTH), FIRST_TOKENS[mode]).branch
    assert np.array_equal(scored.branch.ids, whole.ids[: len(scored.branch.ids)])
    assert scored.branch.stop == 50 + FIRST_TOKENS[mode].extra
    assert np.array_equal(scored.branch.labels, IDS[40:50])
    assert (scored.far_start, scored.boundary, scored.position) == (START, START, START + 40)
