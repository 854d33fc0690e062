"""Single attention heads by what replacing each costs, with intervals that hold for all at once."""

import ast
import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from probe.analysis.bootstrap import Floats, ratio, standard_error
from probe.windows import FEWEST_DOCUMENTS

COLUMNS = ("kind", "layer", "head", "delta", "low", "high", "p_holm", "targets", "documents")
"""Columns of ``heads.csv``: what stands in the head's place, the head, delta with Holm-adjusted
limits (nats a token), and the Holm-adjusted p of delta = 0."""
_HEAD = re.compile(r"attend\(heads\((.+), layers=(\[\d+\]), heads=(\[\d+\])\)\)")


def single_head(condition: str) -> tuple[str, int, int] | None:
    """What stands in place of a head, its layer and number; ``None`` for any other condition."""
    found = _HEAD.fullmatch(condition)
    if found is None or " + " in found[1]:
        return None
    return found[1], *(ast.literal_eval(part)[0] for part in (found[2], found[3]))


def head_table(sums: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Rank the heads of a run, kind by kind, the one that costs most first.

    The k-th smallest of m p-values has an interval of confidence 1 − α/(m − k + 1): Holm's steps,
    as intervals. They hold for all heads of one kind together.

    Args:
        sums: Columns ``condition, document, targets, delta_sum``, one row a condition and document.
        confidence: 1 − α, of all intervals of a kind at once.

    Returns:
        Columns :data:`COLUMNS`; limits and p are missing with fewer documents than an interval
        needs.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    known = {name: single_head(str(name)) for name in sums["condition"].unique()}
    rows = sums[sums["condition"].map(known).notna()]
    kinds: dict[str, list[str]] = {}
    for name, one in known.items():
        if one is not None:
            kinds.setdefault(one[0], []).append(name)
    frames = [pd.DataFrame(_ranked(rows, names, confidence)) for names in kinds.values()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))


def holm(p: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Holm's adjusted p-values, and in how many comparisons each still stands.

    Args:
        p: p-values, shape ``(m,)``.

    Returns:
        Adjusted p-values, none smaller than one before it, and m − k + 1 for the k-th smallest;
        both shape ``(m,)``.
    """
    order = np.argsort(p, kind="stable")
    steps = len(p) - np.arange(len(p))
    adjusted, left = np.empty(len(p)), np.empty(len(p), dtype=np.int64)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps * p[order]))
    left[order] = steps
    return adjusted, left


def _ranked(rows: pd.DataFrame, names: list[str], confidence: float) -> Iterator[dict[str, object]]:
    """The heads of one kind, by falling delta."""
    own = rows[rows["condition"].isin(names)]
    by_document = own.pivot(index="document", columns="condition")
    sums = by_document["delta_sum"][names].fillna(0).to_numpy(float)
    targets = by_document["targets"][names].fillna(0).to_numpy(float)
    documents = (targets > 0).sum(axis=0)
    delta = ratio(sums.sum(axis=0), targets.sum(axis=0))
    error = standard_error(sums, targets)
    enough = documents >= FEWEST_DOCUMENTS
    freedom = np.maximum(1, documents - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error > 0, 2 * t.sf(np.abs(delta) / error, freedom), (delta == 0) * 1.0)
    adjusted, left = holm(p)
    half = t.isf((1 - confidence) / left / 2, freedom) * error
    for at in np.argsort(-delta, kind="stable"):
        kind, layer, head = single_head(names[at]) or ("", -1, -1)
        yield {
            "kind": kind,
            "layer": layer,
            "head": head,
            "delta": delta[at],
            "low": delta[at] - half[at] if enough[at] else np.nan,
            "high": delta[at] + half[at] if enough[at] else np.nan,
            "p_holm": adjusted[at] if enough[at] else np.nan,
            "targets": int(targets[:, at].sum()),
            "documents": int(documents[at]),
        }
