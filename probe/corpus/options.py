"""Which data set is read, and how: the ``data`` part of a configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

STDLIB = "stdlib"
"""The ``path`` that stands for the sources of Python's own standard library."""


@dataclass(frozen=True)
class DataOptions:
    """What is read, in the words of ``datasets.load_dataset``.

    Args:
        path: Hub name, local folder, a file format (``text``, ``json``, ``parquet``, ...) that
            reads ``data_files``, or ``stdlib``.
        name: Configuration of the data set.
        revision: Branch, tag or commit of the data set.
        split: Split, or a slice of one (``train[:10%]``, not while streaming).
        options: Further arguments of ``load_dataset``.
        data_files: Paths or globs; a mapping gives them for each split.
        text_column: Column that holds the text of a document.
        ids_column: Column that holds token ids, read in place of a text.
        max_documents: Size of the seeded sample; ``None`` takes every document.
        group_column: Column whose value groups documents.
        metadata_columns: Further columns that describe documents, each a token class.
        spans_column: Column with the passages of a text, a list of ``{name, start, end}`` in
            characters.
        prompt_columns: Columns that make up a prompt in place of a text, each a passage; a list of
            texts is a passage each.
        answer_column: Column of the answer behind the prompt.
        streaming: Read without first downloading the whole data set.
    """

    path: str
    name: str | None = None
    revision: str | None = None
    split: str = "train"
    options: Mapping[str, Any] = field(default_factory=dict)
    data_files: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None
    text_column: str = "text"
    ids_column: str | None = None
    max_documents: int | None = None
    group_column: str | None = None
    metadata_columns: Sequence[str] = ()
    spans_column: str | None = None
    prompt_columns: Sequence[str] = ()
    answer_column: str | None = None
    streaming: bool = False
