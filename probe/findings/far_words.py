"""The words that need far context: tokens and words by their mean delta at far distances."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from probe.analysis.open_run import OpenRun
from probe.classes.source import BATCH, batches
from probe.classes.tokens import TokenCounts, WindowTokens
from probe.findings.base import Finding, register
from probe.findings.table import Place, Table, between, decimals, records
from probe.text import counted, one_line

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

NONE: Integers = np.empty(0, dtype=np.int64)
OCCURRENCES, DOCUMENTS = 3, 2
"""Fewest occurrences, and documents with one, of words and tokens that are ranked."""
NAMED, SHOWN, PLACED, PLACES = 3, 15, 10, 3
"""Words of the sentence; rows of a table; words of which places are shown; places of each."""
KEPT = 1000
"""Words, and tokens, in ``far_words.csv``."""
SIGNS = str.maketrans({" ": "␣", "\n": "↵", "\t": "→"})
"""What stands for the blanks of a token."""
LEAST = 1e-9
"""Smallest standard error (nats): below it lies rounding."""
LONGEST = 30
"""Characters of a word that are shown."""
AROUND = 36
"""Characters of the text on either side of a word that is shown in its place."""
COLUMNS = (
    *("kind", "text", "token_id", "mean", "low", "standard_error", "q_value"),
    *("occurrences", "documents", "condition", "distance_from", "distance_to"),
)
"""Columns of ``far_words.csv``: ``kind`` is ``word`` or ``token``; ``text`` is empty for data
without text, ``token_id`` for words; ``mean`` delta, the lower limit ``low`` of its interval, by
which the rows are sorted, and its standard error in nats, for a word of the sum over its tokens;
``q_value`` of Benjamini and Hochberg; occurrences and documents as numbers; distances in tokens,
``distance_to`` exclusive. At most the first 1,000 words and the first 1,000 tokens."""
LIMITS = (
    "The standard error of a mean is that over documents, but at least what as many occurrences"
    " would have with the variance of all words together: two documents may agree by chance."
)
SELECTED = (
    "These are the largest of many: the lower limit, by which they are ranked, holds for each"
    " alone, and the means of the first are likely smaller in other documents. Significance is"
    " that of all tests together (Benjamini–Hochberg)."
)


@register("far_words", order=102)
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding | None:
    """The tokens and words with the largest mean delta at far distances, and where they stand.

    Args:
        run: The open run.
        others: Not needed.
    """
    span = far_distances(run)
    if span is None:
        return None
    condition, confidence = str(run.main_condition), run.analysis.confidence
    found = _Occurrences(run, condition, span)
    words, tokens = (ranked(found.sums(kind), confidence) for kind in ("word", "token"))
    every = pd.concat([_spelled(found, "word", words), _spelled(found, "token", tokens)])
    files = {"far_words.csv": every.assign(condition=condition, **span)[list(COLUMNS)]}
    nothing = Finding("far_words", "Words that need far context", files=files)
    kind, told = ("word", words) if len(words) else ("token", tokens)
    if told.empty:
        return nothing
    clear = every[every["low"] > 0]
    first = records(clear[clear["kind"] == kind].head(PLACED))
    count = int((told["q_value"] <= 1 - confidence).sum())
    sentence = f"Under {condition} at {between(span)} {_sentence(kind, first, count, len(told))}"
    parts = ((name, clear[clear["kind"] == name]) for name in ("word", "token"))
    tables = [_table(name, rows, confidence) for name, rows in parts if len(rows)]
    return replace(
        nothing,
        sentence=sentence,
        headlines=[sentence] if count else [],
        tables=[*tables, _places(run, found, kind, first)] if first else tables,
        caveats=[
            f"What occurs less than {OCCURRENCES} times, or in less than {DOCUMENTS} documents, is"
            " left out.",
            LIMITS,
            SELECTED,
        ],
    )


def far_distances(run: OpenRun) -> dict[str, int] | None:
    """The far half of the distances that the run's main condition was measured at.

    Args:
        run: The open run.

    Returns:
        ``distance_from, distance_to`` (tokens) of all bins that begin at half the longest distance
        or beyond, the last bin at least; ``None`` without a bin that may answer.
    """
    if not run.has_length or run.main_condition is None:
        return None
    curve = run.curve
    bins = curve[(curve["condition"] == run.main_condition) & ~curve["grey"].astype(bool)]
    if bins.empty:
        return None
    end = int(bins["distance_to"].max())
    begins = bins["distance_from"]
    far = begins[begins >= end / 2]
    start = far.min() if len(far) else begins.max()
    return {"distance_from": int(start), "distance_to": end}


def ranked(sums: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Means with their lower limits, the highest lower limit first.

    The standard error is that of a ratio of sums over documents, but at least what as many
    occurrences would have with the variance of all rows: two documents may agree by chance.

    Args:
        sums: A row for each key and document: ``key, document, occurrences, delta_sum`` (nats).
        confidence: Of the two-sided interval whose lower limit is taken.

    Returns:
        ``key, occurrences, documents, mean, standard_error, low, q_value`` of all that occur often
        enough.

    Source: of the q-value Benjamini & Hochberg 1995, here of one-sided tests of a mean above 0.
    """
    by_key = sums.groupby("key", sort=True)
    total = by_key.agg(
        occurrences=("occurrences", "sum"), documents=("document", "size"), sum=("delta_sum", "sum")
    )
    total["mean"] = total.pop("sum") / total["occurrences"]
    often = (total["occurrences"] >= OCCURRENCES) & (total["documents"] >= DOCUMENTS)
    total = total[often]
    rows = sums[sums["key"].isin(total.index)]
    of_key = total.loc[rows["key"]]
    count = rows["occurrences"].to_numpy(np.float64)
    residual = rows["delta_sum"].to_numpy(np.float64) - of_key["mean"].to_numpy() * count
    squares = pd.DataFrame({"key": rows["key"], "squares": residual**2, "counts": count**2})
    squares = squares.groupby("key", sort=True).sum()
    n, documents = (total[name].to_numpy(np.float64) for name in ("occurrences", "documents"))
    squared, counts = (squares[name].to_numpy() for name in ("squares", "counts"))
    # The first is exact where documents have equal counts, the second where variances are equal.
    between_documents = squared * documents / np.maximum(documents - 1, 1) / n**2
    free = (n - counts / n).sum()
    pooled = squared.sum() / free / n if free > 0 else np.inf
    error = np.sqrt(np.maximum(np.maximum(between_documents, pooled), LEAST**2))
    low = total["mean"] - ndtri((1 + confidence) / 2) * error
    p = ndtr(-total["mean"].to_numpy() / error)
    frame = total.assign(standard_error=error, low=low, q_value=_adjusted(p)).reset_index()
    return frame.sort_values(["low", "key"], ascending=[False, True], ignore_index=True)


