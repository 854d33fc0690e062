"""What runs have in common and what they differ in, said once for any number of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probe.analysis.open_run import OpenRun
from probe.results.folder import unique_labels

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
    of_each = {name: [settings.get(name, "–") for settings in every] for name in names}
    return {name: values for name, values in of_each.items() if len(set(values)) > 1}


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
