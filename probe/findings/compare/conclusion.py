"""What a comparison comes to: one sentence, one screen of what it rests on, and all of it.

Nothing that is told first is chosen by its result: the condition by its name (truncate, else
content, else order), the unit (tokens where both runs have the same), the distances by how far both
measured, the tolerance as the first at which both lengths are resolved, the pattern by the
configuration of A.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from probe.analysis.bootstrap import too_few
from probe.analysis.fit import in_order
from probe.findings.answer import describe_tolerance
from probe.findings.base import Finding
from probe.findings.compare.comparison import Comparison, share
from probe.findings.compare.differences import SHOWN
from probe.findings.table import Table, between, decimals, pivot, records
from probe.results.tolerance import spaced
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


def conclusion(comparison: Comparison) -> Finding:
    """One screen: the sentence, both runs side by side, the difference by octave, the caveats.

    Args:
        comparison: What :func:`probe.findings.compare.comparison.compare` gives.
    """
    about = [
        one_line(f"{side}: {printable(f'{name}, {what}')}", 100)
        for side, name, what in zip(
            "AB", (comparison.a, comparison.b), comparison.about, strict=True
        )
    ]
    return Finding(
        "conclusion",
        "The difference of two runs",
        sentence=wrapped(sentence(comparison), ""),
        basis="\n".join([*(wrapped(line, "") for line in _basis(comparison)), *about]),
        tables=[table for table in _tables(comparison) if table.rows],
        caveats=[one_line(line, LONGEST) for line in comparison.caveats[:CAVEATS]],
    )


def difference_record(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values, the part ``difference`` of `probe compare --json`."""
    frames = ("far", "octaves", "contexts", "losses", "patterns", "accuracy")
    return {
        "a": comparison.a,
        "b": comparison.b,
        "sentence": sentence(comparison),
        "comparable": not comparison.hindrance,
        "pairing": comparison.pairing,
        "confidence": comparison.confidence,
        "condition": comparison.condition,
        "unit": comparison.unit,
        **{name: records(getattr(comparison, name)) for name in frames},
        "notes": list(comparison.notes),
    }


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
        _in_points(row),
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
    value, low, high = _numbers(row)
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
    rows = comparison.told_first(comparison.contexts)
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


def _resolved(rows: pd.DataFrame) -> dict[str, Any] | None:
    """The row of the first tolerance at which both lengths are resolved."""
    return next(iter(records(rows[rows["kind"] != "unresolved"])), None)


def _far(comparison: Comparison) -> dict[str, Any] | None:
    """The far difference under the condition that is told first."""
    return next(iter(records(comparison.told_first(comparison.far))), None)


def _basis(comparison: Comparison) -> Iterator[str]:
    """How the runs were matched, and what the one number of the sentence is."""
    yield comparison.matching
    row = _far(comparison)
    if row is not None and not len(comparison.accuracy) and not comparison.hindrance:
        octaves = int(row["octaves"])
        alike = f", a mean of {octaves} that count alike" if octaves > 1 else ""
        yield f"far: the far half of the octaves that both measured, {between(row)}{alike}"


def _tables(comparison: Comparison) -> Iterator[Table]:
    """Those of one screen."""
    row = _far(comparison)
    if len(comparison.accuracy):
        yield _accuracy(comparison.accuracy.tail(OCTAVES))
    if comparison.hindrance or len(comparison.accuracy):
        yield _losses(comparison, "Intact loss", comparison.far.head(0))
    elif row is None:
        yield _losses(comparison, "Loss: intact, and what patterns add", comparison.patterns)
    else:
        far = comparison.told_first(comparison.far, every=True)
        caption = f"Loss: intact, and added at {between(row)} {comparison.told_in(comparison.unit)}"
        yield _losses(comparison, caption, far)
        yield _answers(comparison)
        yield _octaves(comparison)


