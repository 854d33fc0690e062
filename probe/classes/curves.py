"""Curves, effective contexts and tables by token class, and when a class has too few targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import octave_edges, octave_index
from probe.analysis.bootstrap import Bootstrap, bootstrap, too_few
from probe.analysis.effective import EffectiveContext
from probe.analysis.fit import fit_curve, isotonic
from probe.analysis.floor import without_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import Sums, intervals, stacked
from probe.classes.class_sums import WHERE, ClassSums
from probe.classes.labels import DISTANCES
from probe.classes.table import classify
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.results.tolerance import Tolerance

MOST_VALUES = 30
"""Values of a class that get curves: those with most targets."""

CONTEXTS = (
    "class",
    "value",
    "condition",
    "tolerance",
    "kind",
    "length",
    "low",
    "high",
    "text",
    "targets",
    "documents",
    "reasons",
    "flags",
)
CURVES = (
    "class",
    "value",
    "condition",
    "distance_from",
    "distance_to",
    "delta",
    "low",
    "high",
    "fit",
    "targets",
    "documents",
)
FEWEST_TARGETS = 50
"""Below this many targets in an octave a mean of so skewed a thing as delta says too little."""
PLACES = (
    "condition",
    "distance_from",
    "distance_to",
    "where",
    "delta",
    "low",
    "high",
    "targets",
    "documents",
)


@dataclass(frozen=True, eq=False)
class ClassCurves:
    """What is said of the token classes of a run; distances in tokens, deltas in nats a token.

    Args:
        curves: Delta by class, value, condition and bin, columns ``CURVES``; limits are missing
            in bins with fewer than six documents.
        contexts: Effective contexts, columns ``CONTEXTS``: ``kind`` and ``text`` as in
            :class:`probe.analysis.effective.EffectiveContext`; ``length`` the estimate, ``low`` and
            ``high`` its limits (a missing one is beyond reach, all are missing if unresolved).
        counts: ``class, value, targets, share, documents``; every scored target once.
        occurrences: Delta by octave and by where the target's token last stood relative to the
            boundary: ``condition, distance_from, distance_to, where, delta, low, high, targets,
            documents``. Its members change along the curve, so it gives no length.
        copies: The same by where the longest copied context stands.
        notes: What a reader should know, one line each.
    """

    curves: pd.DataFrame
    contexts: pd.DataFrame
    counts: pd.DataFrame
    occurrences: pd.DataFrame
    copies: pd.DataFrame
    notes: tuple[str, ...]


def read_classes(run: OpenRun, names: Sequence[str]) -> ClassCurves:
    """Curves and answers of some token classes of a run, such as one of your own.

    Args:
        run: The open run.
        names: Names of classes, or files that hold some, as in ``analysis.classes``.
    """
    return class_curves(run, ClassSums(run, classify(run, names, write=run.write)))


def class_curves(run: OpenRun, sums: ClassSums) -> ClassCurves:
    """Curves and answers of each value of each class; the noise control has none.

    Args:
        run: The open run.
        sums: Its sums by class.

    Returns:
        Curves, answers, counts and tables.
    """
    reader, counts, table = ClassReader(run), sums.counts(), sums.table
    curves, contexts = _by_value(counts, sums, measured_bins(run), reader)
    occurrences, copies = (reader.placed(sums, name) for name in DISTANCES)
    return ClassCurves(
        curves,
        contexts,
        counts,
        occurrences,
        copies,
        (*table.notes, *_notes(table.classes, counts, run.connection)),
    )


def measured_bins(run: OpenRun) -> dict[str, NDArray[np.int64]]:
    """First distances of the bins that each condition has over all its targets, grey ones not.

    The noise control is left out: it has no answer.
    """
    rows = without_noise(run.sums[~run.sums["grey"].astype(bool)])
    return {
        str(condition): np.unique(part["distance_from"].to_numpy(dtype=np.int64))
        for condition, part in rows.groupby("condition")
    }


def _by_value(
    counts: pd.DataFrame,
    sums: ClassSums,
    measured: Mapping[str, NDArray[np.int64]],
    reader: "ClassReader",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves and contexts of the values with most targets of each class."""
    by_class = counts.sort_values("targets", ascending=False, kind="stable").groupby("class")
    drawn = counts[counts.index.isin(by_class.head(MOST_VALUES).index)]
    curves, answers = [], []
    for text, value in zip(drawn["class"], drawn["value"], strict=True):
        for condition, bins in measured.items():
            curve, contexts = reader.read(condition, sums.sums(text, value, condition), bins)
            if len(curve):
                curves.append(curve.assign(**{"class": text, "value": value}))
            answers += [_record(text, value, context) for context in contexts]
    frame = stacked(curves, CURVES)
    whole = dict.fromkeys(["length", "low", "high"], "Int64")
    return frame[[*CURVES]], pd.DataFrame(answers, columns=[*CONTEXTS]).astype(whole)


