"""The candidates of protocol `suffix`: where they begin in a document, and their branches."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from probe.branches import Scored
from probe.corpus.windows import Document, Window, cut, window_at
from probe.errors import UsageError
from probe.perturbations.condition import draw_rng
from probe.protocol import Suffix
from probe.text import shown

GOLD = "truncate"
"""The condition of the gold continuation: the text before the prefix is cut off."""
DISTRACTOR = "distractor(number={})"
"""The condition of each other candidate behind the same prefix; no perturbation has this name."""

Places = NDArray[np.int64]


def windows_of(
    document: Document, plan: Suffix, *, per_document: int | None, skip: int, seed: int
) -> list[Window]:
    """Cut windows whose document holds all their distractors as well.

    With *at* a window lies where its gold continuation begins at a match; the matches are tried in
    seeded order, and no two windows overlap.

    Args:
        document: Where to cut.
        plan: The protocol.
        per_document: At most so many; ``None`` takes all.
        skip: Tokens at the document's start that neither a window nor a distractor touches.
        seed: Seed of the run.

    Returns:
        Windows in order of position, numbered from 0; none where there is too little text.

    Raises:
        UsageError: If *at* is asked of data without text.
    """
    if plan.at is None:
        found = cut(document, length=plan.length, per_document=per_document, skip=skip, seed=seed)
        return [one for one in found if len(places(document, one.start, plan, skip, seed))]
    prefix = plan.length - plan.count
    starts = matches(document, plan.at) - prefix
    starts = starts[(starts >= skip) & (starts + plan.length <= len(document.ids))]
    rng = draw_rng(seed, document.id, 0, "suffix", 0)
    taken: list[int] = []
    for start in rng.permutation(starts).tolist():
        if len(taken) == per_document:
            break
        apart = all(abs(start - other) >= plan.length for other in taken)
        if apart and len(places(document, start, plan, skip, seed)):
            taken.append(start)
    return [
        window_at(document, index=index, start=start, length=plan.length)
        for index, start in enumerate(sorted(taken))
    ]


def places(document: Document, start: int, plan: Suffix, skip: int, seed: int) -> Places:
    """Where the distractors of a window begin.

    They overlap neither the window nor one another. The draw depends on the seed, the document and
    where the window starts.

    Args:
        document: The window's document.
        start: Index of the window's first token.
        plan: The protocol.
        skip: See :func:`windows_of`.
        seed: Seed of the run.

    Returns:
        Indices in the document, in the order of their numbers, shape ``(distractors,)``; shape
        ``(0,)`` where the document has too few.
    """
    rng = draw_rng(seed, document.id, start, "distractor", 0)
    tokens = plan.count
    free = [(skip, start), (start + plan.length, len(document.ids))]
    if plan.at is None:
        found = [low + _slots(high - low, tokens, rng) for low, high in free]
    else:
        begin = matches(document, plan.at)
        found = [_apart(begin[(begin >= a) & (begin + tokens <= b)], tokens) for a, b in free]
    starts = np.concatenate(found)
    if len(starts) < plan.distractors:
        return starts[:0]
    return rng.choice(starts, size=plan.distractors, replace=False)


def matches(document: Document, at: str) -> Places:
    """The tokens in which a match of a regular expression begins, rising, each once.

    Args:
        document: A document with text.
        at: The expression; ``^`` and ``$`` match at lines.

    Raises:
        UsageError: If the document has no text.
    """
    if document.text is None:
        raise UsageError(
            f"protocol.at is {shown(at)}, but the data came as token ids; allowed: data with text"
        )
    found = [match.start() for match in re.finditer(at, document.text, re.MULTILINE)]
    tokens = np.unique(np.searchsorted(document.char_end, found, side="right")).astype(np.int64)
    return tokens[tokens < len(document.ids)]


def candidates(
    gold: Sequence[Scored], document: Document, starts: Places, plan: Suffix
) -> list[Scored]:
    """Every distractor behind the prefix of each gold branch.

    Args:
        gold: Branches that end with the gold continuation, one a prefix.
        document: Where the distractors stand.
        starts: Where each begins, indices in the document.
        plan: The protocol.

    Returns:
        Branches whose rows name the gold tokens that they compete with.
    """
    found = []
    for one in gold:
        prefix = one.branch.ids[: -plan.count]
        for number, start in enumerate(starts.tolist(), start=1):
            ids = np.concatenate([prefix, document.ids[start : start + plan.count]])
            branch = replace(one.branch, ids=ids, keys=ids)
            found.append(replace(one, branch=branch, condition=DISTRACTOR.format(number)))
    return found


def _slots(room: int, tokens: int, rng: np.random.Generator) -> Places:
    """Consecutive places for as many continuations as fit, behind a random offset."""
    count = max(0, room) // tokens
    offset = rng.integers(max(0, room) - count * tokens, endpoint=True)
    return np.arange(count, dtype=np.int64) * tokens + offset


def _apart(starts: Places, tokens: int) -> Places:
    """As many of some rising places as can be taken without an overlap."""
    taken: list[int] = []
    for start in starts.tolist():
        if not taken or start - taken[-1] >= tokens:
            taken.append(start)
    return np.array(taken, dtype=np.int64)
