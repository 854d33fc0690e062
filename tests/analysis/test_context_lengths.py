"""What is read off a run of protocol dense, against plain loops over its rows."""

import json
import shutil
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
from probe.analysis.compare import compare
from probe.analysis.dense import importance, is_dense, mean_importance, token_importance
from probe.analysis.lengths import KL, lengths
from probe.analysis.lengths_answer import answer
from probe.analysis.summary import summarise
from probe.commands.main import group
from probe.errors import ProbeError, UsageError
from probe.plots import importance as draw
from probe.plots.style import EmptyFigureError
from probe.results.views import far_tokens

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


@pytest.fixture(name="copied")
def copied_folder(folder: Path, tmp_path: Path) -> Path:
    """A copy to be written into."""
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def unigram(folder: Path) -> dict[int, float]:
    """Loss of every token id by the counts of the run, with one added to each, written out."""
    counts = {row["token_id"]: row["count"] for row in rows_of(folder / "frequencies.parquet")}
    size = json.loads((folder / "run.json").read_text(encoding="utf-8"))["model"]["vocabulary"]
    total = sum(counts.values()) + size
    return {token: -np.log((counts.get(token, 0) + 1) / total) for token in range(size)}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def test_means_by_length(folder: Path) -> None:
    """Loss and KL of every length are means over all targets; length 0 is the unigram estimate."""
    rows = scores(folder).query("condition == 'truncate'")
    table = lengths(folder, write=False).table.set_index("context")
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


