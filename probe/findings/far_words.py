"""The words that need far context: tokens and words by their mean delta at far distances."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from probe.analysis.open_run import OpenRun
from probe.classes.source import batches
from probe.classes.tokens import TokenCounts, WindowTokens
from probe.findings.base import Finding, register
from probe.findings.key_tokens import read_window
from probe.findings.table import Place, Table, between, decimals, records
from probe.text import counted, one_line

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

_Targets = tuple[Integers, Integers, Integers, Floats]
"""Keys, windows, positions and deltas (nats) of some targets, each of shape ``(targets,)``."""
NONE: Integers = np.empty(0, dtype=np.int64)
OCCURRENCES, DOCUMENTS = 3, 2
"""Fewest occurrences, and documents with one, of words and tokens that are ranked."""
MOST_WINDOWS = 500
"""Windows that are looked at; of a larger run every so many documents are."""
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
MOMENTS = ("occurrences", "documents", "total", "squares", "products", "counts")
"""Sums over the documents in which a key occurs n times with deltas that add up to s (nats): of n,
of 1, of s, of s², of s · n and of n²."""
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
    documents = run.documents[:: -(-run.windows // MOST_WINDOWS)]
    found = _Occurrences(run, condition, span, documents)
    words, tokens = (ranked(found.moments(kind), confidence) for kind in ("word", "token"))
    every = pd.concat([_spelled(found, "word", words), _spelled(found, "token", tokens)])
    files = {"far_words.csv": every.assign(condition=condition, **span)[list(COLUMNS)]}
    nothing = Finding("far_words", "Words that need far context", files=files)
    kind, told = ("word", words) if len(words) else ("token", tokens)
    if told.empty:
        return nothing
    clear = every[every["low"] > 0]
    first = records(clear[clear["kind"] == kind].head(PLACED))
    count = int((told["q_value"] <= 1 - confidence).sum())
    said = _sentence(kind, first, count, len(told), confidence)
    sentence = f"Under {condition} at {between(span)} {said}"
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
            *_sampled(run, documents),
        ],
    )


def _sampled(run: OpenRun, documents: Sequence[str]) -> list[str]:
    """What is said where not all documents were looked at."""
    if len(documents) == len(run.documents):
        return []
    return [f"Looked at are {len(documents):,} of {len(run.documents):,} documents, evenly taken."]


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


def ranked(moments: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Means with their lower limits, the highest lower limit first.

    The standard error is that of a ratio of sums over documents, but at least what as many
    occurrences would have with the variance of all rows: two documents may agree by chance.

    Args:
        moments: A row a key, which is the index, with the columns ``MOMENTS``.
        confidence: Of the two-sided interval whose lower limit is taken.

    Returns:
        ``key, occurrences, documents, mean, standard_error, low, q_value`` of all that occur often
        enough.

    Source: of the q-value Benjamini & Hochberg 1995, here of one-sided tests of a mean above 0.
    """
    often = (moments["occurrences"] >= OCCURRENCES) & (moments["documents"] >= DOCUMENTS)
    rows = moments[often].astype(np.float64)
    n, documents, total, squares, products, counts = (rows[name].to_numpy() for name in MOMENTS)
    mean = total / n
    residuals = np.maximum(squares - 2 * mean * products + mean**2 * counts, 0)
    # The first is exact where documents have equal counts, the second where variances are equal.
    between_documents = residuals * documents / (documents - 1) / n**2
    pooled = residuals.sum() / max((n - counts / n).sum(), 1) / n
    error = np.sqrt(np.maximum(np.maximum(between_documents, pooled), LEAST**2))
    frame = pd.DataFrame(
        {
            "key": rows.index,
            "occurrences": n.astype(np.int64),
            "documents": documents.astype(np.int64),
            "mean": mean,
            "standard_error": error,
            "low": mean - ndtri((1 + confidence) / 2) * error,
            "q_value": _adjusted(ndtr(-mean / error)),
        }
    )
    return frame.sort_values(["low", "key"], ascending=[False, True], ignore_index=True)


def _adjusted(p: Floats) -> Floats:
    """The q-values of Benjamini and Hochberg: the smallest rate at which each would pass."""
    order = np.argsort(-p)
    q = np.empty_like(p)
    q[order] = np.minimum.accumulate(p[order] * len(p) / np.arange(len(p), 0, -1))
    return np.minimum(q, 1)


