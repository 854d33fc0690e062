"""What each token of the context adds to the prediction of each target (protocol dense)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from probe.analysis.bootstrap import resample_weights
from probe.analysis.lengths import Lengths, Measure, limits, measured, open_context
from probe.analysis.unigram import unigram_sums
from probe.errors import ProbeError, UsageError
from probe.results.folder import read_folder
from probe.results.views import connect, longest_context


def is_dense(record: Mapping[str, Any]) -> bool:
    """Whether a run's ``run.json`` says that its protocol is dense."""
    return longest_context(record) is not None


def importance(
    run_dir: str | Path, document: str, window: int, *, measure: Measure = "nll"
) -> pd.DataFrame:
    """What each token of the context adds to the prediction of each target of a window.

    The importance of the token at distance *j* (1 is the token right before the target) is what the
    loss, or the KL to the longest context, falls by when the context grows from *j* − 1 to *j*
    tokens and so begins with it. A target's importances add up to its loss by the unigram estimate
    less its loss with the longest context. KL has no value for the empty context, whose
    distribution is not compared with the model's: there distance 1 is missing.

    Args:
        run_dir: The run folder; only the rows of this window are read.
        document: The document's id.
        window: The window's number in it.
        measure: ``nll`` or ``kl``.

    Returns:
        A row a target and distance: ``position`` (of the target in the document)``, distance,
        context`` (position of the token)``, importance`` (nats).

    Raises:
        UsageError: If the run has another protocol, no such window, or no KL.
        ProbeError: If rows are missing, or the folder cannot be read.

    Source: Cífka & Liutkus 2023, section 3 (differential importance scores).
    """
    run = read_folder(run_dir, checked=False)
    context = open_context(run)
    try:
        with connect(run.path / "windows.parquet", run.parts, checked=False) as connection:
            if measure not in measured(connection):
                raise UsageError(f"run '{run.path}' has no {measure}: add it to its measures")
            rows = connection.execute(
                f"""SELECT position, distance, {measure}::DOUBLE AS value FROM scores
                WHERE document = $document AND "window" = $number AND condition = 'truncate'
                ORDER BY position, distance""",
                {"document": document, "number": window},
            ).df()
            empty = unigram_sums(connection, run, (document, window))
    except duckdb.Error as error:
        raise ProbeError(f"the scores of '{run.path}' cannot be read: {error}") from error
    if rows.empty:
        raise UsageError(f"run '{run.path}' has no window {window} of document {document!r}")
    positions = rows["position"].unique()
    if len(rows) != len(positions) * context:
        raise ProbeError(f"rows of window {window} of document {document!r} are missing")
    values = np.empty((len(positions), context + 1))
    values[:, 0] = empty if measure == "nll" else np.nan
    values[:, 1:] = rows["value"].to_numpy().reshape(len(positions), context)
    rows["context"] = rows["position"] - rows["distance"]
    rows["importance"] = -np.diff(values, axis=1).ravel()
    return rows[["position", "distance", "context", "importance"]]


def token_importance(frame: pd.DataFrame) -> pd.DataFrame:
    """What each token of a window adds to all targets behind it.

    Args:
        frame: From :func:`importance`.

    Returns:
        A row a token: ``position, total, mean`` (nats)``, targets`` (those it was in sight of).
    """
    known = frame.dropna(subset="importance")
    found = known.groupby("context")["importance"].agg(total="sum", mean="mean", targets="count")
    return found.rename_axis("position").reset_index()


def mean_importance(found: Lengths, measure: Measure = "nll") -> pd.DataFrame:
    """Mean importance of the token at each distance over a run, with its interval.

    Args:
        found: From :func:`probe.analysis.lengths.lengths`.
        measure: ``nll`` or ``kl``.

    Returns:
        A row a distance: ``distance`` (tokens)``, importance, low, high`` (nats; limits are missing
        with fewer documents than an interval needs).

    Raises:
        UsageError: If the measure was not scored.
    """
    if measure not in found.sums:
        raise UsageError(f"run '{found.summary.run.path}' has no {measure}")
    how = found.summary.analysis
    weights = resample_weights(len(found.targets), how.resamples, how.seed)
    steps = -np.diff(found.sums[measure], axis=1)
    mean, low, high, _ = limits(steps, found.targets, weights, how.confidence)
    distances = np.arange(1, found.context + 1)
    return pd.DataFrame({"distance": distances, "importance": mean, "low": low, "high": high})
