"""`span_corruption`: spans cut out of a text, as in T5's training; far text on either side."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from probe.corpus.windows import Document, Window
from probe.engine.branch import Branch, Source
from probe.errors import UsageError
from probe.perturbations.condition import Condition, draw_rng
from probe.protocols.base import (
    ANY_MODEL,
    EncoderFacts,
    Inputs,
    ModelFacts,
    Plan,
    Protocol,
    WindowsConfig,
    with_windows,
)
from probe.protocols.branches import (
    NOISE_LANE,
    Draw,
    Scored,
    TargetRun,
    around,
    source_between,
)
from probe.protocols.registry import register
from probe.results.record import Reading
from probe.text import counted, shown

Side = Literal["both", "left", "right"]
_LENGTH = 512  # tokens of a window: what T5 was trained on
_CHECKED = 32  # tokens of a decoder that its techniques are tried on, fewer than which show little


@register
class SpanCorruptionProtocol(Protocol):
    """Spans cut out of a text one by one, as T5 was trained; far text on one side or on both."""

    order = 100
    family = "seq2seq"
    has_same_targets = True

    kind: Literal["span_corruption"] = "span_corruption"
    distances: list[Annotated[int, Field(ge=0)]] | None = None
    """intact tokens between a span and far text; null: one an octave"""
    side: Side = "both"
    """where far text lies; with both as many tokens stay intact on each side"""
    span: PositiveInt = 3
    """tokens of a span, each of them a target; one token stands in its place, <extra_id_0>"""
    spans: PositiveInt = 4
    """how many a window, each cut out alone, drawn one from each of as many equal parts"""

    @classmethod
    def defaults(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Windows are as long as the texts that T5 was trained on."""
        return with_windows(content, length=_LENGTH)

    @classmethod
    def reading(cls, options: Mapping[str, Any]) -> Reading:
        """Of the sides, and what a token of a span is predicted from."""
        sides = {
            "both": "on both sides of its span, and a distance is that of each",
            "left": "before its span, and what stands behind it is intact",
            "right": "behind its span, and what stands before it is intact",
        }
        where = sides.get(str(options.get("side", "both")), "beside its span")
        return Reading(
            caveat="a loss is that of a token of a span that was cut out: the encoder reads the "
            f"text on both sides, the decoder the span's own tokens before it; far text is {where}",
            is_before=False,  # it is that from the span
        )

    @property
    def alone(self) -> bool:
        """Each span has a source, and so a far context, of its own."""
        return True

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> "SpanCorruptionPlan":
        """What is measured of such windows.

        Raises:
            UsageError: If spans or distances do not fit them, or nothing stands for a span.
        """
        if model.encoder is not None and model.encoder.sentinel is None:
            raise UsageError(
                "protocol span_corruption needs a token that stands for a span, <extra_id_0>, and "
                "the model or its tokenizer has none; allowed: T5 and others that were trained so"
            )
        length, sides = windows.fixed, 2 if self.side == "both" else 1
        if self.span > length - sides:
            raise UsageError(
                f"protocol.span is {self.span}; allowed: 1 to {length - sides}, so that a token is "
                f"left on each perturbed side in windows of {length}"
            )
        most = (length - self.span) // (2 * sides)
        distances = self.distances
        if distances is None:
            distances = [1 << bit for bit in range(most.bit_length())] or [0]
        if not distances or max(distances) > most:
            raise UsageError(
                f"protocol.distances is {shown(self.distances)}; allowed: one or more from 0 to "
                f"{most}, so that far text is at least as long in windows of {length} tokens and "
                f"spans of {self.span}"
            )
        plan = SpanCorruptionPlan(
            windows, model, tuple(sorted(set(distances))), self.side, self.span, self.spans
        )
        first, stop = plan.targets
        if self.spans > (stop - first) // self.span:
            raise UsageError(
                f"protocol.spans is {self.spans}; allowed: 1 to {(stop - first) // self.span}, "
                f"side by side among the {counted(stop - first, 'token')} with far text enough for "
                f"distance {max(distances)} in windows of {length}"
            )
        return plan


