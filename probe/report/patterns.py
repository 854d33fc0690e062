"""Attention patterns on the page: what each costs in loss and how much of the cache it keeps."""

import pandas as pd

from probe.analysis.attended import Attended, attended, has_patterns, levels
from probe.analysis.attended_answer import by_width, costs, notes, sentences
from probe.analysis.beside import SERIES
from probe.analysis.heads_answer import ranking
from probe.analysis.intervals import in_words
from probe.plots.beside import SHIFT
from probe.plots.tradeoff import family
from probe.report.charts import Chart, Line, Rule
from probe.report.explained import Explained, Figure, Section, Table, figure
from probe.report.svg import Scale, delta_scale

FIRST = 20
"""Single heads of a kind in its table."""
TICKS = tuple(2.0**power for power in range(-30, 1))


def pattern_section(explained: Explained) -> Section | None:
    """What limiting attention costs, ``None`` for a run without patterns.

    Args:
        explained: The run.

    Raises:
        ProbeError: If its scores cannot be read.
    """
    summary = explained.summary
    if not has_patterns(summary.run.record):
        return None
    found = attended(summary.run.path, summary=summary, write=False)
    if not len(found.table) and not len(found.heads):
        return None
    first, *others = sentences(found) or ["Patterns of attention, and what they cost."]
    if not len(found.table):
        first, others = f"{len(found.heads):,} single heads were replaced, one at a time.", []
    known = found.table[found.table["kv_share"] > 0]
    figures = [_figure(found, known)] if len(known) else []
    figures += _beside_text(found)
    tables = [_patterns(found.table)] if len(found.table) else []
    tables += _heads(found)
    id_, title = "attention", "What attention must see"
    return Section(id_, title, first, figures, tables, notes(found), others)


def _figure(found: Attended, rows: pd.DataFrame) -> Figure:
    families = rows["condition"].astype(str).map(family)
    lines = [
        _points(rows[families == name], name, look)
        for look, name in enumerate(dict.fromkeys(families))
    ]
    best = rows[rows["frontier"].astype(bool)].sort_values("kv_share")
    if len(best) > 1:
        lines.append(_line(best, "frontier", len(lines)))
    low = float(rows["kv_share"].min())
    start = max((tick for tick in TICKS[:-1] if tick <= low), default=TICKS[0])
    threshold = min(levels(found.summary), default=0.01)
    chart = Chart(
        "Delta against the share of the KV cache kept",
        Scale(
            "share of the KV cache kept",
            start,
            1.0,
            "log",
            [tick for tick in TICKS if tick >= start],
            percent=True,
        ),
        delta_scale(rows[["delta", "low", "high"]].to_numpy(float), threshold),
        lines,
        [Rule(epsilon, text) for epsilon, text in levels(found.summary).items()],
    )
    how = (
        "Each mark is a pattern: what the loss rises by when attention sees only what it allows,"
        " with the interval over documents, against how much of the keys and values must be held."
        " The line joins the patterns that neither another nor full attention (100 %, 0) beats in"
        " both. The table below has all of them."
    )
    return figure(chart, how)


def _beside_text(found: Attended) -> list[Figure]:
    """Windows of attention at their width beside text cut off or hidden at that distance."""
    rows = found.beside[found.beside["series"].isin(SERIES)]
    if rows.empty:
        return []
    names = [name for name in SERIES if (rows["series"] == name).any()]
    lines = []
    for look, name in enumerate(names):
        own = rows[rows["series"] == name].sort_values("w")
        told = [f"{name}, w = {row['w']:,}: {in_words(row)} nats" for _, row in own.iterrows()]
        values = (own[column].to_numpy(float) for column in ("w", "delta", "low", "high"))
        w, delta, low, high = values
        w = w * SHIFT ** (look - (len(names) - 1) / 2)
        lines.append(Line(name, w, delta, look, low, high, None, told, points=True, apart=True))
    widths = sorted({int(w) for w in rows["w"]})
    chart = Chart(
        "A window of attention beside text cut off at the same distance",
        Scale("w (tokens)", widths[0] / 1.2, widths[-1] * 1.2, "log", widths),
        delta_scale(
            rows[["delta", "low", "high"]].to_numpy(float), min(levels(found.summary), default=0.01)
        ),
        lines,
        [Rule(epsilon, text) for epsilon, text in levels(found.summary).items()],
    )
    how = (
        "The same targets three times: every layer sees the nearest w keys (attend), far text is"
        " cut off at distance w (truncate), or hidden there at kept positions (hide). hide − attend"
        " is what layers carry over from beyond w, below 0 where that does more harm than good;"
        " truncate differs from hide by positions alone, that of the kept first token among them."
        " Before each target stand w intact tokens, or up to an eighth more (which favours cut-off"
        " and hidden text a little), so that more targets stand behind a larger w."
    )
    head, cells = by_width(found.beside)
    return [figure(chart, how, Table("Delta (nats a token) by width w", head, cells))]


def _points(rows: pd.DataFrame, name: str, look: int) -> Line:
    """The patterns of one family, each a mark with its interval."""
    return _line(rows.sort_values("kv_share"), name, look, points=True)


def _line(rows: pd.DataFrame, name: str, look: int, *, points: bool = False) -> Line:
    told = [f"{row['condition']}: {in_words(row)} nats a token" for _, row in rows.iterrows()]
    x, delta = rows["kv_share"].to_numpy(float), rows["delta"].to_numpy(float)
    low, high = (rows[name].to_numpy(float) if points else None for name in ("low", "high"))
    return Line(name, x, delta, look, low, high, None, told, points=points, apart=points)


def _patterns(rows: pd.DataFrame) -> Table:
    head, cells = costs(rows)
    more = [
        [f"{count:,}", "frontier" if best else ""]
        for count, best in zip(rows["targets"], rows["frontier"], strict=True)
    ]
    every = [row + own for row, own in zip(cells, more, strict=True)]
    return Table("Patterns, the smallest cache first", [*head, "targets", ""], every)


def _heads(found: Attended) -> list[Table]:
    """One table a kind, the heads that cost most first."""
    tables, alpha = [], 1 - found.summary.analysis.confidence
    for kind in dict.fromkeys(found.heads["kind"].astype(str)):
        head, cells = ranking(found.heads, kind, FIRST, alpha)
        title = f"{kind} in place of single heads: those told from 0, then those that cost most"
        tables.append(Table(title, head, cells))
    return tables
