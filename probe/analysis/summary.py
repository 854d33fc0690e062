"""Everything that is said of a run, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import bin_edges
from probe.analysis.bootstrap import resample_weights
from probe.analysis.cells import cells, doubtful, far_range, scored, windows_and_targets
from probe.analysis.contrasts import contrasts
from probe.analysis.curve import curve_frame, fitted_curves
from probe.analysis.documents import by_document
from probe.analysis.effective import EffectiveContext, effective_context
from probe.analysis.fitted import FittedCurve
from probe.analysis.flags import flags
from probe.analysis.floor import NoiseFloor, is_noise, noise_floor
from probe.analysis.losses import Losses, losses
from probe.analysis.lowered import marked
from probe.analysis.reading import reading
from probe.analysis.record import write_summary
from probe.analysis.repeats import draws_errors
from probe.analysis.runs import Run, open_run
from probe.analysis.settings import Analysis
from probe.analysis.sums import curve_starts, document_sums
from probe.analysis.tails import tails
from probe.analysis.views import (
    bytes_per_token,
    connect,
    longest_distance,
    refuse_unknown_windows,
)
from probe.errors import ProbeError


@dataclass(frozen=True, eq=False)
class Summary:
    """What a run says; distances and lengths in tokens, losses and deltas in nats a token.

    Args:
        run: The run.
        analysis: How it was read.
        documents: Documents with scores.
        windows: Windows with scores.
        targets: Targets with scores.
        reach: End of the last distance bin that can answer, of any condition.
        far: Shortest and longest far context behind an answer.
        curve: Delta by condition and bin, columns :data:`probe.analysis.curve.COLUMNS`.
        contexts: Effective context of each condition at each tolerance.
        floor: Noise floor, ``None`` without a noise condition.
        losses: Losses by condition and position.
        contrasts: Contrasts, columns :data:`probe.analysis.contrasts.COLUMNS`.
        reading: KL to intact by octave, columns :data:`probe.analysis.reading.COLUMNS`; empty where
            it was not measured.
        tails: Shares of targets helped and hurt, and what the top 1 % carries, by octave.
        lengths: Effective context of each document: ``condition, tolerance, document, length``.
        spread: Quartiles of these.
        without_group: Estimates without each group of documents.
        flags: What limits an answer, one line each.
        warnings: What is missing or could not be read, one line each.
    """

    run: Run
    analysis: Analysis
    documents: int
    windows: int
    targets: int
    reach: int
    far: tuple[int, int]
    curve: pd.DataFrame
    contexts: tuple[EffectiveContext, ...]
    floor: NoiseFloor | None
    losses: Losses
    contrasts: pd.DataFrame
    reading: pd.DataFrame
    tails: pd.DataFrame
    lengths: pd.DataFrame
    spread: pd.DataFrame
    without_group: pd.DataFrame
    flags: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def model(self) -> str:
        """The model's name to show."""
        return str((self.run.record.get("model") or {}).get("name") or "the model")

    @property
    def data(self) -> str:
        """The data set's name to show."""
        return str((self.run.record.get("data") or {}).get("name") or "the data")

    def context(self, condition: str, tolerance: str) -> EffectiveContext | None:
        """The answer for one condition and tolerance, ``None`` if there is none."""
        for context in self.contexts:
            if (context.condition, context.tolerance) == (condition, tolerance):
                return context
        return None


def summarise(
    run_dir: str | Path, *, analysis: Analysis | None = None, write: bool = True
) -> Summary:
    """Read a run folder and work out all that is said of it.

    Args:
        run_dir: The run folder.
        analysis: How to read it; by default what its configuration says.
        write: Whether to write ``curve.csv`` and ``summary.json`` into the folder.

    Returns:
        The summary.

    Raises:
        ProbeError: If the folder cannot be read, or holds no score.
        UsageError: If a tolerance is not understood or cannot be formed from this run.
    """
    run = open_run(run_dir, checked=False)
    how = analysis or Analysis.from_record(run.record)
    try:
        try:
            summary = _summary(run, how)
        except (duckdb.Error, _Doubtful):
            # Something in the rows: look at every part, and tell or leave out what is wrong.
            run = open_run(run_dir)
            summary = _summary(run, how)
    except (duckdb.Error, _Doubtful) as error:
        raise ProbeError(f"the scores of '{run.path}' cannot be read: {error}") from error
    if write:
        write_summary(summary)
    return summary


