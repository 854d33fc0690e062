"""Change of embeddings by distance from a cut: against pandas, and what is told of it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from protocols.test_chunks import encoder_folders  # noqa: F401 (fixture)
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
)

import probe
from probe.analysis.bins import bin_edges
from probe.analysis.bootstrap import resample_weights, stretch
from probe.analysis.open_run import open_run
from probe.commands.main import group
from probe.errors import ProbeError, UsageError
from probe.findings.base import findings
from probe.findings.edges import Edges, chart, edges, within
from probe.results.files import read_csv

SIZES = (12, 32)
CONDITIONS = ["noise(windows=6)", "truncate", "shuffle"]


@pytest.fixture(scope="module", name="folder")
def chunked_run(
    base: dict[str, Any], encoders: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    content = changed(
        base,
        model={"path": str(encoders["albert"]), "dtype": "float32", "device": "cpu"},
        windows={"length": 64, "per_document": 2},
        protocol={"kind": "chunks", "chunk": list(SIZES)},
        conditions=CONDITIONS,
        repeats=2,
    )
    return score(content, tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module", name="measured")
def measured_edges(folder: Path) -> Edges:
    with open_run(folder) as run:
        return edges(run)


@pytest.fixture(scope="module", name="rows")
def averaged_rows(folder: Path) -> pd.DataFrame:
    """The score rows with a cut, the repeats of a draw averaged."""
    frame = scores(folder).query("boundary >= 0")
    keys = ["document", "window", "condition", "chunk", "boundary", "boundary_right"]
    values = ["embedding", "embedding_pooled"]
    means = frame.astype(dict.fromkeys(values, float)).groupby([*keys, "position", "distance"])
    return means[values].mean().reset_index()


def told(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(group, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.mark.slow
def test_by_distance(measured: Edges, rows: pd.DataFrame) -> None:
    """Means of the bins of every curve, and none of another condition or size."""
    bins = bin_edges(32, 8)
    rows = rows.assign(bin=np.searchsorted(bins, rows.distance, side="right") - 1)
    expected = rows.groupby(["condition", "chunk", "bin"]).embedding.agg(["mean", "size"])
    found = measured.by_distance
    assert len(found) == len(expected)
    for row in found.itertuples():
        at = int(np.flatnonzero(bins == row.distance_from)[0])
        mean, size = expected.loc[row.condition, row.chunk, at]
        assert (row.change, row.targets) == (pytest.approx(mean, abs=1e-9), size)
        assert row.distance_to == bins[at + 1]
        if row.documents < 6:
            assert np.isnan(row.low)
        else:
            assert row.low <= row.change <= row.high


@pytest.mark.slow
def test_by_chunk(measured: Edges, rows: pd.DataFrame) -> None:
    """Tokens count once each, and chunks once each, however long."""
    by = ["condition", "chunk"]
    tokens = rows.groupby(by).embedding.mean()
    of_chunk = [*by, "document", "window", "boundary", "boundary_right"]
    chunks = rows.groupby(of_chunk).embedding_pooled.agg(["first", "nunique"])
    assert (chunks["nunique"] == 1).all()
    assert len(chunks.loc["truncate", 12]) == 6 * rows.groupby(["document", "window"]).ngroups
    pooled = chunks["first"].groupby(by).mean()
    for row in measured.by_chunk.itertuples():
        key = row.condition, row.chunk
        assert row.change == pytest.approx(tokens[key], abs=1e-9)
        assert row.pooled == pytest.approx(pooled[key], abs=1e-9)


@pytest.mark.slow
def test_where_shares_of_the_change_lie(folder: Path, measured: Edges, rows: pd.DataFrame) -> None:
    """Counted up token by token; the limits from the documents drawn one resample at a time."""
    with open_run(folder) as run:
        documents, how = run.documents, run.analysis
    weights = resample_weights(len(documents), how.resamples, how.seed)
    for row in measured.by_chunk.query("condition != 'noise(windows=6)'").itertuples():
        own = rows[(rows.condition == row.condition) & (rows.chunk == row.chunk)]
        for share in (50, 90):
            total, most = own.embedding.sum(), int(own.distance.max()) + 1
            inside = {n: own[own.distance < n].embedding.sum() / total for n in range(1, most + 1)}
            estimate = min(n for n, part in inside.items() if part >= share / 100 - 1e-12)
            assert getattr(row, f"within_{share}") == estimate
            there = (own.distance < estimate).mean()
            assert getattr(row, f"tokens_{share}") == pytest.approx(there)
            counts = []
            for drawn in weights:
                times = own.document.map(dict(zip(documents, drawn, strict=True)))
                part = (own.embedding * times).groupby(own.distance).sum().cumsum()
                part = np.array([*inside.values()]) + stretch(len(documents), 0.95) * (
                    (part / part.iloc[-1]).to_numpy() - np.array([*inside.values()])
                )
                counts.append(min(1 + int((part < share / 100 - 1e-12).sum()), most))
            low, high = np.quantile(counts, [0.025, 0.975])
            assert getattr(row, f"within_{share}_low") == min(estimate, int(low))
            assert getattr(row, f"within_{share}_high") == max(estimate, int(np.ceil(high)))


@pytest.mark.parametrize(
    ("changes", "share", "expected"),
    [
        ([4, 3, 2, 1], 0.4, 1),
        ([4, 3, 2, 1], 0.41, 2),
        ([4, 3, 2, 1], 0.9, 3),
        ([0, 0, 0, 5], 0.5, 4),
        ([0, 0, 0, 0], 0.5, 1),
    ],
)
def test_within(changes: list[float], share: float, expected: int) -> None:
    """The fewest tokens next to a cut that have the share; without six documents no limits."""
    sums = np.array([changes] * 6, dtype=float)
    targets = np.full((6, 4), 10.0)
    weights = resample_weights(6, 50, 0)
    assert within(sums, targets, share, weights, 0.95) == (
        expected,
        expected,
        expected,
        expected / 4,
    )
    few = within(sums[:5], targets[:5], share, weights[:, :5], 0.95)
    assert few == (expected, None, None, expected / 4)


def test_limits_are_those_of_few_documents() -> None:
    """Shares of documents drawn again, their deviations from all expanded, as for a curve."""
    documents, distances = 7, 400
    fall = np.linspace(20, 120, documents)[:, None]
    sums = np.exp(-np.arange(distances) / fall)
    weights = resample_weights(documents, 400, 0)
    found, low, high, _ = within(sums, np.ones_like(sums), 0.5, weights, 0.95)
    whole = sums.sum(axis=0)
    mean = [whole[: n + 1].sum() / whole.sum() for n in range(distances)]
    limits = {}
    for factor in (1.0, stretch(documents, 0.95)):
        counts = []
        for drawn in weights:
            own = drawn @ sums
            shares = np.cumsum(own) / own.sum()
            reached = [m + factor * (s - m) >= 0.5 for m, s in zip(mean, shares, strict=True)]
            counts.append(1 + reached.index(True))
        lower, upper = np.quantile(counts, [0.025, 0.975])
        limits[factor] = int(lower), int(np.ceil(upper))
    assert found == 1 + next(n for n, share in enumerate(mean) if share >= 0.5)
    assert (low, high) == limits[stretch(documents, 0.95)]
    assert low < limits[1.0][0] < found < limits[1.0][1] < high


@pytest.mark.slow
def test_the_answer_in_words(folder: Path, measured: Edges) -> None:
    """The sentence is of truncate and the largest chunks; it is printed, kept and on the page."""
    printed = told("report", folder).stdout
    sentence = printed.splitlines()[0]
    row = measured.by_chunk.query("condition == 'truncate' and chunk == 32").iloc[0]
    for words in (
        "in chunks of 32 tokens under truncate 1 − cosine is",
        f"is {row.change:.3f} (95 % interval {row.low:.3f} to {row.high:.3f}) for the embedding",
        f"and {row.pooled:.3f} (95 % interval {row.pooled_low:.3f} to {row.pooled_high:.3f})",
        f"half of the change lies within {row.within_50} tokens (interval {row.within_50_low} to"
        f" {row.within_50_high}) of a chunk's edges, where {row.tokens_50 * 100:.0f} % of the",
        f"90 % within {row.within_90} tokens (interval",
    ):
        assert words in sentence
    kept = read_csv(folder / "edges.csv")
    assert list(kept) == list(measured.by_distance)
    np.testing.assert_allclose(kept.change, measured.by_distance.change, rtol=1e-5, atol=1e-12)
    summary = json.loads((folder / "summary.json").read_text())
    (told_,) = [c for c in summary["chunks"] if (c["condition"], c["chunk"]) == ("truncate", 32)]
    assert told_["within_50"] == row.within_50
    assert isinstance(told_["within_50_low"], int)
    assert summary["noise_floor"] < 1e-9
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "half of the change lies within" in page
    assert "Chunks of 12 tokens: 1 − cosine by distance from a cut (tokens)" in page
    assert page.count("<svg") >= 1
    assert (folder / "figures" / "edges.png").stat().st_size > 5_000


@pytest.mark.slow
def test_nothing_is_said_of_losses(folder: Path) -> None:
    """No length, no loss in nats, no token classes; what the run took is told."""
    with open_run(folder) as run:
        found = findings(run)
        assert [one.id for one in found] == ["answer", "run"]
        assert (run.contexts, run.has_length, run.has_losses) == ((), False, False)
    texts = json.dumps([[one.sentence, *one.caveats, *one.more] for one in found])
    texts += " ".join(cell for one in found for t in one.tables for row in t.rows for cell in row)
    assert not re.search(r"effective context|\bnats\b|perplexity", texts)
    values = json.loads(told("report", folder, "--json").stdout)
    (one,) = values["runs"]
    assert "1 − cosine" in json.dumps(one, ensure_ascii=False)


@pytest.mark.slow
def test_other_commands(folder: Path, tmp_path: Path) -> None:
    """A card and a curve are made; what compares losses refuses in a line."""
    card = told("card", folder).stdout
    assert "1 − cosine is" in card
    assert "largest difference of a loss" not in card
    for condition in ("truncate", "shuffle"):
        file = tmp_path / f"{condition}.svg"
        told("plot", folder, "--condition", condition, "--output", file)
        assert file.stat().st_size > 5_000
    refused = f"Error: run '{folder}' measures embedding and no loss; allowed: runs whose losses"
    for command in (
        ["compare", folder, folder],
        ["compare", folder, "--json"],
        ["keys", folder],
        ["weigh", folder],
    ):
        assert told(*command, status=2).stderr.startswith(refused)
    for kind in ("heatmap", "information", "tolerance"):
        line = told("plot", folder, "--kind", kind, status=2).stderr
        assert line == (
            f"Error: --kind {kind}: a run with protocol chunks has no lengths; allowed: --kind"
            " curve\n"
        )
    line = told("plot", folder, folder, status=2).stderr
    assert "of protocol chunks one run is drawn; got 2" in line
    with pytest.raises(UsageError, match="measures embedding and no loss"):
        probe.compare(folder, folder)
    frame = probe.open(folder).scores
    assert frame.nll.isna().all()
    assert frame.embedding.notna().all()
    line = told("card", folder, "--format", "every-eval-ever", status=1).stderr
    assert "has no resolved length" in line


@pytest.mark.slow
def test_several_runs_on_a_page(folder: Path, tmp_path: Path) -> None:
    """Each has its own answer; there is no table of losses."""
    told("report", folder, folder, "--output", tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert page.count("half of the change lies within") >= 2
    assert "perplexity" not in page


@pytest.mark.slow
def test_few_documents(base: dict[str, Any], encoders: Mapping[str, Path], tmp_path: Path) -> None:
    """Below six there is no interval, which is said."""
    content = changed(
        base,
        model={"path": str(encoders["bert"]), "dtype": "float32", "device": "cpu"},
        protocol={"kind": "chunks"},
        conditions=["truncate"],
        data__max_documents=3,
    )
    folder = score(content, tmp_path)
    with open_run(folder) as run:
        (answer, _) = findings(run)
        assert set(edges(run).by_chunk.chunk) == {8, 16, 32}
    assert "interval" not in answer.sentence
    assert "no interval: 3 documents, at least 6 needed" in answer.caveats
    assert "no noise floor: the run has no noise condition" in answer.caveats


@pytest.mark.slow
def test_the_chart(folder: Path, measured: Edges) -> None:
    """A line for each size under the first condition, one of the largest under the others."""
    with open_run(folder) as run:
        drawn = chart(run, measured.by_distance)
    assert [one.name for one in drawn.series] == [
        "truncate, chunks of 12",
        "truncate, chunks of 32",
        "shuffle, chunks of 32",
    ]
    assert drawn.floor is not None
    assert [table.headers for table in drawn.tables] == [["distance", "truncate", "shuffle"]] * 2


@pytest.mark.slow
def test_a_run_of_another_protocol_has_no_chunks(base: dict[str, Any], tmp_path: Path) -> None:
    """It is refused, and the finding says nothing of it."""
    folder = score(base, tmp_path, data__max_documents=2)
    with open_run(folder) as run, pytest.raises(ProbeError, match="has no chunks; allowed: a run"):
        edges(run)


@pytest.mark.slow
def test_noise_alone_and_narrow_dtypes(
    base: dict[str, Any], encoders: Mapping[str, Path], tmp_path: Path
) -> None:
    """Without another condition there is nothing to draw; rounding in bfloat16 is said."""
    content = changed(
        base,
        model={"path": str(encoders["bert"]), "dtype": "bfloat16", "device": "cpu"},
        protocol={"kind": "chunks", "chunk": [16]},
        conditions=["noise"],
        data__max_documents=2,
    )
    folder = score(content, tmp_path)
    printed = told("report", folder).stdout
    assert "no condition but noise was scored." in printed
    assert "- rounding in bfloat16 turns states too" in printed
    line = told("plot", folder, status=1).stderr
    assert line.rstrip().endswith("no chunk to draw")
