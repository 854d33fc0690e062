"""Two runs side by side: differences of curves, of intact losses and of effective contexts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from probe.analysis.compare import notes
from probe.analysis.compare.differences import (
    CURVE_COLUMNS,
    by_octave,
    curve_rows,
    loss_rows,
)
from probe.analysis.compare.draws import Draws, draw
from probe.analysis.compare.lengths import COLUMNS as CONTEXT_COLUMNS
from probe.analysis.compare.lengths import context_row, read_length
from probe.analysis.compare.pair import (
    SIDES,
    Pairing,
    connect_pair,
    documents_of,
    pairing,
    places,
)
from probe.analysis.compare.patterns import pattern_rows, scored
from probe.analysis.compare.rows import (
    bytes_per_token,
    conditions,
    create_rows,
    far_range,
    same_boundaries,
)
from probe.analysis.compare.sums import PairSums, Unit, floors, pair_sums, reaches
from probe.analysis.compare.text import same_tokenizer
from probe.analysis.fit import fit_curve
from probe.analysis.floor import NoiseFloor, length_limit
from probe.analysis.settings import Analysis
from probe.analysis.sums import curve_starts
from probe.errors import ProbeError
from probe.results.folder import RunFolder, read_folder, unique_labels
from probe.results.views import connect


@dataclass(frozen=True, eq=False)
class Comparison:
    """What two runs, A and B, say about one another; every difference is B − A.

    Args:
        a: Name of the first run, told by its folder where both have one name.
        b: Name of the second.
        pairing: ``windows`` (the same targets in both), ``documents`` (the same documents, drawn
            together) or ``none`` (drawn independently).
        curve: Difference of delta by condition, unit and bin, columns
            :data:`probe.analysis.compare.differences.CURVE_COLUMNS`: nats a token by distance in
            tokens, bits per byte by distance in bytes of text.
        octaves: The same by octave.
        contexts: Difference of effective contexts by condition, tolerance and unit, columns
            :data:`probe.analysis.compare.lengths.COLUMNS`.
        losses: Difference of the intact loss, columns
            :data:`probe.analysis.compare.differences.LOSS_COLUMNS`.
        patterns: Difference of what attention patterns lose, columns
            :data:`probe.analysis.compare.patterns.COLUMNS`; nats a token, of runs whose tokens are
            the same.
        notes: How the runs were matched and what differs, one line each.
        confidence: Confidence of every interval.
    """

    a: str
    b: str
    pairing: Pairing
    curve: pd.DataFrame
    octaves: pd.DataFrame
    contexts: pd.DataFrame
    losses: pd.DataFrame
    patterns: pd.DataFrame
    notes: tuple[str, ...]
    confidence: float

    @property
    def paired(self) -> bool:
        """Whether the differences are of the same targets."""
        return self.pairing == "windows"


def compare(a: str | Path, b: str | Path, *, analysis: Analysis | None = None) -> Comparison:
    """Compare two runs on what both measured.

    Args:
        a: Folder of the first run.
        b: Folder of the second; the same folder twice gives differences of exactly 0.
        analysis: How to read both; by default what the first run's configuration says.

    Returns:
        The comparison. A tolerance in bytes is one number of bits per byte for both runs: nats a
        token over the bytes of an average token, the geometric mean of the two runs'.

    Raises:
        ProbeError: If a folder cannot be read, or the runs have neither tokens nor text in common.
        UsageError: If a tolerance is not understood or cannot be formed from these runs.
    """
    runs = read_folder(a), read_folder(b)
    how, asked = analysis, list[str]()
    if how is None:
        how, other = (Analysis.from_record(run.record) for run in runs)
        asked = list(notes.read_with(how, other))
    try:
        for run in runs:
            with connect(run.path / "windows.parquet", run.parts):
                pass  # it refuses scores of windows that are not there
        with connect_pair(*runs) as connection:
            found = _comparison(connection, runs, how)
            return replace(found, notes=(*asked, *found.notes))
    except duckdb.Error as error:
        paths = " and ".join(f"'{run.path}'" for run in runs)
        raise ProbeError(f"the scores of {paths} cannot be compared: {error}") from error


def _comparison(
    connection: duckdb.DuckDBPyConnection, runs: tuple[RunFolder, RunFolder], how: Analysis
) -> Comparison:
    same = same_tokenizer(connection, "a_windows", "b_windows")
    found = pairing(connection, *runs, same)
    same = True if found == "windows" else same
    create_rows(connection)
    of_losses = found
    if found == "windows" and not same_boundaries(connection):
        found = "documents"
    documents = documents_of(connection, "a"), documents_of(connection, "b")
    for run, names in zip(runs, documents, strict=True):
        if not names:
            raise ProbeError(f"run '{run.path}' holds no score: every part is empty")
    per = bytes_per_token(connection, "a"), bytes_per_token(connection, "b")
    draws = draw(documents, found, how)
    units = _units(runs, same, per)
    own = conditions(connection, "a"), conditions(connection, "b")
    said = [
        *notes.matched(found, of_losses, documents, [places(connection, side) for side in SIDES]),
        *notes.differing(*runs),
        *notes.far_lengths([far_range(connection, side) for side in SIDES]),
        *notes.counted_in(units, same, None not in per),
        *notes.lacking(
            *(names + scored(connection, side) for names, side in zip(own, SIDES, strict=True))
        ),
    ]
    starts = [curve_starts(run.record) for run in runs]
    changes = [length_limit(run.record) for run in runs]
    rows = _Rows([], [], [])
    for unit in units:
        floor = floors(connection, unit, how.confidence)
        for condition in [name for name in own[0] if name in own[1]]:
            ends = reaches(connection, condition, unit)
            start = max(known.get(condition, 0) for known in starts)
            pair = ends and pair_sums(connection, condition, unit, draws, min(ends), start, how)
            if not ends or not pair:
                said.append(f"{condition}: no distance in {unit.name} that both runs measured")
                continue
            said += filter(None, [notes.reached(condition, unit, ends)])
            _add(rows, pair, draws, how, floor, per, changes)
    a, b = unique_labels(runs)
    every = draw(documents, of_losses, how)
    tokens = any(unit.name == "tokens" for unit in units)
    patterns = pattern_rows(connection, runs, every, how.confidence)
    if len(patterns) and not tokens:
        said.append("attention patterns: compared in nats a token, which other tokens have not")
    return Comparison(
        a,
        b,
        pairing=found,
        curve=_stacked(rows.curve),
        octaves=_stacked(rows.octaves),
        contexts=_context_frame(rows.contexts),
        losses=loss_rows(
            connection,
            every,
            how.confidence,
            [unit.name for unit in units],
        ),
        patterns=patterns if tokens else patterns.head(0),
        notes=(*said, *(warning for run in runs for warning in run.warnings)),
        confidence=how.confidence,
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    """What is found condition by condition."""

    curve: list[pd.DataFrame]
    octaves: list[pd.DataFrame]
    contexts: list[dict[str, object]]


def _units(
    runs: tuple[RunFolder, RunFolder], same: bool | None, per: tuple[float | None, float | None]
) -> list[Unit]:
    """What the runs can be compared in; without text equal vocabularies must do."""
    units = []
    first, second = per
    vocabularies = [(run.record.get("model") or {}).get("vocabulary") for run in runs]
    if same or (same is None and None in per and vocabularies[0] == vocabularies[1]):
        units.append(Unit("tokens"))
    if first is not None and second is not None:
        units.append(Unit("bytes", float(np.sqrt(first * second))))
    if not units:
        raise ProbeError(
            f"'{runs[0].path}' and '{runs[1].path}' cannot be compared: their tokenizers differ"
            f" (vocabularies of {vocabularies[0]} and {vocabularies[1]} tokens) and not both have"
            " text; allowed: the same tokenizer, or data with text"
        )
    return units


def _add(
    rows: _Rows,
    pair: PairSums,
    draws: Draws,
    how: Analysis,
    floor: tuple[NoiseFloor | None, NoiseFloor | None],
    per: tuple[float | None, float | None],
    changes: Sequence[float],
) -> None:
    """Add one condition in one unit."""
    rows.curve.append(curve_rows(pair, draws, how))
    rows.octaves.append(curve_rows(by_octave(pair), draws, how))
    far = rows.octaves[-1].iloc[-1]
    a, b = (
        fit_curve(pair.condition, sums, weights, how.confidence)
        for sums, weights in zip((pair.a, pair.b), draws.weights, strict=True)
    )
    sizes = per if pair.unit.name == "tokens" else (pair.unit.per, pair.unit.per)
    for tolerance in how.tolerances:
        first, second = (
            read_length(curve, tolerance, own_floor, size, change)
            for curve, own_floor, size, change in zip((a, b), floor, sizes, changes, strict=True)
        )
        rows.contexts.append(context_row(first, second, pair.unit, far, how.confidence))


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    if not frames:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.concat(frames, ignore_index=True)


def _context_frame(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(CONTEXT_COLUMNS))
    whole = ["difference", "low", "high", "delta_from", "delta_to"]
    real = ["octaves", "octaves_low", "octaves_high"]
    return frame.astype(dict.fromkeys(whole, "Int64") | dict.fromkeys(real, "Float64"))
