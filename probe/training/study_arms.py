"""The numbers of a study: every arm with its interval over documents, its spread over seeds."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from probe.analysis.bootstrap import (
    Bootstrap,
    Floats,
    bootstrap,
    pointwise_band,
    resample_weights,
    stretch,
)
from probe.analysis.effective import effective_context
from probe.analysis.fit import fit_curve
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import by_octave, to_sums
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.findings.answer import excluded
from probe.findings.key_tokens import KeyRule, lsd_table, transfer
from probe.protocols import registry
from probe.text import counted
from probe.training.study import Study, Trained
from probe.training.study_run import models, run_folder

COLUMNS = (
    *("measure", "quantity", "distance_from", "distance_to", "arm", "seeds", "documents"),
    *("value", "low", "high", "seed_low", "seed_high"),
    *("against", "difference", "difference_low", "difference_high", "difference_seed_low"),
    *("difference_seed_high", "difference_both_low", "difference_both_high", "detectable"),
)
"""Columns of ``arms.csv``: nats per token, distances in tokens. ``low`` and ``high`` are limits
over documents of the mean over seeds, ``seed_low`` and ``seed_high`` the least and the largest of a
seed; differences are from the arm ``against``, seed by seed, a row for each of those. The limits
``both`` are for other documents and other seeds: the variances of both added, t with the degrees of
freedom of Welch and Satterthwaite; ``detectable`` is what a difference must be for them to leave 0
out with 80 % power. Missing with one seed, or too few documents."""
POWER = 0.8
DELTA, FAR, INTACT, NEAR, KEYS = "delta", "far delta", "intact loss", "near loss", "key-token loss"


@dataclass(frozen=True, eq=False)
class Quantity:
    """Something measured of every model, as sums by document.

    Args:
        measure: The measure.
        name: What it is.
        lower: First distance of each bin (tokens), shape ``(bins,)``; one bin of 0 without any.
        upper: First distance behind each bin.
        sums: Sums (nats) of each model, shape ``(documents, bins)``.
        targets: Numbers of targets, same shape.
    """

    measure: str
    name: str
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    sums: Mapping[Trained, Floats]
    targets: Mapping[Trained, Floats]


@dataclass(frozen=True, eq=False)
class Arms:
    """What is known of the arms of a study.

    Args:
        study: The study.
        table: The columns ``COLUMNS``.
        contexts: Effective context by measure and arm, as text: of all seeds together, of each.
        confidence: Of the intervals.
        tolerance: What effective contexts may lose.
        caveats: What limits it, one line each.
    """

    study: Study
    table: pd.DataFrame
    contexts: Mapping[tuple[str, str], tuple[str, list[str]]]
    confidence: float
    tolerance: str
    caveats: list[str] = field(default_factory=list)

    def measures(self, quantity: str) -> list[str]:
        """Measures that give a quantity, in order."""
        return list(dict.fromkeys(self.table["measure"][self.table["quantity"] == quantity]))

    def row(
        self, quantity: str, arm: str, measure: str | None = None, against: str | None = None
    ) -> "pd.Series[float] | None":
        """A quantity of an arm: near loss of the last near octave, of others the first row.

        Args:
            quantity: Its name.
            arm: The arm.
            measure: A measure; by default the first that gives the quantity.
            against: The arm that it is compared with; by default the first of those.
        """
        known = self.measures(quantity)
        of = (self.table["quantity"] == quantity) & (self.table["arm"] == arm)
        of &= self.table["measure"] == (measure or (known or [""])[0])
        other = (self.others(arm) or [""])[0] if against is None else against
        rows = self.table[of & (self.table["against"] == other)]
        at = max(0, len(rows) // 2 - 1) if quantity == NEAR else 0
        return None if rows.empty else rows.iloc[at]

    def others(self, arm: str) -> list[str]:
        """Arms that one is compared with here."""
        return list(filter(None, dict.fromkeys(self.table["against"][self.table["arm"] == arm])))

    @property
    def arms(self) -> list[str]:
        """Names in order, the start first."""
        return list(dict.fromkeys(self.table["arm"]))


def arms_of(study: Study, folder: Path) -> Arms:
    """Read every measured run of a study.

    Args:
        study: The study.
        folder: Its folder.
    """
    frames, caveats = list[pd.DataFrame](), list[str]()
    contexts: dict[tuple[str, str], tuple[str, list[str]]] = {}
    confidence, tolerance = 0.95, ""
    for measure in study.measures:
        with ExitStack() as stack:
            runs = {
                one: stack.enter_context(OpenRun.of_folder(path, write=False))
                for one in models(study)
                if (path := run_folder(folder, measure, one)).is_dir()
            }
            if not runs:
                continue
            first = next(iter(runs.values()))
            confidence, documents = first.analysis.confidence, first.documents
            how, tolerance = first.analysis, first.analysis.tolerances[0].text
            weights = resample_weights(max(len(documents), 1), how.resamples, how.seed)
            found = [one for one in _quantities(measure, runs, documents) if len(one.lower)]
            frames += [_rows(one, study, weights, confidence) for one in found]
            caveats += [f"{measure}: {line}" for line in _left_out(first, found)]
            contexts |= _contexts(measure, runs, documents, weights)
            caveats += [line for run in runs.values() for line in run.warnings]
            if len(documents) < FEWEST_DOCUMENTS:
                caveats.append(f"{measure}: {counted(len(documents), 'document')}: no intervals")
    if len(study.seeds) < 3:
        caveats.append(
            f"{counted(len(study.seeds), 'seed')}: how results vary between seeds is not known "
            "from fewer than three"
        )
    table = pd.concat(frames, ignore_index=True)[list(COLUMNS)]
    return Arms(study, table, contexts, confidence, tolerance, list(dict.fromkeys(caveats)))


# -- sums of the runs --------------------------------------------------------------------------


def _quantities(
    measure: str, runs: Mapping[Trained, OpenRun], documents: Sequence[str]
) -> Iterator[Quantity]:
    """What a measure gives of every model."""
    yield _quantity(
        measure,
        INTACT,
        {
            one: run.connection.execute(
                "SELECT document, 0 AS distance_from, 0 AS distance_to, count(*) AS targets,"
                " sum(nll::DOUBLE) AS nats FROM scores WHERE condition = 'intact' GROUP BY document"
            ).df()
            for one, run in runs.items()
        },
        documents,
    )
    first = next(iter(runs.values()))
    if first.has_length and not _has_keys(first):
        curves = {one: _curve(run) for one, run in runs.items()}
        yield _quantity(measure, DELTA, curves, documents)
        losses = {one: frame.assign(nats=frame["short"]) for one, frame in curves.items()}
        yield _quantity(measure, NEAR, losses, documents)
    if _has_keys(first):
        lsd_table(first, KeyRule())  # makes the view of the key tokens
        keys = {one: transfer(first, run)[0] for one, run in runs.items()}
        if not sum(int(frame["keys"].sum()) for frame in keys.values()):
            return
        yield _quantity(
            measure,
            KEYS,
            {
                one: frame.assign(
                    distance_from=0, distance_to=0, targets=frame["keys"], nats=frame["key_sum"]
                )
                for one, frame in keys.items()
            },
            documents,
        )


def _has_keys(run: OpenRun) -> bool:
    """Whether short contexts choose its key tokens."""
    return registry.facts(run.folder.kind).has_short_context


def _left_out(run: OpenRun, found: Sequence[Quantity]) -> list[str]:
    """What a measure was asked for and does not give, by its first run, one line each."""
    if not _has_keys(run):
        return excluded(run) if run.has_length else []
    if any(one.name == KEYS for one in found):
        return []
    rule = KeyRule()
    limits = f"LSD > {rule.lsd:g}, LCL > {rule.lcl:g}".replace("-", "−")
    return [f"{run.model} has no key tokens ({limits}), so there is no LongPPL"]


def _curve(run: OpenRun) -> pd.DataFrame:
    """Delta and loss under the run's main condition by octave and document."""
    frame = run.connection.execute(
        """SELECT document, distance::BIGINT AS distance, count(*)::BIGINT AS targets,
            sum(delta) AS nats, sum(nll::DOUBLE) AS short
        FROM targets WHERE NOT grey AND condition = ? GROUP BY ALL""",
        [run.main_condition],
    ).df()
    start = run.starts.get(str(run.main_condition), 0)
    frame = frame[frame["distance"] >= start]
    frame = frame.assign(distance_from=frame["distance"], distance_to=frame["distance"] + 1)
    end = max(frame["distance"], default=0) + 1  # the last octave ends where targets do
    return by_octave(frame.drop(columns="distance"), min(end, run.last_edge))


