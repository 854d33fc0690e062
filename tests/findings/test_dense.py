"""What is read off a run of protocol dense, against plain loops over its rows."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
    windows,
)

from probe.analysis.bins import bin_edges
from probe.analysis.open_run import OpenRun, open_run
from probe.commands.main import group
from probe.errors import ProbeError, UsageError
from probe.findings.base import Finding, findings, plots
from probe.findings.chart import Chart, EmptyChartError
from probe.findings.dense.context_lengths import (
    KL,
    importance,
    lengths,
    mean_importance,
    token_importance,
)
from probe.findings.dense.finding import MOST_NAMES, chart, finding, plot
from probe.findings.reading import reading
from probe.findings.table import decimals
from probe.protocols import registry
from probe.render.terminal import text

CONTEXT, COUNT = 20, 12


@pytest.fixture(scope="module", name="content")
def dense_configuration(base: dict[str, Any]) -> dict[str, Any]:
    """The base configuration with the protocol and what follows from it."""
    kept = {key: value for key, value in base.items() if key not in ("protocol", "conditions")}
    protocol = {"kind": "dense", "context": CONTEXT, "targets": COUNT}
    return changed(kept, protocol=protocol, windows={"length": 40, "per_document": 2}, name="dense")


@pytest.fixture(scope="module", name="folder")
def run_folder(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests only read it."""
    return score(content, tmp_path_factory.mktemp("dense"))


@pytest.fixture(scope="module", name="run")
def one_run(folder: Path) -> Iterator[OpenRun]:
    """The same, open."""
    with open_run(folder) as run:
        yield run


@pytest.fixture(name="copied")
def copied_folder(folder: Path, tmp_path: Path) -> Path:
    """A copy to be written into."""
    return Path(shutil.copytree(folder, tmp_path / "copied"))


@pytest.fixture(name="opened")
def open_runs() -> Iterator[Callable[[Path], OpenRun]]:
    """A function that opens a run until the test ends."""
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(open_run(folder))


def answer_of(run: OpenRun) -> Finding:
    found = finding(run)
    assert found is not None
    return found


def unigram(folder: Path) -> dict[int, float]:
    """Loss of every token id by the counts of the run, with one added to each, written out."""
    counts = {row["token_id"]: row["count"] for row in rows_of(folder / "frequencies.parquet")}
    size = json.loads((folder / "run.json").read_text(encoding="utf-8"))["model"]["vocabulary"]
    total = sum(counts.values()) + size
    return {token: -np.log((counts.get(token, 0) + 1) / total) for token in range(size)}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def test_means_by_length(folder: Path, run: OpenRun) -> None:
    """Loss and KL of every length are means over all targets; length 0 is the unigram estimate."""
    rows = scores(folder).query("condition == 'truncate'")
    table = lengths(run).table.set_index("context")
    assert table.index.tolist() == list(range(CONTEXT + 1))
    for length, own in rows.groupby("distance"):
        assert table.loc[length, "nll"] == pytest.approx(own.nll.astype(float).mean())
        assert table.loc[length, "kl"] == pytest.approx(own.kl.astype(float).mean(), abs=1e-12)
        assert len(own) == table.loc[length, "targets"]
    losses, texts = unigram(folder), windows(folder)
    targets = rows[rows.distance == 1]
    tokens = [
        texts[row.document, row.window]["token_ids"][
            row.position - texts[row.document, row.window]["start"]
        ]
        for row in targets.itertuples()
    ]
    assert table.loc[0, "nll"] == pytest.approx(np.mean([losses[token] for token in tokens]))
    assert np.isnan(table.loc[0, "kl"])
    assert (table.loc[CONTEXT, ["kl", "kl_low", "kl_high"]].abs() < 1e-6).all()
    known = table.loc[1 : CONTEXT - 1]
    assert (known.nll_low < known.nll).all()
    assert (known.nll < known.nll_high).all()
    assert (known.documents == 9).all()