def _losses(comparison: Comparison, caption: str, rows: pd.DataFrame) -> Table:
    """The intact losses and what conditions add, side by side."""
    intact = records(comparison.losses.head(1))  # nats per token, where both have the same tokens
    cells = [_sides("intact", row, "{:.3f}".format) for row in intact]
    names = in_order(rows["condition"].astype(str))
    for name in names[:CONDITIONS]:
        cells.append(_sides(name, records(rows[rows["condition"] == name])[0], _added))
    unit = intact[0]["unit"] if intact else SHOWN["tokens"]
    return _table(f"{caption} ({unit})", "condition", cells, names)


def _answers(comparison: Comparison) -> Table:
    """The lengths at one tolerance, side by side; of a difference the tokens, not the octaves."""
    rows = comparison.told_first(comparison.contexts, every=True)
    first = comparison.told_first(comparison.contexts)
    row = _resolved(first) or next(iter(records(first)), None)
    if row is None:
        return _table("", "condition", [])
    names = in_order(rows["condition"].astype(str))
    of_one = rows[rows["tolerance"] == row["tolerance"]].set_index("condition")
    texts = of_one[["a_text", "b_text", "text"]].astype(str)
    cells = [
        [name, *(text.partition("; ")[0] for text in texts.loc[name])]
        for name in names[:CONDITIONS]
    ]
    at = describe_tolerance(str(row["tolerance"]))
    caption = f"Effective context ({comparison.told_in(comparison.unit)}) at {at}"
    return _table(caption, "condition", cells, names)


def _octaves(comparison: Comparison) -> Table:
    """The difference by octave under the condition that is told first."""
    rows = comparison.told_first(comparison.octaves).sort_values("distance_from")
    cells = [_sides(between(row), row, _added) for row in records(rows.tail(OCTAVES))]
    caption = f"Loss added by {printable(str(comparison.condition))}, by octave"
    if (left := len(rows) - len(cells)) > 0:
        caption += f" (without the {left} nearest)"
    caption += f" ({SHOWN[comparison.unit]})"
    return _table(caption, f"distance ({comparison.told_in(comparison.unit)})", cells)


def _accuracy(rows: pd.DataFrame) -> Table:
    """How often the gold continuation is picked, prefix by prefix."""
    cells = [_sides(f"{row['prefix']:,}", _in_points(row), share, 1) for row in records(rows)]
    caption = "Gold continuation picked; B − A in percentage points"
    return _table(caption, "prefix (tokens)", cells)


# -- everything -----------------------------------------------------------------------------------


def comparison_finding(comparison: Comparison) -> Finding:
    """The whole comparison: losses, differences by octave, effective contexts, then the notes.

    Args:
        comparison: What :func:`probe.findings.compare.comparison.compare` gives.
    """
    level = f"{comparison.confidence * 100:g} % intervals over documents"
    how = "paired" if comparison.paired else "unpaired"
    losses = [_sides(row["unit"], row, "{:.4f}".format, 4) for row in records(comparison.losses)]
    patterns = [_sides(row["condition"], row, signed, 4) for row in records(comparison.patterns)]
    caption = "Delta of attention patterns, B − A (nats per token)"
    tables = [
        replace(_table("Intact loss", "intact loss", losses, blocks=True), captioned=False),
        _accuracy(comparison.accuracy),
    ]
    for unit in dict.fromkeys(map(str, comparison.octaves["unit"])):
        tables += [_every_octave(comparison, unit), *_every_length(comparison, unit)]
    tables.append(_table(caption, "pattern", patterns, blocks=True))
    return Finding(
        "comparison",
        "The difference of two runs",
        basis=(
            f"B − A, {how} ({level})\nA: {printable(comparison.a)}\nB: {printable(comparison.b)}"
        ),
        tables=[table for table in tables if table.rows],
        caveats=comparison.notes,
    )


