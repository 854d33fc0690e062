"""Classes that need a language: part of speech, named entity, word frequency (extra `nlp`)."""

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any

import numpy as np

from probe.analysis.classes.registry import Labels, register
from probe.analysis.classes.tokens import WindowTokens
from probe.errors import UsageError
from probe.language import EXTRA, MODEL, entities, parts_of_speech, pipeline_version
from probe.printable import shown


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
    return parts_of_speech(window.text, window.char_start, window.char_end, model=model)


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
    kinds = entities(window.text, window.char_start, window.char_end, model=model)
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
        raise UsageError(f"word_frequency needs wordfreq: {EXTRA}") from error
    try:
        return float(zipf_frequency(word, language))
    except LookupError as error:
        raise UsageError(f"word_frequency: wordfreq has no language {shown(language)}") from error