@pytest.mark.slow
def test_far_text_is_as_long_as_the_longest_context_lets_it(folder: Path, run: OpenRun) -> None:
    """Every length holds all targets; lengths beyond half of the longest are grey."""
    curve = run.curve
    rows = scores(folder).query("condition == 'truncate'")
    edges = bin_edges(CONTEXT + 1)
    assert set(curve.distance_from) <= set(edges.tolist())
    for one in curve.itertuples():
        own = rows[rows.distance.between(one.distance_from, one.distance_to - 1)]
        own = own[(own.distance > CONTEXT - own.distance) == one.grey]
        assert one.targets == len(own)
        delta = own.nll.astype(float) - own.nll_intact.astype(float)
        assert one.delta == pytest.approx(delta.mean(), abs=1e-9)
    assert curve[~curve.grey].distance_to.max() == CONTEXT // 2 + 1
    assert run.far == (CONTEXT // 2, CONTEXT - 1)
    assert run.reach == CONTEXT // 2 + 1
    read = reading(run)
    for one in read[read.condition == "truncate"].itertuples():
        own = rows[rows.distance.between(one.distance_from, one.distance_to - 1)]
        own = own[own.distance <= CONTEXT - own.distance]
        assert one.kl == pytest.approx(own.kl.astype(float).mean())


@pytest.mark.slow
def test_lengths_below_the_tolerance(copied: Path, opened: Callable[[Path], OpenRun]) -> None:
    """A KL that falls below a tolerance at one length gives that length."""
    for part in (copied / "scores").glob("*.parquet"):
        table = pq.read_table(part)
        frame = table.to_pandas()
        kl = np.where(frame.distance < 4, 1.0, 0.001).astype(np.float32)
        frame["kl"] = np.where(frame.condition == "truncate", kl, 0).astype(np.float32)
        pq.write_table(type(table).from_pandas(frame, schema=table.schema), part)
    run = opened(copied)
    found = lengths(run)
    by_tolerance = {one.tolerance: one for one in found.kl_contexts}
    assert [one.text() for one in by_tolerance.values()] == ["4 (4–4)"] * 4
    assert by_tolerance["1%"].condition == KL
    said = text(answer_of(run))
    assert f"{KL}  4 (4–4)" in said
    assert "0 (unigram)" in said
    assert "\n16 " in said
    assert f"\n{CONTEXT} " in said


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["nll", "kl"])
def test_importance_is_what_one_more_token_takes_off(
    folder: Path, run: OpenRun, measure: str
) -> None:
    """Target by target and distance by distance, with the unigram estimate before the first."""
    losses = unigram(folder)
    for (document, number), window in windows(folder).items():
        frame = importance(run, document, number, measure="kl" if measure == "kl" else "nll")
        rows = scores(folder).query("condition == 'truncate' and document == @document")
        rows = rows[rows.window == number].set_index(["position", "distance"])[measure]
        assert len(frame) == COUNT * CONTEXT
        for one in frame.itertuples():
            token = window["token_ids"][one.position - window["start"]]
            empty = losses[token] if measure == "nll" else np.nan
            before = rows[one.position, one.distance - 1] if one.distance > 1 else empty
            after = rows[one.position, one.distance]
            assert one.importance == pytest.approx(before - after, abs=1e-6, nan_ok=True)
            assert one.context == one.position - one.distance
    if measure == "nll":
        intact = scores(folder).query("condition == 'intact' and document == @document")
        intact = intact[intact.window == number].set_index("position").nll
        for target, own in frame.groupby("position"):
            token = window["token_ids"][target - window["start"]]
            assert own.importance.sum() == pytest.approx(losses[token] - intact[target], abs=1e-5)


@pytest.mark.slow
def test_importance_of_tokens_and_distances(folder: Path, run: OpenRun) -> None:
    """Sums by token of the context, and means by distance over the run."""
    (document, number), *_ = windows(folder)
    frame = importance(run, document, number)
    by_token = token_importance(frame).set_index("position")
    for place, own in frame.groupby("context"):
        found = by_token.loc[place]
        assert found.total == pytest.approx(own.importance.sum())
        assert found["mean"] == pytest.approx(own.importance.mean())
        assert found.targets == len(own)
    for measure in ("nll", "kl"):
        every = pd.concat(importance(run, *key, measure=measure) for key in windows(folder))
        means = mean_importance(run, measure).set_index("distance")
        for distance, own in every.groupby("distance"):
            expected = own.importance.mean()
            assert means.loc[distance, "importance"] == pytest.approx(
                expected, abs=1e-6, nan_ok=True
            )
        known = means.loc[2:]
        assert (known.low < known.importance).all()
        assert (known.importance < known.high).all()


@pytest.mark.slow
def test_few_documents(
    content: dict[str, Any], tmp_path: Path, opened: Callable[[Path], OpenRun]
) -> None:
    """Below six documents there is no interval, and no length; without KL there is none of it."""
    run = opened(score(content, tmp_path, data__max_documents=3, measures=["nll"]))
    found = lengths(run)
    assert found.table[["nll_low", "nll_high", "kl"]].isna().all(axis=None)
    assert found.kl_contexts == ()
    assert "- 3 documents: an interval needs 6" in text(answer_of(run))
    assert [line.name for line in answer_of(run).charts[0].series] == ["of the loss"]
    with pytest.raises(UsageError, match="has no kl: add it to its measures"):
        importance(run, *next(iter(windows(run.path))), measure="kl")
    with pytest.raises(UsageError, match="has no kl"):
        mean_importance(run, "kl")


