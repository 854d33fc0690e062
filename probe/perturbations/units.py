"""What the tokens of a text belong to: words, sentences, and what spaCy calls them (extra nlp)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe import checks
from probe.errors import UsageError
from probe.perturbations.ids import Ids
from probe.text import shown

TYPICAL = {"token": 1, "word": 2, "sentence": 16}
"""Tokens of a unit in a text that stands in for any other."""
UNITS = tuple(TYPICAL)
"""What a perturbation can move."""
# White space belongs to the word behind it.
_WORD = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")

Spans = Sequence[tuple[int, int]]
MODEL = "en_core_web_sm"

Labels = list[str | None]
"""What each token is called, ``None`` for white space."""
TAGS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN"),
    *("PUNCT", "SCONJ", "SPACE", "SYM", "VERB", "X"),
)
"""The universal parts of speech, and ``SPACE`` for white space."""
# What spaCy calls the annotation and the attribute of a token, and what is said without it.
_ASKED = {
    "pos": ("POS", "pos_", "assigns no parts of speech"),
    "entity": ("ENT_IOB", "ent_type_", "looks for no entities"),
}


class TokenText:
    """The text of consecutive tokens, whose words and sentences are found when asked for.

    A part of it, ``text[first:stop]``, keeps the words and sentences of the whole.

    Args:
        text: The text.
        char_start: First character of each token, shape ``(n,)``, rising.
        char_end: One past its last character.
        ids: Token ids, shape ``(n,)``, int64.
        words: Gives the spans of the words of a text; by default runs of letters and single signs,
            each with the white space before it.
        common: Which token ids are common, shape ``(v,)``, bool (`common_types`); by default the
            text's own counts tell.

    Attributes:
        language: Code of the language that sentences are found in.
    """

    language = "en"

    def __init__(
        self,
        text: str,
        char_start: NDArray[Any],
        char_end: NDArray[Any],
        ids: Ids,
        *,
        words: Callable[[str], Spans] | None = None,
        common: NDArray[np.bool_] | None = None,
    ) -> None:
        self.text, self.ids = text, ids
        self.char_start, self.char_end = char_start, char_end
        self._words, self._common = words or plain_words, common
        self._labels: dict[tuple[str, str], Labels] = {}

    @classmethod
    def of(cls, text: str, tokenizer: Any) -> TokenText:
        """Tokenise a text.

        Args:
            text: The text.
            tokenizer: A fast tokenizer of transformers.

        Returns:
            The text with its tokens, without special tokens; their ids are ``.ids``.

        Raises:
            ValueError: If the tokenizer tells no offsets.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"{type(tokenizer).__name__} gives no offsets; allowed: a fast tokenizer"
            )
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        ids = np.array(encoded["input_ids"], dtype=np.int64)
        return cls(text, offsets[:, 0], offsets[:, 1], ids, words=pre_tokens(tokenizer))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> TokenText:
        return _Part(self, part)

    def units(self, unit: str) -> Ids:
        """The number of the unit that each token belongs to.

        Args:
            unit: ``token``, ``word`` or ``sentence``.

        Returns:
            Never falling, shape ``(n,)``, int64.

        Raises:
            ValueError: If *unit* is none of these.
        """
        checks.one_of("unit", unit, UNITS)
        if unit == "token":
            return np.arange(len(self))
        return self._word_of_each if unit == "word" else self._sentence_of_each

    def count(self, unit: str) -> int:
        """How many units the tokens belong to, whole or in part.

        Args:
            unit: ``token``, ``word`` or ``sentence``.

        Raises:
            ValueError: If *unit* is none of these.
        """
        return len(np.unique(self.units(unit)))

    def labels(self, kind: Literal["pos", "entity"], model: str = MODEL) -> Labels:
        """What spaCy calls the word that each token belongs to.

        Args:
            kind: ``pos``, a tag of `TAGS` each; or ``entity``, its kind, empty for none.
            model: Name or folder of a spaCy pipeline.

        Returns:
            n labels, ``None`` for white space.

        Raises:
            UsageError: If spaCy or the pipeline is missing, or does not tell.
        """
        if (kind, model) not in self._labels:
            spans = self.char_start, self.char_end
            self._labels[kind, model] = word_labels(kind, self.text, *spans, model=model)
        return self._labels[kind, model]

    @property
    def common(self) -> NDArray[np.bool_]:
        """Whether the type of each token is a common one, shape ``(n,)``."""
        if self._common is None:
            self._common = common_types(np.bincount(self.ids))
        common: NDArray[np.bool_] = self._common[self.ids]
        return common

    @cached_property
    def _word_of_each(self) -> Ids:
        return self._place([first for first, _ in self._words(self.text)])

    @cached_property
    def _sentence_of_each(self) -> Ids:
        from sentencex import get_sentence_boundaries

        parts = get_sentence_boundaries(self.language, self.text)
        # A break between paragraphs belongs to the sentence before it.
        return self._place([p["start_index"] for p in parts if not p["is_paragraph_break"]])

    def _place(self, starts: Sequence[int]) -> Ids:
        """The unit that holds a token's last character: its first may be a space between two."""
        last = np.maximum(self.char_start, self.char_end - 1)
        units = np.searchsorted(np.asarray(starts, dtype=np.int64), last, side="right")
        return np.maximum.accumulate(units.astype(np.int64))


