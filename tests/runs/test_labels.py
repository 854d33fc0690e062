"""Labels are shown, and are no part of what a run is."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import good, probe
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    model_folders,
    no_network,
    parts,
    score,
    text_folder,
)

from probe.analysis.open_run import open_run

pytestmark = pytest.mark.slow


def shown(folder: Path) -> tuple[str, str]:
    """What a reader is told of model and data."""
    with open_run(folder, write=False) as run:
        return run.model, run.data


@pytest.fixture(name="finished", scope="module")
def finished_run(
    base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    content = changed(base, conditions=["truncate"])
    return content, score(content, tmp_path_factory.mktemp("results"))


def test_another_label_is_the_same_run(finished: tuple[dict[str, Any], Path]) -> None:
    """Nothing is scored anew, the identity stays, and the new names are shown."""
    content, folder = finished
    before, record = parts(folder), json.loads((folder / "run.json").read_text("utf-8"))
    assert shown(folder) == ("tiny", Path(content["data"]["data_files"]).parent.name)
    labels = {"model__label": "Tiny Llama", "data__label": "made-up text"}
    assert score(content, folder.parent, **labels) == folder
    assert shown(folder) == ("Tiny Llama", "made-up text")
    assert parts(folder) == before
    now = json.loads((folder / "run.json").read_text("utf-8"))
    assert now["identity"] == record["identity"]
    assert now["identity_hash"] == record["identity_hash"]
    score(content, folder.parent)
    assert shown(folder) == ("tiny", Path(content["data"]["data_files"]).parent.name)


def test_other_names_for_one_call(finished: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    """A report, a comparison and a figure say them; the run keeps its own."""
    _, folder = finished
    before = shown(folder)
    named = ("--model-label", "Tiny", "--data-label", "a\x1b[31mb")
    report = good(probe("report", folder, "--class", "kind", "--output", tmp_path, *named))
    assert "Tiny" in report
    assert "a\\x1b[31mb" in report
    assert "Tiny" in (tmp_path / "report.html").read_text("utf-8")
    table = tmp_path / "table.csv"
    both = ("--model-label", "A", "--model-label", "B")
    good(probe("compare", folder, folder, *both, "--csv", table))
    assert list(dict.fromkeys(pd.read_csv(table)["model"])) == ["A", "B"]
    good(probe("plot", folder, "--output", tmp_path / "a.svg", *named))
    assert "Tiny" in (tmp_path / "a.svg").read_text("utf-8")
    assert shown(folder) == before
