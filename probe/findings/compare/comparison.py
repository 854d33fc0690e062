"""Two runs compared: differences of curves, of intact losses and of effective contexts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from probe.analysis.bins import bin_edges
from probe.analysis.fit import fit_curve
from probe.analysis.floor import NoiseFloor
from probe.analysis.open_run import OpenRun
from probe.analysis.settings import Analysis
from probe.errors import ProbeError
from probe.findings.compare import notes
from probe.findings.compare.differences import (
    CURVE_COLUMNS,
    by_octave,
    curve_rows,
    loss_rows,
    pattern_rows,
    patterns,
)
from probe.findings.compare.lengths import COLUMNS as CONTEXT_COLUMNS
from probe.findings.compare.lengths import context_row, read_length
from probe.findings.compare.pair import (
    SIDES,
    Pairing,
    bytes_per_token,
    conditions,
    connect_pair,
    create_rows,
    documents_of,
    far_range,
    pairing,
    places,
    same_boundaries,
    same_tokenizer,
)
from probe.findings.compare.pair_sums import (
    Draws,
    PairSums,
    Unit,
    draw,
    floors,
    pair_sums,
    reaches,
)
from probe.results.folder import unique_labels


@dataclass(frozen=True, eq=False)
class Comparison:
    """What two runs, A and B, say about one another; every difference is B − A.

    Args:
        a: Name of the first run, with its folder where both have one name.
        b: Name of the second.
        pairing: ``windows`` (the same targets in both), ``documents`` (the same documents,
            resampled together) or ``none`` (resampled independently).
        curve: Difference of delta by condition, unit and bin, columns
            :data:`probe.findings.compare.differences.CURVE_COLUMNS`: nats a token by distance in
            tokens, bits per byte by distance in bytes of text.
        octaves: The same by octave.
        contexts: Difference of effective contexts by condition, tolerance and unit, columns
            :data:`probe.findings.compare.lengths.COLUMNS`.
        losses: Difference of the intact loss, columns
            :data:`probe.findings.compare.differences.LOSS_COLUMNS`.
        patterns: Difference of what attention patterns lose, columns
            :data:`probe.findings.compare.differences.PATTERN_COLUMNS`; nats a token, of runs whose
            tokens are the same.
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


def compare(a: OpenRun, b: OpenRun) -> Comparison:
    """Compare two runs on what both measured, both read with the analysis settings of the first.

    Args:
        a: The first run.
        b: The second; the same run twice gives differences of exactly 0.

    Returns:
        The comparison. A tolerance in bytes is one number of bits per byte for both runs: nats a
        token over the bytes of an average token, the geometric mean of the two runs'.

    Raises:
        ProbeError: If rows cannot be read, or the runs have neither tokens nor text in common.
        UsageError: If a tolerance cannot be formed from these runs.
    """
    try:
        with connect_pair(a, b) as connection:
            return _comparison(connection, (a, b))
    except duckdb.Error as error:
        paths = f"'{a.path}' and '{b.path}'"
        raise ProbeError(f"the scores of {paths} cannot be compared: {error}") from error


@dataclass(frozen=True, eq=False)
class _Matched:
    """Two runs whose rows are matched.

    Args:
        connection: With the views of :func:`probe.findings.compare.pair.create_rows`.
        runs: Both runs.
        draws: Draws of the documents.
        per: Mean bytes of a token of each, ``None`` without text.
        how: How both are read.
    """

    connection: duckdb.DuckDBPyConnection
    runs: tuple[OpenRun, OpenRun]
    draws: Draws
    per: tuple[float | None, float | None]
    how: Analysis