def _quantity(
    measure: str, name: str, frames: Mapping[Trained, pd.DataFrame], documents: Sequence[str]
) -> Quantity:
    every = pd.concat(frames.values())
    ends = every[["distance_from", "distance_to"]].drop_duplicates().sort_values("distance_from")
    lower, upper = ends.to_numpy(dtype=np.int64).T

    def spread(frame: pd.DataFrame, column: str) -> Floats:
        wide = frame.pivot_table(
            index="document", columns="distance_from", values=column, aggfunc="sum"
        )
        wide = wide.reindex(index=list(documents), columns=lower)
        return wide.fillna(0).to_numpy(dtype=np.float64)

    return Quantity(
        measure,
        name,
        lower,
        upper,
        {one: spread(frame, "nats") for one, frame in frames.items()},
        {one: spread(frame, "targets") for one, frame in frames.items()},
    )


# -- arms and their differences ----------------------------------------------------------------


def _rows(quantity: Quantity, study: Study, weights: Floats, confidence: float) -> pd.DataFrame:
    """One row an arm, other arm and bin, and of delta one for the far half of its octaves."""
    bins = len(quantity.lower)
    blocks = [(quantity.name, np.eye(bins), quantity.lower, quantity.upper)]
    if quantity.name == DELTA:
        far = np.zeros((bins, 1))
        far[bins // 2 :] = 1 / (bins - bins // 2)
        # Which octaves are far is fixed before a loss is seen, and each counts alike.
        blocks.insert(0, (FAR, far, quantity.lower[[bins // 2]], quantity.upper[[-1]]))
    arms: dict[str, list[Trained]] = {}
    for one in quantity.sums:
        arms.setdefault(one.arm, []).append(one)
    resampled = {
        name: bootstrap(
            np.sum([quantity.sums[one] for one in own], axis=0),
            np.sum([quantity.targets[one] for one in own], axis=0),
            weights,
            confidence,
        )
        for name, own in arms.items()
    }
    means = {
        one: quantity.sums[one].sum(0) / np.maximum(quantity.targets[one].sum(0), 1)
        for one in quantity.sums
    }
    rows = []
    for name, mix, lower, upper in blocks:
        for arm, own in arms.items():
            low, high = _limits(_mixed(resampled[arm], mix), confidence)
            seeds = np.array([means[one] @ mix for one in own])
            others = [other for other in study.against(arm) if other in arms]
            for other in others or [""]:
                apart = _apart(resampled[arm], resampled.get(other), mix, confidence)
                pairs = np.array(
                    [
                        (means[one] - means[second]) @ mix
                        for one in own
                        for second in arms.get(other, ())
                        if one.seed == second.seed or None in (one.seed, second.seed)
                    ]
                )
                for at in range(mix.shape[1]):
                    row = {
                        "measure": quantity.measure,
                        "quantity": name,
                        "distance_from": int(lower[at]),
                        "distance_to": int(upper[at]),
                        "arm": arm,
                        "seeds": len(own),
                        "documents": resampled[arm].documents,
                        "value": float((resampled[arm].mean @ mix)[at]),
                        "low": low[at],
                        "high": high[at],
                        "seed_low": seeds[:, at].min(),
                        "seed_high": seeds[:, at].max(),
                        "against": other,
                    }
                    rows.append(row | (apart(at, pairs[:, at]) if len(pairs) else {}))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _mixed(one: Bootstrap, mix: Floats) -> Bootstrap:
    """Means of bins of a bootstrap, shape of *mix* ``(bins, means)``."""

    def means(values: Floats) -> Floats:
        # Bins of weight 0 are left out: no number in them would be none in the mean.
        return np.stack([values[..., own > 0] @ own[own > 0] for own in mix.T], axis=-1)

    return Bootstrap(
        means(one.mean),
        means(one.draws),
        one.targets @ (mix > 0),
        means(one.standard_error),
        one.documents,
    )


def _limits(one: Bootstrap, confidence: float) -> tuple[Floats, Floats]:
    if one.documents < FEWEST_DOCUMENTS:
        none = np.full(len(one.mean), np.nan)
        return none, none
    return pointwise_band(one, confidence)


def _apart(
    one: Bootstrap, other: Bootstrap | None, mix: Floats, confidence: float
) -> Callable[[int, Floats], dict[str, float]]:
    """What is said of the difference of two arms, as a function of the bin and the seeds' own."""
    other = other or one
    apart = Bootstrap(
        one.mean - other.mean,
        one.draws - other.draws,
        np.minimum(one.targets, other.targets),
        np.hypot(one.standard_error, other.standard_error),
        min(one.documents, other.documents),
    )
    mixed = _mixed(apart, mix)
    low, high = _limits(mixed, confidence)
    count = mixed.documents
    # The draws are stretched for few documents, which t does below.
    widened = stretch(count, confidence) / math.sqrt(count / max(count - 1, 1))
    errors = np.nanstd(mixed.draws, axis=0) / widened

    def row(at: int, seeds: Floats) -> dict[str, float]:
        value, error, factors = float(mixed.mean[at]), math.nan, (math.nan, math.nan)
        if len(seeds) > 1 and count >= FEWEST_DOCUMENTS:
            of_seeds, of_documents = seeds.var(ddof=1) / len(seeds), float(errors[at]) ** 2
            parts = of_documents**2 / (count - 1) + of_seeds**2 / (len(seeds) - 1)
            error = math.sqrt(of_seeds + of_documents)
            freedom = error**4 / parts if parts else math.inf
            level, power = (float(stdtrit(freedom, p)) for p in ((1 + confidence) / 2, POWER))
            factors = level, power
        return {
            "difference": value,
            "difference_low": low[at],
            "difference_high": high[at],
            "difference_seed_low": seeds.min(),
            "difference_seed_high": seeds.max(),
            "difference_both_low": value - factors[0] * error,
            "difference_both_high": value + factors[0] * error,
            "detectable": sum(factors) * error,
        }

    return row


def _contexts(
    measure: str,
    runs: Mapping[Trained, OpenRun],
    documents: Sequence[str],
    weights: Floats,
) -> dict[tuple[str, str], tuple[str, list[str]]]:
    """The effective context of each arm, of the curve of all its seeds together and of each."""
    found = {}
    arms: dict[str, list[OpenRun]] = {}
    for one, run in runs.items():
        arms.setdefault(one.arm, []).append(run)
    for arm, own in arms.items():
        heads = [run.headline() for run in own]
        if not own[0].has_length or _has_keys(own[0]) or None in heads:
            continue
        condition = str(own[0].main_condition)
        sums = pd.concat([run.plain_sums for run in own])
        sums = sums[(sums["condition"] == condition) & ~sums["grey"]]
        keys = ["distance_from", "distance_to", "document"]
        pooled = sums.groupby(keys, as_index=False)[["targets", "delta_sum"]].sum()
        how = own[0].analysis
        curve = fit_curve(condition, to_sums(pooled, documents), weights, how.confidence)
        answers = [
            effective_context(
                curve,
                tolerance,
                floor=own[0].floor,
                bytes_per_token=own[0].bytes_per_token,
                length=max(run.length_change for run in own),
            )
            for tolerance in how.tolerances[:1]
        ]
        tolerance = how.tolerances[0].text
        each = [run.context(condition, tolerance) for run in own]
        found[measure, arm] = (answers[0].text(), [one.text() for one in each if one is not None])
    return found
