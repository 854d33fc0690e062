"""Attention patterns: terms on layers and heads, added up; what each head does under them.

A term says nothing about a head that it does not name, and a head that no term names keeps the
model's own attention. Terms that hide keys add up to what any of them lets through.
"""

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from probe.attention.term import Index, Term, Truth
from probe.attention.terms.hardcoded import Weights
from probe.attention.terms.lowrank import LowRank
from probe.attention.terms.mask import Mask
from probe.errors import UsageError
from probe.text import one_line, shown

Selection = tuple[int, ...] | None
"""Numbers of layers or heads; ``None`` is all of them."""
ATTENTIONS = ("encoder", "decoder", "cross")
"""The attentions of an encoder–decoder: within the source, within the target, from that to this."""


@dataclass(frozen=True)
class PlacedTerm:
    """A term on chosen layers and heads.

    Args:
        term: The term.
        layers: Numbers of layers, rising.
        heads: Numbers of query heads, rising.
        attention: One of ``ATTENTIONS``; empty in a model that has one alone.
    """

    term: Term
    layers: Selection = None
    heads: Selection = None
    attention: str = ""

    def holds(self, layer: int, head: int) -> bool:
        """Whether it says something about this head of this layer."""
        return (self.layers is None or layer in self.layers) and (
            self.heads is None or head in self.heads
        )

    def __str__(self) -> str:
        selected = [
            f", {name}={list(numbers)}"
            for name, numbers in (("layers", self.layers), ("heads", self.heads))
            if numbers is not None
        ]
        term = f"{self.attention}({self.term})" if self.attention else str(self.term)
        return f"heads({term}{''.join(selected)})" if selected else term


@dataclass(frozen=True)
class HeadRule:
    """What a pattern makes of a head: masks, weights of its own, or compressed far keys.

    Equal for heads that do the same, which can then be computed together.

    Args:
        masks: What may be seen: a key that any of them allows; none of them is no limit.
        weights: The weights of a hard-coded head.
        lowrank: How far keys and values are compressed.
    """

    masks: tuple[Mask, ...] = ()
    weights: Weights | None = None
    lowrank: LowRank | None = None

    @property
    def varies(self) -> bool:
        """Whether two layers or heads with this rule may see different keys."""
        return any(mask.varies for mask in self.masks)

    def allowed(
        self,
        query: Index,
        key: Index,
        *,
        layer: Index = 0,
        head: Index = 0,
        symmetric: bool = False,
    ) -> Truth:
        """Which queries see which keys, as `Mask.allowed` of any of its masks says."""
        if not self.masks:
            return (query + key >= 0) if symmetric else key <= query
        seen = (
            mask.allowed(query, key, layer=layer, head=head, symmetric=symmetric)
            for mask in self.masks
        )
        return functools.reduce(operator.or_, seen)


