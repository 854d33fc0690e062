"""`probe check`: whether branching is exact on a model, or one line."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from command_line import good, last_line, mistake, probe
from models import tiny, tiny_masked
from tiny_run import model_folders, no_network  # noqa: F401 (fixtures)


@pytest.mark.slow
def test_check(models: Mapping[bool, Path], tmp_path: Path) -> None:
    """Status 0 where branching is exact, 1 where every branch is forwarded whole."""
    arguments = ("--length", 96, "--dtype", "float32", "--device", "cpu")
    text = good(probe("check", models[True], *arguments))
    assert text.startswith("tiny (LlamaForCausalLM, float32, 96 tokens)\n  ")
    tiny("mamba").save_pretrained(tmp_path / "recurrent")
    result = probe("check", tmp_path / "recurrent", *arguments)
    assert result.stdout.startswith("recurrent (MambaForCausalLM, float32, 96 tokens)\n  ")
    assert last_line(result, 1).startswith("branching is not exact on this model")


def test_no_model_to_check(tmp_path: Path) -> None:
    """``probe check`` of a model that is not there: one line, status 2."""
    assert "nobody/no-such-model" in mistake(probe("check", "nobody/no-such-model"), 2)
    assert "no config.json" in mistake(probe("check", tmp_path), 2)


def test_a_model_of_one_position(tmp_path: Path) -> None:
    """Too few to try anything on: one line, status 2."""
    tiny("llama", max_position_embeddings=1).save_pretrained(tmp_path)
    line = mistake(probe("check", tmp_path, "--device", "cpu"), 2)
    assert "has 1 positions; allowed: 8 or more" in line


def test_unknown_attention(models: Mapping[bool, Path]) -> None:
    """An attention that transformers does not know is told with the model: status 2."""
    line = mistake(probe("check", models[True], "--attention", "abacus", "--device", "cpu"), 2)
    assert line.startswith(f"model.path '{models[True]}' cannot be loaded: ")
    assert "abacus" in line


def test_a_masked_model(tmp_path: Path) -> None:
    """It is tried on what it uses: rows of a batch, and its head, on all that it sees."""
    tiny_masked("bert").save_pretrained(tmp_path / "bert")
    text = good(probe("check", tmp_path / "bert", "--length", 400))
    assert re.findall(r"^  (\w+): exact", text, re.MULTILINE) == ["rows", "head"]
