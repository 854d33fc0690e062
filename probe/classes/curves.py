"""Curves, effective contexts and tables by token class, and when a class has too few targets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

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
from probe.classes.registry import DISTANCES
from probe.classes.table import classify
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.perturbations.steps import part_of
from probe.results.tolerance import Tolerance

MOST_VALUES = 30
"""Values of a class that get curves: those with most targets."""

CONTEXTS = (
    *("class", "value", "condition", "tolerance", "kind", "length", "low", "high", "text"),
    *("targets", "documents", "reasons", "flags", "short"),
)
CURVES = (
    *("class", "value", "condition", "distance_from", "distance_to"),
    *("delta", "low", "high", "fit", "targets", "documents"),
)
FEWEST_TARGETS = 50
"""Below this many targets in an octave a mean of so skewed a thing as delta says too little."""
PLACES = (
    *("condition", "distance_from", "distance_to", "where"),
    *("delta", "low", "high", "targets", "documents"),
)
_NO_LENGTH: Mapping[str, Any] = dict.fromkeys(("value", "estimate", "lower", "upper"))


@dataclass(frozen=True, eq=False)
class ClassCurves:
    """What is said of the token classes of a run; distances in tokens, deltas in nats per token.

    Args:
        curves: Delta by class, value, condition and bin, columns ``CURVES``; limits are missing
            in bins with fewer than six documents.
        contexts: Effective contexts, columns ``CONTEXTS``: ``kind`` as in
            :class:`probe.analysis.effective.EffectiveContext`; ``length`` the estimate, ``low`` and
            ``high`` its limits (a missing one is beyond reach, all are missing if unresolved);
            ``text`` is the answer in full, ``short`` as tables have it.
        counts: ``class, value, targets, share, documents``; every scored target once.
        occurrences: Delta by octave and by where the target's token last stood relative to the
            boundary, columns ``PLACES``. Its members change along the curve, so it gives no
            length.
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
    counts, table = sums.counts(), sums.table
    notes = (*table.notes, *_notes(table.classes, counts, run.connection))
    occurrences, copies = (_placed(run, sums, name) for name in DISTANCES)
    return ClassCurves(*_by_value(run, counts, sums), counts, occurrences, copies, notes)


