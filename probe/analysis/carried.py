"""Key tokens that one run chose, with the losses of another: carried over by position or text."""

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from probe.analysis.keys import Integers, Window, inside, merged, read_window
from probe.errors import ProbeError


def carry(
    evaluator: duckdb.DuckDBPyConnection, scored: duckdb.DuckDBPyConnection, path: Path
) -> tuple[pd.DataFrame, list[str]]:
    """Give the losses of one run to the key tokens of another.

    Where both have the same tokens, keys are carried by position; else as character spans, and a
    token is key when it lies wholly inside one.

    Args:
        evaluator: The run that chose, with the view of :func:`key_view`.
        scored: The run whose intact losses count, from :func:`probe.results.views.connect`.
        path: Its folder, for messages.

    Returns:
        By document of both runs: ``document, targets, keys, key_sum`` (nats)``, all_tokens,
        all_sum``, and what is missing, one line each.

    Raises:
        ProbeError: If the runs have no document in common, or other texts under one name.
    """
    chosen = dict(
        evaluator.execute(
            "SELECT document, list(position ORDER BY position) FILTER (WHERE key) FROM candidates"
            " GROUP BY document ORDER BY document"
        ).fetchall()
    )
    places: dict[str, Integers] = {}
    missing = behind = cut = 0
    for document, positions in chosen.items():
        mine, theirs = (read_window(each, document, 0) for each in (evaluator, scored))
        if mine is None or theirs is None:
            missing += 1
            continue
        at = np.array(positions or [], dtype=np.int64) - mine.start
        key, lost = _carried(mine, theirs, at, path)
        behind += lost
        cut += not _same_tokens(mine, theirs)
        places[document] = np.flatnonzero(key) + theirs.start
    sums = _sums(scored, places)
    if sums.empty:
        raise ProbeError(f"'{path}' has none of the {len(chosen)} documents whose keys were chosen")
    warnings = []
    if missing:
        warnings.append(f"{missing} of {len(chosen)} documents are not in '{path}': left out")
    if cut:
        warnings.append(
            "the tokenizers cut the text differently: keys are carried over as spans of characters,"
            " every token that lies wholly inside one counts, and so their number changes"
        )
    if behind:
        warnings.append(f"{behind} key tokens lie behind what '{path}' holds of their documents")
    return sums, warnings


def _carried(
    mine: Window, theirs: Window, at: Integers, path: Path
) -> tuple[NDArray[np.bool_], int]:
    """Which of *their* tokens are key, and how many of my key tokens lie behind their last one."""
    key = np.zeros(len(theirs.ids), dtype=bool)
    common = min(len(mine.ids), len(theirs.ids))
    if _same_tokens(mine, theirs):
        key[at[at < common]] = True
        return key, int((at >= common).sum())
    if mine.text is None or theirs.text is None:
        raise ProbeError(
            f"document {mine.document!r} has other tokens in '{path}', and no text to find the key "
            "tokens by"
        )
    shift = _shift(mine, theirs, path)
    found = [
        (int(mine.char_start[first]) + shift, int(mine.char_end[last]) + shift)
        for first, last in merged(at)
    ]
    behind = int((mine.char_end[at] + shift > len(theirs.text)).sum())
    return inside(theirs.char_start, theirs.char_end, found), behind


def _same_tokens(mine: Window, theirs: Window) -> bool:
    """Whether two windows hold the same tokens, as far as both go."""
    common = min(len(mine.ids), len(theirs.ids))
    return bool((mine.ids[:common] == theirs.ids[:common]).all())


def _shift(mine: Window, theirs: Window, path: Path) -> int:
    """How far their text begins behind mine: some tokenizers have no token for leading spaces."""
    assert mine.text is not None
    assert theirs.text is not None
    blank = [len(text) - len(text.lstrip()) for text in (mine.text, theirs.text)]
    one, other = mine.text[blank[0] :], theirs.text[blank[1] :]
    common = min(len(one), len(other))
    if one[:common] != other[:common]:
        raise ProbeError(f"document {mine.document!r} has another text in '{path}'")
    return blank[1] - blank[0]


def _sums(scored: duckdb.DuckDBPyConnection, places: dict[str, Integers]) -> pd.DataFrame:
    """Tokens, keys and their losses of the scored run, by document.

    Args:
        scored: The run.
        places: Positions of the key tokens of each document.
    """
    names = [name for name, positions in places.items() for _ in positions]
    numbers = np.concatenate([np.empty(0, np.int64), *places.values()])
    document, position = pa.field("document", pa.string()), pa.field("position", pa.int64())
    scored.register("common", pa.table([list(places)], schema=pa.schema([document])))
    scored.register("chosen", pa.table([names, numbers], schema=pa.schema([document, position])))
    sums: pd.DataFrame = scored.execute(
        """SELECT s.document, count(*) AS targets, count(c.position) AS keys,
            coalesce(sum(nll::DOUBLE) FILTER (WHERE c.position IS NOT NULL), 0) AS key_sum,
            count(*) AS all_tokens, sum(nll::DOUBLE) AS all_sum
        FROM scores s JOIN common ON s.document = common.document
            LEFT JOIN chosen c ON s.document = c.document AND s.position = c.position
        WHERE condition = 'intact' GROUP BY s.document ORDER BY s.document"""
    ).df()
    return sums
