"""Which windows of a document are cut: what `windows` in a configuration says."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from probe.errors import UsageError
from probe.fields import Part

Unit = Literal["tokens", "characters"]


class WindowsConfig(Part):
    """Which windows of a document; without a length the whole document is one."""

    length: Annotated[int, Field(ge=8)] | None = 2048
    """tokens of a window; null: the whole document"""
    per_document: PositiveInt | None = 4
    """most windows of a document; null: all that it holds"""
    skip: Annotated[int, Field(ge=0)] = 0
    """tokens left out at the beginning of every document"""
    unit: Unit = "tokens"
    """what length, skip and a sweep's reach count: characters cut alike for every tokenizer"""

    @property
    def tokens(self) -> int | None:
        """Tokens of every window, ``None`` where each has its own number of them."""
        return self.length if self.unit == "tokens" else None

    @property
    def fixed(self) -> int:
        """Tokens, or characters, of every window.

        Raises:
            UsageError: If it is not said.
        """
        if self.length is None:
            raise UsageError("windows.length is null; allowed with this protocol: a whole number")
        return self.length
