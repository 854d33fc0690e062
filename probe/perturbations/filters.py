"""Perturbations that keep the words of one kind alone, and what kinds there are."""

from __future__ import annotations  # help() then shows the types as they are written here

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from probe import checks
from probe.perturbations.ids import Ids
from probe.perturbations.language import MODEL, TAGS
from probe.perturbations.registry import Traits, register
from probe.perturbations.units import TokenText, text_of
from probe.text import shown

CONTENT = ("ADJ", "ADV", "NOUN", "PRON", "PROPN", "VERB")
POSITIONS = ("closed", "kept")
KINDS = {
    **{tag: frozenset({tag}) for tag in TAGS},
    "content": frozenset(CONTENT),
    "function": frozenset(TAGS) - {*CONTENT, "PUNCT", "SPACE"},
    "entity": frozenset[str](),
    "common": frozenset[str](),
    "rare": frozenset[str](),
}
"""What a filter may name, and the parts of speech that it stands for."""


@register("keep", removes=True, traits=Traits(random=False, nested=True, needs_text=True))
def keep(
    far: Ids,
    *,
    rng: Generator,
    what: str,
    positions: str = "closed",
    model: str = MODEL,
    text: TokenText | None = None,
) -> Ids:
    """Keep the words of some kinds and remove all others, punctuation and white space too.

    A word goes or stays as a whole: a token belongs to the word that holds its first character
    that is no space. Common and rare are single tokens.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Not drawn from.
        what: One kind or several, ``'NOUN+VERB'``: universal parts of speech, ``'PUNCT'`` and
            ``'SPACE'`` (white space) among them; ``'content'`` (ADJ, ADV, NOUN, PRON, PROPN,
            VERB); ``'function'`` (every other part of speech but PUNCT and SPACE); ``'entity'``;
            ``'common'``, the most frequent tenth of the data set's types; ``'rare'``, the others.
        positions: ``'closed'`` closes the gaps up; with ``'kept'`` what is left, and the near
            text, keeps its position ids.
        model: Name or folder of a spaCy pipeline (extra nlp), for all but common and rare.
        text: The text of *far*.

    Returns:
        Token ids, shape ``(k,)`` with ``k <= n``.

    Raises:
        ValueError: If *what* names another kind or *positions* is another, there is no text, or
            spaCy or the pipeline is missing.

    Source: O'Connor & Andreas 2021, section 4.2. Content words are those of their code; their nouns
    are ``'NOUN+PRON+PROPN'``, their function words ``'function+PUNCT'``; they take common and rare
    from words, we from tokens (Sun et al. 2021, section 4.2).
    """
    checks.one_of("positions", positions, POSITIONS)
    return far[chosen(far, what, text, model)]


def chosen(far: Ids, what: str, text: TokenText | None, model: str = MODEL) -> NDArray[np.bool_]:
    """Find the tokens of some kinds.

    Args:
        far: Token ids of the far context, shape ``(n,)``.
        what: See `keep`.
        text: The text of *far*.
        model: Name or folder of a spaCy pipeline.

    Returns:
        Shape ``(n,)``.

    Raises:
        ValueError: See `keep`.
    """
    kinds = _kinds(what)
    text = text_of(far, text, what)
    those = np.zeros(len(far), dtype=np.bool_)
    tags = frozenset[str]().union(*(KINDS[kind] for kind in kinds))
    if tags:
        those |= np.array([(tag or "SPACE") in tags for tag in text.labels("pos", model)], np.bool_)
    if "entity" in kinds:
        those |= np.array([bool(label) for label in text.labels("entity", model)], np.bool_)
    if "common" in kinds:
        those |= text.common
    if "rare" in kinds:
        those |= ~text.common
    return those


def pipeline_of(name: str, parameters: Mapping[str, Any]) -> str | None:
    """The spaCy pipeline that decides what a perturbation does, ``None`` where none does.

    Args:
        name: Name of the perturbation.
        parameters: Those that differ from their defaults.
    """
    if name not in ("keep", "drop") or "what" not in parameters:
        return None
    kinds = _kinds(parameters["what"])
    asked = any(KINDS[kind] or kind == "entity" for kind in kinds)
    return str(parameters.get("model", MODEL)) if asked else None


def _kinds(what: str) -> list[str]:
    kinds = what.split("+") if isinstance(what, str) else [what]
    for kind in kinds:
        if not isinstance(kind, str) or kind not in KINDS:
            near = difflib.get_close_matches(str(kind).upper(), KINDS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"what must be one of these or several joined by '+'; got {shown(kind)}; "
                f"{hint}known: {', '.join(KINDS)}"
            )
    return kinds
