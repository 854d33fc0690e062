"""Prediction: how much narrower intervals are by what is known of documents not scored."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from probe.analysis.bootstrap import bootstrap, pointwise_band
from probe.analysis.effective import EffectiveContext
from probe.analysis.fit import fitted_curves
from probe.analysis.floor import is_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import by_octave, stacked, to_sums
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.findings.base import Finding, register
from probe.findings.table import Table, between, by_condition, decimals, ranged, records
from probe.results.tolerance import spaced

COLUMNS = (
    *("condition", "distance_from", "distance_to", "delta", "low", "high"),
    *("plain_delta", "plain_low", "plain_high", "width", "worth"),
)


_BY_IDS = (
    "Each target's n-grams are looked up in far and near text; delta is regressed on them, for each"
    " document without itself"
)
_BY_PROXY = (
    "The run's delta is regressed on that of the other model at the same distances, in its own"
    " tokens, for each document without itself"
)


@register("prediction", order=90, level="brief")
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """The intervals with and without what token ids predict.

    Args:
        run: The open run.
        others: Not needed.
    """
    proxy = run.proxy
    title = "What token ids predict" if proxy is None else f"What {proxy.name} predicts"
    nothing = Finding("prediction", title)
    if run.prediction is None or len(run.documents) < FEWEST_DOCUMENTS:
        return nothing
    rows, main = run.once(octaves), run.main_condition
    of_main = records(rows[rows["condition"] == main].sort_values("distance_from"))
    if not of_main:
        return nothing
    population, plain = run.prediction.population, plain_context(run)
    record = {"population": population, "octaves": records(rows)}
    record |= {"plain": None if plain is None else plain.full_text()}
    last = of_main[-1]
    known = "the token ids" if proxy is None else f"the losses of {proxy.name}"
    by = "no narrower"
    if (last["worth"] or 0) >= 1.05:
        by = f"{last['width']:.2f} times as wide, as {last['worth']:.1f} times as many scored"
        by += " documents would make it"
    sentence = (
        f"{len(run.documents):,} documents were scored, and {known} of {population:,} are known:"
        f" with them the interval of {main} at {between(last)} tokens is {by}."
    )
    more = []
    if plain is not None:
        more = [
            f"Without it the effective context of {main} at {spaced(plain.tolerance)} is"
            f" {plain.full_text()}."
        ]
    return replace(
        nothing,
        sentence=sentence,
        more=more,
        basis=(_BY_IDS if proxy is None else _BY_PROXY)
        + ", and the mean of the scored documents is moved by what they have more of than all.",
        tables=[_table(rows, run)],
        headlines=[sentence] if proxy is None else [sentence, *more],
        files={"summary.json": {"prediction": record}},
    )


def octaves(run: OpenRun) -> pd.DataFrame:
    """Delta by condition and octave with its interval, and as the scored documents alone say.

    Args:
        run: The open run, with a prediction.

    Returns:
        The columns ``COLUMNS`` (tokens, nats per token): ``width`` is that of the interval as a
        share of the plain one, ``worth`` how many times as many documents would make the plain one
        as narrow. Grey rows are left out.
    """
    confidence = run.analysis.confidence
    frames = []
    for ways in zip(
        run.sums.groupby("condition"), run.plain_sums.groupby("condition"), strict=True
    ):
        (condition, _), limits = ways[0], []
        if is_noise(str(condition)) or ways[0][1]["grey"].all():
            continue
        for _, rows in ways:
            pooled, texts = by_octave(rows[~rows["grey"]], run.last_edge), run.texts(str(condition))
            sums = to_sums(pooled, run.documents, texts)
            found = bootstrap(sums.sums, sums.targets, run.weights, confidence, sums.texts)
            limits.append(np.stack([found.mean, *pointwise_band(found, confidence)]))
        predicted, plain = limits
        with np.errstate(divide="ignore", invalid="ignore"):
            width = (predicted[2] - predicted[1]) / (plain[2] - plain[1])
            columns = [*predicted, *plain, width, width**-2.0]
        names = COLUMNS[3:]
        frame = pd.DataFrame(dict(zip(names, columns, strict=True)))
        frames.append(
            frame.assign(condition=str(condition), distance_from=sums.lower, distance_to=sums.upper)
        )
    return stacked(frames, COLUMNS)[[*COLUMNS]]


def plain_context(run: OpenRun) -> EffectiveContext | None:
    """The run's answer, as the scored documents alone say."""
    context = run.headline()
    if context is None:
        return None
    sums = run.plain_sums[run.plain_sums["condition"] == context.condition]
    how = run.analysis.confidence, run.texts
    (curve,) = fitted_curves(sums, run.documents, run.weights, *how).values()
    tolerances = {one.text: one for one in run.analysis.tolerances}
    return run.context_of(curve, tolerances[context.tolerance])


def _table(rows: pd.DataFrame, run: OpenRun) -> Table:
    lines = [
        [
            str(row["condition"]),
            between(row),
            ranged(row, "delta"),
            ranged({name: row[f"plain_{name}"] for name in ("delta", "low", "high")}, "delta"),
            decimals(row["width"], 2),
            decimals(row["worth"], 1),
        ]
        for row in by_condition(rows)
    ]
    return Table(
        "Delta (nats per token) with and without what is predicted: the width of the one interval"
        " as a share of the other, and how many times as many documents would give it",
        ["condition", f"distance ({run.unit})", "delta", "without", "width", "documents"],
        lines,
    )
