"""Whole run folders: reading, aggregating, answering."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from probe.analysis.answer import answer, sentence, table
from probe.analysis.contrasts import contrast_sums, pairs
from probe.analysis.summary import summarise
from probe.analysis.tables import contrast_table
from simulated import Simulation, write_run

from probe.analysis.bins import bin_edges, bin_index
from probe.analysis.floor import noise_floor
from probe.analysis.sums import document_sums
from probe.errors import ProbeError, UsageError
from probe.protocols.registry import reading
from probe.results.csv_files import read_csv
from probe.results.folder import read_folder
from probe.results.record import SCHEMA
from probe.results.views import connect
from probe.runs.identity import SCHEMA_VERSION

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "replace(source='document')": lambda d: np.where(d < 64, 0.5, 0.0),
    "shuffle": lambda d: np.where(d < 64, 0.6, 0.0),
}


def rows_of(folder):
    parts = sorted((folder / "scores").glob("*.parquet"))
    frame = pd.concat([pq.read_table(part).to_pandas() for part in parts], ignore_index=True)
    frame = frame.astype({"document": str, "condition": str, "nll": float, "nll_intact": float})
    windows = pq.read_table(folder / "windows.parquet").to_pandas()
    return frame.merge(windows[["document", "window", "start"]], on=["document", "window"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    # A name that a pattern language would read otherwise.
    path = tmp_path_factory.mktemp("runs") / "run[1]*=x"
    groups = ("novel", "essay")
    return write_run(path, Simulation(CURVES, groups=groups, boundaries=(100, 256), reach=256))


@pytest.fixture(scope="module")
def summary(folder):
    return summarise(folder)


def test_sums_are_those_of_pandas(folder):
    """Aggregation in DuckDB against a plain groupby over all rows, grey rows apart."""
    run = read_folder(folder)
    edges = bin_edges(256)
    with connect(folder / "windows.parquet", run.parts) as connection:
        found = document_sums(connection, edges)
    rows = rows_of(folder).query("boundary >= 0")
    rows = rows.assign(
        delta=rows.nll - rows.nll_intact,
        far=rows.boundary - rows.start,
        bin=bin_index(rows.distance, edges),
    )
    rows["grey"] = rows.distance > rows.far
    keys = ["condition", "grey", "bin", "document"]
    expected = rows.groupby(keys, as_index=False).agg(
        targets=("delta", "size"),
        delta_sum=("delta", "sum"),
        windows=("window", "nunique"),
        helped=("delta", lambda values: int((values > 0).sum())),
        hurt=("delta", lambda values: int((values < 0).sum())),
        far_min=("far", "min"),
        far_max=("far", "max"),
    )
    assert rows["grey"].any()
    np.testing.assert_allclose(
        found[expected.columns].drop(columns=["condition", "document"]).to_numpy(float),
        expected.drop(columns=["condition", "document"]).to_numpy(float),
        atol=1e-9,
    )
    assert found["condition"].tolist() == expected["condition"].tolist()


def test_contrasts_are_those_of_a_merge(folder):
    """Common targets by a pandas merge on document, window, position and boundary."""
    run = read_folder(folder)
    edges = bin_edges(256)
    first, second = "shuffle", "replace(source='document')"
    with connect(folder / "windows.parquet", run.parts) as connection:
        found = contrast_sums(connection, first, second, edges)
        plain = contrast_sums(connection, "truncate", "intact", edges)
    rows = rows_of(folder)
    rows = rows[rows.distance <= rows.boundary - rows.start]
    keys = ["document", "window", "position", "boundary", "distance"]
    both = rows[rows.condition == first].merge(rows[rows.condition == second], on=keys)
    both["difference"] = both.nll_x - both.nll_y
    both["distance_from"] = edges[bin_index(both.distance, edges)]
    expected = both.groupby(["distance_from", "document"])["difference"].agg(["size", "sum"])
    np.testing.assert_allclose(found[["targets", "delta_sum"]], expected, atol=1e-9)
    truncated = rows[(rows.condition == "truncate") & (rows.boundary >= 0)]
    assert plain["targets"].sum() == len(truncated)
    difference = (truncated.nll - truncated.nll_intact).sum()
    assert plain["delta_sum"].sum() == pytest.approx(difference)


def test_the_planted_lengths_come_back(summary):
    """Steps at 32 and 64 are answered, and named as what they are."""
    assert summary.context("truncate", "1%").text() == "32 (30–36)"
    assert summary.context("shuffle", "10%").value == 64
    assert sentence(summary) == (
        "tiny-model on made-up uses 32 tokens of context (95 % interval 30–36)"
        " at a tolerance of 1 % of perplexity."
    )
    lines = table(summary).splitlines()
    assert len({line.find("64 (64–64)") for line in lines[2:4]}) == 1
    assert "8 documents, 16 windows and 6,592 targets" in answer(summary)


def test_contrast_intervals_hold_what_was_planted(summary):
    """Shuffling costs 0.1 nats more than replacing at 8–15 tokens; far away they agree."""
    rows = summary.contrasts.query("scale == 'octave' and minuend == 'shuffle'")
    near = rows[rows.distance_from == 8].iloc[0]
    assert near.low <= 0.1 <= near.high
    assert near.high - near.low < 0.06
    assert set(summary.contrasts["contrast"]) == {
        "truncate − intact",
        "replace(source='document') − truncate",
        "shuffle − replace(source='document')",
    }


def test_files_keep_the_summary(folder, summary):
    """curve.csv and summary.json hold the same numbers; no temporary file stays."""
    table = read_csv(folder / "curve.csv")
    np.testing.assert_allclose(table["delta"], summary.curve["delta"], rtol=1e-6)
    record = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert record["effective_context"][-1]["text"] == summary.contexts[-1].text()
    assert record["far"] == {"shortest": 100, "longest": 256}
    assert {row["left_out"] for row in record["without_group"]} == {"novel", "essay"}
    assert not list(folder.glob(".*"))
    before = (folder / "summary.json").read_bytes()
    summarise(folder)
    assert (folder / "summary.json").read_bytes() == before


def test_grey_rows_never_answer(tmp_path):
    """With a boundary at 64 nothing beyond 64 counts, although the curve falls only there."""
    curve = {"truncate": lambda d: np.where(d <= 64, 0.3, 0.0)}
    run = write_run(tmp_path / "run", Simulation(curve, boundaries=(64,), reach=256))
    found = summarise(run, write=False)
    context = found.context("truncate", "1%")
    assert (context.kind, context.value) == ("greater", 72)  # the bin 64–71 holds distance 64
    assert found.curve.query("grey and condition == 'truncate'")["distance_from"].min() == 64
    assert any("drawn grey" in flag for flag in found.flags)


def test_a_late_start_is_respected(tmp_path):
    """A curve that may be shown from 64 on has no bin before it, nor has its contrast."""
    run = write_run(tmp_path / "run", Simulation(CURVES, curve_starts={"shuffle": 64}))
    found = summarise(run, write=False)
    assert found.context("shuffle", "1%").text() == "≤ 64 (upper limit 72)"
    for frame in (
        found.curve.query("condition == 'shuffle'"),
        found.contrasts.query("minuend == 'shuffle' and scale == 'bin'"),
    ):
        assert frame["distance_from"].min() == 64
    assert "≤ 64 (upper limit 72)" in table(found)


def test_a_grid_has_only_its_bins(tmp_path):
    """Distances 8, 32 and 128 with ten targets each: the answer is the first measured below."""
    curves = {"truncate": CURVES["truncate"]}
    simulation = Simulation(curves, distances=(8, 16, 64, 128), length=1024)
    found = summarise(write_run(tmp_path / "run", simulation), write=False)
    context = found.context("truncate", "2%")
    assert (context.kind, context.value, context.reach) == ("length", 64, 138)


def test_repeats_are_averaged_before_anything_is_counted(tmp_path):
    """Three draws of a condition are one target, with a smaller spread."""
    simulation = Simulation({"shuffle": CURVES["shuffle"]}, repeats=3, documents=6)
    found = summarise(write_run(tmp_path / "run", simulation), write=False)
    row = found.curve.query("condition == 'shuffle' and distance_from == 128").iloc[0]
    assert row["targets"] == 6 * 2 * 16
    assert any("not scored: 'truncate'" in line for line in found.warnings)


def test_the_noise_floor_is_the_larger_error(folder):
    """By hand for one octave; without a noise condition there is none."""
    run = read_folder(folder)
    with connect(folder / "windows.parquet", run.parts) as connection:
        sums = document_sums(connection, bin_edges(256))
    floor = noise_floor(sums, 256)
    rows = rows_of(folder).query("condition == 'noise' and distance >= 16 and distance < 32")
    delta = rows.nll - rows.nll_intact
    by_document = delta.groupby(rows.document).mean()  # as many targets in each
    between = by_document.std(ddof=1) / math.sqrt(len(by_document))
    error = max(delta.std(ddof=1) / math.sqrt(len(delta)), between)
    assert floor.limit[2] == pytest.approx(abs(delta.mean()) + 2.364624 * error, rel=1e-5)
    assert np.isnan(floor.at(np.array([5000]))[0])
    assert noise_floor(sums[sums.condition != "noise"], 256) is None


def test_without_noise_the_answer_says_so(tmp_path):
    """Exempt from the floor, and flagged."""
    run = write_run(tmp_path / "run", Simulation(CURVES, noise_spread=None))
    found = summarise(run, write=False)
    assert "no noise floor" in found.context("truncate", "1%").flags
    assert "no noise floor" in answer(found)


def test_an_intact_loss_that_worsens_is_flagged(tmp_path):
    """Five nats over the window are seen, none are not."""
    curves = {"truncate": CURVES["truncate"]}
    rising = Simulation(curves, position_slope=5.0, documents=10)
    assert summarise(write_run(tmp_path / "a", rising), write=False).losses.worsening is not None
    flat = Simulation(curves, documents=10)
    assert summarise(write_run(tmp_path / "b", flat), write=False).losses.worsening is None


def test_few_documents_say_why(tmp_path):
    """The sentence names the reason."""
    run = write_run(tmp_path / "run", Simulation(CURVES, documents=3))
    assert sentence(summarise(run, write=False)).endswith(
        "is unresolved at a tolerance of 1 % of perplexity: 3 documents, at least 6 needed."
    )


def test_bits_per_byte_come_from_the_text(tmp_path):
    """Four bytes a token ("abé"); without text the tolerance is refused."""
    simulation = Simulation({"truncate": CURVES["truncate"]})
    run = write_run(tmp_path / "a", simulation)
    _ask(run, ["0.02 bpb"])
    epsilon = summarise(run, write=False).contexts[0].epsilon
    assert epsilon == pytest.approx(0.02 * math.log(2) * 4)
    bare = write_run(tmp_path / "b", Simulation(simulation.curves, text=False))
    _ask(bare, ["0.02 bpb"])
    with pytest.raises(UsageError, match="only token ids"):
        summarise(bare)


def _ask(run, tolerances):
    record = json.loads((run / "run.json").read_text())
    record["config"]["analysis"]["tolerances"] = tolerances
    (run / "run.json").write_text(json.dumps(record))


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
    found = summarise(run, write=False)
    assert found.documents == 6
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


def test_a_copied_part_counts_once(tmp_path):
    """A copy that a backup left beside a part is named and left out."""
    folder = write_run(tmp_path / "run", Simulation(CURVES))
    part = sorted(folder.glob("scores/*.parquet"))[0]
    table = pq.read_table(part).replace_schema_metadata(
        {"context_probe.holds": '[["doc000", 0, "truncate", 0]]'}
    )
    pq.write_table(table, part)
    plain = summarise(folder, write=False)
    shutil.copy(part, part.with_name("part-copy.parquet"))
    found = summarise(folder, write=False)
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
    assert SCHEMA == SCHEMA_VERSION
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
    with pytest.raises(ProbeError, match=r"has no windows\.parquet, which alone .* probe run"):
        summarise(run)


def test_one_document_has_contrasts_without_an_interval(tmp_path):
    """The reason stands above the table, no limit is a nan."""
    run = write_run(tmp_path / "run", Simulation(CURVES, documents=1))
    told = contrast_table(summarise(run, write=False))
    assert told.startswith("Contrasts (nats a token; no interval: 1 document, at least 6 needed)")
    assert "nan" not in told


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


def test_a_run_without_curves_still_reports_its_losses(tmp_path):
    """Only intact scores so far: losses and counts, and a sentence that says so."""
    run = write_run(tmp_path / "run", Simulation({}, noise_spread=None))
    found = summarise(run)
    assert found.losses.by_condition["condition"].tolist() == ["intact"]
    assert (found.contexts, found.reach, len(found.curve)) == ((), 0, 0)
    assert sentence(found).endswith("no condition with a curve was scored.")
    assert "no contrast truncate − intact" in answer(found)


def test_contrasts_name_what_is_missing():
    """Each parameter has its contrast; a missing kind is a line, no error."""
    found, missing = pairs(["replace(source='a')", "replace(source='b')", "truncate"])
    assert ("replace(source='b')", "truncate") in found
    assert missing == ["no contrast shuffle − replace: not scored: 'shuffle'"]
