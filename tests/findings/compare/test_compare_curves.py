"""Differences of curves and losses: nothing where nothing is, a planted shift, plain oracles."""

import math
import shutil

import numpy as np
import pytest
from compare_runs import change_record, compared, random_text, retokenise, rows_of, step
from simulated import Simulation, write_run

from probe.analysis.bins import bin_edges, bin_index
from probe.analysis.bootstrap import resample_weights, stretch
from probe.analysis.settings import Analysis
from probe.errors import ProbeError
from probe.results.folder import read_folder

HOW = Analysis(resamples=100)
CURVES = {"truncate": step(32), "shuffle": step(64, 0.6)}
KEYS = ["document", "window", "position", "boundary", "condition"]


def simulation(**changes):
    known = {"curves": CURVES, "windows": 1, "length": 256, "boundaries": (60, 128), "reach": 128}
    return Simulation(**(known | changes))


@pytest.fixture(scope="module")
def a(tmp_path_factory):
    return random_text(write_run(tmp_path_factory.mktemp("a") / "a", simulation(name="first")))


@pytest.fixture(scope="module")
def b(tmp_path_factory):
    """As ``a``, but truncation costs 0.1 nats more everywhere, and the intact loss is another."""
    shifted = CURVES | {"truncate": lambda d: CURVES["truncate"](d) + 0.1}
    run = simulation(curves=shifted, position_slope=0.5, name="second", token_spread=0.03)
    return random_text(write_run(tmp_path_factory.mktemp("b") / "b", run))


@pytest.fixture(scope="module")
def between(a, b):
    """The comparison of the two; tests only read it."""
    return compared(a, b, analysis=HOW)


@pytest.mark.slow
def test_comparisons_leave_out_what_is_grey(tmp_path):
    """Of runs of protocol dense: lengths that may answer, up to half of the longest."""
    context = 20
    run = write_run(tmp_path / "run", simulation(boundaries=(60,), reach=context + 1))
    change_record(run, config={"protocol": {"kind": "dense", "context": context}})
    found = compared(run, run).curve
    tokens = found[found["unit"] == "tokens"]
    assert tokens["distance_to"].max() == context // 2 + 1


@pytest.mark.slow
def test_a_run_differs_from_itself_by_exactly_nothing(a):
    """Not by a rounding error: curves, losses, lengths, in tokens and in bytes."""
    found = compared(a, a)
    assert found.paired
    assert found.pairing == "windows"
    for frame in (found.curve, found.octaves, found.losses):
        assert len(frame)
        for column in ("difference", "low", "high"):
            assert (frame[column] == 0).all()
    assert set(found.curve["unit"]) == {"tokens", "bytes"}
    numbers = found.contexts[found.contexts["kind"] == "number"]
    assert len(numbers)
    assert (numbers["difference"] == 0).all()
    assert (numbers["low"].fillna(-1) <= 0).all()
    assert (numbers["high"].fillna(1) >= 0).all()
    assert [found.a, found.b] == [f"{read_folder(a).name} ({number})" for number in (1, 2)]


def test_a_planted_shift_is_found(between):
    """0.1 nats more for truncate, nothing for shuffle; the intact loss by what was put on it."""
    found = between
    assert (found.a, found.b) == ("first", "second")
    tokens = found.octaves[found.octaves["unit"] == "tokens"].set_index("condition")
    assert tokens.loc["truncate", "difference"].between(0.08, 0.12).all()
    assert (tokens.loc["truncate", "low"] > 0).all()
    assert tokens.loc["shuffle", "difference"].abs().max() < 0.02
    losses = found.losses.set_index("unit")
    assert losses.loc["nats per token", "low"] > 0.1
    assert losses.loc["nats per token", "high"] < 0.5
    assert losses.loc["bits per byte", "low"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "distance"), [("tokens", "distance"), ("bytes", "bytes_back")])
