"""A window of attention against truncated or hidden text, at equal width and on equal targets."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from probe.analysis.open_run import OpenRun
from probe.analysis.sums import delta_table, in_words
from probe.findings.base import Drawn
from probe.findings.chart import Axis, Chart, EmptyChartError
from probe.findings.patterns.tradeoff import common_targets, delta_and_rules, delta_series
from probe.findings.table import Table

ATTENTION = "attend(local(w))"
SERIES = (ATTENTION, "truncate", "hide")
DIFFERENCES = (("hide", ATTENTION), ("truncate", "hide"))
"""What layers carry over from beyond a window, and what positions alone do."""
NEAR = 1 / 8
"""How much more than *w* tokens may stand before a target, as a share of *w*."""
SHIFT = 1.05
"""Factor between the places of the series at one width, so that no mark hides another."""
COLUMNS = ("series", "w", "delta", "low", "high", "targets", "documents")
"""Columns of ``beside.csv``: width in tokens, delta and its limits in nats per token."""
_WINDOW = r"^attend\(local\(w=([0-9]{1,9}), sinks=1\)\)$"


def plot(runs: Sequence[OpenRun]) -> Drawn:
    """Delta by width of a window of attention and of truncated text, for `probe plot`.

    Args:
        runs: One run.
    """
    runs[0].once(common_targets)  # refuses a run without patterns
    yield "", chart(runs[0], runs[0].once(at_equal_width))


def at_equal_width(run: OpenRun) -> pd.DataFrame:
    """What a window of *w* keys loses, and text cut off or hidden at distance *w*.

    All three are of the same targets: those behind whose boundary stand *w* tokens, or up to an
    eighth more; of many targets that share a boundary at distance *w* these are the first ones.

    Args:
        run: A run with ``attend(local(w))``.

    Returns:
        Columns :data:`COLUMNS`: a row for each of :data:`SERIES` and width that the run has, and
        ``hide − attend(local(w))`` and the like where both are there, the mean of the paired
        difference; nats per token, limits of a bootstrap over documents. Empty where the targets
        are others at each distance, or the run has one of them alone.
    """
    frame = pd.DataFrame(columns=list(COLUMNS))
    if not run.has_same_targets:
        return frame
    rows = run.connection.execute(
        f"""WITH rows AS (
            SELECT condition::VARCHAR AS condition, document, "window", position, boundary,
                distance, avg(nll::DOUBLE - nll_intact) AS delta
            FROM scores WHERE condition IN ('truncate', 'hide')
                OR regexp_matches(condition, '{_WINDOW}') GROUP BY ALL
        ), near AS (
            SELECT condition AS series, document, "window", position, delta,
                distance,
                min(distance) OVER (PARTITION BY condition, document, "window", boundary) AS w
            FROM rows WHERE boundary >= 0
        ), attention AS (
            SELECT document, "window", position, delta,
                regexp_extract(condition, '{_WINDOW}', 1)::BIGINT AS w
            FROM rows WHERE boundary < 0
        )
        SELECT near.series, document, w, count(*) AS targets,
            sum(near.delta) AS text, sum(attention.delta) AS attention
        FROM near JOIN attention USING (document, "window", position, w)
        WHERE near.distance <= w * (1 + {NEAR}) GROUP BY ALL ORDER BY ALL"""
    ).df()
    if rows.empty:
        return frame
    keys = ["w", "document", "targets"]
    sums = rows.pivot(index=keys, columns="series", values="text")
    sums[ATTENTION] = rows.drop_duplicates(["w", "document"]).set_index(keys)["attention"]
    sums = sums[[name for name in SERIES if name in sums]]
    for first, second in DIFFERENCES:
        if first in sums and second in sums:
            sums[f"{first} − {second}"] = sums[first] - sums[second]
    long = sums.melt(ignore_index=False, value_name="delta_sum").dropna().reset_index()
    deltas = delta_table(long, ("series", "w"), run.analysis).set_index("series")
    return deltas.loc[long["series"].unique()].reset_index()[list(COLUMNS)]


def table(rows: pd.DataFrame) -> Table:
    """Widths down, series and their differences across.

    Args:
        rows: Of :func:`at_equal_width`.
    """
    names = list(dict.fromkeys(rows["series"].astype(str)))
    cells = []
    for w, of_width in rows.groupby("w"):
        texts = {str(row["series"]): in_words(row) for _, row in of_width.iterrows()}
        cells.append([f"{w:,}", *(texts.get(name, "–") for name in names)])
    return Table(
        "Against text cut off or hidden at distance w, on the same targets (nats per token)",
        ["w", *names],
        cells,
        blocks=True,
    )


def chart(run: OpenRun, rows: pd.DataFrame) -> Chart:
    """Delta by width, a line of marks with intervals for each series; differences are left out.

    Args:
        run: The run.
        rows: Of :func:`at_equal_width`.

    Raises:
        EmptyChartError: If there is no width that text was cut off at, too.
    """
    shown = rows[rows["series"].isin(SERIES)]
    if shown.empty:
        raise EmptyChartError("no attend(local(w)) in a grid with a distance of w")
    names = [name for name in SERIES if (shown["series"] == name).any()]
    series = []
    for place, name in enumerate(names):
        own = shown[shown["series"] == name]
        moved = own.assign(place=own["w"] * SHIFT ** (place - (len(names) - 1) / 2))
        look = run.rank(name.replace("(w)", f"({own['w'].iloc[0]})"))
        series.append(delta_series(moved, "place", name, look, _title, bars=True))
    widths = sorted({int(w) for w in shown["w"]})
    axis, rules = delta_and_rules(run, shown)
    across = "w: keys in the window, or distance of the far text"
    return Chart(
        "A window of attention against text cut off at the same distance",
        Axis(across, widths[0] / 1.2, widths[-1] * 1.2, "log", widths),
        axis,
        series,
        rules,
        how=(
            "The same targets three times: every layer sees the nearest w keys (attend), far text"
            " is cut off at distance w (truncate), or hidden there at kept positions (hide). hide"
            " − attend is what layers carry over from beyond w, below 0 where it raises the loss;"
            " truncate differs from hide by positions alone, including that of the kept first"
            " token. Each target has w intact tokens before it, or up to an eighth more (which"
            " slightly favours truncated and hidden text), so that a larger w has more targets."
        ),
        tables=[table(rows)],
        heading=[run.model, run.data],
        file="beside",
    )


def _title(row: Any) -> str:
    return f"{row['series']}, w = {row['w']:,}"
