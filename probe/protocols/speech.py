"""`speech`: targets of a decoder that hears sound, far sound around the moment each is spoken."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from probe.corpus.dataset import DataOptions
from probe.corpus.windows import Document, Window
from probe.engine.branch import Source
from probe.errors import ProbeError, UsageError
from probe.perturbations.condition import Condition
from probe.protocols.base import (
    ANY_MODEL,
    Inputs,
    ModelFacts,
    WindowsConfig,
)
from probe.protocols.branches import Draw, Scored
from probe.protocols.parallel import (
    ByAttention,
    ParallelPlan,
    ParallelProtocol,
    check_alignment,
)
from probe.protocols.registry import register
from probe.protocols.whole_documents import WholeDocumentsProtocol
from probe.results.record import Reading, longest

if TYPE_CHECKING:
    from probe.models.scorer import Scorer

OF: Literal["source"] = "source"
_SOURCES = ("document", "vocabulary", "unigram")
_CLOSE = 1e-6  # what rounding does to a whole number


@register
class SpeechProtocol(WholeDocumentsProtocol):
    """Far sound around the moment a target is spoken, distances in seconds."""

    order = 95
    family = "speech-seq2seq"
    has_source = True
    allows_patterns = True
    source_key = "audio_column"
    has_same_targets = True

    kind: Literal["speech"] = "speech"
    frame: Annotated[float, Field(gt=0, le=1)] = 0.02
    """seconds of the frames that sound is cut into, whole milliseconds; a position of Whisper's
    encoder lasts 0.02"""
    distances: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default=[0.1, 0.2, 0.4, 0.8], min_length=1
    )
    """seconds of intact sound on each side of the middle of what is heard of a target; whole
    frames"""
    targets: PositiveInt = 16
    """how many a clip, drawn one from each of as many equal parts"""
    alignment: Literal["attention", "column"] = "attention"
    """how it is known when a target is spoken: dynamic time warping over the model's alignment
    heads, as Whisper's word timestamps do, or data.alignment_column"""

    @field_validator("frame")
    @classmethod
    def _whole_milliseconds(cls, frame: float) -> float:
        if not _is_whole(frame * 1000):
            raise ValueError("allowed: whole milliseconds, such as 0.02")
        return frame

    @field_validator("distances")
    @classmethod
    def _whole_frames(cls, distances: list[float], info: ValidationInfo) -> list[float]:
        frame = info.data.get("frame")
        for seconds in distances:
            if frame and not _is_whole(seconds / frame):
                raise ValueError(f"{seconds:g} s are no whole number of frames of {frame:g} s")
        return distances

    @classmethod
    def starting(cls, length: int) -> Mapping[str, Any]:
        """A name for the column of the sound."""
        return {"data": {"audio_column": "audio"}}

    @classmethod
    def reading(cls, options: Mapping[str, Any]) -> Reading:
        """Of what a distance is counted from, and in what unit."""
        known = "given with the data"
        if options.get("alignment", "attention") == "attention":
            known = (
                "estimated: the middle of its stretch of a dynamic time warping over the "
                "model's cross attention"
            )
        return Reading(
            unit="ms",
            farthest=longest(options, 1000),
            is_before=False,
            caveat="a distance is counted on both sides of the moment at which a target is spoken, "
            f"which is {known}",
        )

    @property
    def alone(self) -> bool:
        """Each target has a sequence, and so a far context, of its own."""
        return True

    def written_out(self, condition: Condition) -> Sequence[Condition]:
        """A condition that does not say of which text is one of the source."""
        return ParallelProtocol(of=OF).written_out(condition)

    def check_conditions(self, conditions: Sequence[Condition]) -> None:
        """Refuse what cannot be done to sound.

        Raises:
            ValueError: If a condition changes the text, or takes tokens of a text.
        """
        super().check_conditions(conditions)
        for one in conditions:
            if one.of not in (OF, None):
                raise ValueError(
                    f"{one.text}: the text is intact, and its distances are no seconds; allowed "
                    "with protocol speech: of='source'"
                )
            if one.needs_text or "targets" in one.reads:
                raise ValueError(
                    f"{one.text} looks for words or tokens in far text, and sound has none; "
                    "allowed: conditions without"
                )
            for step in one.steps:
                given = step.parameters.get("source", _SOURCES[0])
                if given not in _SOURCES:
                    allowed = ", ".join(map(repr, _SOURCES))
                    raise ValueError(f"{one.text}: no source of sound; allowed: {allowed}")

    def check_data(self, data: DataOptions) -> None:
        """Ask for the sound, and for the seconds where they are to be read.

        Raises:
            ValueError: If one is missing.
        """
        super().check_data(data)
        check_alignment(self.alignment, data)

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> "SpeechPlan":
        """What is measured of whole clips.

        Raises:
            UsageError: If windows are parts of documents.
        """
        self.refuse_parts(windows)
        return SpeechPlan(
            windows,
            model,
            distances=tuple(sorted({round(one / self.frame) for one in self.distances})),
            prefix=False,
            count=self.targets,
            is_given=self.alignment == "column",
            frame=self.frame,
        )


