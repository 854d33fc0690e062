"""What a condition does to any far context, found out by trying it on made-up ones."""

import numpy as np

from probe import checks
from probe.perturbations.condition import Condition
from probe.perturbations.ids import Ids
from probe.perturbations.samplers import any_sources
from probe.perturbations.text import MadeUp

_TRIALS = 16  # permuted spans agree by luck in about every second trial, but not in all


def nested(condition: Condition, *, m: int = 1024, n: int = 2048) -> bool:
    """Find out whether a longer far context begins with what a shorter one becomes.

    Then branches at nested boundaries share their prefix. It is tried, not declared, so that it
    holds for any registered function; the answer is about far contexts of *m* and *n* tokens.

    Args:
        condition: The condition.
        m: Tokens of the shorter far context.
        n: Tokens of the longer one.

    Returns:
        Whether, in every trial, both results begin with the same tokens for at least half of the
        shorter one. Empty results are nested.

    Raises:
        ValueError: If *m* is below 1 or *n* is not above *m*.
    """
    checks.count("n", n, least=checks.count("m", m, least=1) + 1)
    return all(_agree(condition, m, n, seed) for seed in range(_TRIALS))


def _agree(condition: Condition, m: int, n: int, seed: int) -> bool:
    short, long = trial(condition, m, seed), trial(condition, n, seed)
    common = min(len(short), len(long))
    same = np.cumprod(short[:common] == long[:common]).sum()
    return bool(2 * same >= common)


def trial(condition: Condition, tokens: int, seed: int) -> Ids:
    """Apply a condition to a far context that stands in for any other.

    Args:
        condition: The condition.
        tokens: Tokens of the far context.
        seed: Of the draw.

    Returns:
        Token ids, shape ``(k,)``: 0, 1, 2, … where they are the far context's own.
    """
    return condition.apply(
        np.arange(tokens),
        rng=seed,
        sources=any_sources(),
        text=MadeUp(tokens),
        targets=np.array([tokens // 2]),
        passage=slice(tokens // 4, tokens // 2),
    )
