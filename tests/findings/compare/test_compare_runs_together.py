"""Several runs together: one table, their curves over one another, the answer of each."""

import json
import math
from contextlib import ExitStack, contextmanager

import pytest
from compare_runs import change_record, random_text, rows_of, step
from simulated import Simulation, write_run

from probe.analysis.open_run import open_run
from probe.findings.base import Finding, findings, findings_of_all
from probe.findings.compare.charts import curves_chart
from probe.findings.compare.finding import COLUMNS, bits_per_byte, run_table, table_finding
from probe.results.folder import unique_labels

pytestmark = pytest.mark.slow


def made(folder, **changes):
    known = {
        "curves": {"truncate": step(32), "shuffle": step(16)},
        "windows": 1,
        "length": 256,
        "boundaries": (128,),
        "reach": 128,
    }
    return write_run(folder, Simulation(**(known | changes)))


@contextmanager
def opened(*folders):
    with ExitStack() as stack:
        yield [stack.enter_context(open_run(folder, write=False)) for folder in folders]


def table_of(*folders):
    with opened(*folders) as runs:
        return run_table(runs)


def printed_of(*folders):
    """The table as it is printed, its columns by their headers."""
    with opened(*folders) as runs:
        (table,) = table_finding(runs).tables
    return dict(zip(table.headers, zip(*table.rows, strict=True), strict=True))


def with_protocol(folder, **protocol):
    """The run with another protocol in its configuration."""
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record["config"]["protocol"] = protocol
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def test_a_row_says_what_the_run_is_and_reads(tmp_path):
    """Names, counts, losses against plain sums, answers as the summary has them."""
    a = random_text(made(tmp_path / "a", name="one", model="m1", data="d1"))
    change_record(a, model={"revision": "0123456789abcdef" * 2})
    b = change_record(made(tmp_path / "b", name="two", text=False), model={"revision": "main"})
    table = table_of(a, b)
    assert table["run"].tolist() == ["one", "two"]
    assert table["revision"].tolist() == ["01234567", "main"]
    first = table.iloc[0]
    assert first[["model", "data", "dtype", "condition"]].tolist() == [
        *("m1", "d1", "float32", "truncate")
    ]
    assert first[["documents", "windows", "targets"]].tolist() == [8, 8, 8 * 128]
    rows = rows_of(a).query("condition == 'intact'")
    assert first["loss"] == pytest.approx(rows.nll.mean())
    assert first["perplexity"] == pytest.approx(math.exp(rows.nll.mean()))
    expected = rows.nll.sum() / math.log(2) / rows.bytes.sum()
    assert first["bits_per_byte"] == pytest.approx(expected)
    assert math.isnan(table["bits_per_byte"].iloc[1])
    with opened(a) as (run,):
        context = run.context("truncate", "1%")
    assert first["1%"] == context.text()
    assert first[["1% length", "1% low", "1% high"]].tolist() == [
        *(context.estimate, context.lower, context.upper)
    ]


def test_what_is_open_or_unknown_is_missing(tmp_path):
    """Neither a run that stays above the tolerance nor one of few documents has a length."""
    far = made(tmp_path / "a", curves={"truncate": step(999)})
    few = made(tmp_path / "b", documents=3)
    table = table_of(far, few)
    assert table["1% length"].isna().all()
    assert table["1% high"].isna().all()
    assert table["1%"].tolist() == ["> 128", "unresolved"]


def test_runs_of_one_name_are_told_by_their_folders(tmp_path):
    """A table whose rows cannot be told apart says nothing."""
    folders = [made(tmp_path / name) for name in "ab"]
    assert table_of(*folders)["run"].tolist() == ["simulated (a)", "simulated (b)"]


def test_without_truncate_the_most_common_condition_stands_in(tmp_path):
    """One condition for the whole table; a run that lacks it has a dash."""
    a = made(tmp_path / "a", curves={"replace": step(8), "shuffle": step(16)})
    b = made(tmp_path / "b", curves={"shuffle": step(16)}, name="other")
    table = table_of(a, b)
    assert set(table["condition"]) == {"shuffle"}
    only = table_of(made(tmp_path / "c", curves={}))
    assert only[["condition", "1%"]].iloc[0].tolist() == ["truncate", "–"]


