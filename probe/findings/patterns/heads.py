"""Single attention heads by what replacing each costs, with limits that hold for all at once."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from probe.analysis.bootstrap import Floats, ratio, standard_error
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import stacked
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.findings.base import Drawn
from probe.findings.chart import Axis, Cells, Chart, EmptyChartError
from probe.findings.patterns.tradeoff import SELF, common_targets, single_head
from probe.findings.table import Table
from probe.text import counted, difference, signed, slug

HEAD = ("kind", "attention", "layer", "head")
COLUMNS = (*HEAD, "delta", "low", "high", "p_holm", "targets", "documents")
"""Columns of ``heads.csv``: what stands in the head's place, the head and its attention (``self``,
or one of an encoder–decoder's three), delta with limits that hold for all heads of a kind at once
(nats per token), and the Holm-adjusted p of delta = 0."""
PRINTED, ON_PAGE = 10, 20
"""Single heads of a kind in its table in the terminal and on the page; the file has all."""


def plot(runs: Sequence[OpenRun]) -> Drawn:
    """What replacing single heads costs as colours, a figure a kind, for `probe plot`.

    Args:
        runs: One run.

    Raises:
        EmptyChartError: If the run replaces no single head.
    """
    heads = runs[0].once(single_heads)
    if heads.empty:
        raise EmptyChartError("no single head was replaced")
    for rows in pictured(heads):
        picture = chart(runs[0], rows)
        yield picture.file.removeprefix("heads"), picture


def pictured(heads: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The heads of :func:`ranked`, those of one kind and attention together: a picture each."""
    return (rows for _, rows in heads.groupby(["kind", "attention"], sort=False))


def single_heads(run: OpenRun) -> pd.DataFrame:
    """Rank the single heads of a run, see :func:`ranked`.

    Raises:
        ProbeError: If the run has no pattern.
    """
    return ranked(run.once(common_targets).sums, run.analysis.confidence)