def _adjusted(p: Floats) -> Floats:
    """The q-values of Benjamini and Hochberg: the smallest rate at which each would pass."""
    order = np.argsort(-p)
    q = np.empty_like(p)
    q[order] = np.minimum.accumulate(p[order] * len(p) / np.arange(len(p), 0, -1))
    return np.minimum(q, 1)


class _Occurrences:
    """The targets at far distances, by token and by word.

    Args:
        run: The open run.
        condition: The condition.
        span: ``distance_from, distance_to`` (tokens).
    """

    def __init__(self, run: OpenRun, condition: str, span: Mapping[str, int]) -> None:
        self._texts: dict[int, str] = {}
        self._words: dict[str, int] = {}
        self._documents: dict[str, int] = {}
        none = _summed(NONE, NONE, NONE.astype(np.float64), 0, 0)
        self._found = {"token": [none], "word": [none]}
        deltas = _deltas(run, condition, span)
        for window in _windows(run):
            known = deltas.get((window.document, window.window))
            if known is not None:
                self._read(window, *known)
        self._names, self._spellings = list(self._documents), list(self._words)

    def sums(self, kind: str) -> pd.DataFrame:
        """``key, document, occurrences, delta_sum`` (nats) of all words, or all tokens."""
        groups = self._rows(kind).groupby(["key", "document"], as_index=False, sort=True)
        return groups[["occurrences", "delta_sum"]].sum()

    def text(self, kind: str, key: int) -> str:
        """How a token or a word is written; empty where that is not known."""
        return self._spellings[key] if kind == "word" else self._texts.get(key, "")

    def places(self, kind: str, key: int) -> list[tuple[Place, float]]:
        """Where the largest deltas (nats) of a token or a word stand, one a document."""
        every = self._rows(kind)
        own = every[every["key"] == key].sort_values(
            ["largest", "document", "window"], ascending=[False, True, True]
        )
        return [
            (Place(self._names[row["document"]], row["window"], row["position"]), row["largest"])
            for row in records(own.drop_duplicates("document").head(PLACES))
        ]

    def _rows(self, kind: str) -> pd.DataFrame:
        """A row a key and window, see :func:`_summed`."""
        frames = self._found[kind]
        if len(frames) > 1:
            frames[:] = [pd.concat(frames, ignore_index=True)]
        return frames[0]

    def _read(self, window: WindowTokens, positions: Integers, deltas: Floats) -> None:
        """Enter a window's targets, and the words all of whose tokens are among them."""
        where = self._documents.setdefault(window.document, len(self._documents)), window.window
        places = positions - window.start
        tokens = _summed(window.ids[places], positions, deltas, *where)
        self._found["token"].append(tokens)
        if window.text is None:
            return
        for key, position in zip(tokens["key"], tokens["position"], strict=True):
            if key not in self._texts:
                self._texts[key] = window.texts[position - window.start] or ""
        spans = window.words
        whole = np.flatnonzero((spans[:, 0] >= 0) & (spans[:, 1] < len(window.text)))
        delta = np.full(len(window), np.nan)
        delta[places] = deltas
        starts, first, word = np.unique(spans[whole, 0], return_index=True, return_inverse=True)
        sums = np.bincount(word, delta[whole], minlength=len(starts)).astype(np.float64)
        measured = ~np.isnan(sums)  # a token that is no target here leaves its word out
        first = whole[first][measured]
        numbers = [
            self._words.setdefault(window.text[start:end], len(self._words))
            for start, end in spans[first].tolist()
        ]
        keys = np.array(numbers, dtype=np.int64)
        words = _summed(keys, first + window.start, sums[measured], *where)
        self._found["word"].append(words)


