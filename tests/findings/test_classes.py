"""Which tokens need far text: said where intervals lie apart, and nowhere else; its charts."""

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from open_runs import by_id, opened, saying
from simulated import Simulation, write_run

from probe.classes.curves import CONTEXTS, CURVES, PLACES, ClassCurves
from probe.errors import UsageError
from probe.findings.base import findings
from probe.findings.chart import LOOKS, EmptyChartError
from probe.findings.classes import APART, class_chart, classes, contrasts, plot, which
from probe.findings.last_seen import last_seen

LENGTHS = {
    "near": (192, 88, 240),
    "middle": (288, 176, 704),
    "far": (None, 512, None),
    "farther": (None, 640, None),
    "few": (None, None, None),
}
EDGES = [0, 8, 16, 32, 64, 128, 256, 512, 1024]
CONDITIONS = ("truncate", "shuffle")


@pytest.fixture(scope="module", name="run")
def small_run(tmp_path_factory):
    made = {"truncate": lambda d: 0.5 / (1 + d), "shuffle": lambda d: 1 / (1 + d)}
    simulation = Simulation(made, windows=1, length=128, boundaries=(64,), reach=64, resamples=100)
    return opened(write_run(tmp_path_factory.mktemp("classes") / "run", simulation))


def found_in(contexts=None, curves=None, **frames):
    """What is said of token classes, made up; what is not given is empty."""
    empty = pd.DataFrame(columns=[*PLACES])
    return ClassCurves(
        curves=pd.DataFrame(columns=[*CURVES]) if curves is None else curves,
        contexts=pd.DataFrame(columns=[*CONTEXTS]) if contexts is None else contexts,
        counts=pd.DataFrame(columns=["class", "value", "targets", "share", "documents"]),
        notes=(),
        occurrences=frames.get("occurrences", empty),
        copies=frames.get("copies", empty),
    )