@pytest.mark.slow
def test_what_is_wrong_is_said(
    folder: Path,
    run: OpenRun,
    copied: Path,
    base: dict[str, Any],
    opened: Callable[[Path], OpenRun],
) -> None:
    """No such window, missing rows, missing counts, another protocol."""
    (document, number), *_ = windows(folder)
    with pytest.raises(UsageError, match=r"no window 7 of document '0\.txt'"):
        importance(run, "0.txt", 7)
    (copied / "frequencies.parquet").unlink()
    without = opened(copied)
    assert np.isnan(lengths(without).table.nll[0])
    assert "frequencies.parquet is missing" in text(answer_of(without))
    first = importance(without, document, number).query("distance == 1")
    assert first.importance.isna().all()
    part = next(iter((copied / "scores").glob("*.parquet")))
    whole = pq.read_table(part)
    pq.write_table(whole.slice(0, len(whole) - 3), part)
    lost = whole.to_pandas().iloc[-1]
    with pytest.raises(ProbeError, match="are missing"):
        importance(opened(copied), str(lost.document), int(lost.window))
    other = opened(score(base, copied.parent, data__max_documents=2))
    assert finding(other) is None
    for work in (lengths, lambda run: importance(run, "0.txt", 0), lambda run: list(plot([run]))):
        with pytest.raises(UsageError, match="has protocol 'sweep'; allowed here: dense"):
            work(other)


@pytest.mark.parametrize("context", [None, True, "1); DROP TABLE scores; --"])
def test_a_record_that_says_nothing(context: object) -> None:
    """Far text then begins with the window; nothing of the record reaches the query."""
    record = {"config": {"protocol": {"kind": "dense", "context": context}}}
    for one in (record, {}, {"config": {"protocol": {"kind": "dense"}}}):
        assert registry.reading(one).far_tokens == "boundary - start"


def test_the_answer(run: OpenRun) -> None:
    """What it rests on, loss and KL by length, lengths by tolerance; the numbers that it names."""
    found = answer_of(run)
    assert found.basis == (
        "Measured on 9 documents, 17 windows, 204 targets, each at every context length from 1 to"
        " 20 tokens; compared with the longest."
    )
    by_length, tolerated = found.tables
    assert [row[0] for row in by_length.rows] == ["0 (unigram)", "1", "2", "4", "8", "16", "20"]
    row = lengths(run).table.set_index("context").loc[4]
    assert by_length.rows[3][1] == f"{row.nll:.4f} ({row.nll_low:.4f}–{row.nll_high:.4f})"
    assert by_length.rows[0][2] == "–"
    assert [row[0] for row in tolerated.rows] == ["delta", KL]
    assert list(tolerated.headers) == ["below the tolerance from", "1 %", "2 %", "5 %", "10 %"]
    assert [table.shown for table in found.tables] == ["terminal", "both"]
    assert list(found.files) == ["contexts.csv", "summary.json", "curve.csv"]
    assert found.files["contexts.csv"] is run.once(lengths).table
    assert not any("no noise floor" in line for line in found.caveats)


@pytest.mark.slow
def test_the_charts(run: OpenRun) -> None:
    """Mean importance by distance, loss by length; the page folds numbers below each."""
    importances, losses, _ = answer_of(run).charts
    for line, measure in zip(importances.series, ("nll", "kl"), strict=True):
        means = mean_importance(run, measure).dropna(subset="importance")
        assert line.x.tolist() == means.distance.tolist()
        assert line.y.tolist() == means.importance.tolist()
        assert (line.low < line.high).all()
    assert [line.name for line in importances.series] == ["of the loss", f"of the {KL}"]
    shown = mean_importance(run).set_index("distance")["importance"]
    cells = {row[0]: row[2] for row in importances.tables[0].rows if row[1] == "loss"}
    assert list(cells) == ["1", "2", "4", "8", "16", "20"]
    for distance, cell in cells.items():
        assert cell.startswith(decimals(shown[int(distance)], 4))
    (line,) = losses.series
    assert line.x.tolist() == list(range(CONTEXT + 1))
    assert line.y.tolist() == lengths(run).table["nll"].tolist()
    assert losses.tables[0].rows == answer_of(run).tables[0].rows


@pytest.mark.slow
def test_the_curve_stands_below(run: OpenRun) -> None:
    """Loss by distance is a section of its own, and the figure of the run."""
    answer, curve = findings(run, brief=True)[:2]
    assert (curve.title, curve.level, answer.level) == ("Loss by distance", "brief", "answer")
    assert [drawn.file for drawn in curve.charts] == [""]
    assert [drawn.file for drawn in answer.charts if drawn.on_page] == ["", ""]
    assert [drawn.file for drawn in answer.charts if not drawn.on_page] == ["curve"]


