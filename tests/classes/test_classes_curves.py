"""Curves and answers by class, against pandas on the rows themselves."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from class_runs import HOW, curves_of, falling, score_rows, simulation, word_run
from open_runs import opened

from probe.analysis.bins import bin_edges, octave_edges
from probe.analysis.bootstrap import bootstrap, pointwise_band, resample_weights
from probe.analysis.effective import effective_context
from probe.analysis.fit import fit_curve
from probe.analysis.sums import document_sums, to_sums
from probe.classes import registry
from probe.classes.curves import CURVES, ClassCurves
from probe.classes.table import ClassTable, classify
from probe.results.folder import RunFolder
from probe.results.views import connect


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return word_run(tmp_path_factory.mktemp("runs") / "run", simulation())


@pytest.fixture(scope="module")
def table(run: RunFolder) -> ClassTable:
    return classify(run, ["kind", "copy", "last_occurrence(edges=[8, 32])"], write=False)


@pytest.fixture(scope="module")
def found(run: RunFolder, table: ClassTable) -> ClassCurves:
    return curves_of(run, table)


@pytest.fixture(scope="module")
def rows(run: RunFolder, table: ClassTable) -> pd.DataFrame:
    """Every target of every condition with a boundary, repeats averaged, with its classes."""
    scores = score_rows(run)
    scores = scores[scores["boundary"] >= 0].assign(delta=scores["nll"] - scores["nll_intact"])
    keys = ["document", "window", "position", "boundary", "distance", "condition"]
    scores = scores.groupby(keys, as_index=False)["delta"].mean()
    windows = pq.read_table(run.path / "windows.parquet").to_pandas()
    scores = scores.merge(windows[["document", "window", "start"]])
    scores["grey"] = scores["distance"] > scores["boundary"] - scores["start"]
    labels = pq.read_table(table.path).to_pandas().astype({"document": str})
    merged = scores.merge(labels, on=["document", "window", "position"])
    assert len(merged) == len(scores)
    starts = {"shuffle": 4}
    usable = ~merged["grey"] & (merged["condition"] != "noise")
    return merged[usable & (merged["distance"] >= merged["condition"].map(starts).fillna(0))]


def test_curves(found: ClassCurves, rows: pd.DataFrame, table: ClassTable) -> None:
    """Mean delta, targets and documents of each bin, summed up by hand."""
    edges = bin_edges(32, HOW.bins_per_octave)
    assert tuple(found.curves) == CURVES
    expected = {}
    for name in table.classes:
        bins = pd.cut(rows["distance"], edges, right=False, labels=edges[:-1])
        for key, part in rows.groupby([rows[name], rows["condition"], bins], observed=True):
            value, condition, start = key
            expected[name, value, condition, start] = (
                part["delta"].mean(),
                len(part),
                part["document"].nunique(),
            )
    columns = ["class", "value", "condition", "distance_from"]
    assert len(found.curves) == len(expected)
    for row in found.curves.to_dict("records"):
        delta, targets, documents = expected[tuple(row[name] for name in columns)]
        assert row["delta"] == pytest.approx(delta, abs=1e-6)
        assert (row["targets"], row["documents"]) == (targets, documents)
        assert row["distance_to"] == edges[list(edges).index(row["distance_from"]) + 1]
        assert (documents < 6) == np.isnan(row["low"]) == np.isnan(row["high"])
    assert not found.curves["fit"].isna().any()


def test_answers_are_those_of_the_members(
    found: ClassCurves, rows: pd.DataFrame, run: RunFolder
) -> None:
    """A class is read as a run with no other targets would be, with the same resamples."""
    part = rows[(rows["kind"] == "word") & (rows["condition"] == "truncate")]
    edges = bin_edges(32, HOW.bins_per_octave)
    bins = np.searchsorted(edges, part["distance"], side="right") - 1
    sums = (
        part.assign(distance_from=edges[bins], distance_to=edges[bins + 1])
        .groupby(["distance_from", "distance_to", "document"], as_index=False)
        .agg(targets=("delta", "size"), delta_sum=("delta", "sum"))
    )
    documents = sorted(rows["document"].unique())
    weights = resample_weights(len(documents), HOW.resamples, HOW.seed)
    curve = fit_curve("truncate", to_sums(sums, documents), weights, HOW.confidence)
    low, high = pointwise_band(curve.resampled, HOW.confidence)
    shown = found.curves.query("value == 'word' and condition == 'truncate'")
    np.testing.assert_allclose(shown["fit"], curve.fit, atol=1e-6)
    np.testing.assert_allclose(shown["low"], low, atol=1e-6)
    np.testing.assert_allclose(shown["high"], high, atol=1e-6)
    for tolerance in HOW.tolerances:
        expected = effective_context(curve, tolerance, floor=None, bytes_per_token=3.0)
        (row,) = found.contexts.query(
            "value == 'word' and condition == 'truncate' and tolerance == @tolerance.text"
        ).to_dict("records")
        assert (row["text"], row["short"]) == (expected.full_text(), expected.text())
        assert (row["kind"], row["targets"]) == (expected.kind, len(part))
        limits = [expected.estimate, expected.lower, expected.upper]
        if expected.kind == "unresolved":
            limits = [None] * 3
        shown_limits = [None if row[k] is pd.NA else row[k] for k in ("length", "low", "high")]
        assert shown_limits == limits


@pytest.mark.slow
def test_a_class_of_all_tokens_is_the_run(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that everything belongs to has the curve of the run itself."""
    registry.load_builtins()
    monkeypatch.setattr(registry.REGISTRY, "entries", dict(registry.REGISTRY.entries))
    registry.register("all")(lambda window: ["in"] * len(window))
    everything = curves_of(run, classify(run, ["all"], write=False)).curves
    with connect(run.path / "windows.parquet", run.parts) as connection:
        edges = bin_edges(32, HOW.bins_per_octave)
        whole = document_sums(connection, edges, opened(run.path).starts)
    whole = whole[~whole["grey"] & (whole["condition"] != "noise")]
    sums = whole.groupby(["condition", "distance_from"], as_index=False)[
        ["targets", "delta_sum"]
    ].sum()
    np.testing.assert_array_equal(everything["distance_from"], sums["distance_from"])
    np.testing.assert_array_equal(everything["targets"], sums["targets"])
    np.testing.assert_allclose(everything["delta"], sums["delta_sum"] / sums["targets"])


