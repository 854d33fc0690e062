"""Paths and data files of this machine: what a path can be, the files of a glob, their names."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from probe.corpus.dataset import DataOptions
from probe.errors import UsageError

FILE_FORMATS = frozenset({"text", "json", "csv", "parquet", "arrow"})
"""Values of ``path`` that read data files of this machine."""


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