class _Doubtful(Exception):
    """Some loss is no finite number."""


def _summary(run: Run, how: Analysis) -> Summary:
    windows = run.path / "windows.parquet"
    with connect(windows, run.parts, checked=False) as connection:
        edges = bin_edges(max(longest_distance(connection) + 1, 1), how.bins_per_octave)
        if doubtful(connection, cells(connection, edges)):
            refuse_unknown_windows(connection, windows)
            raise _Doubtful("a loss is no finite number")
        return _from_cells(run, how, connection, edges)


def _from_cells(
    run: Run, how: Analysis, connection: duckdb.DuckDBPyConnection, edges: NDArray[np.int64]
) -> Summary:
    table = cells(connection, edges)
    documents, conditions = scored(connection, table)
    if not documents:
        raise ProbeError(f"run '{run.path}' holds no score: every part is empty")
    starts = curve_starts(run.record)
    rows = document_sums(connection, edges, starts)
    weights = resample_weights(len(documents), how.resamples, how.seed)
    fitted = fitted_curves(rows, documents, weights, how.confidence)
    floor = noise_floor(rows, int(edges[-1]), how.confidence)
    contexts = _contexts(
        fitted if _has_length(run) else {}, how, floor, bytes_per_token(connection)
    )
    contrast_table, missing = contrasts(
        connection,
        conditions,
        edges,
        documents=documents,
        weights=weights,
        confidence=how.confidence,
        curve_starts=starts,
    )
    lengths, quartiles, without_group = by_document(
        fitted, contexts, documents, _groups(run.record)
    )
    measured = losses(connection, how.confidence, edges)
    windows, targets = windows_and_targets(connection, table)
    return Summary(
        run=run,
        analysis=how,
        documents=len(documents),
        windows=windows,
        targets=targets,
        reach=max((context.reach for context in contexts), default=0),
        far=far_range(connection, table),
        curve=curve_frame(
            rows,
            fitted,
            documents=documents,
            weights=weights,
            confidence=how.confidence,
            floor=floor,
            draws=draws_errors(connection, edges),
            simultaneous=how.simultaneous,
        ),
        contexts=contexts,
        floor=floor,
        losses=measured,
        contrasts=contrast_table,
        reading=reading(
            connection,
            int(edges[-1]),
            documents=documents,
            weights=weights,
            confidence=how.confidence,
            curve_starts=starts,
        ),
        tails=tails(connection, int(edges[-1]), starts, edges),
        lengths=lengths,
        spread=quartiles,
        without_group=without_group,
        flags=flags(contexts, floor, measured, rows),
        warnings=(*run.warnings, *missing),
    )


def _has_length(run: Run) -> bool:
    """Whether a run perturbs all that lies further than a distance: else no length is read."""
    protocol = (run.record.get("config") or {}).get("protocol") or {}
    return protocol.get("kind") not in ("band", "suffix", "passages")


def _contexts(
    fitted: Mapping[str, FittedCurve],
    how: Analysis,
    floor: NoiseFloor | None,
    per_token: float | None,
) -> tuple[EffectiveContext, ...]:
    """The answers, condition by condition; the noise control has none."""
    found: list[EffectiveContext] = []
    for condition, curve in fitted.items():
        if not is_noise(condition):
            answers = (
                effective_context(curve, tolerance, floor=floor, bytes_per_token=per_token)
                for tolerance in how.tolerances
            )
            found += marked(list(answers), curve)
    return tuple(found)


def _groups(record: Mapping[str, Any]) -> dict[str, str]:
    """Group of each document that has one, as ``run.json`` says."""
    documents = (record.get("data") or {}).get("documents") or []
    return {
        str(document["id"]): str(document["group"])
        for document in documents
        if document.get("group") is not None
    }
