"""What windows begin with alike is forwarded once, and every loss is that of a whole forward."""

from collections.abc import Sequence
from itertools import chain, permutations

import numpy as np
import pytest
from models import BOS, random_ids, tiny_model, tiny_report
from plain_forwards import Paths, Plain, assert_right, tolerance, window
from plans import grid, sweep

from probe.engine import beginnings
from probe.engine import branch as tree
from probe.engine.branch import Beginnings, Branch
from probe.engine.engine import Engine
from probe.perturbations.condition import parse
from probe.perturbations.shared_texts import SharedText
from probe.protocols.branches import Draw, FirstToken, intact, perturbed

LENGTH = 64
PLANS = {
    "sweep": sweep(LENGTH, 28, runs={1: 1, 4: 2}, all_runs=True),
    "one boundary": sweep(LENGTH, 28, runs={1: 1}),
    "grid": grid(LENGTH, [0, 1, 24], count=4, end_offset=3),
}
REPLACE = parse("replace(source='document', shared=2)")
OTHER = parse("reverse")
IN_FRONT = FirstToken("keep", BOS)
Windows = list[list[Branch]]


@pytest.fixture(autouse=True)
def short_paths(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beginnings of a small window are worth a node of their own."""
    monkeypatch.setattr(tree, "SHARED_AT_LEAST", 6)


def branches_of(index: int, plan: str, first: FirstToken = IN_FRONT) -> list[Branch]:
    """The branches of a window, whose replaced text is one of two, by turns."""
    own, protocol = window(index), PLANS[plan]
    text = SharedText(random_ids(protocol.longest_far, seed=100 + index % 2))
    of_text, of_own = Draw(REPLACE, seed=1), Draw(OTHER, seed=1)
    return [
        intact(own, protocol.targets, first).branch,
        *(
            perturbed(own, run, draw, first, sources={"document": text}).branch
            for draw in (of_text, of_own)
            for run in protocol.runs(True)
        ),
    ]


def common(windows: Windows) -> int:
    """Tokens of the windows' beginnings, each once."""
    texts = {b.beginning.tobytes(): len(b.beginning) for b in chain(*windows) if b.begins}
    return sum(texts.values())


def own_tokens(windows: Windows) -> int:
    """Tokens of the tree of windows that are walked together, without those of other windows."""
    numbers = range(len(windows[0]))
    roots = tree.build([np.stack([own[number].keys for own in windows]) for number in numbers], 6)
    return tree.tokens(roots, Beginnings(roots, windows)) * len(windows)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("family", ["llama", "opt", "mpt", "mistral", "mamba2"])
def test_losses(family: str, batch: int, plan: str) -> None:
    """Windows with one text or another, in any batch, have the losses of plain forwards."""
    model, techniques = tiny_model(family), tiny_report(family).techniques
    windows = [branches_of(index, plan) for index in range(6)]
    engine = Engine(model, techniques)
    units = [windows[at : at + batch] for at in range(0, len(windows), batch)]
    scored = [losses for unit in units for losses in engine.score(unit, reference=0)]
    assert_right(Plain(model, windows), windows, scored, tolerance(family))
    if techniques.packing:
        assert engine.costs.tokens == sum(map(own_tokens, units)) + common(windows)
        assert common(windows) == 2 * (1 + PLANS[plan].longest_far)


@pytest.mark.slow
def test_no_window_comes_first() -> None:
    """Whatever was scored before, as in a resumed run, the losses are the same to the last bit."""
    windows = [branches_of(index, "sweep") for index in range(3)]
    found: dict[int, Sequence[bytes]] = {}
    for order in permutations(range(3)):
        engine = Engine(tiny_model("llama"))
        for number in order:
            (losses,) = engine.score([windows[number]], reference=0)
            of_window = [one.nll.tobytes() for one in losses]
            assert found.setdefault(number, of_window) == of_window


def test_a_window_of_its_own_first_token_shares_nothing() -> None:
    """Without a BOS the window's own token stands in front, and no two begin alike."""
    own = branches_of(0, "sweep", FirstToken("keep", None))
    assert all(branch.begins == 0 for branch in own)
    assert any(branch.begins for branch in branches_of(0, "sweep", FirstToken("none", BOS)))


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 1])
def test_what_does_not_fit_is_forwarded_again(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory holds one beginning, or none, the windows of others are as right."""
    model = tiny_model("llama")
    windows = [branches_of(index, "sweep") for index in range(6)]
    every = Engine(model)
    every.score(windows[:1])
    (known,) = every._beginnings._known.values()
    assert known is not None
    size = beginnings.MOST_BYTES - every._beginnings._left  # type: ignore[operator]
    monkeypatch.setattr(beginnings, "MOST_BYTES", room * 1.5 * size)
    engine = Engine(model)
    scored = [engine.score([own], reference=0)[0] for own in windows]
    assert_right(Plain(model, windows), windows, scored, 1e-5)
    held = [one for one in engine._beginnings._known.values() if one is not None]
    assert len(held) == room


def test_the_plain_way_forwards_it_with_every_window() -> None:
    """An oracle shares nothing."""
    windows = [branches_of(index, "sweep") for index in range(2)]
    engine = Engine(tiny_model("llama")).whole()
    assert_right(Plain(engine.model, windows), windows, engine.score(windows), 1e-5)
    distinct = {branch.keys.tobytes(): len(branch.ids) for own in windows for branch in own}
    assert engine.costs.tokens == sum(distinct.values())


def test_a_beginning_is_compared_token_by_token() -> None:
    """A branch that leaves it early shares what it has; nothing that differs is taken for it."""
    text, other = random_ids(40), random_ids(40, seed=9)
    mixed = np.concatenate([text[:17], other[17:]])
    assert other[17] != text[17]
    branch = Branch(mixed, mixed, 20, 40, 20, beginning=text)
    assert branch.begins == 17
    moved = Branch(mixed, mixed, 20, 40, 20, np.arange(40) + 1, beginning=text)
    assert moved.begins == 0
