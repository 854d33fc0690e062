"""The engine: every loss is that of a plain whole forward, however the work was shared."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
import torch
from models import (
    FAMILIES,
    VOCABULARY,
    plain_logp,
    random_ids,
    tiny,
    tiny_model,
    tiny_report,
)
from plain_forwards import (
    FIRST_TOKENS,
    SAME_LENGTH,
    Paths,
    Plain,
    assert_right,
    branches_of,
    tolerance,
    window,
)
from planted import CopyRule, planted

from probe.engine import branch as tree
from probe.engine import walk
from probe.engine.branch import Branch
from probe.engine.engine import Engine
from probe.engine.losses import MEASURES, Losses
from probe.engine.selfcheck import check
from probe.engine.walk import Techniques
from probe.models.causal import CausalModel

OTHER_LENGTH = ("drop(rate=0.5)", "[drop(rate=0.3), shuffle]")
EVERY = (*SAME_LENGTH, *OTHER_LENGTH)
NAMES = tuple(field.name for field in fields(Techniques))


def tree_tokens(windows: Sequence[Sequence[Branch]], techniques: Techniques) -> int:
    """Tokens that windows of equal shape take, by their tree."""
    keys = [np.stack([w[number].keys for w in windows]) for number in range(len(windows[0]))]
    roots = walk.build(keys) if techniques.branching else tree.without_tree(keys)
    return tree.tokens(roots) * len(windows)


# -- every family -----------------------------------------------------------------------------


@pytest.mark.parametrize("first_token", FIRST_TOKENS)
@pytest.mark.parametrize(("plan", "windows"), [("sweep", 2), ("grid", 1)])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses(family: str, plan: str, windows: int, first_token: str, paths: Paths) -> None:
    """Windows together, and one alone, have the losses of plain forwards, each prefix once."""
    model, techniques = tiny_model(family), tiny_report(family).techniques
    batch = [branches_of(window(i), plan=plan, first_token=first_token) for i in range(windows)]
    engine = Engine(model, techniques)
    plain = Plain(model, batch)
    assert_right(plain, batch, engine.score(batch), tolerance(family))
    assert engine.costs.tokens == tree_tokens(batch, techniques)
    assert engine.costs.targets == sum(branch.targets for own in batch for branch in own)
    if techniques.branching:
        assert paths["continued"]
        assert paths["packed" if techniques.packing else "rows"]


@pytest.mark.parametrize("first_token", ["own", "none"])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_where_lengths_change(family: str, first_token: str, paths: Paths) -> None:
    """Windows whose branches differ in length are walked one by one, and as right."""
    model, techniques = tiny_model(family), tiny_report(family).techniques
    two = [
        branches_of(window(i), first_token=first_token, conditions=OTHER_LENGTH) for i in range(2)
    ]
    assert [len(b.ids) for b in two[0]] != [len(b.ids) for b in two[1]]
    engine = Engine(model, techniques)
    assert_right(Plain(model, two), two, engine.score(two), tolerance(family))
    assert engine.costs.tokens == sum(tree_tokens([own], techniques) for own in two)


@cache
def plain_of_window(family: str, conditions: tuple[str, ...]) -> Plain:
    """The plain way of a window, gone once for all that is compared with it."""
    return Plain(tiny_model(family), [branches_of(window(), conditions=conditions)])


@pytest.mark.parametrize("off", NAMES)
@pytest.mark.parametrize("family", FAMILIES)
def test_without_one_technique(family: str, off: str, paths: Paths) -> None:
    """Each technique switched off alone, the losses stay the same."""
    model = tiny_model(family)
    techniques = replace(tiny_report(family).techniques, **{off: False})
    conditions = ("reverse", "replace(source='vocabulary')")
    own = branches_of(window(), conditions=conditions)
    plain = plain_of_window(family, conditions)
    assert_right(plain, [own], Engine(model, techniques).score([own]), tolerance(family))
    if off in ("rows", "packing"):
        assert not paths["rows" if off == "rows" else "packed"]


@pytest.mark.parametrize("family", FAMILIES)
def test_whole(family: str) -> None:
    """The plain way forwards every distinct branch whole, and continues nothing."""
    model = tiny_model(family)
    own = branches_of(window(), conditions=["noise", "reverse"])
    engine = Engine(model).whole()
    assert_right(Plain(model, [own]), [own], engine.score([own]), tolerance(family))
    distinct = {branch.keys.tobytes(): len(branch.ids) for branch in own}
    assert engine.costs.tokens == sum(distinct.values())
    assert engine.costs.forwards == len(distinct)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_read_their_far_text(family: str) -> None:
    """Other far text changes the losses by far more than the tolerance of these tests."""
    model = tiny_model(family)
    own = branches_of(window(), conditions=["reverse"])
    plain = Plain(model, [own])
    found = plain.nll(own[1]) - plain.nll(own[0])
    assert np.abs(found).max() > 100 * tolerance(family)


# -- measures ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral", "mamba", "mpt"])
@pytest.mark.parametrize(("plan", "first_token"), [("sweep", "keep"), ("grid", "none")])
def test_measures(family: str, plan: str, first_token: str, paths: Paths) -> None:
    """KL to intact, top-1 and entropy are those of whole distributions."""
    model, techniques = tiny_model(family), tiny_report(family).techniques
    two = [
        branches_of(window(i), plan=plan, first_token=first_token, conditions=EVERY)
        for i in range(2)
    ]
    assert_measures(model, two, Engine(model, techniques, MEASURES).score(two, reference=0))


def assert_measures(
    model: CausalModel,
    windows: Sequence[Sequence[Branch]],
    scored: Sequence[Sequence[Losses]],
    reference: int = 0,
) -> None:
    """Every measure of every branch but the intact one is that of whole distributions."""
    plain = Plain(model, windows)
    for branches, found in zip(windows, scored, strict=True):
        whole = plain.logp(branches[reference])
        for number, (branch, losses) in enumerate(zip(branches, found, strict=True)):
            logp = plain.logp(branch)
            assert losses.nll == pytest.approx(plain.nll(branch), abs=5e-5)
            assert losses.entropy == pytest.approx(-(np.exp(logp) * logp).sum(axis=1), abs=1e-4)
            assert losses.top1 is not None
            assert losses.top1.tolist() == (logp.argmax(axis=1) == branch.labels).tolist()
            if number == reference:
                continue
            at = branch.origin - branches[reference].origin
            intact_logp = whole[at : at + branch.targets]
            kl = (np.exp(intact_logp) * (intact_logp - logp)).sum(axis=1)
            assert losses.kl == pytest.approx(kl, abs=1e-4)


@pytest.mark.parametrize("reference", [0, 1, 2])
@pytest.mark.parametrize("switched_off", [None, "packing", "rows", "continuation", "head"])
def test_intact_is_known_before_it_is_compared_with(
    reference: int, switched_off: str | None, paths: Paths
) -> None:
    """A short and a long branch that leave the intact one early have their KL, in any order.

    The short one is scored with what stands next to it, and may not come before its reference.
    """
    model, text = tiny_model("llama"), random_ids(90)
    other = random_ids(90, seed=5)
    whole = Branch(text, text, 10, 90, 10)
    long = np.concatenate([text[:40], other[40:90]])
    short = np.concatenate([text[:40], other[:5], text[45:60]])
    own = [Branch(long, long, 70, 90, 70), Branch(short, short, 45, 60, 45)]
    own.insert(reference, whole)
    techniques = Techniques(**{switched_off: False} if switched_off else {})
    scored = Engine(model, techniques, MEASURES).score([own], reference=reference)
    assert_measures(model, [own], scored, reference)


def test_kl_of_intact_is_zero() -> None:
    """Intact against itself: noise without exemption shares all, so its KL is 0."""
    model = tiny_model("llama")
    own = [replace(b, keys=b.ids) for b in branches_of(window(), conditions=["noise"])]
    scored = Engine(model, measures=("nll", "kl")).score([own], reference=0)
    for losses in scored[0][1:]:
        assert losses.kl is not None
        assert np.abs(losses.kl).max() < 1e-6  # not 0: the same row, at another place in a product


# -- what is shared, and what is not ----------------------------------------------------------


def test_noise_is_exempt_from_sharing(paths: Paths) -> None:
    """The intact text of noise is forwarded again, through the tree that a replacement has."""
    noise = branches_of(window(), conditions=["noise"])
    other = branches_of(window(), conditions=["replace(source='vocabulary')"])
    shared = [replace(branch, keys=branch.ids) for branch in noise]
    assert shape_of(noise) == shape_of(other)
    assert tree_tokens([noise], Techniques()) == tree_tokens([other], Techniques())
    assert tree_tokens([noise], Techniques()) > tree_tokens([shared], Techniques())


def shape_of(branches: Sequence[Branch]) -> list[tuple[int, int, list[int]]]:
    """Where the nodes of a tree start and end, and which branches run through them."""
    roots = walk.build([branch.keys[None] for branch in branches])
    return [(node.start, node.stop, node.through) for root in roots for node in root.walk()]


@pytest.mark.parametrize("family", FAMILIES)
def test_leaves_do_not_see_each_other(family: str, paths: Paths) -> None:
    """Other tokens in one short leaf leave the losses of its neighbours alone."""
    model, techniques = tiny_model(family), tiny_report(family).techniques
    text = random_ids(60)
    leaves = [np.concatenate([text[:40], random_ids(20, seed=seed)]) for seed in (1, 2, 3)]
    changed = leaves.copy()
    changed[1] = np.concatenate([text[:40], random_ids(20, seed=4)])
    first, second = (
        Engine(model, techniques).score([[Branch(ids, ids, 41, 60, 41) for ids in some]])[0]
        for some in (leaves, changed)
    )
    assert np.abs(first[1].nll - second[1].nll).max() > 1e-3
    for number in (0, 2):
        assert second[number].nll == pytest.approx(first[number].nll, abs=1e-6)
    if techniques.branching:
        assert paths["packed" if techniques.packing else "rows"]


def test_packs_off_a_chain(paths: Paths) -> None:
    """Leaves that leave a long text at several places are packed into one forward."""
    model, text = tiny_model("llama"), random_ids(90)
    own = [Branch(text, text, 1, 90, 1)]
    for seed, at in enumerate([20, 40, 60], start=1):
        ids = np.concatenate([text[:at], random_ids(15, seed=seed)])
        own.append(Branch(ids, ids, at, at + 15, at))
    engine = Engine(model)
    assert_right(Plain(model, [own]), [own], engine.score([own], reference=0), 1e-5)
    assert paths["packed"] == 1
    assert engine.costs.forwards == -(-90 // walk.PIECE) + 1


def test_branch_that_ends_inside_another() -> None:
    """A branch that is the beginning of another takes its losses from the same forward."""
    model, text = tiny_model("llama"), random_ids(90)
    own = [Branch(text, text, 50, 90, 50), Branch(text[:60], text[:60], 40, 60, 40)]
    engine = Engine(model)
    assert_right(Plain(model, [own]), [own], engine.score([own]), 1e-5)
    assert engine.costs.tokens == 90


# -- models that are different ----------------------------------------------------------------


def test_model_without_cache() -> None:
    """A model that keeps no cache is forwarded whole, and right."""
    model = CausalModel(planted(CopyRule(9, VOCABULARY)))
    assert model.cache_name is None
    techniques = check(model, random_ids(97)).techniques
    assert techniques == Techniques(
        continuation=False, forks=False, rows=False, packing=False, head=True
    )
    two = [branches_of(window(i)) for i in range(2)]
    engine = Engine(model, techniques)
    assert_right(Plain(model, two), two, engine.score(two), 1e-5)
    keys = [np.stack([w[number].keys for w in two]) for number in range(len(two[0]))]
    distinct = {row.tobytes(): row.shape[1] for row in keys}
    assert engine.costs.tokens == 2 * sum(distinct.values())


@pytest.mark.parametrize("family", ["llama", "gemma3", "mpt"])
def test_model_is_left_as_it_was(family: str, paths: Paths) -> None:
    """After the engine has run, a plain forward gives what it gave before."""
    model, text = tiny_model(family), random_ids(50)
    before = plain_logp(model.model, text)
    Engine(model, tiny_report(family).techniques).score([branches_of(window())])
    assert np.array_equal(plain_logp(model.model, text), before)
    assert not any("forward" in vars(module) for module in model.model.modules())


@pytest.mark.slow
def test_bfloat16() -> None:
    """In bfloat16 shared and whole forwards differ by rounding alone: little on average."""
    model = CausalModel(tiny("llama", dtype=torch.bfloat16))
    own = branches_of(window())
    shared = Engine(model).score([own])[0]
    whole = Engine(model).whole().score([own])[0]
    difference = np.concatenate([a.nll - b.nll for a, b in zip(shared, whole, strict=True)])
    assert abs(difference.mean()) < 0.02
    assert difference.std() < 0.1
