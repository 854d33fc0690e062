"""Everything that is said of a run, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd

from probe.analysis.cells import cells, doubtful, far_range, windows_and_targets
from probe.analysis.contrasts import contrasts
from probe.analysis.documents import by_document
from probe.analysis.effective import EffectiveContext, effective_contexts, marked
from probe.analysis.fit import FittedCurve, curve_frame, draws_errors, fitted_curves
from probe.analysis.flags import flags
from probe.analysis.floor import NoiseFloor, is_noise, noise_floor
from probe.analysis.losses import Losses, losses
from probe.analysis.opened import Opened, opened
from probe.analysis.reading import reading
from probe.analysis.settings import Analysis
from probe.analysis.sums import document_sums
from probe.analysis.tails import tails
from probe.classes.source import groups
from probe.errors import ProbeError
from probe.findings.table import write_summary
from probe.results.folder import RunFolder, protocol_kind, read_folder
from probe.results.views import connect, measured_edges, refuse_unknown_windows


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
        curve: Delta by condition and bin, columns :data:`probe.analysis.fit.COLUMNS`.
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

    run: RunFolder
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
        return self.run.model

    @property
    def data(self) -> str:
        """The data set's name to show."""
        return self.run.data

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
    run = read_folder(run_dir, checked=False)
    how = analysis or Analysis.from_record(run.record)
    try:
        try:
            summary = _summary(run, how)
        except (duckdb.Error, _Doubtful):
            # Something in the rows: look at every part, and tell or leave out what is wrong.
            run = read_folder(run_dir)
            summary = _summary(run, how, checked=True)
    except (duckdb.Error, _Doubtful) as error:
        raise ProbeError(f"the scores of '{run.path}' cannot be read: {error}") from error
    if write:
        write_summary(summary)
    return summary


class _Doubtful(Exception):
    """Some loss is no finite number."""


def _summary(run: RunFolder, how: Analysis, *, checked: bool = False) -> Summary:
    windows = run.path / "windows.parquet"
    with connect(windows, run.parts, checked=checked) as connection:
        edges = measured_edges(connection, how.bins_per_octave)
        if doubtful(connection, cells(connection, edges)):
            refuse_unknown_windows(connection, windows)
            raise _Doubtful("a loss is no finite number")
        return _from_cells(run, opened(connection, run, how))


def _from_cells(run: RunFolder, found: Opened) -> Summary:
    connection, how, edges, starts = found.connection, found.how, found.edges, found.starts
    documents, weights = found.documents, found.weights
    table = cells(connection, edges)
    if not documents:
        raise ProbeError(f"run '{run.path}' holds no score: every part is empty")
    rows = document_sums(connection, edges, starts)
    fitted = fitted_curves(rows, documents, weights, how.confidence)
    floor = noise_floor(rows, found.reach, how.confidence)
    contexts = _contexts(fitted if _has_length(run) else {}, found, floor)
    contrast_table, missing = contrasts(
        connection,
        found.conditions,
        edges,
        documents=documents,
        weights=weights,
        confidence=how.confidence,
        curve_starts=starts,
    )
    lengths, quartiles, without_group = by_document(fitted, contexts, documents, groups(run.record))
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
            found.reach,
            documents=documents,
            weights=weights,
            confidence=how.confidence,
            curve_starts=starts,
        ),
        tails=tails(connection, found.reach, starts, edges),
        lengths=lengths,
        spread=quartiles,
        without_group=without_group,
        flags=flags(contexts, floor, measured, rows, trained=_trained_length(run)),
        warnings=(*run.warnings, *missing),
    )


def _trained_length(run: RunFolder) -> int | None:
    """Tokens that the model was trained on at once, ``None`` where the run does not say."""
    found = (run.record.get("model") or {}).get("trained_length")
    return None if found is None else int(found)


def _has_length(run: RunFolder) -> bool:
    """Whether a run perturbs all that lies further than a distance: else no length is read."""
    return protocol_kind(run.record) not in ("band", "suffix", "passages")


def _contexts(
    fitted: Mapping[str, FittedCurve], run: Opened, floor: NoiseFloor | None
) -> tuple[EffectiveContext, ...]:
    """The answers, condition by condition.

    The noise control has none, and no attention pattern: a pattern is no context that is cut off.
    """
    found: list[EffectiveContext] = []
    for condition, curve in fitted.items():
        if not is_noise(condition) and not condition.startswith("attend("):
            answers = effective_contexts(
                curve,
                run.how.tolerances,
                floor=floor,
                bytes_per_token=run.per_token,
                length=run.length,
            )
            found += marked(answers, curve)
    return tuple(found)
