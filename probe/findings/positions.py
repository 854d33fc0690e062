"""The intact loss by position in the window, the power law that it may follow, and all losses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar, nnls
from scipy.special import stdtrit

from probe.analysis.bins import PLACES, place_edges, place_index
from probe.analysis.bootstrap import Floats, bootstrap
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import intervals, located, to_sums
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.findings.base import Finding, register
from probe.findings.chart import Chart, Series, linear_axis, position_axis
from probe.findings.table import Table, between, decimals, ranged, records
from probe.results.views import is_repeated

Integers = NDArray[np.int64]

EXPONENTS = (0.02, 4.0)
"""Between these an exponent can be told from a constant or a logarithm, and from a step."""
COLUMNS = ("position_from", "position_to", "loss", "low", "high", "fit", "targets")


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
        law: The power law; ``None`` where none could be fitted.
        table: ``position_from, position_to`` (tokens from the window's start, 0 being its first)
            ``, loss, low, high, fit`` (nats; ``fit`` is NaN without a power law)``, targets``.
        rises: Whether the loss rises from the second to the last quarter of the positions.
        text: The law in a line, or why there is none; and the warning where the loss rises.
    """

    law: PowerLaw | None
    table: pd.DataFrame
    rises: bool
    text: str


@register("positions", order=160, level="brief")
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """Intact loss by position with its power law, and the mean losses of all conditions.

    Args:
        run: The open run.
        others: Not needed.
    """
    means = {
        name: records(value) if isinstance(value, pd.DataFrame) else value
        for name, value in vars(run.once(losses)).items()
    }
    files = {"summary.json": {"losses": means}}
    return Finding("positions", "Intact loss by position", files=files)


