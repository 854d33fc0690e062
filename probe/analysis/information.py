"""What kind of information: all that is said of a run beyond its effective contexts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.ablated import ablated_information
from probe.analysis.bootstrap import Floats
from probe.analysis.detectable import detectable
from probe.analysis.fitted import FittedCurve
from probe.analysis.floor import NoiseFloor
from probe.analysis.hinge import hinges
from probe.analysis.losses import Losses, losses
from probe.analysis.positions import PositionFit, intact_positions
from probe.analysis.quantiles import quantiles
from probe.analysis.settings import Analysis
from probe.analysis.tolerances import shares_of, tolerance_curve


@dataclass(frozen=True, eq=False)
class Information:
    """What kind of information a condition takes away; the noise control is in no frame.

    Args:
        information: :func:`probe.analysis.ablated.ablated_information`.
        tolerance_curve: :func:`probe.analysis.tolerances.tolerance_curve`.
        hinges: :func:`probe.analysis.hinge.hinges`.
        quantiles: :func:`probe.analysis.quantiles.quantiles`.
        positions: :func:`probe.analysis.positions.intact_positions`.
        detectable: :func:`probe.analysis.detectable.detectable`.
        notes: What is missing and which condition it lacks, one line each.
    """

    information: pd.DataFrame
    tolerance_curve: pd.DataFrame
    hinges: pd.DataFrame
    quantiles: pd.DataFrame
    positions: PositionFit | None
    detectable: pd.DataFrame
    notes: tuple[str, ...]


def information_findings(
    connection: duckdb.DuckDBPyConnection,
    *,
    fitted: Mapping[str, FittedCurve],
    conditions: Sequence[str],
    edges: NDArray[np.int64],
    starts: Mapping[str, int],
    documents: Sequence[str],
    weights: Floats,
    how: Analysis,
    floor: NoiseFloor | None,
    per_token: float | None,
    measured: Losses | None = None,
) -> Information:
    """Work out all of :class:`Information` from a run that is open and whose curves are fitted.

    Args:
        connection: From :func:`probe.analysis.views.connect`.
        fitted: Curves by condition.
        conditions: Canonical texts of the run's conditions with a boundary.
        edges: Edges of the bins (tokens).
        starts: First distance (tokens) of each condition's curve.
        documents: All documents of the run, in the order of *weights*.
        weights: The run's draws of documents, shape ``(resamples, documents)``.
        how: How the run is read.
        floor: Noise floor of the run.
        per_token: Mean UTF-8 bytes of a token, ``None`` for data without text.
        measured: The run's losses, where they have been worked out before.

    Returns:
        The frames, and what is missing.
    """
    reach = int(edges[-1])
    measured = measured or losses(connection, how.confidence)
    information, notes = ablated_information(
        connection,
        conditions,
        edges,
        documents=documents,
        weights=weights,
        confidence=how.confidence,
        floor=floor,
        curve_starts=starts,
    )
    return Information(
        information=information,
        tolerance_curve=tolerance_curve(fitted, floor=floor, shares=shares_of(how, per_token)),
        hinges=hinges(fitted),
        quantiles=quantiles(connection, reach, starts),
        positions=intact_positions(
            connection,
            documents=documents,
            weights=weights,
            confidence=how.confidence,
            worsening=measured.worsening,
        ),
        detectable=detectable(fitted, how.confidence),
        notes=notes,
    )
