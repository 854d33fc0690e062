"""`suffix`: which of several continuations a model takes for the text's own, prefix by prefix."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator

from probe.corpus.windows import Document, Window, window_at
from probe.errors import ProbeError, UsageError
from probe.perturbations.condition import draw_rng
from probe.protocols.base import ANY_MODEL, TRUNCATE, Inputs, ModelFacts, Protocol, WindowsConfig
from probe.protocols.branches import Draw, Scored
from probe.protocols.grid import GridPlan, TargetsConfig, octaves
from probe.protocols.registry import register
from probe.results.record import Reading
from probe.text import shown

DISTRACTOR = "distractor(number={})"
"""The condition of each candidate beside the gold one, which is that of ``truncate``; no
perturbation has this name."""

Places = NDArray[np.int64]


@register
class SuffixProtocol(Protocol):
    """Which of several continuations the model takes for the text's own, prefix by prefix."""

    order = 50
    finding = "suffix"
    has_length = False
    few_documents = "accuracy will have none"
    truncates_only = True
    needs = {"tokens": 1, "candidates": 2}  # noqa: RUF012 (a ClassVar of the base)

    kind: Literal["suffix"] = "suffix"
    prefixes: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    """lengths of the text before the continuations, tokens"""
    tokens: PositiveInt = 128
    """tokens of a continuation; windows.length follows if it is not said"""
    candidates: Annotated[int, Field(ge=2)] = 6
    """the text's own continuation, and others from elsewhere in the document"""
    at: str | None = None
    """regular expression: the continuations begin where the document's text matches"""

    @field_validator("at")
    @classmethod
    def _expression(cls, at: str | None) -> str | None:
        try:
            re.compile(at or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"allowed: a regular expression ({error})") from error
        return at

    @classmethod
    def defaults(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Text is truncated; a window holds the longest prefix and a continuation."""
        protocol, windows = content["protocol"], content.get("windows", {})
        prefixes = protocol.get("prefixes")
        tokens = protocol.get("tokens", cls.model_fields["tokens"].default)
        lengths = filter(_whole, prefixes) if isinstance(prefixes, list) else ()
        longest = max(lengths, default=None)
        if isinstance(windows, Mapping) and longest is not None and _whole(tokens):
            windows = {"length": max(8, longest + tokens), **windows}
        return {"conditions": [TRUNCATE], **content, "windows": windows}

    @classmethod
    def starting(cls, length: int) -> Mapping[str, Any]:
        """A prefix an octave that leaves room for continuations, short ones in a short window."""
        tokens = min(cls.model_fields["tokens"].default, length // 4)
        return {"protocol": {"prefixes": octaves(length - tokens), "tokens": tokens}}

    @classmethod
    def reading(cls, options: Mapping[str, Any]) -> Reading:
        """The rows of distractors are no losses of the targets."""
        return Reading(alternatives=DISTRACTOR.partition("{")[0])

    def check_measures(self, measures: Sequence[str]) -> None:
        """Candidates are other texts: their distributions are not comparable."""
        super().check_measures(measures)
        if "kl" in measures:
            raise ValueError(
                f"allowed with protocol {self.kind}: nll, top1, entropy; candidates differ"
            )

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> "SuffixPlan":
        """What is measured of such windows.

        Raises:
            UsageError: If prefixes and continuation do not fit them.
        """
        most = windows.fixed - self.tokens
        if most < 1 or max(self.prefixes) > most:
            raise UsageError(
                f"protocol.prefixes is {shown(self.prefixes)}; allowed: one or more from 0 to "
                f"{most}, what windows of {windows.fixed} tokens hold before a continuation of "
                f"{self.tokens}"
            )
        gold = TargetsConfig(count=self.tokens, end_offset=0)
        return SuffixPlan(windows, model, gold, tuple(self.prefixes), self.candidates, self.at)


@dataclass(frozen=True)
class SuffixPlan(GridPlan):
    """A grid whose targets are the window's last tokens, each run once for every candidate.

    The targets are the gold continuation and the distances the lengths of the prefix before it.
    The other candidates stand in the targets' place: text of the same document from elsewhere.

    Source: Sun et al. 2021, section 5 (suffix identification); Sun, Thai and Iyyer 2022 for *at*.

    Args:
        candidates: Continuations to choose among, the gold one with them.
        at: Regular expression; the continuations begin where the document's text matches it.
            Without, they may begin anywhere.
    """

    candidates: int
    at: str | None = None

    @property
    def count(self) -> int:
        """Tokens of a continuation."""
        return self.fixed.count

    @property
    def distractors(self) -> int:
        """Candidates besides the gold one."""
        return self.candidates - 1

    @property
    def fewest(self) -> int:
        """However the text around a window is divided, it holds the distractors.

        With *at* it may still lack the places where they begin.
        """
        divided = self.count - 1 if not self.at else 0
        return self.settings.skip + self.length + self.distractors * self.count + divided

    def usable(self, documents: Sequence[Document], seed: int) -> Sequence[Document]:
        """Those with places for all candidates.

        Raises:
            ProbeError: If there is none.
        """
        first = replace(self, settings=self.settings.model_copy(update={"per_document": 1}))
        found = [document for document in documents if first.windows(document, seed)]
        if not found:
            raise ProbeError(
                f"no document has a window: protocol.at {shown(self.at)} matches nowhere behind "
                f"{self.length - self.count} tokens with {self.distractors} matches apart from it"
            )
        return found

    def windows(self, document: Document, seed: int) -> list[Window]:
        """Cut windows whose document holds all their distractors as well.

        With *at* a window lies where its gold continuation begins at a match; the matches are tried
        in seeded order, and no two windows overlap.

        Args:
            document: Where to cut.
            seed: Seed of the run.

        Returns:
            Windows in order of position, numbered from 0; none where there is too little text.

        Raises:
            UsageError: If *at* is asked of data without text.
        """
        if self.at is None:
            windows = super().windows(document, seed)
            return [one for one in windows if len(self.places(document, one.start, seed))]
        prefix = self.length - self.count
        starts = matches(document, self.at) - prefix
        starts = starts[
            (starts >= self.settings.skip) & (starts + self.length <= len(document.ids))
        ]
        rng = draw_rng(seed, document.id, 0, "suffix", 0)
        taken: list[int] = []
        for start in rng.permutation(starts).tolist():
            if len(taken) == self.settings.per_document:
                break
            apart = all(abs(start - other) >= self.length for other in taken)
            if apart and len(self.places(document, start, seed)):
                taken.append(start)
        return [
            window_at(document, index=index, start=start, length=self.length)
            for index, start in enumerate(sorted(taken))
        ]

    def places(self, document: Document, start: int, seed: int) -> Places:
        """Where the distractors of a window begin.

        They overlap neither the window nor one another. The draw depends on the seed, the document
        and where the window starts.

        Args:
            document: The window's document.
            start: Index of the window's first token.
            seed: Seed of the run.

        Returns:
            Indices in the document, in the order of their numbers, shape ``(distractors,)``; shape
            ``(0,)`` where the document has too few.
        """
        rng = draw_rng(seed, document.id, start, "distractor", 0)
        tokens = self.count
        free = [(self.settings.skip, start), (start + self.length, len(document.ids))]
        if self.at is None:
            starts = [low + _slots(high - low, tokens, rng) for low, high in free]
        else:
            begin = matches(document, self.at)
            starts = [_apart(begin[(begin >= a) & (begin + tokens <= b)], tokens) for a, b in free]
        every = np.concatenate(starts)
        if len(every) < self.distractors:
            return every[:0]
        return rng.choice(every, size=self.distractors, replace=False)

    def perturbed(self, window: Window, draw: Draw, inputs: Inputs) -> list[Scored]:
        """The gold continuation behind every prefix, and behind each then every distractor.

        The rows of a distractor name the gold tokens that it competes with.
        """
        gold = super().perturbed(window, draw, inputs)
        if draw.condition.text != TRUNCATE:
            return gold
        starts = self.places(inputs.document, window.start, draw.seed)
        others = []
        for one in gold:
            prefix = one.branch.ids[: -self.count]
            for number, start in enumerate(starts.tolist(), start=1):
                ids = np.concatenate([prefix, inputs.document.ids[start : start + self.count]])
                branch = replace(one.branch, ids=ids, keys=ids)
                others.append(replace(one, branch=branch, condition=DISTRACTOR.format(number)))
        return gold + others


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
    starts = [match.start() for match in re.finditer(at, document.text, re.MULTILINE)]
    tokens = np.unique(np.searchsorted(document.char_end, starts, side="right")).astype(np.int64)
    return tokens[tokens < len(document.ids)]


def _whole(number: object) -> bool:
    return isinstance(number, int)


def _slots(space: int, tokens: int, rng: np.random.Generator) -> Places:
    """Consecutive places for as many continuations as fit, behind a random offset."""
    count = max(0, space) // tokens
    offset = rng.integers(max(0, space) - count * tokens, endpoint=True)
    return np.arange(count, dtype=np.int64) * tokens + offset


def _apart(starts: Places, tokens: int) -> Places:
    """As many of some rising places as can be taken without an overlap."""
    taken: list[int] = []
    for start in starts.tolist():
        if not taken or start - taken[-1] >= tokens:
            taken.append(start)
    return np.array(taken, dtype=np.int64)