def test_paired_differences_are_those_of_a_merge(a, b, between, unit, distance):
    """Common targets by a pandas merge; bytes of text counted by encoding what stands before."""
    found = between.curve.query("unit == @unit and condition == 'truncate'")
    rows = [rows_of(folder).query("condition == 'truncate' and not grey") for folder in (a, b)]
    both = rows[0].merge(rows[1][[*KEYS, "delta"]], on=KEYS, suffixes=("_a", "_b"))
    ends = both.groupby("document")[distance].max()
    reach = 1 + int(ends.max() if unit == "tokens" else np.sort(ends)[0])  # 8 documents: all reach
    edges = bin_edges(reach)
    both = both[both[distance] < reach]
    both["bin"] = bin_index(both[distance], edges)
    both["weight"], scale = (1, 1.0) if unit == "tokens" else (both.bytes, 1 / math.log(2))
    sums = both.groupby("bin")[["delta_a", "delta_b", "weight"]].sum()
    np.testing.assert_array_equal(found["distance_from"], edges[sums.index])
    for side in "ab":
        expected = sums[f"delta_{side}"] / sums["weight"].where(sums["weight"] > 0) * scale
        np.testing.assert_allclose(found[side], expected, atol=1e-9)
    np.testing.assert_allclose(found["difference"], found["b"] - found["a"], atol=1e-9)
    np.testing.assert_array_equal(found["targets"], both.groupby("bin").size())


@pytest.mark.slow
def test_intervals_are_those_of_a_plain_bootstrap(a, b, between):
    """Documents drawn in a loop, the paired difference of one octave, quantiles, stretched."""
    found = between.octaves
    row = found.query("unit == 'tokens' and condition == 'truncate' and distance_from == 16")
    rows = [rows_of(folder).query("condition == 'truncate' and not grey") for folder in (a, b)]
    both = rows[0].merge(rows[1][[*KEYS, "delta"]], on=KEYS, suffixes=("_a", "_b"))
    both = both[both.distance.between(16, 31)].assign(d=lambda f: f.delta_b - f.delta_a)
    by_document = both.groupby("document")["d"].agg(["sum", "size"])
    mean = by_document["sum"].sum() / by_document["size"].sum()
    draws = []
    for weights in resample_weights(8, HOW.resamples, HOW.seed):
        drawn = by_document.mul(weights, axis=0).sum()
        draws.append(mean + stretch(8, 0.95) * (drawn["sum"] / drawn["size"] - mean))
    low, high = np.quantile(draws, [0.025, 0.975])
    np.testing.assert_allclose(row[["difference", "low", "high"]], [[mean, low, high]], atol=1e-9)
    assert row["documents"].tolist() == [8]


@pytest.mark.slow
def test_losses_are_those_of_a_merge(a, b, between):
    """Intact losses of the common targets, a token and a byte."""
    found = between.losses.set_index("unit")
    rows = [rows_of(folder).query("condition == 'intact'") for folder in (a, b)]
    both = rows[0].merge(rows[1][["document", "position", "nll"]], on=["document", "position"])
    token, byte = found.loc["nats per token"], found.loc["bits per byte"]
    assert token[["a", "b"]].tolist() == pytest.approx([both.nll_x.mean(), both.nll_y.mean()])
    difference = (both.nll_y - both.nll_x).sum() / math.log(2) / both.bytes.sum()
    assert byte["difference"] == pytest.approx(difference)
    assert token["targets"] == len(both)


@pytest.mark.slow
def test_the_other_way_round_is_the_negative(a, b, between):
    """B − A and A − B are the same number with its limits turned around."""
    there, back = between, compared(b, a, analysis=HOW)
    np.testing.assert_allclose(there.curve["difference"], -back.curve["difference"], atol=1e-12)
    np.testing.assert_allclose(there.curve["low"], -back.curve["high"], atol=1e-9)
    numbers = there.contexts["kind"] == "number"
    assert (there.contexts["difference"] == -back.contexts["difference"])[numbers].all()
    assert there.contexts["low"].fillna(0).eq(-back.contexts["high"].fillna(0))[numbers].all()


