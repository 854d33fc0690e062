"""What is said of a proxy: by the report, by the plan, in Python."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command_line import good, probe
from simulated import Simulation, write_run
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    text_folder,
)

import probe as library

DEAR = Simulation(
    {"truncate": lambda d: np.where(d < 100, 0.3, 0.0)},
    documents=8,
    document_spread=0.5,
    model="dear",
)


@pytest.fixture(name="runs")
def two_runs(tmp_path: Path) -> Mapping[str, Path]:
    """A run of eight documents, and a cheap one of sixty that begins with them."""
    cheap = replace(DEAR, documents=60, model="cheap", noise_spread=None)
    runs = {"dear": DEAR, "cheap": cheap}
    written = {name: write_run(tmp_path / name, one) for name, one in runs.items()}
    for folder in written.values():
        file = folder / "run.json"
        record = json.loads(file.read_text(encoding="utf-8")) | {"costs": {"flops": 1e9}}
        file.write_text(json.dumps(record), encoding="utf-8")
    return written


@pytest.mark.slow
def test_report(runs: Mapping[str, Path]) -> None:
    """The report says which model predicts, how well, and what the answers were without it."""
    told = good(probe("report", runs["dear"], "--proxy", runs["cheap"]))
    words = " ".join(told.split())
    assert "8 documents were scored, and the losses of cheap of 60 are known: with" in words
    assert "cheap was scored on 60 documents, 8 of them in common" in words
    assert "Without it the effective context of truncate at 1 % is" in words
    kept = json.loads((runs["dear"] / "findings.json").read_text(encoding="utf-8"))["proxy"]
    assert (kept["model"], kept["documents"], kept["common"]) == ("cheap", 60, 8)
    assert "cheap" not in good(probe("report", runs["dear"]))


@pytest.mark.slow
def test_texts_that_documents_share_are_explained_by_no_other_run(tmp_path: Path) -> None:
    """Their unit is no document: of them alone nothing is told, and the report is there."""
    shared = "replace(source='document', shared=4)"
    simulation = replace(DEAR, curves={shared: DEAR.curves["truncate"]}, noise_spread=None)
    dear, cheap = (
        write_run(tmp_path / name, replace(simulation, model=name)) for name in ("dear", "cheap")
    )
    for folder in (dear, cheap):
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        record["data"]["pool"] = [one["id"] for one in record["data"]["documents"]]
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    told = good(probe("report", dear, "--proxy", cheap))
    assert "in common: under" not in told


@pytest.mark.slow
def test_python(runs: Mapping[str, Path]) -> None:
    """`probe.open` takes a proxy; its curve has narrower intervals."""
    with library.open(runs["dear"]) as plain:
        before = (plain.curve["high"] - plain.curve["low"]).sum()
    with library.open(runs["dear"], proxy=runs["cheap"]) as run:
        assert (run.curve["high"] - run.curve["low"]).sum() < before / 1.5
        assert any(finding.id == "proxy" for finding in run.findings)


@pytest.mark.slow
def test_plan(runs: Mapping[str, Path], base: dict[str, Any], tmp_path: Path) -> None:
    """The plan divides what its documents cost, as text and as JSON."""
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(base), encoding="utf-8")
    asked = ["plan", file, "--no-time", "--from", runs["dear"], "--proxy", runs["cheap"]]
    assert "divided between this model and cheap" in good(probe(*asked))
    content = json.loads(good(probe("-q", *asked, "--json")))["proxy"]
    assert (content["model"], content["documents"]) == ("cheap", 8)
    octaves = content["octaves"]
    assert all(row["half_width"] <= row["plain"] for row in octaves)
    assert any(row["proxy_documents"] > row["documents"] for row in octaves)


def test_mistakes(runs: Mapping[str, Path], base: dict[str, Any], tmp_path: Path) -> None:
    """A proxy is of one run, and a plan by it needs a pilot."""
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(base), encoding="utf-8")
    several = probe("report", runs["dear"], runs["cheap"], "--proxy", runs["cheap"])
    assert several.exit_code == 2
    assert "--proxy is of one run; got 2" in several.stderr
    alone = probe("plan", file, "--no-time", "--proxy", runs["cheap"])
    assert alone.exit_code == 2
    assert "--from RUN" in alone.stderr
