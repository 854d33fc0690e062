"""Any number of runs as models × data: rows, cells, what is shared, one figure."""

from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from compare_runs import change_record, random_text, rows_of, step
from simulated import Simulation, write_run

from probe.analysis.bootstrap import resample_weights, stretch
from probe.analysis.open_run import open_run
from probe.errors import UsageError
from probe.findings.chart import EmptyChartError
from probe.findings.compare.charts import panels
from probe.findings.compare.finding import (
    CELL_COLUMNS,
    Asked,
    cells,
    chosen,
    parse_value,
    together,
)
from probe.findings.compare.matched import (
    confounds,
    in_common,
    main_condition,
    matched,
    row_names,
)
from probe.render.figures import draw
from probe.render.terminal import text

CURVES = {"truncate": step(32), "shuffle": step(16)}


def made(folder, **changes):
    known = {"curves": CURVES, "windows": 1, "length": 256, "boundaries": (128,), "reach": 64}
    return write_run(folder, Simulation(**(known | changes)))


@contextmanager
def opened(*folders):
    with ExitStack() as stack:
        yield [stack.enter_context(open_run(folder, write=False)) for folder in folders]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two models on two data sets; the second was not run on the second."""
    root = tmp_path_factory.mktemp("runs")
    made(root / "a", name="a", model="m1", data="d1")
    made(root / "b", name="b", model="m2", data="d1", curves={"truncate": step(999)})
    made(root / "c", name="c", model="m1", data="d2", documents=4)
    return [root / name for name in "abc"]


@pytest.mark.slow
def test_models_stand_in_rows_and_data_in_columns(folders):
    """Short cells; a dash where there was no run; the condition and tolerance that most have."""
    with opened(*folders) as runs:
        found = together(runs)
    assert found.sentence == "3 runs: 2 models on 2 data sets."
    (table,) = found.tables
    assert table.caption == (
        "Effective context (tokens) at 1 % of perplexity under truncate, with its 95 % interval"
    )
    assert list(table.headers) == ["model", "d1", "d2"]
    assert [list(row) for row in table.rows] == [
        ["m1", "32 (30–40)", "unresolved"],
        ["m2", "> 64", "–"],
    ]


@pytest.mark.slow
def test_every_condition_and_tolerance_has_a_table(folders):
    """Where all are asked for; or one of them."""
    with opened(*folders) as runs:
        every = together(runs, Asked(every=True)).tables
        (one,) = together(runs, Asked(condition="shuffle", tolerance="5%")).tables
    assert len(every) == 8
    assert len({table.caption for table in every}) == 8
    assert "5 % of perplexity under shuffle" in one.caption
    assert [row[1] for row in one.rows] == ["16 (16–18)", "–"]


@pytest.mark.slow
def test_cells_are_the_answers_of_the_runs(folders):
    """With numbers; a missing one lies beyond the reach."""
    with opened(*folders) as runs:
        frame = cells(runs)
        answers = {
            (run.name, one.condition, one.tolerance): one for run in runs for one in run.contexts
        }
    assert list(frame.columns) == list(CELL_COLUMNS)
    assert len(frame) == len(answers)
    for row in frame.to_dict("records"):
        answer = answers[row["run"], row["condition"], row["at"]]
        numbers = [None if value is None or value is np.nan else value for value in answer.lengths]
        read = [
            None if value != value or str(value) == "<NA>" else value
            for value in (row["value"], row["low"], row["high"])
        ]
        assert read == numbers
        assert row["kind"] == answer.kind
        assert row["text"] == answer.text()


@pytest.mark.slow
def test_delta_at_an_octave_is_that_of_a_plain_bootstrap(folders):
    """The mean of its targets, documents drawn in a loop."""
    with opened(folders[0]) as runs:
        (row,) = (
            cells(runs, parse_value("delta@20")).query("condition == 'truncate'").to_dict("records")
        )
    rows = rows_of(folders[0]).query("condition == 'truncate' and 16 <= distance < 32")
    own = rows.groupby("document")["delta"].agg(["sum", "size"]).to_numpy()
    mean = own[:, 0].sum() / own[:, 1].sum()
    weights = resample_weights(8, 100, 0)
    draws = mean + stretch(8, 0.95) * ((weights @ own[:, 0]) / (weights @ own[:, 1]) - mean)
    expected = [mean, *np.quantile(draws, [0.025, 0.975])]
    np.testing.assert_allclose([row["value"], row["low"], row["high"]], expected, atol=1e-9)
    assert (row["at"], row["kind"]) == ("16–31", "delta")


@pytest.mark.slow
def test_delta_has_a_table_of_its_own(folders):
    """Few documents have no interval; a distance that none measured leaves nothing."""
    with opened(*folders) as runs:
        (table,) = together(runs, Asked(16)).tables
        nothing = together(runs, Asked(4096))
    assert "Delta (nats per token) at 16–31 tokens under truncate" in table.caption
    assert table.rows[0][1].startswith("+0.287 (")
    assert "(" not in table.rows[0][2]
    assert not nothing.tables
    assert "none of them has a value to show" in nothing.caveats


@pytest.mark.parametrize("text", ["delta", "delta@", "delta@x", "delta@-1", "loss", "", "delta@²"])
def test_other_values_are_refused(text):
    """What was given, and what is allowed."""
    with pytest.raises(UsageError, match="allowed: length, delta@512"):
        parse_value(text)


@pytest.mark.slow
def test_two_runs_of_a_model_are_told_apart(tmp_path):
    """By their protocol, else by what differs, else by their own names."""
    a = made(tmp_path / "a", name="a")
    b = change_record(made(tmp_path / "b", name="b"), config={"protocol": {"kind": "grid"}})
    c = change_record(made(tmp_path / "c", name="c"), config={"seed": 4})
    d = made(tmp_path / "d", name="d")
    e = change_record(made(tmp_path / "e", name="e"), model={"revision": "checkpoint-10000"})
    with opened(a, b, c, d, e) as runs:
        assert row_names(runs[:1]) == ["tiny-model"]
        assert row_names(runs[:2]) == ["tiny-model (sweep)", "tiny-model (grid)"]
        assert row_names([runs[0], runs[2]]) == ["tiny-model (seed 0)", "tiny-model (seed 4)"]
        assert row_names([runs[0], runs[3]]) == ["tiny-model: a", "tiny-model: d"]
        assert row_names([runs[0], runs[4]]) == ["tiny-model (–)", "tiny-model (checkpoint-10000)"]
        assert len(set(row_names(runs))) == 5


@pytest.mark.slow
def test_what_runs_share_is_said_once(tmp_path):
    """Settings of all, those that differ with who has them, and how windows match."""
    folders = []
    for number, name in enumerate("abcdef"):
        folder = random_text(made(tmp_path / name, name=name, model=f"m{number}"))
        folders.append(change_record(folder, model={"dtype": "half" if name == "f" else "full"}))
    with opened(*folders) as runs:
        assert in_common(runs) == (
            "the same in all: patterns dense, window length 256, protocol sweep, seed 0"
        )
        assert confounds(runs) == ["dtype: full in 5 runs, half in f"]
        assert list(matched(runs)) == [
            "on made-up: the same windows and targets in all runs, differences of two are paired"
        ]
        caveats = together(runs).caveats
    assert len(caveats) == len(set(caveats)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": {"documents": [{"id": "x"}]}}, "not the same documents in all runs"),
        ({"identity": {"runs": [[4, 4, 9]]}}, "the same documents in other windows"),
        ({"config": {"windows": {"length": 4}}}, "the same documents in other windows"),
    ],
)
def test_other_windows_are_said(tmp_path, change, words):
    """Documents and cuts are compared as run.json has them."""
    folders = [made(tmp_path / name) for name in "ab"]
    change_record(folders[1], **change)
    with opened(*folders) as runs:
        (line,) = matched(runs)
    assert words in line


@pytest.mark.slow
def test_options_of_another_protocol_are_no_difference(tmp_path):
    """The protocols differ; that only one has edges goes without saying."""
    a, b = (made(tmp_path / name, name=name) for name in "ab")
    change_record(b, config={"protocol": {"kind": "grid", "distances": [1, 2]}})
    with opened(a, b) as runs:
        assert confounds(runs) == ["protocol: sweep in a, grid in b"]
    change_record(b, config={"protocol": {"kind": "sweep", "reach": 9}})
    with opened(a, b) as runs:
        assert confounds(runs) == ["protocol reach: 64 in a, 9 in b"]


@pytest.mark.slow
def test_the_condition_is_chosen_by_its_name(tmp_path):
    """Truncate, else the first that most runs have; an unknown one is refused."""
    folders = [
        made(tmp_path / "a", curves={"shuffle": step(9), "reverse": step(9)}),
        made(tmp_path / "b", curves={"shuffle": step(9)}),
    ]
    with opened(*folders) as runs:
        assert main_condition(runs) == "shuffle"
        frame = cells(runs)
        with pytest.raises(UsageError, match="condition 'truncate' was not found; allowed"):
            chosen(frame, runs, Asked(condition="truncate"))
        with pytest.raises(UsageError, match="tolerance '3%' was not found; allowed: 1%"):
            chosen(frame, runs, Asked(tolerance="3%"))
        with pytest.raises(UsageError, match="condition 'truncate' was not found"):
            panels(runs, "truncate")


@pytest.mark.slow
def test_panels_share_axes_looks_and_legend(folders):
    """A panel a data set; each model looks alike in all of them, and is named once."""
    with opened(*folders) as runs:
        first, second = panels(runs)
        fits = runs[0].curve.query("condition == 'truncate' and not grey")["fit"]
    assert (first.x, first.y) == (second.x, second.y)
    assert [series.name for series in first.series] == ["m1", "m2"]
    assert [series.name for series in second.series] == [""]
    assert first.series[0].appearance == second.series[0].appearance
    np.testing.assert_array_equal(first.series[0].y, fits)
    assert [mark.look for mark in first.intervals] == [0, 1]
    assert (first.heading, second.heading) == (["d1: truncate"], ["d2: truncate"])
    draw([first, second])


@pytest.mark.slow
def test_without_curves_there_are_no_panels(tmp_path):
    """Nothing is drawn of runs that have none."""
    with opened(made(tmp_path / "a", curves={})) as runs, pytest.raises(EmptyChartError):
        panels(runs)


@pytest.mark.slow
def test_names_are_escaped(tmp_path):
    """Of a model's or a data set's name a terminal obeys nothing."""
    folders = [
        made(tmp_path / n, model=f"\x1b[31m{n}", data="\u202e", name=f"\x07{n}") for n in "ab"
    ]
    with opened(*folders) as runs:
        shown = text(together(runs, Asked(every=True)), wrap=True)
    assert not {"\x1b", "\u202e", "\x07"} & set(shown)
