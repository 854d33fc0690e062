"""Attention patterns as conditions of a whole run, against forwards of the model under its mask."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from models import tiny
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    configured,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
    windows,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from probe.analysis.open_run import open_run
from probe.errors import UsageError
from probe.findings.patterns.tradeoff import tradeoff
from probe.runs.run import run

LENGTH, REACH = 64, 32
PATTERNS = ("attend(local(w=8, sinks=1))", "attend(blocks(size=16, sinks=2))")
WIDE = "attend(local(w=100, sinks=1))"
PRESSED = ("attend(pool(k=4))", "attend(pool(k=64))")
CHANGES = {
    "name": "attend",
    "protocol": {"kind": "sweep", "reach": REACH},
    "conditions": ["truncate", *PATTERNS, WIDE, "attend(pool(k=4))", "attend(pool(k=64))"],
    "measures": ["nll", "kl"],
}


@pytest.fixture(scope="module", name="folder")
def run_folder(base, tmp_path_factory):
    return score(base, tmp_path_factory.mktemp("attend"), **CHANGES)


def seen(condition: str, tokens: int) -> np.ndarray:
    """Which keys per query sees, one by one, as the paper's text says."""
    mask = np.zeros((tokens, tokens), dtype=bool)
    for query in range(tokens):
        for key in range(query + 1):
            if condition == PATTERNS[0]:
                mask[query, key] = query - key < 8 or key < 1
            else:
                mask[query, key] = query // 16 == key // 16 or key < 2
    return mask


@torch.inference_mode()
def masked_losses(model, ids, mask):
    """Losses of all targets by one forward of the model under a mask of its own."""
    allowed = torch.from_numpy(mask)[None, None]
    logits = model(torch.tensor([ids]), attention_mask=allowed, use_cache=False).logits[0]
    logp = torch.log_softmax(logits.double(), dim=-1)
    return -logp[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()


@pytest.mark.slow
def test_rows_are_those_of_a_forward_under_the_mask(folder, base):
    """One row a target of the intact pass, without a distance, its loss that of a masked model."""
    model = AutoModelForCausalLM.from_pretrained(base["model"]["path"]).eval()
    bos = json.loads((folder / "run.json").read_text())["model"]["bos"]
    found = scores(folder)
    for pattern in PATTERNS:
        own = found[found["condition"] == pattern]
        assert (own[["far_start", "boundary", "distance"]] == -1).all(axis=None)
        intact = found[found["condition"] == "intact"]
        assert len(own) == len(intact)
        assert (own["nll"] != own["nll_intact"]).mean() > 0.9
        assert (own["kl"] > 0).mean() > 0.9
        for (document, number), window in windows(folder).items():
            ids = [bos, *window["token_ids"]]
            losses = masked_losses(model, ids, seen(pattern, len(ids)))
            rows = own[(own["document"] == document) & (own["window"] == number)]
            expected = losses[rows["position"] - window["start"]]
            np.testing.assert_allclose(rows["nll"], expected, atol=2e-5)


def test_a_pattern_that_hides_nothing_is_the_intact_text(folder):
    """A window as long as the text, and as many segments as far tokens, change no loss."""
    found = scores(folder)
    for condition in (WIDE, "attend(pool(k=64))"):
        own = found[found["condition"] == condition]
        assert len(own)
        np.testing.assert_allclose(own["nll"], own["nll_intact"], atol=1e-5)


def test_compressed_far_text_has_a_boundary_and_a_distance(folder):
    """Far and near are told apart: the rows stand where those of truncated text do."""
    found = scores(folder)
    own = found[found["condition"] == "attend(pool(k=4))"]
    assert (own["distance"] == own["position"] - own["boundary"]).all()
    places = ["document", "window", "position", "boundary"]
    truncated = found[found["condition"] == "truncate"]
    assert len(pd.merge(own, truncated, on=places)) == len(own) > 0
    assert (own["nll"] != own["nll_intact"]).mean() > 0.9


@pytest.mark.parametrize("kind", ["band", "longppl"])
def test_other_protocols_refuse_patterns(base, kind):
    """What has no far text to change in this protocol is refused before anything is loaded."""
    protocol = {"band": {"kind": "band", "edges": [0, 8]}, "longppl": {"kind": "longppl"}}[kind]
    with pytest.raises(UsageError, match="allowed with protocol"):
        configured(base, protocol=protocol, conditions=["truncate", PATTERNS[0]])


def losses_by_place(folder, condition):
    """Losses of a condition by document, window, position and boundary."""
    found = scores(folder)
    own = found[found["condition"] == condition]
    return own.set_index(["document", "window", "position", "boundary"])["nll"].sort_index()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["none", "keep"])