@dataclass(frozen=True)
class SpanCorruptionPlan(Plan):
    """Some spans a window, a source for each distance of each.

    Source: span corruption Raffel et al. 2020, section 3.1.4, of a single span at a time.

    Args:
        distances: Intact tokens between a span and far text, rising.
        side: Where far text lies.
        span: Tokens of a span.
        count: Spans of a window.
        starts: First token of each span of the window at hand, rising.
    """

    distances: tuple[int, ...]
    side: Side
    span: int
    count: int
    starts: tuple[int, ...] = ()

    @property
    def _farthest(self) -> int:
        """Fewest tokens beside a span, on a side with far text."""
        return max(1, 2 * max(self.distances))

    @property
    def targets(self) -> tuple[int, int]:
        """First token, and one past the last, that has far text enough to be of a span."""
        first = self._farthest if self.side != "right" else 0
        return first, self.length - (self._farthest if self.side != "left" else 0)

    @property
    def reach(self) -> int:
        """Longest distance plus one."""
        return max(self.distances) + 1

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """The shortest far text of each distance: no branch is made of these, see `branches`."""
        return tuple(TargetRun(self._farthest - d, *self.targets) for d in reversed(self.distances))

    @property
    def longest_far(self) -> int:
        """Most tokens of a far text, on one side."""
        first, stop = self.targets
        left, right = stop - self.span, self.length - first - self.span
        return {"left": left, "right": right, "both": max(left, right)}[self.side]

    @property
    def longest_forward(self) -> int | None:
        """Tokens that a decoder is tried on: those of a span, or more where they are few."""
        tried = min(self.length, max(self.span, _CHECKED))
        positions = self.model.positions
        return tried if positions is None else min(tried, positions - self.model.first_token.extra)

    def check_positions(self) -> None:
        """Refuse windows that the encoder, and spans that the decoder, has too few positions for.

        Raises:
            UsageError: If so.
        """
        encoder = self.encoder
        # What is read: a window whose span is one token, between special ones.
        extra = len(encoder.before) + len(encoder.behind) + 1 - self.span
        if encoder.positions is not None and self.length + extra > encoder.positions:
            raise UsageError(
                f"windows.length is {self.length}: the encoder has {encoder.positions} positions, "
                f"also for special tokens; allowed: up to {encoder.positions - extra}"
            )
        positions, lead = self.model.positions, len(encoder.lead) + 1
        if positions is not None and self.span + lead > positions:
            raise UsageError(
                f"protocol.span is {self.span}: the decoder has {positions} positions, {lead} of "
                f"them for what stands before a span; allowed: up to {positions - lead}"
            )

    def gives_positions(self, condition: Condition) -> bool:
        """Never: what an encoder does not see is masked."""
        return False

    def of_window(self, window: Window, document: Document, seed: int) -> Self:
        """The plan with the spans that are drawn for a window."""
        rng = draw_rng(seed, document.id, window.index, "spans", 0)
        first, stop = self.targets
        edges = first + np.arange(self.count + 1) * (stop - first) // self.count
        starts = rng.integers(edges[:-1], edges[1:] - self.span + 1)
        return replace(self, starts=tuple(starts.tolist()))

    def source_of(self, document: Document) -> Source | None:
        """As much of a document as is read at once."""
        encoder, size = self.encoder, self.length - self.span + 1
        return source_between(encoder.before, document.ids[:size].astype(np.int64), encoder.behind)

    @property
    def encoder(self) -> EncoderFacts:
        """The model's encoder: no branch is made before it is known."""
        assert self.model.encoder is not None
        return self.model.encoder

    def branches(self, window: Window, draws: Iterable[Draw], inputs: Inputs) -> list[Scored]:
        """The intact branches of every span, then those of each draw and distance of each."""
        plan, draws = self.of_window(window, inputs.document, inputs.seed), list(draws)
        spans = [_Span(window, start, self, inputs) for start in plan.starts]
        # All intact ones first: spans can have a source in common, the empty one of distance 0.
        scored = [one for span in spans for one in span.intact()]
        for span in spans:
            for draw in draws:
                for distance in self.distances:
                    scored += span.perturbed(draw, distance)
        return scored


@dataclass(frozen=True, eq=False)
class _Span:
    """A window of which a span is cut out.

    Args:
        window: The window.
        start: Index of the span's first token.
        plan: The plan.
        inputs: What else branches are made of.
    """

    window: Window
    start: int
    plan: SpanCorruptionPlan
    inputs: Inputs

    @property
    def stop(self) -> int:
        """One past the span's last token."""
        return self.start + self.plan.span

    def intact(self) -> list[Scored]:
        """The rest of the window as it is."""
        source = self._read(self.window.ids, self.start)
        row = {"far_start": -1, "boundary": -1, "boundary_right": -1}
        return self._targets(source, condition="intact", repeat=0, **row)

    def perturbed(self, draw: Draw, distance: int) -> list[Scored]:
        """Far text perturbed under a draw, *distance* tokens from the span and further."""
        size, side, origin = len(self.window.ids), self.plan.side, self.window.start
        start = self.start - distance if side != "right" else 0
        stop = self.stop + distance if side != "left" else size
        ids, before, places = around(
            self.window,
            self.window.ids,
            slice(start, stop),
            draw,
            self.inputs,
            self.window.ids[self.start : self.stop],
        )
        if places is None:
            source = self._read(ids, before + self.start - start)
        else:  # the encoder does not see the others, which stay in their places
            seen = np.isin(np.arange(size), places)
            source = self._read(self.window.ids, self.start, seen)
        if draw.condition.is_noise:
            source = replace(source, lane=NOISE_LANE)
        boundary = origin + (stop if side == "right" else start)
        return self._targets(
            source,
            condition=draw.condition.text,
            repeat=draw.repeat,
            far_start=origin if before else boundary,
            boundary=boundary,
            nearest=distance,
            boundary_right=origin + stop if side != "left" else -1,
        )

    def _read(
        self, ids: NDArray[np.int64], at: int, seen: NDArray[np.bool_] | None = None
    ) -> Source:
        """What the encoder reads of a text whose span begins at an index."""
        encoder, rest = self.plan.encoder, slice(at + 1, at + self.plan.span)
        assert encoder.sentinel is not None
        cut = np.delete(ids, rest)
        cut[at] = encoder.sentinel
        seen = None if seen is None else np.delete(seen, rest)
        return source_between(encoder.before, cut, encoder.behind, seen)

    def _targets(self, source: Source, **row: Any) -> list[Scored]:
        """A branch for every token of the span, all of one sequence, with what its row says."""
        encoder, span = self.plan.encoder, self.window.ids[self.start : self.stop]
        ids = np.array([*encoder.lead, encoder.sentinel, *span], dtype=np.int64)
        first, targets = len(ids) - len(span), range(self.start, self.stop)
        branches = [
            Branch(ids, ids, at, at + 1, target, source=source)
            for at, target in enumerate(targets, start=first)
        ]
        return [Scored(b, position=self.window.start + b.origin, **row) for b in branches]
