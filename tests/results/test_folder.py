"""A run folder that is opened: what is missing, damaged, copied, or of another version is named."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from open_runs import opened
from simulated import Simulation, write_run

from probe.analysis.open_run import open_run
from probe.errors import ProbeError
from probe.protocols.registry import reading
from probe.results.folder import read_folder

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "replace(source='document')": lambda d: np.where(d < 64, 0.5, 0.0),
    "shuffle": lambda d: np.where(d < 64, 0.6, 0.0),
}


@pytest.mark.slow
def test_what_cannot_be_read_is_named(tmp_path):
    """A folder, a record and score parts that are missing each have their own line."""
    with pytest.raises(ProbeError, match="no run folder at"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(ProbeError, match=r"has no run\.json"):
        read_folder(tmp_path)
    run = write_run(tmp_path / "run", Simulation({"truncate": CURVES["truncate"]}, documents=7))
    parts = sorted((run / "scores").iterdir())
    parts[0].write_bytes(parts[0].read_bytes()[:500])
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "unfinished"}))
    found = opened(run)
    assert len(found.documents) == 6
    assert found.warnings[0].startswith("scores/part-00000.parquet is left out: it cannot be read")
    assert "is unfinished: this is what has been scored so far" in found.warnings[1]
    damaged = bytearray(parts[1].read_bytes())
    damaged[4 : len(damaged) // 2] = bytes(len(damaged) // 2 - 4)  # the footer stays good
    parts[1].write_bytes(damaged)
    assert read_folder(run).warnings[1].startswith("scores/part-00001.parquet is left out")
    for part in parts:
        part.unlink()
    with pytest.raises(ProbeError, match="nothing has been scored yet"):
        read_folder(run)


@pytest.mark.slow
def test_a_copied_part_counts_once(tmp_path):
    """A copy that a backup left beside a part is named and left out."""
    folder = write_run(tmp_path / "run", Simulation(CURVES))
    part = sorted(folder.glob("scores/*.parquet"))[0]
    table = pq.read_table(part).replace_schema_metadata(
        {"context_probe.holds": '[["doc000", 0, "truncate", 0]]'}
    )
    pq.write_table(table, part)
    plain = opened(folder)
    shutil.copy(part, part.with_name("part-copy.parquet"))
    found = opened(folder)
    assert found.curve.equals(plain.curve)
    assert any("it holds what" in line for line in found.warnings)


@pytest.mark.parametrize("schema", [2, 99, "1", None, True, 1.5])
def test_a_later_version_is_refused(tmp_path, schema):
    """One line with the version found and the one that is known."""
    run = write_run(tmp_path / "run", Simulation({}, documents=1))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "schema": schema}))
    with pytest.raises(ProbeError, match=rf"has schema {schema!r}; allowed: up to 1, that of"):
        read_folder(run)


def test_an_earlier_version_is_read_and_told(tmp_path):
    """The version is the one that runs are written with; an older one is a warning."""
    run = write_run(tmp_path / "run", Simulation({}, documents=1))
    assert read_folder(run).warnings == ()
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "schema": 0}))
    assert read_folder(run).warnings == (
        "run 'run' has schema 0, older than 1: it is read as far as possible",
    )


@pytest.mark.parametrize("kind", ["sweep", "band"])
def test_parts_without_far_start(tmp_path, kind):
    """A curve does without, and it is told; what needs the column has no part left."""
    run = write_run(tmp_path / "run", Simulation({}, documents=2))
    for part in (run / "scores").glob("*.parquet"):
        rows = pq.read_table(part)
        pq.write_table(rows.drop_columns([n for n in rows.column_names if n == "far_start"]), part)
    record = json.loads((run / "run.json").read_text())
    record.setdefault("config", {})["protocol"] = {"kind": kind}
    (run / "run.json").write_text(json.dumps(record))
    if kind == "band":
        with pytest.raises(ProbeError, match="it lacks the columns far_start"):
            read_folder(run, reading=reading)
    else:
        (told,) = read_folder(run, reading=reading).warnings
        assert told.startswith("2 score parts of 'run' have no column far_start: an older")


def test_a_missing_windows_file_is_named(tmp_path):
    """What it tells, and how to have it back."""
    run = write_run(tmp_path / "run", Simulation({}, documents=1))
    (run / "windows.parquet").unlink()
    with pytest.raises(ProbeError, match=r"has no windows\.parquet, the only record .* probe run"):
        open_run(run)


def test_a_loss_that_is_no_number_is_an_error(tmp_path):
    """Condition and count are named."""
    run = write_run(tmp_path / "run", Simulation({"truncate": CURVES["truncate"]}))
    part = run / "scores" / "part-00003.parquet"
    rows = pq.read_table(part)
    nll = rows["nll"].to_numpy().copy()
    chosen = np.flatnonzero(np.array(rows["condition"].to_pylist()) == "truncate")[:5]
    nll[chosen] = [np.nan, np.inf, np.nan, np.nan, -np.inf]
    place = rows.schema.get_field_index("nll")
    pq.write_table(rows.set_column(place, rows.schema.field("nll"), pa.array(nll)), part)
    with pytest.raises(ProbeError, match="infinite or missing: 'truncate' has 5"):
        read_folder(run)