def test_hide_and_truncate_differ_by_positions_alone(base, tmp_path, mode):
    """Rotary positions tell distances: near text alone loses the same wherever it stands.

    With a kept first token the two differ, by how far it stands from the near text.
    """
    folder = score(base, tmp_path, conditions=["truncate", "hide"], first_token=mode)
    cut, hidden = (losses_by_place(folder, name) for name in ("truncate", "hide"))
    assert len(cut) == len(hidden) > 0
    assert cut.index.equals(hidden.index)
    apart = np.abs(cut.to_numpy() - hidden.to_numpy()).max()
    assert apart < 1e-5 if mode == "none" else apart > 1e-3


@pytest.mark.slow
def test_a_window_of_attention_carries_more_than_text_cut_off_there(base, tmp_path):
    """At equal length both see the same nearest tokens in one layer; two layers carry more over.

    With one layer nothing is carried: a target under local(w) has the loss of text cut off there.
    """
    grid = {"kind": "grid", "distances": [8], "targets": {"count": 1, "end_offset": 0}}
    folder = score(
        base,
        tmp_path,
        conditions=["truncate", "attend(local(8, sinks=0))"],
        protocol=grid,
        first_token="none",
    )
    cut = losses_by_place(folder, "truncate").droplevel("boundary")
    local = losses_by_place(folder, "attend(local(w=8, sinks=0))").droplevel("boundary")
    assert cut.index.equals(local.index)
    assert np.abs(cut.to_numpy() - local.to_numpy()).max() > 1e-4
    single = {**base, "model": {**base["model"], "path": one_layer(base, tmp_path)}}
    folder = score(
        single,
        tmp_path / "one",
        conditions=["truncate", "attend(local(8, sinks=0))"],
        protocol=grid,
        first_token="none",
    )
    cut = losses_by_place(folder, "truncate").droplevel("boundary")
    local = losses_by_place(folder, "attend(local(w=8, sinks=0))").droplevel("boundary")
    np.testing.assert_allclose(local.to_numpy(), cut.to_numpy(), atol=1e-5)


def one_layer(base, folder):
    """A model of one layer, with the tokenizer of the other."""
    path = folder / "one-layer"
    tiny("llama", num_hidden_layers=1).save_pretrained(path)
    AutoTokenizer.from_pretrained(base["model"]["path"]).save_pretrained(path)
    return str(path)


def test_a_model_that_does_not_heed_patterns_is_refused(base, tmp_path):
    """Bloom takes any attention and goes on as before: refused by name before a row is written."""
    path = tmp_path / "bloom"
    tiny("bloom").save_pretrained(path)
    AutoTokenizer.from_pretrained(base["model"]["path"]).save_pretrained(path)
    model = {**base["model"], "path": str(path)}
    with pytest.raises(UsageError, match="cannot be put on BloomForCausalLM"):
        score({**base, "model": model}, tmp_path, conditions=[PATTERNS[0]])
    assert not list(tmp_path.glob("*/scores/*.parquet"))


def test_the_record_tells_what_patterns_cost(folder):
    """Keys and shares by formula; the first target from which on a pattern hides a key."""
    costs = json.loads((folder / "run.json").read_text())["attention"]
    local, wide = costs[PATTERNS[0]], costs[WIDE]
    assert local["keys"] == 9  # eight and the sink
    assert local["full"] == LENGTH  # of the last target's query: the last token is no query
    assert local["kv_share"] == pytest.approx(9 / (LENGTH + 1))
    assert local["first"] == 9  # the BOS is the sink: its query sees itself and 8 tokens before
    assert wide["first"] is None
    assert (wide["kv_share"], wide["flops_share"]) == (1, 1)
    assert 0 < costs["attend(pool(k=4))"]["kv_share"] < 1


