"""Conditions: perturbations with their parameters, as canonical text, ready to be applied."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.random import Generator

from probe.errors import UsageError
from probe.perturbations import checks, registry
from probe.perturbations.ids import Ids, Kind
from probe.perturbations.samplers import SOURCES, Sampler
from probe.perturbations.steps import FORMS, Step, read_steps

_UNBOUND: Mapping[str, Sampler] = MappingProxyType({})
_CONTROLS = ("intact", "noise")
_TRIALS = 16  # permuted spans agree by luck in about every second trial, but not in all


@dataclass(frozen=True)
class Condition:
    """What is done to the far context; made by `parse`, equal where its text is.

    Args:
        text: The canonical text: ``shuffle(span=20)``, ``[drop(rate=0.5), shuffle]``.
        steps: The perturbations, in the order in which they are applied.
    """

    text: str
    steps: tuple[Step, ...] = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.text

    @property
    def name(self) -> str | None:
        """Name of the only perturbation, ``None`` for a chain."""
        return self.steps[0].name if len(self.steps) == 1 else None

    @property
    def is_intact(self) -> bool:
        """Whether this is the intact text, with which all others are compared."""
        return self.name == "intact"

    @property
    def is_noise(self) -> bool:
        """Whether this is the intact text sent down the path of the conditions."""
        return self.name == "noise"

    @property
    def removes(self) -> bool:
        """Whether far may come out shorter than it was."""
        return any(registry.get(step.name).removes for step in self.steps)

    @property
    def sources(self) -> frozenset[str]:
        """The names that must be bound to samplers before it can be applied."""
        return frozenset(step.source for step in self.steps if step.source is not None)

    def apply(
        self, far: Kind, *, rng: Generator | int, sources: Mapping[str, Sampler] = _UNBOUND
    ) -> Kind:
        """Perturb a far context.

        Args:
            far: Token ids of the far context, shape ``(n,)``, list, array or tensor; left
                untouched.
            rng: Source of every draw, or a seed; equal state, equal result.
            sources: A sampler for each name in `sources`; others may be present.

        Returns:
            Token ids, shape ``(k,)``, of the kind of *far*.

        Raises:
            UsageError: If a source has no sampler.
        """
        if unbound := self.sources - sources.keys():
            raise UsageError(
                f"condition {self.text!r} needs a sampler for source "
                f"{' and '.join(map(repr, sorted(unbound)))}; "
                f"bound: {', '.join(map(repr, sorted(sources))) or 'none'}"
            )
        for step, step_rng in zip(self.steps, self._generators(rng), strict=True):
            far = _call(step, far, step_rng, sources)
        return far

    def _generators(self, rng: Generator | int) -> list[Generator]:
        rng = checks.generator(rng)
        if len(self.steps) == 1:
            return [rng]
        # One each: how much the first step draws, which depends on how long far is, must not
        # change what the next one draws.
        return [np.random.default_rng(seed) for seed in rng.integers(2**63, size=len(self.steps))]


def parse(text: str | Sequence[str]) -> Condition:
    """Read a condition and check that it can be applied.

    Args:
        text: ``shuffle``, ``shuffle(span=20)``, ``shuffle(20)``, a chain
            ``[drop(rate=0.5), shuffle]`` that is applied from left to right, or a list of texts.

    Returns:
        The condition with its canonical text: parameters by keyword in the order of the
        signature, defaults left out. Parsing that text gives the same condition.

    Raises:
        UsageError: If the text cannot be read, names something unknown, leaves out a required
            parameter or gives a value that the perturbation refuses.
    """
    texts = [text] if isinstance(text, str) else text
    if not isinstance(texts, list | tuple) or not all(isinstance(part, str) for part in texts):
        raise UsageError(f"a condition must be text or a list of texts; got {text!r}")
    steps = tuple(step for part in texts for step in read_steps(part))
    if not steps:
        raise UsageError(f"condition {text!r} is empty; allowed: {FORMS}")
    for step in steps:
        if step.name in _CONTROLS and len(steps) > 1:
            raise UsageError(f"condition {text!r}: {step.name!r} changes nothing and stands alone")
        _check_values(step, text)
    listed = ", ".join(map(str, steps))
    return Condition(f"[{listed}]" if len(steps) > 1 else listed, steps)


def draw_rng(seed: int, document: str, window: int, condition_text: str, repeat: int) -> Generator:
    """Make the generator of one draw, which depends on nothing but these five.

    Args:
        seed: Seed of the run.
        document: Id of the document.
        window: Number of the window in its document.
        condition_text: Canonical text of the condition.
        repeat: Number of the repeat, from 0.

    Returns:
        A PCG64 generator, the same on every machine and in every process.
    """
    key = json.dumps([int(seed), str(document), int(window), str(condition_text), int(repeat)])
    digest = hashlib.blake2b(key.encode("ascii"), digest_size=16).digest()
    seeds = np.random.SeedSequence(int.from_bytes(digest, "little"))
    return Generator(np.random.PCG64(seeds))


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
    far = np.arange(n)
    sources = dict.fromkeys(SOURCES, _any_ids)
    short = condition.apply(far[:m], rng=seed, sources=sources)
    long = condition.apply(far, rng=seed, sources=sources)
    common = min(len(short), len(long))
    same = np.cumprod(short[:common] == long[:common]).sum()
    return bool(2 * same >= common)


def _check_values(step: Step, text: str | Sequence[str]) -> None:
    if step.source is not None and step.source not in SOURCES:
        known = ", ".join(map(repr, SOURCES))
        raise UsageError(f"condition {text!r}: source {step.source!r} is unknown; allowed: {known}")
    try:
        _call(step, [1, 2, 3, 4], np.random.default_rng(0), dict.fromkeys(SOURCES, _any_ids))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise UsageError(f"condition {text!r}: {error}") from error


def _call(step: Step, far: Kind, rng: Generator, sources: Mapping[str, Sampler]) -> Kind:
    parameters: dict[str, Any] = dict(step.parameters)
    if step.source is not None:
        parameters["source"] = sources[step.source]
    return registry.get(step.name).function(far, rng=rng, **parameters)


def _any_ids(n: int, rng: Generator) -> Ids:
    # So many values that two results agree only where they come from the same draw.
    return (rng.random(n) * 2**53).astype(np.int64)
