"""Which data set is read: the ``data`` part of a configuration, and the files that it names."""

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, ValidationInfo, field_validator, model_validator

from probe.errors import UsageError
from probe.fields import Label, Part, allowed
from probe.text import shown

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
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_CACHED = re.compile(r"(?:models|datasets)--(?:.+--)?(.+)")
_ALL_FILES = re.compile(r"\*(?:\.\w+)*")
_OF_MANY = {"data", "train", "validation", "test"}
"""Folders that have the same name in many data sets."""
DataFiles = str | list[str] | dict[str, str | list[str]]


class DataOptions(Part):
    """What is read, in the words of ``datasets.load_dataset``: ``data`` of a configuration."""

    path: str
    """hub name, folder, file, glob, stdlib (the sources of Python's own standard library), or a
    format that reads data_files: text, json, csv, parquet, arrow"""
    label: Label | None = None
    """what to call it in tables and figures; null: as its folder, files or repository"""
    name: str | None = None
    """configuration of a data set of the hub"""
    revision: str | None = None
    """branch, tag or commit of the data set"""
    split: str = "train"
    """split, or a slice of one: train[:10%] (not while streaming)"""
    options: dict[str, Any] = Field(default_factory=dict)
    """further arguments of load_dataset"""
    data_files: Annotated[
        DataFiles | None, allowed("a path or glob, a list of them, or such a list for each split")
    ] = None
    """paths or globs, seen from the working directory; a mapping gives them for each split"""
    text_column: str = "text"
    """column that holds the text of a document"""
    ids_column: str | None = None
    """column that holds token ids, read in place of a text"""
    source_column: str | None = None
    """column that holds what an encoder reads, text or token ids; the text is then the target"""
    audio_column: str | None = None
    """column that holds the sound that an encoder hears: a path seen from the data file, the bytes
    of a file, or {array, sampling_rate}; the text is then what is said"""
    language: str | None = None
    """what is spoken in the sound, for a model of several languages: english, or en"""
    alignment_column: str | None = None
    """column with the place in the source of each word of the target: a list of characters (of
    token ids, of tokens; of sound, of seconds), null for a word that belongs nowhere"""
    max_documents: PositiveInt | None = None
    """size of the seeded sample of documents; null: all"""
    group_column: str | None = None
    """column whose value groups documents"""
    metadata_columns: Annotated[tuple[str, ...], allowed("a list of columns")] = ()
    """further columns that describe documents, each a token class"""
    spans_column: str | None = None
    """column with the passages of a text: a list of {name, start, end} in characters"""
    prompt_columns: Annotated[tuple[str, ...], allowed("a list of columns")] = ()
    """columns that make up a prompt in place of a text, each a passage; a list of texts is a
    passage each"""
    answer_column: str | None = None
    """column of the answer behind the prompt"""
    streaming: bool = False
    """read without first downloading the whole data set"""

    @property
    def named(self) -> str:
        """What messages call it: its path, and the files that a format reads."""
        files: Any = self.data_files
        if isinstance(files, dict):
            files = files.get(self.split.partition("[")[0], files)
        return shown(self.path) + (f" ({shown(files)})" if files else "")

    @model_validator(mode="before")
    @classmethod
    def _files(cls, content: Any) -> Any:
        """A path that names files or a glob of them is written out: their format, and the files."""
        path = content.get("path") if isinstance(content, dict) else None
        if not isinstance(path, str):
            return content
        path = str(expand_home(path)) if path.startswith("~") else path
        try:
            found = file_format(path)
        except OSError as error:
            raise ValueError(f"path: {error.strerror}") from error
        if found is None:
            return {**content, "path": path}
        if content.get("data_files"):
            raise ValueError(
                f"path: {shown(path)} names files, and so does data_files; allowed beside it: a "
                f"format ({', '.join(sorted(FILE_FORMATS))}), a folder or a hub name"
            )
        return {**content, "path": found, "data_files": [path]}

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.prompt_columns) != (self.answer_column is not None):
            raise ValueError("prompt_columns and answer_column go together; one of them is missing")
        if self.prompt_columns and (self.spans_column or self.ids_column):
            raise ValueError(
                "prompt_columns make their own passages; allowed without: spans_column, ids_column"
            )
        for key in ("source_column", "audio_column"):
            if getattr(self, key) and (self.prompt_columns or self.spans_column):
                raise ValueError(
                    f"{key}: allowed without: prompt_columns, answer_column, spans_column"
                )
        if self.source_column and self.audio_column:
            raise ValueError("source_column: allowed without: audio_column")
        if self.language and not self.audio_column:
            raise ValueError("language: allowed with: audio_column")
        if self.alignment_column and not (self.source_column or self.audio_column):
            raise ValueError("alignment_column: allowed with: source_column, audio_column")
        if self.spans_column and self.ids_column:
            raise ValueError("spans_column holds characters of a text; allowed without: ids_column")
        return self

    @field_validator("metadata_columns")
    @classmethod
    def _not_the_documents(cls, columns: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        read = info.data.get("ids_column") or info.data.get("text_column")
        if read in columns:
            raise ValueError(
                f"{shown(read)} holds the documents themselves; allowed: other columns"
            )
        return columns


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
    return options.model_copy(update={"path": "text", "data_files": pattern})


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
        raise UsageError(f"data: {pattern!r} matches no file, seen from {Path.cwd()}")
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


def refuse_missing(options: DataOptions) -> None:
    """Refuse a folder of this machine that is not there, which the hub would be asked for.

    Raises:
        UsageError: If so.
    """
    if is_local(options.path) and not Path(options.path).exists():
        raise UsageError(
            f"cannot find data set {shown(options.path)}: there is no such folder or file"
        )


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


def telling_parts(path: str, *, absolute: bool = True) -> list[str]:
    """The parts of a path that say something to people, from its end.

    Args:
        path: A folder, a file or a glob; the hub's cache is left out of it, so that
            ``models--org--name/snapshots/<hash>`` is ``name``.
        absolute: Whether the folders above a relative path are parts of it, too.
    """
    place = Path(os.path.abspath(path) if absolute else path)  # noqa: PTH100 (links keep their name)
    parts = [part for part in place.parts if part not in (place.anchor, "**", "snapshots")]
    return [_CACHED.sub(r"\1", part) for part in reversed(parts) if not _HASH.fullmatch(part)]


def data_name(options: DataOptions) -> str:
    """What to call a data set where people read it: its label, folder, files or name on the hub.

    Args:
        options: The data set.

    Returns:
        ``books`` for ``/long/path/books`` and for ``books/*.txt``, ``books/emma.txt`` for a file,
        ``wikitext (wikitext-2-raw-v1)`` for a configuration of a data set of the hub.
    """
    if options.label is not None:
        return options.label
    if options.path in FILE_FORMATS:
        files = options.data_files or options.options.get("data_dir") or options.path
        if isinstance(files, dict):
            split = options.split.partition("[")[0]
            files = [files[split]] if split in files else list(files.values())
            files = [file for one in files for file in ([one] if isinstance(one, str) else one)]
        files = [str(files)] if isinstance(files, str) else list(files)
        name = _files_name(files[0])
        if len(files) > 1:
            name = f"{name} and {len(files) - 1:,} more"
    elif is_local(options.path) or expand_home(options.path).is_dir():
        name, *above = telling_parts(str(expand_home(options.path))) or [options.path]
        if name in _OF_MANY and above:
            name = f"{above[0]}/{name}"
    else:
        name = options.path.rpartition("/")[2]
    return name if options.name is None else f"{name} ({options.name})"


def _files_name(pattern: str) -> str:
    """The folder of which all files are meant, or else the last two parts."""
    parts = telling_parts(pattern, absolute=False)
    if parts and _ALL_FILES.fullmatch(parts[0]):
        above = parts[1:] if is_address(pattern) else telling_parts(pattern)[1:]
        return above[0] if above else pattern
    return "/".join(reversed(parts[:2])) or pattern
