"""Patterns that hide keys by their distance or place: windows, blocks, strides, global tokens.

Each is a function of two indices. Their relation is symmetric: what it is in an encoder. In a
decoder the keys after a query are hidden as well, so that ``local(w)`` sees
``0 <= query - key < w``. The functions are made of operators alone, so that ints, numpy arrays and
torch tensors can be given.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from probe import checks
from probe.attention.term import LARGEST, Index, Natural, Positive, Term, Truth, register


class Mask(Term):
    """What all masks have: sinks, and that a query always sees its own key.

    Without its own key a query might see none, and a softmax over nothing is no number.
    """

    sinks: int

    @abstractmethod
    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """The pattern's own relation, which `allowed` completes; symmetric in query and key."""

    @property
    def reach(self) -> int | None:
        """How many keys back a later query may look, its own included; ``None`` is any number."""
        return None

    def allowed(
        self,
        query: Index,
        key: Index,
        *,
        layer: Index = 0,
        head: Index = 0,
        symmetric: bool = False,
    ) -> Truth:
        """Which queries see which keys.

        Args:
            query: Indices of queries in the sequence, int64, to broadcast with *key*.
            key: Indices of keys.
            layer: Number of the layer.
            head: Numbers of the query heads, to broadcast too.
            symmetric: Whether later keys may be seen, as in encoders.

        Returns:
            bool, of the broadcast shape.
        """
        seen = (
            self.relates(query, key, layer=layer, head=head) | (key < self.sinks) | (query == key)
        )
        return seen if symmetric else seen & (key <= query)

    def cached(self, key: Index, length: int) -> Truth:
        """Which keys a cache must hold after *length* tokens for what may come.

        Args:
            key: Indices of keys, below *length*.
            length: Tokens so far.
        """
        reach = length if self.reach is None else self.reach
        return (key >= length - reach) | (key < self.sinks)


@register("local")
@dataclass(frozen=True)
class Local(Mask):
    """The last *w* keys, the query's own included, and the sinks.

    Args:
        w: Keys in the window, as transformers counts ``sliding_window``.
        sinks: First tokens of the sequence that are always seen.

    Source: Child et al. 2019 and Beltagy et al. 2020; with sinks Xiao et al. 2023.
    """

    w: Positive
    sinks: Natural = 1

    @property
    def reach(self) -> int:
        """The window."""
        return self.w

    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """Closer than *w*."""
        return abs(query - key) < self.w


@register("blocks")
@dataclass(frozen=True)
class Blocks(Mask):
    """The keys of the query's own block, and the sinks: a document cut into chunks.

    Args:
        size: Tokens of a block; the first begins with the sequence.
        sinks: First tokens of the sequence that are always seen.

    Source: Qiu et al. 2020, block-local attention.
    """

    size: Positive
    sinks: Natural = 1

    @property
    def reach(self) -> int:
        """A whole block: what must be kept at its end."""
        return self.size

    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """In the same block."""
        return query // self.size == key // self.size


@register("dilated")
@dataclass(frozen=True)
class Dilated(Mask):
    """A window of *w* keys with *gap* keys left out between two of them.

    Args:
        w: Keys in the window, the query's own included.
        gap: Keys left out between two; 0 is ``local(w)``. Longformer's dilation is *gap* + 1.
        sinks: First tokens of the sequence that are always seen.

    Source: Beltagy et al. 2020, section 3.1.
    """

    w: Positive
    gap: Natural
    sinks: Natural = 1

    @property
    def reach(self) -> int:
        """From the query's own key to the farthest."""
        return (self.w - 1) * (self.gap + 1) + 1

    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """A multiple of *gap* + 1 apart, fewer than *w* of them."""
        step = self.gap + 1
        return (abs(query - key) < self.w * step) & ((query - key) % step == 0)


@register("strided")
@dataclass(frozen=True)
class Strided(Mask):
    """Every *stride*-th key before the query, all the way back.

    Args:
        stride: Distance between two of them.
        sinks: First tokens of the sequence that are always seen.

    Source: Child et al. 2019, section 4.2, whose other half is ``local(stride)``.
    """

    stride: Positive
    sinks: Natural = 1

    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """A multiple of *stride* apart."""
        return (query - key) % self.stride == 0


@register("global")
@dataclass(frozen=True)
class Global(Mask):
    """Tokens at given positions see all keys, and all queries see them.

    Args:
        positions: Indices in the sequence, one or several.
        sinks: First tokens of the sequence that are always seen.

    Source: Beltagy et al. 2020, section 3.1; Zaheer et al. 2020.
    """

    positions: int | Sequence[int]
    sinks: Natural = 1

    def __post_init__(self) -> None:
        given = self.positions if isinstance(self.positions, list | tuple) else [self.positions]
        if not given:
            raise ValueError("positions must hold one index or more; got []")
        places = {checks.count("positions", place, least=0, most=LARGEST) for place in given}
        object.__setattr__(self, "positions", tuple(sorted(places)))
        super().__post_init__()

    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """One of the two is at one of the positions."""
        return self._among(query) | self._among(key)

    def cached(self, key: Index, length: int) -> Truth:
        """The positions; a global query has read what stands before it by then."""
        return self._among(key) | (key < self.sinks) | (key == length - 1)

    def _among(self, index: Index) -> Truth:
        assert isinstance(self.positions, tuple)
        among = index == self.positions[0]
        for place in self.positions[1:]:
            among = among | (index == place)
        return among
