"""Windows × conditions × boundaries → branches for the engine, and the rows they will become."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.corpus.windows import Window
from probe.engine.branch import Attention, Branch, Source
from probe.perturbations.condition import Condition, draw_rng
from probe.perturbations.samplers import Sampler
from probe.perturbations.shared_texts import SharedText
from probe.perturbations.units import TokenText

if TYPE_CHECKING:
    from probe.protocols.base import Inputs

FAR_LANE = 1 << 40  # keys of text that must not be shared with the intact pass
NEAR_LANE = 1 << 41
NOISE_LANE = 1  # of sources that must not be shared with the intact pass


class TargetRun(NamedTuple):
    """One boundary and the consecutive targets measured behind it, in one sequence.

    Indices count the window's own tokens from 0.

    Args:
        boundary: Index of the first intact token after the far context.
        first: Index of the first target.
        stop: One past the last target.
        start: Index of the first far token; what stands before it stays intact.
        name: What the far text is called, where it has a name that sources go by.
        passage: Place of a passage among the far tokens, where a condition reads it.
    """

    boundary: int
    first: int
    stop: int
    start: int = 0
    name: str | None = None
    passage: slice | None = None


class Draw(NamedTuple):
    """A condition, and what its draws depend on besides the window.

    Args:
        condition: The condition.
        repeat: Number of the draw.
        seed: Seed of the run.
    """

    condition: Condition
    repeat: int = 0
    seed: int = 0


@dataclass(frozen=True)
class FirstToken:
    """What stands in front of every branch (design §2, ``first_token``).

    Args:
        mode: ``keep``: in intact and every condition; ``none``: nothing; ``published``: in intact
            and where far text remains, but not before truncated text.
        bos: The token put in front: with ``keep`` the tokenizer's BOS; with ``published`` what the
            tokenizer itself puts in front of a text, which may be nothing though it has a BOS
            (GPT-2, Qwen, SmolLM2). ``None``: then the window's own first token is kept.
    """

    mode: str
    bos: int | None

    @property
    def extra(self) -> int:
        """Tokens put in front of the window: 1 with a BOS, else 0."""
        return int(self.mode != "none" and self.bos is not None)

    @property
    def kept(self) -> int:
        """Tokens of the window itself that are kept in front: 1 without a BOS, else 0."""
        return int(self.mode != "none" and self.bos is None)

    def lead(self, window: Window, far: NDArray[np.int64]) -> NDArray[np.int64]:
        """The kept tokens before *far*, shape ``(0,)`` or ``(1,)``."""
        if self.mode == "none" or (self.mode == "published" and len(far) == 0):
            return window.ids[:0]
        return window.ids[:1] if self.bos is None else np.array([self.bos], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Scored:
    """A branch, and what its rows in ``scores`` are to say.

    Args:
        branch: Goes to the engine.
        condition: Canonical text.
        repeat: Number of the draw.
        position: Index of the first target in its document.
        far_start: First perturbed token (``truncate``: first visible), index in the document.
        boundary: First intact token, index in the document; −1 for ``intact`` and for patterns of
            attention that tell no far from near. Where far text lies behind the target alone, the
            first perturbed token.
        nearest: Distance of the first target, where it is not that from the boundary; or of each
            target, shape ``(targets,)``, where distances do not rise by 1.
        boundary_right: First token of the far text behind the target, index in the document; −1
            where there is none, ``None`` where a protocol knows none.
        of: ``source`` or ``target``, whose far text is changed; empty where neither is, ``None``
            where a protocol knows no source. Of a source *far_start* is its first intact token,
            *boundary* the number of its far ones, as if all stood before it, and *boundary_right*
            the first far one behind: places in the source.
        chunk: Tokens of the chunks that the window is cut into, −1 where it is whole; ``None``
            where a protocol cuts none.
    """

    branch: Branch
    condition: str
    repeat: int
    position: int
    far_start: int
    boundary: int
    nearest: int | NDArray[np.int64] | None = None
    boundary_right: int | None = None
    of: str | None = None
    chunk: int | None = None

    @property
    def distance(self) -> int:
        """Distance of the first target, −1 without a boundary."""
        return int(self.distances[0])

    @property
    def distances(self) -> NDArray[np.int64]:
        """Distance of each target, shape ``(targets,)``; −1 without a boundary."""
        count = self.branch.targets
        if isinstance(self.nearest, np.ndarray):
            return self.nearest
        if self.boundary < 0:
            return np.full(count, -1)
        nearest = self.position - self.boundary if self.nearest is None else self.nearest
        return nearest + np.arange(count)


def intact(window: Window, targets: tuple[int, int], first_token: FirstToken) -> Scored:
    """The whole window as it is; the targets of all conditions are among its targets."""
    first, stop = targets
    lead = first_token.lead(window, window.ids)[: first_token.extra]
    ids = np.concatenate([lead, window.ids[:stop]])
    first = max(first, 1 - len(lead))  # nothing predicts the first token of all
    branch = Branch(ids, ids, first + len(lead), len(ids), first)
    return Scored(branch, "intact", 0, window.start + first, -1, -1)


def attended(whole: Scored, condition: Condition) -> Scored:
    """The intact branch of a window, attended to by a pattern without a boundary."""
    assert condition.pattern is not None
    branch = replace(whole.branch, attention=Attention(condition.pattern))
    return replace(whole, branch=branch, condition=condition.text)


def perturbed(
    window: Window,
    run: TargetRun,
    draw: Draw,
    first_token: FirstToken,
    *,
    sources: Mapping[str, Sampler] | None = None,
    text: TokenText | None = None,
) -> Scored:
    """One run of a condition: far perturbed up to the run's boundary, all else as it is.

    The draw depends on seed, document, window, condition and repeat, not on the boundary.

    Args:
        window: The window.
        run: The boundary, the targets and where far begins.
        draw: The condition, and which draw of it.
        first_token: What stands in front.
        sources: Samplers by name.
        text: The text of the whole window, where the condition reads it.
    """
    condition, start = draw.condition, max(run.start, first_token.kept)
    rng = draw_rng(draw.seed, window.document, window.index, condition.text, draw.repeat)
    far = window.ids[start : run.boundary]
    text = None if text is None else text[start : run.boundary]
    targets = window.ids[run.first : run.stop]
    shared = next((one for one in (sources or {}).values() if isinstance(one, SharedText)), None)
    left = None
    if condition.keeps_positions:
        left = condition.remaining(far, rng=rng, text=text, targets=targets, passage=run.passage)
        far = far[left]
    else:
        far = condition.apply(
            far,
            rng=rng,
            sources=sources or {},
            text=text,
            targets=targets,
            passage=run.passage,
        )
    older = window.ids[first_token.kept : start]
    before = np.concatenate([older, far])
    lead = first_token.lead(window, before)
    if run.boundary == 0:  # nothing is cut off: the intact text up to the run's end
        lead = first_token.lead(window, window.ids)[: first_token.extra]
    ids = np.concatenate([lead, before, window.ids[run.boundary : run.stop]])
    near = len(lead) + len(before)
    first = max(run.first, run.boundary + 1 - near)  # nothing predicts the first token of all
    branch = Branch(
        ids,
        _exempt(ids, near, run.boundary) if condition.is_noise else ids,
        near + first - run.boundary,
        len(ids),
        first,
        None if left is None else _kept_positions(start, left, run, first_token, len(lead)),
        None if condition.pattern is None else Attention(condition.pattern, near),
        # Behind a token or a text of the window's own, no two windows begin alike.
        beginning=None if start or shared is None else np.concatenate([lead, shared.ids]),
    )
    return Scored(
        branch,
        condition.text,
        draw.repeat,
        window.start + first,
        window.start + (start if len(before) else run.boundary),
        window.start + run.boundary,
    )


class Around(NamedTuple):
    """A text whose far parts, on either side of what stays, are perturbed.

    Args:
        ids: Token ids, shape ``(n,)``, int64.
        before: Tokens before what stays.
        places: Index of each token in the intact text, shape ``(n,)``, rising, where the condition
            leaves tokens out and keeps positions; else ``None``.
    """

    ids: NDArray[np.int64]
    before: int
    places: NDArray[np.int64] | None = None


def around(
    window: Window,
    ids: NDArray[np.int64],
    near: slice,
    draw: Draw,
    inputs: "Inputs",
    targets: NDArray[np.int64] | None = None,
) -> Around:
    """Perturb what lies before and behind a part of a text, by draws of their own.

    Args:
        window: The window that the text belongs to.
        ids: Token ids of the text, shape ``(n,)``, int64.
        near: What stays of it.
        draw: The condition, and which draw of it.
        inputs: What else it is made of, the text of these tokens among it.
        targets: Ids of the targets, where the condition reads them.
    """
    parts, sources, text = [], inputs.sources(draw, None), inputs.text
    for side in (slice(0, near.start), slice(near.stop, len(ids))):
        far, places = ids[side], np.arange(side.start, side.stop)
        # A generator for each side: how much one draws must not change what the other one does.
        name = draw.condition.text + (" behind" if side.start else "")
        rng = draw_rng(draw.seed, window.document, window.index, name, draw.repeat)
        of_side = None if text is None else text[side]
        if not len(far):
            pass
        elif draw.condition.keeps_positions:
            left = draw.condition.remaining(far, rng=rng, text=of_side, targets=targets)
            far, places = far[left], places[left]
        else:
            far = draw.condition.apply(far, rng=rng, sources=sources, text=of_side, targets=targets)
        parts.append((far, places))
    (before, before_at), (behind, behind_at) = parts
    return Around(
        np.concatenate([before, ids[near], behind]),
        len(before),
        np.concatenate([before_at, np.arange(near.start, near.stop), behind_at])
        if draw.condition.keeps_positions
        else None,
    )


def source_between(
    before: Sequence[int],
    ids: NDArray[np.int64],
    behind: Sequence[int],
    seen: NDArray[np.bool_] | None = None,
) -> Source:
    """What an encoder reads: a text between special tokens, which it always sees.

    Args:
        before: Special tokens before the text.
        ids: Token ids of the text, shape ``(n,)``, int64.
        behind: Special tokens behind it.
        seen: Which tokens of the text anything may attend to, shape ``(n,)``; ``None`` is all.
    """
    whole = np.concatenate([before, ids, behind]).astype(np.int64)
    if seen is not None:
        seen = np.pad(seen, (len(before), len(behind)), constant_values=True)
    return Source(whole, seen)


def _kept_positions(
    start: int, left: NDArray[np.int64], run: TargetRun, first_token: FirstToken, lead: int
) -> NDArray[np.int64]:
    """The position ids that the tokens of a branch have in the intact text."""
    own = [np.arange(first_token.kept, start), start + left, np.arange(run.boundary, run.stop)]
    return np.concatenate([np.arange(lead), first_token.extra + np.concatenate(own)])


def _exempt(ids: NDArray[np.int64], before: int, boundary: int) -> NDArray[np.int64]:
    """Keys that share far text among the noise branches only, and near text with nothing.

    The intact text then takes the path through the tree that a replaced text takes.
    """
    keys = ids + FAR_LANE
    keys[before:] = NEAR_LANE + (boundary << 20) + np.arange(len(ids) - before)
    return keys