def ranked(sums: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Rank heads, kind by kind, the one that costs most first.

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
    replaced = [
        (str(name), *head)
        for name in sums["condition"].unique()
        if (head := single_head(str(name)))
    ]
    heads = pd.DataFrame(replaced, columns=["condition", *HEAD])
    kinds = heads.groupby("kind", sort=False)
    frames = [_ranked(sums, of_kind, confidence) for _, of_kind in kinds]
    return stacked(frames, COLUMNS)[list(COLUMNS)]


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


def tables(heads: pd.DataFrame, alpha: float) -> Iterator[Table]:
    """The heads that cost most, kind by kind, and how many differ from 0 at all.

    Args:
        heads: Of :func:`ranked`.
        alpha: Holm-adjusted p below which a head is said to differ from 0.

    Yields:
        A table for the terminal and a longer one for the page of each kind.
    """
    for kind, rows in heads.groupby("kind", sort=False):
        caption = f"{kind} in place of each of {counted(len(rows), 'head')}"
        if rows["p_holm"].notna().any():
            raised = int(((rows["p_holm"] < alpha) & (rows["delta"] > 0)).sum())
            lowered = int(((rows["p_holm"] < alpha) & (rows["delta"] < 0)).sum())
            caption += (
                f": {raised:,} raise the loss, {lowered:,} lower it (Holm's p below {alpha:.2g}),"
                " the others are not significantly different from 0"
            )
        page = Table(caption, *ranking(heads, str(kind), alpha))
        yield replace(page, rows=page.rows[:PRINTED], shown="terminal")
        yield page


def ranking(heads: pd.DataFrame, kind: str, alpha: float) -> tuple[list[str], list[list[str]]]:
    """The heads of one kind that the page has, with what the other kinds cost in the same place.

    Those that differ from 0 come first, then the others, each by what it costs.

    Args:
        heads: Of :func:`ranked`.
        kind: What stands in place of them.
        alpha: Holm-adjusted p below which a head is said to differ from 0.

    Returns:
        The head of a table, and its cells, a row a head.
    """
    places = [*HEAD[1:]] if (heads["attention"] != SELF).any() else [*HEAD[2:]]
    delta = heads.pivot(index=places, columns="kind", values="delta")
    others = [str(name) for name in dict.fromkeys(heads["kind"]) if name != kind]
    rows = heads[heads["kind"] == kind]
    differs = rows["p_holm"] < alpha
    rows = rows.loc[differs.sort_values(ascending=False, kind="stable").index]
    cells = []
    for row in rows.head(ON_PAGE).to_dict("records"):
        p, place = row["p_holm"], tuple(row[name] for name in places)
        instead = [delta.loc[place, name] for name in others]
        cells.append(
            [
                *map(str, place),
                difference(row["delta"], row["low"], row["high"]),
                "–" if math.isnan(p) else f"{p:.2g}",
                *("–" if math.isnan(value) else signed(value) for value in instead),
            ]
        )
    return [*places, "delta (nats per token)", "p (Holm)", *others], cells


def chart(run: OpenRun, rows: pd.DataFrame) -> Chart:
    """Delta of one kind of replacement as colour: heads to the right, layers upwards.

    Heads that differ significantly from 0 have a dot; those that were not replaced are grey.

    Args:
        run: The run.
        rows: Of :func:`pictured`, of one kind and attention.

    Raises:
        EmptyChartError: If there is no head to draw.
        ValueError: If there are heads of several kinds or attentions.
    """
    if rows.empty:
        raise EmptyChartError("no single head was replaced")
    kinds = list(dict.fromkeys(zip(rows["kind"], rows["attention"], strict=True)))
    if len(kinds) > 1:
        several = ", ".join(" ".join(kind) for kind in kinds)
        raise ValueError(f"one kind of one attention is drawn at a time; got {several}")
    ((kind, attention),) = kinds
    of = "" if attention == SELF else f"{attention} "
    layer, head = (rows[name].to_numpy(np.int64) for name in ("layer", "head"))
    values = np.full((layer.max() + 1, head.max() + 1), np.nan)
    values[layer, head] = rows["delta"]
    differs = (rows["p_holm"] < 1 - run.analysis.confidence).to_numpy(bool)
    dots = [(float(x), float(y)) for x, y in zip(head[differs], layer[differs], strict=True)]
    title = f"{kind} in place of a head of {of}attention" if of else f"{kind} in place of a head"
    right, up = (np.arange(count + 1, dtype=np.float64) - 0.5 for count in values.shape[::-1])
    return Chart(
        title,
        _numbered("head", values.shape[1]),
        _numbered("layer", values.shape[0]),
        cells=Cells(right, up, values, "delta (nats per token)", dots),
        heading=[
            run.model,
            run.data,
            title + ("; dot: significant (Holm)" if dots else ""),
        ],
        file=f"heads-{slug(of + kind)}",
        on_page=False,
    )


def _numbered(label: str, count: int) -> Axis:
    """An axis of so many places, about ten of which have their number."""
    ticks = list(range(0, count, max(1, -(-count // 10))))
    return Axis(label, -0.5, count - 0.5, "linear", ticks)


def _ranked(rows: pd.DataFrame, heads: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """The heads of one kind, by falling delta."""
    names = heads["condition"].tolist()
    of_kind = rows[rows["condition"].isin(names)].astype({"condition": str})
    by_document = of_kind.pivot(index="document", columns="condition")
    sums = by_document["delta_sum"][names].fillna(0).to_numpy(float)
    targets = by_document["targets"][names].fillna(0).to_numpy(float)
    documents = (targets > 0).sum(axis=0)
    delta = ratio(sums.sum(axis=0), targets.sum(axis=0))
    error = standard_error(sums, targets)
    freedom = np.maximum(1, documents - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error > 0, 2 * stdtr(freedom, -np.abs(delta) / error), (delta == 0) * 1.0)
    half = -stdtrit(freedom, (1 - confidence) / len(names) / 2) * error
    frame = heads.assign(
        delta=delta,
        low=delta - half,
        high=delta + half,
        p_holm=holm(p),
        targets=targets.sum(axis=0).astype(np.int64),
        documents=documents,
    )
    frame.loc[frame["documents"] < FEWEST_DOCUMENTS, ["low", "high", "p_holm"]] = np.nan
    return frame.sort_values("delta", ascending=False, kind="stable")
