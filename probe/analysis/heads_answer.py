"""Single attention heads in words and tables: which of them the model cannot do without."""

import math

import pandas as pd

from probe.analysis.intervals import in_words
from probe.text import aligned, counted

SHOWN = 10
"""Single heads of a kind in a printed table; the file has all."""


def head_table(heads: pd.DataFrame, confidence: float) -> str:
    """The single heads that cost most, kind by kind, and how many differ from 0 at all.

    Args:
        heads: Of :func:`probe.analysis.heads.head_table`.
        confidence: Of its intervals.
    """
    alpha, parts = 1 - confidence, []
    for kind, rows in heads.groupby("kind", sort=False):
        told = f"{kind} in place of each of {counted(len(rows), 'head')}"
        if rows["p_holm"].notna().any():
            raised = int(((rows["p_holm"] < alpha) & (rows["delta"] > 0)).sum())
            lowered = int(((rows["p_holm"] < alpha) & (rows["delta"] < 0)).sum())
            told += (
                f": {raised:,} raise the loss, {lowered:,} lower it (Holm's p below {alpha:.2g}),"
                " the others are not told from 0"
            )
        head, cells = ranking(heads, str(kind), SHOWN, alpha)
        parts.append(f"{told}\n{aligned([head, *cells])}")
    return "\n\n".join(parts)


def ranking(
    heads: pd.DataFrame, kind: str, count: int, alpha: float
) -> tuple[list[str], list[list[str]]]:
    """The first heads of one kind, beside what the other kinds cost in the same place.

    Those told from 0 come first, then the others, each by what it costs.

    Args:
        heads: Of :func:`probe.analysis.heads.head_table`.
        kind: What stands in place of them.
        count: How many of them at most.
        alpha: Holm-adjusted p below which a head is told from 0.

    Returns:
        The head of a table, and its cells, a row a head.
    """
    delta = heads.pivot(index=["layer", "head"], columns="kind", values="delta")
    others = [str(name) for name in dict.fromkeys(heads["kind"]) if name != kind]
    rows = heads[heads["kind"] == kind]
    told = rows["p_holm"] < alpha
    rows = rows.loc[told.sort_values(ascending=False, kind="stable").index]
    cells = []
    for row in rows.head(count).to_dict("records"):
        p, place = row["p_holm"], (row["layer"], row["head"])
        beside = [delta.loc[place, name] for name in others]
        cells.append(
            [
                *map(str, place),
                in_words(row),  # type: ignore[arg-type]
                "–" if math.isnan(p) else f"{p:.2g}",
                *("–" if math.isnan(value) else f"{value:+.4f}" for value in beside),
            ]
        )
    return ["layer", "head", "delta (nats a token)", "p (Holm)", *others], cells
