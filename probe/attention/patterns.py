"""Patterns: terms on layers and heads, added up, as canonical text, `global(...) + local(w=64)`.

A term says nothing about a head that it does not name, and a head that no term names keeps the
model's own attention. Terms that hide keys add up to what any of them lets through.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from probe.attention.registry import Index, Term, Truth
from probe.attention.terms.hardcoded import Weights
from probe.attention.terms.lowrank import LowRank
from probe.attention.terms.mask import Mask
from probe.errors import UsageError
from probe.text import one_line, shown

Chosen = tuple[int, ...] | None
"""Numbers of layers or heads; ``None`` is all of them."""


@dataclass(frozen=True)
class Placed:
    """A term on some layers and heads.

    Args:
        term: The term.
        layers: Numbers of layers, rising.
        heads: Numbers of query heads, rising.
    """

    term: Term
    layers: Chosen = None
    heads: Chosen = None

    def holds(self, layer: int, head: int) -> bool:
        """Whether it says something about this head of this layer."""
        return (self.layers is None or layer in self.layers) and (
            self.heads is None or head in self.heads
        )

    def __str__(self) -> str:
        chosen = [
            f", {name}={list(some)}"
            for name, some in (("layers", self.layers), ("heads", self.heads))
            if some is not None
        ]
        return f"heads({self.term}{''.join(chosen)})" if chosen else str(self.term)


@dataclass(frozen=True)
class Part:
    """What happens in one head, or in several at once.

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
        """Whether two layers or heads with this part may see different keys."""
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
        first, *others = self.masks
        seen = first.allowed(query, key, layer=layer, head=head, symmetric=symmetric)
        for mask in others:
            more = mask.allowed(query, key, layer=layer, head=head, symmetric=symmetric)
            seen = seen | more
        return seen


@dataclass(frozen=True)
class Pattern:
    """An attention pattern; made by `probe.attention.text.parse`, equal where its text is.

    Args:
        text: The canonical text.
        placed: Its terms, in the order of the text.
    """

    text: str
    placed: tuple[Placed, ...] = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.text

    @property
    def needs_boundary(self) -> bool:
        """Whether it tells far from near."""
        return any(isinstance(placed.term, LowRank) for placed in self.placed)

    @property
    def turns_keys(self) -> bool:
        """Whether it needs the model's rotary embedding."""
        return any(isinstance(one.term, LowRank) and one.term.turns_keys for one in self.placed)

    @property
    def bidirectional(self) -> bool:
        """Whether it has a meaning in encoders only."""
        return any(
            isinstance(placed.term, Weights) and placed.term.bidirectional for placed in self.placed
        )

    @property
    def first_layer(self) -> int:
        """The lowest layer that it says something about."""
        return min(0 if one.layers is None else one.layers[0] for one in self.placed)

    def part(self, layer: int, head: int) -> Part:
        """What happens in one head.

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
        return Part(masks, next(iter(weights), None), next(iter(lowrank), None))

    def parts(self, layer: int, heads: int) -> dict[Part, list[int]]:
        """What happens in a layer: each part with its heads, rising.

        Args:
            layer: Number of the layer.
            heads: Number of query heads.
        """
        found: dict[Part, list[int]] = {}
        for head in range(heads):
            found.setdefault(self.part(layer, head), []).append(head)
        return found

    def refuse_unknown(self, layers: int, heads: int) -> None:
        """Refuse layers and heads that a model does not have, and terms that clash.

        Raises:
            UsageError: Naming the first of them.
        """
        for placed in self.placed:
            chosen = (("layers", placed.layers, layers), ("heads", placed.heads, heads))
            for name, some, count in chosen:
                if some is not None and some[-1] >= count:
                    raise UsageError(
                        f"pattern {shown(self.text)}: {name} holds {some[-1]}; allowed: 0 to "
                        f"{count - 1}"
                    )
        for layer in range(layers):
            self.parts(layer, heads)

    def refuse_windows(self, windows: Sequence[int | None], length: int) -> None:
        """Refuse to press far keys where the model's own sliding window hides some of them.

        Args:
            windows: The sliding window or chunk of each layer, keys; ``None`` is full attention.
            length: Tokens of a sequence.

        Raises:
            UsageError: Naming the first layer.
        """
        for layer, window in enumerate(windows):
            for placed in self.placed:
                pressed = isinstance(placed.term, LowRank) and (
                    placed.layers is None or layer in placed.layers
                )
                if pressed and window is not None and window < length:
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
            part, *others = self.parts(layer, heads)
            if others or part.varies or part.weights is not None or part.lowrank is not None:
                raise UsageError(
                    f"pattern {shown(self.text)}, layer {layer}: a block mask serves all heads "
                    "alike "
                    "and holds no weights; allowed: masks but random, on all heads of a layer"
                )


def add(placed: Sequence[Placed]) -> Pattern:
    """Add terms up, each once, in the order of their texts: no order means anything else."""
    by_text = {str(one): one for one in placed}
    texts = sorted(by_text)
    return Pattern(" + ".join(texts), tuple(by_text[text] for text in texts))


def restrict(pattern: Pattern, *, layers: Chosen, heads: Chosen) -> Pattern:
    """Put a pattern on chosen layers and heads only."""
    return add([replace(placed, layers=layers, heads=heads) for placed in pattern.placed])
