"""What runs have in common and what tells them apart: settings, windows, names, in words."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probe.analysis.fit import in_order
from probe.analysis.open_run import OpenRun
from probe.findings.compare.differences import MOST_REACH, Unit
from probe.findings.compare.pair import SIDES, Pair, Pairing, far_range, places
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
"""What is named where runs differ in it, and where ``run.json`` has it."""
UNSAID = {"patterns": "dense", "window length": "whole documents"}
"""What a setting is where ``run.json`` does not say; of others it is not known."""
ASKED = ("model", "model revision", "data")
"""The settings that runs are compared for; all others should be the same."""
_CUT = ("window length", "protocol", "seed", "first_token")
"""How the settings begin that decide which windows and targets there are."""
MOST = 4
"""Runs that are named one by one."""
BARE = ("protocol", "model revision", "dtype")
"""Settings whose value says by itself what it is; they name a row before others do."""


def at(record: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """The value under some keys, ``None`` where there is none."""
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def settings_of(run: OpenRun) -> dict[str, str]:
    """The settings of a run as text, and the options of its protocol; ``–`` is not known."""
    values = {name: at(run.record, keys) for name, keys in SETTINGS.items()}
    if at(run.record, ("config", "windows", "unit")) == "characters":
        values["window length"] = f"{values['window length']} characters"
    options = at(run.record, ("config", "protocol"))
    for name, value in options.items() if isinstance(options, Mapping) else ():
        if name != "kind":
            values[f"protocol {name}"] = value
    return {
        name: UNSAID.get(name, "–") if value is None else _text(value)
        for name, value in values.items()
    }


def differing(runs: Sequence[OpenRun]) -> dict[str, list[str]]:
    """The value of each run in every setting that not all share, by its name.

    An option of another protocol is no setting of a run: only where all have one protocol are its
    options compared.

    Args:
        runs: The runs.
    """
    every = [settings_of(run) for run in runs]
    names = dict.fromkeys(name for settings in every for name in settings)
    if len({settings["protocol"] for settings in every}) > 1:
        names = dict.fromkeys(name for name in names if not name.startswith("protocol "))
    return _unequal({name: [settings.get(name, "–") for settings in every] for name in names})


def read_apart(runs: Sequence[OpenRun]) -> dict[str, list[str]]:
    """What the reading of each run depends on where not all are read alike, by its name."""
    hows = [run.analysis for run in runs]
    return _unequal(
        {
            "tolerances": [" ".join(one.text for one in how.tolerances) for how in hows],
            "bins_per_octave": [str(how.bins_per_octave) for how in hows],
            "confidence": [f"{how.confidence:g}" for how in hows],
            "resamples": [str(how.resamples) for how in hows],
            "simultaneous": [str(how.simultaneous).lower() for how in hows],
        }
    )


def _unequal(of_each: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {name: values for name, values in of_each.items() if len(set(values)) > 1}


def settings_apart(runs: Sequence[OpenRun]) -> Iterator[str]:
    """The analysis settings that the rows of a table do not share, one line each."""
    labels = unique_labels([run.folder for run in runs])
    for name, values in read_apart(runs).items():
        yield f"{name}: {by_value(values, labels)}; each row of the table is read with its own"


def confounds(runs: Sequence[OpenRun], labels: Sequence[str] = ()) -> list[str]:
    """What the runs differ in besides model and data, one line a setting: ``seed: 0 in a, 1 in b``.

    Args:
        runs: The runs.
        labels: What to call them, by default by their names.
    """
    labels = labels or unique_labels([run.folder for run in runs])
    return [
        f"{name}: {by_value(values, labels)}"
        for name, values in differing(runs).items()
        if name not in ASKED
    ]


def by_value(values: Sequence[str], labels: Sequence[str]) -> str:
    """Values with the runs that have each: ``0 in a, b, 1 in 7 runs``."""
    runs_with: dict[str, list[str]] = {}
    for value, label in zip(values, labels, strict=True):
        runs_with.setdefault(value, []).append(label)
    return ", ".join(
        f"{value} in {', '.join(names) if len(names) <= MOST else f'{len(names)} runs'}"
        for value, names in runs_with.items()
    )


def in_common(runs: Sequence[OpenRun]) -> str:
    """The settings that all runs share, in one line; empty where there is none."""
    apart = differing(runs)
    shared = {
        name: value
        for name, value in settings_of(runs[0]).items()
        if name not in (*ASKED, *apart) and value != "–" and not name.startswith("protocol ")
    }
    if len(runs) < 2 or not shared:
        return ""
    return "the same in all: " + ", ".join(f"{name} {value}" for name, value in shared.items())


def matched(runs: Sequence[OpenRun]) -> Iterator[str]:
    """How the runs on each data set are matched, one line for all sets of which the same is true.

    Two runs read the same windows where documents, their tokens, the cut into windows and the
    targets are the same: then their differences are paired target by target.

    Args:
        runs: The runs.
    """
    found: dict[str, list[str]] = {}
    sets = dict.fromkeys(run.data for run in runs)
    for data in sets:
        of_data = [run for run in runs if run.data == data]
        if len(of_data) > 1:
            found.setdefault(_match(of_data), []).append(data)
    for words, names in found.items():
        where = "on every data set" if len(names) == len(sets) > 1 else f"on {', '.join(names)}"
        yield f"{where}: {words}"


def _match(runs: Sequence[OpenRun]) -> str:
    ids = [[one.id for one in run.facts.data.documents] for run in runs]
    marks = [[str(one.sha256) for one in run.facts.data.documents] for run in runs]
    cuts = [run.facts.identity.get("runs") for run in runs]
    apart = [name for name in differing(runs) if name.startswith(_CUT)]
    if not all(ids) or any(one != ids[0] for one in ids):
        return "not the same documents in all runs, differences are unpaired"
    if any(one != marks[0] for one in marks):
        return "the same documents in other tokens, differences are by document"
    if apart or any(one != cuts[0] for one in cuts):
        return "the same documents in other windows or targets, differences are by document"
    return "the same windows and targets in all runs, differences of two are paired"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_text(one)}" for name, one in value.items()) + "}"
    return str(value)


# -- two runs, A and B ----------------------------------------------------------------------------


def read_with_a(runs: Sequence[OpenRun]) -> Iterator[str]:
    """That both runs are read with the settings of A, where those of B are others."""
    unequal = [f"{name} {a} (in B {b})" for name, (a, b) in read_apart(runs).items()]
    if unequal:
        yield f"both are read with the analysis settings of A: {', '.join(unequal)}"


def recorded_apart(runs: Sequence[OpenRun]) -> Iterator[str]:
    """The settings that ``run.json`` of both has, and not alike, one line each."""
    for name, keys in SETTINGS.items():
        a, b = (at(run.record, keys) for run in runs)
        if a is not None and b is not None and a != b:
            yield f"{name}: {a} in A, {b} in B"


def compared_windows(pair: Pair, of_losses: Pairing) -> Iterator[str]:
    """How the runs were matched, and which of all windows had to be left out.

    Args:
        pair: The runs, matched as their curves are.
        of_losses: How their intact losses are matched.
    """
    windows = [places(pair.connection, side) for side in SIDES]
    used = [count for count, _ in windows]
    first, second = map(len, pair.documents)
    if pair.pairing == "windows":
        yield (
            f"paired: the same {counted(used[0], 'window')} of {counted(first, 'document')};"
            " differences are of the same targets"
        )
    elif pair.pairing == "documents":
        yield (
            f"unpaired, by document: the same {counted(first, 'document')}, drawn"
            f" together; {counted(used[0], 'window')} in A, {used[1]:,} in B"
        )
        if of_losses == "windows":
            yield "the windows are the same, not their boundaries: intact losses alone are paired"
    else:
        yield (
            f"unpaired: no documents in common; {first:,} in A and {second:,} in B are drawn"
            " independently"
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
            per = f"{unit.per:.3g}"
            yield (
                "a tolerance in bytes is one number of bits per byte for both runs: that of nats"
                f" per token over {per} byte{'' if per == '1' else 's'}, the geometric mean of"
                " their average tokens"
            )


def reached(condition: str, unit: Unit, ends: tuple[int, int], runs: Sequence[OpenRun]) -> str:
    """That one run measures further than both are compared; empty where none does."""
    if ends[0] == ends[1]:
        return ""
    further, other = ("A", "B") if ends[0] > ends[1] else ("B", "A")
    rule = ""
    if unit.name == "bytes":
        rule = f", where {100 * (1 - MOST_REACH):.0f} % of its documents end"
    elif any(run.facts.config.windows.get("unit") == "characters" for run in runs):
        rule = f", where {100 * (1 - MOST_REACH):.0f} % of its windows end"
    return (
        f"{condition} is compared up to {min(ends):,} {unit.name}, as far as {other} goes"
        f"{rule}; {further} goes to {max(ends):,}"
    )


def lacking(a: Sequence[str], b: Sequence[str]) -> Iterator[str]:
    """Conditions that only one of the runs has."""
    for name, known, others in (("A", a, b), ("B", b, a)):
        if alone := sorted(set(known) - set(others)):
            yield f"only in {name}: {', '.join(alone)}"


def far_lengths(pair: Pair) -> Iterator[str]:
    """That the runs perturb far contexts of different lengths, where they do."""
    ranges = [far_range(pair.connection, side) for side in SIDES]
    if ranges[0] != ranges[1] and (0, 0) not in ranges:
        a, b = (f"{shortest:,} to {longest:,}" for shortest, longest in ranges)
        yield f"far {pair.runs[0].unit} in the perturbed context: {a} in A, {b} in B"


# -- what runs are called in a table --------------------------------------------------------------


def row_names(runs: Sequence[OpenRun]) -> list[str]:
    """The name of each run's row: its model, with what differs where that alone has two answers.

    A model that was run on one data set more than once has a row for each protocol, revision or
    other setting that tells its runs apart; where none does the run's name stands there.

    Args:
        runs: The runs.
    """
    names = [run.model for run in runs]
    for model in dict.fromkeys(names):
        own = [number for number, run in enumerate(runs) if run.model == model]
        told: list[tuple[str, ...]] = [(runs[number].data,) for number in own]
        apart = differing([runs[number] for number in own])
        more: list[list[str]] = [[] for _ in own]
        for name in sorted(apart, key=lambda name: name not in BARE):
            split = [(*one, value) for one, value in zip(told, apart[name], strict=True)]
            if len(set(told)) < len(own) and len(set(split)) > len(set(told)):
                told = split
                for words, value in zip(more, apart[name], strict=True):
                    words.append(_setting(name, value))
        for number, words in zip(own, more, strict=True):
            names[number] = f"{model} ({', '.join(words)})" if words else model
    labels = unique_labels([run.folder for run in runs])
    places = [(name, run.data) for name, run in zip(names, runs, strict=True)]
    count = Counter(places)
    return [
        f"{name}: {label}" if count[place] > 1 else name
        for name, place, label in zip(names, places, labels, strict=True)
    ]


def _setting(name: str, value: str) -> str:
    if name not in BARE:
        return f"{name} {value}"
    return short_revision(value) if name == "model revision" else value


def short_revision(revision: object) -> str:
    """A revision short enough for a table: eight digits of a hash, else the name itself."""
    text = str(revision or "–")
    return text[:8] if re.fullmatch(r"[0-9a-f]{12,}", text) else text


def main_condition(runs: Sequence[OpenRun]) -> str:
    """The condition that is told first: truncate, else the first that most runs have."""
    conditions = [{context.condition for context in run.contexts} for run in runs]
    ordered = in_order(name for names in conditions for name in names)
    if not ordered or "truncate" in ordered:
        return "truncate"
    return max(ordered, key=lambda name: sum(name in names for names in conditions))