def _record(text: str, value: str, context: EffectiveContext) -> dict[str, object]:
    length, low, high = context.lengths
    return {
        "class": text,
        "value": value,
        "condition": context.condition,
        "tolerance": context.tolerance,
        "kind": context.kind,
        "length": length,
        "low": low,
        "high": high,
        "text": context.text(),
        "targets": context.targets,
        "documents": context.documents,
        "reasons": "; ".join(context.reasons),
        "flags": "; ".join(context.flags),
    }


def _notes(
    classes: Sequence[str], counts: pd.DataFrame, connection: duckdb.DuckDBPyConnection
) -> list[str]:
    """Classes without any member, and those with more values than are read."""
    texts = connection.execute("SELECT count(text) FROM windows").fetchall()[0][0]
    reason = "" if texts else ": the windows have no text"
    lines = []
    for text in classes:
        values = int((counts["class"] == text).sum())
        if not values:
            lines.append(f"token class {text} has no member{reason}")
        elif values > MOST_VALUES:
            lines.append(
                f"token class {text} has {values} values: curves of the {MOST_VALUES} with most"
                " targets"
            )
    return lines


@dataclass(frozen=True, eq=False)
class ClassReader:
    """Reads the sums of a class as those of the whole run, with its draws of documents.

    Args:
        run: The open run.
    """

    run: OpenRun

    def read(
        self, condition: str, sums: Sums, measured: NDArray[np.int64]
    ) -> tuple[pd.DataFrame, list[EffectiveContext]]:
        """The curve of one value under one condition, and its answer at each tolerance.

        An answer says that delta stays below the tolerance from a distance on, or does not up to
        the end: it is ``unresolved`` with fewer than six documents, or with fewer than
        ``FEWEST_TARGETS`` targets in any octave from the one of its lower limit to the end of the
        condition's curve. The octaves before may be thin: a lower limit stops there by itself.

        Args:
            condition: Canonical text of the condition.
            sums: Its sums.
            measured: First distances of the bins that the condition has over all targets (tokens),
                rising.

        Returns:
            A frame ``condition, distance_from, distance_to, delta, low, high, fit, targets,
            documents``, and the answers.
        """
        run, how = self.run, self.run.analysis
        octaves = _octaves(sums, measured)
        reason = _too_few(sums, octaves[-1:])
        if reason is None:
            curve = fit_curve(condition, sums, run.weights, how.confidence)
            resampled, fit = curve.resampled, curve.fit
            answers = [run.answer(curve, tolerance) for tolerance in how.tolerances]
            contexts = [_if_enough(answer, sums, octaves) for answer in answers]
        else:
            resampled = bootstrap(sums.sums, sums.targets, run.weights, how.confidence)
            fit = isotonic(resampled.mean, sums.targets.sum(axis=0))
            contexts = [
                _unresolved(condition, tolerance, sums, reason) for tolerance in how.tolerances
            ]
        frame = self.frame(sums, resampled)
        frame.insert(0, "condition", condition)
        frame.insert(6, "fit", fit)
        return frame, contexts

    def frame(self, sums: Sums, resampled: Bootstrap) -> pd.DataFrame:
        """Means by bin with their limits, which are missing below six documents.

        All draws that hold the one document of a bin agree: their limits would be none.
        """
        how = self.run.analysis
        frame = intervals(sums, resampled, how.confidence, simultaneous=how.simultaneous)
        frame.loc[frame["documents"] < FEWEST_DOCUMENTS, ["low", "high"]] = np.nan
        return frame

    def placed(self, sums: ClassSums, name: str) -> pd.DataFrame:
        """Delta by condition, octave and place relative to the boundary.

        Args:
            sums: The sums of the run.
            name: What is placed, one of ``DISTANCES``.

        Returns:
            A frame with the columns ``PLACES``.
        """
        run, frames = self.run, []
        for condition in sums.conditions(name):
            for where in WHERE:
                own = sums.sums(name, where, condition)
                if own.targets.any():
                    drawn = bootstrap(own.sums, own.targets, run.weights, run.analysis.confidence)
                    frame = self.frame(own, drawn)
                    frames.append(frame.assign(condition=condition, where=where))
        table = stacked(frames, PLACES)[[*PLACES]]
        table = table.sort_values(["condition", "distance_from", "where"])
        return table.reset_index(drop=True)


