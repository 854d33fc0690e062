"""What a reader of a comparison must know: what was matched, what differs, what was left out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probe.analysis.open_run import OpenRun
from probe.analysis.settings import Analysis
from probe.findings.compare.pair import Pairing
from probe.findings.compare.pair_sums import MOST, Unit
from probe.results.folder import unique_labels
from probe.text import counted

SETTINGS = {
    "model": ("model", "name"),
    "model revision": ("model", "revision"),
    "dtype": ("model", "dtype"),
    "attention": ("config", "model", "attention"),
    "patterns": ("config", "patterns"),
    "data": ("data", "name"),
    "window length": ("config", "windows", "length"),
    "protocol": ("config", "protocol", "kind"),
    "first_token": ("config", "first_token"),
    "seed": ("config", "seed"),
}
"""What is named where two runs differ in it, and where ``run.json`` has it."""


def differing(a: OpenRun, b: OpenRun) -> Iterator[str]:
    """What the runs differ in, one line each."""
    for name, keys in SETTINGS.items():
        values = [_at(run.record, keys) for run in (a, b)]
        if None not in values and values[0] != values[1]:
            yield f"{name}: {values[0]} in A, {values[1]} in B"


def read_with(a: Analysis, b: Analysis) -> Iterator[str]:
    """That both runs are read with the settings of A, where those of B are others."""
    first, second = _settings(a), _settings(b)
    unequal = [f"{name} {first[name]} (in B {second[name]})" for name in _unequal([first, second])]
    if unequal:
        yield f"both are read with the analysis settings of A: {', '.join(unequal)}"


def settings_apart(runs: Sequence[OpenRun]) -> Iterator[str]:
    """The analysis settings that the rows of a table do not share, one line each."""
    every = [_settings(run.analysis) for run in runs]
    labels = unique_labels([run.folder for run in runs])
    for setting in _unequal(every):
        values = ", ".join(
            f"{settings[setting]} in {label}" for settings, label in zip(every, labels, strict=True)
        )
        yield f"{setting}: {values}; each row of the table is read with its own"


def _settings(how: Analysis) -> dict[str, str]:
    """What a reading depends on, by the names in a configuration."""
    return {
        "tolerances": " ".join(tolerance.text for tolerance in how.tolerances),
        "bins_per_octave": str(how.bins_per_octave),
        "confidence": f"{how.confidence:g}",
        "resamples": str(how.resamples),
        "simultaneous": str(how.simultaneous).lower(),
    }


def _unequal(every: Sequence[Mapping[str, str]]) -> list[str]:
    return [name for name in every[0] if len({settings[name] for settings in every}) > 1]


def matched(
    pairing: Pairing,
    of_losses: Pairing,
    documents: tuple[list[str], list[str]],
    windows: Sequence[tuple[int, int]],
) -> Iterator[str]:
    """How the runs were matched, and which windows had to be left out.

    Args:
        pairing: What the curves have in common.
        of_losses: What the intact losses have in common.
        documents: The documents of each that are compared.
        windows: Windows of each that are compared, and all that it has.
    """
    used = [count for count, _ in windows]
    if pairing == "windows":
        yield (
            f"paired: the same {counted(used[0], 'window')} of"
            f" {counted(len(documents[0]), 'document')};"
            " differences are of the same targets"
        )
    elif pairing == "documents":
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


def counted_in(units: Sequence[Unit], same: bool | None, text: bool) -> Iterator[str]:
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
            yield (
                "a tolerance in bytes is one number of bits per byte for both runs: that of nats a"
                f" token over {unit.per:.3g} bytes, the geometric mean of their average tokens"
            )


def reached(condition: str, unit: Unit, ends: tuple[int, int]) -> str | None:
    """That one run measures further than both are compared, ``None`` where they agree."""
    if ends[0] == ends[1]:
        return None
    further, other = ("A", "B") if ends[0] > ends[1] else ("B", "A")
    rule = f", where {1 - MOST:.0%} of its documents end" if unit.name == "bytes" else ""
    return (
        f"{condition} is compared up to {min(ends):,} {unit.name}, as far as {other} goes{rule};"
        f" {further} goes to {max(ends):,}"
    )


def lacking(a: Sequence[str], b: Sequence[str]) -> Iterator[str]:
    """Conditions that only one of the runs has."""
    for name, conditions, others in (("A", a, b), ("B", b, a)):
        if alone := sorted(set(conditions) - set(others)):
            yield f"only in {name}: {', '.join(alone)}"


def far_lengths(ranges: Sequence[tuple[int, int]]) -> Iterator[str]:
    """That the runs perturb far contexts of different lengths, where they do."""
    if ranges[0] != ranges[1] and (0, 0) not in ranges:
        a, b = (f"{shortest:,} to {longest:,}" for shortest, longest in ranges)
        yield f"far tokens in the perturbed context: {a} in A, {b} in B"


def _at(record: Mapping[str, Any], keys: Sequence[str]) -> Any:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