@dataclass(frozen=True)
class SpeechPlan(ParallelPlan):
    """Some targets a clip, each with sounds of its own for every distance.

    Args:
        frame: Seconds of a frame. Places and distances are counted in frames; rows tell them in
            milliseconds.
    """

    frame: float = 0.0

    @property
    def reach(self) -> int:
        """Longest distance plus one, milliseconds."""
        return max(self.distances) * self._milliseconds + 1

    @property
    def _milliseconds(self) -> int:
        return round(self.frame * 1000)

    def usable(self, documents: Sequence[Document], seed: int) -> Sequence[Document]:
        """Clips that are long enough, with a place for some target.

        Raises:
            ProbeError: If there is none.
        """
        found = [document for document in documents if self._is_usable(document)]
        if not found:
            sources = [document.source for document in documents if document.source is not None]
            longest = max((len(source.ids) for source in sources), default=0)
            why = " with a target that is spoken" if longest >= self.shortest_source else ""
            raise ProbeError(
                f"no clip lasts {self._seconds(self.shortest_source)} s or more{why}, as distance "
                f"{self._seconds(max(self.distances))} needs; the longest lasts "
                f"{self._seconds(longest)} s; allowed: longer clips, or shorter protocol.distances"
            )
        return found

    def _seconds(self, frames: int) -> str:
        return f"{round(frames * self.frame, 3):g}"

    def fitted(self, model: "Scorer | None", spend: Callable[[int, int, float], None]) -> Self:
        """The plan with an alignment by the model's cross attention, where the data has none."""
        if self.is_given:
            return self
        return replace(self, align=_ByWarping(self, model, spend))

    def source_of(self, document: Document) -> Source | None:
        """The whole sound."""
        return _heard(super().source_of(document), document)

    def keys_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The position of the encoder that hears the middle of each frame.

        Raises:
            UsageError: If it is not known how long a position lasts.
        """
        seconds = self.model.encoder.seconds if self.model.encoder else None
        if seconds is None:
            raise UsageError(
                "it is not known how many seconds a position of this encoder stands for, which a "
                "pattern of cross attention around a place needs; allowed: cross(zero), "
                "cross(uniform), or Whisper"
            )
        keys: NDArray[np.int64] = ((places + 0.5) * self.frame / seconds).astype(np.int64)
        return keys

    def branches(self, window: Window, draws: Iterable[Draw], inputs: Inputs) -> list[Scored]:
        """See :class:`probe.protocols.parallel.ParallelPlan`; the sources are sound."""
        scored = []
        for one in super().branches(window, draws, inputs):
            source = _heard(one.branch.source, inputs.document)
            scored.append(self._timed(replace(one, branch=replace(one.branch, source=source))))
        return scored

    def _timed(self, one: Scored) -> Scored:
        """With what its rows tell in milliseconds; −1 stays what it is."""
        if one.boundary < 0:
            return one
        right = -1 if one.boundary_right is None else one.boundary_right
        return replace(
            one,
            far_start=one.far_start * self._milliseconds,
            boundary=one.boundary * self._milliseconds,
            nearest=one.distance * self._milliseconds,
            boundary_right=right if right < 0 else right * self._milliseconds,
        )


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) <= _CLOSE


def _heard(source: Source | None, document: Document) -> Source | None:
    """A source whose ids number frames of sound."""
    if source is None or document.source is None:
        return None
    return replace(source, frames=document.source.frames)


class _ByWarping(ByAttention):
    """The frame of each target: the middle of what the model hears of it."""

    def _estimated(
        self, model: "Scorer", document: Document, source: Source, tokens: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        import torch

        samples = source.content
        read, ids = (torch.from_numpy(array)[None] for array in (samples, tokens))
        with model.reading(read.to(model.device)):
            spans = model.spoken(ids.to(model.device), len(self.plan._lead), samples.size)
        middles = spans.mean(axis=1) / samples.shape[1]
        places: NDArray[np.int64] = np.clip(middles, 0, len(samples) - 1).astype(np.int64)
        return places
