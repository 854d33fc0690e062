"""Losses themselves: by condition, and the intact one by position inside the window."""

from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from probe.analysis.bins import bin_edges, octave_index
from probe.analysis.cells import cells
from probe.analysis.intact import intact
from probe.analysis.views import is_repeated, longest_distance
from probe.windows import FEWEST_DOCUMENTS

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
        connection: From :func:`probe.analysis.views.connect`.
        confidence: Confidence of the two-sided limit whose lower side must be above 0.
        edges: Edges of the bins (tokens) that the run is summed by; by default those of curves.

    Returns:
        The losses of the run.
    """
    if edges is None:
        edges = bin_edges(max(longest_distance(connection) + 1, 1))
    table = cells(connection, edges)
    # A target's repeats are one in the cells; here each of them counts.
    source = (
        f"""SELECT condition, sum(nll_sum) / sum(targets) AS loss,
            sum(intact_sum) / sum(targets) AS intact_loss, sum(targets)::BIGINT AS targets
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
    name = intact(connection, table)
    offsets = connection.execute(
        f"""SELECT place AS position, total, targets FROM {name}
        WHERE place IS NOT NULL ORDER BY place"""
    ).df()
    positions = offsets["position"].to_numpy(dtype=np.int64)
    by_position = _mean_by(offsets, octave_index(positions), "octave")
    by_quarter = _mean_by(offsets, _quarters(positions), "quarter")
    rises = connection.execute(
        f"""SELECT sum(total / targets) FILTER (WHERE quarter = 4)
            - sum(total / targets) FILTER (WHERE quarter = 2) AS rise
        FROM {name} WHERE quarter IS NOT NULL GROUP BY document ORDER BY document"""
    ).df()["rise"]
    return Losses(
        by_condition,
        by_position.drop(columns="octave"),
        by_quarter,
        _worsening(rises.dropna().to_numpy(dtype=np.float64), confidence),
    )


def _quarters(positions: Integers) -> Integers:
    """Quarter 1 to 4 of the range from the first to the last measured position."""
    if not len(positions):
        return positions
    span = int(positions[-1] - positions[0] + 1)
    return np.asarray(1 + 4 * (positions - positions[0]) // span, dtype=np.int64)


def _mean_by(offsets: pd.DataFrame, groups: Integers, name: str) -> pd.DataFrame:
    frame = (
        offsets.assign(**{name: groups})
        .groupby(name, as_index=False)
        .agg(
            position_from=("position", "min"),
            position_to=("position", "max"),
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