@dataclass(frozen=True)
class Pattern:
    """An attention pattern; made by `probe.attention.parse.parse`, equal where its text is.

    Args:
        text: The canonical text.
        placed: Its terms, in the order of the text.
    """

    text: str
    placed: tuple[PlacedTerm, ...] = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.text

    @property
    def needs_boundary(self) -> bool:
        """Whether it tells far from near."""
        return any(placed.term.needs_boundary for placed in self.placed)

    @property
    def turns_keys(self) -> bool:
        """Whether it needs the model's rotary embedding."""
        return any(placed.term.turns_keys for placed in self.placed)

    @property
    def bidirectional(self) -> bool:
        """Whether it has a meaning in encoders only."""
        return any(placed.term.bidirectional for placed in self.placed)

    @property
    def first_layer(self) -> int:
        """The lowest layer that it says something about; of an encoder–decoder 0."""
        return min(
            0 if placed.layers is None or placed.attention else placed.layers[0]
            for placed in self.placed
        )

    @property
    def parts(self) -> "dict[str, Pattern]":
        """What it says of each attention, by its name; empty is the only one of a model."""
        names = dict.fromkeys(placed.attention for placed in self.placed)
        return {
            name: add([replace(p, attention="") for p in self.placed if p.attention == name])
            for name in names
        }

    @property
    def needs_places(self) -> bool:
        """Whether cross attention goes by the places in a source that queries belong to."""
        return any(p.attention == "cross" and p.term.goes_by_query for p in self.placed)

    def rule(self, layer: int, head: int) -> HeadRule:
        """What happens in one head, of a pattern of one attention.

        Args:
            layer: Number of the layer.
            head: Number of the query head.

        Raises:
            UsageError: If more than one hard-coded or low-rank term names it, or a low-rank term
                beside any other.
        """
        terms = [placed.term for placed in self.placed if placed.holds(layer, head)]
        masks = tuple(term for term in terms if isinstance(term, Mask))
        weights = [term for term in terms if isinstance(term, Weights)]
        lowrank = [term for term in terms if isinstance(term, LowRank)]
        if len(weights) + len(lowrank) > 1 or (masks and lowrank):
            clash = one_line(", ".join(map(str, terms)))
            raise UsageError(
                f"pattern {shown(self.text)}: layer {layer}, head {head} has {clash}; allowed: "
                "masks with at most one hard-coded head, or one low-rank term alone"
            )
        return HeadRule(masks, next(iter(weights), None), next(iter(lowrank), None))

    def rules(self, layer: int, heads: int) -> dict[HeadRule, list[int]]:
        """What happens in a layer: each rule with the heads that follow it, rising.

        Args:
            layer: Number of the layer.
            heads: Number of query heads.
        """
        by_rule: dict[HeadRule, list[int]] = {}
        for head in range(heads):
            by_rule.setdefault(self.rule(layer, head), []).append(head)
        return by_rule

    def refuse_unknown(self, layers: int, heads: int) -> None:
        """Refuse layers and heads that a model does not have, and terms that clash.

        Raises:
            UsageError: Naming the first of them.
        """
        for placed in self.placed:
            selected = (("layers", placed.layers, layers), ("heads", placed.heads, heads))
            for name, numbers, count in selected:
                if numbers is not None and numbers[-1] >= count:
                    raise UsageError(
                        f"pattern {shown(self.text)}: {name} holds {numbers[-1]}; allowed: 0 to "
                        f"{count - 1}"
                    )
        for layer in range(layers):
            self.rules(layer, heads)

    def refuse_windows(self, windows: Sequence[int | None], length: int) -> None:
        """Refuse to compress far keys where the model's own sliding window hides some of them.

        Args:
            windows: The sliding window or chunk of each layer, keys; ``None`` is full attention.
            length: Tokens of a sequence.

        Raises:
            UsageError: Naming the first layer.
        """
        for layer, window in enumerate(windows):
            for placed in self.placed:
                compressed = isinstance(placed.term, LowRank) and (
                    placed.layers is None or layer in placed.layers
                )
                if compressed and window is not None and window < length:
                    raise UsageError(
                        f"pattern {shown(self.text)} compresses far keys, and layer {layer} hides "
                        f"some of them by itself (window or chunk of {window} keys); allowed: "
                        "heads(..., layers=[...]) of its full layers"
                    )

    def refuse_dense(self, layers: int, heads: int) -> None:
        """Refuse what block masks cannot hold: they serve all heads of a layer alike.

        Args:
            layers: Number of the model's layers.
            heads: Number of its query heads.

        Raises:
            UsageError: Naming the first layer of that kind.
        """
        for layer in range(layers):
            rule, *others = self.rules(layer, heads)
            if others or rule.varies or rule.weights is not None or rule.lowrank is not None:
                raise UsageError(
                    f"pattern {shown(self.text)}, layer {layer}: a block mask serves all heads "
                    "alike and holds no weights; allowed: masks but random, on all heads of a layer"
                )


def add(placed: Sequence[PlacedTerm]) -> Pattern:
    """Add terms up, each once, in the order of their texts: no order means anything else."""
    by_text = {str(term): term for term in placed}
    texts = sorted(by_text)
    return Pattern(" + ".join(texts), tuple(by_text[text] for text in texts))


def restrict(pattern: Pattern, *, layers: Selection, heads: Selection) -> Pattern:
    """Put a pattern on chosen layers and heads only."""
    return add([replace(placed, layers=layers, heads=heads) for placed in pattern.placed])


def attention_of(pattern: Pattern, attention: str) -> Pattern:
    """Put a pattern on one of the attentions of an encoder–decoder.

    Raises:
        ValueError: If it stands in one already, or has no meaning there.
    """
    for placed in pattern.placed:
        if placed.attention:
            raise ValueError(f"{placed.attention}(...) stands in {attention}(...); allowed: one")
        if placed.term.needs_boundary or (attention == "cross" and not placed.term.crosses):
            raise ValueError(f"{placed.term} has no meaning in {attention}(...)")
        if attention == "decoder" and placed.term.bidirectional:
            raise ValueError(f"{placed.term}: a decoder sees no later tokens; allowed: first_token")
    return add([replace(placed, attention=attention) for placed in pattern.placed])