def test_counts(found: ClassCurves, run: RunFolder, table: ClassTable) -> None:
    """Each scored target once, whatever was scored of it; grey ones and the noise's too."""
    scored = score_rows(run)[["document", "window", "position"]].drop_duplicates()
    labels = pq.read_table(table.path).to_pandas().astype({"document": str})
    merged = scored.merge(labels)
    for name in table.classes:
        own = found.counts[found.counts["class"] == name].set_index("value")
        expected = merged[name].astype(str)[merged[name].notna()].value_counts()
        seen = own[own["targets"] > 0]
        assert seen["targets"].to_dict() == expected.to_dict()
        assert seen["share"].to_dict() == (expected / len(scored)).to_dict()
        documents = merged.groupby(name, observed=True)["document"].nunique()
        assert seen["documents"].to_dict() == documents.to_dict()
    order = found.counts.query("`class` == 'last_occurrence(edges=[8, 32])'")["value"].tolist()
    assert order == ["1–7", "8–31", "32 or more", "nowhere"]


@pytest.mark.parametrize("column", ["last_occurrence_distance", "copy_distance"])
def test_places_relative_to_the_boundary(
    found: ClassCurves, rows: pd.DataFrame, column: str
) -> None:
    """Near means behind the boundary, far before it: by octave, with the bootstrap's limits."""
    frame = found.occurrences if column.startswith("last") else found.copies
    target = rows["position"] - rows[column]  # where it stands
    where = np.where(rows[column] < 0, "nowhere", "near")
    where[(rows[column] >= 0) & (target < rows["boundary"])] = "far"
    edges = octave_edges(32)
    octave = edges[np.searchsorted(edges, rows["distance"], side="right") - 1]
    documents = sorted(rows["document"].unique())
    weights = resample_weights(len(documents), HOW.resamples, HOW.seed)
    grouped = rows.assign(octave=octave, where=where)
    grouped = grouped[(grouped["condition"] != "shuffle") | (octave >= 8)]  # it starts at 4
    expected = {}
    for key, part in grouped.groupby(["condition", "where"]):
        by_document = part.groupby(["document", "octave"])["delta"].agg(["sum", "size"])
        sums, targets = (
            by_document[name].unstack().reindex(documents).fillna(0) for name in ("sum", "size")
        )
        found_by_hand = bootstrap(*map(np.asarray, (sums, targets)), weights, HOW.confidence)
        limits = np.transpose(pointwise_band(found_by_hand, HOW.confidence))
        for at, start in enumerate(sums):
            mean, count = part["delta"][part["octave"] == start].mean(), targets[start].sum()
            expected[(*key, start)] = (mean, count, *limits[at])
    assert len(frame) == len(expected)
    for row in frame.to_dict("records"):
        delta, count, *limits = expected[row["condition"], row["where"], row["distance_from"]]
        assert row["delta"] == pytest.approx(delta, abs=1e-6)
        assert row["targets"] == count
        limits = limits if row["documents"] >= 6 else [np.nan, np.nan]
        assert [row["low"], row["high"]] == pytest.approx(limits, abs=1e-6, nan_ok=True)


@pytest.mark.slow
def test_the_planted_difference_is_found(tmp_path: Path) -> None:
    """A class of targets that need far text has the longer context of the two."""
    run = word_run(
        tmp_path / "run",
        simulation(curves={"truncate": falling}, windows=6, boundaries=(48,), repeats=1),
    )
    labels = pq.read_table(classify(run, ["kind"]).path).to_pandas().astype({"document": str})
    words = labels[labels["kind"] == "word"][["document", "window", "position"]]
    for part in run.parts:
        rows = pq.read_table(part)
        frame = rows.to_pandas()
        keys = pd.MultiIndex.from_frame(frame[["document", "window", "position"]])
        needs = keys.isin(pd.MultiIndex.from_frame(words)) & (frame["condition"] == "truncate")
        frame.loc[needs, "nll"] += np.float32(0.5)
        kept = rows.set_column(8, "nll", [frame["nll"].to_numpy()])
        pq.write_table(kept.cast(rows.schema), part)
    contexts = curves_of(run, classify(run, ["kind"])).contexts
    at = contexts[contexts["tolerance"] == "1%"].set_index("value")
    assert at.loc["word", "kind"] == "greater"
    assert at.loc["word", "low"] is pd.NA or at.loc["word", "low"] >= 22
    assert at.loc["punctuation", "kind"] == "greater"  # exp(-31/8) is above 1 %
    curves = curves_of(run, classify(run, ["kind"])).curves
    last = curves[curves["distance_from"] >= 24].set_index("value")["delta"]
    assert last["word"] > 0.4 > 0.2 > last["punctuation"]
