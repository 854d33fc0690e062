"""The border to ``datasets``: a split is opened, and what goes wrong there becomes one line."""

import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from probe.corpus.files import is_address, is_empty, not_utf8
from probe.corpus.options import DataOptions
from probe.errors import ProbeError, UsageError
from probe.models.location import is_local
from probe.printable import one_line, shown

Files = Mapping[str, tuple[str, ...]]

# Arguments of load_dataset that have a key of their own, or that no data set needs.
_RESERVED = {"path", "name", "revision", "split", "data_files", "streaming", "trust_remote_code"}


def open_split(options: DataOptions, files: Files) -> Any:
    """Open one split of a data set.

    Args:
        options: The data set.
        files: Expanded data files of each split, empty where ``datasets`` expands them.

    Returns:
        A ``datasets.Dataset``, or an ``IterableDataset`` where it is streamed.

    Raises:
        UsageError: If the split is missing, or an option is unknown or reserved.
    """
    if reserved := sorted(_RESERVED & options.options.keys()):
        raise UsageError(
            f"data.options: {', '.join(reserved)} cannot be set here; what load_dataset takes"
            f" besides {', '.join(sorted(_RESERVED))} can"
        )
    # All splits are prepared anyway; asking for none first tells which there are.
    splits = _load(options, files, split=None)
    if options.split in splits:
        return splits[options.split]
    try:
        return _load(options, files, split=options.split)
    except ValueError as error:
        slices = "" if options.streaming else ", or a slice of one such as train[:10%]"
        raise UsageError(
            f"data.split: {shown(options.split)} selects nothing in {shown(options.path)};"
            f" allowed: {', '.join(map(str, splits))}{slices}"
        ) from error


def _load(options: DataOptions, files: Files, *, split: str | None) -> Any:
    from datasets import load_dataset  # takes seconds

    further = dict(options.options)
    if options.path == "text":
        further.setdefault("sample_by", "document")
    patterns = {name: [_literal(path) for path in paths] for name, paths in files.items()}
    try:
        return load_dataset(
            options.path,
            options.name,
            revision=options.revision,
            split=split,
            data_files=patterns or options.data_files,
            streaming=options.streaming,
            **further,
        )
    except TypeError as error:
        raise UsageError(f"data.options: {shown(further)}: {_line(error)}") from error


def _literal(path: str) -> str:
    """Protect the signs of a glob in a file's name, which ``datasets`` would expand again."""
    return path if is_address(path) else glob.escape(path)


@contextmanager
def one_line_errors(options: DataOptions, files: Files) -> Iterator[None]:
    """Turn whatever reading a data set raises into one line for a user.

    ``datasets`` raises its own errors, those of pyarrow, of the hub and of its builders: there is
    no narrower family than ``Exception``.

    Args:
        options: The data set that is read.
        files: Expanded data files of each split.

    Raises:
        UsageError: If the data set or one of its files does not exist.
        ProbeError: If anything else went wrong.
    """
    try:
        if is_local(options.path) and not Path(options.path).exists():
            raise FileNotFoundError("there is no such folder or file")
        yield
    except ProbeError:
        raise
    except FileNotFoundError as error:
        raise UsageError(f"cannot find data set {shown(options.path)}: {_line(error)}") from error
    except Exception as error:
        raise ProbeError(_explanation(error, options, list(chain(*files.values())))) from error


def _explanation(error: Exception, options: DataOptions, paths: Sequence[str]) -> str:
    if paths and all(map(is_empty, paths)):
        others = " and the other data files" if len(paths) > 1 else ""
        return f"data set {shown(options.path)} is empty: no row in {shown(paths[0])}{others}"
    undecoded = isinstance(_reason(error), UnicodeDecodeError)
    if undecoded and "encoding" not in options.options and (path := not_utf8(paths)) is not None:
        return f"{shown(path)} is not UTF-8; convert it, or give data.options.encoding"
    return f"cannot read data set {shown(options.path)}: {_line(error)}"


def _reason(error: BaseException) -> BaseException:
    """Look behind an error of ``datasets`` that only says where it happened."""
    from datasets.exceptions import DatasetGenerationError

    if isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        return _reason(error.__cause__)
    return error


def _line(error: BaseException) -> str:
    """Return the reason on one line."""
    reason = _reason(error)
    return one_line(reason) or type(reason).__name__