@pytest.mark.slow
def test_other_windows_are_compared_by_document(a, tmp_path):
    """Longer windows of the same documents: drawn together, on the distances of both."""
    longer = simulation(length=512, boundaries=(256,), reach=256, name="long")
    found = compared(a, random_text(write_run(tmp_path / "b", longer), seed=1), analysis=HOW)
    assert found.pairing == "none", "ids are equal, but no text and no data set says the same"
    folder = change_record(shutil.copytree(a, tmp_path / "a"), identity={"data": {"path": "x"}})
    change_record(tmp_path / "b", identity={"data": {"path": "x"}})
    found = compared(folder, tmp_path / "b", analysis=HOW)
    assert found.pairing == "documents"
    assert not found.paired
    tokens = found.curve[found.curve["unit"] == "tokens"]
    assert tokens["distance_to"].max() == 128
    notes = "\n".join(found.notes)
    assert "by document: the same 8 documents, drawn together" in notes
    assert "truncate is compared up to 128 tokens, as far as A goes; B goes to 256" in notes
    assert "window length: 256 in A, 512 in B" in notes
    assert "far tokens in the perturbed context: 60 to 128 in A, 256 to 256 in B" in notes


@pytest.mark.slow
def test_other_boundaries_are_no_pairs(tmp_path):
    """The same windows under another reach: curves by document, intact losses target by target."""
    a = write_run(tmp_path / "a", simulation(boundaries=(128,)))
    b = write_run(tmp_path / "b", simulation(boundaries=(100,), reach=64))
    found = compared(a, b, analysis=HOW)
    assert (found.pairing, found.paired) == ("documents", False)
    assert any("not their boundaries: intact losses alone" in note for note in found.notes)
    tokens = found.curve.query("unit == 'tokens'")
    assert tokens["distance_to"].max() == 64
    assert tokens["difference"].abs().max() < 0.05
    assert (found.losses["difference"] == 0).all(), "the simulated losses of a position are equal"
    assert found.losses["targets"].iloc[0] == 8 * (164 - 128)


@pytest.mark.slow
def test_unpaired_intervals_are_those_of_two_independent_bootstraps(a, tmp_path):
    """Other data: each run's mean drawn by itself, the difference of draws, quantiles."""
    other = simulation(documents=10, seed=5, data="other")
    b = random_text(write_run(tmp_path / "b", other), seed=9)
    found = compared(a, b, analysis=HOW)
    assert found.pairing == "none"
    assert "8 in A and 10 in B are drawn independently" in "\n".join(found.notes)
    row = found.octaves.query("unit == 'tokens' and condition == 'shuffle' and distance_from == 32")
    means, draws = [], []
    for folder, seed in ((a, HOW.seed), (b, HOW.seed + 1)):
        rows = rows_of(folder).query("condition == 'shuffle' and not grey")
        rows = rows[rows.distance.between(32, 63)]
        own = rows.groupby("document")["delta"].agg(["sum", "size"]).to_numpy()
        mean = own[:, 0].sum() / own[:, 1].sum()
        weights = resample_weights(len(own), HOW.resamples, seed)
        drawn = (weights @ own[:, 0]) / (weights @ own[:, 1])
        means.append(mean)
        draws.append(mean + stretch(len(own), 0.95) * (drawn - mean))
    low, high = np.quantile(draws[1] - draws[0], [0.025, 0.975])
    expected = [[means[1] - means[0], low, high]]
    np.testing.assert_allclose(row[["difference", "low", "high"]], expected, atol=1e-9)


@pytest.mark.slow
def test_other_tokenizers_are_compared_in_bytes_only(tmp_path):
    """64 tokens of four bytes are 32 of eight: the same length in bytes, and said so."""
    a = write_run(tmp_path / "a", simulation(curves={"truncate": step(64)}, boundaries=(128,)))
    run = simulation(curves={"truncate": step(32, 0.6)}, boundaries=(128,))
    b = retokenise(write_run(tmp_path / "b", run), 6)
    found = compared(a, b, analysis=HOW)
    assert found.pairing == "documents"
    assert set(found.curve["unit"]) == {"bytes"} == set(found.contexts["unit"])
    assert "the tokenizers differ: compared in bytes only" in found.notes
    assert found.losses["unit"].tolist() == ["bits per byte"]
    at = found.contexts.set_index("tolerance").loc["1%"]
    assert (at["kind"], at["difference"], at["a_text"][:4]) == ("number", 0, "256 ")
    assert at["low"] <= 0 <= at["high"]
    # 0.3 nats over four bytes and 0.6 over eight are the same bits a byte.
    near = found.octaves[found.octaves["distance_to"] <= 256]
    assert near["difference"].abs().max() < 0.01
    assert near["a"].between(0.08, 0.14).all()


