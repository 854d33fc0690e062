"""Losses themselves: by condition, and the intact one by position inside the window."""

from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from probe.analysis.cells import PLACES, cells, places_of
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.results.views import is_repeated, measured_edges

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Losses:
    """Mean losses of a run.

    Args:
        by_condition: ``condition, loss, perplexity, intact_loss, intact_perplexity`` (nats a
            token; intact on the same targets)``, targets``; one row a condition.
        by_position: Intact loss by octave of the position inside the window:
            ``position_from, position_to, loss, targets``.
        by_quarter: Intact loss by quarter of the measured positions: ``quarter, position_from,
            position_to, loss, targets``.
        worsening: Rise of the intact loss from the second to the last quarter (nats) with its
            lower limit, where that limit is above 0; ``None`` where the loss does not worsen.
    """

    by_condition: pd.DataFrame
    by_position: pd.DataFrame
    by_quarter: pd.DataFrame
    worsening: tuple[float, float] | None


def losses(
    connection: duckdb.DuckDBPyConnection,
    confidence: float = 0.95,
    edges: Integers | None = None,
) -> Losses:
    """Mean losses by condition and by position.

    The intact loss should fall, or stay, as more context stands before a target. Where it rises
    instead (beyond the trained length, say) delta has no meaning. The test is a t-test over
    documents of the difference between the last and the second quarter of the measured positions.

    Args:
        connection: From :func:`probe.results.views.connect`.
        confidence: Confidence of the two-sided limit whose lower side must be above 0.
        edges: Edges of the bins (tokens) that the run is summed by; by default those of curves.

    Returns:
        The losses of the run.
    """
    if edges is None:
        edges = measured_edges(connection)
    table = cells(connection, edges)
    # A target's repeats are one in the cells; here each of them counts.
    source = (
        f"""SELECT condition, sum(nll_sum) / sum(targets) AS loss,
            (sum(nll_sum) - sum(delta_sum)) / sum(targets) AS intact_loss,
            sum(targets)::BIGINT AS targets
        FROM {table} GROUP BY condition"""
        if not is_repeated(connection)
        else """SELECT condition, avg(nll::DOUBLE) AS loss, avg(nll_intact::DOUBLE) AS intact_loss,
            count(*) AS targets
        FROM scores GROUP BY condition"""
    )
    by_condition = connection.execute(
        f"""SELECT condition, loss, exp(loss) AS perplexity, intact_loss,
            exp(intact_loss) AS intact_perplexity, targets
        FROM ({source}) ORDER BY condition = 'intact' DESC, condition"""
    ).df()
    intact = connection.execute(
        f"""SELECT bin, document, sum(nll_sum) AS total, sum(targets)::BIGINT AS targets,
            min(far_min) AS first, max(far_max) AS last
        FROM {table} WHERE condition = 'intact' AND bin <= {PLACES}
        GROUP BY bin, document ORDER BY document, bin"""
    ).df()
    octaves, quarters = places_of(intact.pop("bin").to_numpy(dtype=np.int64))
    by_position = _mean_by(intact, octaves, "octave")
    by_quarter = _mean_by(intact, quarters, "quarter")
    own = intact.assign(quarter=quarters).groupby(["quarter", "document"])[["total", "targets"]]
    summed = own.sum().reset_index()
    summed["loss"] = summed["total"] / summed["targets"]
    second, last = (summed[summed["quarter"] == at].set_index("document")["loss"] for at in (2, 4))
    rises = last - second
    return Losses(
        by_condition,
        by_position.drop(columns="octave"),
        by_quarter,
        _worsening(rises.dropna().to_numpy(dtype=np.float64), confidence),
    )


def _mean_by(intact: pd.DataFrame, groups: Integers, name: str) -> pd.DataFrame:
    frame = (
        intact.assign(**{name: groups})
        .groupby(name, as_index=False)
        .agg(
            position_from=("first", "min"),
            position_to=("last", "max"),
            total=("total", "sum"),
            targets=("targets", "sum"),
        )
    )
    frame["position_to"] += 1
    frame.insert(3, "loss", frame.pop("total") / frame["targets"])
    return frame


def _worsening(rises: NDArray[np.float64], confidence: float) -> tuple[float, float] | None:
    """Mean rise over documents (nats) and its lower limit, where that lies above 0."""
    if len(rises) < FEWEST_DOCUMENTS:
        return None
    error = rises.std(ddof=1) / np.sqrt(len(rises))
    low = rises.mean() - t.ppf((1 + confidence) / 2, len(rises) - 1) * error
    return (float(rises.mean()), float(low)) if low > 0 else None
