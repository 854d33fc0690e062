"""What each band of distances is worth: delta where it alone is perturbed."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from probe.analysis.fit import in_order
from probe.analysis.floor import without_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import delta_table, strongest
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import ProbeError
from probe.findings.answer import counts, subject
from probe.findings.base import CONDITION, Drawn, Finding, Plot, only, register
from probe.findings.chart import Chart, EmptyChartError, delta_axis, names_axis
from probe.findings.contrasts import contrasts
from probe.findings.curve import group_series, threshold_of
from probe.findings.table import Table, between, pivot
from probe.text import counted, difference, printable


def plot(runs: Sequence[OpenRun], *, condition: str | None = None) -> Drawn:
    """Delta of each band, for `probe plot`.

    Args:
        runs: One run.
        condition: Only this condition.
    """
    yield "", chart(runs[0], only(runs[0].once(bands), "condition", condition, "condition"))


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
    documents = len(run.documents)
    few = f"{counted(documents, 'document')}: an interval needs {FEWEST_DOCUMENTS}"
    return Finding(
        "answer",
        "The answer",
        _sentence(run, table),
        f"Measured on {', '.join(counts(run))}; what lies beyond a band is intact.",
        tables=[_cells(table)] if len(table) else [],
        charts=[chart(run, table)] if len(table) else [],
        caveats=[
            *([few] if documents < FEWEST_DOCUMENTS else []),
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
        ``condition, band_from, band_to`` (distances of the first target, tokens)``, delta, low,
        high`` (nats per token)``, targets, documents``: the columns of ``bands.csv``; limits are
        missing with fewer documents than an interval needs.

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
        table: Rows of :func:`bands`.

    Raises:
        EmptyChartError: If there is no band.
    """
    if table.empty:
        raise EmptyChartError("no band to draw")
    rows, places = _named(table)
    across = "perturbed band (tokens before the first target)"
    return Chart(
        "Delta of each band",
        names_axis(places, across),
        delta_axis(table[["delta", "low", "high"]].to_numpy(float), threshold_of(run)),
        group_series(run, rows, "band", places),
        how=(
            "Each mark is the loss added when the text between these two distances alone is"
            " changed, all nearer and all farther text being intact; its bar is the interval over"
            " documents. Text beyond a band is intact and may substitute for it: the deltas of"
            " bands do not add up."
        ),
        heading=[run.model, run.data],
        file="bands",
    )


def _sentence(run: OpenRun, table: pd.DataFrame) -> str:
    if table.empty:
        return f"{subject(run)}: no band was scored."
    rows, _ = _named(table)
    told = without_noise(rows)
    most = strongest(
        told if len(told) else rows, lambda row: f"{row['band']} tokens before the target", "band"
    )
    return f"{subject(run)}: of the bands, {printable(most)}."


def _cells(table: pd.DataFrame) -> Table:
    """Conditions in rows, bands in columns: there are few bands and may be many conditions."""
    rows, places = _named(table)
    order = in_order(table["condition"].astype(str))
    cells = pivot(
        "Delta (nats per token) by band (tokens before the first target)",
        sorted(rows.to_dict("records"), key=lambda row: order.index(str(row["condition"]))),
        places,
        by="band",
        cell=lambda row: difference(row["delta"], row["low"], row["high"]),
        head={"condition": lambda row: str(row["condition"])},
    )
    return replace(cells, shown="both")


def _named(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows with the name of their band, and all bands in order of distance."""
    rows = table.assign(band=[between(row, "band") for row in table.to_dict("records")])
    return rows, list(rows.sort_values(["band_from", "band_to"])["band"].unique())