def _deltas(
    run: OpenRun, condition: str, span: Mapping[str, int]
) -> dict[tuple[str, int], tuple[Integers, Floats]]:
    """Positions and mean deltas (nats) of the targets at some distances, by window.

    A target that was measured at several of them counts once. What is kept is two numbers a target.
    """
    rows = run.connection.execute(
        """SELECT document::VARCHAR, "window", list(position ORDER BY position),
            list(delta ORDER BY position)
        FROM (
            SELECT document, "window", position, avg(delta) AS delta FROM targets
            WHERE condition = $condition AND NOT grey
                AND distance >= $distance_from AND distance < $distance_to
            GROUP BY ALL
        ) GROUP BY ALL""",
        {"condition": condition, **span},
    )
    found = {}
    while some := rows.fetchmany(BATCH):
        for document, number, positions, deltas in some:
            found[document, number] = np.array(positions, np.int64), np.array(deltas, np.float64)
    return found


def _summed(
    keys: Integers, positions: Integers, deltas: Floats, document: int, window: int
) -> pd.DataFrame:
    """A row a key: how often it occurs, its sum, and its largest delta with its position."""
    order = np.lexsort((positions, -deltas, keys))
    keys, positions, deltas = keys[order], positions[order], deltas[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return pd.DataFrame(
        {
            "key": keys[first].astype(np.int32),
            "document": np.int32(document),
            "window": np.int32(window),
            "occurrences": np.diff(first, append=len(keys)).astype(np.int32),
            "delta_sum": np.add.reduceat(deltas, first) if len(first) else deltas,
            "largest": deltas[first].astype(np.float32),
            "position": positions[first].astype(np.int32),
        }
    )


def _spelled(found: _Occurrences, kind: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The first rows, with how each is written."""
    rows = rows.head(KEPT)
    keys = [int(key) for key in rows["key"]]
    ids = pd.array(keys if kind == "token" else [None] * len(keys), dtype="Int64")
    return rows.assign(kind=kind, text=[found.text(kind, key) for key in keys], token_id=ids)


def _sentence(kind: str, first: Sequence[Mapping[str, Any]], count: int, told: int) -> str:
    """Which words lose most, and how many of all lose significantly."""
    if not first:
        return f"none of {counted(told, kind)} loses clearly more than 0 nats."
    names = _listed([_quoted(row) for row in first[:NAMED]])
    limits = _listed([decimals(row["low"], 2) for row in first[:NAMED]])
    verb, tested = ("loses" if len(first) == 1 else "lose"), ("is" if count <= 1 else "are")
    return (
        f"{names} {verb} most without the far text, at least {limits} nats on average;"
        f" {f'{count:,}' if count else 'none'} of {counted(told, kind)} {tested} significant when"
        " all are tested."
    )


def _quoted(row: Mapping[str, Any]) -> str:
    """A word or token in quotes, its blanks to be seen; a token of unknown text by its id."""
    text = str(row["text"]).translate(SIGNS)
    cut = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return f"“{cut}”" if text else f"#{row['token_id']}"


def _listed(texts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last


def _table(kind: str, rows: pd.DataFrame, confidence: float) -> Table:
    """Words or tokens with their mean delta."""
    cells = [
        [
            _quoted(row),
            *(decimals(row[name]) for name in ("low", "mean")),
            *(f"{int(row[name]):,}" for name in ("occurrences", "documents")),
        ]
        for row in records(rows.head(SHOWN))
    ]
    summed = ", summed over the tokens of a word" if kind == "word" else ""
    return Table(
        f"{kind.capitalize()}s by the lower {confidence * 100:g} % limit of their mean delta"
        f" (nats{summed})",
        [kind, "at least", "mean", "occurrences", "documents"],
        cells,
    )


def _places(
    run: OpenRun, found: _Occurrences, kind: str, rows: Sequence[Mapping[str, Any]]
) -> Table:
    """Where the first words stand: those of their places where they lose most."""
    placed = [
        (row, place, delta) for row in rows for place, delta in found.places(kind, row["key"])
    ]
    around = _around(run, [place for _, place, _ in placed], kind)
    cells = [
        [
            f"{place.document}, token {place.position:,}",
            _quoted(row),
            decimals(delta),
            around.get(place, ""),
        ]
        for row, place, delta in placed
    ]
    return Table(
        f"Where they stand: up to {PLACES} places each, the largest delta (nats) of a document",
        ["place", kind, "delta", "text"],
        cells,
        places=[place for _, place, _ in placed],
    )


def _around(run: OpenRun, places: Sequence[Place], kind: str) -> dict[Place, str]:
    """The text around some words or tokens, which stand in brackets; nothing without text."""
    wanted: dict[tuple[str, int], list[Place]] = {}
    for place in places:
        wanted.setdefault((place.document, place.window), []).append(place)
    texts = {}
    for window in _windows(run):
        for place in wanted.get((window.document, window.window), []):
            if window.text is None:
                continue
            at = place.position - window.start
            token = window.char_start[at], window.char_end[at]
            first, end = window.words[at].tolist() if kind == "word" else token
            before = window.text[max(0, first - AROUND) : first]
            behind = window.text[end : end + AROUND]
            text = f"{before}[{window.text[first:end]}]{behind}"
            texts[place] = one_line(text, 2 * AROUND + LONGEST + 2)
    return texts


def _windows(run: OpenRun) -> Iterator[WindowTokens]:
    """All windows of a run; nothing that is asked of them here looks types up in the data."""
    for windows in batches(run, TokenCounts(NONE, NONE)):
        yield from windows
