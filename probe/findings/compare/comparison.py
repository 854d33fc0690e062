"""Two runs compared: differences of curves, of intact losses and of effective contexts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pandas as pd

from probe.analysis.bins import bin_edges
from probe.analysis.effective import EffectiveContext
from probe.analysis.fit import fit_curve, in_order
from probe.analysis.floor import NoiseFloor
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import stacked
from probe.errors import ProbeError, UsageError
from probe.findings.compare.accuracy import COLUMNS as ACCURACY_COLUMNS
from probe.findings.compare.accuracy import accuracy_rows, are_choices, other_choice
from probe.findings.compare.differences import (
    CURVE_COLUMNS,
    FAR_COLUMNS,
    MOST,
    Draws,
    PairSums,
    Unit,
    by_octave,
    difference_rows,
    draw,
    far_row,
    first_distance,
    floors,
    loss_rows,
    pair_sums,
    pattern_rows,
    patterns,
    predicted,
    reaches,
)
from probe.findings.compare.lengths import Lengths, context_frame, context_row, read_length
from probe.findings.compare.matched import SETTINGS, at, by_value, confounds
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
from probe.perturbations.steps import part_of, shared_of
from probe.results.folder import unique_labels
from probe.text import counted


@dataclass(frozen=True, eq=False)
class Comparison:
    """What two runs, A and B, say about one another; every difference is B − A.

    Args:
        a: Name of the first run, with its folder where both have one name.
        b: Name of the second.
        pairing: ``windows`` (the same targets in both), ``documents`` (the same documents,
            resampled together) or ``none`` (resampled independently).
        curve: Difference of delta by condition, unit and bin, columns
            :data:`probe.findings.compare.differences.CURVE_COLUMNS`: nats per token by distance in
            tokens, bits per byte by distance in bytes of text.
        octaves: The same by octave.
        far: The same in one number a condition and unit, over the far half of the octaves, columns
            :data:`probe.findings.compare.differences.FAR_COLUMNS`.
        contexts: Difference of effective contexts by condition, tolerance and unit, columns
            :data:`probe.findings.compare.lengths.COLUMNS`.
        losses: Difference of the intact loss, columns
            :data:`probe.findings.compare.differences.LOSS_COLUMNS`.
        patterns: Difference of what attention patterns lose, columns
            :data:`probe.findings.compare.differences.PATTERN_COLUMNS`; nats per token, of runs
            whose tokens are the same.
        accuracy: Difference of accuracy of two runs of protocol suffix, columns
            :data:`probe.findings.compare.accuracy.COLUMNS`.
        notes: How the runs were matched and what differs, one line each.
        caveats: What limits the comparison, the gravest first, one line each; all but the first are
            among the notes too.
        confidence: Confidence of every interval.
        about: What each of the runs is, with its name, its model and its data.
        matching: How the runs were matched, the first of the notes about that.
        pattern: The attention pattern that is told first: the first one of A's configuration that
            both have; empty where there is none.
        hindrance: Why the runs are no answers to one question; empty where they are.
        has_length: Whether all text beyond a distance was perturbed in both, so that there are
            lengths to compare.
        counted_in: What distances are told in where the unit is tokens: ``ms`` of sound.
    """

    a: str
    b: str
    pairing: Pairing
    curve: pd.DataFrame
    octaves: pd.DataFrame
    far: pd.DataFrame
    contexts: pd.DataFrame
    losses: pd.DataFrame
    patterns: pd.DataFrame
    accuracy: pd.DataFrame
    notes: tuple[str, ...]
    caveats: tuple[str, ...]
    confidence: float
    about: tuple[str, str]
    matching: str
    pattern: str = ""
    hindrance: str = ""
    has_length: bool = True
    counted_in: str = "tokens"

    @property
    def paired(self) -> bool:
        """Whether the differences are of the same targets."""
        return self.pairing == "windows"

    @property
    def unit(self) -> str:
        """What distances are counted in where one unit is told: tokens, if both have the same."""
        return "tokens" if (self.far["unit"] == "tokens").any() else "bytes"

    def told_in(self, unit: str) -> str:
        """A unit in the words of a reader."""
        return self.counted_in if unit == "tokens" else unit

    @property
    def condition(self) -> str | None:
        """The condition that is told first, by its name alone: truncate, content, order."""
        return next(iter(in_order(self.far["condition"].astype(str))), None)


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


def _comparison(connection: duckdb.DuckDBPyConnection, runs: tuple[OpenRun, OpenRun]) -> Comparison:
    how = runs[0].analysis
    same = same_tokenizer(connection)
    of_losses = pairing(connection, *runs, same)
    same = True if of_losses == "windows" else same
    create_rows(connection)
    # Windows that are cut at other boundaries have other targets at the same distances.
    apart = of_losses == "windows" and not same_boundaries(connection)
    of_curves: Pairing = "documents" if apart else of_losses
    documents = documents_of(connection, "a"), documents_of(connection, "b")
    per = bytes_per_token(connection, "a"), bytes_per_token(connection, "b")
    units = _units(runs, same, per)
    read_with, differ = list(_read_with(*runs)), list(_differing(*runs))
    how_matched = list(
        _matched(of_curves, of_losses, documents, [places(connection, side) for side in SIDES])
    )
    far_lengths = list(_far_lengths([far_range(connection, side) for side in SIDES], runs[0].unit))
    counted_in = list(_counted_in(units, same, None not in per))
    measured = [conditions(connection, side) + patterns(connection, side) for side in SIDES]
    lines = [*read_with, *how_matched, *differ, *far_lengths, *counted_in, *_lacking(*measured)]
    rows = _by_condition(connection, runs, draw(documents, of_curves, how), units, per)
    draws = draw(documents, of_losses, how)
    attended = pattern_rows(connection, runs, draws, how.confidence)
    if len(attended) and all(unit.name != "tokens" for unit in units):
        attended = attended.head(0)
        rows.notes.append(
            "attention patterns: compared in nats per token, which other tokens have not"
        )
    a, b = unique_labels([run.folder for run in runs])
    warnings = [
        f"{side}: {line}" for side, run in zip("AB", runs, strict=True) for line in run.warnings
    ]
    others = confounds(runs, "AB")
    also = [f"they also differ in {'; '.join(others)}"] if others else []
    shared = [name for name in measured[0] if name in measured[1] and shared_of(name)]
    also += [f"{name}: intervals of differences leave out the choice of texts" for name in shared]
    return Comparison(
        a,
        b,
        pairing=of_curves,
        curve=stacked(rows.curve, CURVE_COLUMNS),
        octaves=stacked(rows.octaves, CURVE_COLUMNS),
        far=stacked(rows.far, FAR_COLUMNS)[[*FAR_COLUMNS]],
        contexts=context_frame(rows.contexts),
        losses=loss_rows(connection, draws, how.confidence, units),
        patterns=attended,
        accuracy=_accuracy(connection, runs, draws),
        notes=tuple(dict.fromkeys((*lines, *rows.notes, *runs[0].warnings, *runs[1].warnings))),
        caveats=(*also, *warnings, *read_with, *how_matched[1:], *rows.first_notes, *far_lengths),
        confidence=how.confidence,
        about=(
            f"{a}, {runs[0].model} on {runs[0].data}",
            f"{b}, {runs[1].model} on {runs[1].data}",
        ),
        matching=how_matched[0],
        pattern=next((name for name in runs[0].patterns if name in set(attended["condition"])), ""),
        hindrance=_hindrance(runs, measured),
        has_length=all(run.has_length for run in runs),
        counted_in=runs[0].unit,
    )


def _hindrance(runs: tuple[OpenRun, OpenRun], measured: Sequence[Sequence[str]]) -> str:
    """Why two runs measured no one thing; empty where they did."""
    if are_choices(runs):
        return other_choice(runs)
    kinds = [run.folder.kind for run in runs]
    if kinds[0] != kinds[1] and not all(run.has_length for run in runs):
        return f"protocol {kinds[0]} of A and {kinds[1]} of B do not perturb the same text"
    if not set(measured[0]) & set(measured[1]):
        a, b = (", ".join(names[:3]) or "none" for names in measured)
        return f"no condition is in both (A: {a}; B: {b})"
    return ""


def _accuracy(
    connection: duckdb.DuckDBPyConnection, runs: tuple[OpenRun, OpenRun], draws: Draws
) -> pd.DataFrame:
    if not are_choices(runs):
        return stacked([], ACCURACY_COLUMNS)
    return accuracy_rows(connection, runs, draws, runs[0].analysis.confidence)


def _units(
    runs: tuple[OpenRun, OpenRun], same: bool | None, per: tuple[float | None, float | None]
) -> list[Unit]:
    """What the runs can be compared in; without text equal vocabularies must do."""
    units = []
    first_run, second_run = runs
    if first_run.unit != second_run.unit:
        raise UsageError(
            f"'{first_run.path}' counts distances in {first_run.unit}, '{second_run.path}' in "
            f"{second_run.unit}; allowed: runs that count in the same"
        )
    if first_run.unit != "tokens":
        per = None, None  # text has bytes, and sound none
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


@dataclass(frozen=True, eq=False)
class _Rows:
    """Differences condition by condition, with what could not be compared."""

    curve: list[pd.DataFrame] = field(default_factory=list)
    octaves: list[pd.DataFrame] = field(default_factory=list)
    far: list[pd.DataFrame] = field(default_factory=list)
    contexts: list[dict[str, object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def first_notes(self) -> list[str]:
        """The notes on the condition and the unit that are told first."""
        if not self.far:
            return []
        unit = self.far[0]["unit"].iloc[0]
        condition, *_ = in_order(str(row["condition"].iloc[0]) for row in self.far)
        start, middle = f"{condition} is compared up to ", f" {unit}, as far"
        return [note for note in self.notes if note.startswith(start) and middle in note]


def _by_condition(
    connection: duckdb.DuckDBPyConnection,
    runs: tuple[OpenRun, OpenRun],
    draws: Draws,
    units: Sequence[Unit],
    per: tuple[float | None, float | None],
) -> _Rows:
    """The differences of each condition that both runs have, in each unit."""
    rows, how = _Rows(), runs[0].analysis
    in_characters = any(run.facts.config.windows.get("unit") == "characters" for run in runs)
    names, others = (conditions(connection, side) for side in SIDES)
    for unit in units:
        floor = floors(connection, unit, how.confidence)
        sizes = per if unit.name == "tokens" else (unit.per, unit.per)
        for condition in [name for name in names if name in others]:
            ends = reaches(connection, condition, unit)
            if ends and unit.name == "tokens":  # no further than each run alone is read
                ends = min(ends[0], runs[0].last_edge), min(ends[1], runs[1].last_edge)
            pair = None
            if ends:
                pair = _curve_sums(connection, runs, condition, unit, draws, min(ends))
            if not ends or not pair:
                missing = f"no distance in {unit.name} that both runs measured"
                if unit.name == "bytes" and part_of(condition) == "source":
                    missing = "distances in a source, whose text a run does not keep, have no bytes"
                rows.notes.append(f"{condition}: {missing}")
                continue
            rows.notes.extend(_reached(condition, unit, ends, in_characters))
            for sums, frames in ((pair, rows.curve), (by_octave(pair), rows.octaves)):
                frames.append(difference_rows(sums, how.confidence, simultaneous=how.simultaneous))
            rows.far.append(far_row(pair, how.confidence))
            if not all(run.has_length for run in runs):
                continue
            for a, b in _lengths(pair, runs, floor, sizes):
                far = rows.octaves[-1].iloc[-1]
                rows.contexts.append(context_row(a, b, unit, far, how.confidence))
    return rows


def _curve_sums(
    connection: duckdb.DuckDBPyConnection,
    runs: tuple[OpenRun, OpenRun],
    condition: str,
    unit: Unit,
    draws: Draws,
    reach: int,
) -> PairSums | None:
    """Sums of delta by bin up to a reach in the unit, grey rows left out."""
    edges = bin_edges(reach, runs[0].analysis.bins_per_octave)
    start = max(run.starts.get(condition, 0) for run in runs)
    edges = edges[edges >= first_distance(connection, condition, unit, start)]
    rows = f"FROM {{side}}_{unit.name} WHERE condition = $condition AND NOT grey"
    pair = pair_sums(connection, condition, unit, draws, rows, edges)
    return pair and predicted(pair, *runs)


def _lengths(
    pair: PairSums,
    runs: tuple[OpenRun, OpenRun],
    floor: tuple[NoiseFloor | None, NoiseFloor | None],
    sizes: tuple[float | None, float | None],
) -> Iterator[Sequence[Lengths | EffectiveContext]]:
    """The effective contexts of both runs at each tolerance."""
    how = runs[0].analysis
    curves = [
        fit_curve(pair.condition, sums, weights, how.confidence)
        for sums, weights in zip((pair.a, pair.b), pair.draws.weights, strict=True)
    ]
    for tolerance in how.tolerances:
        yield [
            read_length(curve, tolerance, limits, size, run.length_change)
            for curve, limits, size, run in zip(curves, floor, sizes, runs, strict=True)
        ]


def _differing(a: OpenRun, b: OpenRun) -> Iterator[str]:
    """What the runs differ in, one line each."""
    for name, keys in SETTINGS.items():
        values = [at(run.record, keys) for run in (a, b)]
        if None not in values and values[0] != values[1]:
            yield f"{name}: {values[0]} in A, {values[1]} in B"


def _read_with(a: OpenRun, b: OpenRun) -> Iterator[str]:
    """That both runs are read with the settings of A, where those of B are others."""
    unequal = [f"{name} {first} (in B {second})" for name, (first, second) in _unequal([a, b])]
    if unequal:
        yield f"both are read with the analysis settings of A: {', '.join(unequal)}"


def settings_apart(runs: Sequence[OpenRun]) -> Iterator[str]:
    """The analysis settings that the rows of a table do not share, one line each."""
    labels = unique_labels([run.folder for run in runs])
    for name, values in _unequal(runs):
        yield f"{name}: {by_value(values, labels)}; each row of the table is read with its own"


def _unequal(runs: Sequence[OpenRun]) -> Iterator[tuple[str, list[str]]]:
    """What a reading depends on and runs differ in, by its name in a configuration, of each run."""
    every = [
        {
            "tolerances": " ".join(tolerance.text for tolerance in run.analysis.tolerances),
            "bins_per_octave": str(run.analysis.bins_per_octave),
            "confidence": f"{run.analysis.confidence:g}",
            "resamples": str(run.analysis.resamples),
            "simultaneous": str(run.analysis.simultaneous).lower(),
        }
        for run in runs
    ]
    for name in every[0]:
        values = [settings[name] for settings in every]
        if len(set(values)) > 1:
            yield name, values


def _matched(
    of_curves: Pairing,
    of_losses: Pairing,
    documents: tuple[list[str], list[str]],
    windows: Sequence[tuple[int, int]],
) -> Iterator[str]:
    """How the runs were matched, and which of all windows had to be left out."""
    used = [count for count, _ in windows]
    if of_curves == "windows":
        yield (
            f"paired: the same {counted(used[0], 'window')} of"
            f" {counted(len(documents[0]), 'document')};"
            " differences are of the same targets"
        )
    elif of_curves == "documents":
        yield (
            f"unpaired, by document: the same {counted(len(documents[0]), 'document')}, drawn"
            f" together; {counted(used[0], 'window')} in A, {used[1]:,} in B"
        )
        if of_losses == "windows":
            yield "the windows are the same, not their boundaries: intact losses alone are paired"
    else:
        yield (
            f"unpaired: no documents in common; {len(documents[0]):,} in A and"
            f" {len(documents[1]):,} in B are drawn independently"
        )
    for name, (count, scored) in zip("AB", windows, strict=True):
        if count < scored:
            left = scored - count
            verb = "is" if left == 1 else "are"
            yield f"{left:,} of the {scored:,} windows of {name} {verb} left out: not in both runs"


def _counted_in(units: Sequence[Unit], same: bool | None, text: bool) -> Iterator[str]:
    """Why tokens, or bytes, are not compared, and what a tolerance means in bytes."""
    names = [unit.name for unit in units]
    if "tokens" not in names:
        why = "the tokenizers differ" if same is False else "whose tokenizers differ is not known"
        yield f"{why}: compared in bytes only"
    elif same is None:
        yield "the tokenizers are taken to be the same: nothing shows that they differ"
    if not text:
        yield "no text in one of the runs: not compared in bytes"
    for unit in units:
        if unit.name == "bytes":
            per = f"{unit.per:.3g}"
            yield (
                "a tolerance in bytes is one number of bits per byte for both runs: that of nats"
                f" per token over {per} byte{'' if per == '1' else 's'}, the geometric mean of"
                " their average tokens"
            )


def _reached(
    condition: str, unit: Unit, ends: tuple[int, int], in_characters: bool
) -> Iterator[str]:
    """That one run measures further than both are compared, where one does."""
    if ends[0] != ends[1]:
        further, other = ("A", "B") if ends[0] > ends[1] else ("B", "A")
        rule = ""
        if unit.name == "bytes":
            rule = f", where {100 * (1 - MOST):.0f} % of its documents end"
        elif in_characters:
            rule = f", where {100 * (1 - MOST):.0f} % of its windows end"
        yield (
            f"{condition} is compared up to {min(ends):,} {unit.name}, as far as {other} goes"
            f"{rule}; {further} goes to {max(ends):,}"
        )


def _lacking(a: Sequence[str], b: Sequence[str]) -> Iterator[str]:
    """Conditions that only one of the runs has."""
    for name, known, others in (("A", a, b), ("B", b, a)):
        if alone := sorted(set(known) - set(others)):
            yield f"only in {name}: {', '.join(alone)}"


def _far_lengths(ranges: Sequence[tuple[int, int]], unit: str) -> Iterator[str]:
    """That the runs perturb far contexts of different lengths, where they do."""
    if ranges[0] != ranges[1] and (0, 0) not in ranges:
        a, b = (f"{shortest:,} to {longest:,}" for shortest, longest in ranges)
        yield f"far {unit} in the perturbed context: {a} in A, {b} in B"
