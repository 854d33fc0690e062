"""Weights over devices, quantised, with an adapter: the engine is exact on what was loaded."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import tiny
from pandas.testing import assert_frame_equal
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    character_tokenizer,
    configured,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
)
from transformers import AutoModelForCausalLM

from probe.errors import ProbeError, UsageError
from probe.models.causal import CausalModel
from probe.runs.run import run

pytest.importorskip("accelerate")
OVER = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "disk",
}
CONDITIONS = ["truncate", "shuffle", "attend(local(8))", "hide"]
NOISE = (
    "ignore::UserWarning:torch.*",
    "ignore::FutureWarning",
    "ignore::DeprecationWarning",
)


def with_model(base: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
    return changed(base, model={**base["model"], **settings}, conditions=CONDITIONS)


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("device_map", [OVER, "auto"], ids=["disk", "auto"])
def test_over_devices(device_map: Any, base: dict[str, Any], tmp_path: Path) -> None:
    """Layers on the disk: hooks, masks, caches and the head follow; the rows are those of one."""
    whole = scores(score(with_model(base), tmp_path / "whole"))
    folder = score(with_model(base, device_map=device_map), tmp_path / "spread")
    assert_frame_equal(scores(folder), whole, rtol=0, atol=1e-5)
    assert all(outcome["passed"] for outcome in record(folder)["check"])
    # Where weights lie is no other run: it goes on with all on one device.
    assert score(with_model(base), tmp_path / "spread") == folder


@pytest.mark.slow
def test_a_head_on_the_disk_in_bfloat16(base: dict[str, Any], tmp_path: Path) -> None:
    """Its logits are rounded then, as its weights are fetched as they are needed."""
    plain = {"conditions": ["truncate", "shuffle"]}
    narrow = with_model(base, dtype="bfloat16") | plain
    whole = scores(score(narrow, tmp_path / "whole"))
    spread = with_model(base, dtype="bfloat16", device_map=OVER) | plain
    found = scores(score(spread, tmp_path / "spread"))
    assert np.abs(found["nll"] - whole["nll"]).max() < 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_over_a_second_device(base: dict[str, Any], tmp_path: Path) -> None:
    device_map = OVER | {"model.layers.1": 0, "model.norm": 0, "lm_head": 0}
    whole = scores(score(with_model(base), tmp_path / "whole"))
    folder = score(with_model(base, device_map=device_map), tmp_path / "spread")
    assert_frame_equal(scores(folder), whole, rtol=0, atol=1e-3)


@pytest.mark.filterwarnings(*NOISE)
@pytest.mark.parametrize("name", ["torchao-int8", "bitsandbytes-4bit"])
def test_quantised(name: str, base: dict[str, Any], tmp_path: Path) -> None:
    """Other losses than of whole weights, every technique exact or switched off; another run."""
    pytest.importorskip(name.partition("-")[0])
    path = str(tmp_path / "wide")  # blocks of 64 weights share a scale
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    tiny("llama", num_hidden_layers=2, head_dim=16, **sizes).save_pretrained(path)
    character_tokenizer(True).save_pretrained(path)
    base = changed(base, model={**base["model"], "path": path})
    conditions = {"conditions": ["truncate"]}
    whole = scores(score(with_model(base) | conditions, tmp_path / "whole"))
    folder = score(with_model(base, quantization=name) | conditions, tmp_path / "few")
    found = scores(folder)
    assert len(found) == len(whole)
    apart = np.abs(found["nll"] - whole["nll"])
    assert 1e-4 < apart.max() < 10
    assert record(folder)["identity"]["quantization"] == name
    with pytest.raises(UsageError, match=f"quantization was '{name}', is None"):
        score(with_model(base) | conditions, tmp_path / "few")


@pytest.mark.slow
@pytest.mark.filterwarnings(*NOISE)
def test_an_adapter(base: dict[str, Any], tmp_path: Path) -> None:
    """The model with the adapter, as PEFT itself puts it on; other weights there, another run."""
    peft = pytest.importorskip("peft")

    def lora() -> Any:
        names = ["q_proj", "up_proj"]
        return peft.LoraConfig(r=4, target_modules=names, init_lora_weights=False)

    torch.manual_seed(0)
    put_on = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(base["model"]["path"]), lora()
    )
    put_on.save_pretrained(tmp_path / "adapter")
    merged = CausalModel(put_on.merge_and_unload().eval())
    plain = scores(run(configured(with_model(base)), tmp_path / "merged", model=merged))
    own = with_model(base, adapter=str(tmp_path / "adapter"))
    folder = score(own, tmp_path / "own")
    assert_frame_equal(scores(folder), plain, rtol=0, atol=1e-4)
    without = scores(score(with_model(base), tmp_path / "without"))
    assert np.abs(without["nll"] - plain["nll"]).max() > 1e-2
    deeper = tiny("llama", num_hidden_layers=3)
    deeper.save_pretrained(tmp_path / "deeper")
    other = AutoModelForCausalLM.from_pretrained(tmp_path / "deeper")
    peft.get_peft_model(other, lora()).save_pretrained(tmp_path / "other")
    with pytest.raises(UsageError, match=r"weights? unexpected, .*layers\.2.* first"):
        score(with_model(base, adapter=str(tmp_path / "other")), tmp_path / "deep")
    torch.manual_seed(1)
    shutil.rmtree(tmp_path / "adapter")
    again = AutoModelForCausalLM.from_pretrained(base["model"]["path"])
    peft.get_peft_model(again, lora()).save_pretrained(tmp_path / "adapter")
    with pytest.raises(UsageError, match="adapter was '"):
        score(own, tmp_path / "own")


def test_what_cannot_be(base: dict[str, Any], tmp_path: Path) -> None:
    for settings, words in [
        ({"quantization": "3bit"}, "model.quantization"),
        ({"device_map": "everywhere"}, "model.device_map"),
    ]:
        with pytest.raises(UsageError, match=words):
            configured(with_model(base, **settings))
    with pytest.raises(UsageError, match=r"model\.adapter '.*none': "):
        score(with_model(base, adapter=str(tmp_path / "none")), tmp_path)
    with pytest.raises(ProbeError, match=r"7|CUDA|accelerator"):
        score(with_model(base, device_map={"": 7}), tmp_path / "map")
