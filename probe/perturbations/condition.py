"""Conditions: perturbations with their parameters, read from a text, applied to a far context."""

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType

import numpy as np
from numpy.random import Generator

from probe import checks
from probe.attention.pattern import Pattern
from probe.calls import refuse_long
from probe.errors import UsageError
from probe.perturbations import registry
from probe.perturbations.ids import Ids, Kind
from probe.perturbations.removal import pipeline_of
from probe.perturbations.samplers import SOURCES, Sampler, any_sources
from probe.perturbations.steps import ATTEND, FORMS, Step, read_steps
from probe.perturbations.units import TokenText, pipeline_version, synthetic_inputs
from probe.text import shown, suggestion

MOST_STEPS = 100
"""Steps that a condition may have."""
_UNBOUND: Mapping[str, Sampler] = MappingProxyType({})
_DRAWS = 16  # permuted spans agree by luck in about every second draw, but not in all
CONTROLS = ("intact", "noise", ATTEND)
"""Conditions that leave the text alone."""


@dataclass(frozen=True)
class Condition:
    """What is done to the far context; made by `parse`, equal where the text is.

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
    def pattern(self) -> Pattern | None:
        """The attention pattern of ``attend``, ``None`` where the text is perturbed."""
        return self.steps[0].pattern

    @property
    def is_attended(self) -> bool:
        """Whether attention is limited, and no boundary parts far from near."""
        return self.pattern is not None and not self.pattern.needs_boundary

    @property
    def attentions(self) -> frozenset[str]:
        """The attentions of an encoder–decoder that its pattern names, empty for the only one."""
        return frozenset(p.attention for p in self.pattern.placed) if self.pattern else frozenset()

    @property
    def removes(self) -> bool:
        """Whether far may come out shorter than it was."""
        return any(registry.get(step.name).removes for step in self.steps)

    @property
    def of(self) -> str | None:
        """Whether far text of the ``source`` or the ``target`` is changed, where that is said."""
        return self.steps[0].of

    @property
    def reads(self) -> frozenset[str]:
        """Which of ``text``, ``targets`` and ``passage`` must be handed to `apply`."""
        return frozenset().union(*(registry.get(step.name).reads for step in self.steps))

    @property
    def needs_text(self) -> bool:
        """Whether it cannot be applied without the text of the far context."""
        return any(step.needs_text for step in self.steps)

    @property
    def alone(self) -> bool:
        """Whether each target needs a sequence of its own."""
        return any(registry.get(step.name).alone for step in self.steps)

    @property
    def control(self) -> "Condition | None":
        """The count-matched random control of a targeted removal, ``None`` for any other."""
        entry = registry.get(self.steps[0].name)
        matched = entry.alone and any(p.name == "matched" for p in entry.parameters)
        if not matched or len(self.steps) > 1 or self.steps[0].parameters.get("matched"):
            return None
        parameters = {**self.steps[0].parameters, "matched": True}
        return parse(str(Step(entry.name, parameters, self.of)))

    @property
    def keeps_positions(self) -> bool:
        """Whether what is left of far keeps its position ids, and so does the near text."""
        return any(step.keeps_positions for step in self.steps)

    @property
    def sources(self) -> frozenset[str]:
        """The names that must be bound to samplers before it can be applied."""
        return frozenset(step.source for step in self.steps if step.source is not None)

    @property
    def shared(self) -> int | None:
        """How many texts windows have in common, ``None`` where each has one of its own."""
        return self.steps[0].shared

    def apply(
        self,
        far: Kind,
        *,
        rng: Generator | int,
        sources: Mapping[str, Sampler] = _UNBOUND,
        text: TokenText | None = None,
        targets: Ids | None = None,
        passage: slice | None = None,
    ) -> Kind:
        """Perturb a far context.

        Args:
            far: Token ids of the far context, shape ``(n,)``, list, array or tensor; left
                untouched.
            rng: Source of every draw, or a seed; equal state, equal result.
            sources: A sampler for each name in `sources`; others may be present.
            text: The text of *far*, where a perturbation reads it.
            targets: Ids of the targets, shape ``(m,)``, where a perturbation reads them.
            passage: Place of a passage in *far*, where a perturbation reads it.

        Returns:
            Token ids, shape ``(k,)``, of the kind of *far*.

        Raises:
            UsageError: If a source has no sampler.
        """
        if unbound := self.sources - sources.keys():
            raise UsageError(
                f"condition {shown(self.text)} needs a sampler for source "
                f"{' and '.join(map(repr, sorted(unbound)))}; "
                f"bound: {', '.join(map(repr, sorted(sources))) or 'none'}"
            )
        handed = {"text": text, "targets": targets, "passage": passage}
        for step, step_rng in zip(self.steps, self._generators(rng), strict=True):
            far = step.call(far, step_rng, sources, handed)
        return far

    def remaining(
        self,
        far: Ids,
        *,
        rng: Generator | int,
        text: TokenText | None = None,
        targets: Ids | None = None,
        passage: slice | None = None,
    ) -> Ids:
        """Which tokens of far remain under a condition that keeps positions.

        Args:
            far: Token ids of the far context, shape ``(n,)``, int64.
            rng: Source of every draw, or a seed.
            text: See `apply`.
            targets: See `apply`.
            passage: See `apply`.

        Returns:
            Indices in *far*, rising, shape ``(k,)``.

        Raises:
            ValueError: If the perturbation does more than leave tokens out.
        """
        (step,) = self.steps
        places = np.arange(len(far))
        if "targets" in registry.get(step.name).reads:
            raise ValueError(f"{shown(self.text)} reads the targets and cannot keep positions")
        handed = {"text": text, "targets": targets, "passage": passage}
        remaining = step.call(places, checks.generator(rng), {}, handed)
        if len(remaining) and (np.diff(remaining) < 1).any():
            raise ValueError(
                f"{shown(self.text)} keeps positions, but does more than leave tokens out"
            )
        return remaining

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
        raise UsageError(f"a condition must be text or a list of texts; got {shown(text)}")
    refuse_long(", ".join(texts), "condition")
    every = (step for part in texts for step in read_steps(part))
    steps = tuple(islice(every, MOST_STEPS + 1))
    if len(steps) > MOST_STEPS:
        raise UsageError(
            f"condition {shown(text)} has more than {MOST_STEPS} steps; allowed: up to {MOST_STEPS}"
        )
    if not steps:
        raise UsageError(f"condition {shown(text)} is empty; allowed: {FORMS}")
    for number, step in enumerate(steps):
        if step.name in CONTROLS and len(steps) > 1:
            raise UsageError(
                f"condition {shown(text)}: {step.name!r} leaves the text alone and stands alone"
            )
        if number and step.needs_text:
            _check_values(step, text)
            raise UsageError(
                f"condition {shown(text)}: {step} reads the text as it was written; allowed: it "
                "comes first in a list"
            )
        if step.keeps_positions and len(steps) > 1:
            raise UsageError(
                f"condition {shown(text)}: {step} keeps positions; allowed: it stands alone"
            )
        if step.shared is not None and (len(steps) > 1 or step.source != "document"):
            raise UsageError(
                f"condition {shown(text)}: shared is {shown(step.shared)}; allowed: with "
                "source='document' alone, as in replace(source='document', shared=8)"
            )
        _check_values(step, text)
    if len({step.of for step in steps}) > 1:
        raise UsageError(f"condition {shown(text)}: allowed in a list: the same of= in every step")
    listed = ", ".join(map(str, steps))
    canonical = f"[{listed}]" if len(steps) > 1 else listed
    refuse_long(canonical, "condition")  # it must be readable too
    return Condition(canonical, steps)


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


def _check_values(step: Step, text: str | Sequence[str]) -> None:
    if step.source is not None and step.source not in SOURCES:
        allowed = f"allowed: {', '.join(map(repr, SOURCES))}"
        raise UsageError(
            f"condition {shown(text)}: source {shown(step.source)} is unknown"
            f"{suggestion(step.source, SOURCES, allowed)}"
        )
    try:
        rng, inputs = np.random.default_rng(0), synthetic_inputs(4)
        step.call([1, 2, 3, 4], rng, any_sources(), inputs)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise UsageError(f"condition {shown(text)}: {error}") from error


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
    """What the only step of a condition declares; a chain is tried even where all its steps do.

    A removal at its end makes steady what a permutation before it did not.
    """
    if len(condition.steps) > 1:
        return None
    (step,) = condition.steps
    return registry.get(step.name).declares(trait, dict(step.parameters), *tokens)


def _perturbed(condition: Condition, tokens: int, seed: int) -> Ids:
    """A far context that stands in for any other, under a condition: its own tokens rise from 0."""
    inputs = synthetic_inputs(tokens)
    return condition.apply(np.arange(tokens), rng=seed, sources=any_sources(), **inputs)


def check_texts(conditions: Iterable[Condition], texts: Iterable[TokenText | None]) -> None:
    """Find out before anything is scored whether conditions have the text that they read.

    Args:
        conditions: The conditions.
        texts: The text of each window, ``None`` for data that came as token ids; asked for one by
            one, and for none where no condition reads text.

    Raises:
        UsageError: If there is no text, or a condition moves sentences or tokens inside them and
            no window has two.
    """
    reading = [condition for condition in conditions if condition.needs_text]
    if not reading:
        return
    sentences = [
        condition
        for condition in reading
        if any("sentence" in step.parameters.values() for step in condition.steps)
    ]
    for text in texts:
        if text is None:
            raise UsageError(
                f"condition {reading[0].text!r} reads words or sentences, and the data is token "
                "ids without text; allowed: data.text_column, or conditions on tokens"
            )
        if sentences and text.count("sentence") > 1:
            sentences = []
    if sentences:
        raise UsageError(
            f"condition {sentences[0].text!r} needs sentences, and no window of the data has two; "
            "allowed: longer windows (windows.length), or conditions on words or tokens"
        )


def code_versions(conditions: Iterable[Condition]) -> dict[str, str]:
    """Versions of the code behind conditions that is not ours: a user's own functions, and spaCy.

    Args:
        conditions: The conditions.

    Returns:
        A hash of the source by name, none where it is not to be had (an interactive session); what
        the function calls is not in it. The versions of spaCy and a pipeline, by the perturbation
        that asks it.
    """
    steps = [step for condition in conditions for step in condition.steps]
    versions = {}
    for step in steps:
        model = pipeline_of(step.name, step.parameters)
        if model is not None:
            versions[f"{step.name}(model={model!r})"] = pipeline_version(model)
    for name in sorted({step.name for step in steps}):
        function = inspect.unwrap(registry.get(name).function)
        if function.__module__ not in registry.BUILTINS:
            with suppress(OSError, TypeError):
                source = inspect.getsource(function)
                versions[name] = hashlib.sha256(source.encode()).hexdigest()
    return versions
