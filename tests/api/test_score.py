"""`probe.score` gives what one plain forward a condition gives, and what a run writes."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from models import BOS, plain_logp, random_ids, tiny, tiny_masked, tiny_report
from tiny_run import (  # noqa: F401 (fixtures)
    character_tokenizer,
    model_folders,
    no_network,
    text_of,
)
from transformers import BartConfig, BartForConditionalGeneration, ViTConfig, ViTModel

import probe
from probe.api.score import COLUMNS
from probe.engine.selfcheck import Outcome, Report
from probe.errors import ProbeError, UsageError
from probe.perturbations.condition import draw_rng, parse

TEXT = text_of(64, 3)
MODEL = tiny("llama", num_hidden_layers=2)
WITH_BOS, WITHOUT = character_tokenizer(True), character_tokenizer(False)


def score(text=TEXT, tokenizer=WITH_BOS, **more) -> pd.DataFrame:
    return probe.score(text, model=MODEL, tokenizer=tokenizer, **more)


def plain_nll(ids: np.ndarray, targets: int) -> np.ndarray:
    """Losses of the last tokens of a sequence, by one whole forward of the model."""
    logp = plain_logp(MODEL, ids)
    return -logp[np.arange(len(ids) - targets - 1, len(ids) - 1), ids[-targets:]]


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("text", ["truncate", "shuffle", "reverse"])
@pytest.mark.parametrize("reach", [1, 20, None, 50])
def test_rows_are_those_of_plain_forwards(text, reach, bos):
    """One forward of the intact text, one of the perturbed one; the kept first token in both."""
    tokenizer = WITH_BOS if bos else WITHOUT
    ids = np.array(tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    frame = score(tokenizer=tokenizer, conditions=text, reach=reach)
    targets = reach or 32
    boundary = 64 - targets
    lead, far = ([BOS], ids[:boundary]) if bos else (ids[:1], ids[1:boundary])
    far = parse(text).apply(far, rng=draw_rng(0, "0", 0, text, 0))
    intact = np.concatenate([[BOS], ids]) if bos else ids
    perturbed = np.concatenate([lead, far, ids[boundary:]]).astype(np.int64)
    np.testing.assert_allclose(frame["nll_intact"], plain_nll(intact, targets), atol=2e-5)
    np.testing.assert_allclose(frame["nll"], plain_nll(perturbed, targets), atol=2e-5)
    assert frame["delta"].tolist() == pytest.approx(frame["nll"] - frame["nll_intact"], abs=1e-6)
    assert frame["distance"].tolist() == list(range(targets))
    assert set(frame["boundary"]) == {boundary}
    assert "".join(frame["token"]) == TEXT[boundary:]


@pytest.mark.slow
def test_rows_are_those_of_a_run(models, tmp_path):
    """A run of protocol sweep with one run of targets writes the same, of the same texts."""
    texts = [text_of(64, seed) for seed in (1, 2)]
    conditions = ["truncate", "shuffle(span=4)", "replace(source='document')", "attend(local(8))"]
    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    (tmp_path / "texts.jsonl").write_text("".join(lines))
    config = {
        "name": "same",
        "model": {"path": str(models[True]), "dtype": "float32"},
        "data": {"path": str(tmp_path / "texts.jsonl")},
        "windows": {"length": 64, "per_document": 1},
        "protocol": {"kind": "sweep", "reach": 24, "runs": {1: 1}},
        "conditions": conditions,
        "measures": ["nll", "kl"],
        "repeats": 2,
        "seed": 5,
    }
    with probe.run(config, results=tmp_path / "results", progress=False) as run:
        written = run.scores
    frame = probe.score(
        texts,
        model=models[True],
        dtype="float32",
        conditions=conditions,
        reach=24,
        measures=["kl"],
        repeats=2,
        seed=5,
    )
    keys = ["document", "condition", "repeat", "position"]
    written = written[written["condition"] != "intact"]
    written = written.astype({"document": str, "condition": str}).sort_values(keys)
    columns = [name for name in frame.columns if name != "token"]
    assert set(columns) == set(written.columns)
    pd.testing.assert_frame_equal(
        frame.sort_values(keys, ignore_index=True)[columns],
        written.reset_index(drop=True)[columns],
        check_dtype=False,
        rtol=0,
        atol=1e-5,
    )


def test_a_row_a_target_and_condition():
    """In the order of texts, conditions, draws and positions; a steady condition is drawn once."""
    frame = score([TEXT, TEXT[:40]], conditions=["shuffle", "truncate"], repeats=2)
    assert list(frame.columns) == list(COLUMNS)
    parts = frame.groupby(["document", "condition", "repeat"], sort=False).size()
    assert list(parts.items()) == [
        (("0", "shuffle", 0), 32),
        (("0", "shuffle", 1), 32),
        (("0", "truncate", 0), 32),
        (("1", "shuffle", 0), 20),
        (("1", "shuffle", 1), 20),
        (("1", "truncate", 0), 20),
    ]


def test_texts_are_scored_alone():
    """Several texts together give what each gives; another seed draws otherwise."""
    alone = score(TEXT, conditions=["truncate", "shuffle"])
    both = score([TEXT, text_of(90, 8)], conditions=["truncate", "shuffle"])
    first = both[both["document"] == "0"]
    np.testing.assert_allclose(first["nll"], alone["nll"], atol=2e-5)
    pd.testing.assert_frame_equal(alone, score(TEXT, conditions=["truncate", "shuffle"]))
    other = score(TEXT, conditions=["truncate", "shuffle"], seed=1)
    same = (other["nll"] == alone["nll"]).groupby(alone["condition"]).all()
    assert same.to_dict() == {"shuffle": False, "truncate": True}


def test_a_measure_is_one_or_several():
    """A name alone is no list of letters."""
    pd.testing.assert_frame_equal(score(measures="kl"), score(measures=["kl"]))
    assert list(score(measures="nll").columns) == list(COLUMNS)


@pytest.mark.parametrize("kind", [pd.Series, np.array])
def test_texts_are_a_column(kind):
    """Of pandas or numpy: what a list of them gives."""
    texts = [TEXT, text_of(40, 4)]
    pd.testing.assert_frame_equal(score(kind(texts)), score(texts))
    ids = random_ids(40)
    pd.testing.assert_frame_equal(score(kind(ids), None), score(ids.tolist(), None))


def test_a_truncated_text_has_no_first_target():
    """Where nothing stands in front, nothing predicts it; under other conditions it is scored."""
    frame = score(conditions=["truncate", "reverse"], first_token="none", reach=19)
    least = frame.groupby("condition")["distance"].agg(["min", "size"])
    assert least.loc["truncate"].tolist() == [1, 18]
    assert least.loc["reverse"].tolist() == [0, 19]


def test_a_bos_that_would_stand_there_twice_is_warned_of():
    """Ids as a tokenizer gives them by default; a text never brings one."""
    with pytest.warns(UserWarning, match=r"text 0 begins with the BOS \(token id 0\)"):
        score(WITH_BOS(TEXT)["input_ids"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score("<s>" + TEXT)
        score(WITH_BOS(TEXT)["input_ids"], first_token="none")
        score(WITHOUT(TEXT)["input_ids"], WITHOUT)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_token_ids_need_no_tokenizer(kind):
    """They are taken as they are; without a tokenizer tokens have no text."""
    ids = random_ids(40)
    frame = score(kind(ids.tolist()), None)
    assert frame["token"].isna().all()
    np.testing.assert_allclose(frame["nll_intact"], plain_nll(ids, 20), atol=2e-5)
    several = score([kind(ids.tolist()), kind(ids[:10].tolist())], None)
    assert several.groupby("document").size().to_dict() == {"0": 20, "1": 5}


def test_token_ids_are_spelled_where_there_is_a_tokenizer():
    """The text of each id, a special one too."""
    ids = WITHOUT(TEXT, add_special_tokens=False)["input_ids"]
    assert "".join(score(ids, WITHOUT)["token"]) == TEXT[32:]


def test_a_name_is_loaded_with_its_tokenizer(models: dict[bool, Path]):
    """A folder gives what its loaded model gives."""
    named = probe.score(TEXT, model=str(models[True]), dtype="float32", device="cpu")
    pd.testing.assert_frame_equal(named, score(), rtol=0, atol=1e-5)


def test_logits_are_not_kept(monkeypatch):
    """The head sees the targets' states a chunk at a time, and never the whole text."""
    seen = []
    forward = MODEL.lm_head.forward
    monkeypatch.setattr(MODEL.lm_head, "forward", lambda x: seen.append(x.shape) or forward(x))
    monkeypatch.setattr("probe.api.score.check_model", lambda *_: tiny_report("llama"))
    score(text_of(1000, 0), reach=300)
    assert max(int(np.prod(shape[:-1])) for shape in seen) <= 300


