"""Loading: every weight comes from the checkpoint, and what transformers warns of is told."""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from models import tiny
from safetensors.torch import load_file, save_file
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    configured,
    model_folders,
    no_network,
    text_folder,
)
from transformers import (
    AutoModelForCausalLM,
    RobertaConfig,
    WhisperConfig,
    XLNetConfig,
    XLNetLMHeadModel,
)

from probe.commands.main import group
from probe.engine.selfcheck import check
from probe.errors import ProbeError, UsageError
from probe.models import load
from probe.models.causal import CausalModel
from probe.models.load import load_model, open_source
from probe.models.model_source import ModelSource
from probe.runs.run import run

Weights = dict[str, torch.Tensor]


def without_layer(weights: Weights) -> Weights:
    """A checkpoint that was saved in part."""
    return {name: weight for name, weight in weights.items() if ".layers.1." not in name}


def renamed(weights: Weights) -> Weights:
    """A checkpoint of another implementation."""
    return {name.replace("self_attn", "attention"): w for name, w in weights.items()}


def same(weights: Weights) -> Weights:
    return weights


@pytest.fixture(name="folder")
def copied_folder(models: Mapping[bool, Path], tmp_path: Path) -> Path:
    """A copy of the tiny Llama that a test may spoil."""
    return Path(shutil.copytree(models[True], tmp_path / "spoiled"))


def spoil(folder: Path, change: Callable[[Weights], Weights] = same, **config: Any) -> Path:
    """Change the weights and the configuration of a model on disk."""
    file = folder / "model.safetensors"
    save_file(change(dict(load_file(file))), file, metadata={"format": "pt"})
    written = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(written))
    return folder


def loaded(folder: Path) -> CausalModel:
    return load_model(open_source(str(folder)), dtype="float32", device="cpu")


@pytest.mark.parametrize(
    ("change", "config", "said"),
    [
        (without_layer, {}, "lacks 9 weights (model.layers.1.input_layernorm.weight, "),
        (renamed, {}, "lacks 8 weights (model.layers.0.self_attn.k_proj.weight, "),
        (same, {"num_hidden_layers": 4}, "lacks 18 weights (model.layers.2.input_layernorm"),
        (
            same,
            {"intermediate_size": 64},
            "holds 6 weights (model.layers.0.mlp.down_proj.weight, model.layers.0.mlp.gate_proj."
            "weight, model.layers.0.mlp.up_proj.weight, …) of LlamaForCausalLM in another shape "
            "(model.layers.0.mlp.down_proj.weight is (32, 48), config.json asks for (32, 64))",
        ),
    ],
)
def test_weights_that_are_not_there(
    change: Callable[[Weights], Weights], config: dict[str, Any], said: str, folder: Path
) -> None:
    """They are named with their number, and nothing is drawn in their place."""
    with pytest.raises(UsageError) as error:
        loaded(spoil(folder, change, **config))
    assert f"the checkpoint {said}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("command", ["check", "run"])
def test_nothing_is_scored_with_drawn_weights(
    command: str, folder: Path, base: dict[str, Any], tmp_path: Path
) -> None:
    """Exit status 2 and one line; no score is written."""
    spoil(folder, without_layer)
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(changed(base, model__path=str(folder))))
    given = [str(folder)] if command == "check" else [str(file), "--results", str(tmp_path / "r")]
    result = CliRunner().invoke(group, [command, *given])
    assert result.exit_code == 2
    assert "lacks 9 weights" in result.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("r/*/scores/*"))


def test_weights_left_over(folder: Path, base: dict[str, Any], tmp_path: Path) -> None:
    """They are a note: said, and kept in run.json."""
    spoil(folder, num_hidden_layers=1)
    note = (
        "the checkpoint holds 9 weights (model.layers.1.input_layernorm.weight, model.layers.1.mlp."
        "down_proj.weight, model.layers.1.mlp.gate_proj.weight, …) that LlamaForCausalLM has not"
    )
    lines: list[str] = []
    run_folder = run(configured(base, model__path=str(folder)), tmp_path, say=lines.append)
    assert note in lines
    assert json.loads((run_folder / "run.json").read_text())["model"]["warnings"] == [note]


def test_experts_that_are_not_there(tmp_path: Path) -> None:
    """What is made of several parts, one of which is missing, is named in the message itself."""
    tiny("mixtral").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.block_sparse_moe.experts.2.w1.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"1 weight \(model\.layers\.1\.mlp\.experts\.gate_up_pro"):
        loaded(tmp_path)


def test_names_of_weights_are_one_line(folder: Path) -> None:
    """A name is whatever somebody wrote into the file."""
    hostile = {"a\x1b[31m\n" + "x" * 500: torch.zeros(2)}
    (warning,) = loaded(spoil(folder, lambda weights: weights | hostile)).warnings
    assert warning.isprintable()
    assert len(warning) < 300