def drawn_of(run: OpenRun, **asked: Any) -> Chart:
    ((ending, drawn),) = plot([run], **asked)
    assert ending == ""
    assert isinstance(drawn, Chart)
    return drawn


def test_the_chart_of_a_window(folder: Path, run: OpenRun) -> None:
    """Colours are the importances, in the place of target and token; texts where there is room."""
    (document, number), *_ = windows(folder)
    frame = importance(run, document, number)
    drawn = chart(run, frame, ["$x"] * (CONTEXT + COUNT))
    assert drawn.cells is not None
    values = drawn.cells.values
    assert values.shape == (COUNT, CONTEXT + COUNT)
    for one in frame.itertuples():
        down, across = one.position - frame.position.min(), one.context - frame.context.min()
        assert values[down, across] == pytest.approx(one.importance)
        assert drawn.cells.x[across] == one.context
    assert np.isnan(values).sum() == COUNT * COUNT
    assert list(drawn.y.names) == ["$x"] * COUNT
    assert (drawn.y.low, drawn.y.high) == (COUNT, 0)
    assert list(drawn.x.names) == ["$x"] * (CONTEXT + COUNT)
    long = chart(run, frame, ["a line\nand more"] * (CONTEXT + COUNT))
    assert long.y.names[0] == "a line\\nand…"
    with pytest.raises(ValueError, match="32 tokens have 2 texts"):
        chart(run, frame, ["a", "b"])
    with pytest.raises(EmptyChartError):
        chart(run, frame.assign(importance=np.nan))


def test_places_where_texts_have_no_room(run: OpenRun) -> None:
    """Indices in the document, eight targets at most, round numbers of tokens."""
    first = 1000
    targets = np.arange(first + 10, first + 10 + MOST_NAMES + 1)
    frame = pd.DataFrame({"position": targets, "context": targets - 5, "importance": 1.0})
    drawn = chart(run, frame, ["x"] * (MOST_NAMES + 6))
    assert list(drawn.y.names) == [f"{target:,}" for target in targets[::6]]
    assert list(drawn.y.ticks) == [number + 0.5 for number in range(0, len(targets), 6)]
    assert list(drawn.x.names) == []
    assert all(first + 5 <= tick <= targets[-1] + 1 for tick in drawn.x.ticks)
    assert len(drawn.x.ticks) >= 3
    assert list(chart(run, frame).x.ticks) == list(drawn.x.ticks)


def test_plot(run: OpenRun) -> None:
    """The first window that fits is drawn, with the texts of its tokens; options as they were."""
    (first, *_) = windows(run.path).values()
    drawn = drawn_of(run)
    assert list(drawn.y.names) == [sign.strip() for sign in first["text"][40 - COUNT : 40]]
    assert len(drawn.x.names) == CONTEXT + COUNT
    assert drawn.cells is not None
    other = drawn_of(run, document="3.txt", window=1, measure="kl").cells
    assert other is not None
    assert other.x[0] == windows(run.path)["3.txt", 1]["start"] + 40 - COUNT - CONTEXT
    (kind,) = [one for one in plots() if one.kind == "importance"]
    assert [option.flag for option in kind.options] == ["--document", "--window", "--measure"]
    with pytest.raises(UsageError, match=r"--document '9' --window None: run .* no such window"):
        drawn_of(run, document="9")


@pytest.mark.slow
def test_commands(folder: Path, copied: Path) -> None:
    """`report` prints loss and KL by length and writes the page; `plot` draws the importance."""
    result = CliRunner().invoke(group, ["report", str(copied)])
    assert result.exit_code == 0, result.output
    assert KL in result.output
    names = [copied / name for name in ("contexts.csv", "summary.json", "curve.csv")]
    assert f"Numbers: {', '.join(map(str, names))}\n" in result.output
    assert (copied / "report.html").exists()
    for arguments in ([], ["--document", "3.txt", "--window", "1", "--measure", "kl"]):
        drawn = CliRunner().invoke(group, ["plot", str(copied), "--kind", "importance", *arguments])
        assert drawn.exit_code == 0, drawn.output
        assert (copied / "figures" / "importance.svg").exists()
    missing = CliRunner().invoke(
        group, ["plot", str(folder), "--kind", "importance", "--document", "\x1b[31m"]
    )
    assert missing.exit_code == 2
    assert "has no such window" in missing.output
    assert "\x1b" not in missing.output
