"""Perturbations that remove: fewer tokens, in their order."""

from __future__ import annotations  # help() then shows the types as they are written here

from numpy.random import Generator

from probe import checks
from probe.perturbations.filters import POSITIONS, chosen
from probe.perturbations.ids import Ids
from probe.perturbations.language import MODEL
from probe.perturbations.registry import STEADY, Traits, register
from probe.perturbations.units import TokenText


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
        what: Kinds of words, as `filters.keep` takes them. One of *rate* and *what* is given.
        positions: ``'closed'`` closes the gaps up; with ``'kept'`` what is left, and the near
            text, keeps its position ids.
        model: Name or folder of a spaCy pipeline (extra nlp), for all but common and rare.
        text: The text of *far*, for words.

    Returns:
        Token ids, shape ``(k,)`` with ``k <= n``.

    Raises:
        ValueError: If *rate* is not above 0 and at most 1; if not one of *rate* and *what* is
            given; for what `filters.keep` raises it.

    Source: Khandelwal et al. 2018, section 5.2 (content and function words); at random is ours.
    """
    checks.one_of("positions", positions, POSITIONS)
    if (rate is None) == (what is None):
        raise ValueError(f"drop takes one of rate and what; got {rate=} and {what=}")
    if what is not None:
        return far[~chosen(far, what, text, model)]
    return far[rng.random(len(far)) >= checks.share("rate", rate)]


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