def test_far_text_is_as_long_as_the_longest_context_lets_it(folder: Path) -> None:
    """Every length holds all targets; lengths beyond half of the longest are grey."""
    summary = summarise(folder, write=False)
    curve = summary.curve
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
    assert summary.far == (CONTEXT // 2, CONTEXT - 1)
    assert summary.reach == CONTEXT // 2 + 1
    reading = summary.reading[summary.reading.condition == "truncate"]
    for one in reading.itertuples():
        own = rows[rows.distance.between(one.distance_from, one.distance_to - 1)]
        own = own[own.distance <= CONTEXT - own.distance]
        assert one.kl == pytest.approx(own.kl.astype(float).mean())


def test_lengths_below_the_tolerance(copied: Path) -> None:
    """A KL that falls below a tolerance at one length gives that length."""
    for part in (copied / "scores").glob("*.parquet"):
        table = pq.read_table(part)
        frame = table.to_pandas()
        kl = np.where(frame.distance < 4, 1.0, 0.001).astype(np.float32)
        frame["kl"] = np.where(frame.condition == "truncate", kl, 0).astype(np.float32)
        pq.write_table(type(table).from_pandas(frame, schema=table.schema), part)
    found = lengths(copied, write=False)
    by_tolerance = {one.tolerance: one for one in found.kl_contexts}
    assert [one.text() for one in by_tolerance.values()] == ["4 (4–4)"] * 4
    assert by_tolerance["1%"].condition == KL
    text = answer(found)
    assert f"{KL}  4 (4–4)" in text
    assert "0 (unigram)" in text
    assert "\n16 " in text
    assert f"\n{CONTEXT} " in text


@pytest.mark.parametrize("measure", ["nll", "kl"])
def test_importance_is_what_one_more_token_takes_off(folder: Path, measure: str) -> None:
    """Target by target and distance by distance, with the unigram estimate before the first."""
    losses = unigram(folder)
    for (document, number), window in windows(folder).items():
        frame = importance(folder, document, number, measure="kl" if measure == "kl" else "nll")
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


def test_importance_of_tokens_and_distances(folder: Path) -> None:
    """Sums by token of the context, and means by distance over the run."""
    (document, number), *_ = windows(folder)
    frame = importance(folder, document, number)
    by_token = token_importance(frame).set_index("position")
    for place, own in frame.groupby("context"):
        found = by_token.loc[place]
        assert found.total == pytest.approx(own.importance.sum())
        assert found["mean"] == pytest.approx(own.importance.mean())
        assert found.targets == len(own)
    found = lengths(folder, write=False)
    for measure in ("nll", "kl"):
        every = pd.concat(importance(folder, *key, measure=measure) for key in windows(folder))
        means = mean_importance(found, measure).set_index("distance")
        for distance, own in every.groupby("distance"):
            expected = own.importance.mean()
            assert means.loc[distance, "importance"] == pytest.approx(
                expected, abs=1e-6, nan_ok=True
            )
        known = means.loc[2:]
        assert (known.low < known.importance).all()
        assert (known.importance < known.high).all()


def test_few_documents(content: dict[str, Any], tmp_path: Path) -> None:
    """Below six documents there is no interval, and no length; without KL there is none of it."""
    folder = score(content, tmp_path, data__max_documents=3, measures=["nll"])
    found = lengths(folder)
    assert found.table[["nll_low", "nll_high", "kl"]].isna().all(axis=None)
    assert found.kl_contexts == ()
    text = answer(found)
    assert "- 3 documents: an interval needs 6" in text
    assert (folder / "contexts.csv").exists()
    with pytest.raises(UsageError, match="has no kl"):
        importance(folder, *next(iter(windows(folder))), measure="kl")
    with pytest.raises(UsageError, match="has no kl"):
        mean_importance(found, "kl")


def test_what_is_wrong_is_said(folder: Path, copied: Path, base: dict[str, Any]) -> None:
    """No such window, missing rows, missing counts, another protocol."""
    (document, number), *_ = windows(folder)
    with pytest.raises(UsageError, match=r"no window 7 of document '0\.txt'"):
        importance(folder, "0.txt", 7)
    (copied / "frequencies.parquet").unlink()
    assert np.isnan(lengths(copied, write=False).table.nll[0])
    assert "frequencies.parquet is missing" in answer(lengths(copied, write=False))
    first = importance(copied, document, number).query("distance == 1")
    assert first.importance.isna().all()
    part = next(iter((copied / "scores").glob("*.parquet")))
    kept = pq.read_table(part)
    pq.write_table(kept.slice(0, len(kept) - 3), part)
    lost = kept.to_pandas().iloc[-1]
    with pytest.raises(ProbeError, match="are missing"):
        importance(copied, str(lost.document), int(lost.window))
    other = score(base, copied.parent, data__max_documents=2)
    assert not is_dense(json.loads((other / "run.json").read_text(encoding="utf-8")))
    with pytest.raises(UsageError, match="has protocol 'sweep'; allowed here: dense"):
        importance(other, "0.txt", 0)


@pytest.mark.parametrize("content", ["{", "[]", '{"config": {"protocol": {"kind": "dense"}}}'])
def test_a_record_that_says_nothing(content: str, tmp_path: Path) -> None:
    """Far text then begins with the window; nothing of the record reaches the query."""
    (tmp_path / "run.json").write_text(content, encoding="utf-8")
    assert far_tokens(tmp_path) == "boundary - start"
    hostile = {"config": {"protocol": {"kind": "dense", "context": "1); DROP TABLE scores; --"}}}
    (tmp_path / "run.json").write_text(json.dumps(hostile), encoding="utf-8")
    assert far_tokens(tmp_path) == "boundary - start"


def test_the_figure(folder: Path) -> None:
    """Colours are the importances, in the place of target and token; texts where there is room."""
    (document, number), *_ = windows(folder)
    frame = importance(folder, document, number)
    axes = draw(frame, texts=["$x"] * (CONTEXT + COUNT))
    cells = axes.collections[0].get_array()
    assert cells.shape == (COUNT, CONTEXT + COUNT)
    for one in frame.itertuples():
        down, across = one.position - frame.position.min(), one.context - frame.context.min()
        assert cells[down, across] == pytest.approx(one.importance)
    assert cells.mask.sum() == COUNT * COUNT
    assert [label.get_text() for label in axes.get_yticklabels()] == ["$x"] * COUNT
    with pytest.raises(ValueError, match="32 tokens have 2 texts"):
        draw(frame, texts=["a", "b"])
    with pytest.raises(EmptyFigureError):
        draw(frame.assign(importance=np.nan))


def test_comparisons_leave_out_what_is_grey(folder: Path, copied: Path) -> None:
    """Two runs are compared at the lengths that may answer: up to half of the longest."""
    found = compare(folder, copied).curve
    tokens = found[found["unit"] == "tokens"]
    assert tokens["distance_to"].max() == CONTEXT // 2 + 1


def test_commands(folder: Path, copied: Path) -> None:
    """`report` prints loss and KL by length and writes the page; `plot` draws the importance."""
    told = CliRunner().invoke(group, ["report", str(copied)])
    assert told.exit_code == 0, told.output
    assert KL in told.output
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
