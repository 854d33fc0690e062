"""A protocol: the options of one way to measure; and its plan: which boundaries, which targets.

A protocol is a file of this package, or of the user's own: a :class:`Protocol` that is registered,
and a :class:`Plan` that says what is measured of a window. Nothing else knows its kind.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from probe.corpus.dataset import DataOptions
from probe.corpus.windows import Document, Place, Window, cut
from probe.engine.branch import Source
from probe.errors import UsageError
from probe.fields import Part
from probe.perturbations.condition import Condition
from probe.perturbations.samplers import Sampler
from probe.perturbations.units import TokenText
from probe.protocols.branches import (
    Draw,
    FirstToken,
    Scored,
    TargetRun,
    attended,
    intact,
    perturbed,
)
from probe.protocols.window_options import WindowsConfig as WindowsConfig
from probe.results.record import Reading

if TYPE_CHECKING:
    from probe.models.scorer import Scorer

TRUNCATE = "truncate"
NOTHING = FirstToken("none", None)
"""Nothing stands in front of a window."""


@dataclass(frozen=True)
class EncoderFacts:
    """What a plan must know of the encoder that a decoder reads by.

    Args:
        positions: Positions that it has, ``None`` where nothing limits them.
        before: Special tokens before every source.
        behind: Those behind it.
        lead: Tokens of the decoder in front of every text, its start token first; the last of them
            is its *first token*.
        sentinel: The token that stands for a span that was cut out, where it knows one.
        seconds: Of an encoder of sound how long a position lasts, where all sound is padded to as
            many positions.
    """

    positions: int | None
    before: tuple[int, ...]
    behind: tuple[int, ...]
    lead: tuple[int, ...]
    sentinel: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What a plan must know of the model.

    Args:
        positions: Positions that the model has, ``None`` where nothing limits them.
        first_token: What stands in front of every window.
        behind: Special tokens behind every window.
        mask: The mask token of a masked model.
        encoder: Of an encoder–decoder, its encoder.
    """

    positions: int | None = None
    first_token: FirstToken = NOTHING
    behind: tuple[int, ...] = ()
    mask: int | None = None
    encoder: EncoderFacts | None = None


ANY_MODEL = ModelFacts()
"""A model that limits nothing, for a plan before the model is known."""


@dataclass(frozen=True)
class Inputs:
    """What the branches of a window are made of, besides the window.

    Args:
        document: The window's document.
        seed: Seed of the run.
        shared: Whether a condition's far context is shared between boundaries, by its text.
        sources: From a draw and the name of a far text to the samplers that it needs.
        text: The window's text, ``None`` where the data came as token ids.
        source_text: That of the document's source, ``None`` where there is none either.
    """

    document: Document
    seed: int
    shared: Mapping[str, bool]
    sources: Callable[[Draw, str | None], Mapping[str, Sampler]]
    text: TokenText | None
    source_text: TokenText | None = None