@pytest.mark.parametrize(
    ("text", "more", "told"),
    [
        ("a", {}, "text 0 has 1 token; allowed: 4 or more"),
        ("", {}, "text 0 has 0 tokens"),
        ([TEXT, "at"], {}, "text 1 has 2 tokens"),
        ([], {}, "no text to score"),
        (7, {}, "text is 7; allowed: a text, token ids, or several of these"),
        ([3, 500, 4, 5], {}, "token id 500; allowed: 0 to 95"),
        ([0.5, 1.5, 2.5, 3.5], {}, "must be a list of int"),
        (np.array(7), {}, "text is array.* allowed: a text, token ids, or several"),
        ("a mat \ud800 on a mat", {}, r"text 0 holds '\\ud800' at 6, half of a character"),
        (TEXT, {"tokenizer": "gpt2"}, "tokenizer is of type str; allowed: a tokenizer"),
        (TEXT, {"conditions": None}, "conditions is None; allowed: a condition, or several"),
        (TEXT, {"tokenizer": None}, "a text needs a tokenizer"),
        (TEXT, {"reach": 64}, "reach is 64; allowed: 1 to 63, as text 0 has 64 tokens"),
        (TEXT, {"reach": 0}, "reach is 0; allowed: 1 to 63"),
        (TEXT, {"reach": "32"}, "reach is '32'; allowed: 1 to 63"),
        (TEXT, {"reach": 63, "tokenizer": WITHOUT}, "1 to 62, as .* its first one is kept"),
        (TEXT, {"conditions": "truncat"}, "did you mean 'truncate'"),
        (TEXT, {"conditions": []}, "conditions"),
        (TEXT, {"conditions": "replace(source='document')"}, "needs a second document"),
        (TEXT, {"reach": True}, "reach is True; allowed: 1 to 63"),
        (TEXT, {"measures": ["loss"]}, "measures.0: .* got 'loss'"),
        (TEXT, {"measures": "loss"}, "measures.0: .* got 'loss'"),
        (TEXT, {"measures": None}, "measures is None; allowed: a measure, or several"),
        (pd.DataFrame({"text": [TEXT]}), {}, r"text is +text 0 .*; allowed: a text"),
        (TEXT, {"dtype": "float32"}, "dtype is 'float32'; allowed with a loaded model: auto"),
        (text_of(1025, 0), {}, "has, in tokens, 1025 .*: the model has 1024 positions"),
    ],
)
def test_mistakes_are_one_error(text, more, told):
    """What, the value, what is allowed, on one line each; a ValueError too."""
    with pytest.raises(UsageError, match=told) as caught:
        score(text, **{"tokenizer": WITH_BOS, **more})
    assert str(caught.value).count("\n") == str(caught.value).startswith("score has 1 mistake")
    assert isinstance(caught.value, ValueError)


