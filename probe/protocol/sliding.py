"""`longppl`: a short context slides over the whole document."""

from dataclasses import dataclass, replace

from probe.errors import UsageError
from probe.protocol.runs import Run


@dataclass(frozen=True)
class LongPPL:
    """A short context slides over the whole document (Fang et al. 2025 and their code).

    Every token behind the first *context* is a target once, behind ``context`` to ``context +
    stride - 1`` tokens. The first short context is the document's own beginning: nothing is cut
    off there, and its targets can be no key tokens.

    Their code (``find_key_token`` of the package longppl 0.3.0) takes the text with the special
    tokens that the tokenizer itself adds, counts them, and cuts short contexts of ``context +
    stride`` tokens at 0, ``stride``, ``2 * stride`` ... as long as a target is left, the last one
    shorter. Nothing is put in front of them: ``first_token: published`` is that. What a tokenizer
    adds behind a text is a target there, and changes no key token; here it is left out. The losses
    that their LongPPL averages come from another forward, without special tokens: where the
    tokenizer adds a BOS, a run with ``first_token: none`` has them, on the keys of this one.

    Args:
        length: Tokens of a window, which is a document or its beginning.
        context: Fewest tokens of a short context, K.
        stride: By how many tokens it moves, and targets of each.
        extra: Tokens put in front of the window (a BOS); the published indices count them.
    """

    length: int
    context: int
    stride: int
    extra: int = 0

    @property
    def targets(self) -> tuple[int, int]:
        """Every token: keys of another tokenizer may lie anywhere."""
        return 0, self.length

    @property
    def reach(self) -> int:
        """Longest distance plus one."""
        return self.context + self.stride

    def runs(self, shared: bool) -> tuple[Run, ...]:
        """One boundary a short context, from the document's first token on."""
        stop = self.length + self.extra
        return tuple(
            Run(
                max(0, start - self.extra),
                start + self.context - self.extra,
                min(start + self.reach, stop) - self.extra,
            )
            for start in range(0, stop - self.context, self.stride)
        )

    def curve_start(self, shared: bool) -> int:
        """All that is measured may be shown."""
        return 0

    def within(self, length: int, extra: int) -> "LongPPL":
        """The same in a window of *length* tokens with *extra* tokens in front of it."""
        return replace(self, length=length, extra=extra)


def longppl(length: int | None, context: int = 4096, stride: int = 1024) -> LongPPL:
    """Make a LongPPL protocol.

    Args:
        length: Longest window, ``None`` where nothing limits it.
        context: Fewest tokens of a short context.
        stride: By how many tokens it moves; at least 2.

    Raises:
        UsageError: If no short context fits.
    """
    if stride < 2:
        raise UsageError(f"protocol.stride is {stride}; allowed: at least 2")
    longest = context + 2 * stride if length is None else length
    if not 1 <= context <= longest - 2:
        raise UsageError(
            f"protocol.context is {context}; allowed: 1 to {longest - 2}, windows have up to "
            f"{longest} tokens"
        )
    return LongPPL(longest, context, stride)