def _by_value(
    run: OpenRun, counts: pd.DataFrame, sums: ClassSums
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves and contexts of the values with most targets of each class."""
    by_class = counts.sort_values("targets", ascending=False, kind="stable").groupby("class")
    drawn = counts[counts.index.isin(by_class.head(MOST_VALUES).index)]
    rows = without_noise(run.sums[~run.sums["grey"].astype(bool)])
    measured = {
        str(condition): np.unique(part["distance_from"].to_numpy(dtype=np.int64))
        for condition, part in rows.groupby("condition")
    }
    curves, names, answers = [], [], []
    for text, value in zip(drawn["class"], drawn["value"], strict=True):
        for condition, bins in measured.items():
            of_value = run.adjusted(sums.sums(text, value, condition), condition)
            curve, contexts = _read(run, condition, of_value, bins)
            curves.append(curve)
            names += [(text, value, condition)] * len(curve)
            answers += [(text, value, *_values(context)) for context in contexts]
    table = stacked([curve for curve in curves if len(curve)], CURVES)
    table[["class", "value", "condition"]] = names or np.empty((0, 3), dtype=object)
    frame = pd.DataFrame(answers, columns=[*CONTEXTS])
    whole = dict.fromkeys(["length", "low", "high"], "Int64")
    return table[[*CURVES]], frame.astype(whole)


def _values(context: EffectiveContext) -> tuple[object, ...]:
    """What the frame of contexts has of an answer, in the order of its columns."""
    return (
        context.condition,
        context.tolerance,
        context.kind,
        *context.lengths,
        context.full_text(),
        context.targets,
        context.documents,
        "; ".join(context.reasons),
        "; ".join(context.flags),
        context.text(),
    )


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


def _read(
    run: OpenRun, condition: str, sums: Sums, measured: NDArray[np.int64]
) -> tuple[pd.DataFrame, list[EffectiveContext]]:
    """The curve of one value under one condition, and its answer at each tolerance.

    An answer says that delta stays below the tolerance from a distance on, or does not up to the
    end: it is ``unresolved`` with fewer than six documents, or with fewer than ``FEWEST_TARGETS``
    targets in any octave from the one of its lower limit to the end of the condition's curve. The
    octaves before may be thin: a lower limit stops there by itself. *measured* are the first
    distances of the bins (tokens) that the condition has over all targets, rising.
    """
    how, octaves = run.analysis, _octaves(sums, measured)
    reason = _too_few(sums, octaves[-1:])
    if reason is None:
        curve = fit_curve(condition, sums, run.weights, how.confidence)
        resampled, fit = curve.resampled, curve.fit
        answers = [run.context_of(curve, tolerance) for tolerance in how.tolerances]
        contexts = [_if_enough(answer, sums, octaves) for answer in answers]
    else:
        resampled = bootstrap(sums.sums, sums.targets, run.weights, how.confidence, sums.texts)
        fit = isotonic(resampled.mean, sums.targets.sum(axis=0))
        contexts = [_unresolved(condition, tolerance, sums, reason) for tolerance in how.tolerances]
    means = _means(run, sums, resampled)
    means["fit"] = fit
    return means, contexts


def _means(run: OpenRun, sums: Sums, resampled: Bootstrap) -> pd.DataFrame:
    """Means by bin with their limits, which are missing below six documents."""
    how = run.analysis
    return intervals(
        sums,
        resampled,
        how.confidence,
        simultaneous=how.simultaneous,
        fewest=FEWEST_DOCUMENTS,
    )


def _placed(run: OpenRun, sums: ClassSums, name: str) -> pd.DataFrame:
    """Delta by condition, octave and place relative to the boundary, of one of ``DISTANCES``.

    None of conditions whose far text is not that before a target: a source and what stands behind
    hold nothing of what was seen before.
    """
    frames = []
    for condition in sums.conditions(name):
        if not run.folder.reading.is_before or part_of(condition) == "source":
            continue
        for where in WHERE:
            own = run.adjusted(sums.sums(name, where, condition), condition)
            if own.targets.any():
                drawn = bootstrap(
                    own.sums, own.targets, run.weights, run.analysis.confidence, own.texts
                )
                frames.append(_means(run, own, drawn).assign(condition=condition, where=where))
    table = stacked(frames, PLACES)[[*PLACES]]
    return table.sort_values(["condition", "distance_from", "where"], ignore_index=True)


class _Octave(NamedTuple):
    """An octave in which a condition was measured, and what it has of a value.

    Args:
        lower: First distance (tokens).
        upper: The one behind the last.
        targets: Targets of the value.
    """

    lower: int
    upper: int
    targets: int


def _octaves(sums: Sums, measured: NDArray[np.int64]) -> list[_Octave]:
    """The octaves in which a condition was measured, and a value's targets in each."""
    numbers = np.unique(octave_index(measured))
    lower = octave_edges(int(measured[-1]) + 1)[numbers]
    by_octave = np.bincount(
        octave_index(sums.lower), sums.targets.sum(axis=0), minlength=numbers[-1] + 1
    )
    targets = by_octave[numbers].astype(np.int64)
    columns = (values.tolist() for values in (lower, 2 * np.maximum(lower, 4), targets))
    return list(map(_Octave, *columns))


def _too_few(sums: Sums, octaves: Iterable[_Octave]) -> str | None:
    """Why these octaves cannot answer, ``None`` if they can."""
    if not sums.targets.any():
        return "no target"
    if few := too_few(sums.documents):
        return few
    thinnest = min(octaves, key=lambda octave: octave.targets)
    if thinnest.targets >= FEWEST_TARGETS:
        return None
    return (
        f"{thinnest.targets} targets at distances {thinnest.lower:,}–{thinnest.upper - 1:,},"
        f" at least {FEWEST_TARGETS} needed"
    )


def _if_enough(
    context: EffectiveContext, sums: Sums, octaves: Sequence[_Octave]
) -> EffectiveContext:
    """The answer, unresolved where one of the octaves that it rests on has too few targets."""
    if context.kind == "unresolved":
        return context
    first = np.inf if context.lower is None else context.lower
    rests_on = [octave for octave in octaves if octave.upper > first] or octaves[-1:]
    reason = _too_few(sums, rests_on)
    if reason is None:
        return context
    return replace(context, kind="unresolved", reasons=(reason,), **_NO_LENGTH)


def _unresolved(condition: str, tolerance: Tolerance, sums: Sums, reason: str) -> EffectiveContext:
    return EffectiveContext(
        condition=condition,
        tolerance=tolerance.text,
        epsilon=None,
        kind="unresolved",
        reach=int(sums.upper.max(initial=0)),
        reasons=(reason,),
        flags=(),
        documents=sums.documents,
        targets=int(sums.targets.sum()),
        **_NO_LENGTH,
    )
