"""Passages: both tables are means of the rows, what is said of them, and their two charts."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from passage_rows import CONDITIONS, NAMES, make_row, score_passages
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
)

from probe.analysis.open_run import OpenRun, open_run
from probe.errors import ProbeError, UsageError
from probe.findings.base import Finding, plots
from probe.findings.chart import EmptyChartError
from probe.findings.passages import MOST, chart, finding, passages, plot
from probe.findings.table import decimals
from probe.render.terminal import text

MARKS = len(CONDITIONS) * len(NAMES) - 2
"""The last passage cannot move back, nor the first one to the front."""


@pytest.fixture(scope="module", name="run")
def passages_run(
    base: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenRun]:
    rows = [make_row(number) for number in range(8)]
    folder = score_passages(
        base, tmp_path_factory.mktemp("passages"), rows, name="passages", conditions=CONDITIONS
    )
    with open_run(folder) as run:
        yield run


@pytest.fixture(scope="module", name="found")
def passages_finding(run: OpenRun) -> Finding:
    found = finding(run)
    assert found is not None
    return found


def test_tables_are_means_of_the_rows(run: OpenRun) -> None:
    """By passage and by octave of the distance from the passage's end to the target."""
    found = run.once(passages)
    record = json.loads((run.path / "run.json").read_text())
    spans = {
        (one["id"], name): (start, stop)
        for one in record["data"]["documents"]
        for name, start, stop in one["spans"]
    }
    rows = scores(run.path)
    rows = rows[rows["boundary"] >= 0].assign(delta=rows["nll"] - rows["nll_intact"])
    for row in found.by_name.to_dict("records"):
        own = rows[rows["condition"] == row["condition"]]
        begins, ends = np.array([spans[name, row["passage"]] for name in own["document"]]).T
        side = own["far_start"] == begins if row["condition"] == "move" else own["boundary"] == ends
        assert row["delta"] == pytest.approx(own[side]["delta"].mean(), abs=1e-6)
        assert row["targets"] == side.sum()
    assert set(found.by_name["passage"]) == set(NAMES)
    deleted = rows[rows["condition"] == "delete"]
    for row in found.by_distance[found.by_distance["condition"] == "delete"].to_dict("records"):
        inside = deleted["distance"].between(row["distance_from"], row["distance_to"] - 1)
        assert row["delta"] == pytest.approx(deleted[inside]["delta"].mean(), abs=1e-6)
    assert run.contexts == ()


def test_what_is_said(run: OpenRun, found: Finding) -> None:
    """Every passage under every condition, a line each; both tables are files."""
    said = text(found)
    for word in (*NAMES, *CONDITIONS, "all but the passage is intact"):
        assert word in said
    assert said.count("8 documents\n") >= MARKS
    head, line = said.split("\n\n")[1].splitlines()[:2]
    assert head == "Delta by passage (nats per token)"
    assert line.startswith("  delete  ")
    assert line.split()[1] == "'first'"
    assert "\n\nDelta by tokens from the passage to the target (nats per token)\n  delete" in said
    by_name, by_distance = run.once(passages).by_name, run.once(passages).by_distance
    assert list(found.files) == ["passages.csv", "passages_by_distance.csv"]
    assert found.files["passages.csv"] is by_name
    assert found.files["passages_by_distance.csv"] is by_distance


def test_the_page_has_both_tables(run: OpenRun, found: Finding) -> None:
    """The passages by name, and below the chart by distance; no delta is left out."""
    by_name, by_distance = found.tables
    assert (by_name.shown, by_distance.shown) == ("both", "terminal")
    assert found.charts[1].tables == [by_distance]
    numbers = run.once(passages)
    for table, frame in ((by_name, numbers.by_name), (by_distance, numbers.by_distance)):
        for row, delta in zip(table.rows, frame["delta"], strict=True):
            assert decimals(delta, 4) in row[2].replace("+", "")


def test_the_chart_by_name_has_every_mark(run: OpenRun, found: Finding) -> None:
    """Passages downwards, a series a condition, marks side by side with their limits."""
    drawn = found.charts[0]
    assert (drawn.horizontal, drawn.file) == (True, "passages")
    assert sorted(drawn.y.names) == sorted(NAMES)
    assert drawn.y.low > drawn.y.high
    assert [series.name for series in drawn.series] == [
        "replace(source='passage')",
        "shuffle",
        "delete",
        "move",
        "move(to='first')",
    ]
    assert sum(len(series.x) for series in drawn.series) == MARKS
    table = run.once(passages).by_name.set_index(["condition", "passage"])
    for series in drawn.series:
        assert not series.joined
        for x, low, high, y in zip(series.x, series.low, series.high, series.y, strict=True):
            row = table.loc[(series.name, drawn.y.names[round(y)])]
            assert (x, low, high) == (row.delta, row.low, row.high)
    assert len({(y, series.name) for series in drawn.series for y in series.y}) == MARKS


def test_the_chart_by_distance_has_every_mark(run: OpenRun, found: Finding) -> None:
    drawn = found.charts[1]
    assert (drawn.title, drawn.file) == ("Delta by distance of the passage", "")
    values = np.concatenate([series.y for series in drawn.series])
    assert sorted(values) == pytest.approx(sorted(run.once(passages).by_distance["delta"]))


def test_many_passages_are_not_drawn(run: OpenRun) -> None:
    """Those with most targets are; without any there is nothing to draw."""
    row = run.once(passages).by_name.iloc[[0]]
    many = row.loc[row.index.repeat(MOST + 5)].reset_index(drop=True)
    many["passage"] = [f"p{number}" for number in range(len(many))]
    many["targets"] = np.arange(len(many))
    assert list(chart(run, many).y.names) == [f"p{number}" for number in range(5, MOST + 5)]
    with pytest.raises(EmptyChartError, match="no passage to draw"):
        chart(run, many.iloc[:0])


def test_plot_takes_a_condition(run: OpenRun) -> None:
    (name, drawn), *_ = plot([run], condition="move")
    assert (name, [series.name for series in drawn.series]) == ("", ["move"])
    with pytest.raises(UsageError, match=r"condition 'x' was not found; allowed: delete, "):
        list(plot([run], condition="x"))
    assert [(one.kind, one.runs) for one in plots() if one.finding == "passages"] == [("curve", 1)]


@pytest.mark.slow
def test_few_documents_have_no_interval(base: Mapping[str, Any], tmp_path: Path) -> None:
    rows = [make_row(number) for number in range(3)]
    with open_run(score_passages(base, tmp_path, rows, conditions=["delete"])) as run:
        found = finding(run)
        assert found is not None
        assert "- 3 documents: an interval needs 6" in text(found)
        assert "with too few documents for an interval" in found.sentence
        assert run.once(passages).by_name[["low", "high"]].isna().all(axis=None)


@pytest.mark.slow
def test_another_protocol_has_no_passages(base: Mapping[str, Any], tmp_path: Path) -> None:
    folder = score(base, tmp_path, data__max_documents=1, conditions=["truncate"])
    with open_run(folder) as run:
        assert finding(run) is None
        with pytest.raises(ProbeError, match="no passages; allowed: a run with protocol passages"):
            passages(run)
