"""What tests of whole runs share: a tiny model on disk, its texts, a configuration, no network."""

import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from models import tiny
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from probe.config import Config, check
from probe.runs.run import run

CHECKOUT = Path(__file__).parent.parent
LENGTHS = (190, 230, 260, 310, 350, 410, 520, 700)  # characters, which are tokens
WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "then", "ran", "far", "away", "from", "home")
ALPHABET = sorted({*"".join(WORDS), *" .\nz"})  # no text holds a z, unless a test puts it there


@functools.cache
def character_tokenizer(bos: bool, *, prepends: bool = True) -> PreTrainedTokenizerFast:
    """One token a character, behind the three special ones of the tiny models.

    Args:
        bos: Whether it has a BOS.
        prepends: Whether it puts it in front of a text by itself, as Llama's does and GPT-2's not.
    """
    vocabulary = {sign: number for number, sign in enumerate(["<s>", "</s>", "<pad>", *ALPHABET])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    special = {"bos_token": "<s>"} if bos else {}
    if bos and prepends:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", **special
    )


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word with the space before it, behind the three special ones."""
    pieces = ["<s>", "</s>", "<pad>", " ", ".\n", *WORDS, *(f" {word}" for word in WORDS)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[a-z]+|\.\n| "), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def text_of(characters: int, seed: int) -> str:
    """Words in seeded order, cut to a length."""
    rng = np.random.default_rng(seed)
    words = [WORDS[number] for number in rng.integers(len(WORDS), size=characters)]
    ends = [" " if number else ".\n" for number in rng.integers(9, size=characters)]
    return "".join(map("".join, zip(words, ends, strict=True)))[:characters]


def write_texts(folder: Path) -> Path:
    """Eight documents of ``LENGTHS``, one too short for a window and one empty."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, length in enumerate(LENGTHS):
        (folder / f"{number}.txt").write_text(text_of(length, number), encoding="utf-8")
    (folder / "short.txt").write_text(text_of(40, 40), encoding="utf-8")
    (folder / "empty.txt").touch()
    return folder


def environment(folder: Path) -> dict[str, str]:
    """The environment of a process that stays off the network and out of the user's caches."""
    return {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | {
        "HF_HOME": str(folder / "hub"),
        "HF_DATASETS_CACHE": str(folder / "datasets"),
        "HF_HUB_OFFLINE": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests")]),
    }


@pytest.fixture(scope="session", autouse=True)
def no_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the hub's libraries off the network, and their caches out of the user's."""
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "datasets")
        patch.setattr("datasets.config.HF_HUB_OFFLINE", True)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


@pytest.fixture(scope="session", name="models")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[bool, Path]:
    """A tiny Llama with a tokenizer that has a BOS (True), and with one that has none (False)."""
    folders = {}
    for bos in (True, False):
        folders[bos] = tmp_path_factory.mktemp("models") / ("tiny" if bos else "tiny-without-bos")
        tiny("llama", num_hidden_layers=2).save_pretrained(folders[bos])
        character_tokenizer(bos).save_pretrained(folders[bos])
    return folders


@pytest.fixture(scope="session", name="texts")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``write_texts``; tests only read it."""
    return write_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="session", name="base")
def base_configuration(models: Mapping[bool, Path], texts: Path) -> dict[str, Any]:
    """A configuration as a YAML file holds it; tests change a copy."""
    return {
        "name": "tiny",
        "model": {"path": str(models[True]), "dtype": "float32", "device": "cpu"},
        "data": {"path": "text", "data_files": f"{texts}/*.txt"},
        "windows": {"length": 64, "per_document": 1},
        "protocol": {"kind": "sweep", "reach": 32, "runs": {1: 1, 4: 2}},
        "conditions": ["noise", "truncate", "shuffle", "replace(source='document')"],
        "batch": 2,
        "analysis": {"resamples": 100},
    }


def changed(content: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy with other values; a mapping changes the keys that it names (``data__split=…``)."""
    copy = {key: dict(v) if isinstance(v, Mapping) else v for key, v in content.items()}
    for key, value in changes.items():
        part, _, inner = key.partition("__")
        if inner:
            copy.setdefault(part, {})[inner] = value
        else:
            copy[part] = value
    return copy


def configured(content: Mapping[str, Any], **changes: Any) -> Config:
    """The configuration that ``changed`` gives."""
    return check(changed(content, **changes))


def score(content: Mapping[str, Any], results: Path, **changes: Any) -> Path:
    """Run the configuration that ``changed`` gives; return the run folder."""
    return run(configured(content, **changes), results)


def scores(folder: Path) -> pd.DataFrame:
    """All rows of a run, in one order."""
    parts = [pq.read_table(part).to_pandas() for part in sorted(folder.glob("scores/*.parquet"))]
    frame = pd.concat([part.astype({"document": str, "condition": str}) for part in parts])
    order = ["document", "window", "condition", "repeat", "boundary", "position"]
    return frame.sort_values(order, ignore_index=True)


def parts(folder: Path) -> dict[str, bytes]:
    """The score parts of a run, by name."""
    return {part.name: part.read_bytes() for part in sorted(folder.glob("scores/*.parquet"))}


def windows(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The rows of windows.parquet, by document and window."""
    rows = pq.read_table(folder / "windows.parquet").to_pylist()
    return {(row["document"], row["window"]): row for row in rows}
