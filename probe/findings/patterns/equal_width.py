"""A window of attention against truncated or hidden text, at equal width and on equal targets."""

from collections.abc import Sequence

import pandas as pd

from probe.analysis.open_run import OpenRun
from probe.analysis.sums import delta_table, in_words
from probe.findings.base import Drawn
from probe.findings.chart import (
    THRESHOLD,
    Axis,
    Chart,
    EmptyChartError,
    Rule,
    Series,
    delta_axis,
)
from probe.findings.patterns.common_targets import common_targets
from probe.findings.patterns.tradeoff import levels
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
"""Columns of ``beside.csv``: width in tokens, delta and its limits in nats a token."""
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
        difference; nats a token, limits of a bootstrap over documents. Empty where the targets are
        others at each distance, or the run has one of them alone.
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
    sums = _sums(rows)
    deltas = delta_table(pd.concat(sums.values()), ("series", "w"), run.analysis)
    order = {name: number for number, name in enumerate(sums)}
    return deltas.sort_values(
        ["series", "w"], key=lambda column: column.map(order) if column.name == "series" else column
    ).reset_index(drop=True)[list(COLUMNS)]


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
        "Beside text cut off or hidden at distance w, on the same targets (nats a token)",
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
    series = [
        _series(shown[shown["series"] == name], look, SHIFT ** (look - (len(names) - 1) / 2))
        for look, name in enumerate(names)
    ]
    widths = sorted({int(w) for w in shown["w"]})
    rules = levels(run)
    across = "w: keys in the window, or distance of the far text"
    values = shown[["delta", "low", "high"]].to_numpy(float)
    return Chart(
        "A window of attention beside text cut off at the same distance",
        Axis(across, widths[0] / 1.2, widths[-1] * 1.2, "log", widths),
        delta_axis(values, min(rules, default=THRESHOLD)),
        series,
        [Rule(epsilon, text) for epsilon, text in rules.items()],
        how=(
            "The same targets three times: every layer sees the nearest w keys (attend), far text"
            " is cut off at distance w (truncate), or hidden there at kept positions (hide). hide −"
            " attend is what layers carry over from beyond w, below 0 where that does more harm"
            " than good; truncate differs from hide by positions alone, that of the kept first"
            " token among them. Before each target stand w intact tokens, or up to an eighth more"
            " (which favours cut-off and hidden text a little), so that more targets stand behind a"
            " larger w."
        ),
        tables=[table(rows)],
        heading=[run.model, run.data],
        file="beside",
    )


def _series(rows: pd.DataFrame, look: int, shift: float) -> Series:
    """The marks of one series, moved aside by a factor."""
    rows = rows.sort_values("w")
    name = str(rows["series"].iloc[0])
    w, delta, low, high = (rows[column].to_numpy(float) for column in ("w", "delta", "low", "high"))
    titles = [f"{name}, w = {row['w']:,}: {in_words(row)} nats" for _, row in rows.iterrows()]
    x = w * shift
    return Series(name, x, delta, look, low, high, titles=titles, points=True, bars=True)


def _sums(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Sums by series, width and document, and those of differences."""
    keys = ["w", "document", "targets"]
    attention = rows.drop_duplicates(["w", "document"])
    series = {ATTENTION: attention.rename(columns={"attention": "sum"})}
    for name in ("truncate", "hide"):
        of_text = rows[rows["series"] == name]
        if len(of_text):
            series[name] = of_text.rename(columns={"text": "sum"})
    for first, second in DIFFERENCES:
        if first in series and second in series:
            both = series[first].merge(series[second], on=keys, suffixes=("", "_less"))
            both["sum"] -= both["sum_less"]
            series[f"{first} − {second}"] = both
    return {
        name: frame[[*keys, "sum"]].rename(columns={"sum": "delta_sum"}).assign(series=name)
        for name, frame in series.items()
    }
