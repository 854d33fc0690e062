"""Single attention heads by what replacing each costs, with limits that hold for all at once."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import t

from probe.analysis.bootstrap import Floats, ratio, standard_error
from probe.corpus.windows import FEWEST_DOCUMENTS

COLUMNS = ("kind", "layer", "head", "delta", "low", "high", "p_holm", "targets", "documents")
"""Columns of ``heads.csv``: what stands in the head's place, the head, delta with limits that
hold for all heads of a kind at once (nats a token), and the Holm-adjusted p of delta = 0."""
_HEAD = re.compile(r"attend\(heads\((.+), layers=\[([0-9]{1,9})\], heads=\[([0-9]{1,9})\]\)\)")


def single_head(condition: str) -> tuple[str, int, int] | None:
    """What stands in place of a head, its layer and number; ``None`` for any other condition."""
    found = _HEAD.fullmatch(condition)
    if found is None or " + " in found[1]:
        return None
    return found[1], int(found[2]), int(found[3])


def head_table(sums: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Rank the heads of a run, kind by kind, the one that costs most first.

    Limits are t-intervals over documents at confidence 1 − α/m for m heads (Bonferroni): they hold
    for all heads of a kind together, whatever is true of them. Holm's steps sharpen the p-values,
    but as intervals they would not: the largest p would have a plain one.

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


def holm(p: Floats) -> Floats:
    """Holm's adjusted p-values.

    Args:
        p: p-values, shape ``(m,)``.

    Returns:
        Adjusted p-values, none smaller than one before it in order of size, shape ``(m,)``.
    """
    order = np.argsort(p, kind="stable")
    steps = len(p) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps * p[order]))
    return adjusted


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
    adjusted = holm(p)
    half = t.isf((1 - confidence) / len(names) / 2, freedom) * error
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
