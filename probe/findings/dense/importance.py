"""What each token of the context adds to the prediction of each target."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.open_run import OpenRun
from probe.errors import ProbeError, UsageError
from probe.findings.base import Drawn, Option, Plot
from probe.findings.chart import Axis, Cells, Chart, EmptyChartError, linear_axis
from probe.findings.dense.lengths import (
    Measure,
    lengths,
    limits,
    longest_context,
    measured,
    unigram_of_window,
)
from probe.text import one_line

MOST_NAMES = 40
"""So many tokens are written at an axis; of more only their places are shown."""


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


PLOT = Plot(
    "importance",
    plot,
    1,
    [
        Option(
            "--document",
            "document",
            "importance: the document's id; default: that of the first window.",
        ),
        Option(
            "--window",
            "window",
            "importance: the window's number; default: the first.",
            type=int,
        ),
        Option(
            "--measure",
            "measure",
            "importance: of the loss, or of KL to the longest context.",
            choices=("nll", "kl"),
            default="nll",
        ),
    ],
)


def importance(
    run: OpenRun, document: str, window: int, *, measure: Measure = "nll"
) -> pd.DataFrame:
    """What each token of the context adds to the prediction of each target of a window.

    The importance of the token at distance *j* (1 is the token right before the target) is what the
    loss, or the KL to the longest context, falls by when the context grows from *j* − 1 to *j*
    tokens and so begins with it. A target's importances add up to its loss by the unigram estimate
    less its loss with the longest context. KL has no value for the empty context, whose
    distribution is not compared with the model's: there distance 1 is missing.

    Args:
        run: The run.
        document: The document's id.
        window: The window's number in it.
        measure: ``nll`` or ``kl``.

    Returns:
        A row a target and distance: ``position`` (of the target in the document)``, distance,
        context`` (position of the token)``, importance`` (nats).

    Raises:
        UsageError: If the run has another protocol, no such window, or no KL.
        ProbeError: If rows are missing.

    Source: Cífka & Liutkus 2023, section 3 (differential importance scores).
    """
    context = longest_context(run)
    if measure not in measured(run):
        raise UsageError(f"run '{run.path}' has no {measure}: add it to its measures")
    rows = run.connection.execute(
        f"""SELECT position, distance, {measure}::DOUBLE AS value FROM scores
        WHERE document = $document AND "window" = $number AND condition = 'truncate'
        ORDER BY position, distance""",
        {"document": document, "number": window},
    ).df()
    if rows.empty:
        raise UsageError(f"run '{run.path}' has no window {window} of document {document!r}")
    positions = rows["position"].unique()
    if len(rows) != len(positions) * context:
        raise ProbeError(f"rows of window {window} of document {document!r} are missing")
    values = np.empty((len(positions), context + 1))
    values[:, 0] = unigram_of_window(run, document, window) if measure == "nll" else np.nan
    values[:, 1:] = rows["value"].to_numpy().reshape(len(positions), context)
    rows["context"] = rows["position"] - rows["distance"]
    rows["importance"] = -np.diff(values, axis=1).ravel()
    return rows[["position", "distance", "context", "importance"]]


def token_importance(frame: pd.DataFrame) -> pd.DataFrame:
    """What each token of a window adds to all targets behind it.

    Args:
        frame: From :func:`importance`.

    Returns:
        A row a token: ``position, total, mean`` (nats)``, targets`` (those it was in sight of).
    """
    known = frame.dropna(subset="importance")
    by_token = known.groupby("context")["importance"].agg(total="sum", mean="mean", targets="count")
    return by_token.rename_axis("position").reset_index()


def mean_importance(run: OpenRun, measure: Measure = "nll") -> pd.DataFrame:
    """Mean importance of the token at each distance over a run, with its interval.

    Args:
        run: A run with protocol dense.
        measure: ``nll`` or ``kl``.

    Returns:
        A row a distance: ``distance`` (tokens)``, importance, low, high`` (nats; limits are missing
        with fewer documents than an interval needs).

    Raises:
        UsageError: If the measure was not scored.
    """
    by_length = run.once(lengths)
    if measure not in by_length.sums:
        raise UsageError(f"run '{run.path}' has no {measure}")
    steps = -np.diff(by_length.sums[measure], axis=1)
    mean, low, high, _ = limits(run, steps, by_length.targets)
    distances = np.arange(1, by_length.context + 1)
    return pd.DataFrame({"distance": distances, "importance": mean, "low": low, "high": high})


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
            "importance (nats): blue helps",
        ),
        heading=[run.model, run.data],
    )


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


def _texts(run: OpenRun, document: str, window: int, first: int, last: int) -> list[str] | None:
    """The texts of the tokens *first* to *last* of a document, ``None`` for data without text."""
    start, starts, ends, text = run.connection.execute(
        """SELECT start, char_start, char_end, text FROM windows
        WHERE document = $document AND "window" = $number""",
        {"document": document, "number": window},
    ).fetchall()[0]
    if text is None or starts is None or ends is None:
        return None
    return [text[starts[at] : ends[at]] for at in range(first - start, last + 1 - start)]