def test_reach_is_any_whole_number():
    """As numpy counts."""
    assert len(score(TEXT, reach=np.int64(8))) == 8


def test_what_is_no_model_is_refused():
    """Also one that would still drop out at random, and an encoder that sees what follows."""
    both = BartForConditionalGeneration(
        BartConfig(vocab_size=96, d_model=32, encoder_layers=1, decoder_layers=1)
    )
    with pytest.raises(UsageError, match="Generation, an encoder and a decoder; allowed: a causal"):
        probe.score(TEXT, model=both.eval(), tokenizer=WITH_BOS)
    seeing = ViTModel(ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4))
    with pytest.raises(UsageError, match="ViTModel, which reads no text; allowed: a causal"):
        probe.score(TEXT, model=seeing.eval(), tokenizer=WITH_BOS)
    with pytest.raises(UsageError, match="model is of type Linear; allowed"):
        probe.score(TEXT, model=torch.nn.Linear(2, 2))  # type: ignore[arg-type]
    training = tiny("llama").train()
    with pytest.raises(UsageError, match="training mode; allowed"):
        probe.score(TEXT, model=training, tokenizer=WITH_BOS)


def test_losses_that_are_no_number_are_refused():
    """They are never a row."""
    broken = tiny("llama")
    with torch.no_grad():
        broken.lm_head.weight[5] = float("nan")
    with pytest.raises(ProbeError, match=r"losses are not finite.*; the model in a wider dtype"):
        probe.score(TEXT, model=broken, tokenizer=WITH_BOS)


@pytest.mark.parametrize(
    ("outcome", "warned"),
    [
        (Outcome("length", False, reason="a loss goes by it"), ["length: a loss goes by it"]),
        (Outcome("packing", False, reason="its losses differ"), []),
    ],
)
def test_what_limits_the_numbers_is_a_warning(monkeypatch, outcome, warned):
    """A technique that is switched off costs time alone, and nobody needs to know."""
    report, plain = Report((*tiny_report("llama").outcomes[:1], outcome)), score()
    monkeypatch.setattr("probe.api.score.check_model", lambda *_: report)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = score()
    assert [str(one.message) for one in caught] == warned
    np.testing.assert_allclose(frame["nll"], plain["nll"], atol=2e-5)


def test_a_masked_model_is_refused(tmp_path: Path) -> None:
    """Its tokens see what follows: its losses would be of another kind. By name and loaded."""
    model = tiny_masked("bert")
    model.save_pretrained(tmp_path / "bert")
    with pytest.raises(UsageError, match="a masked language model; allowed: a causal one"):
        probe.score(random_ids(40), model=tmp_path / "bert")
    with pytest.raises(UsageError, match="BertForMaskedLM, a masked language model; allowed"):
        probe.score(random_ids(40), model=model)
