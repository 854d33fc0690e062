"""What a condition does to any far context: declared by the built-in ones, else found by trying.

A chain is tried even where all its steps declare: a removal at its end makes steady what a
permutation before it did not.
"""

import numpy as np

from probe import checks
from probe.perturbations import registry
from probe.perturbations.condition import Condition
from probe.perturbations.ids import Ids
from probe.perturbations.samplers import any_sources
from probe.perturbations.units import synthetic_inputs

_DRAWS = 16  # permuted spans agree by luck in about every second draw, but not in all


def is_random(condition: Condition, tokens: int) -> bool:
    """Whether two draws of a condition can differ.

    Args:
        condition: The condition.
        tokens: Tokens of the longest far context.
    """
    if tokens < 1:
        return False
    declared = _declared(condition, "random", tokens)
    return tried_random(condition, tokens) if declared is None else declared


def is_nested(condition: Condition, *, shorter: int = 1024, longer: int = 2048) -> bool:
    """Whether a longer far context begins with what a shorter one becomes.

    Then branches at nested boundaries share their prefix.

    Args:
        condition: The condition.
        shorter: Tokens of the shorter far context.
        longer: Tokens of the longer one.

    Raises:
        ValueError: If *shorter* is below 1 or *longer* is not above it.
    """
    checks.count("longer", longer, least=checks.count("shorter", shorter, least=1) + 1)
    declared = _declared(condition, "nested", shorter, longer)
    return tried_nested(condition, shorter, longer) if declared is None else declared


def tried_random(condition: Condition, tokens: int) -> bool:
    """See whether any of sixteen draws differs from the first."""
    first, *others = (_perturbed(condition, tokens, seed) for seed in range(_DRAWS))
    return any(not np.array_equal(first, other) for other in others)


def tried_nested(condition: Condition, shorter: int, longer: int) -> bool:
    """See whether two far contexts begin alike, for half of the shorter one or more, in all draws.

    Half, because a permutation inside of spans goes on differently in the last, unfinished span.
    """
    for seed in range(_DRAWS):
        short, long = (_perturbed(condition, tokens, seed) for tokens in (shorter, longer))
        common = min(len(short), len(long))
        same = np.cumprod(short[:common] == long[:common]).sum()
        if 2 * same < common:
            return False
    return True


def _declared(condition: Condition, trait: str, *tokens: int) -> bool | None:
    if len(condition.steps) > 1:
        return None
    (step,) = condition.steps
    return registry.get(step.name).declares(trait, dict(step.parameters), *tokens)


def _perturbed(condition: Condition, tokens: int, seed: int) -> Ids:
    """A far context that stands in for any other, under a condition: its own tokens rise from 0."""
    inputs = synthetic_inputs(tokens)
    return condition.apply(np.arange(tokens), rng=seed, sources=any_sources(), **inputs)
