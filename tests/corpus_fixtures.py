"""What the tests of documents and windows share: a byte-level tokenizer, and no network."""

import functools
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|end|>"


@functools.cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and ``END_OF_TEXT``; shorter contexts than any document."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={sign: index for index, sign in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, model_max_length=4
    )


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep datasets off the network, and its cache out of the user's."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of text files, which is also the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "books"
    (folder / "more [1]").mkdir(parents=True)
    (folder / "emma.txt").write_bytes(b"Emma Woodhouse,\r\nhandsome, clever, and rich")
    (folder / "blank.txt").write_bytes(b"")
    (folder / "persuasion.txt").write_bytes("Sir Walter — a café".encode())
    (folder / "more [1]" / "emma.txt").write_bytes(b"with a comfortable home")
    (folder / "more [1]" / "sand[2].txt").write_bytes(b"A gentleman and a lady")
    return folder
