"""`parallel`: targets of a decoder, far text in the source around their places, and before them."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from probe.corpus.alignment import NOWHERE
from probe.corpus.dataset import DataOptions
from probe.corpus.windows import Document, Place, Window
from probe.engine.branch import Attention, Branch, Source
from probe.errors import ProbeError, UsageError
from probe.perturbations.condition import Condition, draw_rng, parse
from probe.perturbations.steps import PARTS
from probe.protocols.base import ANY_MODEL, Inputs, ModelFacts, WindowsConfig
from probe.protocols.branches import (
    NOISE_LANE,
    Draw,
    Scored,
    TargetRun,
    around,
    attended,
    perturbed,
    source_between,
)
from probe.protocols.registry import register
from probe.protocols.whole_documents import WholeDocumentsPlan, WholeDocumentsProtocol
from probe.results.record import Reading, longest

if TYPE_CHECKING:
    from probe.models.scorer import Scorer


@register
class ParallelProtocol(WholeDocumentsProtocol):
    """Far text in a source, around the place a target belongs to, and before it in the target."""

    order = 90
    family = "seq2seq"
    has_source = True
    allows_patterns = True
    has_same_targets = True

    kind: Literal["parallel"] = "parallel"
    distances: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2, 4, 8], min_length=1)
    """intact tokens on each side of the source token that a target belongs to, and between a
    target and far text before it"""
    of: Literal["source", "target", "both"] = "both"
    """what conditions without of= change; with both each of the two alone, hide the source alone"""
    targets: PositiveInt = 16
    """how many a document, drawn one from each of as many equal parts"""
    alignment: Literal["attention", "column"] = "attention"
    """how the source token of a target is known: the mean place of the model's own cross attention,
    or data.alignment_column"""

    @classmethod
    def starting(cls, length: int) -> Mapping[str, Any]:
        """A name for the column of the source."""
        return {"data": {"source_column": "source"}}

    @classmethod
    def reading(cls, options: Mapping[str, Any]) -> Reading:
        """Of what a distance is counted from."""
        known = "given with the data"
        if options.get("alignment", "attention") == "attention":
            known = "estimated: the mean place of the model's cross attention over layers and heads"
        return Reading(
            farthest=longest(options),
            caveat="a distance under of='source' is counted on both sides of the source token that "
            f"a target belongs to, which is {known}; under of='target' before the target",
        )

    @property
    def alone(self) -> bool:
        """Each target has a sequence, and so a far context, of its own."""
        return True

    def written_out(self, condition: Condition) -> Sequence[Condition]:
        """A condition that does not say of which text, of each that is measured."""
        if condition.of is not None or condition.pattern is not None or condition.is_intact:
            return [condition]
        parts = PARTS if self.of == "both" else (self.of,)
        if condition.keeps_positions and self.of == "both":
            parts = ("source",)  # few decoders are given their positions
        return [parse([f"{replace(step, of=part)}" for step in condition.steps]) for part in parts]

    def check_data(self, data: DataOptions) -> None:
        """Ask for the source, and for the alignment where that is to be read.

        Raises:
            ValueError: If one is missing.
        """
        super().check_data(data)
        check_alignment(self.alignment, data)

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> "ParallelPlan":
        """What is measured of whole documents.

        Raises:
            UsageError: If windows are parts of documents.
        """
        self.refuse_parts(windows)
        distances = tuple(sorted(set(self.distances)))
        given = self.alignment == "column"
        return ParallelPlan(
            windows,
            model,
            distances=distances,
            prefix=self.of != "source",
            count=self.targets,
            is_given=given,
        )


@dataclass(frozen=True)
class ParallelPlan(WholeDocumentsPlan):
    """Some targets a document, each with sources and prefixes of its own for every distance.

    Args:
        distances: Intact tokens beside a place, rising.
        prefix: Whether far text before the targets is measured too, which they then must have.
        count: Most targets of a document.
        is_given: Whether the data says where targets belong.
        align: From a document to the source token of each of its tokens, where it does not; before
            the model is known, a diagonal.
        chosen: The targets of the window at hand, rising.
    """

    distances: tuple[int, ...] = ()
    prefix: bool = True
    count: int = 1
    is_given: bool = False
    align: Callable[[Document], NDArray[np.int64]] = field(
        default_factory=lambda: _diagonal, compare=False
    )
    chosen: tuple[int, ...] = ()

    @property
    def _first(self) -> int:
        """First token that has far text enough to be a target."""
        return max(1, 2 * max(self.distances)) if self.prefix else 0

    @property
    def targets(self) -> tuple[int, int]:
        """First token that can be a target, and one past the last."""
        return self._first, self.tokens or self._first + 1

    @property
    def reach(self) -> int:
        """Longest distance plus one."""
        return max(self.distances) + 1

    @property
    def longest_far(self) -> int:
        """Most tokens of a far text before a target."""
        return max(1, self.targets[1] - 1)

    @property
    def shortest_source(self) -> int:
        """Tokens of a source of which, around any place, as many are far as are near."""
        return 4 * max(self.distances) + 2

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """The shortest far text of each distance: no branch is made of these, see `branches`."""
        first = 2 * max(self.distances) + 1
        return tuple(TargetRun(first - d, first, first + 1) for d in reversed(self.distances))

    @property
    def fewest(self) -> int:
        """Fewest tokens of a document."""
        return self._first + 1

    @property
    def cut_off(self) -> int | None:
        """Tokens at which targets are cut off, ``None`` where nothing limits them."""
        if self.settings.length is not None or self.model.positions is None:
            return self.settings.length
        return self.model.positions - len(self._lead)

    @property
    def _lead(self) -> tuple[int, ...]:
        return self.model.encoder.lead if self.model.encoder else ()

    def with_places(
        self, places: Sequence[Place], documents: Mapping[str, Document], seed: int
    ) -> Self:
        """The same, now that the longest target text is known."""
        return replace(self, tokens=max(place.length for place in places))

    def usable(self, documents: Sequence[Document], seed: int) -> Sequence[Document]:
        """Those with a source long enough, and with a place for some target.

        Raises:
            UsageError: If a source has more tokens than the encoder has positions.
            ProbeError: If there is no such document.
        """
        found = [document for document in documents if self._is_usable(document)]
        if not found:
            longest = max((len(d.source.ids) for d in documents if d.source is not None), default=0)
            why = " aligned to tokens of the target" if longest >= self.shortest_source else ""
            raise ProbeError(
                f"no document has a source of {self.shortest_source} tokens or more{why}, as "
                f"distance {max(self.distances)} needs; the longest has {longest}; allowed: longer "
                "sources, or shorter protocol.distances"
            )
        return found

    def _is_usable(self, document: Document) -> bool:
        if document.source is None:
            return False
        encoder, tokens = self.model.encoder, len(document.source.ids)
        if encoder is not None and encoder.positions is not None:
            extra = len(encoder.before) + len(encoder.behind)
            if tokens + extra > encoder.positions:
                raise UsageError(
                    f"document {document.id!r}: its source has {tokens:,} tokens and {extra} "
                    f"special ones; the encoder has {encoder.positions:,} positions; allowed: "
                    "shorter sources"
                )
        return tokens >= self.shortest_source and len(self._candidates(document)) > 0

    def _candidates(self, document: Document) -> NDArray[np.int64]:
        """Tokens of a document that can be targets."""
        size = len(document.ids) if self.cut_off is None else min(len(document.ids), self.cut_off)
        numbers = np.arange(self._first, size)
        if self.is_given and document.places is not None:
            numbers = numbers[document.places[numbers] >= 0]
        return numbers

    def of_window(self, window: Window, document: Document, seed: int) -> Self:
        """The plan with the targets that are drawn for a document."""
        rng = draw_rng(seed, document.id, window.index, "targets", 0)
        candidates = self._candidates(document)
        parts = np.array_split(candidates, min(self.count, len(candidates)))
        chosen = tuple(int(rng.choice(part)) for part in parts)
        return replace(self, tokens=len(window.ids), chosen=chosen)

    def fitted(self, model: "Scorer | None", spend: Callable[[int, int, float], None]) -> Self:
        """The plan with an alignment by the model's cross attention, where the data has none."""
        if self.is_given:
            return self
        return replace(self, align=ByAttention(self, model, spend))

    def keys_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The position of the encoder that each token of a source is read at.

        Args:
            places: Tokens of the source, shape ``(n,)``.
        """
        return places + (len(self.model.encoder.before) if self.model.encoder else 0)

    def gives_positions(self, condition: Condition) -> bool:
        """Not under ``of='source'``: what an encoder does not see is masked."""
        return condition.keeps_positions and condition.of != "source"

    def source_of(self, document: Document) -> Source | None:
        """The whole source with its special tokens."""
        if document.source is None:
            return None
        return self._read(document.source.ids.astype(np.int64))

    def _read(self, ids: NDArray[np.int64], seen: NDArray[np.bool_] | None = None) -> Source:
        encoder = self.model.encoder
        before, behind = (encoder.before, encoder.behind) if encoder else ((), ())
        return source_between(before, ids, behind, seen)

    def branches(self, window: Window, draws: Iterable[Draw], inputs: Inputs) -> list[Scored]:
        """The intact branch of every target, then those of each draw and distance."""
        plan, draws = self.of_window(window, inputs.document, inputs.seed), list(draws)
        document = _Pair(window, plan, inputs)
        attending = [draw for draw in draws if draw.condition.is_attended]
        of_target = [d for d in draws if d not in attending and d.condition.of != "source"]
        of_source = [draw for draw in draws if draw.condition.of == "source"]
        scored = [document.intact(target) for target in plan.chosen]
        for target in plan.chosen:  # of the intact source: behind one another, so that it is shared
            for draw in of_target:
                scored += [document.behind_far(draw, target, d) for d in reversed(self.distances)]
        by_place = any(d.condition.pattern.needs_places for d in attending if d.condition.pattern)
        places = self._places(inputs.document) if of_source or by_place else np.zeros(0, np.int64)
        scored += [
            document.attended(draw, target, places) for draw in attending for target in plan.chosen
        ]
        for target in plan.chosen:
            for draw in of_source:
                scored += [
                    document.reading_far(draw, target, int(places[target]), d)
                    for d in self.distances
                ]
        return scored

    def _places(self, document: Document) -> NDArray[np.int64]:
        if self.is_given:
            assert document.places is not None
            return document.places
        return self.align(document)


@dataclass(frozen=True, eq=False)
class _Pair:
    """A target text and its source.

    Args:
        window: The target text.
        plan: The plan of it.
        inputs: What else branches are made of.
    """

    window: Window
    plan: ParallelPlan
    inputs: Inputs

    def intact(self, target: int) -> Scored:
        """The whole source, and the whole text: every target is a token of one sequence."""
        lead = np.array(self.plan._lead, dtype=np.int64)
        ids = np.concatenate([lead, self.window.ids[: self.plan.chosen[-1] + 1]])
        at = len(lead) + target
        branch = Branch(ids, ids, at, at + 1, target, source=self.source)
        position = self.window.start + target
        return Scored(branch, "intact", 0, position, -1, -1, boundary_right=-1, of="")

    def attended(self, draw: Draw, target: int, places: NDArray[np.int64]) -> Scored:
        """The whole source and text, attended to by a pattern."""
        pattern = draw.condition.pattern
        assert pattern is not None
        scored = attended(self.intact(target), draw.condition)
        if not pattern.needs_places:
            return scored
        # A token goes by the place of the one that it predicts, the start token and what else
        # stands before the text by that of the first.
        last, lead = self.plan.chosen[-1], len(self.plan._lead)
        at = self.plan.keys_of(_filled(places[: last + 2]))
        own = np.concatenate([np.repeat(at[:1], lead - 1), at, at[-1:]])
        attention = Attention(pattern, places=tuple(own[: lead + last + 1].tolist()))
        return replace(scored, branch=replace(scored.branch, attention=attention))

    def behind_far(self, draw: Draw, target: int, distance: int) -> Scored:
        """Far text perturbed before a target; the source is whole."""
        scored = perturbed(
            self.window,
            TargetRun(target - distance, target, target + 1),
            draw,
            self.plan.model.first_token,
            sources=self.inputs.sources(draw, None),
            text=self.inputs.text,
        )
        branch = _behind(scored.branch, self.plan._lead[:-1])
        branch = replace(branch, source=self.source)
        return replace(scored, branch=branch, boundary_right=-1, of="target")

    def reading_far(self, draw: Draw, target: int, place: int, distance: int) -> Scored:
        """The source perturbed further than *distance* from a target's place; the text is whole."""
        start, stop = max(0, place - distance), place + distance + 1
        lead = np.array(self.plan._lead, dtype=np.int64)
        ids = np.concatenate([lead, self.window.ids[: target + 1]])
        branch = Branch(
            *(ids, ids, len(ids) - 1, len(ids), target),
            source=self._perturbed(draw, start, stop, ids[-1:]),
        )
        assert self.inputs.document.source is not None
        size = len(self.inputs.document.source.ids)
        return Scored(
            branch,
            draw.condition.text,
            draw.repeat,
            self.window.start + target,
            start,
            start + max(0, size - stop),
            distance,
            stop if stop < size else -1,
            of="source",
        )

    @property
    def source(self) -> Source | None:
        """The intact source."""
        return self.plan.source_of(self.inputs.document)

    def _perturbed(self, draw: Draw, start: int, stop: int, targets: NDArray[np.int64]) -> Source:
        """The source under a draw for some targets, its tokens ``start … stop`` intact."""
        assert self.inputs.document.source is not None
        ids = self.inputs.document.source.ids.astype(np.int64)
        if draw.condition.is_noise:
            return replace(self.plan._read(ids), lane=NOISE_LANE)
        left, _, places = around(
            self.window,
            ids,
            slice(start, min(stop, len(ids))),
            draw,
            replace(self.inputs, text=self.inputs.source_text),
            targets,
        )
        if places is None:
            return self.plan._read(left)
        return self.plan._read(ids, np.isin(np.arange(len(ids)), places))


