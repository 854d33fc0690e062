"""What kind of information: all that is said of a run beyond its effective contexts."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from probe.analysis.ablated import ablated_information
from probe.analysis.fit import FittedCurve
from probe.analysis.hinge import hinges
from probe.analysis.losses import Losses, losses
from probe.analysis.opened import Opened
from probe.analysis.positions import PositionFit, intact_positions
from probe.analysis.precision import detectable
from probe.analysis.quantiles import quantiles
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
        detectable: :func:`probe.analysis.precision.detectable`.
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
    run: Opened, fitted: Mapping[str, FittedCurve], measured: Losses | None = None
) -> Information:
    """Work out all of :class:`Information` from a run that is open and whose curves are fitted.

    Args:
        run: The open run.
        fitted: Curves by condition.
        measured: The run's losses, where they have been worked out before.

    Returns:
        The frames, and what is missing.
    """
    connection, how, floor = run.connection, run.how, run.floor
    measured = measured or losses(connection, how.confidence)
    information, notes = ablated_information(
        connection,
        run.conditions,
        run.edges,
        documents=run.documents,
        weights=run.weights,
        confidence=how.confidence,
        floor=floor,
        curve_starts=run.starts,
    )
    return Information(
        information=information,
        tolerance_curve=tolerance_curve(
            fitted, floor=floor, length=run.length, shares=shares_of(how, run.per_token)
        ),
        hinges=hinges(fitted),
        quantiles=quantiles(connection, run.reach, run.starts),
        positions=intact_positions(
            connection,
            documents=run.documents,
            weights=run.weights,
            confidence=how.confidence,
            worsening=measured.worsening,
        ),
        detectable=detectable(fitted, how.confidence),
        notes=notes,
    )
