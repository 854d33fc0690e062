"""The answer of a run with protocol dense, its charts, and the importance of a window's tokens."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.open_run import OpenRun
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import UsageError
from probe.findings.answer import context_table, counts, sentence, warnings_of
from probe.findings.base import Drawn, Finding, Option, Plot, register
from probe.findings.chart import (
    Axis,
    Cells,
    Chart,
    EmptyChartError,
    Series,
    delta_axis,
    distance_axis,
    linear_axis,
)
from probe.findings.curve import chart as curve_chart
from probe.findings.dense.context_lengths import (
    KL,
    Measure,
    importance,
    lengths,
    longest_context,
    mean_importance,
)
from probe.findings.key_tokens import read_window
from probe.findings.table import Table, ranged, records
from probe.text import counted, one_line

MOST_NAMES = 40
"""So many tokens are written at an axis; of more only their places are shown."""
_NAMES: dict[Measure, str] = {"nll": "loss", "kl": KL}


def plot(
    runs: Sequence[OpenRun],
    *,
    document: str | None = None,
    window: int | None = None,
    measure: str = "nll",
) -> Drawn:
    """The importance of a window's tokens, for `probe plot`.

    Args:
        runs: One run.
        document: The document's id; by default that of the first window.
        window: The window's number; by default the first that fits.
        measure: ``nll`` or ``kl``.

    Raises:
        UsageError: If the run has no such window, another protocol, or no KL.
    """
    (run,) = runs
    longest_context(run)
    name, number = _window(run, document, window)
    frame = importance(run, name, number, measure="kl" if measure == "kl" else "nll")
    texts = _texts(run, name, number, int(frame["context"].min()), int(frame["position"].max()))
    yield "", chart(run, frame, texts)


OPTIONS = (
    Option(
        "--document",
        "document",
        "importance: the document's id; default: that of the first window.",
    ),
    Option("--window", "window", "importance: the window's number; default: the first.", type=int),
    Option(
        "--measure",
        "measure",
        "importance: of the loss, or of KL to the longest context.",
        choices=("nll", "kl"),
        default="nll",
    ),
)


@register("dense", order=10, level="answer", plots=[Plot("importance", plot, 1, OPTIONS)])
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding | None:
    """The answer of a run that measures every target behind every length of its context.

    Args:
        run: The open run.
        others: Not needed.
    """
    if not run.is_answered_by("dense"):
        return None
    by_length = run.once(lengths)
    tolerated = _tolerated(run)
    charts = [_importances(run), _losses(run)]
    if run.curve_conditions:  # for `figures/`
        charts.append(replace(curve_chart(run), file="curve", on_page=False))
    return Finding(
        "answer",
        "The answer",
        sentence(run),
        f"Measured on {', '.join(counts(run))}, each at every context length from 1 to"
        f" {by_length.context:,} tokens; compared with the longest.",
        tables=[_loss_by_length(run), *([tolerated] if tolerated.rows else [])],
        charts=[chart for chart in charts if chart.series],
        caveats=_caveats(run),
        # The curve writes the last two; they are named with the numbers of this answer.
        files={"contexts.csv": by_length.table, "summary.json": {}, "curve.csv": run.curve},
    )


def chart(run: OpenRun, frame: pd.DataFrame, texts: Sequence[str] | None = None) -> Chart:
    """Importance as colours: tokens of the text to the right, targets downwards.

    Cells that no context reaches have no value.

    Args:
        run: The run.
        frame: From :func:`importance`: ``position, context`` (indices in the document)``,
            importance`` (nats).
        texts: The texts of the tokens from the first of any context to the last target.

    Raises:
        EmptyChartError: If there is no importance to draw.
        ValueError: If there are not as many texts as tokens.
    """
    known = frame.dropna(subset="importance")
    if known.empty:
        raise EmptyChartError("no importance to draw")
    first, last = int(known["context"].min()), int(known["position"].max())
    if texts is not None and len(texts) != last + 1 - first:
        raise ValueError(f"{last + 1 - first} tokens have {len(texts)} texts")
    targets = np.sort(known["position"].unique())
    values = np.full((len(targets), last + 1 - first), np.nan)
    down = np.searchsorted(targets, known["position"].to_numpy())
    values[down, known["context"].to_numpy() - first] = known["importance"]
    # Written as Python writes a text, so that a line break or a blank is seen.
    names = [one_line(repr(text)[1:-1], 12) for text in texts or ()]
    return Chart(
        "Importance of each token of the context for each target",
        _across(first, last, names),
        _down(targets, [names[target - first] for target in targets] if names else []),
        cells=Cells(
            np.arange(first, last + 2, dtype=np.float64),
            np.arange(len(targets) + 1, dtype=np.float64),
            values,
            "importance (nats): blue lowers the loss",
        ),
        heading=[run.model, run.data],
    )


def _loss_by_length(run: OpenRun) -> Table:
    """Loss and KL at 0, 1, 2, 4, … and the longest context; the page folds it below the chart."""
    by_length = run.once(lengths)
    shown = by_length.table.set_index("context").loc[[0, *_powers(by_length.context)]]
    rows = [
        ["0 (unigram)" if length == 0 else f"{length:,}", *(_value(row, name) for name in _NAMES)]
        for length, row in shown.iterrows()
    ]
    return Table(
        "Loss and KL (nats per token) by context (tokens)",
        ["context", *_NAMES.values()],
        rows,
        shown="terminal",
        captioned=False,
        rule=True,
    )


def _tolerated(run: OpenRun) -> Table:
    """Smallest lengths from which delta, and KL, stay below each tolerance."""
    rows = {"delta": run.contexts, KL: run.once(lengths).kl_contexts}
    return context_table(
        run,
        "Context length (tokens) from which each stays below a tolerance",
        "below the tolerance from",
        {name: contexts for name, contexts in rows.items() if contexts},
    )


def _caveats(run: OpenRun) -> list[str]:
    by_length, number = run.once(lengths), len(run.documents)
    lines = []
    if number < FEWEST_DOCUMENTS:
        lines.append(f"{counted(number, 'document')}: an interval needs {FEWEST_DOCUMENTS}")
    for name, contexts in {"delta": run.contexts, KL: by_length.kl_contexts}.items():
        reasons = dict.fromkeys(reason for context in contexts for reason in context.reasons)
        lines += [f"{name} is unresolved: {reason}" for reason in reasons]
    # There is no noise condition in this protocol.
    lines += [line for line in warnings_of(run) if not line.startswith("no noise floor")]
    if by_length.table["nll"].isna().any():
        lines.append("no unigram estimate: frequencies.parquet is missing or cannot be read")
    return [*lines, *run.warnings]


def _importances(run: OpenRun) -> Chart:
    """Mean importance of the token at each distance, a line a measure."""
    by_length = run.once(lengths)
    tables = {
        name: mean_importance(run, measure).dropna(subset="importance")
        for measure, name in _NAMES.items()
        if measure in by_length.sums
    }
    rows = pd.concat(table.assign(measure=name) for name, table in tables.items())
    cells = [
        [f"{int(row['distance']):,}", str(row["measure"]), ranged(row, "importance", 4)]
        for row in records(rows[rows["distance"].isin(_powers(by_length.context))])
    ]
    caption = "Mean importance (nats) at some distances (tokens)"
    label = "distance (tokens; 1 is the last)"
    return Chart(
        "Mean importance of the token at each distance",
        distance_axis(float(by_length.context), label=label),
        delta_axis(rows[["importance", "low", "high"]].to_numpy(float), label="nats"),
        [
            _line(table, "distance", "importance", f"of the {name}", look)
            for look, (name, table) in enumerate(tables.items())
            if len(table)
        ],
        how=(
            "What the loss, or the KL to the longest context, falls by when the context grows by"
            " the token at this distance, over all targets; bands: interval over documents. The"
            " importance of single tokens of a window is drawn by probe plot --kind importance."
        ),
        tables=[Table(caption, ["distance", "of the", "importance"], cells)],
        heading=[run.model, run.data],
    )


def _losses(run: OpenRun) -> Chart:
    by_length = run.once(lengths)
    known = by_length.table.dropna(subset="nll")
    rows = known.rename(columns={"nll_low": "low", "nll_high": "high"})
    label = "context (tokens; 0 is the unigram estimate)"
    return Chart(
        "Loss by length of the context",
        distance_axis(float(by_length.context), label=label),
        linear_axis(rows[["nll", "low", "high"]].to_numpy(float), "loss (nats per token)"),
        [_line(rows, "context", "nll", "loss", 0)],
        how="Each target with every length of context before it; bands: interval over documents.",
        tables=[_loss_by_length(run)],
        heading=[run.model, run.data],
    )


def _line(rows: pd.DataFrame, across: str, value: str, name: str, look: int) -> Series:
    x, y, low, high = (rows[key].to_numpy(float) for key in (across, value, "low", "high"))
    titles = [f"{name}, {int(row[across]):,}: {ranged(row, value, 4)}" for row in records(rows)]
    return Series(name, x, y, look, low, high, titles=titles)


def _powers(context: int) -> list[int]:
    """1, 2, 4, … and the longest context."""
    return [*dict.fromkeys([*(1 << power for power in range(context.bit_length())), context])]


def _value(row: "pd.Series[float]", name: str) -> str:
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if np.isnan(value):
        return "–"
    return f"{value:.4f}" if np.isnan(low) else f"{value:.4f} ({low:.4f}–{high:.4f})"


def _across(first: int, last: int, names: Sequence[str]) -> Axis:
    """The tokens, written where there is room, else their places in the document."""
    label = "token of the context (index in the document)"
    if 0 < len(names) <= MOST_NAMES:
        ticks = [first + number + 0.5 for number in range(len(names))]
        return Axis(label, first, last + 1, "linear", ticks, names)
    ticks = [tick for tick in linear_axis([first, last + 1], label).ticks if first <= tick <= last]
    return Axis(label, first, last + 1, "linear", ticks)


def _down(targets: NDArray[np.int64], names: Sequence[str]) -> Axis:
    """The targets from the top down, in the same way."""
    step = 1
    if not 0 < len(names) <= MOST_NAMES:
        step = max(1, -(-len(targets) // 8))
        names = [f"{target:,}" for target in targets[::step]]
    ticks = [number + 0.5 for number in range(0, len(targets), step)]
    return Axis("target", len(targets), 0, "linear", ticks, names)


def _window(run: OpenRun, document: str | None, window: int | None) -> tuple[str, int]:
    """The first window that fits what was asked for."""
    rows = run.connection.execute('SELECT document, "window" FROM windows').fetchall()
    for name, number in rows:
        if document in (None, name) and window in (None, number):
            return str(name), int(number)
    asked = f"--document {document!r} --window {window}"
    known = ", ".join(list(dict.fromkeys(repr(name) for name, _ in rows))[:3])
    raise UsageError(f"{asked}: run '{run.path}' has no such window; its documents are {known}, …")


def _texts(run: OpenRun, document: str, number: int, first: int, last: int) -> list[str] | None:
    """The texts of the tokens *first* to *last* of a document, ``None`` for data without text."""
    window = read_window(run.connection, document, number)
    if window is None or window.text is None or not len(window.char_start):
        return None
    tokens = slice(first - window.start, last + 1 - window.start)
    ends = zip(window.char_start[tokens], window.char_end[tokens], strict=True)
    return [window.text[start:end] for start, end in ends]
