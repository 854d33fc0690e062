"""Contrasts between conditions on common targets, against merges in pandas; their table."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from open_runs import by_id, opened
from simulated import Simulation, rows_of, write_run

from probe.analysis.bins import bin_index
from probe.findings.contrasts import contrast_sums, contrasts, pairs
from probe.render.terminal import table_text

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "replace(source='document')": lambda d: np.where(d < 64, 0.5, 0.0),
    "shuffle": lambda d: np.where(d < 64, 0.6, 0.0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    return write_run(path, Simulation(CURVES, boundaries=(100, 256), reach=256))


@pytest.fixture(scope="module")
def run(folder):
    return opened(folder)


def terminal_table(run):
    """The table of the finding that the terminal prints."""
    (table,) = [one for one in by_id(run)["contrasts"].tables if one.shown != "page"]
    return table_text(table)


def test_contrasts_are_those_of_a_merge(folder, run):
    """Common targets by a pandas merge on document, window, position and boundary."""
    first, second = "shuffle", "replace(source='document')"
    found = contrast_sums(run, first, second)
    plain = contrast_sums(run, "truncate", "intact")
    rows = rows_of(folder)
    rows = rows[rows.distance <= rows.boundary - rows.start]
    keys = ["document", "window", "position", "boundary", "distance"]
    both = rows[rows.condition == first].merge(rows[rows.condition == second], on=keys)
    both["difference"] = both.nll_x - both.nll_y
    both["distance_from"] = run.edges[bin_index(both.distance, run.edges)]
    expected = both.groupby(["distance_from", "document"])["difference"].agg(["size", "sum"])
    np.testing.assert_allclose(found[["targets", "delta_sum"]], expected, atol=1e-9)
    truncated = rows[(rows.condition == "truncate") & (rows.boundary >= 0)]
    assert plain["targets"].sum() == len(truncated)
    difference = (truncated.nll - truncated.nll_intact).sum()
    assert plain["delta_sum"].sum() == pytest.approx(difference)


@pytest.mark.slow
def test_contrasts_of_unequal_cells_are_those_of_a_merge(tmp_path):
    """Rows that one condition lacks, at some boundaries or here and there, leave both."""
    simulation = Simulation(CURVES, boundaries=(100, 200, 256), reach=256)
    folder = write_run(tmp_path / "run", simulation)
    for part in sorted(folder.glob("scores/*.parquet")):
        table = pq.read_table(part)
        rows = table.to_pandas()
        lacking = (rows["condition"] == "shuffle") & (rows["boundary"] % 512 == 100)
        lacking |= (rows["condition"] == "truncate") & (rows["position"] % 7 == 0)
        pq.write_table(table.filter(pa.array(~lacking)), part)
    run = opened(folder)
    for first, second in (
        ("shuffle", "replace(source='document')"),
        ("replace(source='document')", "truncate"),
    ):
        found = contrast_sums(run, first, second)
        rows = run.connection.execute("SELECT * FROM targets").df().astype({"document": str})
        keys = ["document", "window", "position", "boundary", "distance", "grey"]
        parts = [rows[(rows.condition == name) & ~rows.grey] for name in (first, second)]
        both = parts[0].merge(parts[1], on=keys)
        both["difference"] = both.nll_x - both.nll_y
        both["distance_from"] = run.edges[bin_index(both.distance, run.edges)]
        expected = both.groupby(["distance_from", "document"])["difference"].agg(["size", "sum"])
        assert len(found) == len(expected)
        np.testing.assert_allclose(found[["targets", "delta_sum"]], expected, atol=1e-9)


def test_contrast_intervals_hold_what_was_planted(run):
    """Shuffling costs 0.1 nats more than replacing at 8–15 tokens; far away they agree."""
    found, missing = run.once(contrasts)
    rows = found.query("scale == 'octave' and minuend == 'shuffle'")
    near = rows[rows.distance_from == 8].iloc[0]
    assert near.low <= 0.1 <= near.high
    assert near.high - near.low < 0.06
    assert set(found["contrast"]) == {
        "truncate − intact",
        "replace(source='document') − truncate",
        "shuffle − replace(source='document')",
    }
    assert missing == ()


@pytest.mark.slow
def test_a_late_start_is_respected(tmp_path):
    """A curve that may be shown from 64 on has no contrast before it."""
    folder = write_run(tmp_path / "run", Simulation(CURVES, curve_starts={"shuffle": 64}))
    rows = opened(folder).once(contrasts)[0].query("minuend == 'shuffle' and scale == 'bin'")
    assert rows["distance_from"].min() == 64


@pytest.mark.slow
def test_contrasts_by_octave(run):
    """A row an octave, a column a contrast, the frame's delta and interval in each cell."""
    lines = terminal_table(run).splitlines()
    assert lines[1].split("  ")[0] == "distance"
    assert "truncate − intact" in lines[1]
    found, _ = run.once(contrasts)
    rows = found[found["scale"] == "octave"]
    assert len(lines) - 2 == rows["distance_from"].nunique()
    first = rows[(rows["contrast"] == "truncate − intact") & (rows["distance_from"] == 0)].iloc[0]
    assert lines[2].startswith("0–7")
    assert f"{first.delta:+.4f} ({first.low:+.4f} to {first.high:+.4f})" in lines[2]


@pytest.mark.slow
def test_the_chart_holds_the_rows_by_octave(run):
    """A line a contrast, its delta and pointwise limits; the numbers as text in its table."""
    (chart,) = by_id(run)["contrasts"].charts
    rows, _ = run.once(contrasts)
    rows = rows[rows["scale"] == "octave"]
    assert [line.name for line in chart.series] == list(dict.fromkeys(rows["contrast"]))
    for line in chart.series:
        own = rows[rows["contrast"] == line.name]
        for drawn, column in ((line.y, "delta"), (line.low, "low"), (line.high, "high")):
            np.testing.assert_array_equal(drawn, own[column])
    assert len(chart.tables[0].rows) == rows["distance_from"].nunique()


@pytest.mark.slow
def test_one_document_has_contrasts_without_an_interval(tmp_path):
    """The reason stands above the table, no limit is a nan."""
    run = write_run(tmp_path / "run", Simulation(CURVES, documents=1))
    told = terminal_table(opened(run))
    assert told.startswith("Contrasts (nats per token; no interval: 1 document, at least 6 needed)")
    assert "nan" not in told


def test_contrasts_name_what_is_missing():
    """Each parameter has its contrast; a missing kind is a line, no error."""
    found, missing = pairs(["replace(source='a')", "replace(source='b')", "truncate"])
    assert ("replace(source='b')", "truncate") in found
    assert missing == ["no contrast shuffle − replace: not scored: 'shuffle'"]


@pytest.mark.slow
@pytest.mark.parametrize("others", [(), ("shuffle",)])
def test_what_is_missing_is_told_where_contrasts_are_asked_for(tmp_path, others):
    """With two of the conditions; one alone asks for none."""
    curves = {name: CURVES[name] for name in ("truncate", *others)}
    found = by_id(opened(write_run(tmp_path / "run", Simulation(curves))))["contrasts"]
    told = "no contrast replace − truncate: not scored: 'replace'" in found.notes
    assert told == bool(others)
