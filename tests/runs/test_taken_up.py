"""A run that is taken up again: what is looked at then, what is written, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    configured,
    model_folders,
    no_network,
    parts,
    score,
    text_folder,
)

from probe.errors import UsageError
from probe.results.footer import part_keys
from probe.results.scores import Store
from probe.runs.experiment import Experiment, prepare
from probe.runs.plan import missing
from probe.runs.run import run

OLDER = "replace(source='self')"  # the first window of a document has no older text


def states(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """When each file was last written, and what it holds."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def without_window(folder: Path, number: int = 0) -> tuple[str, int]:
    """Take a part of a single window out of a folder; which window it was."""
    part = sorted(folder.glob("scores/*.parquet"))[number]
    (document, window, *_), *_ = part_keys(part)
    part.unlink()
    return document, window


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, int]]]:
    """The windows whose sources were looked at, call by call."""
    calls: list[list[tuple[str, int]]] = []
    check = Experiment.check_sources

    def recorded(experiment: Experiment, numbers: Any) -> None:
        places = [experiment.windows.places[number] for number in numbers]
        calls.append([(place.document, place.window) for place in places])
        check(experiment, numbers)

    monkeypatch.setattr(Experiment, "check_sources", recorded)
    return calls


@pytest.mark.slow
def test_a_complete_run_stays_as_it_is(
    base: dict[str, Any],
    tmp_path: Path,
    checked: list[list[tuple[str, int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No model is loaded, no source looked for, no file written; another label is written down."""
    folder = score(base, tmp_path, batch=1)
    score(base, tmp_path, batch=1)
    before = states(folder)
    checked.clear()
    monkeypatch.setattr("probe.runs.loaded.load_model", None)
    score(base, tmp_path, batch=1)
    assert states(folder) == before
    score(base, tmp_path, batch=1, analysis={"resamples": 200})
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert (record["status"], record["config"]["analysis"]["resamples"]) == ("complete", 200)
    assert checked == []


@pytest.mark.slow
def test_only_what_is_missing_is_looked_at(
    base: dict[str, Any], tmp_path: Path, checked: list[list[tuple[str, int]]]
) -> None:
    """The sources of the window that is missing; its rows come back, and the run is complete."""
    folder = score(base, tmp_path, batch=1)
    whole = parts(folder)
    assert len(checked.pop()) == len(whole)
    lost = without_window(folder)
    statuses: list[str] = []

    def listen(_: object) -> None:
        statuses.append(json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"])

    run(configured(base, batch=1), tmp_path, listen=listen)
    assert checked == [[lost]]
    assert statuses == ["unfinished"]
    assert parts(folder) == whole
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"] == "complete"


@pytest.mark.slow
def test_a_part_whose_pages_are_damaged_is_missing(
    base: dict[str, Any], tmp_path: Path, checked: list[list[tuple[str, int]]]
) -> None:
    """Its footer says what it held, which is looked at and scored again."""
    folder = score(base, tmp_path, batch=1)
    whole = parts(folder)
    part = sorted(folder.glob("scores/*.parquet"))[1]
    (document, window, *_), *_ = part_keys(part)
    content = bytearray(part.read_bytes())
    content[40] ^= 0xFF
    part.write_bytes(content)
    checked.clear()
    score(base, tmp_path, batch=1)
    assert checked == [[(document, window)]]
    assert {name: parts(folder)[name] for name in whole} == whole


@pytest.mark.slow
def test_what_has_no_source_is_refused(base: dict[str, Any], tmp_path: Path) -> None:
    """A finished run that asks for what is not to be had: as a new one, and nothing is written."""
    settings = {"batch": 1, "windows__per_document": None}
    with pytest.raises(UsageError, match=r"set windows.skip to") as new:
        score(base, tmp_path, name="new", conditions=["truncate", OLDER], **settings)
    assert not (tmp_path / "new").exists()
    folder = score(base, tmp_path, conditions=["truncate"], **settings)
    score(base, tmp_path, conditions=["truncate"], **settings)
    without_window(folder)
    before = states(folder)
    with pytest.raises(UsageError) as resumed:
        score(base, tmp_path, conditions=["truncate", OLDER], **settings)
    assert str(resumed.value) == str(new.value)
    assert states(folder) == before


def test_refusals_window_by_window(base: dict[str, Any]) -> None:
    """Some windows are refused where one of them is, in the words for the first of those."""
    config = configured(base, windows__per_document=None, conditions=["truncate", OLDER])
    experiment = prepare(config)
    places, room = experiment.windows.places, experiment.plan.longest_far
    refused = [number for number, place in enumerate(places) if place.start < room]
    fine = [number for number in range(len(places)) if number not in refused]
    assert refused
    assert fine
    experiment.check_sources(fine)
    with pytest.raises(UsageError) as whole:
        experiment.check_sources()
    for number in refused:
        with pytest.raises(UsageError) as caught:
            experiment.check_sources([*fine, number])
        place = places[number]
        assert f"window {place.window} of {place.document!r} starts at" in str(caught.value)
        assert number != refused[0] or str(caught.value) == str(whole.value)


@pytest.mark.slow
def test_a_window_of_one_sentence_may_be_all_that_is_missing(
    base: dict[str, Any], tmp_path: Path
) -> None:
    """That one window of a run has two sentences is enough, whichever is missing."""
    settings = {"batch": 1, "conditions": ["shuffle(unit='sentence')"]}
    experiment = prepare(configured(base, **settings))
    texts = {one.document: experiment.inputs(one).text for one in experiment.windows}
    counts = {name: text.count("sentence") for name, text in texts.items() if text is not None}
    assert min(counts.values()) == 1 < max(counts.values())
    folder = score(base, tmp_path, **settings)
    whole = parts(folder)
    for path in folder.glob("scores/*.parquet"):
        if counts[part_keys(path)[0][0]] == 1:
            path.unlink()
    score(base, tmp_path, **settings)
    assert parts(folder) == whole


def test_missing_is_what_no_part_holds(base: dict[str, Any], tmp_path: Path) -> None:
    """Window by window and draw by draw, against the plain list of all that is scored."""
    changes = {"repeats": 2, "conditions": ["noise(windows=3)", "truncate", "shuffle"]}
    experiment = prepare(configured(base, **changes))
    every = [
        (place.document, place.window, *name)
        for number, place in enumerate(experiment.windows.places)
        for name in [
            ("intact", 0),
            *([("noise(windows=3)", 0)] if number < 3 else []),
            ("truncate", 0),
            ("shuffle", 0),
            ("shuffle", 1),
        ]
    ]
    left = missing(experiment, ())
    assert [key for one in left.values() for key in one.keys] == every
    assert missing(experiment, set(every)) == {}
    for lost in (every[0], every[1], every[-1]):
        (found,) = missing(experiment, set(every) - {lost}).values()
        assert found.keys == [lost]
        assert (found.window.document, found.window.index) == lost[:2]


@pytest.mark.slow
def test_cut_off_before_it_was_complete(base: dict[str, Any], tmp_path: Path) -> None:
    """Nothing is missing then but that run.json says so."""
    store = Store(score(base, tmp_path))
    whole = (store.folder / "run.json").read_bytes()
    record = store.read_record()
    assert record is not None
    store.write_record(record | {"status": "unfinished"})
    score(base, tmp_path)
    assert (store.folder / "run.json").read_bytes() == whole