def _behind(branch: Branch, lead: tuple[int, ...]) -> Branch:
    """A branch with further tokens in front."""
    if not lead:
        return branch
    more, positions = np.array(lead, dtype=np.int64), branch.positions
    if positions is not None:
        positions = np.concatenate([np.arange(len(lead)), len(lead) + positions])
    return replace(
        branch,
        ids=np.concatenate([more, branch.ids]),
        keys=np.concatenate([more, branch.keys]),
        first=branch.first + len(lead),
        stop=branch.stop + len(lead),
        positions=positions,
    )


def check_alignment(alignment: str, data: DataOptions) -> None:
    """Ask for the column that says where targets belong, where it is to be read.

    Raises:
        ValueError: If it is missing.
    """
    if alignment == "column" and data.alignment_column is None:
        raise ValueError(
            "protocol.alignment is 'column', and data.alignment_column is missing; allowed: "
            "attention, or the column"
        )


def _filled(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places with those of tokens that belong nowhere taken from the token before, or behind."""
    known = np.flatnonzero(places != NOWHERE)
    if not len(known):
        return np.zeros_like(places)
    nearest = np.maximum(np.searchsorted(known, np.arange(len(places)), side="right") - 1, 0)
    filled: NDArray[np.int64] = places[known[nearest]]
    return filled


def _diagonal(document: Document) -> NDArray[np.int64]:
    """Places as if source and target ran side by side: what a plan counts with."""
    assert document.source is not None
    target, source = len(document.ids), len(document.source.ids)
    return np.arange(target) * source // max(1, target)


class ByAttention:
    """The source token of each target: the mean place of the cross attention that predicts it.

    Args:
        plan: Tells what stands around the texts.
        model: An encoder–decoder; without one, what it would forward is counted alone.
        spend: Told what was forwarded: tokens, forwards, seconds.
    """

    def __init__(
        self,
        plan: ParallelPlan,
        model: "Scorer | None",
        spend: Callable[[int, int, float], None],
    ) -> None:
        self.plan, self.model, self.spend = plan, model, spend
        self._known: dict[str, NDArray[np.int64]] = {}

    def __call__(self, document: Document) -> NDArray[np.int64]:
        """Places of a document's tokens, forwarded once: encoder and decoder."""
        if document.id not in self._known:
            started, source = time.perf_counter(), self.plan.source_of(document)
            assert source is not None
            tokens = np.concatenate([self.plan._lead, document.ids[: self.plan.cut_off]])
            model = self.model
            self._known[document.id] = (
                _diagonal(document)
                if model is None
                else self._estimated(model, document, source, tokens.astype(np.int64))
            )
            self.spend(len(source.ids) + len(tokens), 2, time.perf_counter() - started)
        return self._known[document.id]

    def _estimated(
        self, model: "Scorer", document: Document, source: Source, tokens: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        import torch

        encoder, lead = self.plan.model.encoder, self.plan._lead
        assert document.source is not None
        before, size = len(encoder.before) if encoder else 0, len(document.source.ids)
        read, ids = (torch.from_numpy(array)[None] for array in (source.ids, tokens))
        with model.reading(read.to(model.device)):
            weights = model.cross_attention(ids.to(model.device)).numpy()
        # The row before a target predicts it; special tokens of the source have no place.
        rows = weights[len(lead) - 1 : -1, before : before + size].astype(np.float64)
        means = rows @ np.arange(size) / np.maximum(rows.sum(axis=1), 1e-30)
        places: NDArray[np.int64] = np.clip(np.rint(means), 0, size - 1).astype(np.int64)
        return places