class _Tally:
    """Moments by key over documents, and where the largest deltas stand, one a document.

    What is kept grows with the keys, not with the targets.
    """

    def __init__(self) -> None:
        self._moments = np.zeros((len(MOMENTS), 0))
        self._largest = np.zeros((PLACES, 0))
        self._where = np.zeros((PLACES, 0, 3), dtype=np.int64)

    def add(self, document: int, targets: _Targets) -> None:
        """Enter all targets of a document, whose number is given."""
        keys, windows, positions, deltas = targets
        if not len(keys):
            return
        self._grow(int(keys.max()) + 1)
        order = np.lexsort((positions, -deltas, keys))
        first = np.flatnonzero(np.diff(keys[order], prepend=-1))
        count = np.diff(first, append=len(keys))
        total = np.add.reduceat(deltas[order], first)
        first = order[first]
        key, largest = keys[first], deltas[first]
        moments = [count, np.ones_like(total), total, total**2, total * count, count**2]
        self._moments[:, key] += np.stack(moments)
        lowest = self._largest[:, key].argmin(axis=0)
        better = largest > self._largest[lowest, key]
        at = lowest[better], key[better]
        self._largest[at] = largest[better]
        where = [np.full(len(first), document), windows[first], positions[first]]
        self._where[at] = np.stack(where, axis=1)[better]

    def _grow(self, size: int) -> None:
        """Make room for keys below *size*, and as many again."""
        more = 2 * size - self._largest.shape[1] if size > self._largest.shape[1] else 0
        room = (0, 0), (0, more)
        self._moments = np.pad(self._moments, room)
        self._largest = np.pad(self._largest, room, constant_values=-np.inf)
        self._where = np.pad(self._where, (*room, (0, 0)))

    def moments(self) -> pd.DataFrame:
        """A row a key that occurs, with the columns ``MOMENTS``."""
        frame = pd.DataFrame(self._moments.T, columns=list(MOMENTS))
        return frame[frame["occurrences"] > 0]

    def places(self, key: int) -> list[tuple[float, list[int]]]:
        """Largest deltas (nats), each with the number of its document, window and position."""
        found = zip(self._largest[:, key].tolist(), self._where[:, key].tolist(), strict=True)
        return sorted((one for one in found if one[0] > -np.inf), key=lambda one: (-one[0], one[1]))


class _Occurrences:
    """The targets at far distances, by token and by word.

    Args:
        run: The open run.
        condition: The condition.
        span: ``distance_from, distance_to`` (tokens).
        documents: Those that are looked at.
    """

    def __init__(
        self, run: OpenRun, condition: str, span: Mapping[str, int], documents: Sequence[str]
    ) -> None:
        self._texts: dict[int, str] = {}
        self._words: dict[str, int] = {}
        self._documents: list[str] = []
        self._tallies = {"token": _Tally(), "word": _Tally()}
        deltas = _deltas(run, condition, span, documents)
        missing = Counter(document for document, _ in deltas)
        read: dict[str, list[tuple[_Targets, _Targets]]] = defaultdict(list)
        for windows in batches(run, TokenCounts(NONE, NONE)):
            for window in windows:
                name = window.document
                if known := deltas.pop((name, window.window), None):
                    read[name].append((self._tokens(window, *known), self._spans(window, *known)))
                    missing[name] -= 1
                    if not missing[name]:  # a document is entered as a whole
                        self._enter(name, read.pop(name))
        self._spellings = list(self._words)

    def moments(self, kind: str) -> pd.DataFrame:
        """Moments of all words, or of all tokens, see :func:`ranked`."""
        return self._tallies[kind].moments()

    def text(self, kind: str, key: int) -> str:
        """How a token or a word is written; empty where that is not known."""
        return self._spellings[key] if kind == "word" else self._texts.get(key, "")

    def places(self, kind: str, key: int) -> list[tuple[Place, float]]:
        """Where the largest deltas (nats) of a token or a word stand, one a document."""
        return [
            (Place(self._documents[document], window, position), delta)
            for delta, (document, window, position) in self._tallies[kind].places(key)
        ]

    def _enter(self, name: str, windows: Sequence[tuple[_Targets, _Targets]]) -> None:
        """Count the targets of a document."""
        number = len(self._documents)
        self._documents.append(name)
        for tally, parts in zip(self._tallies.values(), zip(*windows, strict=True), strict=True):
            keys, of, positions, deltas = (
                np.concatenate(part) for part in zip(*parts, strict=True)
            )
            tally.add(number, (keys, of, positions, deltas))

    def _tokens(self, window: WindowTokens, positions: Integers, deltas: Floats) -> _Targets:
        """A window's targets by token id."""
        keys = window.ids[positions - window.start]
        for key, at in zip(*np.unique(keys, return_index=True), strict=True):
            if window.text is not None and int(key) not in self._texts:
                place = positions[at] - window.start
                first, end = window.char_start[place], window.char_end[place]
                self._texts[int(key)] = window.text[first:end]
        return keys, np.full(len(keys), window.window), positions, deltas

    def _spans(self, window: WindowTokens, positions: Integers, deltas: Floats) -> _Targets:
        """A window's words by their numbers: those all of whose tokens are targets."""
        if window.text is None:
            return NONE, NONE, NONE, NONE.astype(np.float64)
        spans = window.words
        inside = np.flatnonzero((spans[:, 0] >= 0) & (spans[:, 1] < len(window.text)))
        delta = np.full(len(window), np.nan)
        delta[positions - window.start] = deltas
        starts, first, word = np.unique(spans[inside, 0], return_index=True, return_inverse=True)
        total = np.bincount(word, delta[inside], minlength=len(starts)).astype(np.float64)
        whole = ~np.isnan(total)  # a token that is no target leaves its word out
        first = inside[first][whole]
        numbers = [
            self._words.setdefault(window.text[start:end], len(self._words))
            for start, end in spans[first].tolist()
        ]
        keys = np.array(numbers, dtype=np.int64)
        return keys, np.full(len(keys), window.window), first + window.start, total[whole]


