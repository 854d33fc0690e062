"""Contrasts between conditions on common targets: what deletion, replacement and order add."""

from collections.abc import Mapping, Sequence

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bootstrap import Floats, bootstrap
from probe.analysis.cells import cells
from probe.analysis.intervals import intervals
from probe.analysis.sums import binned, by_octave, located, stacked, to_sums

COLUMNS = (
    "contrast",
    "minuend",
    "subtrahend",
    "scale",
    "distance_from",
    "distance_to",
    "delta",
    "low",
    "high",
    "targets",
    "documents",
)


def pairs(conditions: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The contrasts that a run's conditions allow, and those that they do not.

    Args:
        conditions: Canonical texts of the run's conditions.

    Returns:
        Pairs ``(minuend, subtrahend)`` of ``truncate − intact``, ``replace − truncate`` and
        ``shuffle − replace``, each with every parameter that was scored; and a line for each of
        the three that lacks a condition.
    """
    by_kind: dict[str, list[str]] = {"intact": ["intact"]}
    for condition in conditions:
        by_kind.setdefault(condition.partition("(")[0], []).append(condition)
    by_kind["intact"] = ["intact"]
    found, missing = [], []
    for minuend, subtrahend in (
        ("truncate", "intact"),
        ("replace", "truncate"),
        ("shuffle", "replace"),
    ):
        lacking = [kind for kind in (minuend, subtrahend) if kind not in by_kind]
        if lacking:
            names = " and ".join(f"'{kind}'" for kind in lacking)
            missing.append(f"no contrast {minuend} − {subtrahend}: not scored: {names}")
        else:
            found += [(a, b) for a in by_kind[minuend] for b in by_kind[subtrahend]]
    return found, missing


def contrast_sums(
    connection: duckdb.DuckDBPyConnection,
    minuend: str,
    subtrahend: str,
    edges: NDArray[np.int64],
    curve_starts: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Sums of nll(minuend) − nll(subtrahend) by bin and document, on common targets.

    Targets are common where document, window, position and boundary agree. Grey rows, and bins
    before the start of either curve, are left out.

    Args:
        connection: From :func:`probe.results.views.connect`.
        minuend: Canonical text of the first condition.
        subtrahend: Canonical text of the second; ``intact`` is the target's own intact loss.
        edges: Edges of the bins (tokens).
        curve_starts: First distance (tokens) of each condition's curve.

    Returns:
        ``distance_from, distance_to, document, targets, delta_sum`` (nats).
    """
    table = cells(connection, edges)
    if subtrahend == "intact":
        frame = connection.execute(
            f"""SELECT bin, document, sum(targets)::BIGINT AS targets, sum(delta_sum) AS delta_sum
            FROM {table} WHERE condition = $1 AND bin >= 0 AND NOT grey
            GROUP BY bin, document ORDER BY bin, document""",
            [minuend],
        ).df()
    else:
        frame = _paired(connection, table, minuend, subtrahend, edges)
    frame = located(frame, edges)
    start = max((curve_starts or {}).get(name, 0) for name in (minuend, subtrahend))
    return frame[frame["distance_from"] >= start].reset_index(drop=True)


def _paired(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    minuend: str,
    subtrahend: str,
    edges: NDArray[np.int64],
) -> pd.DataFrame:
    """Sums of the differences by bin and document: ``bin, document, targets, delta_sum``.

    Where two cells hold the same targets the difference of their sums is the sum of the
    differences; only where they do not, rows are joined.
    """
    pairs_of_cells = f"""(SELECT a.bin, a.document, a.targets, a.nll_sum - b.nll_sum AS difference,
            a.signature = b.signature AND a.targets = b.targets AS same
        FROM {table} a JOIN {table} b
            ON a.bin = b.bin AND a.document = b.document AND a.shared = b.shared
        WHERE a.condition = $minuend AND b.condition = $subtrahend
            AND a.bin >= 0 AND NOT a.grey AND NOT b.grey)"""
    names = {"minuend": minuend, "subtrahend": subtrahend}
    frame = connection.execute(
        f"""SELECT bin, document, sum(targets)::BIGINT AS targets, sum(difference) AS delta_sum,
            bool_and(same) AS same
        FROM {pairs_of_cells} GROUP BY bin, document ORDER BY bin, document""",
        names,
    ).df()
    same = frame.pop("same").to_numpy(dtype=bool)
    if same.all():
        return frame
    connection.register("apart", frame.loc[~same, ["bin", "document"]])
    with binned(connection, edges):
        joined = connection.execute(
            """SELECT bin, a.document, count(*) AS targets, sum(a.nll - b.nll) AS delta_sum
            FROM targets a JOIN bins USING (distance) SEMI JOIN apart USING (bin, document)
                JOIN targets b ON a.document = b.document AND a."window" = b."window"
                    AND a.position = b.position AND a.boundary = b.boundary
            WHERE a.condition = $minuend AND b.condition = $subtrahend AND NOT a.grey
            GROUP BY bin, a.document""",
            names,
        ).df()
    connection.unregister("apart")
    frames = [part for part in (frame[same], joined) if len(part)]
    return pd.concat(frames).sort_values(["bin", "document"], ignore_index=True)


def contrasts(
    connection: duckdb.DuckDBPyConnection,
    conditions: Sequence[str],
    edges: NDArray[np.int64],
    *,
    documents: Sequence[str],
    weights: Floats,
    confidence: float,
    curve_starts: Mapping[str, int] | None = None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """All contrasts of a run with intervals, by bin and by octave.

    Each may be negative, and they are no shares of a whole.

    Args:
        connection: From :func:`probe.results.views.connect`.
        conditions: Canonical texts of the run's conditions.
        edges: Edges of the bins (tokens).
        documents: All documents of the run, in the order of *weights*.
        weights: The run's draws of documents, shape ``(resamples, documents)``.
        confidence: Confidence of each interval, pointwise.
        curve_starts: First distance (tokens) of each condition's curve.

    Returns:
        A frame with the columns ``COLUMNS`` (delta and limits in nats, distances in tokens,
        scale ``bin`` or ``octave``), and a line for each contrast that lacks a condition.
    """
    found, missing = pairs(conditions)
    frames = []
    for minuend, subtrahend in found:
        rows = contrast_sums(connection, minuend, subtrahend, edges, curve_starts)
        if rows.empty:
            continue
        for scale, part in (("bin", rows), ("octave", by_octave(rows, int(edges[-1])))):
            sums = to_sums(part, documents)
            resampled = bootstrap(sums.sums, sums.targets, weights, confidence)
            frame = intervals(sums, resampled, confidence)
            frame.insert(0, "scale", scale)
            frame.insert(0, "subtrahend", subtrahend)
            frame.insert(0, "minuend", minuend)
            frame.insert(0, "contrast", f"{minuend} − {subtrahend}")
            frames.append(frame)
    return stacked(frames, COLUMNS), tuple(missing)