class _Part(TokenText):
    """Consecutive tokens of a text."""

    def __init__(self, whole: TokenText, part: slice) -> None:
        super().__init__(
            whole.text,
            whole.char_start[part],
            whole.char_end[part],
            whole.ids[part],
            words=whole._words,
        )
        self._whole, self._at = whole, part

    def units(self, unit: str) -> Ids:
        """See :class:`TokenText`."""
        return np.arange(len(self)) if unit == "token" else self._whole.units(unit)[self._at]

    def labels(self, kind: Literal["pos", "entity"], model: str = MODEL) -> Labels:
        """See :class:`TokenText`."""
        return self._whole.labels(kind, model)[self._at]

    @property
    def common(self) -> NDArray[np.bool_]:
        """See :class:`TokenText`."""
        return self._whole.common[self._at]


class SyntheticText(TokenText):
    """A text that stands in for any other where a perturbation is only tried.

    Args:
        tokens: Its tokens; units of `TYPICAL` size, every tenth type common.
    """

    def __init__(self, tokens: int) -> None:
        ids = np.arange(tokens)
        super().__init__("", ids, ids + 1, ids)

    def units(self, unit: str) -> Ids:
        """See :class:`TokenText`."""
        checks.one_of("unit", unit, UNITS)
        return np.arange(len(self)) // TYPICAL[unit]

    def labels(self, kind: Literal["pos", "entity"], model: str = MODEL) -> Labels:
        """See :class:`TokenText`; the pipeline must be there though it is not asked."""
        pipeline(model)
        names = TAGS if kind == "pos" else ("", "", "PERSON")
        return [names[place % len(names)] for place in range(len(self))]

    @property
    def common(self) -> NDArray[np.bool_]:
        """See :class:`TokenText`."""
        common: NDArray[np.bool_] = np.arange(len(self)) % 10 == 0
        return common


