"""Two runs compared: differences of curves, of intact losses and of effective contexts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import pandas as pd

from probe.analysis.bins import bin_edges
from probe.analysis.fit import fit_curve, in_order
from probe.analysis.floor import NoiseFloor, noise_floor
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import stacked
from probe.errors import ProbeError, UsageError
from probe.findings.compare.differences import (
    ACCURACY_COLUMNS,
    CURVE_COLUMNS,
    FAR_COLUMNS,
    MOST_REACH,
    PairSums,
    Unit,
    accuracy_rows,
    by_octave,
    difference_rows,
    far_row,
    loss_rows,
    pair_sums,
    pattern_rows,
    predicted,
)
from probe.findings.compare.lengths import context_frame, context_row, read_length
from probe.findings.compare.matched import (
    compared_windows,
    confounds,
    counted_in,
    far_lengths,
    lacking,
    reached,
    read_with_a,
    recorded_apart,
)
from probe.findings.compare.pair import (
    SIDES,
    Pair,
    Pairing,
    bytes_per_token,
    conditions,
    connect_pair,
    create_rows,
    draw,
    pairing,
    patterns,
    same_boundaries,
    same_tokenizer,
)
from probe.findings.suffix import Suffixes, suffixes
from probe.findings.table import records
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
            :data:`probe.findings.compare.differences.ACCURACY_COLUMNS`.
        notes: How the runs were matched and what differs, one line each.
        caveats: What limits the comparison, the gravest first, one line each; all but the first are
            among the notes too.
        confidence: Confidence of every interval.
        about: What each of the runs is: its model on its data.
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

    def told_first(self, rows: pd.DataFrame, *, every: bool = False) -> pd.DataFrame:
        """Rows in the one unit, under the one condition or under every one."""
        rows = rows[rows["unit"] == self.unit]
        return rows if every else rows[rows["condition"] == self.condition]


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
    same = same_tokenizer(connection)
    of_losses = pairing(connection, *runs, same)
    same = True if of_losses == "windows" else same
    create_rows(connection)
    per = bytes_per_token(connection, "a"), bytes_per_token(connection, "b")
    units = _units(runs, same, per)
    losses = curves = draw(connection, runs, of_losses)
    if of_losses == "windows" and not same_boundaries(connection):
        # Windows that are cut at other boundaries have other targets at the same distances.
        curves = replace(losses, pairing="documents")
    measured = [conditions(connection, side) + patterns(connection, side) for side in SIDES]
    read_with, far_apart = list(read_with_a(runs)), list(far_lengths(curves))
    matching, *left_out = compared_windows(curves, of_losses)
    lines = [*read_with, matching, *left_out, *recorded_apart(runs), *far_apart]
    lines += [*counted_in(units, same, None not in per), *lacking(*measured)]
    rows, notes = _by_condition(curves, units)
    attended = pattern_rows(losses)
    if len(attended) and all(unit.name != "tokens" for unit in units):
        attended = attended.head(0)
        notes["attention patterns", "tokens"] = (
            "attention patterns: compared in nats per token, which other tokens have not"
        )
    hindrance = _hindrance(runs, measured)
    answered = _are_choices(runs) and not hindrance
    a, b = unique_labels([run.folder for run in runs])
    found = Comparison(
        a,
        b,
        pairing=curves.pairing,
        curve=rows["curve"],
        octaves=rows["octaves"],
        far=rows["far"],
        contexts=rows["contexts"],
        losses=loss_rows(losses, units),
        patterns=attended,
        accuracy=accuracy_rows(losses) if answered else stacked([], ACCURACY_COLUMNS),
        notes=tuple(dict.fromkeys((*lines, *notes.values(), *runs[0].warnings, *runs[1].warnings))),
        caveats=(),
        confidence=losses.how.confidence,
        about=(f"{runs[0].model} on {runs[0].data}", f"{runs[1].model} on {runs[1].data}"),
        matching=matching,
        pattern=next((name for name in runs[0].patterns if name in set(attended["condition"])), ""),
        hindrance=hindrance,
        has_length=all(run.has_length for run in runs),
        counted_in=runs[0].unit,
    )
    others = confounds(runs, "AB")
    also = [f"they also differ in {'; '.join(others)}"] if others else []
    shared = [name for name in measured[0] if name in measured[1] and shared_of(name)]
    also += [f"{name}: intervals of differences leave out the choice of texts" for name in shared]
    for side, run in zip("AB", runs, strict=True):
        also += [f"{side}: {line}" for line in run.warnings]
    first = [(row["condition"], row["unit"]) for row in records(found.told_first(found.far))]
    short = [notes[key] for key in first if key in notes]
    return replace(found, caveats=(*also, *read_with, *left_out, *short, *far_apart))


def _hindrance(runs: tuple[OpenRun, OpenRun], measured: Sequence[Sequence[str]]) -> str:
    """Why two runs measured no one thing; empty where they did."""
    if _are_choices(runs):
        choices = [run.once(suffixes) for run in runs]
        if len({(one.candidates, one.tokens) for one in choices}) == 1:
            return ""
        a, b = map(_task, choices)
        return f"A chooses among {a}; B among {b}"
    kinds = [run.folder.kind for run in runs]
    if kinds[0] != kinds[1] and not all(run.has_length for run in runs):
        return f"protocol {kinds[0]} of A and {kinds[1]} of B do not perturb the same text"
    if not set(measured[0]) & set(measured[1]):
        a, b = (", ".join(names[:3]) or "none" for names in measured)
        return f"no condition is in both (A: {a}; B: {b})"
    return ""


def _are_choices(runs: Sequence[OpenRun]) -> bool:
    """Whether all runs let a model choose among continuations."""
    return all(run.is_answered_by("suffix") for run in runs)


def _task(choices: Suffixes) -> str:
    """What a model chooses among, and how often it is right after the longest prefix."""
    text = f"{choices.candidates} continuations of {counted(choices.tokens, 'token')}"
    for row in records(choices.table.tail(1)):
        after = counted(int(row["prefix"]), "token")
        text += f" ({share(row['accuracy'])} correct after {after}, chance {share(row['chance'])})"
    return text


def share(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f} %"


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
    # Text has bytes, and sound none.
    first, second = per if first_run.unit == "tokens" else (None, None)
    vocabularies = [run.facts.model.vocabulary for run in runs]
    if same or (same is None and None in (first, second) and vocabularies[0] == vocabularies[1]):
        units.append(Unit("tokens", sizes=per))
    if first is not None and second is not None:
        mean = float(np.sqrt(first * second))
        units.append(Unit("bytes", mean, (mean, mean)))
    if not units:
        raise ProbeError(
            f"'{runs[0].path}' and '{runs[1].path}' cannot be compared: their tokenizers differ"
            f" (vocabularies of {vocabularies[0]} and {vocabularies[1]} tokens) and not both have"
            " text; allowed: the same tokenizer, or data with text"
        )
    return units


def _by_condition(
    pair: Pair, units: Sequence[Unit]
) -> tuple[dict[str, pd.DataFrame], dict[tuple[str, str], str]]:
    """The differences of each condition that both runs have, in each unit.

    Returns:
        The frames of a :class:`Comparison` by name, and by condition and unit the note on what
        could not be compared, or that one run measures further.
    """
    curve, octaves, far = list[pd.DataFrame](), list[pd.DataFrame](), list[pd.DataFrame]()
    contexts, notes = list[dict[str, object]](), dict[tuple[str, str], str]()
    names, others = (conditions(pair.connection, side) for side in SIDES)
    simultaneous = pair.how.simultaneous
    for unit in units:
        floors = _floors(pair, unit)
        for condition in [name for name in names if name in others]:
            ends = _reaches(pair, condition, unit)
            both = _curve_sums(pair, condition, unit, min(ends)) if ends else None
            if not ends or not both:
                missing = f"no distance in {unit.name} that both runs measured"
                if unit.name == "bytes" and part_of(condition) == "source":
                    missing = "distances in a source, whose text a run does not keep, have no bytes"
                notes[condition, unit.name] = f"{condition}: {missing}"
                continue
            if note := reached(condition, unit, ends, pair.runs):
                notes[condition, unit.name] = note
            curve.append(difference_rows(both, simultaneous=simultaneous))
            pooled = by_octave(both)
            octaves.append(difference_rows(pooled, simultaneous=simultaneous))
            far.append(far_row(pooled))
            if all(run.has_length for run in pair.runs):
                contexts += _contexts(both, floors, octaves[-1].iloc[-1])
    frames = {
        "curve": stacked(curve, CURVE_COLUMNS),
        "octaves": stacked(octaves, CURVE_COLUMNS),
        "far": stacked(far, FAR_COLUMNS),
        "contexts": context_frame(contexts),
    }
    return frames, notes


def _reaches(pair: Pair, condition: str, unit: Unit) -> tuple[int, int] | None:
    """How far each run measures a condition, in the unit; ``None`` where one does not.

    In bytes tokens end at different distances, so that the last ones would be those of long tokens
    alone: the measure ends where one in ten documents has run out. In tokens it goes no further
    than each run alone is read.

    Returns:
        First distance that the first, and the second, run has no more.
    """
    tokens = unit.name == "tokens"
    column = "reach" if tokens else "bytes_reach"
    ends = []
    for side, run in zip(SIDES, pair.runs, strict=True):
        ((longest,),) = pair.connection.execute(
            f"""SELECT quantile_disc(longest, $share) FROM (
                SELECT max({column}) AS longest FROM {side}_spans
                WHERE condition = $condition AND {column} IS NOT NULL GROUP BY document)""",
            {"share": 1.0 if tokens else 1 - MOST_REACH, "condition": condition},
        ).fetchall()
        if longest is None:
            return None
        ends.append(min(int(longest) + 1, run.last_edge) if tokens else int(longest) + 1)
    return ends[0], ends[1]


def _curve_sums(pair: Pair, condition: str, unit: Unit, reach: int) -> PairSums | None:
    """Sums of delta by bin up to a reach in the unit, grey rows left out."""
    edges = bin_edges(reach, pair.how.bins_per_octave)
    edges = edges[edges >= _first_distance(pair, condition, unit)]
    rows = f"FROM {{side}}_{unit.name} WHERE condition = $condition AND NOT grey"
    both = pair_sums(pair, condition, unit, rows, edges)
    return both and predicted(both)


def _first_distance(pair: Pair, condition: str, unit: Unit) -> int:
    """The first distance in the unit behind all targets that the curve of a run leaves out.

    No bin holds a distance before it.
    """
    start = max(run.starts.get(condition, 0) for run in pair.runs)
    if unit.name == "tokens" or start <= 0:
        return start
    longest = [
        pair.connection.execute(
            f"SELECT max(distance) FROM {side}_bytes WHERE condition = $c AND tokens < $start",
            {"c": condition, "start": start},
        ).fetchall()[0][0]
        for side in SIDES
    ]
    return max((int(end) + 1 for end in longest if end is not None), default=0)


def _floors(pair: Pair, unit: Unit) -> tuple[NoiseFloor | None, NoiseFloor | None]:
    """Noise floor of each run by octave of the unit (nats per token)."""
    limits = []
    for side in SIDES:
        rows = pair.connection.execute(
            f"""SELECT condition, distance AS distance_from, document, count(*) AS targets,
                sum(nats) AS delta_sum, sum(nats * nats) AS delta_squares
            FROM {side}_{unit.name}
            WHERE condition = 'noise' OR starts_with(condition, 'noise(') GROUP BY ALL"""
        ).df()
        reach = 1 if rows.empty else int(rows["distance_from"].max()) + 1
        limits.append(noise_floor(rows, reach, pair.how.confidence))
    return limits[0], limits[1]


def _contexts(
    both: PairSums,
    floors: tuple[NoiseFloor | None, NoiseFloor | None],
    last: "pd.Series[float]",
) -> Iterator[dict[str, object]]:
    """The difference of the effective contexts at each tolerance, with the last octave's delta."""
    how = both.pair.how
    curves = [
        fit_curve(both.condition, sums, weights, how.confidence)
        for sums, weights in zip((both.a, both.b), both.pair.weights, strict=True)
    ]
    for tolerance in how.tolerances:
        a, b = (
            read_length(curve, tolerance, floor, size, run.length_change)
            for curve, floor, size, run in zip(
                curves, floors, both.unit.sizes, both.pair.runs, strict=True
            )
        )
        yield context_row(a, b, both.unit, last, how.confidence)