def test_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that lacks a weight is refused by its own name; what is warned of stays told."""
    gguf = pytest.importorskip("gguf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    names |= {"model.layers.": "blk.", "self_attn.o_proj": "attn_output", "self_attn.": "attn_"}
    names |= {"mlp.": "ffn_", "input_layernorm": "attn_norm"}
    names |= {"post_attention_layernorm": "ffn_norm", "_proj": ""}

    def write(file: Path, *without: str, more: Sequence[str] = ()) -> str:
        writer = gguf.GGUFWriter(str(file), "llama")
        writer.add_block_count(2)
        writer.add_context_length(64)
        writer.add_embedding_length(32)
        writer.add_feed_forward_length(48)
        writer.add_head_count(4)
        writer.add_head_count_kv(4)
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list([*(chr(40 + number) for number in range(95)), "()"])
        writer.add_token_merges(["( )"])
        writer.add_eos_token_id(1)
        model = tiny("llama", num_hidden_layers=2, num_key_value_heads=4)
        for name, weight in model.state_dict().items():
            for ours, theirs in names.items():
                name = name.replace(ours, theirs)
            if name not in without:
                writer.add_tensor(name, weight.numpy())
        for name in more:
            writer.add_tensor(name, np.ones(4, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return str(file)

    def noted(path: str, **given: Any) -> tuple[Any, list[str]]:
        return own(path, **given)[0], [f"a note on {given.get('gguf_file')}"]

    own = load._weights
    whole = write(tmp_path / "whole.gguf")
    with monkeypatch.context() as patch:
        patch.setattr(load, "_weights", noted)
        open_source(whole)
    assert load_model(open_source(whole), device="cpu").warnings == ("a note on whole.gguf",)
    more = write(tmp_path / "more.gguf", more=("blk.0.attn_sinks.weight", "rope_freqs.weight"))
    (line,) = load_model(open_source(more), device="cpu").warnings
    assert line == (
        "the checkpoint holds 1 weight (blk.0.attn_sinks.weight) that LlamaForCausalLM has not"
    )
    lacking = write(tmp_path / "lacking.gguf", "blk.1.ffn_up.weight")
    with pytest.raises(UsageError, match=r"lacking\.gguf': the checkpoint lacks 1 weight \(model"):
        open_source(lacking)


def test_tied_weights(tmp_path: Path) -> None:
    """A head that is the embedding is not missing from a checkpoint."""
    tiny("llama", tie_word_embeddings=True).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert loaded(tmp_path).warnings == ()


def test_what_transformers_warns_of(folder: Path) -> None:
    """A warning while loading is told, whatever the verbosity."""
    rope = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4, "bogus": 3}
    spoil(folder, rope_parameters=rope, eos_token_id=32000)
    first, second = loaded(folder).warnings, loaded(folder).warnings
    assert [w for w in first if "bogus" in w]
    assert [w for w in first if "eos_token_id" in w]  # transformers says so once in a process
    assert all("\n" not in w for w in first)
    assert first == second
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("name", ["num_hidden_layers", "max_position_embeddings", "vocab_size"])
def test_counts_that_are_none(name: str, folder: Path) -> None:
    """They are refused by name before anything is planned with them."""
    with pytest.raises(UsageError, match=rf"config\.json gives {name} -1; allowed: 1 or more"):
        open_source(str(spoil(folder, **{name: -1})))


def test_a_reason_on_two_lines(folder: Path) -> None:
    """What transformers announces with a colon is told with what it announces."""
    with pytest.raises(ProbeError, match=r"field 'max_position_embeddings': \S") as caught:
        open_source(str(spoil(folder, max_position_embeddings=True)))
    assert "\n" not in str(caught.value)


def test_positions_behind_the_padding(tmp_path: Path) -> None:
    """RoBERTa's first position is behind the id of the padding: it has so many fewer."""
    config = RobertaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=2,
        max_position_embeddings=100,
        is_decoder=True,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    positions = open_source(str(tmp_path)).positions
    assert positions == 97
    with torch.inference_mode():
        model(input_ids=torch.full((1, positions), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, positions + 1), 5))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, 1024),
        ({"original_max_position_embeddings": 300}, 300),
        (
            {
                "rope_parameters": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "rope_theta": 1e4,
                    "original_max_position_embeddings": 256,
                }
            },
            256,
        ),
    ],
)
def test_trained_length(config: dict[str, Any], expected: int, folder: Path) -> None:
    """It is the model's positions, or their number before they were rescaled."""
    source: ModelSource = open_source(str(spoil(folder, **config)))
    assert source.trained_length == expected


def test_xlnet(tmp_path: Path) -> None:
    """Positions of −1 are no limit; what is wrong with the model is something else."""
    config = XLNetConfig(vocab_size=64, d_model=16, n_layer=1, n_head=2, initializer_range=0.5)
    XLNetLMHeadModel(config).save_pretrained(tmp_path)
    source = open_source(str(tmp_path))
    assert source.positions is None
    model = load_model(source, dtype="float32", device="cpu")
    with pytest.raises(ProbeError, match="sees what follows a token"):
        check(model, np.arange(64)).refuse_acausal(model)


def test_an_encoder_of_sound_is_refused(tmp_path: Path) -> None:
    """Before anything is loaded, where it is to read text: it reads none."""
    WhisperConfig().save_pretrained(tmp_path)
    line = "is 'whisper', an encoder–decoder that reads no text; .* speech-seq2seq: whisper"
    with pytest.raises(UsageError, match=line):
        load_model(open_source(str(tmp_path), family="seq2seq"))


def test_a_hash_tells_tokenizers_apart(models: Mapping[bool, Path], tmp_path: Path) -> None:
    """Of equal ones the same, whatever was read with them; another vocabulary has another."""
    one, other = (open_source(str(models[bos])) for bos in (True, False))
    assert one.tokenizer is not None
    one.tokenizer("the cat", padding="max_length", max_length=9, truncation=True)
    again = open_source(str(models[True]))
    assert one.tokenizer_hash == again.tokenizer_hash != other.tokenizer_hash
    assert re.fullmatch("[0-9a-f]{64}", one.tokenizer_hash or "")
    shutil.copy(models[True] / "config.json", tmp_path)
    assert open_source(str(tmp_path)).tokenizer_hash is None
