"""How much the answer differs between documents, and what it owes to one group of them."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bootstrap import ratio
from probe.analysis.effective import EffectiveContext
from probe.analysis.fit import FittedCurve, first_below, isotonic, isotonic_stack
from probe.analysis.sums import Sums


def by_document(
    fitted: Mapping[str, FittedCurve],
    contexts: Iterable[EffectiveContext],
    documents: Sequence[str],
    groups: Mapping[str, str],
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Lengths by document, their quartiles, and the estimates without each group.

    Args:
        fitted: Curves by condition.
        contexts: The run's answers: their tolerances in nats are used for every document alike.
        documents: All documents of the run, in the order of the curves' sums.
        groups: Group of each document that has one.

    Returns:
        The frames of :func:`document_lengths`, :func:`spread` and :func:`leave_one_group_out`,
        each with the column ``condition`` in front.
    """
    epsilons: dict[str, dict[str, float]] = {}
    for context in contexts:
        if context.epsilon is not None:
            epsilons.setdefault(context.condition, {})[context.tolerance] = context.epsilon
    labels = [groups.get(document) for document in documents]
    found: tuple[dict[str, pd.DataFrame], ...] = ({}, {}, {})
    for condition, chosen in epsilons.items():
        sums = fitted[condition].sums
        found[0][condition] = document_lengths(sums, documents, chosen)
        found[1][condition] = spread(found[0][condition])
        found[2][condition] = leave_one_group_out(sums, labels, chosen)
    lengths, quartiles, without_group = (_stacked(frames) for frames in found)
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
    kept = np.flatnonzero(sums.targets.sum(axis=1) > 0)
    fits = isotonic_stack(ratio(sums.sums[kept], sums.targets[kept]), sums.targets[kept])
    found = [_lengths(sums, fits, epsilon) for epsilon in epsilons.values()]
    rows = [
        (tolerance, documents[int(row)], length)
        for row, lengths in zip(kept, zip(*found, strict=True), strict=True)
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
        kept = labels != name
        targets = sums.targets[kept]
        total = targets.sum(axis=0)
        if not total.any():
            continue
        fit = isotonic(ratio(sums.sums[kept].sum(axis=0), total), total)
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


def _stacked(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Frames by condition as one, with the condition in its first column."""
    labelled = [frame.assign(condition=condition) for condition, frame in frames.items()]
    if not labelled:
        return pd.DataFrame({"condition": [], "tolerance": []})
    table = pd.concat(labelled, ignore_index=True)
    table.insert(0, "condition", table.pop("condition"))
    return table