@pytest.mark.slow
def test_without_text_tokens_alone_are_compared(tmp_path):
    """Data that came as ids: the same windows pair, bytes are left out, and said so."""
    folders = [write_run(tmp_path / name, simulation(text=False)) for name in "ab"]
    found = compared(*folders, analysis=HOW)
    assert found.paired
    assert set(found.curve["unit"]) == {"tokens"}
    assert "no text in one of the runs: not compared in bytes" in found.notes


@pytest.mark.slow
def test_nothing_in_common_is_refused(tmp_path):
    """Ids of other vocabularies without text: one line that says what would do."""
    a = write_run(tmp_path / "a", simulation(text=False))
    b = write_run(tmp_path / "b", simulation(text=False, length=512))
    for folder, size in ((a, 100), (b, 200)):
        change_record(folder, model={"vocabulary": size})
    with pytest.raises(ProbeError, match=r"vocabularies of 100 and 200 tokens.*allowed") as caught:
        compared(a, b, analysis=HOW)
    assert "\n" not in str(caught.value)
    change_record(b, model={"vocabulary": 100})
    assert "the tokenizers are taken to be the same" in " ".join(compared(a, b, analysis=HOW).notes)


@pytest.mark.slow
def test_common_windows_alone_are_used(tmp_path):
    """Twelve documents and the first eight of them: eight are paired, four are left out."""
    a = write_run(tmp_path / "a", simulation(documents=12))
    b = write_run(tmp_path / "b", simulation(documents=8))
    found = compared(a, b, analysis=HOW)
    assert found.paired
    assert "4 of the 12 windows of A are left out: not in both runs" in found.notes
    assert found.curve["documents"].max() == 8
    assert (found.curve["difference"] == 0).all()


@pytest.mark.slow
def test_conditions_of_one_run_are_named(a, tmp_path):
    """Only what both scored is compared."""
    b = random_text(write_run(tmp_path / "b", simulation(curves={"truncate": step(32)})))
    found = compared(a, b, analysis=HOW)
    assert set(found.curve["condition"]) == {"truncate"}
    assert "only in A: shuffle" in found.notes


@pytest.mark.slow
def test_a_curve_that_starts_late_starts_late_in_bytes(tmp_path):
    """No bin in bytes holds a target nearer than the curve's first token."""
    run = simulation(curve_starts={"shuffle": 16})
    a = random_text(write_run(tmp_path / "a", run))
    found = compared(a, a, analysis=HOW).curve.query("condition == 'shuffle'")
    assert found.loc[found["unit"] == "tokens", "distance_from"].min() == 16
    rows = rows_of(a).query("condition == 'shuffle' and distance < 16")
    first = found.loc[found["unit"] == "bytes", "distance_from"].min()
    assert first > rows.bytes_back.max()


@pytest.mark.slow
def test_repeats_are_averaged(tmp_path):
    """Three draws of a condition are one target."""
    a = write_run(tmp_path / "a", simulation(repeats=3, boundaries=(128,)))
    b = write_run(tmp_path / "b", simulation(boundaries=(128,)))
    found = compared(a, b, analysis=HOW)
    row = found.octaves.query("unit == 'tokens' and condition == 'truncate'").iloc[0]
    rows = rows_of(a).query("condition == 'truncate' and distance < 8")
    assert row["targets"] == 8 * 8
    assert row["a"] == pytest.approx(rows.groupby(KEYS)["delta"].mean().mean())
