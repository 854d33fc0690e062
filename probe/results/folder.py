"""A run folder: opening it, and saying what is wrong with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from probe.errors import ProbeError, UsageError
from probe.results.parts import check_parts, score_parts
from probe.results.record import PLAIN, Needs, Reading, Record, older_schema, read_record
from probe.results.windows_file import check_windows
from probe.text import counted


@dataclass(frozen=True, eq=False)
class RunFolder:
    """A run folder that can be read.

    Args:
        path: The folder.
        record: Content of its ``run.json``.
        parts: Its readable score parts, in order of name.
        warnings: What a reader should know: parts left out, a run that is not finished.
        reading: How its rows are read.
    """

    path: Path
    record: Mapping[str, Any]
    parts: tuple[Path, ...]
    warnings: tuple[str, ...] = ()
    reading: Reading = field(default_factory=Reading)

    @cached_property
    def facts(self) -> Record:
        """The record, with a type for each value that is used."""
        return Record.model_validate(self.record)

    @property
    def kind(self) -> str | None:
        """The kind of its protocol, ``None`` where ``run.json`` names none."""
        return self.facts.config.protocol.kind

    @property
    def name(self) -> str:
        """The run's own name, or that of its folder."""
        return self.facts.name or self.path.name

    @property
    def model(self) -> str:
        """The model's name to show."""
        return self.facts.model.name or "the model"

    @property
    def data(self) -> str:
        """The data set's name to show."""
        return self.facts.data.name or "the data"


def read_folder(
    path: str | Path,
    *,
    checked: bool = True,
    reading: Callable[[Mapping[str, Any]], Reading] = lambda _: PLAIN,
    needs: Needs = lambda _: {},
) -> RunFolder:
    """Open a run folder and check every score part of it.

    Args:
        path: The folder that holds ``run.json``, ``windows.parquet`` and ``scores/``.
        checked: Read the rows of every part too, for damage and losses that are no number; without,
            only the parts' footers are read.
        reading: From its ``run.json`` to how its rows are read.
        needs: See :func:`probe.results.record.read_record`.

    Returns:
        The run; what can be read is used, what cannot is named in ``warnings``.

    Raises:
        UsageError: If there is no run folder.
        ProbeError: If ``run.json``, ``windows.parquet`` or every score part is missing or
            unreadable, or if a loss is not a finite number.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UsageError(f"no run folder at '{folder}'")
    record = read_record(folder / "run.json", needs)
    older = older_schema(folder, record)
    windows = check_windows(folder / "windows.parquet")
    found = score_parts(folder)
    how = reading(record)
    problems, bad, without = check_parts(
        found, checked, how.needs_far_start, windows.tokens, record.get("identity_hash")
    )
    parts = tuple(part for part in found if part not in problems)
    warnings = [
        *older,
        *filter(None, [how.caveat]),
        *(
            f"scores/{part.name} is left out: {problems[part]}"
            for part in found
            if part in problems
        ),
    ]
    if not parts:
        reason = "; ".join(warnings) if warnings else "nothing has been scored yet"
        raise ProbeError(f"run '{folder}' has no readable score part ({reason})")
    if bad:
        counts = ", ".join(f"'{condition}' has {count}" for condition, count in bad.items())
        raise ProbeError(f"losses of run '{folder}' are NaN, infinite or missing: {counts}")
    if without:
        warnings.append(
            f"{counted(without, 'score part')} of '{folder.name}'"
            f" {'has' if without == 1 else 'have'} no column far_start: an older version or another"
            " tool wrote them; no length is read from that column"
        )
    if windows.without_offsets:
        warnings.append(
            f"windows.parquet of '{folder.name}' has no offset for each token of"
            f" {counted(windows.without_offsets, 'window')}: their text is left out"
        )
    if record.get("status") != "complete":
        warnings.append(
            f"run '{folder.name}' is {record.get('status') or 'unfinished'}:"
            " this is what has been scored so far"
        )
    return RunFolder(folder, record, parts, tuple(warnings), how)


def unique_labels(runs: Sequence[RunFolder]) -> list[str]:
    """A name for each run, no two alike.

    A run that shares its name has as much of its folder's path as tells them apart; where its name
    is not the folder's, both. One folder that comes twice is numbered.

    Args:
        runs: The runs.
    """
    paths = [run.path.resolve() for run in runs]
    found = [_label(run, path, runs, paths) for run, path in zip(runs, paths, strict=True)]
    return [
        f"{name} ({found[: index + 1].count(name)})" if found.count(name) > 1 else name
        for index, name in enumerate(found)
    ]


def _label(run: RunFolder, path: Path, runs: Sequence[RunFolder], paths: Sequence[Path]) -> str:
    alike = [other for one, other in zip(runs, paths, strict=True) if one.name == run.name]
    others = [other for other in alike if other != path]
    if not others:
        return run.name
    tail = _tail(path, others)
    return tail if path.name == run.name else f"{run.name} ({tail})"


def _tail(path: Path, others: Sequence[Path]) -> str:
    """As much of a path's end as no other ends with, at least its last part."""
    for size in range(1, len(path.parts)):
        end = path.parts[-size:]
        if all(other.parts[-size:] != end for other in others):
            return "/".join(end)
    return str(path)
