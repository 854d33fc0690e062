"""Suffix identification: how often the gold continuation has the lowest loss, prefix by prefix."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from scipy.stats import norm, t

from probe.analysis.bootstrap import (
    Bootstrap,
    Floats,
    bootstrap,
    pointwise_band,
    resample_weights,
    standard_error,
)
from probe.analysis.settings import Analysis
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import ProbeError, UsageError
from probe.results.csv_files import write_csv
from probe.results.folder import RunFolder, read_folder
from probe.results.views import DISTRACTOR, pattern

COLUMNS = (
    "prefix",
    "accuracy",
    "low",
    "high",
    "chance",
    "margin",
    "margin_low",
    "margin_high",
    "gold",
    "best_distractor",
    "windows",
    "documents",
)
"""Columns of ``suffix.csv``: the prefix in tokens, losses and margins in nats a token; limits are
missing with fewer documents than an interval needs."""


@dataclass(frozen=True, eq=False)
class SuffixAnswer:
    """How well a model tells the gold continuation from others.

    Args:
        run: The run.
        analysis: How it was read.
        tokens: Tokens of a continuation.
        candidates: Continuations to choose among.
        table: One row a length of the prefix, columns :data:`COLUMNS`.
        gain: Accuracy behind the longest prefix less that behind the shortest, and its limits, of
            the same documents; ``None`` with one prefix, or too few documents for an interval.
        windows: Windows, each a choice behind each prefix.
        documents: Their documents, the unit of the intervals.
    """

    run: RunFolder
    analysis: Analysis
    tokens: int
    candidates: int
    table: pd.DataFrame
    gain: tuple[float, float, float] | None
    windows: int
    documents: int

    @property
    def chance(self) -> float:
        """Accuracy of a blind choice."""
        return 1 / self.candidates


def is_suffix(record: Mapping[str, Any]) -> bool:
    """Whether a run's ``run.json`` says that its protocol is suffix."""
    config = record.get("config") or {}
    return bool((config.get("protocol") or {}).get("kind") == "suffix")


def suffix(
    run_dir: str | Path, *, analysis: Analysis | None = None, write: bool = True
) -> SuffixAnswer:
    """Read a run of protocol suffix.

    The candidate with the lowest mean loss is the model's choice; of equal ones each is chosen as
    likely. A window counts once for each prefix.

    Args:
        run_dir: The run folder.
        analysis: How to read it; by default what its configuration says.
        write: Whether to write ``suffix.csv`` into the folder.

    Raises:
        UsageError: If the run has another protocol.
        ProbeError: If it cannot be read.

    Source: Sun et al. 2021, section 5; Sun, Thai and Iyyer 2022.
    """
    run = read_folder(run_dir)
    if not is_suffix(run.record):
        raise UsageError(f"run '{run.path}' has another protocol; allowed: suffix")
    protocol = run.record["config"]["protocol"]
    tokens, candidates = int(protocol["tokens"]), int(protocol["candidates"])
    how = analysis or Analysis.from_record(run.record)
    try:
        choices = choices_of(run, tokens)
    except duckdb.Error as error:
        raise ProbeError(f"the scores of '{run.path}' cannot be read: {error}") from error
    documents = sorted(set(choices["document"]))
    weights = resample_weights(len(documents), how.resamples, how.seed)
    table, gain = _table(choices, documents, weights, how.confidence)
    table.insert(COLUMNS.index("chance"), "chance", 1 / candidates)
    if write:
        write_csv(run.path / "suffix.csv", table)
    windows = choices[["document", "window"]].drop_duplicates()
    return SuffixAnswer(run, how, tokens, candidates, table, gain, len(windows), len(documents))


