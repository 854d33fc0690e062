"""A step of datatrove that keeps the documents whose far text is worth most (extra `training`)."""

from pathlib import Path

import pandas as pd
from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter

from probe.errors import UsageError
from probe.training.training_data import select


class ScoreFilter(BaseFilter):  # type: ignore[misc]  # datatrove has no types
    """Keep the best documents of every octave of length.

    Args:
        documents: ``documents.parquet`` of a run that was weighed, whose ids are those of the
            pipeline's documents.
        share: Share of the tokens that is kept, see :func:`probe.training.training_data.select`.
        id_key: Key of the metadata that holds a document's id in the run; its own id by default.

    Raises:
        UsageError: If there is no such file, or it keeps nothing.
    """

    name = "far text is worth most"

    def __init__(self, documents: str | Path, share: float, *, id_key: str | None = None) -> None:
        super().__init__()
        if not 0 < share <= 1:
            raise UsageError(f"share is {share}; allowed: above 0 and up to 1")
        try:
            scored = pd.read_parquet(documents)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{documents} cannot be read; allowed: documents.parquet, which probe weigh writes"
            ) from error
        self.known = frozenset(scored["document"].astype(str))
        self.chosen = frozenset(select(scored.astype({"document": str}), share))
        self.id_key = id_key
        if not self.chosen:
            raise UsageError(f"share is {share}: no document is chosen; allowed: a larger share")

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether a document is among the best, or why not."""
        name = str(doc.id if self.id_key is None else doc.metadata.get(self.id_key))
        if name in self.chosen:
            return True
        return False, "lower_score" if name in self.known else "not_scored"
