"""`probe weigh`: against the definition computed directly, and as training data."""

import json
import math

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from family_runs import family_configurations  # noqa: F401 (fixture)
from models import tiny
from tiny_run import (  # noqa: F401 (fixtures)
    LENGTHS,
    base_configuration,
    changed,
    character_tokenizer,
    model_folders,
    no_network,
    score,
    text_folder,
    text_of,
)

from probe.analysis.open_run import open_run
from probe.commands.main import group
from probe.errors import ProbeError, UsageError
from probe.training.rules import parse
from probe.training.training_data import select, write_dataset
from probe.training.weigh import short_context, weigh

K, STRIDE = 40, 16


@pytest.fixture(scope="module", name="content")
def longppl_configuration(base):
    content = {key: value for key, value in base.items() if key not in ("windows", "conditions")}
    protocol = {"kind": "longppl", "context": K, "stride": STRIDE}
    return changed(content, protocol=protocol, name="long", measures=["nll", "kl"])


@pytest.fixture(scope="module", name="folder")
def run_folder(content, tmp_path_factory):
    return score(content, tmp_path_factory.mktemp("weigh"))


@pytest.fixture(name="run")
def opened(folder):
    with open_run(folder, write=False) as run:
        yield run


@torch.inference_mode()
def log_probabilities(ids):
    """Of every next token behind a BOS, by one plain forward."""
    model = tiny("llama", num_hidden_layers=2)
    given = torch.tensor([[0, *ids]])
    return torch.log_softmax(model(given).logits[0].double(), -1).numpy()[:-1]


def directly(ids):
    """Delta, long loss and KL(long ‖ short) of each token, from the definition."""
    long = log_probabilities(ids)
    count = len(ids)
    delta, kl = np.full(count, np.nan), np.full(count, np.nan)
    at = K + STRIDE - 1  # the first short context counts the BOS and is the text's own beginning
    own = -long[np.arange(count), ids]
    for boundary in range(STRIDE - 1, count - K, STRIDE):
        stop = min(boundary + K + STRIDE, count)
        short = log_probabilities(ids[boundary:stop])
        for token in range(boundary + K, stop):
            row = short[token - boundary]
            delta[token] = -row[ids[token]] - own[token]
            kl[token] = float(np.sum(np.exp(long[token]) * (long[token] - row)))
        at = max(at, stop)
    return delta, own, kl


def ids_of(document):
    return character_tokenizer(True)(document, add_special_tokens=False)["input_ids"]


@pytest.mark.slow
def test_weights_are_those_of_the_definition(run, tmp_path):
    """Every token of every document, for each rule of tokens."""
    for text in ("longce", "dense(lam=0.3)", "sparse(kappa=0.25)", "ppmi", "npmi(s=1.5)", "keys"):
        rule = parse(text)
        summary = weigh(run, rule, parse("longfilter"), into=tmp_path)
        frame = pd.read_parquet(tmp_path / "weights.parquet").astype({"document": str})
        assert list(frame) == ["document", "position", "token_id", "delta", "weight"]
        scored = summary.documents.set_index("document")
        assert len(scored) == len(LENGTHS)
        for number, length in enumerate(LENGTHS):
            name = next(one for one in scored.index if one.endswith(f"{number}.txt"))
            own = frame[frame.document == name].sort_values("position")
            ids = ids_of(text_of(length, number))
            assert own.token_id.tolist() == ids
            delta, long, kl = directly(ids)
            assert np.allclose(own.delta, delta, atol=2e-4, equal_nan=True)
            from probe.training.rules import Tokens

            measured = ~np.isnan(delta)
            # Where two deltas are equal but for rounding, either may be among the largest.
            exact = Tokens(np.nan_to_num(own.delta.to_numpy(float)), long, measured, kl)
            assert np.allclose(own.weight, rule(exact), atol=1e-3)
            assert scored.score[name] == pytest.approx(np.nanmean(kl), abs=1e-3)
            assert scored.measured[name] == measured.sum()
    assert any("behind 40 tokens" in line for line in summary.lines)


