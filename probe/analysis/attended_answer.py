"""The patterns of a run in words: with how many keys the loss stays, and a table."""

import math
import re

import pandas as pd

from probe.analysis.aligned import aligned
from probe.analysis.attended import Attended, cheapest
from probe.analysis.groups import in_words
from probe.analysis.tolerance import Tolerance
from probe.analysis.words import counted
from probe.windows import FEWEST_DOCUMENTS

WIDEST = 60
"""Characters of a pattern in a printed table; of a longer one each term has a line."""
SHOWN = 10
"""Single heads of a kind in a printed table; the file has all."""


def answer(found: Attended) -> str:
    """The whole answer as plain text: sentences, a table, notes."""
    told = "\n".join(sentences(found)) if len(found.table) else ""
    parts = (told, table(found), beside_table(found), head_table(found), _noted(found))
    return "\n\n".join(part for part in parts if part)


def sentences(found: Attended) -> list[str]:
    """What holds at each tolerance, a pattern that serves several told at the strictest."""
    lines: dict[str | None, str] = {}
    for tolerance in found.summary.analysis.tolerances:
        if tolerance.unit in ("perplexity", "nats"):  # others differ from target to target
            best = cheapest(found.table, tolerance)
            key = None if best is None else str(best["condition"])
            lines.setdefault(key, sentence(found, tolerance))
    return list(lines.values())


def sentence(found: Attended, tolerance: Tolerance) -> str:
    """With how many keys this model on this text loses less than a tolerance."""
    summary, rows = found.summary, found.table
    subject = f"{summary.model} on {summary.data}"
    at = tolerance.text.replace("%", " % of perplexity")
    best = cheapest(rows, tolerance)
    if best is not None:
        share = f"{best['kv_share']:.0%} of the KV cache".replace("%", " %")
        keys = f" with {best['keys']:,.0f} keys a query, {share}" if best["keys"] > 0 else ""
        name = ranged(str(best["condition"]))
        return f"{subject} loses less than {at}{keys} ({name}: {in_words(best)} nats a token)."
    if summary.documents < FEWEST_DOCUMENTS:
        few = counted(summary.documents, "document")
        return f"{subject}: unresolved at {at}: {few}, an interval needs {FEWEST_DOCUMENTS}."
    return f"{subject}: no pattern of this run is known to lose less than {at}."


def table(found: Attended) -> str:
    """Every pattern with its keys, its shares and its delta, the smallest cache first."""
    head, cells = costs(found.table)
    lines = [[*head, ""]]
    for (name, *others), best in zip(cells, found.table["frontier"], strict=True):
        first, *more = name.split(" + ") if len(name) > WIDEST else [name]
        lines.append([first, *others, "frontier" if best else ""])
        lines += [[f"  + {term}", *[""] * len(head)] for term in more]
    return aligned(lines, rule=True) if cells else ""


