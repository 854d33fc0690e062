"""Classes that need a language: part of speech, named entity, word frequency (extra `nlp`)."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from probe.analysis.classes.registry import Labels, register
from probe.analysis.classes.tokens import WindowTokens
from probe.errors import UsageError

MODEL = "en_core_web_sm"
EXTRA = "pip install 'context-probe[nlp]'"


def _spacy_version(*, model: str = MODEL) -> str:
    """The versions of spaCy and of the pipeline; empty where one of them is not there."""
    meta = Path(model) / "meta.json"
    try:
        own = hashlib.sha256(meta.read_bytes()).hexdigest() if meta.is_file() else version(model)
        return f"spacy {version('spacy')}, {own}"
    except (PackageNotFoundError, ValueError, OSError):
        return ""


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
    document = _analysed(model, window.text)
    if len(document) and not document.has_annotation("POS"):
        raise UsageError(f"spaCy pipeline {model!r} assigns no parts of speech{_parts(model)}")
    tags = [token.pos_ or None for token in document]
    return [None if at < 0 else tags[at] for at in _aligned(window, document)]


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
    document = _analysed(model, window.text)
    if len(document) and not document.has_annotation("ENT_IOB"):
        raise UsageError(f"spaCy pipeline {model!r} looks for no entities{_parts(model)}")
    kinds = [token.ent_type_ or "no entity" for token in document]
    return [None if at < 0 else kinds[at] for at in _aligned(window, document)]


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
            f"word_frequency: edges are {edges!r}; allowed: rising numbers above 0 (Zipf scale)"
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
        raise UsageError(f"word_frequency: wordfreq has no language {language!r}") from error


@lru_cache(maxsize=4)
def _pipeline(model: str) -> Any:
    try:
        import spacy
    except ImportError as error:
        raise UsageError(f"pos and entity need spaCy: {EXTRA}") from error
    try:
        return spacy.load(model)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"spaCy pipeline {model!r} cannot be loaded; allowed: a folder, or an installed one"
            f" (python -m spacy download {model})"
        ) from error


@lru_cache(maxsize=1)
def _analysed(model: str, text: str) -> Any:
    """The pipeline's view of a text; two classes of one window share it."""
    pipeline = _pipeline(model)
    pipeline.max_length = max(pipeline.max_length, len(text))
    return pipeline(text)


def _aligned(window: WindowTokens, document: Any) -> list[int]:
    """Which spaCy token holds the first character of each token that is no space; −1 for none."""
    at = np.full(len(window.text or "") + 1, -1, dtype=np.int64)
    for token in document:
        if not token.is_space:
            at[token.idx : token.idx + len(token)] = token.i
    starts = window.char_start.tolist()
    texts = zip(starts, window.texts, strict=True)
    return [
        -1 if not text or text.isspace() else int(at[start + len(text) - len(text.lstrip())])
        for start, text in texts
    ]


def _parts(model: str) -> str:
    names = ", ".join(_pipeline(model).pipe_names) or "none"
    return f"; its parts: {names}"