@pytest.mark.slow
def test_a_sweep_covers_what_it_sampled(base, tmp_path):
    """Of several distances of a token the smallest that is long enough counts."""
    folder = score(base, tmp_path, protocol={"kind": "sweep", "reach": 32, "runs": {1: 1, 8: 2}})
    with open_run(folder, write=False) as run:
        with pytest.raises(UsageError, match="allowed: --distance, 1 to 31"):
            short_context(run)
        with pytest.raises(UsageError, match="has no condition 'hide'"):
            short_context(run, "hide")
        short = short_context(run, distance=9)
        summary = weigh(run, parse("longce"), parse("mean_delta"), short=short)
        rows = run.connection.execute(
            """SELECT document, position, arg_min(delta, distance) AS delta FROM targets
            WHERE condition = 'truncate' AND distance >= 9 GROUP BY ALL"""
        ).df()
    frame = pd.read_parquet(folder / "weights.parquet").astype({"document": str})
    merged = frame.dropna(subset="delta").merge(rows, on=["document", "position"])
    assert len(merged) == len(rows) == summary.measured
    assert np.allclose(merged.delta_x, merged.delta_y, atol=1e-6)
    assert len(frame) == summary.tokens == 64 * len(summary.documents)
    assert set(frame[frame.delta.isna()].weight) == {1}


def test_training_data_is_a_folder_that_datasets_reads(folder, run, tmp_path):
    """Weights go with their tokens; scores and their ranks; a card that says what it is."""
    summary = weigh(run, parse("longce"), parse("mean_delta"))
    kept = write_dataset(run, summary, tmp_path / "data", share=0.5)
    rows = datasets.load_dataset("parquet", data_dir=str(tmp_path / "data"), split="train")
    frame = pd.read_parquet(folder / "weights.parquet").astype({"document": str})
    assert kept.tokens == sum(map(len, rows["input_ids"]))
    assert 0 < kept.documents < kept.of == len(LENGTHS)
    for row in rows:
        own = frame[frame.document == row["document"]].sort_values("position")
        assert row["input_ids"] == own.token_id.tolist()
        assert row["loss_weights"] == pytest.approx(own.weight.tolist())
        assert row["attention_mask"] == [1] * len(own)
        assert row["score"] == summary.documents.set_index("document").score[row["document"]]
    facts = json.loads((tmp_path / "data" / "weights.json").read_text())
    assert (facts["rule"], facts["short_context"], facts["stride"]) == (
        "longce(gamma=5)",
        K,
        STRIDE,
    )
    card = (tmp_path / "data" / "README.md").read_text()
    assert "that hold 50 % of it" in card
    assert f"| text | {run.data}, revision unknown |" in card
    assert str(folder.parent.parent) not in card + json.dumps(facts)  # it is made to be shared
    assert facts["model"]["tokenizer"] == run.record["model"]["tokenizer"]
    assert "`longce(gamma=5)`" in card
    assert "40 tokens or more, moved by 16" in card
    with pytest.raises(UsageError, match="is not empty"):
        write_dataset(run, summary, tmp_path / "data")


def test_documents_are_chosen_inside_an_octave_of_length():
    """Longer documents score higher, and are not all that is left."""
    frame = pd.DataFrame(
        {
            "document": list("abcdefgh"),
            "score": [8.0, 7, 6, 5, 4, 3, 2, math.nan],
            "rank": pd.array([1, 2, 3, 4, 5, 6, 7, None], dtype="Int64"),
            "length_bin": [1024, 1024, 1024, 1024, 256, 256, 256, 256],
            "tokens": [1100, 1100, 1100, 1100, 300, 300, 300, 300],
        }
    )
    assert sorted(select(frame, 0.5)) in (["a", "b", "e"], ["a", "b", "e", "f"])
    assert sorted(select(frame, 1.0)) == list("abcdefg")
    assert select(frame, 0.01) == []