@dataclass(frozen=True)
class Plan:
    """What is measured of every window, on a model.

    All that a plan needs is :meth:`runs`; the rest follows from it, unless a protocol knows better.

    Args:
        settings: Which windows.
        model: The model that it is fitted to.
    """

    settings: WindowsConfig
    model: ModelFacts
    forwarded: ClassVar[str] = "windows.length is"
    """What takes the tokens that are forwarded at once, for an error."""

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """Boundaries and their targets, of any window.

        Args:
            shared: Whether a condition's far context is shared between boundaries, so that a
                further boundary costs little.
        """
        raise NotImplementedError

    @property
    def frame(self) -> float:
        """Seconds of the frames that a source is cut into; 0 where it is no sound."""
        return 0.0

    @property
    def length(self) -> int:
        """Tokens of a window."""
        return self.settings.fixed

    @property
    def targets(self) -> tuple[int, int]:
        """First target, and one past the last."""
        runs = self.runs(True)
        return min(run.first for run in runs), max(run.stop for run in runs)

    @property
    def reach(self) -> int:
        """Longest distance plus one."""
        return max(run.stop - run.boundary for run in self.runs(True))

    @property
    def longest_far(self) -> int:
        """Most tokens of a far text."""
        return max(run.boundary for run in self.runs(True))

    @property
    def plain(self) -> Self:
        """The same without what must prove itself on a model before it is used."""
        return self

    def curve_start(self, shared: bool) -> int:
        """First distance from which on a condition's curve is shown."""
        return 0

    @property
    def fewest(self) -> int:
        """Fewest tokens that a document must have, those that are skipped among them.

        Characters where windows count these.
        """
        return self.settings.skip + self.length

    @property
    def longest_forward(self) -> int | None:
        """Most tokens of a window that are forwarded at once, ``None`` for all of it."""
        return self.settings.tokens

    def check_positions(self) -> None:
        """Refuse what the model has too few positions for.

        Raises:
            UsageError: If more tokens are forwarded at once.
        """
        positions, behind = self.model.positions, len(self.model.behind)
        extra = self.model.first_token.extra + behind
        if positions is None or (self.longest_forward or 0) + extra <= positions:
            return
        kept = " and the kept first token" if extra else ""
        kept = " and the special tokens around them" if behind else kept
        raise UsageError(
            f"{self.forwarded} {self.longest_forward}{kept}: the model has {positions} positions; "
            f"allowed: up to {positions - extra}"
        )

    def usable(self, documents: Sequence[Document], seed: int) -> Sequence[Document]:
        """The documents that something can be measured of.

        Args:
            documents: Documents that are long enough.
            seed: Seed of the run.

        Raises:
            ProbeError: If there is none.
        """
        return documents

    def windows(self, document: Document, seed: int) -> list[Window]:
        """The windows of a document, in order of position.

        Args:
            document: A document that is long enough.
            seed: Seed of the run.
        """
        many, skip = self.settings.per_document, self.settings.skip
        return cut(document, length=self.length, per_document=many, skip=skip, seed=seed)

    def with_places(
        self, places: Sequence[Place], documents: Mapping[str, Document], seed: int
    ) -> Self:
        """The same, now that the windows are known.

        Args:
            places: Where they lie.
            documents: Their documents by their ids.
            seed: Seed of the run.
        """
        return self

    def of_window(self, window: Window, document: Document, seed: int) -> Self:
        """The plan of one window.

        Args:
            window: The window.
            document: Its document.
            seed: Seed of the run.
        """
        return self

    def fitted(self, model: "Scorer | None", spend: "Callable[[int, int, float], None]") -> Self:
        """The plan now that the model is loaded; without, one that counts what it would forward.

        Args:
            model: The model.
            spend: Told the tokens, forwards and seconds of what the plan itself forwards.
        """
        return self

    def source_of(self, document: Document) -> Source | None:
        """What an encoder reads of a document, ``None`` where the model has none.

        Args:
            document: The document.
        """
        return None

    def gives_positions(self, condition: Condition) -> bool:
        """Whether a condition is scored with position ids of its own.

        Args:
            condition: The condition.
        """
        return condition.keeps_positions

    def runs_of(self, condition: Condition, shared: bool) -> Sequence[TargetRun]:
        """Boundaries and their targets under a condition, in a plan of one window.

        Args:
            condition: The condition.
            shared: See :meth:`runs`.
        """
        return self.runs(shared)

    def branches(self, window: Window, draws: Iterable[Draw], inputs: Inputs) -> list[Scored]:
        """What is scored of a window: the intact branch, then every run of each draw.

        Args:
            window: The window.
            draws: Conditions and repeats.
            inputs: What else branches are made of.
        """
        plan = self.of_window(window, inputs.document, inputs.seed)
        scored = [intact(window, plan.targets, self.model.first_token)]
        for draw in draws:
            if draw.condition.is_attended:
                scored.append(attended(scored[0], draw.condition))
            else:
                scored += plan.perturbed(window, draw, inputs)
        return [one for one in scored if one.branch.targets > 0]

    def perturbed(self, window: Window, draw: Draw, inputs: Inputs) -> list[Scored]:
        """Every run of a draw, in a plan of one window.

        Args:
            window: The window.
            draw: A condition and its repeat.
            inputs: What else branches are made of.
        """
        condition = draw.condition
        return [
            perturbed(
                window,
                run,
                draw,
                self.model.first_token,
                sources=inputs.sources(draw, run.name),
                text=inputs.text,
            )
            for run in self.runs_of(condition, inputs.shared[condition.text])
        ]