def test_the_printed_table_is_words(tmp_path):
    """No limits of their own, rounded numbers, a dash for what is missing."""
    shown = printed_of(made(tmp_path / "a", text=False))
    assert shown["bits per byte"] == ("–",)
    assert shown["targets"] == ("1,024",)
    assert not any("low" in name for name in shown)
    assert {"1 %", "2 %", "5 %", "10 %"} <= set(shown)


def test_the_attention_is_shown_where_it_differs(tmp_path):
    """A column that says the same of every run has no room."""
    folders = [made(tmp_path / name, name=name) for name in "ab"]
    assert "attention" not in printed_of(*folders)
    change_record(folders[1], config={"model": {"attention": "eager"}})
    shown = printed_of(*folders)
    assert shown["attention"] == ("–", "eager")
    assert list(shown)[: len(COLUMNS)] == [name.replace("_", " ") for name in COLUMNS]


def test_the_page_has_the_answer_of_each_run(tmp_path):
    """Table, curves, and behind each run's label the sentence of the finding that answers it."""
    with opened(made(tmp_path / "a", name="one"), made(tmp_path / "b", name="two")) as runs:
        of_each = [findings(run, brief=True) for run in runs]
        (together,) = findings_of_all(runs, of_each)
    assert (together.id, together.title) == ("runs", "The runs")
    assert together.sentence == "2 runs, each in full below."
    answers = [next(one.sentence for one in own if one.level == "answer") for own in of_each]
    assert together.more == [f"one: {answers[0]}", f"two: {answers[1]}"]
    assert "32 tokens under truncate" in answers[0]
    (table,) = together.tables
    assert [row[0] for row in table.rows] == ["one", "two"]
    assert table.shown == "both"
    assert not together.caveats


def test_a_run_that_says_nothing_has_no_line(tmp_path):
    """The first sentence of a run's findings is its answer; files alone have none."""
    files, answer = Finding("x", "X"), Finding("y", "Y", "it")
    with opened(made(tmp_path / "a", name="one"), made(tmp_path / "b", name="two")) as runs:
        (together,) = findings_of_all(runs, [[files, answer], [files]])
    assert together.more == ["one: it"]


def test_runs_are_drawn_over_one_another(tmp_path):
    """A line a run and condition, and the numbers of the lines below them; drawn into a file."""
    folders = made(tmp_path / "0"), made(tmp_path / "1", curves={"truncate": step(64)})
    with opened(*folders) as runs:
        chart = curves_chart(runs)
        labels = unique_labels([run.folder for run in runs])
        rows = [len(run.curve.query("condition == 'truncate'")) for run in runs]
    names = [f"{labels[0]}: truncate", f"{labels[0]}: shuffle", f"{labels[1]}: truncate"]
    assert [series.name for series in chart.series if series.name] == names
    assert [series.colour for series in chart.series if series.name] == [0, 0, 1]
    assert [mark.look for mark in chart.intervals] == [0, 1]
    assert (chart.title, chart.file) == ("Delta against distance, by run", "curves")
    (numbers,) = chart.tables
    assert list(numbers.headers) == ["distance", *names]
    assert len(numbers.rows) == max(rows)
    assert all(len(row) == len(numbers.headers) for row in numbers.rows)
    assert "–" not in {cell for row in numbers.rows for cell in row[1:]}


def test_runs_without_lengths_are_in_no_curve(tmp_path):
    """Bands have no curve of lengths: alone there is nothing to draw, with others they are left."""
    folders = [made(tmp_path / name, name=name) for name in ("sweep", "band")]
    with_protocol(folders[1], kind="band", edges=[0, 64, 128])
    with opened(*folders) as runs:
        assert {series.name for series in curves_chart(runs).series} == {"truncate", "shuffle"}
        assert curves_chart(runs[1:]) is None
        (together,) = findings_of_all(runs[1:], [[]])
        assert not together.charts
        assert together.tables


def test_bits_per_byte_are_those_of_all_rows(tmp_path):
    """The run's intact loss over its targets' bytes, against a plain sum; `None` without text."""
    folder = random_text(made(tmp_path / "a"))
    rows = rows_of(folder).query("condition == 'intact'")
    expected = rows.nll.sum() / math.log(2) / rows.bytes.sum()
    with open_run(folder, write=False) as run:
        assert bits_per_byte(run) == pytest.approx(expected, rel=1e-9)
        assert bits_per_byte(run) == pytest.approx(expected, rel=1e-9), "it leaves nothing behind"
    bare = made(tmp_path / "b", documents=2, text=False)
    with open_run(bare, write=False) as run:
        assert bits_per_byte(run) is None