@pytest.mark.slow
def test_the_command(folder, tmp_path):
    done = CliRunner().invoke(
        group, ["weigh", str(folder), "--rule", "sparse(0.5)", "--to", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    assert "weighed by sparse(kappa=0.5); documents scored by mean_delta" in done.output
    weights = pd.read_parquet(folder / "weights.parquet")["weight"]
    told = f"mean weight {weights.mean():.3g}, the largest {weights.max():.3g}; every token"
    assert told in done.output
    facts = json.loads((tmp_path / "out" / "weights.json").read_text())
    assert facts["rule"] == "sparse(kappa=0.5)"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ["--rule", "mean_delta"],
            "'mean_delta' is a score of documents, no rule of tokens; allowed: dense, keys, longce",
        ),
        (
            ["--score", "sparse(0.5)"],
            "'sparse' is a rule of tokens, no score of documents; allowed: key_share, longfilter",
        ),
        (["--rule", "longce(gamma=0)"], "gamma is 0; allowed: 1 or more"),
        (["--select", "0.5"], "allowed with --to FOLDER"),
        (["--distance", "4000"], "--distance is 4000; allowed: 1 to"),
        (["--condition", "shuffle"], "has no condition 'shuffle'"),
    ],
)
def test_a_mistake_is_one_line(folder, options, line):
    done = CliRunner().invoke(group, ["weigh", str(folder), *options])
    assert done.exit_code == 2, done.output
    assert line in done.output


@pytest.mark.parametrize("name", ["", "..", "n" * 300, "full"])
def test_a_folder_that_cannot_be_written_is_refused_first(base, name, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    folder = score(base, tmp_path, data__max_documents=1, conditions=["truncate"])
    to = str(tmp_path / name) if name not in ("", "..") else name or "."
    done = CliRunner().invoke(group, ["weigh", str(folder), "--distance", "4", "--to", to])
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit)
    assert len(done.output.splitlines()) == 1
    assert not (folder / "weights.parquet").exists()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["pll", "parallel"])
def test_runs_of_other_families_are_refused(contents, family, tmp_path):
    folder = score(contents[family], tmp_path, data__max_documents=1, conditions=["truncate"])
    name = "truncate" + (family == "parallel") * "(of='source')"
    options = ["--distance", "2", "--condition", name]
    done = CliRunner().invoke(group, ["weigh", str(folder), *options])
    assert done.exit_code == 2
    assert "allowed: runs of causal ones" in done.output


@pytest.mark.slow
def test_windows_of_a_document_are_weighed_one_by_one(base, tmp_path):
    """And draws of a target are one: their mean."""
    given = {"conditions": ["shuffle"], "repeats": 2, "windows__per_document": 3}
    folder = score(base, tmp_path, **given)
    with open_run(folder, write=False) as run:
        short = short_context(run, "shuffle", 4)
        summary = weigh(run, parse("dense"), parse("mean_delta"), short=short)
        rows = run.connection.execute(
            """SELECT document, "window", position, distance, avg(nll::DOUBLE - nll_intact) AS delta
            FROM scores WHERE condition = 'shuffle' AND distance >= 4 GROUP BY ALL"""
        ).df()
    shortest = rows.loc[rows.groupby(["document", "window", "position"]).distance.idxmin()]
    frame = pd.read_parquet(folder / "weights.parquet").astype({"document": str})
    assert frame.groupby("document").size().max() == 3 * 64
    merged = frame.merge(shortest, on=["document", "position"], how="left")
    assert np.allclose(merged.delta_x, merged.delta_y, atol=1e-6, equal_nan=True)
    means = frame.weight.to_numpy().reshape(-1, 64).mean(axis=1)
    assert means == pytest.approx(np.ones(len(means)), abs=1e-6)
    whole = shortest.groupby("document").delta.mean()
    scores_of = summary.documents.set_index("document").score
    assert scores_of[whole.index].to_numpy() == pytest.approx(whole.to_numpy(), abs=1e-6)


def test_python_is_told_of_the_other_level_too(run, tmp_path):
    for rule, score_of, line in (
        ("mean_delta", "p90", "rule mean_delta is of a document; allowed here: one of a token"),
        (
            "longce",
            "dense",
            r"rule dense\(lam=0.5\) is of a token; allowed here: one of a document",
        ),
    ):
        with pytest.raises(UsageError, match=line):
            weigh(run, parse(rule), parse(score_of), into=tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_measure_that_is_missing(base, tmp_path):
    folder = score(base, tmp_path)
    with open_run(folder, write=False) as run:
        short = short_context(run, distance=4)
        with pytest.raises(UsageError, match="has no kl, which the rule needs"):
            weigh(run, parse("longce"), parse("longfilter"), short=short)
        assert not (folder / "weights.parquet").exists()
        summary = weigh(run, parse("longce"), parse("mean_delta"), short=short)
        with pytest.raises(ProbeError, match="no document is chosen"):
            write_dataset(run, summary, tmp_path / "none", share=0.0001)
