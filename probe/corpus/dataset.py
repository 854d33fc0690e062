"""Which data set is read: the ``data`` part of a configuration, and the files that it names."""

import glob
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from probe.errors import UsageError

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
FILE_FORMATS = frozenset(_SUFFIXES.values())
"""Values of ``path`` that read data files of this machine."""


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


def file_format(path: str) -> str | None:
    """The format that reads what a path names, ``None`` where it names no data files.

    Args:
        path: A file, a glob, or anything else that the ``path`` of a data set may be.

    Returns:
        ``json`` for ``rows.jsonl`` or ``books/*.json.gz``; ``text`` where the ending tells nothing.
    """
    if path == STDLIB or path in FILE_FORMATS or Path(path).is_dir():
        return None
    name = Path(path)
    ending = Path(name.stem).suffix if name.suffix in _PACKED else name.suffix
    named = glob.has_magic(path) or Path(path).is_file()
    return _SUFFIXES.get(ending, "text" if named else None)


def data_files(options: DataOptions) -> dict[str, tuple[str, ...]]:
    """Expand the globs of a file format.

    Only a file format reads files of this machine; the patterns of a hub data set or a folder
    are relative to it and left to ``datasets``.

    Args:
        options: The data set.

    Returns:
        Paths of each split, sorted, each file once; addresses (``https://...``) as given. Empty
        where there is nothing to expand.

    Raises:
        UsageError: If a file format has no data files, or a pattern matches no file.
    """
    if options.path not in FILE_FORMATS or (
        options.data_files is None and "data_dir" in options.options
    ):
        return {}
    given = options.data_files or ()
    splits = {"train": given} if isinstance(given, str | Sequence) else given
    return {split: _expand(patterns) for split, patterns in splits.items()}


def as_text_files(options: DataOptions) -> DataOptions:
    """Read a folder of nothing but ``*.txt`` files as such: one file is one document.

    ``datasets`` would take its lines for documents.
    """
    folder = Path(options.path)
    if options.data_files is not None or not folder.is_dir():
        return options
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not files or any(path.suffix != ".txt" for path in files):
        return options
    pattern = str(Path(glob.escape(options.path)) / "**" / "*.txt")
    return replace(options, path="text", data_files=pattern)


def _expand(patterns: str | Sequence[str]) -> tuple[str, ...]:
    if not patterns:
        raise UsageError("data.data_files: names no file; allowed: a path or glob, or several")
    patterns = [patterns] if isinstance(patterns, str) else patterns
    matches = {path for pattern in patterns for path in _matches(pattern)}
    # A file with two names is one document; intervals rest on the documents.
    shortest = {
        path if is_address(here := path.removeprefix("file://")) else os.path.realpath(here): path
        for path in sorted(matches, key=lambda path: (-len(path), path))
    }
    return tuple(sorted(shortest.values()))


def _matches(pattern: str) -> list[str]:
    if is_address(pattern):
        return [pattern]
    if Path(pattern).is_file():  # a name may hold the signs of a glob
        return [Path(pattern).as_posix()]
    paths = glob.glob(pattern, recursive=True)  # noqa: PTH207 (pathlib takes no absolute pattern)
    files = [Path(path).as_posix() for path in paths if Path(path).is_file()]
    if not files:
        raise UsageError(f"data.data_files: {pattern!r} matches no file, seen from {Path.cwd()}")
    return files


def is_address(path: str) -> bool:
    """Say whether a path is an address (``https://...``, ``hf://...``), not a file here."""
    return "://" in path


def expand_home(path: str) -> Path:
    """A path with the user's home in place of ``~``."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody has that name
        return Path(path)


def is_local(path: str) -> bool:
    """Say whether a text can only be a path of this machine, not a name on the hub.

    A name there is one word, or two with a slash between them.
    """
    outright = path.startswith(("/", "./", "../", "~")) or path in (".", "..")
    return "://" not in path and (outright or path.endswith("/") or path.count("/") > 1)


def document_names(paths: Sequence[str]) -> tuple[str, ...]:
    """Name documents after their files.

    Args:
        paths: Distinct paths of ``n`` files.

    Returns:
        ``n`` distinct names: that of the file, without folders, or the whole path where two
        files share a name.
    """
    counts = Counter(Path(path).name for path in paths)
    names = (path if counts[Path(path).name] > 1 else Path(path).name for path in paths)
    # A name that is no UTF-8 comes with surrogates, which no results file can hold.
    return tuple(name.encode("utf-8", "backslashreplace").decode() for name in names)
