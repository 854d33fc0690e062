"""What a run would take elsewhere: against FLOPs that torch counts of a real forward."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command_line import probe
from models import tiny
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    configured,
    model_folders,
    no_network,
    text_folder,
)
from torch.utils.flop_counter import FlopCounterMode

from probe.cluster.hardware import Hardware, parse_hardware, project
from probe.errors import UsageError
from probe.runs.experiment import prepare
from probe.runs.plan import costs


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("8x H100", Hardware(8, "H100", 989e12)),
        ("h200", Hardware(1, "H200", 989e12)),
        (" 2 × 400", Hardware(2, "400 TFLOP/s", 4e14)),
    ],
)
def test_hardware(text: str, found: Hardware) -> None:
    assert parse_hardware(text) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8x H10", "unknown chip 'H10'; did you mean 'H100'"),
        ("0x H100", "is not understood"),
        ("8 boxes of H100", "is not understood"),
        ("8x 0", "unknown chip '0'"),
    ],
)
def test_no_hardware(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_hardware(text)


def test_flops_are_those_of_a_forward(base: dict[str, Any]) -> None:
    """Of whole windows: torch counts every pair of query and key, of which half are seen."""
    config = configured(base, conditions=["noise(windows=1)"], batch=1)
    experiment = prepare(config)
    cost = costs(experiment, 1, set())
    found = project(experiment, cost, Hardware(1, "chip", 1e12, 0.5))
    model, length = tiny("llama", num_hidden_layers=2), 64
    assert found.parameters == sum(weight.numel() for weight in model.parameters())
    model.set_attn_implementation("eager")  # as products of matrices, which are counted
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.model(input_ids=torch.zeros(1, length, dtype=torch.long))
    counted = {str(name): flops for name, flops in counter.get_flop_counts()["Global"].items()}
    body, attention = (one / cost.tokens * length for one in (found.body, found.attention))
    assert body == pytest.approx(counted["aten.mm"], rel=0.02)  # norms are parameters, too
    assert attention == pytest.approx(counted["aten.bmm"] * (length + 1) / (2 * length), rel=0.02)
    targets = sum(sum(octaves.values()) for octaves in cost.targets.values())
    text = model.config
    assert found.parts == len(experiment.windows)  # fewer than are merged
    assert found.head == 2 * targets * text.hidden_size * text.vocab_size
    assert found.chip_hours == found.flops / 5e11 / 3600
    sides = text.num_key_value_heads * text.head_dim * 2
    assert found.cache == text.num_hidden_layers * length * sides * 2


def test_command(base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(base), encoding="utf-8")
    told = probe("plan", "tiny.yaml", "--hardware", "8x H100", "--mfu", "0.5")
    assert told.exit_code == 0
    assert "On 8 × H100 at 50 % of 989 TFLOP/s: " in told.stdout
    values = probe("plan", "tiny.yaml", "--hardware", "8x H100", "--json")
    found = json.loads(values.stdout)["hardware"]
    assert (found["count"], found["mfu"]) == (8, 0.4)
    for options, words in [
        (["--mfu", "0.5"], "--mfu: allowed with --hardware"),
        (["--hardware", "8x H100", "--mfu", "40"], "mfu is 40; allowed: above 0, at most 1"),
    ]:
        refused = probe("plan", "tiny.yaml", *options)
        assert (refused.exit_code, words in refused.stderr) == (2, True)