def contexts_of(lengths=LENGTHS, name="last_occurrence", condition="truncate", tolerance="10%"):
    """Answers of one class; what has no lower limit is unresolved."""
    rows = [
        (name, value, condition, tolerance, "unresolved" if low is None else "length", *limits)
        for value, limits in lengths.items()
        for low in [limits[1]]
    ]
    columns = ["class", "value", "condition", "tolerance", "kind", "length", "low", "high"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["short"] = [f"<{value}>" for value in frame["value"]]
    return frame.astype(dict.fromkeys(["length", "low", "high"], "Int64"))


def curves_of(values, name="frequency", targets=(500,)):
    """Falling curves of values of one class under two conditions."""
    rows = []
    for number, value in enumerate(values):
        for condition in CONDITIONS:
            for start, end in pairwise(EDGES):
                delta = (1 + number) * 0.8 / (1 + start) ** 0.5
                own = targets[number % len(targets)]
                limits = (delta * 0.7, delta * 1.3, delta * 1.01)
                rows.append((name, value, condition, start, end, delta, *limits, own, 24))
    return pd.DataFrame(rows, columns=[*CURVES])


def octaves(where):
    """Delta by place: far needs it most."""
    sizes = {"far": 2.0, "near": 0.6, "nowhere": 0.3}
    rows = [
        (condition, start, end, place, delta, delta * 0.7, delta * 1.3, 500, 24)
        for condition in CONDITIONS
        for start, end in pairwise(EDGES)
        for place in where
        for delta in [sizes[place] * 0.8 / (1 + start) ** 0.5]
    ]
    return pd.DataFrame(rows, columns=[*PLACES])


# -- what is said ---------------------------------------------------------------------------------


def test_the_pair_that_lies_farthest_apart():
    """The one that brute force finds among all pairs of answers."""
    apart = {
        (one, other): high_limits[1] / low_limits[2]
        for pair in combinations(LENGTHS, 2)
        for one, other in (pair, pair[::-1])
        for high_limits, low_limits in [(LENGTHS[one], LENGTHS[other])]
        if high_limits[1] and low_limits[2] and high_limits[1] > low_limits[2]
    }
    (found,) = contrasts(found_in(contexts_of()), "truncate")
    assert (found.more[0], found.less[0]) == max(apart, key=apart.get) == ("farther", "near")
    assert found.apart == pytest.approx(640 / 240)
    assert found.text() == (
        "by last_occurrence at 10 %, <farther> tokens for “farther”, <near> for “near”"
    )


def section_of(run, found):
    """The finding of made-up classes."""
    one = saying(opened(run.path), {classes: (found, ())})
    return by_id(one)["classes"]


@pytest.mark.slow
def test_classes_that_do_not_differ(run):
    """Intervals that meet, or touch, tell nothing apart; without two answers nothing is said."""
    same = contexts_of({"a": (192, 88, 240), "b": (300, 240, 704)}, name="copy")
    found = found_in(same)
    assert contrasts(found, "truncate") == []
    assert which(run, found) == [
        "No two values of a token class differ in effective context under truncate: their intervals"
        " overlap."
    ]
    assert section_of(run, found).sentence == (
        "Effective context under truncate: no two values differ in copy."
    )
    both = found_in(pd.concat([same, contexts_of()]))
    assert section_of(run, both).sentence.endswith("; no two values differ in copy.")
    assert len(which(run, both)) == 1
    few = contexts_of({"a": (192, 88, 240), "few": (None, None, None)})
    assert which(run, found_in(few)) == []
    assert which(run, found_in()) == []


def test_tokens_last_seen_in_the_far_text(run):
    """Told at the farthest octave that has both, if the intervals lie apart there."""
    rows = octaves(["near", "far", "nowhere"])
    full = found_in(occurrences=rows, copies=octaves(["near", "far"]))
    assert last_seen(full, "truncate").startswith(
        "Under truncate at distances 512–1,023, delta is "
    )
    rows = rows.assign(low=rows["low"].where(rows["distance_from"] < 512, -1.0))
    assert last_seen(found_in(occurrences=rows), "truncate") == ""
    assert last_seen(full, "reverse") == ""


@pytest.mark.slow
def test_what_is_said_is_a_headline(run):
    """The sentences stand beside the run's answer, and say how values are told apart below."""
    one = saying(opened(run.path), {classes: (found_in(contexts_of()), ("refused",))})
    (section,) = [finding for finding in findings(one) if finding.id == "classes"]
    (line,) = section.headlines
    assert line == (
        "Of all token classes, effective context differs most by last_occurrence: at 10 % under"
        " truncate, <farther> tokens for “farther” and <near> for “near”."
    )
    assert APART in section.caveats
    assert "last_occurrence: unresolved, hence not drawn: few" in section.caveats
    assert section.notes == ["refused"]


@pytest.mark.slow
def test_the_table_of_places(run):
    """A row a condition and octave, a column a place; never a length."""
    found = found_in(occurrences=octaves(["near", "far", "nowhere"]), copies=octaves(["far"]))
    section = by_id(saying(opened(run.path), {classes: (found, ())}))["occurrences"]
    seen, copies = section.tables
    assert seen.headers == ["condition", "distance", "seen far", "seen near", "seen nowhere"]
    assert copies.headers == ["condition", "distance", "seen far"]
    assert len(seen.rows) == len(CONDITIONS) * (len(EDGES) - 1)
    assert seen.rows[0] == ["truncate", "0–7", *section_cells(found.occurrences)]
    assert section.sentence.startswith("Under truncate at 512–1,023: ")


def section_cells(rows):
    first = rows[(rows["condition"] == "truncate") & (rows["distance_from"] == 0)]
    by_place = first.set_index("where")
    return [
        f"{row.delta:.3f} ({row.low:.3f} to {row.high:.3f})"
        for row in (by_place.loc[place] for place in ("far", "near", "nowhere"))
    ]


@pytest.mark.slow
def test_counts_and_lengths_by_value(run):
    """A line a value with its share, and one for the targets that a class says nothing of."""
    counts = pd.DataFrame(
        {
            "class": ["copy", "copy"],
            "value": ["yes", "no"],
            "targets": [run.targets // 2, run.targets // 4],
            "share": [0.5, 0.25],
            "documents": [8, 3],
        }
    )
    lengths = contexts_of({"yes": (32, 30, 36), "no": (None, None, None)}, name="copy")
    lengths["reasons"] = ["", "3 documents, at least 6 needed"]
    overview, lines = section_of(run, replace(found_in(lengths), counts=counts)).tables
    assert [row[0] for row in overview.rows] == ["copy: yes", "copy: no", "copy: no class"]
    assert [row[-1] for row in overview.rows] == ["<yes>", "unresolved: too few documents", "–"]
    assert [row[:2] for row in lines.rows] == [["copy: yes", "truncate"], ["copy: no", "truncate"]]


# -- charts ---------------------------------------------------------------------------------------


def chart_of(run, curves, contexts=None, name="frequency", condition="truncate"):
    return class_chart(run, found_in(contexts, curves), name, condition)


def texts(chart):
    """The legend: series, and what stands there alone."""
    return [line.name for line in chart.series if line.name] + [text for _, text in chart.legend]


def test_a_class_is_drawn_with_its_answers(run):
    """A line a value, its length at the tolerance; grey without one there, none without any."""
    curves = curves_of(["top", "rest", "few"])
    answers = contexts_of(
        {"top": (64, 32, 128), "rest": (64, 32, 128), "few": (None,) * 3, "absent": (None,) * 3},
        "frequency",
        tolerance="2%",
    )
    elsewhere = contexts_of({"few": (64, 32, 128)}, "frequency", tolerance="5%")
    chart = chart_of(run, curves, pd.concat([answers, elsewhere]))
    assert texts(chart) == [
        "top: <top>",
        "rest: <rest>",
        "few: unresolved",
        "not drawn: absent",
    ]
    assert [line.role for line in chart.series] == ["series", "series", "grey"]
    assert [rule.label for rule in chart.rules] == ["2 %"]
    for line, value in zip(chart.series, ("top", "rest", "few"), strict=True):
        own = curves[(curves["value"] == value) & (curves["condition"] == "truncate")]
        np.testing.assert_array_equal(line.y, own["fit"])
        ends = own["distance_from"].to_numpy(), own["distance_to"].to_numpy()
        np.testing.assert_array_equal(line.x, (ends[0] + ends[1] - 1) / 2)
        assert (line.low is None) == (value == "few")
    assert chart.heading == [run.model, run.data, "frequency: truncate"]
    assert texts(chart_of(run, curves, answers))[2:] == ["not drawn: few, absent"]


def test_classes_without_contexts_have_no_lengths(run):
    """Nothing is unresolved then, and the legend holds the names alone."""
    chart = chart_of(run, curves_of(["<b>", "rest"]), condition="shuffle")
    assert texts(chart) == ["<b>", "rest"]
    assert chart.rules == []


def test_of_many_values_those_with_most_targets_are_drawn(run):
    """Six lines, and the legend names the others; the unresolved give way first."""
    values = [f"v{number}" for number in range(9)]
    answers = contexts_of(
        {value: (None,) * 3 if value == "v8" else (64, 32, 128) for value in values}, "frequency"
    )
    chart = chart_of(run, curves_of(values, targets=range(9)), answers)
    assert texts(chart) == [
        *(f"v{number}: <v{number}>" for number in range(2, 8)),
        "not drawn: v1, v0, v8",
    ]
    assert len(chart.series) == LOOKS
    assert all(line.low is None for line in chart.series)  # bands would hide one another
    assert "2 more values are in the table only." in chart.how
    assert len(chart.tables[0].rows) == 9 * (len(EDGES) - 1)


@pytest.mark.slow
def test_a_class_too_small_for_an_answer_is_named_and_not_drawn(run):
    """On the page the other values of its class are drawn, and of no answer there is no chart."""
    curves = curves_of(["top", "rest"])
    answers = contexts_of({"top": (64, 32, 128), "rest": (None,) * 3}, "frequency")
    section = section_of(run, found_in(answers, curves))
    (chart,) = section.charts
    assert [line.name for line in chart.series] == ["top: <top>"]
    assert "frequency: unresolved, hence not drawn: rest" in section.caveats
    answers = contexts_of({"top": (None,) * 3, "rest": (None,) * 3}, "frequency")
    section = section_of(run, found_in(answers, curves))
    assert section.charts == []
    assert "frequency: unresolved, hence not drawn: top, rest" in section.caveats


@pytest.mark.slow
def test_plots_of_classes(run):
    """One class, or a figure each; what has no curve is refused, and what is allowed is named."""
    asked = opened(run.path, classes=["kind", "copy"])
    endings = [ending for ending, _ in plot([asked])]
    assert endings == [f"-{name}" for name in dict.fromkeys(asked.once(classes)[0].curves["class"])]
    ((ending, chart),) = plot([asked], name="copy")
    assert (ending, chart.title) == ("", "copy: delta under truncate")
    ((_, chart),) = plot([asked], name="copy", condition="shuffle")
    assert chart.title == "copy: delta under shuffle"
    with pytest.raises(UsageError, match="condition 'reverse' was not found; allowed: "):
        list(plot([asked], condition="reverse"))
    with pytest.raises(EmptyChartError, match="no curve of a token class to draw"):
        list(plot([asked], name="group"))
