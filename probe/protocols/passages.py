"""`passages`: one named passage of a document is perturbed at a time, its answer is the target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from probe.corpus.windows import Document, Place, Span, Window
from probe.errors import ProbeError
from probe.perturbations.condition import Condition
from probe.protocols.base import (
    ANY_MODEL,
    ModelFacts,
    WindowsConfig,
)
from probe.protocols.branches import TargetRun
from probe.protocols.registry import register
from probe.protocols.whole_documents import WholeDocumentsPlan, WholeDocumentsProtocol
from probe.text import shown

LONGEST = 1 << 30
"""Tokens of a document where nothing limits them."""


@register
class PassagesProtocol(WholeDocumentsProtocol):
    """One named passage of a document is perturbed at a time; the targets are its answer."""

    order = 70
    finding = "passages"
    has_length = False
    has_far_start = True
    has_passages = True

    kind: Literal["passages"] = "passages"
    answer: str = "answer"
    """name of the span or column whose tokens are the targets"""

    @classmethod
    def starting(cls, length: int) -> Mapping[str, Any]:
        """Passages stand in a column; they are taken out, or give way to others."""
        return {
            "data": {"spans_column": "spans"},
            "conditions": ["delete", "replace(source='passage')"],
        }

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> "PassagesPlan":
        """What is measured of such windows.

        Raises:
            UsageError: If they are no whole documents.
        """
        self.refuse_parts(windows)
        return PassagesPlan(windows, model, answer=self.answer)


@dataclass(frozen=True, kw_only=True)
class PassagesPlan(WholeDocumentsPlan):
    """Each passage before the answer in turn; all else stays intact.

    Args:
        answer: Name of the span whose tokens are the targets.
        spans: The passages of the document at hand, in order; empty until there is one.
    """

    answer: str
    spans: Sequence[Span] = ()

    @property
    def length(self) -> int:
        """Tokens of the document, or of the longest."""
        known = self.cut_off if self.tokens is None else self.tokens
        return LONGEST if known is None else known

    @property
    def targets(self) -> tuple[int, int]:
        """The tokens of the answer."""
        for span in self.spans:
            if span.name == self.answer:
                return max(1, span.start), span.stop
        return 1, self.length

    @property
    def passages(self) -> tuple[Span, ...]:
        """What stands before the answer."""
        first, _ = self.targets
        return tuple(s for s in self.spans if s.stop <= first and s.name != self.answer)

    @property
    def reach(self) -> int:
        """Longest distance plus one, of any document."""
        return self.length

    @property
    def fewest(self) -> int:
        """A passage and an answer."""
        return 2

    def usable(self, documents: Sequence[Document], seed: int) -> Sequence[Document]:
        """Those with a passage and its answer that are not too long for the model.

        Raises:
            ProbeError: If there is none.
        """
        found = [
            document
            for document in documents
            if len(document.ids) <= self.length and replace(self, spans=document.spans).passages
        ]
        if not found:
            raise ProbeError(
                f"no document has a span called {shown(self.answer)} with a passage before it, in "
                f"at most {self.length} tokens"
            )
        return found

    def with_places(
        self, places: Sequence[Place], documents: Mapping[str, Document], seed: int
    ) -> Self:
        """Documents are whole: the longest one is as long as any distance can be."""
        return replace(self, tokens=max(place.length for place in places))

    def of_window(self, window: Window, document: Document, seed: int) -> Self:
        """The passages of a document."""
        return replace(self, tokens=len(window.ids), spans=document.spans)

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """One run a passage, in order."""
        first, stop = self.targets
        if not self.spans:  # the whole of a document that may come
            return (TargetRun(self.length - 1, self.length - 1, self.length),)
        return tuple(
            TargetRun(span.stop, first, stop, start=span.start, name=span.name)
            for span in self.passages
        )

    def runs_of(self, condition: Condition, shared: bool) -> Sequence[TargetRun]:
        """One run a passage; none of a passage that stands already where it is moved to."""
        if "passage" not in condition.reads:
            return self.runs(shared)
        return self._moved(condition.steps[0].parameters.get("to", "last"))

    def _moved(self, to: str) -> list[TargetRun]:
        """Runs in which a passage goes elsewhere: far is all from it to where it goes.

        Args:
            to: ``first`` or ``last`` of the passages.
        """
        passages = self.passages
        first, stop = self.targets
        runs = []
        for span in passages:
            if to == "last" and span is not passages[-1]:
                start, end = span.start, passages[-1].stop
            elif to == "first" and span is not passages[0]:
                start, end = passages[0].start, span.stop
            else:
                continue
            place = slice(span.start - start, span.stop - start)
            runs.append(TargetRun(end, first, stop, start=start, name=span.name, passage=place))
        return runs
