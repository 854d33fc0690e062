"""What each band of distances is worth: delta where it alone is perturbed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from probe.analysis.fit import in_order
from probe.analysis.floor import without_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import delta_table, in_words, strongest
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import ProbeError
from probe.findings.answer import counts, subject
from probe.findings.base import CONDITION, Drawn, Finding, Plot, only, register
from probe.findings.chart import Chart, EmptyChartError, Series, delta_axis, names_axis
from probe.findings.contrasts import contrasts
from probe.findings.curve import threshold_of
from probe.findings.table import Table
from probe.text import counted, printable

COLUMNS = (
    "condition",
    "band_from",
    "band_to",
    "delta",
    "low",
    "high",
    "targets",
    "documents",
)
"""Columns of ``bands.csv``: distances of the first target in tokens, delta and its limits in nats a
token."""


def plot(runs: Sequence[OpenRun], *, condition: str | None = None) -> Drawn:
    """Delta of each band, for `probe plot`.

    Args:
        runs: One run.
        condition: Only this condition.
    """
    yield "", chart(runs[0], only(runs[0].once(bands), "condition", condition, "--condition"))


@register("bands", order=10, level="answer", plots=[Plot("curve", plot, 1, [CONDITION])])
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding | None:
    """The answer of a run that perturbs one band of distances at a time.

    Args:
        run: The open run.
        others: Not needed.
    """
    if not run.is_answered_by("bands"):
        return None
    table = run.once(bands)
    few = len(run.documents)
    return Finding(
        "answer",
        "The answer",
        _sentence(run, table),
        f"Measured on {', '.join(counts(run))}; what lies beyond a band is intact.",
        tables=[_cells(table)] if len(table) else [],
        charts=[chart(run, table)] if len(table) else [],
        caveats=[
            *([_few(few)] if few < FEWEST_DOCUMENTS else []),
            *run.warnings,
            *run.once(contrasts)[1],
        ],
        files={"bands.csv": table, "summary.json": {}},  # counts and losses stand there as well
    )


def bands(run: OpenRun) -> pd.DataFrame:
    """Delta by band and condition, with the interval of a bootstrap over documents.

    Args:
        run: A run with protocol band; a band is told by the distance of its first target.

    Returns:
        Columns :data:`COLUMNS`; limits are missing with fewer documents than an interval needs.

    Raises:
        ProbeError: If the run has another protocol.
    """
    if not run.is_answered_by("bands"):
        raise ProbeError(f"run '{run.path}' has no bands; allowed: a run with protocol band")
    sums = run.connection.execute(
        """SELECT condition, band_from, band_to, document, count(*) AS targets,
            sum(delta) AS delta_sum
        FROM (SELECT condition, document, delta, near AS band_from,
                near + boundary - far_start AS band_to
            FROM (SELECT condition, document, boundary, far_start,
                    avg(nll::DOUBLE - nll_intact) AS delta, any_value(near) AS near
                FROM (SELECT *, min(distance) OVER (
                        PARTITION BY document, "window", condition, repeat, boundary, far_start
                    ) AS near FROM scores WHERE boundary >= 0)
                GROUP BY condition, document, "window", position, boundary, far_start))
        GROUP BY ALL ORDER BY condition, band_from, band_to, document"""
    ).df()
    return delta_table(sums, ("condition", "band_from", "band_to"), run.analysis)


def chart(run: OpenRun, table: pd.DataFrame) -> Chart:
    """A mark with its interval for each band and condition.

    Args:
        run: The run.
        table: Columns :data:`COLUMNS`.

    Raises:
        EmptyChartError: If there is no band.
    """
    if table.empty:
        raise EmptyChartError("no band to draw")
    names = in_order(table["condition"].astype(str))
    places = pd.MultiIndex.from_frame(table[["band_from", "band_to"]]).unique().sort_values()
    series = []
    for look, name in enumerate(names):
        own = table[table["condition"].astype(str) == name]
        at = places.get_indexer(pd.MultiIndex.from_frame(own[["band_from", "band_to"]]))
        shift = (look - (len(names) - 1) / 2) * 0.7 / len(names)
        series.append(
            Series(
                name,
                np.asarray(at + shift, dtype=np.float64),
                own["delta"].to_numpy(float),
                look,
                own["low"].to_numpy(float),
                own["high"].to_numpy(float),
                titles=[f"{name}, {_band(row)}: {in_words(row)}" for _, row in own.iterrows()],
                points=True,
                joined=False,
            )
        )
    across = "perturbed band (tokens before the first target)"
    return Chart(
        "Delta of each band",
        names_axis([f"{near:,}–{far - 1:,}" for near, far in places], across),
        delta_axis(table[["delta", "low", "high"]].to_numpy(float), threshold_of(run)),
        series,
        how=(
            "Each mark is the loss added when the text between these two distances alone is"
            " changed, all nearer and all farther text being intact; its bar is the interval over"
            " documents. What lies beyond a band stays and may stand in for it: bands do not add"
            " up."
        ),
        heading=[run.model, run.data],
        file="bands",
    )


def _sentence(run: OpenRun, table: pd.DataFrame) -> str:
    if table.empty:
        return f"{subject(run)}: no band was scored."
    told = without_noise(table)
    most = strongest(
        told if len(told) else table,
        lambda row: f"{_band(row)} tokens before the target",
        "band",
    )
    return f"{subject(run)}: of the bands, {printable(most)}."


def _cells(table: pd.DataFrame) -> Table:
    """Conditions in rows, bands in columns: there are few bands and may be many conditions."""
    pairs = table[["band_from", "band_to"]].drop_duplicates().sort_values("band_from")
    edges = [(int(near), int(far)) for near, far in pairs.itertuples(index=False)]
    cells = {
        (str(row["condition"]), (int(row["band_from"]), int(row["band_to"]))): in_words(row)
        for _, row in table.iterrows()
    }
    rows = [
        [name, *(cells.get((name, edge), "–") for edge in edges)]
        for name in in_order(table["condition"].astype(str))
    ]
    headers = ["condition", *(f"{near:,}–{far - 1:,}" for near, far in edges)]
    caption = "Delta (nats a token) by band (tokens before the first target)"
    return Table(caption, headers, rows, shown="both")


def _band(row: "pd.Series[float]") -> str:
    return f"{row['band_from']:,}–{row['band_to'] - 1:,}"


def _few(documents: int) -> str:
    return f"{counted(documents, 'document')}: an interval needs {FEWEST_DOCUMENTS}"
