"""Parts of speech and named entities of tokens, as spaCy finds them (extra ``nlp``)."""

import hashlib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.text import shown

MODEL = "en_core_web_sm"
EXTRA = "pip install 'context-probe[nlp]'"

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
        raise UsageError(f"parts of speech and named entities need spaCy: {EXTRA}") from error
    try:
        return spacy.load(model)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"spaCy pipeline {shown(model)} cannot be loaded; allowed: a folder, or an installed "
            f"one (python -m spacy download {model})"
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
