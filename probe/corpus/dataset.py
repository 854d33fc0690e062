"""Which data set is read, and how: the ``data`` part of a configuration."""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STDLIB = "stdlib"
"""The ``path`` that stands for the sources of Python's own standard library."""


_SUFFIXES = {
    ".txt": "text",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_PACKED = {".gz", ".bz2", ".xz", ".zst", ".zip"}


def file_format(path: str) -> str | None:
    """The format that reads what a path names, ``None`` where it names no data files.

    Args:
        path: A file, a glob, or anything else that the ``path`` of a data set may be.

    Returns:
        ``json`` for ``rows.jsonl`` or ``books/*.json.gz``; ``text`` where the ending tells nothing.
    """
    if path == STDLIB or path in _SUFFIXES.values() or Path(path).is_dir():
        return None
    name = Path(path)
    ending = Path(name.stem).suffix if name.suffix in _PACKED else name.suffix
    named = glob.has_magic(path) or Path(path).is_file()
    return _SUFFIXES.get(ending, "text" if named else None)


@dataclass(frozen=True)
class DataOptions:
    """What is read, in the words of ``datasets.load_dataset``.

    Args:
        path: Hub name, local folder, a file format (``text``, ``json``, ``parquet``, ...) that
            reads ``data_files``, or ``stdlib``. A configuration may name the files themselves.
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