def costs(rows: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The table of patterns as text: its head, and a row of cells for each pattern.

    Args:
        rows: Of :func:`probe.analysis.attended.attended`.
    """
    shares = {"kv_share": "KV cache", "flops_share": "FLOPs", "forward_share": "forward"}
    if rows["forward_share"].isna().all():
        del shares["forward_share"]
    cells = [
        [
            _shown(str(row["condition"])),
            "–" if math.isnan(row["keys"]) else f"{row['keys']:,.0f}",
            *("–" if math.isnan(row[name]) else f"{100 * row[name]:.1f} %" for name in shares),
            in_words(row),  # type: ignore[arg-type]
        ]
        for row in rows.to_dict("records")
    ]
    return ["pattern", "keys", *shares.values(), "delta (nats a token)"], cells


def _shown(condition: str) -> str:
    """A pattern as its table names it, marked where the model never learned anything like it."""
    pattern = ranged(condition[len("attend(") : -1])
    return f"{pattern} (untrained, an upper bound)" if is_hard_coded(pattern) else pattern


def ranged(pattern: str) -> str:
    """A pattern whose lists of consecutive numbers are told by their ends: ``layers=[15–29]``."""

    def told(found: re.Match[str]) -> str:
        numbers = [int(one) for one in found[0].split(", ")]
        runs: list[list[int]] = []
        for number in numbers:
            if runs and number == runs[-1][-1] + 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        return ", ".join(
            f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
        )

    return re.sub(r"(?<=\[)[0-9]{1,9}(, [0-9]{1,9})+(?=\])", told, pattern)


def head_table(found: Attended) -> str:
    """The single heads that cost most, kind by kind, and how many differ from 0 at all."""
    alpha, parts = 1 - found.summary.analysis.confidence, []
    for kind, rows in found.heads.groupby("kind", sort=False):
        told = f"{kind} in place of each of {counted(len(rows), 'head')}"
        if rows["p_holm"].notna().any():
            raised = int(((rows["p_holm"] < alpha) & (rows["delta"] > 0)).sum())
            lowered = int(((rows["p_holm"] < alpha) & (rows["delta"] < 0)).sum())
            told += (
                f": {raised:,} raise the loss, {lowered:,} lower it, the others are not told from 0"
            )
        head, cells = ranking(found.heads, str(kind), SHOWN)
        parts.append(f"{told}\n{aligned([head, *cells])}")
    return "\n\n".join(parts)


def beside_table(found: Attended) -> str:
    """Windows of attention and text cut off or hidden at their width, on the same targets."""
    if found.beside.empty:
        return ""
    head, cells = by_width(found.beside)
    told = "Beside text cut off or hidden at distance w, on the same targets (nats a token)"
    return f"{told}\n{aligned([head, *cells])}"


def by_width(rows: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Widths down, series and their differences across: the head of a table, and its cells.

    Args:
        rows: Of :func:`probe.analysis.beside.beside`.
    """
    names = list(dict.fromkeys(rows["series"].astype(str)))
    cells = []
    for w, own in rows.groupby("w"):
        told = {str(row["series"]): in_words(row) for _, row in own.iterrows()}
        cells.append([f"{w:,}", *(told.get(name, "–") for name in names)])
    return ["w", *names], cells


def ranking(heads: pd.DataFrame, kind: str, count: int) -> tuple[list[str], list[list[str]]]:
    """The first heads of one kind, beside what the other kinds cost in the same place.

    Those whose interval leaves 0 out come first, then the others, each by what it costs.

    Args:
        heads: Of :func:`probe.analysis.heads.head_table`.
        kind: What stands in place of them.
        count: How many of them at most.

    Returns:
        The head of a table, and its cells, a row a head.
    """
    delta = heads.pivot(index=["layer", "head"], columns="kind", values="delta")
    others = [str(name) for name in dict.fromkeys(heads["kind"]) if name != kind]
    rows = heads[heads["kind"] == kind]
    told = (rows["low"] > 0) | (rows["high"] < 0)
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


def notes(found: Attended) -> list[str]:
    """What a reader must know of the table."""
    told = []
    if len(found.heads):
        told.append(
            "single heads: those whose interval leaves 0 out come first, then those that cost most;"
            " limits hold for all of a kind together (Bonferroni), p is Holm's; heads.csv has all"
        )
    if len(found.table):
        told.append(
            "keys: the most that a query sees, mean over layers and heads; KV cache and FLOPs of"
            " attention by formula, as shares of full attention at this window's length"
        )
    if found.table["forward_share"].notna().any():
        told.append(
            "forward: the time of a forward of one window whose hidden blocks are skipped, measured"
            " in this run, as a share of that with full attention"
        )
    if len(found.heads) and found.heads["kind"].nunique() > 1:
        told.append("the last columns: what the other kinds cost in place of the same head")
    if any(is_hard_coded(name) for name in _names(found)):
        told.append(
            "hard-coded heads in a model that was not trained with them: what they cost is an upper"
            " bound, all heads at once above all"
        )
    none = found.table.loc[found.table["kv_share"] == 0, "condition"].astype(str).tolist()
    if none:
        told.append(f"keep no keys, and stand on no logarithmic axis: {', '.join(none)}")
    if found.left:
        told.append(
            f"{counted(found.left, 'target')} of each pattern left out: they are compared on the"
            " targets that every one of them hides something from"
        )
    if idle := found.table.loc[found.table["idle"].astype(bool), "condition"].astype(str).tolist():
        told.append(
            "hide nothing in windows of this length; no answer, what they lose is the noise of the"
            f" patterns' arithmetic: {', '.join(idle)}"
        )
    return told


def is_hard_coded(name: str) -> bool:
    """Whether a pattern puts weights of its own in place of a head's."""
    return re.search(r"\b(gaussian|(first|last)_token|zero|mean|uniform)\b", name) is not None


def _names(found: Attended) -> list[str]:
    return [*found.table["condition"].astype(str), *found.heads["kind"].astype(str)]


def _noted(found: Attended) -> str:
    return "\n".join(f"- {note}" for note in notes(found))