def choices_of(run: RunFolder, tokens: int) -> pd.DataFrame:
    """One row a window and prefix: what the model chose.

    Args:
        run: A run of protocol suffix.
        tokens: Tokens of a continuation.

    Returns:
        ``document, window, prefix`` (tokens), ``gold`` and ``best_distractor`` (mean losses, nats)
        and ``correct``: 1, 0, or the share of the gold one among equal losses.
    """
    with duckdb.connect() as connection:
        files = [pattern(part) for part in run.parts]
        rows = connection.read_parquet(files, union_by_name=True, hive_partitioning=False)
        rows.create_view("rows")
        # Equal texts have equal losses; rounded, so that the order of a sum does not part them.
        return connection.execute(
            f"""WITH candidates AS (
                SELECT document::VARCHAR AS document, "window", condition = 'truncate' AS is_gold,
                    condition, boundary, max(distance) + 1 - {tokens:d} AS prefix,
                    round(avg(nll::DOUBLE), 9) AS loss
                FROM rows
                WHERE condition = 'truncate' OR starts_with(condition, '{DISTRACTOR}')
                GROUP BY ALL),
            choices AS (
                SELECT document, "window", prefix, min(loss) FILTER (is_gold) AS gold,
                    min(loss) FILTER (NOT is_gold) AS best_distractor, list(loss) AS losses
                FROM candidates GROUP BY document, "window", prefix)
            SELECT document, "window", prefix, gold, best_distractor,
                CASE WHEN gold > best_distractor THEN 0.0
                    ELSE 1.0 / len(list_filter(losses, lambda x: x = gold)) END AS correct
            FROM choices WHERE gold IS NOT NULL AND best_distractor IS NOT NULL
            ORDER BY ALL"""
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
    z = float(norm.ppf(quantile))
    effective *= (z / float(t.ppf(quantile, documents - 1))) ** 2
    middle = (share + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z * np.sqrt(share * (1 - share) / effective + (z / (2 * effective)) ** 2)
    half /= 1 + z**2 / effective
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _table(
    choices: pd.DataFrame, documents: list[str], weights: Floats, confidence: float
) -> tuple[pd.DataFrame, tuple[float, float, float] | None]:
    """Accuracy and margin by prefix, and the gain from the shortest to the longest."""
    prefixes = sorted(set(choices["prefix"]))
    columns = {name: _sums(choices, documents, prefixes, name) for name in ("correct", "count")}
    margin = choices["best_distractor"] - choices["gold"]
    margins = _sums(choices.assign(margin=margin), documents, prefixes, "margin")
    counts = columns["count"]
    accuracy = bootstrap(columns["correct"], counts, weights, confidence)
    apart = bootstrap(margins, counts, weights, confidence)
    low, high = pointwise_band(apart, confidence)
    rows = []
    for number, prefix in enumerate(prefixes):
        own = choices[choices["prefix"] == prefix]
        held = counts[:, number] > 0
        enough = int(held.sum()) >= FEWEST_DOCUMENTS
        limits = (np.nan, np.nan)
        if enough:
            hits, trials = columns["correct"][held, number], counts[held, number]
            limits = proportion_interval(hits, trials, confidence)
        rows.append(
            {
                "prefix": int(prefix),
                "accuracy": accuracy.mean[number],
                "low": limits[0],
                "high": limits[1],
                "margin": apart.mean[number],
                "margin_low": low[number] if enough else np.nan,
                "margin_high": high[number] if enough else np.nan,
                "gold": own["gold"].mean(),
                "best_distractor": own["best_distractor"].mean(),
                "windows": len(own),
                "documents": own["document"].nunique(),
            }
        )
    names = [name for name in COLUMNS if name != "chance"]
    few = accuracy.documents < FEWEST_DOCUMENTS
    gain = None if few else _gain(accuracy, confidence)
    return pd.DataFrame(rows, columns=names), gain


def _gain(accuracy: Bootstrap, confidence: float) -> tuple[float, float, float] | None:
    """Accuracy behind the longest prefix less that behind the shortest, document by document."""
    if len(accuracy.mean) < 2:
        return None
    difference = accuracy.draws[:, -1] - accuracy.draws[:, 0]
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.nanquantile(difference, tails)
    return float(accuracy.mean[-1] - accuracy.mean[0]), float(low), float(high)


def _sums(choices: pd.DataFrame, documents: list[str], prefixes: list[int], name: str) -> Floats:
    """Sum of a column by document and prefix, shape ``(documents, prefixes)``."""
    counted = choices.assign(count=1.0)
    found = counted.pivot_table(index="document", columns="prefix", values=name, aggfunc="sum")
    whole = found.reindex(index=documents, columns=prefixes).fillna(0.0)
    return np.asarray(whole.to_numpy(dtype=np.float64))
