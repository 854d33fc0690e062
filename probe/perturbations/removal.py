"""Perturbations that remove: fewer tokens, in their order; and the kinds of words there are."""

from __future__ import annotations  # help() then shows the types as they are written here

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from probe import checks
from probe.perturbations.ids import Ids
from probe.perturbations.registry import STEADY, Traits, register
from probe.perturbations.units import MODEL, TAGS, TokenText, text_of
from probe.text import shown, suggestion

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


@register(
    "drop",
    removes=True,
    traits=Traits(
        random=lambda tokens, *, rate, **_: rate is not None and rate < 1,
        nested=True,
        needs_text=lambda *, what, **_: what is not None,
    ),
)
def drop(
    far: Ids,
    *,
    rng: Generator,
    rate: float | None = None,
    what: str | None = None,
    positions: str = "closed",
    model: str = MODEL,
    text: TokenText | None = None,
) -> Ids:
    """Remove tokens at random, or the words of some kinds.

    At random each token goes with the same probability, independently of the others. A longer far
    context begins with what is left of the shorter one.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Source of the choice at random; equal state, equal result.
        rate: Probability that a token is removed, above 0 and at most 1.
        what: Kinds of words, as `keep` takes them. One of *rate* and *what* is given.
        positions: ``'closed'`` closes the gaps up; with ``'kept'`` what is left, and the near
            text, keeps its position ids.
        model: Name or folder of a spaCy pipeline (extra nlp), for all but common and rare.
        text: The text of *far*, for words.

    Returns:
        Token ids, shape ``(k,)`` with ``k <= n``.

    Raises:
        ValueError: If *rate* is not above 0 and at most 1; if not one of *rate* and *what* is
            given; for what `keep` raises it.

    Source: Khandelwal et al. 2018, section 5.2 (content and function words); at random is ours.
    """
    checks.one_of("positions", positions, POSITIONS)
    if (rate is None) == (what is None):
        raise ValueError(f"drop takes one of rate and what; got {rate=} and {what=}")
    if what is not None:
        return far[~_chosen(far, what, text, model)]
    return far[rng.random(len(far)) >= checks.share("rate", rate)]


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
    return far[_chosen(far, what, text, model)]


@register("truncate", removes=True, traits=STEADY)
def truncate(far: Ids, *, rng: Generator) -> Ids:
    """Remove all of the far context.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Not drawn from.

    Returns:
        No token ids, shape ``(0,)``.

    Source: Khandelwal et al. 2018, section 3; Sun et al. 2021, sections 3 and 4.
    """
    return far[:0]


@register("delete", removes=True, traits=STEADY)
def delete(far: Ids, *, rng: Generator, sinks: int = 0, positions: str = "closed") -> Ids:
    """Remove the far context but its first tokens, and close the gap up or not.

    Without sinks and with positions closed it is `truncate`. The kept first token of a branch
    (``first_token: keep``) stands in front of the sinks and is none of them.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Not drawn from.
        sinks: How many tokens at the start of far stay.
        positions: ``'closed'`` closes the gap up; with ``'kept'`` the near text keeps its position
            ids.

    Returns:
        Token ids, shape ``(min(n, sinks),)``.

    Raises:
        ValueError: If *sinks* is below 0 or *positions* is another.

    Source: Xiao et al. 2024, section 3, for sinks.
    """
    checks.one_of("positions", positions, POSITIONS)
    return far[: min(len(far), checks.count("sinks", sinks, least=0))]


@register("hide", removes=True, keeps_positions=True, traits=STEADY)
def hide(far: Ids, *, rng: Generator, sinks: int = 0) -> Ids:
    """Let no near token attend to the far ones but the first of them; positions are kept.

    The far tokens are left out of the sequence and the others keep their position ids. In a causal
    model that is the same as masking them: what stands before a token never depends on what comes
    behind it, so that the first tokens are what they were, and a near token sees these and the near
    text at their own positions. It is not the same where a layer tells positions by counting keys
    (sliding windows, ALiBi) or remembers what it read (recurrent layers).

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Not drawn from.
        sinks: How many tokens at the start of far stay visible, behind the kept first token.

    Returns:
        Token ids, shape ``(min(n, sinks),)``.

    Raises:
        ValueError: If *sinks* is below 0.

    Source: Xiao et al. 2024, section 3, for sinks; hiding is the attention mask of a sliding window
    whose border stands still.
    """
    return far[: min(len(far), checks.count("sinks", sinks, least=0))]


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


def _chosen(far: Ids, what: str, text: TokenText | None, model: str) -> NDArray[np.bool_]:
    """Which tokens are of some kinds, shape ``(n,)``; see `keep`."""
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


def _kinds(what: str) -> list[str]:
    kinds = what.split("+") if isinstance(what, str) else [what]
    for kind in kinds:
        if not isinstance(kind, str) or kind not in KINDS:
            hint = suggestion(kind, KINDS, f"known: {', '.join(KINDS)}")
            raise ValueError(
                f"what must be one of these or several joined by '+'; got {shown(kind)}{hint}"
            )
    return kinds