@dataclass(frozen=True, eq=False)
class _Rows:
    """Differences condition by condition, with what could not be compared."""

    curve: list[pd.DataFrame] = field(default_factory=list)
    octaves: list[pd.DataFrame] = field(default_factory=list)
    contexts: list[dict[str, object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _comparison(connection: duckdb.DuckDBPyConnection, runs: tuple[OpenRun, OpenRun]) -> Comparison:
    how = runs[0].analysis
    same = same_tokenizer(connection, "a_windows", "b_windows")
    of_losses = pairing(connection, *runs, same)
    same = True if of_losses == "windows" else same
    create_rows(connection)
    # Windows that are cut at other boundaries have other targets at the same distances.
    apart = of_losses == "windows" and not same_boundaries(connection)
    of_curves: Pairing = "documents" if apart else of_losses
    documents = documents_of(connection, "a"), documents_of(connection, "b")
    per = bytes_per_token(connection, "a"), bytes_per_token(connection, "b")
    units = _units(runs, same, per)
    names = conditions(connection, "a"), conditions(connection, "b")
    lines = [
        *notes.read_with(*(run.analysis for run in runs)),
        *notes.matched(
            of_curves, of_losses, documents, [places(connection, side) for side in SIDES]
        ),
        *notes.differing(*runs),
        *notes.far_lengths([far_range(connection, side) for side in SIDES]),
        *notes.counted_in(units, same, None not in per),
        *notes.lacking(
            *(known + patterns(connection, side) for known, side in zip(names, SIDES, strict=True))
        ),
    ]
    matched = _Matched(connection, runs, draw(documents, of_curves, how), per, how)
    rows = _Rows()
    for unit in units:
        floor = floors(connection, unit, how.confidence)
        for condition in [name for name in names[0] if name in names[1]]:
            _add(rows, matched, condition, unit, floor)
    draws = draw(documents, of_losses, how)
    attended = pattern_rows(connection, runs, draws, how.confidence)
    tokens = any(unit.name == "tokens" for unit in units)
    if len(attended) and not tokens:
        rows.notes.append(
            "attention patterns: compared in nats a token, which other tokens have not"
        )
    a, b = unique_labels([run.folder for run in runs])
    return Comparison(
        a,
        b,
        pairing=of_curves,
        curve=_stacked(rows.curve),
        octaves=_stacked(rows.octaves),
        contexts=_context_frame(rows.contexts),
        losses=loss_rows(connection, draws, how.confidence, [unit.name for unit in units]),
        patterns=attended if tokens else attended.head(0),
        notes=(*lines, *rows.notes, *(warning for run in runs for warning in run.warnings)),
        confidence=how.confidence,
    )


def _units(
    runs: tuple[OpenRun, OpenRun], same: bool | None, per: tuple[float | None, float | None]
) -> list[Unit]:
    """What the runs can be compared in; without text equal vocabularies must do."""
    units = []
    first, second = per
    vocabularies = [run.facts.model.vocabulary for run in runs]
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
    matched: _Matched,
    condition: str,
    unit: Unit,
    floor: tuple[NoiseFloor | None, NoiseFloor | None],
) -> None:
    """Add the differences of one condition in one unit."""
    ends = reaches(matched.connection, condition, unit)
    pair = None
    if ends:
        edges = bin_edges(min(ends), matched.how.bins_per_octave)
        start = max(run.starts.get(condition, 0) for run in matched.runs)
        pair = pair_sums(matched.connection, condition, unit, matched.draws, edges, start)
    if not ends or not pair:
        rows.notes.append(f"{condition}: no distance in {unit.name} that both runs measured")
        return
    rows.notes.extend(filter(None, [notes.reached(condition, unit, ends)]))
    rows.curve.append(curve_rows(pair, matched.draws, matched.how))
    rows.octaves.append(curve_rows(by_octave(pair), matched.draws, matched.how))
    rows.contexts.extend(_context_rows(matched, pair, floor, rows.octaves[-1].iloc[-1]))


def _context_rows(
    matched: _Matched,
    pair: PairSums,
    floor: tuple[NoiseFloor | None, NoiseFloor | None],
    far: "pd.Series[Any]",
) -> Iterator[dict[str, object]]:
    """The difference of effective contexts at each tolerance."""
    how = matched.how
    curves = [
        fit_curve(pair.condition, sums, weights, how.confidence)
        for sums, weights in zip((pair.a, pair.b), matched.draws.weights, strict=True)
    ]
    sizes = matched.per if pair.unit.name == "tokens" else (pair.unit.per, pair.unit.per)
    for tolerance in how.tolerances:
        a, b = (
            read_length(curve, tolerance, limits, size, run.length_change)
            for curve, limits, size, run in zip(curves, floor, sizes, matched.runs, strict=True)
        )
        yield context_row(a, b, pair.unit, far, how.confidence)


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    if not frames:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.concat(frames, ignore_index=True)


def _context_frame(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(CONTEXT_COLUMNS))
    whole = ["difference", "low", "high", "delta_from", "delta_to"]
    real = ["octaves", "octaves_low", "octaves_high"]
    return frame.astype(dict.fromkeys(whole, "Int64") | dict.fromkeys(real, "Float64"))
