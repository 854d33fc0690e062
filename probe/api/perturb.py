"""A condition tried by hand: on a text, or on the attention of a model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from probe.api.texts import OTHER, Tokens, refuse_no_text, tokens_of
from probe.errors import UsageError
from probe.perturbations.condition import Condition, parse
from probe.perturbations.samplers import FIXED, Sampler, stretch, unigram, vocabulary
from probe.render.markup import element, token_markup
from probe.text import counted, shown

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from probe.attention.hook import PatternHook
    from probe.attention.pattern import Pattern


@dataclass(frozen=True, eq=False, repr=False)
class Perturbed:
    """A text under a condition, and what changed in it.

    Attributes:
        condition: The condition, in its canonical form.
        before: Ids of the far tokens as they were, shape ``(n,)``, int64.
        after: Ids of the far tokens under the condition, shape ``(k,)``, int64.
        near: Ids of the tokens behind the boundary, which nothing touches, shape ``(m,)``, int64.
        tokens: Whose tokens these are: a model's, or words and punctuation marks.
    """

    condition: str
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    near: NDArray[np.int64]
    tokens: Tokens

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the whole text under the condition, shape ``(k + m,)``, int64."""
        return np.concatenate([self.after, self.near])

    @property
    def text(self) -> str:
        """The whole text under the condition."""
        return self.tokens.join(self.ids.tolist())

    @cached_property
    def _marks(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        return changes(self.before.tolist(), self.after.tolist())

    @property
    def removed(self) -> NDArray[np.bool_]:
        """Which of *before* were taken out, shape ``(n,)``; none where others took their places."""
        return self._marks[0]

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Which of *ids* stand where another token stood, shape ``(k + m,)``."""
        return np.concatenate([self._marks[1], np.zeros(len(self.near), dtype=np.bool_)])

    @property
    def counts(self) -> str:
        """How much of the far context is left, in one line."""
        pairs = zip(self.before, self.after, strict=False)
        same = sum(old == new for old, new in pairs) / len(self.before)
        common = Counter(self.before.tolist()) & Counter(self.after.tolist())
        return (
            f"Far tokens: {len(self.before)} before, {len(self.after)} after; {100 * same:.1f} %"
            f" of positions unchanged, {100 * common.total() / len(self.before):.1f} % of tokens"
            " kept"
        )

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<{self.condition}: {shown(self.text)}>"

    def _repr_html_(self) -> str:
        """Far text before and after with what changed marked, then the near text."""
        spell = cache(self.tokens.decode)

        def line(title: str, ids: NDArray[np.int64], marks: NDArray[np.bool_], mark: str) -> str:
            pieces = zip(map(token_markup, map(spell, ids.tolist())), marks, strict=True)
            parts = [element(mark, piece) if marked else piece for piece, marked in pieces]
            text = element("div", *parts, style="white-space: pre-wrap")
            return element("div", element("b", title), text, style="margin-bottom: 0.5em")

        count = counted(len(self.before), "far token")
        whole = element(
            "div",
            line(f"{self.condition}: {count} before", self.before, self.removed, "del"),
            line("after", self.after, self._marks[1], "mark"),
            line("near, untouched", self.near, np.zeros(len(self.near), dtype=np.bool_), "mark"),
            element("small", self.counts),
        )
        return str(whole)


def perturb(
    text: str,
    condition: str,
    *,
    tokenizer: "str | Path | PreTrainedTokenizerBase | None" = None,
    boundary: int | None = None,
    seed: int = 0,
) -> Perturbed:
    """Put a text under a condition, to see what it does.

    A source takes its text from this one alone (``vocabulary``, ``unigram``, ``self``), or from the
    opening of Moby-Dick (``document``, ``passage``); `probe.score` and a run take it from the other
    documents. What is drawn is another draw than theirs.

    Args:
        text: The text.
        condition: As in a configuration: ``shuffle(span=5)``, ``drop(rate=0.5)``.
        tokenizer: A model's name or folder, or a tokenizer of transformers; by default tokens are
            words and punctuation marks, and no model is needed.
        boundary: Index of the first token that stays intact, which is the target of conditions
            that have one (``drop_target``); by default the last quarter stays.
        seed: Seed of the draws.

    Returns:
        The text under the condition, with what changed; shown with marks in a notebook.

    Raises:
        UsageError: If the condition is not understood or limits attention, the text is none or has
            fewer than two tokens, or *boundary* leaves no far or no near one.

    Example:
        >>> import probe
        >>> done = probe.perturb("one two three four five six seven eight", "reverse", boundary=3)
        >>> print(done.text)
         three twoone four five six seven eight
        >>> done.changed.tolist()
        [True, False, True, False, False, False, False, False]
        >>> probe.perturb("the cat sat on a mat", "truncate", tokenizer="gpt2", boundary=8)
        <truncate: 'sat on a mat'>
    """
    refuse_no_text(text, "text")
    parsed = parse(condition)
    if parsed.pattern is not None:
        raise UsageError(
            f"condition {shown(parsed.text)} limits attention and changes no text; allowed: "
            "probe.attend"
        )
    return apply(parsed, text, tokens_of(tokenizer), boundary=boundary, seed=seed)


def apply(
    condition: Condition,
    text: str,
    tokens: Tokens,
    *,
    boundary: int | None = None,
    seed: int = 0,
    older: str | None = None,
) -> Perturbed:
    """Apply a condition to a text of some tokens, see :func:`perturb`.

    Args:
        condition: The condition.
        text: The text.
        tokens: Encodes it.
        boundary: Index of the first near token; by default the last quarter is near.
        seed: Seed of the draws.
        older: What stands before the text in its document; by default any text of its own.
    """
    ids = tokens.encode(text)
    boundary = _boundary(boundary, len(ids))
    far, near = np.array(ids[:boundary]), np.array(ids[boundary:])
    whole = tokens.text(text)
    try:
        after = condition.apply(
            far,
            rng=seed,
            sources=bound(tokens, text, text if older is None else older, room=boundary),
            text=None if whole is None else whole[:boundary],
            targets=near[:1],
            passage=slice(0, boundary // 4),
        )
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise UsageError(f"condition {shown(condition.text)}: {error}") from error
    return Perturbed(condition.text, far, after, near, tokens)


def attend(
    model: "PreTrainedModel",
    pattern: "str | Pattern",
    *,
    boundary: int | None = None,
    places: "Sequence[int] | None" = None,
) -> "AbstractContextManager[PatternHook]":
    """Let a model attend by a pattern inside a ``with``, and behind it as before.

    Whatever calls the model there, a benchmark or ``generate``, gets what it gives with its
    attention so limited. Whether every layer obeys is tried first.

    Args:
        model: A decoder, encoder or encoder–decoder of transformers, in evaluation mode.
        pattern: The pattern, as inside of ``attend(…)`` in a configuration: ``local(256)``,
            ``local(64) + global(4)``; of an encoder–decoder ``cross(zero) + encoder(local(9))``.
        boundary: Index of the first near token, for patterns that tell far from near.
        places: For each token that a decoder reads the index of the source token that the next one
            belongs to, for patterns of cross attention that go by it.

    Returns:
        A context manager.

    Raises:
        UsageError: If the pattern is not understood, or the model does not support it; on entering.

    Example:
        >>> import probe
        >>> from transformers import AutoModelForCausalLM, AutoTokenizer
        >>> model = AutoModelForCausalLM.from_pretrained("gpt2").eval()
        >>> ids = AutoTokenizer.from_pretrained("gpt2")("the cat sat on a mat", return_tensors="pt")
        >>> with probe.attend(model, "local(4)"):
        ...     limited = model(ids["input_ids"]).logits
    """
    from probe.attention.apply import apply_pattern

    return apply_pattern(model, pattern, boundary=boundary, places=places)


def bound(tokens: Tokens, text: str, older: str, *, room: int) -> Mapping[str, Sampler]:
    """Make a sampler for each source name; single tokens that *tokens* has not are left out.

    Args:
        tokens: Encodes all texts.
        text: Gives the vocabulary and how often each token occurs.
        older: What stands before *text* in its document.
        room: The most tokens that are ever asked for.
    """
    ids = tokens.encode(text)
    fixed = {}
    for name in FIXED:
        with suppress(UsageError):
            fixed[name] = vocabulary([tokens.single(name)])
    return fixed | {
        "vocabulary": vocabulary(sorted(set(ids))),
        "unigram": unigram(np.bincount(ids)),
        "document": stretch([tokens.encode(OTHER)], room=room),
        "passage": stretch([tokens.encode(OTHER)], room=room),
        "self": stretch([tokens.encode(older)], room=room),
    }


def changes(
    before: Sequence[int], after: Sequence[int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find the tokens that changed.

    Returns:
        For each token of *before* whether it was removed, and for each of *after* whether another
        one stood in its place. Where *after* is *before* with gaps, only the gaps changed.
    """
    kept = [False] * len(before)
    rest = iter(after)
    wanted = next(rest, None)
    for index, token in enumerate(before):
        if token == wanted:
            kept[index] = True
            wanted = next(rest, None)
    if sum(kept) == len(after):
        return ~np.array(kept, dtype=np.bool_), np.zeros(len(after), dtype=np.bool_)
    moved = [new != old for new, old in zip(after, before, strict=False)]
    moved += [True] * (len(after) - len(moved))
    return np.zeros(len(before), dtype=np.bool_), np.array(moved, dtype=np.bool_)


def _boundary(boundary: int | None, length: int) -> int:
    if length < 2:
        raise UsageError(
            f"the text has {counted(length, 'token')}; allowed: 2 or more, far and near"
        )
    if boundary is None:
        return length - max(1, length // 4)
    whole = isinstance(boundary, int | np.integer) and not isinstance(boundary, bool)
    if not (whole and 1 <= boundary < length):
        raise UsageError(
            f"boundary is {shown(boundary)}; allowed: 1 to {length - 1}, as the text has {length}"
            " tokens"
        )
    return boundary
