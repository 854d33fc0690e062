"""Sums and counts by token class, aggregated where the rows are."""

from collections.abc import Mapping, Sequence

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import octave_edges
from probe.analysis.floor import without_noise
from probe.analysis.sums import binned, from_starts, located
from probe.classes.table import ClassTable
from probe.results.views import pattern

SUMS = (
    "class",
    "value",
    "condition",
    "distance_from",
    "distance_to",
    "document",
    "targets",
    "delta_sum",
)
COUNTS = ("class", "value", "targets", "share", "documents")
_SAME_TOKEN = 'c.document = t.document AND c."window" = t."window" AND c.position = t.position'


def attach(connection: duckdb.DuckDBPyConnection, table: ClassTable) -> None:
    """Let a connection of :func:`probe.results.views.connect` see a table, as ``classes``."""
    rows = connection.read_parquet(pattern(table.path))
    rows.create_view("classes", replace=True)


def class_sums(
    connection: duckdb.DuckDBPyConnection,
    classes: Sequence[str],
    edges: NDArray[np.int64],
    curve_starts: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Sums of delta by class, value, condition, bin and document.

    All classes are summed in one pass over the scores. Grey rows and the noise control are left
    out.

    Args:
        connection: With the view ``classes`` of :func:`attach`.
        classes: Canonical texts of classes.
        edges: Edges of the bins (tokens).
        curve_starts: First distance (tokens) of each condition's curve.

    Returns:
        ``class, value, condition, distance_from, distance_to, document, targets, delta_sum``
        (nats); a target in no class of a kind is in no row of that class.
    """
    if not classes:
        return pd.DataFrame(columns=[*SUMS])
    columns = [_quoted(text) for text in classes]
    sets = ", ".join(f"(condition, bin, t.document, {column})" for column in columns)
    names = ", ".join(columns)
    with binned(connection, edges):
        frame = connection.execute(
            f"""SELECT * FROM (
                SELECT GROUPING({names}) AS mask, coalesce({names}) AS value,
                    condition, bin, t.document, count(*) AS targets, sum(delta) AS delta_sum
                FROM targets t JOIN bins USING (distance) JOIN classes c ON {_SAME_TOKEN}
                WHERE NOT grey GROUP BY GROUPING SETS ({sets})
            ) WHERE value IS NOT NULL ORDER BY ALL"""
        ).df()
    return _answering(located(_classed(frame, classes), edges), curve_starts)


def class_counts(connection: duckdb.DuckDBPyConnection, classes: Sequence[str]) -> pd.DataFrame:
    """How many scored targets each value has; a target counts once, whatever was scored of it.

    Args:
        connection: With the view ``classes`` of :func:`attach`.
        classes: Canonical texts of classes.

    Returns:
        ``class, value, targets, share`` (of all scored targets)``, documents``; values that no
        scored target has, but other tokens of the windows, have 0 targets. Classes are in the
        order given; values are in the order of the number they begin with, else of their name.
    """
    if not classes:
        return pd.DataFrame(columns=[*COUNTS])
    columns = [_quoted(text) for text in classes]
    sets = ", ".join(f"({column})" for column in columns)
    frame = connection.execute(
        f"""SELECT * FROM (
            SELECT GROUPING({", ".join(columns)}) AS mask, coalesce({", ".join(columns)}) AS value,
                count(t.position) AS targets, count(DISTINCT t.document) AS documents
            FROM classes c LEFT JOIN (SELECT DISTINCT document, "window", position FROM scores) t
                ON {_SAME_TOKEN}
            GROUP BY GROUPING SETS ({sets})
        )"""
    ).df()
    total = frame.groupby("mask")["targets"].transform("sum")
    frame.insert(3, "share", frame["targets"] / total.where(total > 0))
    found = _classed(frame[frame["value"].notna()], classes)
    order = {text: number for number, text in enumerate(classes)}
    keys = [(order[c], _natural(v)) for c, v in zip(found["class"], found["value"], strict=True)]
    return found.iloc[sorted(range(len(found)), key=keys.__getitem__)].reset_index(drop=True)


def measured_bins(
    connection: duckdb.DuckDBPyConnection,
    edges: NDArray[np.int64],
    curve_starts: Mapping[str, int] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """First distances of the bins that each condition has over all its targets, grey ones not.

    The noise control is left out: it has no answer.
    """
    with binned(connection, edges):
        frame = connection.execute(
            """SELECT DISTINCT condition, bin FROM targets JOIN bins USING (distance)
            WHERE NOT grey ORDER BY ALL"""
        ).df()
    rows = _answering(located(frame, edges), curve_starts)
    return {
        str(condition): part["distance_from"].to_numpy(dtype=np.int64)
        for condition, part in rows.groupby("condition")
    }


def boundary_sums(
    connection: duckdb.DuckDBPyConnection,
    column: str,
    reach: int,
    curve_starts: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Sums of delta by octave and by where something stands relative to the boundary.

    Args:
        connection: With the view ``classes`` of :func:`attach`.
        column: A column of the class table that holds tokens back, −1 for nowhere.
        reach: End of the last octave (tokens).
        curve_starts: First distance (tokens) of each condition's curve.

    Returns:
        ``condition, distance_from, distance_to, where`` (``near``, ``far`` or ``nowhere``)``,
        document, targets, delta_sum`` (nats), without grey rows and the noise control.
    """
    edges = octave_edges(reach)
    with binned(connection, edges):
        frame = connection.execute(
            f"""SELECT condition, bin, CASE WHEN c.{_quoted(column)} < 0 THEN 'nowhere'
                    WHEN c.{_quoted(column)} > t.distance THEN 'far' ELSE 'near' END AS "where",
                t.document, count(*) AS targets, sum(delta) AS delta_sum
            FROM targets t JOIN bins USING (distance) JOIN classes c ON {_SAME_TOKEN}
            WHERE NOT grey GROUP BY ALL ORDER BY ALL"""
        ).df()
    return _answering(located(frame, edges), curve_starts)


def _quoted(name: str) -> str:
    """A column name in SQL, whatever signs it holds."""
    return '"' + name.replace('"', '""') + '"'


def _classed(frame: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """The class instead of the mask, in which the bit of the grouped column alone is 0."""
    full = 2 ** len(classes) - 1
    names = {full - 2 ** (len(classes) - 1 - i): text for i, text in enumerate(classes)}
    frame = frame.copy()
    frame.insert(0, "class", frame.pop("mask").map(names).astype(object))
    return frame


def _answering(frame: pd.DataFrame, curve_starts: Mapping[str, int] | None) -> pd.DataFrame:
    """Without the noise control, and without what lies before the start of a curve."""
    return from_starts(without_noise(frame), curve_starts)


def _natural(value: str) -> tuple[int, int, str]:
    """Sorts ``16–63`` before ``256–1023``, and names behind numbers."""
    digits = value[: len(value) - len(value.lstrip("0123456789"))]
    return (0, int(digits), value) if digits.isascii() and digits else (1, 0, value)