class Protocol(Part):
    """What a configuration says under ``protocol``.

    A field is a key; what stands below it stands in ``probe list`` too, as the first line of the
    class does.
    """

    kind: str
    """A :class:`typing.Literal` of one name in every protocol."""

    order: ClassVar[int] = 1000
    """Its place where all are listed."""
    finding: ClassVar[str] = "curve"
    """Name of the finding that answers it."""
    has_length: ClassVar[bool] = True
    """Whether all that lies further than a distance is perturbed, so that a length can be read."""
    has_same_targets: ClassVar[bool] = False
    """Whether the same targets are measured at every distance."""
    family: ClassVar[str] = "causal"
    """The family of models that it measures, a key of :data:`probe.models.load.FAMILIES`."""
    few_documents: ClassVar[str] = "every length will be unresolved"
    """What fewer documents than an interval needs mean for its answer."""
    allows_patterns: ClassVar[bool] = False
    """Whether conditions may limit attention."""
    allows_characters: ClassVar[bool] = False
    """Whether its windows and distances may be given in characters (``windows.unit``)."""
    truncates_only: ClassVar[bool] = False
    """Whether conditions but ``truncate`` and its noise mean nothing."""
    has_far_start: ClassVar[bool] = False
    """Whether the length of what is perturbed is read from where its far text begins."""
    has_passages: ClassVar[bool] = False
    """Whether named passages are perturbed, which conditions may move or take from others."""
    has_single_targets: ClassVar[bool] = False
    """Whether it has a key ``targets: {alone: true}``: a sequence of its own for each target."""
    has_source: ClassVar[bool] = False
    """Whether documents have a source, whose far part conditions may change (``of='source'``)."""
    source_key: ClassVar[str] = "source_column"
    """What names the column of the source under ``data``; ``audio_column`` where it is sound."""
    has_short_context: ClassVar[bool] = False
    """Whether every target has one short context, of as many tokens as its option ``context``."""
    needs: ClassVar[Mapping[str, int]] = {}
    """Keys without which its rows cannot be read: whole numbers, with the lowest allowed."""

    @classmethod
    def defaults(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Complete a configuration with what this protocol has of its own.

        Args:
            content: What the file says, not checked yet.

        Returns:
            The same, with what was not said.
        """
        return content

    @classmethod
    def starting(cls, length: int) -> Mapping[str, Any]:
        """What a new configuration says, as its file holds it: options that have no default.

        Args:
            length: Tokens of a window, or the most that a document may have.
        """
        return {}

    @classmethod
    def reading(cls, options: Mapping[str, Any]) -> Reading:
        """How rows of it are read.

        Args:
            options: What ``run.json`` says under ``config.protocol``.
        """
        return Reading(needs_far_start=cls.has_far_start)

    @property
    def alone(self) -> bool:
        """Whether each target has a sequence, and so a far context, of its own."""
        return False

    def check_conditions(self, conditions: Sequence[Condition]) -> None:
        """Refuse conditions that nothing can be said of.

        Args:
            conditions: All but ``intact``, each once.

        Raises:
            ValueError: If one is not allowed, or one is missing.
        """
        for one in filter(lambda one: one.pattern is not None, conditions):
            named = one.attentions
            if self.has_source and "" in named:
                raise ValueError(
                    f"{one.text}: allowed with protocol {self.kind}: encoder(...), decoder(...) or "
                    "cross(...) around a pattern"
                )
            if not self.has_source and named != {""}:
                raise ValueError(f"{one.text}: encoder, decoder, cross: allowed with a source")
        for one in filter(lambda one: one.shared is not None, conditions):
            if self.family != "causal" or not self.has_length:
                raise ValueError(f"{one.text}: shared: allowed with sweep, grid")
        texts = [one.text for one in conditions if not one.is_noise]
        if self.truncates_only and texts != [TRUNCATE]:
            raise ValueError(f"allowed with protocol {self.kind}: truncate, and noise with it")

    def written_out(self, condition: Condition) -> Sequence[Condition]:
        """The conditions that one stands for.

        Args:
            condition: As the configuration has it.
        """
        return [condition]

    def check_data(self, data: DataOptions) -> None:
        """Refuse data that lacks a column, or has one that is not read.

        Args:
            data: What the configuration says of it.

        Raises:
            ValueError: If so.
        """
        for key in ("source_column", "audio_column"):
            given, needed = (
                getattr(data, key) is not None,
                self.has_source and key == self.source_key,
            )
            if needed and not given:
                raise ValueError(f"data.{key}: is missing; needed with protocol {self.kind}")
            if given and not needed:
                raise ValueError(f"data.{key}: allowed without, with protocol {self.kind}")

    def check_measures(self, measures: Sequence[str]) -> None:
        """Refuse measures that mean nothing.

        Args:
            measures: Their names.

        Raises:
            ValueError: If one is not allowed.
        """
        if "embedding" in measures:
            raise ValueError("embedding: allowed with protocols that measure encoders")

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> Plan:
        """What is measured of such windows.

        Args:
            windows: Which windows.
            model: The model, as far as it is known.

        Raises:
            UsageError: If it does not fit the windows or the model's positions.
        """
        raise NotImplementedError


def with_windows(content: Mapping[str, Any], **given: Any) -> Mapping[str, Any]:
    """A configuration with what it does not say of its windows.

    Args:
        content: What the file says, not checked yet.
        given: Keys of ``windows`` with their values.
    """
    windows = content.get("windows", {})
    if not isinstance(windows, Mapping):
        return content
    return {**content, "windows": {**given, **windows}}
