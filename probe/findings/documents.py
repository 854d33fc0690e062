"""How much the answer differs between documents, what it owes to a group of them, heat maps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bootstrap import ratio
from probe.analysis.fit import first_below, isotonic, isotonic_stack
from probe.analysis.floor import is_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import Sums, binned, located, to_sums
from probe.classes.source import groups
from probe.errors import UsageError
from probe.findings.base import CONDITION, Drawn, Finding, Option, Plot, register
from probe.findings.chart import Axis, Cells, Chart, EmptyChartError, distance_axis
from probe.findings.table import Table, by_condition, length, records
from probe.results.tolerance import spaced

STRETCHES = 16
"""Stretches of equal length between the first and the last position of a target."""
MOST_NAMES = 32
"""So many documents are named at the axis; of more only their number is given."""
BY = Option(
    "--by",
    "by",
    "heatmap: what its rows are.",
    choices=("document", "position"),
    default="document",
)


def plot(runs: Sequence[OpenRun], *, condition: str | None = None, by: str = "document") -> Drawn:
    """A heat map of delta, for `probe plot`.

    Args:
        runs: One run.
        condition: Canonical text of the condition; without it ``truncate``, else the first.
        by: What its rows are: ``document`` or ``position``.
    """
    (run,) = runs
    yield "", heat_map(run, condition, by)


@register("documents", order=170, level="brief", plots=[Plot("heatmap", plot, 1, [CONDITION, BY])])
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """How the answer differs between documents, and without each group of them.

    Args:
        run: The open run.
        others: Not needed.
    """
    lengths, quartiles, without_group = by_document(run)
    files = {
        "summary.json": {
            "document_lengths": records(lengths),
            "documents_spread": records(quartiles),
            "without_group": records(without_group),
        }
    }
    nothing = Finding("documents", "Documents", files=files)
    if quartiles.empty:
        return nothing
    rows = by_condition(quartiles)
    of_main = [row for row in rows if row["condition"] == run.main_condition]
    tables = [_quartiles(rows, run.unit)]
    if len(without_group):
        tables.append(_without_group(without_group, run.unit))
    sentence = _middle_half(of_main[0], run.unit) if of_main else ""
    return replace(nothing, sentence=sentence, tables=tables)


def by_document(run: OpenRun) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Lengths by document, their quartiles, and the estimates without each group.

    The run's own tolerances in nats are used for every document alike.

    Args:
        run: The open run.

    Returns:
        The frames of :func:`document_lengths`, :func:`spread` and :func:`leave_one_group_out`,
        each with the column ``condition`` in front.
    """
    epsilons: dict[str, dict[str, float]] = {}
    for context in run.contexts:
        if context.epsilon is not None:
            epsilons.setdefault(context.condition, {})[context.tolerance] = context.epsilon
    group_of = groups(run)
    labels = [group_of.get(document) for document in run.documents]
    frames: tuple[dict[str, pd.DataFrame], ...] = ({}, {}, {})
    plain = run.plain_sums[~run.plain_sums["grey"].astype(bool)]
    for condition, chosen in epsilons.items():
        sums = to_sums(plain[plain["condition"] == condition], run.documents)
        frames[0][condition] = document_lengths(sums, run.documents, chosen)
        frames[1][condition] = spread(frames[0][condition])
        frames[2][condition] = leave_one_group_out(sums, labels, chosen)
    lengths, quartiles, without_group = map(_labelled, frames)
    return lengths, quartiles, without_group


