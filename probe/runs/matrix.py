"""A matrix of runs: models × data under one protocol, each an ordinary run of its own.

name: matrix
matrix:
model: [{path: models/small}, {path: models/large, dtype: bfloat16}]
data: [{path: stdlib}, {path: books/*.txt}]
protocol: {kind: sweep, reach: 256}
conditions: [truncate]
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

from probe.config import Config, check
from probe.errors import UsageError
from probe.text import FILE_NAME, shown, suggestion
from probe.yaml_file import changed

AXES = ("model", "data")
"""What a matrix has lists of, the outer one first: a model is loaded once for all data."""
_NAMED = ("label", "path")
_CACHED = "models--"
"""How the folder of a hub model begins in the cache, before its owner and its name."""


@dataclass(frozen=True)
class Matrix:
    """Several runs of one file.

    Args:
        name: Name of the folder that holds the run folders.
        runs: The configurations, those of a model behind one another; the name of each is that of
            its folder, ``<model>--<data>``.
    """

    name: str
    runs: tuple[Config, ...]


def expand(
    content: dict[str, Any],
    changes: Sequence[tuple[str, str]] = (),
    where: str = "configuration",
    folder: Path | None = None,
) -> Matrix:
    """Make a configuration for every model and data set.

    An entry of a list completes the part ``model`` or ``data`` of the file, whose other keys hold
    for all entries.

    Args:
        content: The plain values of a file, with ``matrix``.
        changes: As :func:`probe.config.load` takes them; ``matrix.…`` and ``name`` change the
            file, all others each of its runs.
        where: What to call it in the message.
        folder: As :func:`probe.config.check` takes it.

    Raises:
        UsageError: If ``matrix`` has no such lists, two entries are the same, or a run of it has a
            mistake.
    """
    of_file = [one for one in changes if one[0] == "name" or one[0].partition(".")[0] == "matrix"]
    of_runs = [one for one in changes if one not in of_file]
    content = changed(content, of_file)
    axes = {axis: _entries(content["matrix"], axis, where) for axis in AXES}
    for axis, entries in axes.items():
        if any(key in (axis, f"{axis}.path") for key, _ in of_runs) and entries:
            raise UsageError(f"{where}: matrix.{axis} says which; allowed without: --{axis}")
    shared = {key: value for key, value in content.items() if key != "matrix"}
    for axis, entries in axes.items():
        _refuse_another(shared.get(axis), entries, axis, where)
    name = _checked_name(shared, where)
    parts = {axis: [_merged(shared.get(axis), one) for one in axes[axis] or [{}]] for axis in AXES}
    names = {axis: _names(parts[axis], axis, where) for axis in AXES}
    runs = []
    for (model_name, model), (data_name, data) in product(
        *(zip(names[axis], parts[axis], strict=True) for axis in AXES)
    ):
        run_name = f"{model_name}--{data_name}"
        of_run = {"name": run_name, "model": model, "data": data}
        run = deepcopy({k: v for k, v in {**shared, **of_run}.items() if v is not None})
        runs.append(check(changed(run, of_runs), where=f"{where}, {run_name},", folder=folder))
    return Matrix(name, tuple(runs))


def _entries(matrix: Any, axis: str, where: str) -> list[dict[str, Any]]:
    """The entries of a list, each a mapping; a text is a path."""
    if not isinstance(matrix, Mapping) or not matrix:
        raise UsageError(f"{where}: matrix is {shown(matrix)}; allowed: lists under model, data")
    if unknown := [key for key in matrix if key not in AXES]:
        meant = suggestion(unknown[0], AXES, "allowed: lists under model, data")
        raise UsageError(f"{where}: matrix has {shown(unknown[0])}{meant}")
    entries = matrix.get(axis, [])
    entries = entries if isinstance(entries, list) else [entries]
    if axis in matrix and not entries:
        raise UsageError(f"{where}: matrix.{axis} is []; allowed: one entry or more")
    found = [{"path": one} if isinstance(one, str) else one for one in entries]
    for number, one in enumerate(found):
        if not isinstance(one, dict) or not isinstance(one.get("path"), str):
            raise UsageError(
                f"{where}: matrix.{axis}.{number} is {shown(one)}; allowed: a path, or keys of"
                f" {axis} with path"
            )
    return found


def _refuse_another(part: Any, entries: Sequence[dict[str, Any]], axis: str, where: str) -> None:
    """Refuse what the part of the file names besides the entries: no run would be of it.

    Raises:
        UsageError: If it names something that no entry does.
    """
    path = part.get("path") if isinstance(part, dict) else part
    if entries and path is not None and path not in [one["path"] for one in entries]:
        raise UsageError(
            f"{where}: {axis} is {shown(path)}, and in no run: matrix.{axis} says which; allowed:"
            " keys that hold for all of them, without path, or one entry more"
        )


def _merged(part: Any, entry: dict[str, Any]) -> Any:
    """The keys that hold for all entries, and those of one; other files are another data set."""
    return {**part, **entry} if isinstance(part, dict) else entry or part


def _checked_name(content: dict[str, Any], where: str) -> str:
    """The name of the whole, which has to be that of a folder."""
    name = content.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", name):
        raise UsageError(
            f"{where}: name is {shown(name)}; allowed: letters, digits, '.', '_' and '-'"
        )
    return name


def _names(parts: Sequence[Any], axis: str, where: str) -> list[str]:
    """A name for each entry that is safe in a folder's name; no two differ in case alone.

    An entry that has the name of one before it takes on what tells it apart, so that entries that
    are put behind others rename none of them.
    """
    found: dict[str, str] = {}
    for number, part in enumerate(parts):
        for name in _candidates(part, parts[:number]):
            if name.casefold() not in found:
                found[name.casefold()] = name
                break
        else:
            raise UsageError(f"{where}: matrix.{axis}.{number} is there twice: {shown(part)}")
    return list(found.values())


def _candidates(part: Any, before: Sequence[Any]) -> Iterator[str]:
    """Names for an entry, from the shortest: its label or path, then what else it says."""
    if not isinstance(part, dict):
        yield "unnamed"  # the configuration says what is wrong with it
        return
    said = {key: value for key, value in part.items() if value is not None and key not in _NAMED}
    alike = [one for one in before if isinstance(one, dict)]
    apart = {
        key: value for key, value in said.items() if any(one.get(key) != value for one in alike)
    }
    first = _short(part)
    yield _safe(first)
    words = [_short({"path": value}) for value in apart.values()]
    for count in range(1, len(words) + 1):
        yield _safe("-".join([first, *words[:count]]))
    if part in before:
        return
    parents = PurePosixPath(str(part.get("path"))).parts
    yield from (_safe("-".join(parents[-size:])) for size in range(2, len(parents) + 1))
    yield from (f"{_safe(first)}-{number}" for number in range(2, len(before) + 2))


def _short(part: Mapping[str, Any]) -> str:
    """What an entry is called: its label, or the end of its path."""
    if part.get("label"):
        return str(part["label"])
    files = part.get("data_files")
    first = next(iter(files), None) if isinstance(files, list) else files
    path = first if isinstance(first, str) else str(part.get("path", "unnamed"))
    parts = [one for one in PurePosixPath(path).parts if one not in ("/", "snapshots")]
    cached = [one.rpartition("--")[-1] for one in parts if one.startswith(_CACHED)]
    named = [one for one in parts if not any(sign in one for sign in "*?[")]
    last = cached[-1] if cached else next(iter(named[::-1]), path)
    name = re.sub(r"(\.(gguf|jsonl?|ndjson|txt|csv|parquet|arrow|gz|bz2|xz|zst|zip))+$", "", last)
    return f"{name}-{part['name']}" if part.get("name") else name


def _safe(text: str) -> str:
    """A text as a part of a folder's name; where letters are lost a digest stands for them."""
    short = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._") or "unnamed"
    lost = re.search(r"[^\x00-\x7f]", text) or len(short) > FILE_NAME
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{short[:FILE_NAME]}-{digest}" if lost else short