@register("power_law", order=161)
def law(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding | None:
    """The section of the page: the law is worked out by `probe report` alone.

    Args:
        run: The open run.
        others: Not needed.
    """
    fit = run.once(intact_positions)
    if fit is None:
        return None
    rises = "The intact loss rises with position: read delta there with care."
    constants = vars(fit.law) if fit.law else dict.fromkeys(("floor", "scale", "exponent"))
    told = {"table": records(fit.table), "rises": fit.rises, "text": fit.text}
    return Finding(
        "positions",
        "Intact loss by position",
        _sentence(fit),
        more=[fit.text],
        tables=[_losses(run.once(losses))],
        charts=[_chart(fit.table)],
        caveats=[rises] if fit.rises else [],
        files={"findings.json": {"positions": {**constants, **told}}},
    )


def _sentence(fit: PositionFit) -> str:
    """Whether more text in front of a token helps at all, with the loss at both ends."""
    first, last = records(fit.table.iloc[[0, -1]])
    ends = (
        f"from {decimals(first['loss'])} nats at {between(first, 'position')} to"
        f" {decimals(last['loss'])} at {between(last, 'position')}"
    )
    if fit.rises:
        return f"The intact loss rises with position, {ends}."
    if fit.law is None:
        return f"The intact loss does not measurably fall with position, {ends}."
    return f"More text in front of a token helps: the intact loss falls with position, {ends}."


def losses(run: OpenRun) -> Losses:
    """Mean losses by condition and by position.

    The intact loss should fall, or stay, as more context stands before a target. Where it rises
    instead (beyond the trained length, say) delta has no meaning. The test is a t-test over
    documents of the difference between the last and the second quarter of the measured positions.

    Args:
        run: The open run.

    Returns:
        The losses of the run.
    """
    connection, table = run.connection, run.cells
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
    intact = run.once(_intact)
    first, last = intact["first"].min(), intact["last"].max()
    bins = intact["bin"].to_numpy(dtype=np.int64)
    octaves, quarters = (place_index(bins, first, last, way) for way in ("octave", "quarter"))
    quarters += 1
    places = intact.assign(quarter=quarters).groupby(["document", "quarter"])
    sums = places[["total", "targets"]].sum()
    means = (sums["total"] / sums["targets"]).unstack().reindex(columns=[2, 4])
    return Losses(
        by_condition,
        _mean_by(intact, octaves).reset_index(drop=True),
        _mean_by(intact, quarters).rename_axis("quarter").reset_index(),
        _worsening((means[4] - means[2]).dropna().to_numpy(), run.analysis.confidence),
    )


def _mean_by(intact: pd.DataFrame, groups: Integers) -> pd.DataFrame:
    frame = intact.groupby(groups).agg(
        position_from=("first", "min"),
        position_to=("last", "max"),
        loss=("total", "sum"),
        targets=("targets", "sum"),
    )
    frame["position_to"] += 1
    frame["loss"] /= frame["targets"]
    return frame


def _worsening(rises: Floats, confidence: float) -> tuple[float, float] | None:
    """Mean rise over documents (nats) and its lower limit, where that lies above 0."""
    if len(rises) < FEWEST_DOCUMENTS:
        return None
    error = rises.std(ddof=1) / np.sqrt(len(rises))
    low = rises.mean() - stdtrit(len(rises) - 1, (1 + confidence) / 2) * error
    return (float(rises.mean()), float(low)) if low > 0 else None


def intact_positions(run: OpenRun) -> PositionFit | None:
    """Mean intact loss by position with bands over documents, and a power law through it.

    The law is least squares weighted by targets. It is given only where the loss falls with
    position in the interval over documents, and the exponent is inside its bounds.

    Args:
        run: The open run.

    Returns:
        The table and the law; ``None`` where no intact row was scored.

    Source: Hestness et al. 2017, "Deep Learning Scaling is Predictable, Empirically", for the
        form; Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 3.1 and
        appendix D.5, for the loss by position in the context.
    """
    rows = _sums_by_position(run)
    if rows.empty:
        return None
    confidence, worsening = run.analysis.confidence, run.once(losses).worsening
    sums = to_sums(rows, run.documents)
    found = bootstrap(sums.sums, sums.targets, run.weights, confidence)
    # The middle of a bin, in positions counted from 1.
    places = (sums.lower + sums.upper + 1) / 2
    law, reason = _law(places, found.mean, found.draws, sums.targets.sum(axis=0), confidence)
    names = {"distance_from": "position_from", "distance_to": "position_to", "delta": "loss"}
    table = intervals(sums, found, confidence).rename(columns=names)
    table = table.assign(fit=np.nan if law is None else law.at(places))[list(COLUMNS)]
    text = reason if law is None else _formula(law, table)
    if worsening is not None:
        text += (
            f"; the intact loss rises with position, by {worsening[0]:.3f} nats (at least"
            f" {worsening[1]:.3f}) from the second to the last quarter"
        )
    return PositionFit(law, table, worsening is not None, text)


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
    short = "" if last >= 4 * first else ", too few octaves to separate floor and exponent"
    return (
        f"intact loss = {law.floor:.3f} + {law.scale:.3g} · position^−{law.exponent:.2f} nats"
        f" (positions {first:,} to {last:,}{short})"
    )


def _intact(run: OpenRun) -> pd.DataFrame:
    """Intact loss by bin of place and document: ``bin, document, total, targets, first, last``."""
    return run.connection.execute(
        f"""SELECT bin, document, sum(nll_sum) AS total, sum(targets)::BIGINT AS targets,
            min(far_min) AS first, max(far_max) AS last
        FROM {run.cells} WHERE condition = 'intact' AND bin <= {PLACES}
        GROUP BY bin, document ORDER BY document, bin"""
    ).df()


def _sums_by_position(run: OpenRun) -> pd.DataFrame:
    """Sums of the intact loss by step of position and document, as ``to_sums`` wants them."""
    rows = run.once(_intact)
    if rows.empty:
        return rows
    first, last = int(rows["first"].min()), int(rows["last"].max())
    edges = place_edges(first, last)["step"]
    bins = place_index(rows["bin"].to_numpy(dtype=np.int64), first, last, "step")
    summed = rows.assign(bin=bins).groupby(["bin", "document"], as_index=False)
    return located(summed[["total", "targets"]].sum().rename(columns={"total": "delta_sum"}), edges)


def _chart(rows: pd.DataFrame) -> Chart:
    x = (rows["position_from"] + rows["position_to"] - 1).to_numpy(float) / 2
    loss, low, high, fitted = (
        rows[name].to_numpy(float) for name in ("loss", "low", "high", "fit")
    )
    cells = [
        [between(row, "position"), ranged(row, "loss"), f"{int(row['targets']):,}"]
        for row in records(rows)
    ]
    titles = [f"positions {places}: {mean}" for places, mean, _ in cells]
    series = [Series("intact loss", x, loss, 0, low, high, titles=titles)]
    if np.isfinite(fitted).any():
        series.append(Series("power law", x, fitted, 1, points=False))
    columns = ["positions", "loss (nats)", "targets"]
    return Chart(
        "Intact loss by position",
        position_axis(x.min(), float(rows["position_to"].max()), "position (tokens)"),
        linear_axis(np.concatenate([loss, low, high]), "loss (nats per token)"),
        series,
        how=(
            "The loss of intact text should fall, or stay, the more text stands before a token."
            " Where it rises, delta has no meaning."
        ),
        tables=[Table("Intact loss by position in the window", columns, cells)],
    )


def _losses(measured: Losses) -> Table:
    headers = ["condition", "loss (nats per token)", "perplexity", "intact on the same", "targets"]
    cells = [
        [
            str(row["condition"]),
            decimals(row["loss"]),
            decimals(row["perplexity"], 2),
            decimals(row["intact_loss"]),
            f"{int(row['targets']):,}",
        ]
        for row in records(measured.by_condition)
    ]
    return Table("Mean losses; a condition's targets may repeat over runs", headers, cells)
