"""The token explorer: which windows are shown, their text, and their losses packed small."""

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.answer import conditions_of
from probe.analysis.floor import without_noise
from probe.analysis.keys import KeyRule
from probe.analysis.longppl import is_longppl
from probe.analysis.summary import Summary
from probe.render.markup import text_markup, token_markup, token_texts
from probe.report.answers import main_condition
from probe.report.keys import chooser, key_text, rule_text
from probe.report.payload import losses, packed
from probe.report.tokens import Explorer, Token, Window
from probe.results.views import connect

MOST_WINDOWS = 6
MOST_TOKENS = 2048
"""Tokens of one window that are shown."""
MOST_BYTES = 750_000
"""What tokens and losses of one run may take of the page."""
FAR_CHARACTERS = 8000
"""Characters of the text before the shown tokens that can be read."""

STEPS = (-3.0, -1.0, -0.3, -0.1, 0.1, 0.3, 1.0, 3.0)
"""Deltas (nats) between the levels of the colour scale; the middle level is neutral."""


def explore(summary: Summary, *, most_bytes: int = MOST_BYTES) -> Explorer | None:
    """Choose windows and pack their rows; ``None`` where no condition has a curve.

    The first window of each document takes part; those shown stand at even ranks of their mean
    delta, from the lowest to the highest, as many as the room allows.

    Args:
        summary: The run.
        most_bytes: Room for tokens and losses; one window is always shown.

    Returns:
        The explorer; grey rows, noise and conditions without a boundary are left out. With
        protocol longppl far text is as long as the document lets it, and no row is grey.
    """
    main = main_condition(summary)
    if main is None:
        return None
    conditions = conditions_of(summary)
    rule = KeyRule() if is_longppl(summary.run.record) else None
    with connect(summary.run.path / "windows.parquet", summary.run.parts) as connection:
        kept = "NOT grey" if rule is None else "far > 0"
        connection.execute(f"CREATE TEMP VIEW usable AS SELECT * FROM targets WHERE {kept}")
        every = _means(connection, main)
        if every.empty:
            return None
        made: dict[int, tuple[Window, dict[str, Any], tuple[int, int]]] = {}
        for count in range(min(MOST_WINDOWS, len(every)), 0, -1):
            ranks = np.unique(np.linspace(0, len(every) - 1, count).round().astype(int))
            for rank in ranks:
                if rank not in made:
                    made[rank] = _window(connection, every.iloc[rank], conditions, main, rule)
            found = [made[rank] for rank in ranks]
            payload = packed({"conditions": conditions, "windows": [data for _, data, _ in found]})
            if len(payload) + sum(_size(window) for window, _, _ in found) <= most_bytes:
                break
    distances = [reached for _, _, reached in found]
    return Explorer(
        main,
        [window for window, _, _ in found],
        summary.windows,
        (min(low for low, _ in distances), max(high for _, high in distances)),
        payload,
        None if rule is None else f"{rule_text(rule)}, chosen by {chooser(summary)}",
    )


def level(delta: float) -> int:
    """The level of a delta on the colour scale, 0 (far text hurts most) to 8 (helps most)."""
    return int(np.digitize(delta, STEPS))


def _means(connection: duckdb.DuckDBPyConnection, condition: str) -> pd.DataFrame:
    """The first scored window of each document, by rising mean delta (nats)."""
    return connection.execute(
        """SELECT document, "window", avg(delta) AS mean FROM usable
        WHERE condition = ? GROUP BY document, "window"
        QUALIFY row_number() OVER (PARTITION BY document ORDER BY "window") = 1
        ORDER BY mean, document""",
        [condition],
    ).df()


def _window(
    connection: duckdb.DuckDBPyConnection,
    chosen: "pd.Series[Any]",
    conditions: Sequence[str],
    main: str,
    rule: KeyRule | None,
) -> tuple[Window, dict[str, Any], tuple[int, int]]:
    """A window, its losses for the script, and the range of distances of its colours."""
    key = [str(chosen["document"]), int(chosen["window"])]
    rows = connection.execute(
        """SELECT condition, far, far + distance AS offset, distance, nll, nll_intact
        FROM usable WHERE document = ? AND "window" = ? ORDER BY ALL""",
        key,
    ).df()
    rows = without_noise(rows)
    own = rows[rows["condition"] == main].sort_values(["offset", "distance"])
    farthest = own.groupby("offset").tail(1).set_index("offset")
    delta = farthest["nll"] - farthest["nll_intact"]
    offsets = delta.index.to_numpy(dtype=np.int64)
    first, last = _stretch(offsets, delta.to_numpy(float))
    shown = rows[rows["offset"].between(first, last)]
    levels = {int(at): level(value) for at, value in zip(offsets, delta, strict=True)}
    pieces, before, length, begin = _pieces(connection, key, first, last)
    distances = own["offset"].value_counts().loc[first:last]
    intact = farthest["nll_intact"].to_numpy(float)
    told = zip(offsets.tolist(), delta.tolist(), intact.tolist(), strict=True)
    keys = {} if rule is None else {at: key_text(rule, lsd, nll) for at, lsd, nll in told}
    tokens = [
        Token(token_markup(piece), levels.get(place), keys.get(place))
        for place, piece in enumerate(pieces, start=first)
    ]
    cut = len(before) > FAR_CHARACTERS
    window = Window(
        str(chosen["document"]),
        int(chosen["window"]),
        float(chosen["mean"]),
        first,
        length,
        text_markup(before[-FAR_CHARACTERS:]),
        cut,
        tokens,
        begin,
        int((distances == 1).sum()),
    )
    reached = farthest.loc[first:last, "distance"]
    return window, losses(shown, conditions, first, last), (int(reached.min()), int(reached.max()))


def _stretch(offsets: NDArray[np.int64], delta: NDArray[np.float64]) -> tuple[int, int]:
    """The tokens to show: all targets, or the stretch in which far text helps most."""
    first, last = int(offsets.min()), int(offsets.max())
    if last - first < MOST_TOKENS:
        return first, last
    sums = np.zeros(last - first + 2)
    sums[offsets - first + 1] = delta
    sums = sums.cumsum()
    start = int(np.argmax(sums[MOST_TOKENS:] - sums[:-MOST_TOKENS]))
    return first + start, first + start + MOST_TOKENS - 1


def _pieces(
    connection: duckdb.DuckDBPyConnection, key: Sequence[Any], first: int, last: int
) -> tuple[list[str], str, int, int]:
    """The text of each token shown, that before them, the window's length and its start."""
    ids, starts, ends, text, start = connection.execute(
        """SELECT token_ids, char_start, char_end, text, start FROM windows
        WHERE document = ? AND "window" = ?""",
        list(key),
    ).fetchall()[0]
    if text is None or starts is None or ends is None:
        return [f" #{ids[place]}" for place in range(first, last + 1)], "", len(ids), start
    shown = token_texts(text, starts, ends, first, last)
    return shown, text[: starts[first]], len(ids), start


def _size(window: Window) -> int:
    """About how many bytes a window takes on the page beside its losses."""
    return len(window.before) + sum(
        len(token.markup.encode()) + 22 + len(token.key or "") for token in window.tokens
    )
