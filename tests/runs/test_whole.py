"""From text to answer on models whose effective context is known beforehand."""

import json

import pytest
import torch
from open_runs import answer, opened
from planted import FREE, CopyRule, NGramRule, planted, sliding, written_by
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    configured,
    model_folders,
    no_network,
    text_folder,
)

from probe.findings.reading import reading
from probe.models.causal import CausalModel
from probe.runs.run import run

VOCABULARY = 96
LENGTH, REACH = 192, 96
BOTH = ("truncate", "replace(source='document')")


@pytest.fixture
def measure(tmp_path, base, monkeypatch):
    """A run of a planted model on texts that its rule has written, opened."""

    def measured(model, rule, documents=12, **changes):
        rows = [
            {"ids": written_by(rule, 2 * LENGTH + 20, seed=seed).tolist()}
            for seed in range(documents)
        ]
        data = tmp_path / f"texts-{rule.reads}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        settled = configured(
            base,
            data={"path": "json", "data_files": str(data), "ids_column": "ids"},
            windows={"length": LENGTH, "per_document": 2},
            protocol=changes.pop("protocol", {"kind": "sweep", "reach": REACH}),
            **changes,
        )
        monkeypatch.setattr("probe.runs.loaded.load_model", lambda *_, **__: CausalModel(model))
        return opened(run(settled, tmp_path / "results"))

    return measured


def assert_found(found, condition, truth):
    """The answer at 1 % is the bin of the truth, and its interval contains it."""
    context = found.context(condition, "1%")
    assert context.kind == "length", context
    assert context.lower <= truth <= context.upper
    edges = found.curve[found.curve["condition"] == condition]
    here = edges[(edges["distance_from"] <= truth) & (truth < edges["distance_to"])].iloc[0]
    assert here["distance_from"] <= context.value <= here["distance_to"]


@pytest.mark.slow
@pytest.mark.parametrize("back", [3, 6, 13, 21, 32])
def test_a_model_that_copies_from_k_back_uses_k_tokens(measure, back):
    """Delta is above 0 at distances 0 … k − 1 and exactly 0 from k on; truncate and replace agree.

    A whole shuffle is only measured by the long run, from R/8 = 12 on.
    """
    rule = CopyRule(back, VOCABULARY)
    conditions = ["noise", *BOTH, *(["shuffle"] if back > 13 else [])]
    found = measure(planted(rule), rule, conditions=conditions)
    for condition in BOTH:
        assert_found(found, condition, back)
        curve = found.curve[found.curve["condition"] == condition]
        assert (curve[curve["distance_from"] >= back]["delta"].abs() <= 1e-5).all()
        assert (curve[curve["distance_to"] <= back]["delta"] > 0.1).all()
    if back > 13:
        assert_found(found, "shuffle", back)
    assert f": {found.context('truncate', '1%').value} tokens under truncate" in answer(found)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5])
def test_an_n_gram_model_uses_n_minus_1_tokens(measure, n):
    """What stands further back than n − 1 tokens changes nothing."""
    rule = NGramRule(n, VOCABULARY)
    found = measure(planted(rule), rule, conditions=["noise", "truncate"])
    assert_found(found, "truncate", n - 1)


@pytest.mark.slow
@pytest.mark.parametrize(("window", "layers"), [(6, 2), (9, 3)])
def test_a_sliding_window_model_reads_no_further_than_its_layers_carry(measure, window, layers):
    """From L(w − 1) + 1 on nothing differs: the answer and its upper limit stay below."""
    model = sliding(window, layers, VOCABULARY)
    found = measure(model, CopyRule(8, VOCABULARY), conditions=["noise", "truncate"])
    truth = layers * (window - 1) + 1
    curve = found.curve[found.curve["condition"] == "truncate"]
    assert (curve[curve["distance_from"] >= truth]["delta"].abs() <= 1e-5).all()
    assert (curve[curve["distance_to"] <= truth]["delta"].abs() > 1e-5).any()


@pytest.mark.slow
def test_a_sweep_and_a_grid_agree_within_their_intervals(measure):
    """Both measure the same curve where both measure: the bands overlap bin by bin."""
    rule, conditions = CopyRule(20, VOCABULARY), ["noise", *BOTH]
    swept = measure(planted(rule), rule, conditions=conditions)
    grid = {"kind": "grid", "distances": [4, 8, 16, 32, 64], "targets": {"end_offset": 4}}
    gridded = measure(planted(rule), rule, name="grid", protocol=grid, conditions=conditions)
    assert_found(swept, "truncate", 20)
    for condition in BOTH:
        both = swept.curve.merge(
            gridded.curve, on=["condition", "distance_from"], suffixes=("", "_grid")
        )
        both = both[both["condition"] == condition]
        assert len(both) > 10
        apart = (both["low"] > both["high_grid"] + 1e-6) | (both["low_grid"] > both["high"] + 1e-6)
        assert apart.mean() <= 0.1, both[apart]
    found = gridded.context("truncate", "1%")
    assert found.lower <= 20 <= found.upper


@pytest.mark.slow
def test_an_a_a_run_finds_no_effect(measure):
    """The intact text down another path: no length, no share of it."""
    rule = CopyRule(20, VOCABULARY)
    found = measure(planted(rule), rule, conditions=["noise", "shuffle(span=2)", "truncate"])
    assert found.floor is not None
    assert (found.floor.limit <= 1e-5).all()


@pytest.mark.slow
def test_kl_says_how_far_text_is_read(measure):
    """KL is above its floor up to the octave that holds the truth and 0 behind it."""
    rule = CopyRule(20, VOCABULARY)
    how = {"measures": ["nll", "kl"], "conditions": ["noise", "truncate"]}
    found = measure(planted(rule), rule, name="kl", **how)
    rows = found.once(reading)
    read = rows[rows["condition"] == "truncate"].set_index("distance_from")
    assert read["read"].to_dict() == {0: True, 8: True, 16: True, 32: False, 64: False}
    assert (read.loc[32:, "kl"].abs() <= 1e-6).all()
    assert "truncate: KL to intact is above its noise floor up to 32" in answer(found)


def test_every_token_id_of_the_planted_texts_is_ordinary():
    """The rules' texts hold no special token, so that none is mistaken for one."""
    assert (written_by(CopyRule(3, VOCABULARY), 200) >= FREE).all()
    assert torch.get_default_dtype() == torch.float32
