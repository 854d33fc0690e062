"""Suffix identification: how often the gold continuation has the lowest loss, prefix by prefix."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from probe.analysis.bootstrap import (
    Bootstrap,
    Floats,
    bootstrap,
    pointwise_band,
    resample_weights,
    standard_error,
    too_few,
)
from probe.analysis.open_run import OpenRun
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import UsageError
from probe.findings.answer import subject
from probe.findings.base import CONDITION, Drawn, Finding, Plot, register
from probe.findings.chart import Axis, Chart, EmptyChartError, Rule, Series, distance_axis
from probe.findings.table import Table
from probe.results.folder import unique_labels
from probe.text import counted, signed

COLUMNS = (
    *("prefix", "accuracy", "low", "high", "chance"),
    *("margin", "margin_low", "margin_high", "gold", "best_distractor"),
    *("windows", "documents"),
)
"""Columns of ``suffix.csv``: the prefix in tokens, losses and margins in nats per token; limits are
missing with fewer documents than an interval needs."""
MARGIN = (
    "margin: mean loss of the best distractor less that of the gold continuation (nats per token);"
    " below 0 the model prefers another text"
)
TENTHS = tuple(number / 10 for number in range(0, 11, 2))


@dataclass(frozen=True, eq=False)
class Suffixes:
    """How well a model tells the gold continuation from others.

    Args:
        tokens: Tokens of a continuation.
        candidates: Continuations to choose among.
        table: One row a length of the prefix, columns :data:`COLUMNS`.
        gain: Accuracy behind the longest prefix less that behind the shortest, and its limits, of
            the same documents; ``None`` with one prefix, or too few documents for an interval.
        windows: Windows, each a choice behind each prefix.
        documents: Their documents, the unit of the intervals.
        choices: One row a window and prefix: ``document, window, prefix`` (tokens)``, correct``.
    """

    tokens: int
    candidates: int
    table: pd.DataFrame
    gain: tuple[float, float, float] | None
    windows: int
    documents: int
    choices: pd.DataFrame

    @property
    def chance(self) -> float:
        """Accuracy of a blind choice."""
        return 1 / self.candidates


def plot(runs: Sequence[OpenRun], *, condition: str | None = None) -> Drawn:
    """Accuracy by the length of the prefix of one run or several, for `probe plot`.

    Args:
        runs: The runs.
        condition: Not allowed: all rows are of one condition and its alternatives.

    Raises:
        UsageError: If a condition is asked for.
    """
    if condition is not None:
        raise UsageError(f"--condition '{condition}': protocol suffix has none; allowed: no option")
    yield "", chart(runs)


@register("suffix", order=10, level="answer", plots=[Plot("curve", plot, None, [CONDITION])])
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding | None:
    """The answer of a run that lets a model choose among continuations.

    Args:
        run: The open run.
        others: Not needed.
    """
    if not run.is_answered_by("suffix"):
        return None
    choices = run.once(suffixes)
    scored = len(choices.table) > 0
    return Finding(
        "answer",
        "The answer",
        sentence(run),
        _basis(run),
        tables=[_table(run)] if scored else [],
        charts=[chart([run])] if scored else [],
        caveats=[MARGIN, *run.warnings],
        files={"suffix.csv": choices.table},
    )


def suffixes(run: OpenRun) -> Suffixes:
    """Accuracy and margin behind each prefix.

    The candidate with the lowest mean loss is the model's choice; of equal ones each is chosen as
    likely. A window counts once for each prefix.

    Args:
        run: A run with protocol suffix.

    Raises:
        UsageError: If the run has another protocol.

    Source: Sun et al. 2021, section 5; Sun, Thai and Iyyer 2022.
    """
    if not run.is_answered_by("suffix"):
        raise UsageError(f"run '{run.path}' has another protocol; allowed: suffix")
    protocol = run.record["config"]["protocol"]
    tokens, candidates = int(protocol["tokens"]), int(protocol["candidates"])
    choices = _choices(run, tokens)
    table, gain = _by_prefix(run, choices)
    table = table.assign(chance=1 / candidates)[list(COLUMNS)]
    windows = choices[["document", "window"]].drop_duplicates()
    documents = windows["document"].nunique()
    return Suffixes(tokens, candidates, table, gain, len(windows), documents, choices)


def _choices(run: OpenRun, tokens: int) -> pd.DataFrame:
    """What the model chose, a row a window and prefix: ``document, window, prefix`` (tokens).

    ``gold`` and ``best_distractor`` are mean losses of so many tokens (nats), ``correct`` is 1, 0,
    or the share of the gold one among equal losses.
    """
    # Equal texts have equal losses; rounded, so that the order of a sum does not part them.
    return run.connection.execute(
        """WITH candidates AS (
            SELECT document::VARCHAR AS document, "window", condition = 'truncate' AS is_gold,
                condition, boundary, max(distance) + 1 - $tokens AS prefix,
                round(avg(nll::DOUBLE), 9) AS loss
            FROM rows
            WHERE condition = 'truncate' OR starts_with(condition, $alternatives)
            GROUP BY ALL),
        choices AS (
            SELECT document, "window", prefix, min(loss) FILTER (is_gold) AS gold,
                min(loss) FILTER (NOT is_gold) AS best_distractor, list(loss) AS losses
            FROM candidates GROUP BY document, "window", prefix)
        SELECT document, "window", prefix, gold, best_distractor,
            CASE WHEN gold > best_distractor THEN 0.0
                ELSE 1.0 / len(list_filter(losses, lambda x: x = gold)) END AS correct
        FROM choices WHERE gold IS NOT NULL AND best_distractor IS NOT NULL
        ORDER BY ALL""",
        {"tokens": tokens, "alternatives": run.folder.reading.alternatives},
    ).df()


def proportion_interval(hits: Floats, trials: Floats, confidence: float) -> tuple[float, float]:
    """Interval of a share, of which documents are the unit.

    Wilson's interval for as many independent trials as have the variance that is seen between
    documents, but for no more than there are trials; where all or none hit, nothing is seen and
    the documents themselves are counted. Unlike a bootstrap it has a width there.

    Args:
        hits: Hits by document, shape ``(documents,)``.
        trials: Trials by document, each at least 1.
        confidence: Confidence of the interval.

    Source: Korn and Graubard 1998; Wilson 1927.
    """
    total, share = float(trials.sum()), float(hits.sum() / trials.sum())
    documents = len(hits)
    error = float(standard_error(hits[:, None], trials[:, None])[0])
    effective = min(total, share * (1 - share) / error**2) if error > 0 else float(documents)
    quantile = (1 + confidence) / 2
    z = float(ndtri(quantile))
    effective *= (z / float(stdtrit(documents - 1, quantile))) ** 2
    middle = (share + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z * np.sqrt(share * (1 - share) / effective + (z / (2 * effective)) ** 2)
    half /= 1 + z**2 / effective
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def sentence(run: OpenRun) -> str:
    """Accuracy behind the longest prefix with its interval, and what the prefix adds to it."""
    choices = run.once(suffixes)
    if choices.table.empty:
        return f"{subject(run)}: no choice among candidates was scored."
    last, first = choices.table.iloc[-1], choices.table.iloc[0]
    if np.isnan(last["low"]):
        interval = f"interval unresolved: {too_few(int(last['documents']))}"
    else:
        interval = f"{_level(run)} {100 * last['low']:.1f} to {_share(last['high'])}"
    text = (
        f"{subject(run)}: the gold continuation of {choices.tokens:,} tokens is chosen among"
        f" {choices.candidates} in {_share(last['accuracy'])} of windows after"
        f" {counted(int(last['prefix']), 'token')} ({interval}); chance is {_share(choices.chance)}"
    )
    if choices.gain is None:
        return f"{text}."
    gain, low, high = (signed(100 * value, 1) for value in choices.gain)
    shortest = counted(int(first["prefix"]), "token")
    return f"{text}; the gain over {shortest} is {gain} percentage points ({low} to {high})."


def chart(runs: Sequence[OpenRun]) -> Chart:
    """How often the gold continuation is chosen, one line a run, with its interval and chance.

    Args:
        runs: The runs.

    Raises:
        EmptyChartError: If no run has a choice to draw.
    """
    drawn = [run for run in runs if len(run.once(suffixes).table)]
    if not drawn:
        raise EmptyChartError("no choice among candidates to draw")
    labels = unique_labels([run.folder for run in drawn])
    several = len(drawn) > 1
    choices = [run.once(suffixes) for run in drawn]
    tasks = [f"{one.candidates} continuations of {one.tokens:,} tokens" for one in choices]
    alike = len(set(tasks)) == 1
    names = [f"{label}: {run.model}" for label, run in zip(labels, drawn, strict=True)]
    if not alike:
        names = [f"{name}, {task}" for name, task in zip(names, tasks, strict=True)]
    series = [
        _line(run, names[look] if several else run.model, look) for look, run in enumerate(drawn)
    ]
    longest = max(float(one.table["prefix"].max()) for one in choices)
    how = (
        f"Each window is a choice among {' or '.join(dict.fromkeys(tasks))}"
        " behind the same prefix; the one with the lowest mean loss is chosen."
        " The band is the interval over documents, the dashed line blind choice."
    )
    return Chart(
        "Gold continuation chosen, by the length of the prefix",
        distance_axis(longest, label="prefix (tokens)"),
        # Marks at all or none of the windows have room.
        Axis("gold continuation chosen", 0, 1.04, "linear", TENTHS, percent=True),
        series,
        [
            Rule(1 / candidates, _chance(candidates, alike=alike), named=True)
            for candidates in sorted({one.candidates for one in choices}, reverse=True)
        ],
        how=how,
        tables=[] if several else [_table(drawn[0])],
        heading=[
            *dict.fromkeys(run.data for run in drawn),
            *([f"choice among {tasks[0]}"] if alike else []),
        ],
        file="" if several else "curve",
    )


def _chance(candidates: int, *, alike: bool) -> str:
    """What blind choice is called; where runs choose among different numbers, among how many."""
    return f"chance{'' if alike else f' among {candidates}'}, {_share(1 / candidates)}"


def _line(run: OpenRun, name: str, look: int) -> Series:
    table = run.once(suffixes).table
    x, y, low, high = (
        table[column].to_numpy(float) for column in ("prefix", "accuracy", "low", "high")
    )
    titles = [f"{row[0]} tokens: {row[1]} ({row[2]})" for row in _table(run).rows]
    return Series(name, x, y, look, low, high, titles=titles, points=True)


def _basis(run: OpenRun) -> str:
    """What the answer rests on, and where the other candidates come from."""
    choices = run.once(suffixes)
    windows, documents = counted(choices.windows, "window"), counted(choices.documents, "document")
    at = run.facts.config.protocol.at
    where = "elsewhere in the same document" if at is None else "other matches in the same document"
    return f"Measured on {windows} of {documents}; the other candidates are from {where}."


def _table(run: OpenRun) -> Table:
    """One row a prefix; the page folds it below the chart."""
    level, rows = _level(run), []
    for row in run.once(suffixes).table.to_dict("records"):
        margins = _between(row["margin_low"], row["margin_high"], "{:+.3f}")
        accuracies = _between(100 * row["low"], 100 * row["high"], "{:.1f}")
        accuracy, margin = _share(row["accuracy"]), signed(row["margin"], 3)
        numbers = [f"{row['windows']:,}", f"{row['documents']:,}"]
        rows.append([f"{row['prefix']:,}", accuracy, accuracies, margin, margins, *numbers])
    return Table(
        "Choices among candidates, by the length of the prefix (tokens)",
        ["prefix", "accuracy", level, "margin", level, "windows", "documents"],
        rows,
        shown="terminal",
        captioned=False,
        numbers="all",
    )


def _level(run: OpenRun) -> str:
    return f"{run.analysis.confidence * 100:g} % interval"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _between(low: float, high: float, form: str) -> str:
    if np.isnan(low) or np.isnan(high):
        return "–"
    return f"{form.format(low)} to {form.format(high)}".replace("-", "−")


def _by_prefix(
    run: OpenRun, choices: pd.DataFrame
) -> tuple[pd.DataFrame, tuple[float, float, float] | None]:
    """Accuracy and margin by prefix, and the gain from the shortest to the longest."""
    if choices.empty:
        return choices.reindex(columns=list(COLUMNS)), None
    how = run.analysis
    rows = choices.assign(margin=choices["best_distractor"] - choices["gold"], count=1.0)
    # Not by all documents of the run: one may have a score, but no choice.
    sums = rows.pivot_table(
        ["correct", "margin", "count"], "document", "prefix", aggfunc="sum", fill_value=0.0
    )
    hits, margins, counts = (sums[name].to_numpy(float) for name in ("correct", "margin", "count"))
    weights = resample_weights(len(sums), how.resamples, how.seed)
    accuracy, margin = (
        bootstrap(each, counts, weights, how.confidence) for each in (hits, margins)
    )
    table = rows.groupby("prefix").agg(
        gold=("gold", "mean"),
        best_distractor=("best_distractor", "mean"),
        windows=("window", "size"),
        documents=("document", "nunique"),
    )
    table["accuracy"], table["margin"] = accuracy.mean, margin.mean
    table[["margin_low", "margin_high"]] = np.column_stack(pointwise_band(margin, how.confidence))
    table[["low", "high"]] = [
        proportion_interval(of[trials > 0], trials[trials > 0], how.confidence)
        for of, trials in zip(hits.T, counts.T, strict=True)
    ]
    few = table["documents"] < FEWEST_DOCUMENTS
    table.loc[few, ["low", "high", "margin_low", "margin_high"]] = np.nan
    return table.reset_index(), _gain(accuracy, how.confidence)


def _gain(accuracy: Bootstrap, confidence: float) -> tuple[float, float, float] | None:
    """Accuracy behind the longest prefix less that behind the shortest, document by document."""
    if len(accuracy.mean) < 2 or accuracy.documents < FEWEST_DOCUMENTS:
        return None
    difference = accuracy.draws[:, -1] - accuracy.draws[:, 0]
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.nanquantile(difference, tails)
    return float(accuracy.mean[-1] - accuracy.mean[0]), float(low), float(high)
