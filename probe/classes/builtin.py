"""The classes that need nothing but a window: frequency, subword, repetition, kind, group."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.classes.registry import Labels, register
from probe.classes.tokens import LONGEST, WindowTokens
from probe.errors import UsageError
from probe.perturbations.units import MODEL, pipeline_version, word_labels
from probe.text import shown

DEFAULTS = ("frequency", "subword", "last_occurrence", "copy", "kind")


def _first_version(**_: Any) -> str:
    """The version of a predicate that has never changed what it says."""
    return "1"


@register("frequency", version=_first_version)
def frequency(window: WindowTokens, *, top: float = 0.1) -> Labels:
    """Whether a token's type is among the most frequent tenth of the data set's types.

    Args:
        window: The tokens.
        top: Share of the types that occur, between 0 and 1; of types that occur equally often the
            lower id counts as the more frequent.

    Returns:
        ``frequent`` or ``rare``.

    Raises:
        UsageError: If *top* is not between 0 and 1.

    Source: Sun et al. 2021, section 4.2 (the most frequent 10 % of the vocabulary).
    """
    if not 0 < top < 1:
        raise UsageError(f"frequency: top is {top}; allowed: a share between 0 and 1")
    most = int(np.ceil(top * len(window.counts.ids)))
    return np.where(window.counts.rank(window.ids) < most, "frequent", "rare")


@register("subword", version=_first_version)
def subword(window: WindowTokens) -> Labels:
    """Whether a token begins a word or goes on with one.

    Args:
        window: The tokens.

    Returns:
        ``first`` or ``following``; ``None`` for a token that touches no word, and for the first
        one of a window where nothing shows whether its word began before. A piece of a character
        whose beginning another token holds is ``following``. In a script without spaces a word is
        a whole run of characters.

    Source: Sun et al. 2021, section 4.2.
    """
    labels: NDArray[np.object_] = np.full(len(window), None, dtype=object)
    if window.text is None:
        return labels
    begins = window.words[:, 0]
    before = np.concatenate([[0], window.char_end[:-1]])
    first = (begins >= window.char_start) & (begins >= before)
    labels[begins >= 0] = np.where(first, "first", "following")[begins >= 0]
    if begins[0] == 0 and window.start > 0:
        labels[0] = None
    return labels


@register("last_occurrence", version=_first_version)
def last_occurrence(window: WindowTokens, *, edges: Sequence[int] = (16, 64, 256, 1024)) -> Labels:
    """How far back the same token last stood in the window, in fixed intervals of tokens.

    Fixed, so that the members are the same along a curve. Near, far and nowhere relative to the
    boundary change their members with the distance: see the table of occurrences.

    Args:
        window: The tokens.
        edges: Where the second and each later interval begins (tokens), rising.

    Returns:
        An interval such as ``16–63``, or ``nowhere``.

    Raises:
        UsageError: If *edges* are no rising whole numbers above 1.

    Source: Sun et al. 2021, section 4.2, and Khandelwal et al. 2018, section 6.1 (where a token
        last occurred), with fixed intervals.
    """
    _check_edges("last_occurrence", edges, lowest=2)
    return _intervals(window.last_occurrence, [1, *edges], "nowhere")


@register("copy", version=_first_version)
def copy(window: WindowTokens, *, edges: Sequence[int] = (2, 4, 8)) -> Labels:
    """Whether a token continues n tokens as they were continued earlier in the window.

    Args:
        window: The tokens.
        edges: Where each interval of ``n`` begins (tokens), rising; below the first it is no copy.

    Returns:
        An interval of the longest ``n``, such as ``2–3``, or ``none``.

    Raises:
        UsageError: If *edges* are no rising whole numbers from 1 to ``LONGEST``.

    Source: Sun et al. 2021, section 5 (sequence-level copying); n-grams of tokens are ours.
    """
    _check_edges("copy", edges, lowest=1, highest=LONGEST)
    return _intervals(window.copies[0], edges, "none")


@register("kind", version=_first_version)
def kind(window: WindowTokens) -> Labels:
    """What a token is made of: a word, digits, punctuation, whitespace, or a mixture.

    Args:
        window: The tokens.

    Returns:
        ``word`` (letters and their marks), ``digits``, ``punctuation`` (and other symbols),
        ``whitespace`` or ``mixed``, of the token without the spaces around it; ``None`` without
        text.
    """
    return [None if text is None else _kind(text) for text in window.texts]


@register("group", version=_first_version)
def group(window: WindowTokens) -> Labels:
    """What the token's document belongs to, by the data set's own column (data.group_column).

    Args:
        window: The tokens.

    Returns:
        The group of the document, ``None`` where it has none.
    """
    return [window.group] * len(window)


@lru_cache(maxsize=65536)
def _kind(text: str) -> str:
    bare = text.strip()
    if not bare:
        return "whitespace"
    categories = {unicodedata.category(sign)[0] for sign in bare}
    if categories <= {"L", "M"}:
        return "word"
    if categories == {"N"}:
        return "digits"
    return "punctuation" if categories <= {"P", "S"} else "mixed"


def _check_edges(
    name: str, edges: Sequence[int], *, lowest: int, highest: int | None = None
) -> None:
    plain = isinstance(edges, list | tuple) and all(type(edge) is int for edge in edges)
    rising = plain and list(edges) == sorted(set(edges)) and len(edges) > 0
    if not rising or edges[0] < lowest or (highest is not None and edges[-1] > highest):
        limit = f"from {lowest} on" if highest is None else f"from {lowest} to {highest}"
        raise UsageError(f"{name}: edges are {shown(edges)}; allowed: rising whole numbers {limit}")


def _intervals(values: NDArray[np.int64], edges: Sequence[int], below: str) -> NDArray[Any]:
    """The interval of each value by name; they begin at the edges."""
    closed = [
        f"{begin}" if begin == end - 1 else f"{begin}–{end - 1}" for begin, end in pairwise(edges)
    ]
    names = np.array([below, *closed, f"{edges[-1]} or more"])
    return names[np.searchsorted(np.array(edges), values, side="right")]


def _spacy_version(*, model: str = MODEL) -> str:
    return pipeline_version(model)


def _wordfreq_version(**_: Any) -> str:
    try:
        return f"wordfreq {version('wordfreq')}"
    except PackageNotFoundError:
        return ""


@register("pos", version=_spacy_version)
def pos(window: WindowTokens, *, model: str = MODEL) -> Labels:
    """Part of speech of the word, universal tags, with the user's spaCy model (extra nlp).

    Args:
        window: The tokens.
        model: Name or folder of a spaCy pipeline.

    Returns:
        A tag such as ``NOUN``, of the spaCy token that holds the first character of ours that is
        no space; ``None`` for whitespace and without text.

    Raises:
        UsageError: If spaCy or the pipeline is missing, or it assigns no parts of speech.

    Source: Khandelwal et al. 2018, section 5.2 (content and function words).
    """
    if window.text is None:
        return [None] * len(window)
    return word_labels("pos", window.text, window.char_start, window.char_end, model=model)


@register("entity", version=_spacy_version)
def entity(window: WindowTokens, *, model: str = MODEL) -> Labels:
    """Kind of named entity that a token is part of, with the user's spaCy model (extra nlp).

    Args:
        window: The tokens.
        model: Name or folder of a spaCy pipeline.

    Returns:
        A label such as ``PERSON``, or ``no entity``; ``None`` for whitespace and without text.

    Raises:
        UsageError: If spaCy or the pipeline is missing, or it finds no entities at all.
    """
    if window.text is None:
        return [None] * len(window)
    kinds = word_labels("entity", window.text, window.char_start, window.char_end, model=model)
    return ["no entity" if kind == "" else kind for kind in kinds]


@register("word_frequency", version=_wordfreq_version)
def word_frequency(
    window: WindowTokens, *, language: str = "en", edges: Sequence[float] = (3, 5)
) -> Labels:
    """How frequent the token's word is in the language at large, by wordfreq (extra nlp).

    Args:
        window: The tokens.
        language: Code of the language.
        edges: Borders on the Zipf scale (log10 of occurrences in a billion words), rising.

    Returns:
        ``zipf below 3``, ``zipf 3 to 5``, ``zipf 5 or more``, ``unknown``; ``None`` for a token
        that touches no word.

    Raises:
        UsageError: If wordfreq is missing or does not know the language, or *edges* do not rise.

    Source: Speer 2022, wordfreq 3.
    """
    plain = isinstance(edges, list | tuple) and all(isinstance(edge, int | float) for edge in edges)
    if not plain or not edges or edges[0] <= 0 or list(edges) != sorted(set(edges)):
        raise UsageError(
            f"word_frequency: edges are {shown(edges)}; allowed: rising numbers above 0 (Zipf"
            " scale)"
        )
    texts = window.text or ""
    words = [texts[first:end] if first >= 0 else None for first, end in window.words.tolist()]
    between = [f"zipf {low:g} to {high:g}" for low, high in pairwise(edges)]
    names = [f"zipf below {edges[0]:g}", *between, f"zipf {edges[-1]:g} or more"]
    values = [None if word is None else _zipf(word, language) for word in words]
    return [
        None
        if value is None
        else names[int(np.searchsorted(edges, value, side="right"))]
        if value
        else "unknown"
        for value in values
    ]


@lru_cache(maxsize=65536)
def _zipf(word: str, language: str) -> float:
    try:
        from wordfreq import zipf_frequency
    except ImportError as error:
        raise UsageError(
            "word_frequency needs wordfreq: pip install wordfreq (extra nlp)"
        ) from error
    try:
        return float(zipf_frequency(word, language))
    except LookupError as error:
        raise UsageError(f"word_frequency: wordfreq has no language {shown(language)}") from error