def _deltas(
    run: OpenRun, condition: str, span: Mapping[str, int], documents: Sequence[str]
) -> dict[tuple[str, int], tuple[Integers, Floats]]:
    """Positions and mean deltas (nats) of the targets at some distances, by window.

    A target that was measured at several of them counts once. What is kept is two numbers a target.
    """
    rows = run.connection.execute(
        """SELECT document::VARCHAR, "window", list(position::BIGINT ORDER BY position),
            list(delta ORDER BY position)
        FROM (
            SELECT document, "window", position, avg(delta) AS delta FROM targets
            WHERE condition = $condition AND NOT grey
                AND distance >= $distance_from AND distance < $distance_to
                AND document IN (SELECT unnest($documents))
            GROUP BY ALL
        ) GROUP BY ALL""",
        {"condition": condition, **span, "documents": list(documents)},
    )
    found = {}
    while len(some := rows.fetch_df_chunk()):
        for document, number, positions, deltas in some.itertuples(index=False):
            found[document, number] = positions, deltas
    return found


def _spelled(found: _Occurrences, kind: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The first rows, with how each is written."""
    rows = rows.head(KEPT)
    keys = [int(key) for key in rows["key"]]
    ids = pd.array(keys if kind == "token" else [None] * len(keys), dtype="Int64")
    return rows.assign(kind=kind, text=[found.text(kind, key) for key in keys], token_id=ids)


def _sentence(
    kind: str, first: Sequence[Mapping[str, Any]], count: int, told: int, confidence: float
) -> str:
    """Which words lose most, and how many of all lose significantly."""
    level = f"{confidence * 100:g} %"
    if not first:
        return f"none of {counted(told, kind)} has a {level} lower limit above 0 nats."
    names = _listed([_quoted(row) for row in first[:NAMED]])
    limits = _listed([decimals(row["low"], 2) for row in first[:NAMED]])
    verb, tested = ("loses" if len(first) == 1 else "lose"), ("is" if count <= 1 else "are")
    return (
        f"{names} {verb} most without the far text, at least {limits} nats on average ({level}"
        f" lower limit{'' if len(first) == 1 else 's'});"
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
    cells = [
        [
            f"{place.document}, token {place.position:,}",
            _quoted(row),
            decimals(delta),
            _around(run, place, str(row["text"])),
        ]
        for row, place, delta in placed
    ]
    return Table(
        f"Where they stand: up to {PLACES} places each, the largest delta (nats) of a document",
        ["place", kind, "delta", "text"],
        cells,
        places=[place for _, place, _ in placed],
    )


def _around(run: OpenRun, place: Place, written: str) -> str:
    """The text around a word or a token, which stands in brackets; nothing without text."""
    window = read_window(run.connection, place.document, place.window)
    if window is None or window.text is None:
        return ""
    start = int(window.char_start[place.position - window.start])
    first = max(start, window.text.find(written, start))
    end = first + len(written)
    before, behind = window.text[max(0, first - AROUND) : first], window.text[end : end + AROUND]
    return one_line(f"{before}[{written}]{behind}", 2 * AROUND + LONGEST + 2)
