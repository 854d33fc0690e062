"""What a comparison comes to: one sentence, and one screen of what it rests on.

Nothing that is told first is chosen by its result: the condition by its name (truncate, else
content, else order), the unit (tokens where both runs have the same), the distances by how far both
measured, the tolerance as the first at which both lengths are resolved, the pattern by the
configuration of A.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from probe.analysis.bootstrap import too_few
from probe.analysis.fit import in_order
from probe.analysis.open_run import OpenRun
from probe.findings import contrasts
from probe.findings.answer import describe_tolerance
from probe.findings.base import Finding
from probe.findings.compare.accuracy import accuracy_table, in_points, share
from probe.findings.compare.comparison import Comparison
from probe.findings.compare.comparison_finding import comparison_finding
from probe.findings.compare.finding import table_finding
from probe.findings.compare.lengths import SHOWN
from probe.findings.compare.pivot import Value, together
from probe.findings.table import Table, between, decimals, records
from probe.text import counted, difference, one_line, printable, signed, wrapped

CONDITIONS = 3
"""Conditions, or patterns, that one screen has room for."""
OCTAVES = 8
"""Octaves, or prefixes, that it has room for: the farthest."""
CAVEATS = 3
LONGEST = 190
"""Characters of a caveat: two lines."""
USES = {
    "truncate": "uses far text",
    "replace": "uses the content of far text",
    "shuffle": "uses the order of far text",
}
"""What a model does more that loses more under a condition."""
POINTS = "percentage points"
Row = Mapping[str, Any]


def told(
    runs: Sequence[OpenRun], comparison: Comparison | None, *, full: bool = False
) -> tuple[Finding, ...]:
    """What is said of runs side by side, the conclusion first.

    Args:
        runs: The runs.
        comparison: Of two, what :func:`probe.findings.compare.comparison.compare` gives.
        full: Whether the table of runs and all differences are told as well.

    Returns:
        Of one run its contrasts and its row, of two the difference, of more models × data.
    """
    if len(runs) == 1:
        return conclusion_of_one(runs[0]), table_finding(runs)
    if comparison is None:
        whole = together(runs, Value(), every=full)
        return (whole, table_finding(runs)) if full else (whole,)
    first = conclusion(comparison)
    return (first, table_finding(runs), comparison_finding(comparison)) if full else (first,)


def conclusion_of_one(run: OpenRun) -> Finding:
    """How the conditions of a single run differ, in its own words.

    Args:
        run: The open run.
    """
    known = contrasts.finding(run, ())
    sentence = wrapped(known.sentence, "") if known else ""
    return Finding("conditions", "How its conditions differ", sentence=sentence)


def conclusion(comparison: Comparison) -> Finding:
    """One screen: the sentence, both runs side by side, the difference by octave, the caveats.

    Args:
        comparison: What :func:`probe.findings.compare.comparison.compare` gives.
    """
    about = [
        one_line(f"{side}: {printable(text)}", 100)
        for side, text in zip("AB", comparison.about, strict=True)
    ]
    return Finding(
        "conclusion",
        "The difference of two runs",
        sentence=wrapped(sentence(comparison), ""),
        basis="\n".join([*(wrapped(line, "") for line in _basis(comparison)), *about]),
        tables=[table for table in _tables(comparison) if table.rows],
        caveats=[one_line(line, LONGEST) for line in comparison.caveats[:CAVEATS]],
    )


def sentence(comparison: Comparison) -> str:
    """The difference B − A with its interval, and what follows from it."""
    if comparison.hindrance:
        return f"A and B cannot be compared: {printable(comparison.hindrance)}."
    if len(comparison.accuracy):
        return _of_accuracy(comparison)
    if (row := _far(comparison)) is not None:
        return _of_distances(comparison, row)
    patterns = comparison.patterns
    for row in records(patterns[patterns["condition"] == comparison.pattern]):
        return _of_pattern(comparison, row)
    return "A and B cannot be compared: they measured no distance in common."


def _of_distances(comparison: Comparison, row: Row) -> str:
    """What the far half of the octaves says, and whether lengths differ."""
    condition = str(row["condition"])
    uses = USES.get(condition.partition("(")[0], "depends on far text")
    if not comparison.has_length:  # what lies further back stays
        uses = "depends on the text perturbed there"
    follows = f"it {uses} {{more}}"
    if max(row["a"], row["b"]) <= 0:
        follows = f"but neither run loses by it, so this does not say which {uses} more"
    text = _difference(
        comparison,
        row,
        where=f"at distances of {between(row)} {comparison.told_in(comparison.unit)}"
        f" under {printable(condition)}",
        unit=SHOWN[comparison.unit],
        follows=follows,
    )
    return "; ".join([text, *_lengths(comparison, condition)]) + "."


def _of_pattern(comparison: Comparison, row: Row) -> str:
    where = f"under {printable(str(row['condition']))}"
    if (count := len(comparison.patterns)) > 1:
        where += f" (the first of {count} patterns)"
    follows = "it depends {more} on what the pattern hides"
    text = _difference(comparison, row, where=where, unit=SHOWN["tokens"], follows=follows)
    return f"{text}."


def _of_accuracy(comparison: Comparison) -> str:
    """What the longest prefix that both have says."""
    row = records(comparison.accuracy)[-1]
    text = _difference(
        comparison,
        in_points(row),
        where=f"after {counted(int(row['prefix']), 'token')}",
        unit=POINTS,
        follows="it distinguishes the gold continuation from the others {more} often",
        says="picks the gold continuation {amount} {more} often",
    )
    return f"{text} (A {share(row['a'])}, B {share(row['b'])})."


def _difference(
    comparison: Comparison,
    row: Row,
    *,
    where: str,
    unit: str,
    follows: str,
    says: str = "loses {amount} {more}",
) -> str:
    """By how much B differs from A, and what follows; or that nothing is told apart.

    Args:
        comparison: The comparison.
        row: ``difference, low, high, documents``.
        where: Under which condition and where.
        unit: What the difference is counted in.
        follows: What follows from it, ``{more}`` standing for more or less.
        says: What B does, ``{amount}`` standing for the difference.
    """
    digits = 1 if unit == POINTS else 3
    value, low, high = (_number(row[name]) for name in ("difference", "low", "high"))
    start = f"{where[0].upper()}{where[1:]}"
    if comparison.pairing == "none":
        start += ", each on documents of its own"
    if few := too_few(int(row["documents"])):
        return f"{start}, B − A is {signed(value, digits)} {unit}, unresolved: {few}"
    level = f"{comparison.confidence * 100:g} % interval"
    if not (low > 0 or high < 0):  # of an interval that is not known neither
        amount, _, limits = difference(value, low, high, digits).partition(" (")
        verdict = "not significantly different from 0"
        return f"{start}, B − A is {amount} {unit} ({level} {limits}: {verdict}"
    more = "more" if value > 0 else "less"
    ends = (low, high) if value > 0 else (-high, -low)
    limits = " to ".join(decimals(end, digits) for end in ends)
    return (
        f"{start}, B {says.format(amount=f'{decimals(abs(value), digits)} {unit}', more=more)} than"
        f" A ({level} {limits}): {follows.format(more=more)}"
    )


def _lengths(comparison: Comparison, condition: str) -> Iterator[str]:
    """Whether the lengths differ, at the first tolerance at which both are resolved."""
    rows = _contexts(comparison, condition)
    if rows.empty:
        return
    noun = "effective context" if condition == "truncate" else "length"
    if (row := _resolved(rows)) is None:
        yield f"{noun}s are unresolved"
        return
    at = f"at {describe_tolerance(str(row['tolerance']))}"
    if row["low"] is not None and row["low"] > 0:
        yield f"its {noun} {at} is longer"
    elif row["high"] is not None and row["high"] < 0:
        yield f"its {noun} {at} is shorter"
    else:
        why = f" ({row['text']})" if row["kind"] == "open" else ""
        yield f"{noun}s {at} are not significantly different{why}"


def _contexts(comparison: Comparison, condition: str | None = None) -> pd.DataFrame:
    """The rows of lengths in the unit that is told."""
    rows = comparison.contexts[comparison.contexts["unit"] == comparison.unit]
    return rows if condition is None else rows[rows["condition"] == condition]


def _resolved(rows: pd.DataFrame) -> dict[str, Any] | None:
    """The row of the first tolerance at which both lengths are resolved."""
    return next(iter(records(rows[rows["kind"] != "unresolved"])), None)


def _far(comparison: Comparison) -> dict[str, Any] | None:
    """The far difference under the condition that is told first."""
    rows = comparison.far
    own = rows[(rows["condition"] == comparison.condition) & (rows["unit"] == comparison.unit)]
    return next(iter(records(own)), None)


def _basis(comparison: Comparison) -> Iterator[str]:
    """How the runs were matched, and what the one number of the sentence is."""
    yield comparison.matching
    row = _far(comparison)
    if row is not None and not len(comparison.accuracy) and not comparison.hindrance:
        octaves = int(row["octaves"])
        alike = f", a mean of {octaves} that count alike" if octaves > 1 else ""
        yield f"far: the far half of the octaves that both measured, {between(row)}{alike}"


def _tables(comparison: Comparison) -> Iterator[Table]:
    row = _far(comparison)
    if len(comparison.accuracy):
        yield accuracy_table(comparison.accuracy.tail(OCTAVES))
    if comparison.hindrance or len(comparison.accuracy):
        yield _losses(comparison, "Intact loss", comparison.far.head(0))
    elif row is None:
        yield _losses(comparison, "Loss: intact, and what patterns add", comparison.patterns)
    else:
        far = comparison.far[comparison.far["unit"] == comparison.unit]
        caption = f"Loss: intact, and added at {between(row)} {comparison.told_in(comparison.unit)}"
        yield _losses(comparison, caption, far)
        yield _answers(comparison)
        yield _octaves(comparison)


def _losses(comparison: Comparison, caption: str, rows: pd.DataFrame) -> Table:
    """The intact losses and what conditions add, side by side."""
    losses = comparison.losses
    intact = next(iter(records(losses)), None)  # nats per token, where both have the same tokens
    cells = [["intact", *_sides(intact, "{:.3f}".format)]] if intact else []
    names = in_order(rows["condition"].astype(str))
    for name in names[:CONDITIONS]:
        (row,) = records(rows[rows["condition"] == name])[:1]
        cells.append([name, *_sides(row, lambda value: signed(value, 3))])
    tokens = intact is None or intact["unit"] == "nats per token"
    unit = SHOWN["tokens" if tokens else "bytes"]
    return _table(f"{caption} ({unit})", "condition", cells, names)


def _answers(comparison: Comparison) -> Table:
    """The lengths at one tolerance, side by side."""
    rows = _contexts(comparison)
    first = _contexts(comparison, comparison.condition)
    row = _resolved(first) or next(iter(records(first)), None)
    if row is None:
        return _table("", "condition", [])
    names = in_order(rows["condition"].astype(str))
    of_one = rows[rows["tolerance"] == row["tolerance"]].set_index("condition")
    cells = [
        [name, *_without_octaves(of_one.loc[name, ["a_text", "b_text", "text"]].astype(str))]
        for name in names[:CONDITIONS]
    ]
    at = describe_tolerance(str(row["tolerance"]))
    return _table(
        f"Effective context ({comparison.told_in(comparison.unit)}) at {at}",
        "condition",
        cells,
        names,
    )


def _without_octaves(texts: Iterable[str]) -> list[str]:
    """Lengths in words; of a difference in tokens and in octaves the tokens alone."""
    return [text.partition("; ")[0] for text in texts]


def _octaves(comparison: Comparison) -> Table:
    """The difference by octave under the condition that is told first."""
    rows = comparison.octaves
    own = rows[(rows["condition"] == comparison.condition) & (rows["unit"] == comparison.unit)]
    own = own.sort_values("distance_from")
    cells = [
        [between(row), *_sides(row, lambda value: signed(value, 3))]
        for row in records(own.tail(OCTAVES))
    ]
    caption = f"Loss added by {printable(str(comparison.condition))}, by octave"
    if (left := len(own) - len(cells)) > 0:
        caption += f" (without the {left} nearest)"
    caption += f" ({SHOWN[comparison.unit]})"
    return _table(caption, f"distance ({comparison.told_in(comparison.unit)})", cells)


def _sides(row: Row, form: Callable[[float], str]) -> list[str]:
    """What stands behind a row's name: A, B, and B − A with its interval."""
    value, low, high = (_number(row[name]) for name in ("difference", "low", "high"))
    return [form(float(row["a"])), form(float(row["b"])), difference(value, low, high, 3)]


def _table(caption: str, header: str, cells: list[list[str]], names: Sequence[str] = ()) -> Table:
    """Rows of both sides; of *names* those that have no room are counted in the caption."""
    if (left := len(names) - CONDITIONS) > 0:
        caption += f", without {left} more"
    return Table(caption, [header, "A", "B", "B − A"], cells, shown="terminal")


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
