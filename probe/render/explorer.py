"""The token explorer: which windows are shown, their text, and their losses packed small."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from probe.analysis.floor import without_noise
from probe.analysis.open_run import OpenRun
from probe.findings.base import Marks
from probe.findings.table import Place
from probe.render.markup import text_markup, token_markup, token_texts
from probe.results.weights import NAME, TokenWeights, token_weights

MOST_WINDOWS = 6
MOST_TOKENS = 2048
"""Tokens of one window that are shown."""
MOST_BYTES = 750_000
"""What tokens and losses of one run may take of the page."""
FAR_CHARACTERS = 8000
"""Characters of the text before the shown tokens that can be read."""

CURVES = "NOT grey"
"""SQL: the rows that curves are of."""
STEPS = (-3.0, -1.0, -0.3, -0.1, 0.1, 0.3, 1.0, 3.0)
"""Deltas (nats) between the levels of the colour scale; the middle level is neutral."""
WEIGHT_STEPS = (0.1, 0.3, 0.7, 0.9, 1.1, 1.5, 2.5, 5.0)
"""Weights between the same levels: 1 is neutral, as in plain training; 0 has no colour."""

SIGNS = {
    "‹": "‹1/2› is the first of two tokens that share the characters before it",
    '<i class="u">': "a box such as U+202E is a character that has no shape of its own",
    '<i class="w">↵': "↵ is the end of a line",
    '<i class="w">→': "→ is a tab",
}
"""What stands in the text for what cannot be seen, by its markup."""


@dataclass(frozen=True)
class Token:
    """A token on the page.

    Args:
        markup: Its text.
        level: Its level on the colour scale, if it is a target.
        key: What it says of itself if it is a key token of LongPPL.
        id: Its address on the page, if something links to it.
    """

    markup: Markup
    level: int | None
    key: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Window:
    """A window of the explorer.

    Args:
        document: Its document.
        number: Its number in the document.
        mean: Mean delta of the main condition in it (nats).
        first: Index in the window of the first token shown.
        length: Tokens of the window.
        start: Index of the window's first token in its document.
        before: The text before the first token shown, its beginning cut where it is long.
        before_cut: Whether it was cut.
        tokens: The tokens shown.
        single: How many of the tokens shown have one distance under the main condition.
        distances: Shortest and longest distance at which a token is coloured.
        losses: What `losses` packs of it.
        weights: What the tokens shown weigh in training, in thousandths, where that is known.
    """

    document: str
    number: int
    mean: float
    first: int
    length: int
    start: int
    before: Markup
    before_cut: bool
    tokens: Sequence[Token]
    single: int
    distances: tuple[int, int]
    losses: Mapping[str, Any]
    weights: Sequence[int | None] | None = None

    @property
    def key_tokens(self) -> int:
        """How many of the tokens shown are key."""
        return sum(token.key is not None for token in self.tokens)


@dataclass(frozen=True)
class Explorer:
    """What the page shows of a run's tokens.

    Args:
        condition: The condition whose delta colours the tokens.
        windows: The windows.
        of: Windows that the run has.
        distances: Shortest and longest distance at which a token is coloured.
        payload: JSON of the losses in thousandths of a nat, safe inside a script element.
        keys: Which tokens are key and who chose them, for a run with protocol longppl.
        weights: The weights in training that tokens can be coloured by as well.
        without_weights: Why they cannot, of a run folder with a file of weights.
        links: Addresses of the tokens that were asked for, as far as they are shown.
        unit: What distances are counted in.
    """

    condition: str
    windows: Sequence[Window]
    of: int
    distances: tuple[int, int]
    payload: Markup
    keys: str | None = None
    weights: TokenWeights | None = None
    without_weights: str | None = None
    links: Mapping[Place, str] = field(default_factory=dict)
    unit: str = "tokens"

    @property
    def single(self) -> float:
        """Share of the targets shown that have one distance under the main condition."""
        targets = sum(token.level is not None for window in self.windows for token in window.tokens)
        return sum(window.single for window in self.windows) / max(1, targets)

    @property
    def signs(self) -> list[str]:
        """What the signs in the text mean, those that are in it."""
        text = "".join(token.markup for window in self.windows for token in window.tokens)
        return [meaning for sign, meaning in SIGNS.items() if sign in text]


def explore(
    run: OpenRun,
    marks: Marks | None = None,
    *,
    places: Iterable[Place] = (),
    prefix: str = "",
    most_bytes: int = MOST_BYTES,
) -> Explorer | None:
    """Choose windows and pack their rows; ``None`` where no condition has a curve.

    The first window of each document takes part; those shown stand at even ranks of their mean
    delta, from the lowest to the highest, as many as the room allows.

    Args:
        run: The open run.
        marks: Tokens to mark, and which rows take part; without them no grey ones.
        places: Tokens that something links to.
        prefix: What stands before their addresses.
        most_bytes: Room for tokens and losses; one window is always shown.

    Returns:
        The explorer; noise and conditions without a boundary are left out.
    """
    main = run.main_condition
    if main is None or not run.has_length:
        return None
    usable = CURVES if marks is None else marks.rows
    run.connection.execute(
        f"CREATE OR REPLACE TEMP VIEW usable AS SELECT * FROM targets WHERE {usable}"
    )
    every = _means(run, main, usable)
    if every.empty:
        return None
    weights, without_weights = token_weights(run.folder)
    made: dict[int, Window] = {}
    for count in range(min(MOST_WINDOWS, len(every)), 0, -1):
        ranks = np.unique(np.linspace(0, len(every) - 1, count).round().astype(int))
        missing = [rank for rank in ranks if rank not in made]
        for rank, rows in zip(missing, _rows(run, every.iloc[missing]), strict=True):
            made[rank] = _window(run, every.iloc[rank], rows, marks, weights)
        chosen = [made[rank] for rank in ranks]
        if weights and any(window.weights is None for window in chosen):
            weights, without_weights = None, f"{NAME} lacks tokens of the windows"
        payload = _payload(run, chosen, weights)
        if len(payload) + sum(map(_size, chosen)) <= most_bytes:
            break
    nearest, farthest = zip(*(window.distances for window in chosen), strict=True)
    chosen, links = _linked(chosen, places, prefix)
    return Explorer(
        main,
        chosen,
        run.windows,
        (min(nearest), max(farthest)),
        payload,
        None if marks is None else marks.rule,
        weights,
        without_weights,
        links,
        run.unit,
    )


def _payload(run: OpenRun, windows: Sequence[Window], weights: TokenWeights | None) -> Markup:
    """What the script reads: losses by condition, and weights where there are some."""
    content: dict[str, Any] = {
        "conditions": run.curve_conditions,
        "windows": [window.losses for window in windows],
    }
    if weights is not None:
        content["windows"] = [{**one.losses, "weights": one.weights} for one in windows]
        content["steps"] = [round(step * 1000) for step in WEIGHT_STEPS]
    return packed(content)


def _linked(
    windows: Sequence[Window], places: Iterable[Place], prefix: str
) -> tuple[list[Window], dict[Place, str]]:
    """The windows with an address for each of these tokens that they show, and the addresses."""
    shown = {(window.document, window.number): at for at, window in enumerate(windows)}
    tokens = [list(window.tokens) for window in windows]
    links = {}
    for place in places:
        at = shown.get((place.document, place.window))
        if at is None:
            continue
        index = place.position - windows[at].start - windows[at].first
        if 0 <= index < len(tokens[at]):
            links[place] = f"{prefix}token-{at}-{index}"
            tokens[at][index] = replace(tokens[at][index], id=links[place])
    return [replace(window, tokens=own) for window, own in zip(windows, tokens, strict=True)], links


def level(delta: float) -> int:
    """The level of a delta on the colour scale, 0 (far text hurts most) to 8 (helps most)."""
    return int(np.digitize(delta, STEPS))


def _means(run: OpenRun, condition: str, rows: str) -> pd.DataFrame:
    """The first scored window of each document, by rising mean delta (nats).

    Args:
        run: The open run.
        condition: The condition.
        rows: SQL: which rows take part; those that curves use were counted already.
    """
    table = f"{run.cells}_windows" if rows == CURVES else "usable"
    total = "sum(delta_sum) / sum(targets)" if rows == CURVES else "avg(delta)"
    return run.connection.execute(
        f"""SELECT document, "window", {total} AS mean FROM {table}
        WHERE condition = ? AND {rows} GROUP BY document, "window"
        QUALIFY row_number() OVER (PARTITION BY document ORDER BY "window") = 1
        ORDER BY mean, document""",
        [condition],
    ).df()


def _rows(run: OpenRun, chosen: pd.DataFrame) -> list[pd.DataFrame]:
    """The usable rows of each window, read together: each reading opens all parts."""
    keys = [(str(one["document"]), int(one["window"])) for _, one in chosen.iterrows()]
    if not keys:
        return []
    wanted = " OR ".join(['(document = ? AND "window" = ?)'] * len(keys))
    rows = run.connection.execute(
        # Far text may lie elsewhere than right before the distance: behind a target, in a source.
        f"""SELECT document, "window", condition, "offset" - distance AS far, "offset", distance,
            nll, nll_intact
        FROM (SELECT u.*, u.position - w.start AS "offset" FROM usable u
            JOIN windows w ON u.document = w.document AND u."window" = w."window")
        WHERE {wanted} ORDER BY ALL""",
        [*chain(*keys)],
    ).df()
    by_window = dict(list(rows.groupby(["document", "window"])))
    return [by_window[key] for key in keys]


def _window(
    run: OpenRun,
    chosen: "pd.Series[Any]",
    rows: pd.DataFrame,
    marks: Marks | None,
    weights: TokenWeights | None,
) -> Window:
    """A window, with its losses and weights for the script."""
    document, number = str(chosen["document"]), int(chosen["window"])
    rows = without_noise(rows)
    own = rows[rows["condition"] == run.main_condition].sort_values(["offset", "distance"])
    farthest = own.groupby("offset").tail(1).set_index("offset")
    intact = farthest["nll_intact"]
    delta = farthest["nll"] - intact
    first, last = _stretch(delta.index.to_numpy(dtype=np.int64), delta.to_numpy(float))
    ids, starts, ends, text, start = run.connection.execute(
        """SELECT token_ids, char_start, char_end, text, start FROM windows
        WHERE document = ? AND "window" = ?""",
        [document, number],
    ).fetchall()[0]
    if text is None or starts is None or ends is None:
        pieces, before = [f" #{ids[place]}" for place in range(first, last + 1)], ""
    else:
        pieces, before = token_texts(text, starts, ends, first, last), text[: starts[first]]
    levels = dict(zip(delta.index, map(level, delta), strict=True))
    says: dict[int, str | None] = {}
    if marks is not None:
        says = dict(zip(delta.index, map(marks.title, delta, intact), strict=True))
    reached = farthest.loc[first:last, "distance"]
    weighed = None if weights is None else weights.of_window(document, start, ids)
    return Window(
        document=document,
        number=number,
        mean=float(chosen["mean"]),
        first=first,
        length=len(ids),
        start=start,
        before=text_markup(before[-FAR_CHARACTERS:]),
        before_cut=len(before) > FAR_CHARACTERS,
        tokens=[
            Token(token_markup(piece), levels.get(place), says.get(place))
            for place, piece in enumerate(pieces, start=first)
        ],
        single=int((own.groupby("offset").size().loc[first:last] == 1).sum()),
        distances=(int(reached.min()), int(reached.max())),
        losses=losses(rows[rows["offset"].between(first, last)], run.curve_conditions, first, last),
        weights=None if weighed is None else _thousandths(weighed[first : last + 1]),
    )


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


def _size(window: Window) -> int:
    """About how many bytes a window takes on the page beside its losses."""
    return len(window.before) + sum(
        len(token.markup.encode()) + 22 + len(token.key or "") for token in window.tokens
    )


# What could end a script element, or be read by an editor as something else than it is.
_RISKY = re.compile(
    "[<>&\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def packed(content: Mapping[str, Any]) -> Markup:
    """JSON that stays one string inside a script element, whatever it holds."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(_RISKY.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def losses(rows: pd.DataFrame, conditions: Sequence[str], first: int, last: int) -> dict[str, Any]:
    """Losses of a window's tokens in thousandths of a nat.

    Args:
        rows: Columns ``condition, far, offset, nll, nll_intact``, both losses in nats.
        conditions: Names of the conditions, which become numbers.
        first: Index in the window of the first token shown.
        last: Index of the last one.

    Returns:
        Plain values: intact losses by token; by condition and boundary in blocks.
    """
    intact = rows.groupby("offset")["nll_intact"].first().reindex(range(first, last + 1))
    blocks = []
    for (condition, far), part in rows.groupby(["condition", "far"], sort=True):
        nll = part.set_index("offset")["nll"]
        start, end = int(nll.index.min()), int(nll.index.max())
        values = _thousandths(nll.reindex(range(start, end + 1)))
        blocks.append([conditions.index(str(condition)), int(str(far)), start, values])
    return {"first": first, "intact": _thousandths(intact), "blocks": blocks}


def _thousandths(values: "pd.Series[Any] | NDArray[np.float64]") -> list[int | None]:
    return [None if np.isnan(value) else round(float(value) * 1000) for value in values]
