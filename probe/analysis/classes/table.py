"""The class table: the labels of every token of a run's windows, worked out once and kept."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from probe.analysis.classes.builtin import DEFAULTS
from probe.analysis.classes.choice import choose
from probe.analysis.classes.kept import Rows, UnusableError, kept_versions, write_rows
from probe.analysis.classes.source import digest, groups, metadata, token_counts
from probe.analysis.record import warn_unwritten
from probe.analysis.runs import Run
from probe.errors import ProbeError

NAME = "classes.parquet"


@dataclass(frozen=True, eq=False)
class ClassTable:
    """Labels of all tokens of a run's windows, one row a token.

    The file has the columns ``document, window, position`` (index in the document)``,
    last_occurrence_distance`` (tokens back to the same type, −1 where it does not stand earlier in
    the window)``, copy_length`` (longest context, up to 8 tokens, that stood before the same token
    earlier; 0 none)``, copy_distance`` (tokens back to it, −1 none), and one text column a class,
    named by its canonical text; a token in no class is missing there.

    Args:
        path: The file, in the run folder or in a temporary folder that goes with this value.
        classes: Canonical texts of the classes that were asked for, in order.
        notes: What a reader should know, one line each.
    """

    path: Path
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def default_classes(run: Run) -> tuple[str, ...]:
    """The classes of a run that names none: the built-in ones, and what its data says of documents.

    That is its groups, and each of its metadata columns, if it has any.
    """
    more = ("group",) if groups(run.record) else ()
    return (*DEFAULTS, *more, *metadata(run)[0])


def classify(run: Run, names: Sequence[str], *, write: bool = True) -> ClassTable:
    """Label every token of a run's windows; what is kept in the run folder is not done again.

    Windows are read and written a few at a time. ``classes.parquet`` also keeps classes that were
    asked for earlier, as long as windows, token counts and groups are still the same.

    Args:
        run: The run.
        names: Classes as a configuration names them.
        write: Whether ``classes.parquet`` may be written; in a folder that cannot be written to
            the table is temporary in any case.

    Returns:
        The table.

    Raises:
        UsageError: If a class is unknown or cannot be loaded.
        ProbeError: If a predicate fails, or ``windows.parquet`` cannot be read.
    """
    columns, told = metadata(run)
    chosen = choose(names, columns)
    counts, note = token_counts(run)
    counted = any(one.text.partition("(")[0] == "frequency" for one in chosen)
    table = ClassTable(
        run.path / NAME,
        tuple(one.text for one in chosen),
        (
            *((note,) if note and counted else ()),
            *(told[one.text] for one in chosen if one.text in told),
        ),
    )
    state = digest(run)
    kept = kept_versions(table.path, state)
    missing = tuple(one for one in chosen if not one.is_kept(kept or {}))
    if kept is not None and not missing:
        return table
    renewed = {one.text.casefold() for one in missing}
    old = {
        text: version for text, version in (kept or {}).items() if text.casefold() not in renewed
    }
    rows = Rows(run, counts, state, missing, table.path, old)
    try:
        return _written(table, rows, write)
    except UnusableError:
        return _written(table, replace(rows, missing=chosen, old={}), write)


def _written(table: ClassTable, rows: Rows, write: bool) -> ClassTable:
    """Write the table into the run folder, whole or not at all, or else into a temporary one."""
    if write:
        scratch = table.path.with_name(f".{NAME}.{os.getpid()}.tmp")
        try:
            write_rows(scratch, rows)
            scratch.replace(table.path)
        except OSError as error:
            warn_unwritten(table.path, error)  # the answer needs no file there
        else:
            return table
        finally:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="context-probe-"))
    temporary = replace(table, path=folder / NAME)
    weakref.finalize(temporary, shutil.rmtree, folder, ignore_errors=True)
    try:
        write_rows(temporary.path, rows)
    except OSError as error:
        raise ProbeError(f"cannot write {temporary.path}: {error.strerror or error}") from error
    return temporary