def _every_octave(comparison: Comparison, unit: str) -> Table:
    """The differences by octave, a column a condition."""
    rows = comparison.octaves[comparison.octaves["unit"] == unit]
    table = pivot(
        f"Delta, B − A ({SHOWN[unit]})",
        records(rows.sort_values("distance_from", kind="stable")),
        in_order(rows["condition"].astype(str)),
        by="condition",
        cell=lambda row: _interval(row, 4),
        head={f"distance ({comparison.told_in(unit)})": between},
    )
    return replace(table, shown="terminal", blocks=True)


def _every_length(comparison: Comparison, unit: str) -> Iterator[Table]:
    """Two tables a condition: the lengths of both runs, then their differences."""
    rows = comparison.contexts[comparison.contexts["unit"] == unit]
    names = in_order(rows["condition"].astype(str))
    of_each = [(name, rows[rows["condition"] == name]) for name in names]
    last = [
        f"{printable(name)}: {_last_delta(records(own)[0], unit)}"
        for name, own in of_each
        if (own["kind"] != "number").any()
    ]
    if last:
        last.insert(0, "where a length has no difference, that of delta at the longest distances:")
    for name, own in of_each:
        heading = (
            f"Effective context, B − A ({comparison.told_in(unit)})\n" if name == names[0] else ""
        )
        sides = {"a_text": "A", "b_text": "B"}
        yield _by_tolerance(own, sides, f"{heading}{printable(name)}")
        yield _by_tolerance(own, {"text": "B − A"}, below=last if name == names[-1] else ())


def _by_tolerance(
    rows: pd.DataFrame,
    columns: Mapping[str, str],
    caption: str = "",
    below: Sequence[str] = (),
) -> Table:
    """Some columns of one condition, the tolerances that agree in all of them in one row."""
    shown = rows.assign(tolerance=rows["tolerance"].astype(str).map(spaced))
    alike = shown.groupby([*columns], sort=False, as_index=False)["tolerance"].agg(", ".join)
    return Table(
        caption,
        ["tolerance", *columns.values()],
        alike[["tolerance", *columns]].to_numpy().tolist(),
        shown="terminal",
        captioned=bool(caption),
        blocks=True,
        indent=2,
        below=below,
    )


def _last_delta(row: Row, unit: str) -> str:
    """The difference of delta at the longest distances that both runs measured."""
    at = f"{int(row['delta_from']):,}–{int(row['delta_to']) - 1:,}"
    return f"{_interval(row, 4, 'delta_')} {SHOWN[unit]} at {at}"


# -- cells ----------------------------------------------------------------------------------------


def _sides(name: str, row: Row, form: Callable[[float], str], digits: int = 3) -> list[str]:
    """A row's name, then A, B, and B − A with its interval."""
    return [name, form(float(row["a"])), form(float(row["b"])), _interval(row, digits)]


def _added(value: float) -> str:
    """What a condition adds to a loss, where there is room for little."""
    return signed(value, 3)


def _table(
    caption: str,
    header: str,
    cells: list[list[str]],
    names: Sequence[str] = (),
    *,
    blocks: bool = False,
) -> Table:
    """Rows of both sides; of *names* those that have no room are counted in the caption."""
    if (left := len(names) - CONDITIONS) > 0:
        caption += f", without {left} more"
    return Table(caption, [header, "A", "B", "B − A"], cells, shown="terminal", blocks=blocks)


def _interval(row: Row, digits: int, prefix: str = "") -> str:
    """A difference with its interval."""
    return difference(*_numbers(row, prefix), digits)


def _in_points(row: Row) -> Row:
    """The row with its difference and limits in percentage points."""
    value, low, high = (100 * number for number in _numbers(row))
    return {**row, "difference": value, "low": low, "high": high}


def _numbers(row: Row, prefix: str = "") -> tuple[float, float, float]:
    """A difference and its limits, NaN where there is none."""
    names = ("difference", "low", "high")
    values = [row[f"{prefix}{name}"] for name in names]
    value, low, high = (float("nan") if one is None else float(one) for one in values)
    return value, low, high