@dataclass(frozen=True)
class _Octave:
    """An octave of a condition's curve, and how many targets a value has there."""

    lower: int
    upper: int
    targets: int


def _octaves(sums: Sums, measured: NDArray[np.int64]) -> list[_Octave]:
    """The octaves in which the condition was measured at all."""
    numbers = np.unique(octave_index(measured))
    edges = octave_edges(int(measured[-1]) + 1)
    by_bin, targets = octave_index(sums.lower), sums.targets.sum(axis=0)
    return [
        _Octave(
            int(edges[number]), int(2 * max(edges[number], 4)), int(targets[by_bin == number].sum())
        )
        for number in numbers
    ]


def _too_few(sums: Sums, octaves: Sequence[_Octave]) -> str | None:
    """Why these octaves cannot answer, ``None`` if they can."""
    if not sums.targets.any():
        return "no target"
    if few := too_few(sums.documents):
        return few
    thinnest = min(octaves, key=lambda octave: octave.targets)
    if thinnest.targets >= FEWEST_TARGETS:
        return None
    return (
        f"{thinnest.targets} targets at distances {thinnest.lower}–{thinnest.upper - 1}, at least"
        f" {FEWEST_TARGETS} needed"
    )


def _if_enough(
    context: EffectiveContext, sums: Sums, octaves: Sequence[_Octave]
) -> EffectiveContext:
    """The answer, unresolved where one of the octaves that it rests on has too few targets."""
    first = octaves[-1].lower if context.lower is None else context.lower
    needed = [octave for octave in octaves if octave.upper > first] or octaves[-1:]
    reason = None if context.kind == "unresolved" else _too_few(sums, needed)
    if reason is None:
        return context
    nothing: dict[str, Any] = dict.fromkeys(["value", "estimate", "lower", "upper"])
    return replace(context, kind="unresolved", reasons=(reason,), **nothing)


def _unresolved(condition: str, tolerance: Tolerance, sums: Sums, reason: str) -> EffectiveContext:
    return EffectiveContext(
        condition=condition,
        tolerance=tolerance.text,
        epsilon=None,
        kind="unresolved",
        value=None,
        estimate=None,
        lower=None,
        upper=None,
        reach=int(sums.upper.max(initial=0)),
        reasons=(reason,),
        flags=(),
        documents=sums.documents,
        targets=int(sums.targets.sum()),
    )
