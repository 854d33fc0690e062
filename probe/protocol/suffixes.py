"""`suffix`: which of several continuations a model takes for the text's own, prefix by prefix."""

from collections.abc import Sequence
from dataclasses import dataclass

from probe.errors import UsageError
from probe.protocol.grids import Grid
from probe.text import shown


@dataclass(frozen=True)
class Suffix(Grid):
    """A grid whose targets are the window's last tokens, each run once for every candidate.

    The targets are the gold continuation and the distances the lengths of the prefix before it.
    The other candidates stand in the targets' place: text of the same document from elsewhere.

    Source: Sun et al. 2021, section 5 (suffix identification); Sun, Thai and Iyyer 2022 for *at*.

    Args:
        candidates: Continuations to choose among, the gold one with them.
        at: Regular expression; the continuations begin where the document's text matches it.
            Without, they may begin anywhere.
    """

    candidates: int = 6
    at: str | None = None

    @property
    def distractors(self) -> int:
        """Candidates besides the gold one."""
        return self.candidates - 1

    @property
    def needed(self) -> int:
        """Fewest tokens of a document, without those that are skipped.

        However the text around a window is divided, it holds the distractors; with *at* it may
        still lack the places where they begin.
        """
        return self.length + self.distractors * self.count + (self.count - 1 if not self.at else 0)

    def within(self, length: int, extra: int) -> "Suffix":
        """The same in every window: all have one length."""
        return self


def suffix(
    length: int,
    prefixes: Sequence[int],
    *,
    tokens: int = 128,
    candidates: int = 6,
    at: str | None = None,
) -> Suffix:
    """Make a suffix protocol.

    Args:
        length: Tokens of a window: the longest prefix and the gold continuation.
        prefixes: Lengths of the prefix, tokens.
        tokens: Tokens of a continuation.
        candidates: See :class:`Suffix`.
        at: See :class:`Suffix`.

    Raises:
        UsageError: If prefixes and continuation do not fit the window.
    """
    if tokens < 1 or candidates < 2:
        raise UsageError(
            f"protocol.tokens is {tokens} and protocol.candidates {candidates}; allowed: at least "
            "1 and at least 2"
        )
    plan = Suffix(length, tokens, 0, False, tuple(prefixes), candidates, at)
    most = length - tokens
    bad = [prefix for prefix in prefixes if not 0 <= prefix <= most]
    if bad or not prefixes or most < 1:
        raise UsageError(
            f"protocol.prefixes is {shown(list(prefixes))}; allowed: one or more from 0 to {most}, "
            f"what windows of {length} tokens hold before a continuation of {tokens}"
        )
    return plan
