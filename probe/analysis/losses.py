"""Losses themselves: by condition, and the intact one by position inside the window."""

from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from probe.analysis.bins import octave_index
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


def losses(connection: duckdb.DuckDBPyConnection, confidence: float = 0.95) -> Losses:
    """Mean losses by condition and by position.

    The intact loss should fall, or stay, as more context stands before a target. Where it rises
    instead (beyond the trained length, say) delta has no meaning. The test is a t-test over
    documents of the difference between the last and the second quarter of the measured positions.

    Args:
        connection: From :func:`probe.analysis.views.connect`.
        confidence: Confidence of the two-sided limit whose lower side must be above 0.

    Returns:
        The losses of the run.
    """
    by_condition = connection.execute(
        """SELECT condition, avg(nll::DOUBLE) AS loss, exp(loss) AS perplexity,
            avg(nll_intact::DOUBLE) AS intact_loss, exp(intact_loss) AS intact_perplexity,
            count(*) AS targets
        FROM scores GROUP BY condition ORDER BY condition = 'intact' DESC, condition"""
    ).df()
    offsets = _intact_offsets(connection)
    positions = offsets["position"].to_numpy(dtype=np.int64)
    by_position = _mean_by(offsets, octave_index(positions), "octave")
    quarters = _quarters(positions)
    by_quarter = _mean_by(offsets, quarters, "quarter")
    return Losses(
        by_condition,
        by_position.drop(columns="octave"),
        by_quarter,
        _worsening(connection, positions, quarters, confidence),
    )


def _intact_offsets(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Sum of the intact loss and its targets at each position inside the window."""
    return connection.execute(
        """SELECT s.position - w.start AS position, sum(s.nll::DOUBLE) AS total,
            count(*) AS targets
        FROM scores s JOIN windows w ON s.document = w.document AND s."window" = w."window"
        WHERE s.condition = 'intact' GROUP BY 1 ORDER BY 1"""
    ).df()


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


def _worsening(
    connection: duckdb.DuckDBPyConnection,
    positions: Integers,
    quarters: Integers,
    confidence: float,
) -> tuple[float, float] | None:
    connection.register("quarters", pd.DataFrame({"place": positions, "quarter": quarters}))
    rises = connection.execute(
        """SELECT avg(nll::DOUBLE) FILTER (WHERE quarter = 4)
            - avg(nll::DOUBLE) FILTER (WHERE quarter = 2) AS rise
        FROM scores s JOIN windows w ON s.document = w.document AND s."window" = w."window"
        JOIN quarters ON place = s.position - w.start
        WHERE s.condition = 'intact' GROUP BY s.document ORDER BY s.document"""
    ).df()["rise"]
    connection.unregister("quarters")
    values = rises.dropna().to_numpy(dtype=np.float64)
    if len(values) < FEWEST_DOCUMENTS:
        return None
    error = values.std(ddof=1) / np.sqrt(len(values))
    low = values.mean() - t.ppf((1 + confidence) / 2, len(values) - 1) * error
    return (float(values.mean()), float(low)) if low > 0 else None
