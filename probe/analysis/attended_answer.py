"""The patterns of a run in words: with how many keys the loss stays, and a table."""

import math
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from probe.analysis.attended import PREFIX, Attended, cheapest
from probe.analysis.heads_answer import head_table
from probe.analysis.intervals import in_words
from probe.analysis.tolerance import Tolerance, spaced
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.text import aligned, counted, in_blocks

WIDEST = 60
"""Characters of a pattern in a printed table; of a longer one each term has a line."""


def answer(found: Attended) -> str:
    """The whole answer as plain text: sentences, a table, notes."""
    told = "\n".join(sentences(found)) if len(found.table) else ""
    heads = head_table(found.heads, found.summary.analysis.confidence)
    parts = (told, table(found), beside_table(found), heads, _noted(found))
    return "\n\n".join(part for part in parts if part)


def sentences(found: Attended) -> list[str]:
    """What holds at each tolerance: of one pattern at the strictest, of none at all of them."""
    plain = [
        one
        for one in found.summary.analysis.tolerances
        if one.unit in ("perplexity", "nats")  # others differ from target to target
    ]
    lines: dict[str, str] = {}
    none = []
    for tolerance in plain:
        best = cheapest(found.table, tolerance)
        if best is None:
            none.append(tolerance)
        else:
            lines.setdefault(str(best["condition"]), _serves(found, tolerance, best))
    return [*([_none(found, none)] if none else []), *lines.values()]


def sentence(found: Attended, tolerance: Tolerance) -> str:
    """With how many keys this model on this text loses less than a tolerance."""
    best = cheapest(found.table, tolerance)
    return _none(found, [tolerance]) if best is None else _serves(found, tolerance, best)


def _serves(found: Attended, tolerance: Tolerance, best: "pd.Series[Any]") -> str:
    share = f"{best['kv_share']:.0%} of the KV cache".replace("%", " %")
    keys = f" with {best['keys']:,.0f} keys a query, {share}" if best["keys"] > 0 else ""
    name = ranged(str(best["condition"]))
    return (
        f"{_subject(found)} loses less than {_at([tolerance])}{keys} ({name}: {in_words(best)} nats"
        " a token)."
    )


def _none(found: Attended, tolerances: Sequence[Tolerance]) -> str:
    """That no pattern is known to lose less, and what the best of them does."""
    at, subject = _at(tolerances), _subject(found)
    if found.summary.documents < FEWEST_DOCUMENTS:
        few = counted(found.summary.documents, "document")
        return f"{subject}: unresolved at {at}: {few}, an interval needs {FEWEST_DOCUMENTS}."
    rows = found.table
    rows = rows[rows["condition"].astype(str).str.startswith(PREFIX) & ~rows["idle"].astype(bool)]
    told = f"{subject}: no pattern of this run is known to lose less than {at}"
    if rows.empty:
        return f"{told}."
    least = rows.sort_values("delta").iloc[0]
    name = ranged(str(least["condition"]))
    return f"{told}; the least is lost by {name}: {in_words(least)} nats a token."


def _subject(found: Attended) -> str:
    return f"{found.summary.model} on {found.summary.data}"


def _at(tolerances: Sequence[Tolerance]) -> str:
    """Tolerances in a sentence: ``1 %, 2 % or 5 % of perplexity or 0.1 nats``."""
    shares = [spaced(one.text) for one in tolerances if one.unit == "perplexity"]
    nats = [spaced(one.text) for one in tolerances if one.unit == "nats"]
    parts = [f"{_either(shares)} of perplexity"] if shares else []
    return _either([*parts, _either(nats)] if nats else parts)


def _either(texts: Sequence[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)} or {last}" if first else last


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
            *(
                "–"
                if math.isnan(row[name])
                else f"{100 * row[name]:.{0 if name == 'forward_share' else 1}f} %"
                for name in shares
            ),
            in_words(row),  # type: ignore[arg-type]
        ]
        for row in rows.to_dict("records")
    ]
    return ["pattern", "keys", *shares.values(), "delta (nats a token)"], cells


def _shown(condition: str) -> str:
    """A pattern as its table names it, marked where the model never learned anything like it."""
    if not condition.startswith(PREFIX):
        return f"{condition}, far text cut off"
    pattern = ranged(condition[len(PREFIX) : -1])
    if "project(" in pattern:
        return f"{pattern} (untrained, a lower baseline)"
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


def beside_table(found: Attended) -> str:
    """Windows of attention and text cut off or hidden at their width, on the same targets."""
    if found.beside.empty:
        return ""
    head, cells = by_width(found.beside)
    told = "Beside text cut off or hidden at distance w, on the same targets (nats a token)"
    return f"{told}\n{in_blocks([head, *cells])}"


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


def notes(found: Attended) -> list[str]:
    """What a reader must know of the table."""
    told = []
    if len(found.heads):
        told.append(
            "single heads: those told from 0 (Holm's p below"
            f" {1 - found.summary.analysis.confidence:.2g}) come first, then those that cost most;"
            " limits hold for all of a kind together (Bonferroni) and are a little wider than p"
            " says; heads.csv has all"
        )
    if len(found.table):
        told.append(
            "keys: the most that a query sees, mean over layers and heads; KV cache and FLOPs of"
            " attention by formula, as shares of full attention at this window's length"
        )
    if found.table["frontier"].any():
        told.append(
            "frontier: neither another pattern of the run nor full attention keeps as little of the"
            " cache and loses as little, by estimates"
        )
    if found.table["forward_share"].notna().any():
        told.append(
            "forward: the time of a forward of one window whose hidden blocks are skipped, the"
            " smaller of two, as a share of that with full attention; a few per cent are noise, and"
            " blocks are 128 keys wide, so that short windows have little to skip"
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