def synthetic_inputs(tokens: int) -> dict[str, Any]:
    """What a perturbation may be handed beside a far context of some tokens, to try it."""
    return {
        "text": SyntheticText(tokens),
        "targets": np.array([tokens // 2]),
        "passage": slice(tokens // 4, tokens // 2),
    }


def text_of(far: Ids, text: TokenText | None, what: str) -> TokenText:
    """Check that the text of a far context is there.

    Args:
        far: Token ids of the far context, shape ``(n,)``.
        text: What was given as its text.
        what: What it is needed for, for the error.

    Raises:
        ValueError: If there is none, or it is of another number of tokens.
    """
    if text is None:
        raise ValueError(
            f"{shown(what)} is found in the text of the far context, and there is none; allowed: "
            "data with text, or text=TokenText.of(text, tokenizer)"
        )
    if len(text) != len(far):
        raise ValueError(f"text must be that of the {len(far)} far tokens; got {len(text)} tokens")
    return text


def common_types(counts: ArrayLike, *, top: float = 0.1) -> NDArray[np.bool_]:
    """The most frequent types: those that token class ``frequency`` calls frequent.

    Args:
        counts: How often each token id occurs, shape ``(v,)``, indexed by token id.
        top: Share of the types that occur; of types that occur equally often the lower id counts
            as the more frequent.

    Returns:
        Shape ``(v,)``.

    Source: Sun et al. 2021, section 4.2 (the most frequent 10 % of the vocabulary).
    """
    counts = np.asarray(counts)
    occurring = np.flatnonzero(counts)
    ordered = occurring[np.lexsort((occurring, -counts[occurring]))]
    common = np.zeros(len(counts), dtype=np.bool_)
    common[ordered[: int(np.ceil(top * len(ordered)))]] = True
    return common


def pre_tokens(tokenizer: Any) -> Callable[[str], Spans] | None:
    """The words of a tokenizer: what it cuts a text into before it looks for tokens.

    Args:
        tokenizer: A tokenizer of transformers.

    Returns:
        A function from a text to spans of characters; ``None`` where the tokenizer cuts nothing.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    splitter = getattr(backend, "pre_tokenizer", None)
    if splitter is None:
        return None
    return lambda text: [span for _, span in splitter.pre_tokenize_str(text)]


def plain_words(text: str) -> Spans:
    """Runs of letters and single signs, each with the white space before it; all of a text."""
    return [match.span() for match in _WORD.finditer(text)]


def word_labels(
    kind: Literal["pos", "entity"],
    text: str,
    char_start: NDArray[Any],
    char_end: NDArray[Any],
    *,
    model: str = MODEL,
) -> Labels:
    """What spaCy calls the word that each token belongs to.

    A token belongs to the spaCy token that holds its first character that is no space.

    Args:
        kind: ``pos``, universal parts of speech such as ``NOUN``; or ``entity``, the kind of named
            entity that it is part of, such as ``PERSON``, empty for none.
        text: The text.
        char_start: First character of each token, shape ``(n,)``.
        char_end: One past its last character.
        model: Name or folder of a spaCy pipeline.

    Returns:
        n labels; ``None`` for white space.

    Raises:
        UsageError: If spaCy or the pipeline is missing, or it does not tell.
    """
    annotation, attribute, failing = _ASKED[kind]
    document = analysed(model, text)
    if len(document) and not document.has_annotation(annotation):
        parts = ", ".join(pipeline(model).pipe_names) or "none"
        raise UsageError(f"spaCy pipeline {shown(model)} {failing}; its parts: {parts}")
    names = [getattr(token, attribute) for token in document]
    if kind == "pos":
        names = [name or None for name in names]
    at = aligned(text, char_start, char_end, document)
    return [None if place < 0 else names[place] for place in at]


@lru_cache(maxsize=4)
def pipeline(model: str) -> Any:
    """Load a spaCy pipeline, once in a process.

    Args:
        model: Its name or folder.

    Raises:
        UsageError: If spaCy is not installed or the pipeline cannot be loaded.
    """
    try:
        import spacy
    except ImportError as error:
        raise UsageError(
            "parts of speech and named entities need spaCy: pip install spacy (extra nlp)"
        ) from error
    try:
        return spacy.load(model)
    except (OSError, ValueError) as error:
        there = sorted(entry_points(group="spacy_models").names)
        named = ", ".join(f"model={name!r}" for name in there) or "there is none"
        raise UsageError(
            f"spaCy pipeline {shown(model)} cannot be loaded; allowed: a folder, or an installed "
            f"one ({named}; python -m spacy download {model} installs it)"
        ) from error


def pipeline_version(model: str = MODEL) -> str:
    """The versions of spaCy and of a pipeline; empty where one of them is not there."""
    meta = Path(model) / "meta.json"
    try:
        mark = hashlib.sha256(meta.read_bytes()).hexdigest() if meta.is_file() else version(model)
        return f"spacy {version('spacy')}, {mark}"
    except (PackageNotFoundError, ValueError, OSError):
        return ""


@lru_cache(maxsize=1)
def analysed(model: str, text: str) -> Any:
    """The pipeline's view of a text; all that ask about one window share it."""
    nlp = pipeline(model)
    nlp.max_length = max(nlp.max_length, len(text))
    return nlp(text)


def aligned(
    text: str, char_start: NDArray[Any], char_end: NDArray[Any], document: Any
) -> list[int]:
    """Which spaCy token holds the first character of each token that is no space; −1 for none."""
    at = np.full(len(text) + 1, -1, dtype=np.int64)
    for token in document:
        if not token.is_space:
            at[token.idx : token.idx + len(token)] = token.i
    places = []
    for first, end in zip(char_start.tolist(), char_end.tolist(), strict=True):
        token_text = text[first:end]
        bare = token_text.lstrip()
        places.append(int(at[first + len(token_text) - len(bare)]) if bare else -1)
    return places
