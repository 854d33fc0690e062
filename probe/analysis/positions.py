"""The intact loss by position in the window, and the power law that it may follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar, nnls

from probe.analysis.bootstrap import Floats, bootstrap, pointwise_band
from probe.analysis.sums import to_sums

BINS = 32
"""Bins of position at most, in even steps of the logarithm."""
EXPONENTS = (0.02, 4.0)
"""Between these an exponent can be told from a constant or a logarithm, and from a step."""
COLUMNS = ("position_from", "position_to", "loss", "low", "high", "fit", "targets")


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """``loss = floor + scale · position ** −exponent``, positions counted from 1.

    Args:
        floor: Loss that no context removes (nats), not negative.
        scale: Loss above it at the first position (nats), not negative.
        exponent: How fast it falls.
    """

    floor: float
    scale: float
    exponent: float

    def at(self, positions: Floats) -> Floats:
        """The loss (nats) at positions counted from 1."""
        return np.asarray(self.floor + self.scale * positions**-self.exponent)


@dataclass(frozen=True, eq=False)
class PositionFit:
    """Intact loss by position inside the window.

    Args:
        floor: Of the power law (nats); ``None`` where none could be fitted.
        scale: Of the power law (nats), or ``None``.
        exponent: Of the power law, or ``None``.
        table: ``position_from, position_to`` (tokens from the window's start, 0 being its first)
            ``, loss, low, high, fit`` (nats; ``fit`` is NaN without a power law)``, targets``.
        rises: Whether the loss rises from the second to the last quarter of the positions.
        text: The law in a line, or why there is none; and the warning where the loss rises.
    """

    floor: float | None
    scale: float | None
    exponent: float | None
    table: pd.DataFrame
    rises: bool
    text: str


def intact_positions(
    connection: duckdb.DuckDBPyConnection,
    *,
    documents: Sequence[str],
    weights: Floats,
    confidence: float,
    worsening: tuple[float, float] | None = None,
) -> PositionFit | None:
    """Mean intact loss by position with bands over documents, and a power law through it.

    The law is least squares weighted by targets. It is given only where the loss falls with
    position in the interval over documents, and the exponent is inside its bounds.

    Args:
        connection: From :func:`probe.results.views.connect`.
        documents: All documents of the run, in the order of *weights*.
        weights: The run's draws of documents, shape ``(resamples, documents)``.
        confidence: Confidence of the bands, pointwise.
        worsening: ``Losses.worsening``: rise of the intact loss and its lower limit (nats).

    Returns:
        The table and the law; ``None`` where no intact row was scored.

    Source: Hestness et al. 2017, "Deep Learning Scaling is Predictable, Empirically", for the
        form; Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 3.1 and
        appendix D.5, for the loss by position in the context.
    """
    rows = _sums_by_position(connection)
    if rows.empty:
        return None
    sums = to_sums(rows, documents)
    found = bootstrap(sums.sums, sums.targets, weights, confidence)
    low, high = pointwise_band(found, confidence)
    targets = sums.targets.sum(axis=0)
    # The middle of a bin, in positions counted from 1.
    places = (sums.lower + sums.upper + 1) / 2
    law, reason = _law(places, found.mean, found.draws, targets, confidence)
    table = pd.DataFrame(
        {
            "position_from": sums.lower,
            "position_to": sums.upper,
            "loss": found.mean,
            "low": low,
            "high": high,
            "fit": np.nan if law is None else law.at(places),
            "targets": targets.astype(np.int64),
        }
    )
    text = reason if law is None else _formula(law, table)
    if worsening is not None:
        text += (
            f"; the intact loss rises with position, by {worsening[0]:.3f} nats (at least"
            f" {worsening[1]:.3f}) from the second to the last quarter"
        )
    return PositionFit(
        floor=None if law is None else law.floor,
        scale=None if law is None else law.scale,
        exponent=None if law is None else law.exponent,
        table=table,
        rises=worsening is not None,
        text=text,
    )


def fit_power_law(positions: Floats, losses: Floats, weights: Floats) -> PowerLaw:
    """Weighted least squares with floor and scale not negative, the exponent in ``EXPONENTS``.

    For one exponent the best floor and scale follow from a linear fit, so only the exponent is
    searched for: on a grid, then between the neighbours of the best.

    Args:
        positions: From 1, shape ``(bins,)``.
        losses: Mean losses (nats), same shape, finite.
        weights: Same shape, above 0.
    """
    root = np.sqrt(weights / weights.sum())

    def solve(logarithm: float) -> tuple[NDArray[np.float64], float]:
        shape = (positions / positions[0]) ** -np.exp(logarithm)
        return nnls(np.column_stack([root, root * shape]), root * losses)

    grid = np.log(np.geomspace(EXPONENTS[0], EXPONENTS[1], 48))
    best = int(np.argmin([solve(at)[1] for at in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    at = float(minimize_scalar(lambda at: solve(at)[1], bounds=bounds, method="bounded").x)
    (floor, scale), _ = solve(at)
    exponent = float(np.exp(at))
    return PowerLaw(float(floor), float(scale * positions[0] ** exponent), exponent)


def _law(
    places: Floats, mean: Floats, draws: Floats, targets: Floats, confidence: float
) -> tuple[PowerLaw | None, str]:
    """The law, or why there is none."""
    if len(places) < 4:
        return None, f"no power law: {len(places)} bins of position, at least 4 needed"
    law = fit_power_law(places, mean, targets)
    known = np.isfinite(draws).all(axis=0)  # bins that every resample has
    if known.sum() < 4:
        return None, "no power law: too few documents to say that the loss falls with position"
    shape, weights = places[known] ** -law.exponent, targets[known]
    slope = weights * (shape - np.average(shape, weights=weights))
    if not np.quantile(draws[:, known] @ slope, (1 - confidence) / 2) > 0:
        return None, "no power law: the loss does not measurably fall with position"
    smallest, largest = EXPONENTS
    if not smallest * 1.01 < law.exponent < largest / 1.01:
        return None, f"no power law: the exponent lies outside {smallest:g} to {largest:g}"
    return law, ""


def _formula(law: PowerLaw, table: pd.DataFrame) -> str:
    first, last = table["position_from"].iloc[0] + 1, table["position_to"].iloc[-1]
    short = "" if last >= 4 * first else ", too few octaves to tell floor from exponent"
    return (
        f"intact loss = {law.floor:.3f} + {law.scale:.3g} · position^−{law.exponent:.2f} nats"
        f" (positions {first:,} to {last:,}{short})"
    )


def _sums_by_position(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Sums of the intact loss by bin of position and document, named as ``to_sums`` wants them."""
    measured = """scores s JOIN windows w ON s.document = w.document AND s."window" = w."window"
        WHERE s.condition = 'intact'"""
    first, last = connection.execute(
        f"SELECT min(s.position - w.start), max(s.position - w.start) FROM {measured}"
    ).fetchall()[0]
    if first is None:
        return pd.DataFrame()
    edges = np.unique(np.round(np.geomspace(first + 1, last + 2, BINS + 1) - 1).astype(np.int64))
    offsets = np.arange(first, last + 1)
    bins = np.searchsorted(edges, offsets, side="right") - 1
    connection.register("places", pd.DataFrame({"place": offsets, "bin": bins}))
    rows = connection.execute(
        f"""SELECT bin, s.document, count(*) AS targets, sum(s.nll::DOUBLE) AS delta_sum
        FROM places JOIN (SELECT s.document, s.nll, s.position - w.start AS place FROM {measured})
            s USING (place)
        GROUP BY bin, s.document ORDER BY bin, s.document"""
    ).df()
    connection.unregister("places")
    bins = rows.pop("bin").to_numpy(dtype=np.int64)
    return rows.assign(distance_from=edges[bins], distance_to=edges[bins + 1])
