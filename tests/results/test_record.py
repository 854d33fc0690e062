"""What run.json may hold where the analysis reads it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from open_runs import opened, written
from pydantic import BaseModel
from simulated import Simulation, write_run

from probe.analysis.open_run import open_run
from probe.errors import ProbeError
from probe.findings.base import findings
from probe.render.page import write_page
from probe.results.folder import read_folder
from probe.results.record import Record, read_record

SMALL = {"windows": 1, "length": 64, "boundaries": (32,), "reach": 32}


@pytest.fixture(name="run")
def run_folder(tmp_path: Path) -> Path:
    curves = {"truncate": lambda distance: 0.5 / (1 + distance)}
    return write_run(tmp_path / "run", Simulation(curves, documents=6, **SMALL))


def put(run: Path, path: str, value: Any) -> None:
    """Write a value to a place of run.json."""
    record = json.loads((run / "run.json").read_text())
    place: Any = record
    *parents, last = (int(name) if name.isdigit() else name for name in path.split("."))
    for name in parents:
        place = place[name] if isinstance(place, list) else place.setdefault(name, {})
    place[last] = value
    (run / "run.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("name", ["x"], "text"),
        ("config.seed", "x", "a whole number, 0 or more"),
        ("config.seed", -1, "a whole number, 0 or more"),
        ("config.seed", True, "a whole number, 0 or more"),
        ("config.analysis", [1], "an object"),
        ("config.analysis.resamples", 10**12, "a whole number, 1 to 1,000,000"),
        ("config.analysis.resamples", 2.5, "a whole number, 1 to 1,000,000"),
        ("config.analysis.bins_per_octave", 0, "a whole number, 1 to 64"),
        ("config.analysis.confidence", "95 %", "a number between 0 and 1"),
        ("config.analysis.confidence", 1, "a number between 0 and 1"),
        ("config.analysis.confidence", float("nan"), "a number between 0 and 1"),
        ("config.analysis.tolerances", "1%", "a list"),
        ("config.analysis.tolerances.0", "-1%", "'1%' (rise in perplexity), '0.01 nats', '0.0"),
        ("config.analysis.tolerances.0", f"{'9' * 400}%", "'1%' (rise in perplexity), "),
        ("config.analysis.simultaneous", "no", "true or false"),
        ("config.analysis.classes", "kind", "a list"),
        ("config.protocol", "sweep", "an object"),
        ("config.protocol.kind", 3, "text"),
        ("plan.conditions", [1], "an object"),
        ("plan.conditions.truncate", 3, "an object"),
        ("plan.conditions.truncate.curve_start", -1, "a whole number, 0 or more"),
        ("data.documents", {"id": "a"}, "a list"),
        ("data.documents.0", "a", "an object"),
        ("data.documents.0.id", 3, "text"),
        ("data.documents.0.group", [1], "text, a number or a bool"),
        ("data.documents.0.metadata", "x", "an object"),
        ("data.documents.0.spans", [["a", 5, 2]], "[name, first token, one past the last]"),
        ("model.vocabulary", 10**15, "a whole number, 1 to 10,000,000"),
        ("check", [1], "an object"),
        ("identity", "x", "an object"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_one(run: Path, path: str, value: Any, allowed: str) -> None:
    """One line with where it is, what it is and what is allowed."""
    put(run, path, value)
    with pytest.raises(ProbeError) as caught:
        open_run(run)
    told = str(caught.value)
    assert told.startswith(f"'{run / 'run.json'}': {path}")
    assert f"; allowed: {allowed}" in told
    assert "\n" not in told
    assert len(told) < 300


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("suffix", ["tokens", "candidates"]),
        ("longppl", ["context", "stride"]),
        ("dense", ["context"]),
    ],
)
def test_what_a_protocol_needs(run: Path, kind: str, missing: list[str]) -> None:
    """Its own numbers cannot be left out."""
    put(run, "config.protocol", {"kind": kind})
    with pytest.raises(ProbeError) as caught:
        open_run(run)
    for name in missing:
        assert f"config.protocol.{name} is missing; allowed: a whole number, " in str(caught.value)


def test_every_mistake_is_told(run: Path) -> None:
    """A line each, and no more of them than can be read."""
    put(run, "config.seed", "x")
    put(run, "name", 5)
    with pytest.raises(ProbeError, match=r"run\.json' has 2 mistakes:\n  name is 5; .*\n  config"):
        open_run(run)
    put(run, "data.documents", [1] * 100)
    with pytest.raises(ProbeError, match=r"and 82 more$"):
        open_run(run)
    put(run, "data.documents", [{"tokens": 3}])
    with pytest.raises(ProbeError, match=r"data\.documents\.0\.id is missing; allowed: text"):
        open_run(run)


def paths(model: type[BaseModel], where: str = "") -> Iterator[str]:
    """Where the model has a value, lists and what is below them left out."""
    for name, field in model.model_fields.items():
        yield f"{where}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from paths(field.annotation, f"{where}{name}.")


@pytest.mark.slow
def test_what_is_not_said(run: Path) -> None:
    """Null is as good as nothing, wherever no list is meant to hold it."""
    whole = (run / "run.json").read_text()
    known = list(paths(Record))
    assert {"name", "model.trained_length", "config.analysis.tolerances"} <= set(known)
    for path in known:
        (run / "run.json").write_text(whole)
        put(run, path, None)
        assert read_folder(run).parts
    (run / "run.json").write_text("{}")
    assert len(opened(run).documents) == 6


def test_brackets_without_end(run: Path) -> None:
    """What Python cannot read is no traceback."""
    (run / "run.json").write_text("[" * 100_000)
    with pytest.raises(ProbeError, match="its brackets are too deep"):
        open_run(run)
    (run / "run.json").write_text("[1]")
    with pytest.raises(ProbeError, match=r"run\.json' holds \[1\]; allowed: an object"):
        open_run(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "name",
        "status",
        "model.name",
        "data.name",
        "data.documents.0.id",
        "data.documents.0.group",
        "data.documents.0.metadata.\ud800",
        "config.protocol.kind",
        "plan.conditions.\ud800.x",
    ],
)
def test_lone_surrogates(run: Path, path: str) -> None:
    """Text that no file can hold is named, in every file and on the page."""
    put(run, path, "a\ud800b")
    found = written(run, classes=["kind"])
    page = write_page([found], [findings(found)], run / "report.html")
    assert "a[U+D800]b" in json.dumps(read_record(run / "run.json"), ensure_ascii=False)
    for file in (page, run / "summary.json", run / "curve.csv", run / "findings.json"):
        assert "\ud800" not in file.read_text(encoding="utf-8")
