"""`passages`: one named passage of a document is perturbed at a time, its answer is the target."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from probe.corpus.windows import Span
from probe.protocol.runs import Run

LONGEST = 1 << 30
"""Tokens of a document where nothing limits them."""


@dataclass(frozen=True)
class Passages:
    """Each passage before the answer in turn; all else stays intact.

    Args:
        length: Longest document, tokens.
        answer: Name of the span whose tokens are the targets.
        spans: The passages of the document at hand, in order; empty until `within_document`.
    """

    length: int
    answer: str
    spans: Sequence[Span] = ()

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

    def runs(self, shared: bool) -> tuple[Run, ...]:
        """One run a passage, in order."""
        first, stop = self.targets
        if not self.spans:  # the whole of a document that may come
            return (Run(self.length - 1, self.length - 1, self.length),)
        return tuple(Run(span.stop, first, stop, start=span.start) for span in self.passages)

    def moved(self, to: str) -> tuple[tuple[Run, str, slice], ...]:
        """Runs in which a passage goes elsewhere, with its name and its place among far tokens.

        Far is then all from the passage to where it goes.

        Args:
            to: ``first`` or ``last`` of the passages.
        """
        passages = self.passages
        first, stop = self.targets
        found = []
        for span in passages:
            if to == "last" and span is not passages[-1]:
                region = (span.start, passages[-1].stop)
            elif to == "first" and span is not passages[0]:
                region = (passages[0].start, span.stop)
            else:
                continue
            place = slice(span.start - region[0], span.stop - region[0])
            found.append((Run(region[1], first, stop, start=region[0]), span.name, place))
        return tuple(found)

    def curve_start(self, shared: bool) -> int:
        """Every distance is a passage's own."""
        return 0

    def within(self, length: int, extra: int) -> "Passages":
        """The same in a window of *length* tokens."""
        return replace(self, length=length)

    def within_document(self, spans: Sequence[Span]) -> "Passages":
        """The same with the passages of a document."""
        return replace(self, spans=tuple(spans))