def document_lengths(
    sums: Sums, documents: Sequence[str], epsilons: Mapping[str, float]
) -> pd.DataFrame:
    """The effective context of each document by itself, without an interval.

    Args:
        sums: One condition's sums, grey rows left out.
        documents: Names in the order of ``sums``.
        epsilons: Tolerances (nats) by their text.

    Returns:
        ``tolerance, document, length`` (tokens, nullable Int64: missing is beyond reach); a
        document without targets has no row.
    """
    present = np.flatnonzero(sums.targets.sum(axis=1) > 0)
    fits = isotonic_stack(ratio(sums.sums[present], sums.targets[present]), sums.targets[present])
    found = [_lengths(sums, fits, epsilon) for epsilon in epsilons.values()]
    rows = [
        (tolerance, documents[int(row)], length)
        for row, lengths in zip(present, zip(*found, strict=True), strict=True)
        for tolerance, length in zip(epsilons, lengths, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["tolerance", "document", "length"])
    return frame.astype({"length": "Int64"})


def spread(lengths: pd.DataFrame) -> pd.DataFrame:
    """Quartiles of the documents' lengths; a quartile beyond reach is missing.

    A quartile is always the length of a document (inverted distribution function), so that
    documents beyond reach can take part in it.

    Args:
        lengths: What :func:`document_lengths` gives.

    Returns:
        ``tolerance, quartile_1, median, quartile_3`` (tokens, nullable), ``documents,
        beyond_reach`` (their numbers).
    """
    rows = []
    for tolerance, group in lengths.groupby("tolerance", sort=False):
        values = group["length"].astype("Float64").fillna(np.inf).to_numpy(dtype=np.float64)
        quartiles = np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf")
        whole = [int(value) if np.isfinite(value) else None for value in quartiles]
        rows.append((tolerance, *whole, len(values), int(np.isinf(values).sum())))
    frame = pd.DataFrame(
        rows,
        columns=["tolerance", "quartile_1", "median", "quartile_3", "documents", "beyond_reach"],
    )
    return frame.astype(dict.fromkeys(["quartile_1", "median", "quartile_3"], "Int64"))


def leave_one_group_out(
    sums: Sums, groups: Sequence[str | None], epsilons: Mapping[str, float]
) -> pd.DataFrame:
    """The point estimate without each group of documents.

    Args:
        sums: One condition's sums, grey rows left out.
        groups: Group of each document, in the order of ``sums``; ``None`` is in no group.
        epsilons: Tolerances (nats) by their text.

    Returns:
        ``tolerance, left_out, length`` (tokens, nullable Int64: missing is beyond reach),
        ``documents`` (that remain); no rows with fewer than two groups.
    """
    names = sorted({group for group in groups if group is not None})
    labels: NDArray[np.object_] = np.array(list(groups), dtype=object)
    rows = []
    for name in names if len(names) > 1 else []:
        others = labels != name
        targets = sums.targets[others]
        total = targets.sum(axis=0)
        if not total.any():
            continue
        fit = isotonic(ratio(sums.sums[others].sum(axis=0), total), total)
        remaining = int((targets.sum(axis=1) > 0).sum())
        rows += [
            (tolerance, name, _lengths(sums, fit[None], epsilon)[0], remaining)
            for tolerance, epsilon in epsilons.items()
        ]
    frame = pd.DataFrame(rows, columns=["tolerance", "left_out", "length", "documents"])
    return frame.astype({"length": "Int64"})


def _lengths(sums: Sums, fits: NDArray[np.float64], epsilon: float) -> list[int | None]:
    """Length of each fit, shape ``(fits, bins)``; ``None`` beyond reach."""
    found = first_below(fits, epsilon, sums.lower, int(sums.upper[-1]))
    return [int(sums.lower[at]) if at < len(sums.lower) else None for at in found]


def delta_by_document(run: OpenRun, condition: str) -> pd.DataFrame:
    """Mean delta of each document by distance: whether all read alike, or a few carry the mean.

    Grey rows, and bins before the start of the condition's curve, are left out.

    Args:
        run: The open run.
        condition: Canonical text of the condition.

    Returns:
        One row per document and bin with a target: ``document, distance_from, distance_to``
        (tokens)``, delta`` (mean, nats per token)``, targets``.
    """
    return _means(run, condition, "document").rename(columns={"row": "document"})


_PLACE = "position - boundary + far"
"""SQL for a target's index in its window: far text may lie behind it, or in a source."""


def delta_by_position(run: OpenRun, condition: str, *, rows: int = STRETCHES) -> pd.DataFrame:
    """Mean delta by position in the window and distance: whether delta depends on the place alone.

    A sweep measures a distance at as many positions as it has boundaries. Grey rows, and bins
    before the start of the condition's curve, are left out.

    Args:
        run: The open run.
        condition: Canonical text of the condition.
        rows: Stretches of equal length between the first and the last position of a target.

    Returns:
        One row per stretch and bin with a target: ``position_from, position_to`` (index in the
        window, first and behind the last)``, distance_from, distance_to`` (tokens)``, delta``
        (mean, nats per token)``, targets``.

    Raises:
        UsageError: If *rows* is below 1.
    """
    if rows < 1:
        raise UsageError(f"rows is {rows}: at least 1 stretch of positions is needed")
    (first, last) = run.connection.execute(
        f"""SELECT min({_PLACE}), max({_PLACE}) FROM targets
        WHERE condition = $condition AND NOT grey""",
        {"condition": condition},
    ).fetchall()[0]
    first, behind = (0, 1) if first is None else (int(first), int(last) + 1)
    size = max(1, -(-(behind - first) // rows))
    frame = _means(run, condition, f"({_PLACE} - {first:d}) // {size:d}")
    starts = first + size * frame.pop("row").to_numpy(dtype=np.int64)
    frame.insert(0, "position_from", starts)
    frame.insert(1, "position_to", np.minimum(starts + size, behind))
    return frame


def heat_map(run: OpenRun, condition: str | None, by: str) -> Chart:
    """Mean delta as colour: distance to the right; documents or positions downwards.

    Cells that no target fell into are grey.

    Args:
        run: The open run.
        condition: Canonical text of the condition; without it ``truncate``, else the first.
        by: ``document`` or ``position``.

    Raises:
        EmptyChartError: If there is no cell to draw.
        UsageError: If the condition was not scored.
    """
    name = _condition(run, condition)
    frame = (delta_by_position if by == "position" else delta_by_document)(run, name)
    if frame.empty:
        raise EmptyChartError("no delta to draw")
    edges = np.unique(frame[["distance_from", "distance_to"]].to_numpy(dtype=np.int64))
    if by == "position":
        size = int((frame["position_to"] - frame["position_from"]).max())
        first, last = int(frame["position_from"].min()), int(frame["position_from"].max())
        sides: list[object] = list(range(first, last + 1, size))
        side, down = "position_from", _positions(sides, int(frame["position_to"].max()))
    else:
        sides = sorted(frame["document"].unique())
        side, down = "document", _documents([str(one) for one in sides])
    cells = frame.pivot(index=side, columns="distance_from", values="delta")
    values = cells.reindex(index=sides, columns=edges[:-1]).to_numpy(np.float64)
    rows = np.arange(len(sides) + 1.0)
    return Chart(
        name,
        distance_axis(float(edges[-1]), low=float(edges[0]), unit=run.unit),
        down,
        cells=Cells(
            edges.astype(float),
            rows,
            values,
            "delta (nats per token): blue where far text lowers the loss",
        ),
        heading=[run.model, run.data, name],
    )


def _condition(run: OpenRun, asked: str | None) -> str:
    """The condition that was asked for, if it was scored."""
    curves = [name for name in run.conditions if not is_noise(name)]
    if asked is None and curves:
        return "truncate" if "truncate" in curves else curves[0]
    if asked not in run.conditions:
        known = ", ".join(run.conditions) or "none"
        raise UsageError(f"condition '{asked or 'truncate'}' was not scored; allowed: {known}")
    return asked


def _means(run: OpenRun, condition: str, row: str) -> pd.DataFrame:
    """Mean delta and targets by an SQL expression and bin, from the curve's start on."""
    with binned(run.connection, run.edges):
        frame = run.connection.execute(
            f"""SELECT {row} AS row, bin, avg(delta) AS delta, count(*) AS targets
            FROM targets JOIN bins USING (distance) WHERE condition = $condition AND NOT grey
            GROUP BY ALL ORDER BY row, bin""",
            {"condition": condition},
        ).df()
    frame = located(frame, run.edges)
    return frame[frame["distance_from"] >= run.starts.get(condition, 0)].reset_index(drop=True)


def _documents(names: Sequence[str]) -> Axis:
    """Documents from the top down, named as far as there is room."""
    if len(names) > MOST_NAMES:
        return Axis(f"{len(names):,} documents", len(names), 0)
    places = [number + 0.5 for number in range(len(names))]
    return Axis("", len(names), 0, ticks=places, names=names)


def _positions(starts: Sequence[object], end: int) -> Axis:
    """Stretches of positions from the top down, some of their edges named."""
    edges = [*map(str, starts), str(end)]
    step = max(1, -(-len(edges) // 8))
    ticks = list(range(0, len(edges), step))
    label = "position in the window (tokens)"
    return Axis(label, len(starts), 0, ticks=ticks, names=edges[::step])


def _labelled(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Frames by condition as one, with the condition in its first column."""
    if not frames:
        return pd.DataFrame({"condition": [], "tolerance": []})
    return pd.concat(frames, names=["condition"]).reset_index("condition").reset_index(drop=True)


def _quartiles(rows: Sequence[Mapping[str, Any]], unit: str) -> Table:
    return Table(
        f"Effective context ({unit}) of single documents",
        ["condition", "tolerance", "quartile", "median", "quartile", "beyond reach"],
        [
            [
                str(row["condition"]),
                spaced(str(row["tolerance"])),
                *(length(row[name]) for name in ("quartile_1", "median", "quartile_3")),
                f"{int(row['beyond_reach'])} of {int(row['documents'])}",
            ]
            for row in rows
        ],
    )


def _without_group(rows: pd.DataFrame, unit: str) -> Table:
    return Table(
        f"The estimate without each group of documents ({unit})",
        ["condition", "tolerance", "left out", "estimate", "documents left"],
        [
            [
                str(row["condition"]),
                spaced(str(row["tolerance"])),
                str(row["left_out"]),
                length(row["length"]),
                str(int(row["documents"])),
            ]
            for row in records(rows)
        ],
    )


def _middle_half(row: Mapping[str, Any], unit: str) -> str:
    """Where half of the documents lie, or how many are beyond reach."""
    at = f"Under {row['condition']} at {spaced(str(row['tolerance']))}"
    if row["quartile_1"] is None or row["quartile_3"] is None:
        beyond = f"{int(row['beyond_reach'])} of {int(row['documents'])}"
        return f"{at} the length of {beyond} documents is beyond the measured range."
    ends = f"{length(row['quartile_1'])} and {length(row['quartile_3'])} {unit}"
    return f"{at} half of the documents lie between {ends}."
