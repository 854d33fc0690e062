"""Mean delta by distance and document, or by distance and position in the window."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.floor import is_noise
from probe.analysis.settings import Analysis
from probe.analysis.sums import binned, located
from probe.analysis.sums import curve_starts as starts_of
from probe.errors import UsageError
from probe.results.folder import connected, read_folder
from probe.results.views import measured_edges, scored_conditions


def delta_map(
    run_dir: str | Path,
    condition: str | None = None,
    *,
    by: Literal["document", "position"] = "document",
    analysis: Analysis | None = None,
) -> pd.DataFrame:
    """Mean delta of one condition of a run, by distance and by document or position.

    Args:
        run_dir: The run folder.
        condition: Canonical text of the condition; without it ``truncate``, else the first.
        by: What the other side is.
        analysis: How the run is read; by default what its configuration says.

    Returns:
        ``condition``, and the columns of `delta_by_document` or `delta_by_position`.

    Raises:
        ProbeError: If the folder cannot be read.
        UsageError: If the condition was not scored.
    """
    run = read_folder(run_dir)
    how = analysis or Analysis.from_record(run.record)
    with connected(run) as connection:
        edges = measured_edges(connection, how.bins_per_octave)
        name = _condition(condition, scored_conditions(connection))
        delta = delta_by_document if by == "document" else delta_by_position
        frame = delta(connection, edges, name, curve_starts=starts_of(run.record))
    frame.insert(0, "condition", name)
    return frame


def delta_by_document(
    connection: duckdb.DuckDBPyConnection,
    edges: NDArray[np.int64],
    condition: str,
    *,
    curve_starts: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Mean delta of each document by distance: whether all read alike, or a few carry the mean.

    Grey rows, and bins before the start of the condition's curve, are left out.

    Args:
        connection: From :func:`probe.results.views.connect`.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.
        condition: Canonical text of the condition.
        curve_starts: First distance (tokens) of each condition's curve.

    Returns:
        One row per document and bin with a target: ``document, distance_from, distance_to``
        (tokens)``, delta`` (mean, nats a token)``, targets``.
    """
    frame = _cells(connection, edges, condition, "document", {})
    return _of_curve(frame, edges, condition, curve_starts)


def delta_by_position(
    connection: duckdb.DuckDBPyConnection,
    edges: NDArray[np.int64],
    condition: str,
    *,
    rows: int = 16,
    curve_starts: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Mean delta by position in the window and distance: whether delta depends on the place alone.

    A sweep measures a distance at as many positions as it has boundaries. Grey rows, and bins
    before the start of the condition's curve, are left out.

    Args:
        connection: From :func:`probe.results.views.connect`.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.
        condition: Canonical text of the condition.
        rows: Stretches of equal length between the first and the last position of a target.
        curve_starts: First distance (tokens) of each condition's curve.

    Returns:
        One row per stretch and bin with a target: ``position_from, position_to`` (index in the
        window, first and behind the last)``, distance_from, distance_to`` (tokens)``, delta``
        (mean, nats a token)``, targets``.

    Raises:
        UsageError: If *rows* is below 1.
    """
    if rows < 1:
        raise UsageError(f"rows is {rows}: at least 1 stretch of positions is needed")
    (first, last) = connection.execute(
        """SELECT min(far + distance), max(far + distance) FROM targets
        WHERE condition = $condition AND NOT grey""",
        {"condition": condition},
    ).fetchall()[0]
    first, behind = (0, 1) if first is None else (int(first), int(last) + 1)
    size = max(1, -(-(behind - first) // rows))
    stretch = "(far + distance - $first) // $size"
    frame = _cells(connection, edges, condition, stretch, {"first": first, "size": size})
    starts = first + size * frame.pop("row").to_numpy(dtype=np.int64)
    frame.insert(0, "position_from", starts)
    frame.insert(1, "position_to", np.minimum(starts + size, behind))
    return _of_curve(frame, edges, condition, curve_starts)


def _condition(asked: str | None, scored: list[str]) -> str:
    """The condition that was asked for, if it was scored."""
    curves = [name for name in scored if not is_noise(name)]
    if asked is None and curves:
        return "truncate" if "truncate" in curves else curves[0]
    if asked not in scored:
        known = ", ".join(scored) or "none"
        raise UsageError(f"condition '{asked or 'truncate'}' was not scored; allowed: {known}")
    return asked


def _cells(
    connection: duckdb.DuckDBPyConnection,
    edges: NDArray[np.int64],
    condition: str,
    row: str,
    values: Mapping[str, int],
) -> pd.DataFrame:
    """Mean delta and targets by an SQL expression and bin."""
    name = "document" if row == "document" else "row"
    with binned(connection, edges):
        return connection.execute(
            f"""SELECT {row} AS {name}, bin, avg(delta) AS delta, count(*) AS targets
            FROM targets JOIN bins USING (distance) WHERE condition = $condition AND NOT grey
            GROUP BY ALL ORDER BY {name}, bin""",
            {"condition": condition, **values},
        ).df()


def _of_curve(
    frame: pd.DataFrame,
    edges: NDArray[np.int64],
    condition: str,
    curve_starts: Mapping[str, int] | None,
) -> pd.DataFrame:
    frame = located(frame, edges)
    start = (curve_starts or {}).get(condition, 0)
    return frame[frame["distance_from"] >= start].reset_index(drop=True)
