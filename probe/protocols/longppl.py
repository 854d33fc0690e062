"""`longppl`: a short context slides over the whole document, whose losses choose key tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from probe.errors import UsageError
from probe.protocols.base import (
    ANY_MODEL,
    TRUNCATE,
    ModelFacts,
    WindowsConfig,
)
from probe.protocols.branches import TargetRun
from probe.protocols.registry import register
from probe.protocols.whole_documents import WholeDocumentsPlan, WholeDocumentsProtocol


@register
class LongPPLProtocol(WholeDocumentsProtocol):
    """A short context slides over whole documents: the key tokens of LongPPL."""

    order = 40
    finding = "longppl"
    few_documents = "LongPPL will have none"
    truncates_only = True
    has_short_context = True
    needs = {"context": 1, "stride": 1}  # noqa: RUF012 (a ClassVar of the base)

    kind: Literal["longppl"] = "longppl"
    context: PositiveInt = 4096
    """fewest tokens of a short context; the first of a document are no key tokens"""
    stride: Annotated[int, Field(ge=2)] = 1024
    """by how many tokens the short context moves"""

    @classmethod
    def defaults(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Windows are whole documents, which are truncated."""
        return {"conditions": [TRUNCATE], **super().defaults(content)}

    @classmethod
    def starting(cls, length: int) -> Mapping[str, Any]:
        """Short contexts of half the longest document, where the default would not fit."""
        fits = cls.model_fields["context"].default <= length // 2
        return {} if fits else {"protocol": {"context": length // 2, "stride": length // 8}}

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> "LongPPLPlan":
        """What is measured of such windows.

        Raises:
            UsageError: If they are no whole documents, or no short context fits.
        """
        self.refuse_parts(windows)
        plan = LongPPLPlan(windows, model, context=self.context, stride=self.stride)
        if self.context > plan.length - 2:
            raise UsageError(
                f"protocol.context is {self.context}; allowed: 1 to {plan.length - 2}, windows "
                f"have up to {plan.length} tokens"
            )
        return plan


@dataclass(frozen=True, kw_only=True)
class LongPPLPlan(WholeDocumentsPlan):
    """A short context slides over the whole document.

    Source: Fang et al. 2025, and their code.

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
        context: Fewest tokens of a short context, K.
        stride: By how many tokens it moves, and targets of each.
    """

    context: int
    stride: int

    @property
    def length(self) -> int:
        """Tokens of the document; of any, where nothing limits them, as few as have two targets."""
        longest = self.cut_off if self.tokens is None else self.tokens
        return self.context + 2 * self.stride if longest is None else longest

    @property
    def targets(self) -> tuple[int, int]:
        """Every token: keys of another tokenizer may lie anywhere."""
        return 0, self.length

    @property
    def reach(self) -> int:
        """Longest distance plus one."""
        return self.context + self.stride

    @property
    def fewest(self) -> int:
        """A short context and two tokens."""
        return self.context + 2

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """One boundary a short context, from the document's first token on.

        The published indices count what stands in front of the document (a BOS).
        """
        extra = self.model.first_token.extra
        stop = self.length + extra
        return tuple(
            TargetRun(
                max(0, start - extra),
                start + self.context - extra,
                min(start + self.reach, stop) - extra,
            )
            for start in range(0, stop - self.context, self.stride)
        )
