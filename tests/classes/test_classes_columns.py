"""Metadata columns from the configuration to the class table and what is said of a run."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from class_runs import word_run
from click.testing import CliRunner
from open_runs import opened
from simulated import Simulation
from test_classes_metadata import SMALL, described

from probe.classes.builtin import DEFAULTS
from probe.classes.table import classify, default_classes
from probe.commands.main import group
from probe.config import check
from probe.errors import UsageError
from probe.findings.classes import classes

VALUES = {"genre": {"doc000": "fiction", "doc001": "<b>", "doc002": "fiction"}}
CONTENT: dict[str, Any] = {
    "name": "a",
    "model": {"path": "m"},
    "data": {"path": "json", "metadata_columns": ["genre", "is a/b"]},
    "conditions": ["truncate"],
}


def test_default_classes(tmp_path: Path) -> None:
    """Each column is one beside the group, and stands in the table by document."""
    grouped = Simulation(**{**vars(SMALL), "groups": ("x", "y")})
    run = described(word_run(tmp_path / "run", grouped), VALUES)
    assert default_classes(run) == (*DEFAULTS, "group", "genre")
    table = classify(run, default_classes(run))
    frame = pq.read_table(table.path).to_pandas()
    for document, rows in frame.groupby("document", observed=True):
        held = {VALUES["genre"].get(str(document))}
        assert set(rows["genre"].astype(object).where(rows["genre"].notna(), None)) == held


@pytest.mark.slow
def test_columns_of_an_older_table(tmp_path: Path) -> None:
    """What was worked out is kept when columns come, change and go."""
    run = word_run(tmp_path / "run", SMALL)
    classify(run, ["kind"])
    for values in (VALUES, {"genre": {"doc003": "poem"}}):
        for document in (record := json.loads((run.path / "run.json").read_text("utf-8")))["data"][
            "documents"
        ]:
            document.pop("metadata", None)
        (run.path / "run.json").write_text(json.dumps(record), encoding="utf-8")
        run = described(run, values)
        table = classify(run, ["genre"])
        assert set(pq.read_schema(table.path).names) >= {"kind", "genre"}
        frame = pq.read_table(table.path).to_pandas()
        assert set(frame["genre"].dropna()) == set(values["genre"].values())


@pytest.mark.slow
def test_counted(tmp_path: Path) -> None:
    """Counts and curves by value; many values are put together, and that is said."""
    many = Simulation(**{**vars(SMALL), "documents": 25})
    values = {f"doc{number:03d}": f"v{number:02d}" for number in range(25)}
    run = described(word_run(tmp_path / "run", many), {"genre": values})
    found, refused = opened(run.path, classes=["genre"], write=True).once(classes)
    counts = found.counts
    assert refused == ()
    assert len(counts) == 21
    assert counts.set_index("value").loc["other", "documents"] == 5
    assert any(note.startswith("token class genre has 25 values: the 20") for note in found.notes)
    result = CliRunner().invoke(group, ["report", str(run.path), "--class", "genre"])
    assert result.exit_code == 0, result.output
    assert "genre has 25 values" in result.output
    result = CliRunner().invoke(group, ["report", str(run.path), "--class", "author"])
    assert result.exit_code == 2
    assert "or one of data.metadata_columns (genre)" in result.output


def test_configured() -> None:
    """Columns of the data are classes; what is neither is a mistake at once."""
    asked = ["genre", "is a/b", "copy"]
    assert check({**CONTENT, "analysis": {"classes": asked}}).analysis.classes == asked
    for data in (CONTENT["data"], {"path": "json"}, {"path": "json", "metadata_columns": [1]}):
        with pytest.raises(UsageError, match=r"analysis\.classes: unknown token class 'gendre'"):
            check({**CONTENT, "data": data, "analysis": {"classes": ["gendre"]}})