@pytest.mark.slow
def test_the_answer_and_the_table(folder):
    """A run with text perturbed and attention limited has both answers."""
    with open_run(folder, write=False) as opened:
        table, contexts = opened.once(tradeoff).set_index("condition"), opened.contexts
    assert set(table.index) == {*PATTERNS, WIDE, *PRESSED, "truncate"}
    rows = scores(folder)
    for name in (WIDE, PRESSED[1]):
        assert abs(table.loc[name, "delta"]) < 1e-6
        assert table.loc[name, "idle"]
    # On the same targets: those behind the boundary of the longest near text.
    starts = pd.read_parquet(folder / "windows.parquet")[["document", "window", "start"]]
    rows = rows.merge(starts.astype({"document": rows["document"].dtype}))
    place = rows["position"] - rows["start"]
    boundary = LENGTH - REACH
    for name in (*PATTERNS, PRESSED[0], "truncate"):
        kept = (rows["condition"] == name) & (place >= boundary + 1)
        kept &= (rows["boundary"] < 0) | (rows["boundary"] - rows["start"] == boundary)
        own = rows[kept]
        delta = (own["nll"].astype(float) - own["nll_intact"]).mean()
        assert table.loc[name, "targets"] == len(own) > 0
        assert table.loc[name, "delta"] == pytest.approx(delta)
    assert {context.condition for context in contexts} == {
        "truncate"
    }  # a pattern is no context that is cut off
    assert table.loc["truncate", "keys"] == REACH  # BOS and near text; the last token is no query
    assert table.loc["truncate", "kv_share"] == pytest.approx((1 + REACH) / (1 + LENGTH))
    assert not table.loc[[WIDE, PRESSED[1]], "frontier"].any()


@pytest.mark.slow
def test_a_run_with_block_masks(base, tmp_path, monkeypatch):
    """Equal losses, the time of a forward beside the formulas, and a folder of its own kind."""
    monkeypatch.setattr("probe.attention.hook.flex_attention_forward", eager_blocks)
    content = {"conditions": [PATTERNS[0], "attend(gaussian)"]}
    dense = score(base, tmp_path / "dense", **content)
    said: list[str] = []
    flex = run(configured(base, patterns="flex", **content), tmp_path / "flex", say=said.append)
    both = [scores(folder) for folder in (dense, flex)]
    np.testing.assert_allclose(both[0]["nll"], both[1]["nll"], atol=1e-4)
    costs = json.loads((flex / "run.json").read_text())["attention"]
    assert costs[PATTERNS[0]]["forward_share"] > 0
    assert "seconds" not in costs["attend(gaussian)"]
    assert any("a block mask serves all heads alike" in line for line in said)
    with open_run(flex, write=False) as opened:
        table = opened.once(tradeoff).set_index("condition")
    assert np.isfinite(table.loc[PATTERNS[0], "forward_share"])
    with pytest.raises(UsageError, match="patterns was 'dense', is 'flex'"):
        run(configured(base, patterns="flex", **content), tmp_path / "dense")


def eager_blocks(module, query, key, value, mask, scaling=None, **_):
    """What flex_attention computes, from the rule that its block mask holds."""
    index = torch.arange(query.shape[2]), torch.arange(key.shape[2])
    seen = mask.mask_mod(torch.tensor(0), torch.tensor(0), index[0][:, None], index[1][None])
    shared = query.shape[1] // key.shape[1]
    output = torch.nn.functional.scaled_dot_product_attention(
        query,
        key.repeat_interleave(shared, dim=1),
        value.repeat_interleave(shared, dim=1),
        attn_mask=seen,
        scale=scaling,
    )
    return output.transpose(1, 2), None


@pytest.mark.parametrize("found", [None, [], {PATTERNS[0]: None}, {PATTERNS[0]: "x"}])
def test_a_damaged_record_is_refused(base, tmp_path, found):
    """What is no table of costs is told in a line, and nothing is scored into the folder."""
    folder = score(base, tmp_path, conditions=[PATTERNS[0]])
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"attention": found}))
    with pytest.raises(UsageError, match="lacks attention, or holds something else there"):
        score(base, tmp_path, conditions=list(PATTERNS))
