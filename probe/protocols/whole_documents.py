"""Protocols whose windows are whole documents."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from probe.corpus.windows import Document, Window, whole
from probe.errors import UsageError
from probe.protocols.base import Plan, Protocol, WindowsConfig, with_windows


class WholeDocumentsProtocol(Protocol):
    """A protocol whose windows are whole documents."""

    @classmethod
    def defaults(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Windows are whole documents, where nothing else is said."""
        return with_windows(content, length=None, per_document=1)

    def refuse_parts(self, windows: WindowsConfig) -> None:
        """Refuse windows that are no whole documents.

        Raises:
            UsageError: If so.
        """
        if (windows.per_document, windows.skip) != (1, 0):
            raise UsageError(
                f"windows.per_document is {windows.per_document}, windows.skip {windows.skip}; "
                f"allowed with protocol {self.kind}, which measures whole documents: 1, 0"
            )


@dataclass(frozen=True)
class WholeDocumentsPlan(Plan):
    """Every document is one window, cut off where the model has no more positions.

    Args:
        tokens: Tokens of the window at hand, or of the longest; ``None`` before one is known.
    """

    tokens: int | None = None

    @property
    def cut_off(self) -> int | None:
        """Tokens at which documents are cut off, ``None`` where nothing limits them."""
        if self.settings.length is not None or self.model.positions is None:
            return self.settings.length
        return self.model.positions - self.model.first_token.extra

    def windows(self, document: Document, seed: int) -> list[Window]:
        """The document, as much of it as there are positions for."""
        return [whole(document, length=self.cut_off)]

    def of_window(self, window: Window, document: Document, seed: int) -> Self:
        """The plan of one document."""
        return replace(self, tokens=len(window.ids))
