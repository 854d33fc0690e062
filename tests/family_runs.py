"""Tiny runs of families besides causal models: a configuration for each of their protocols."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from models import tiny_masked, tiny_seq2seq
from tiny_run import ALPHABET, text_of
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

DOCUMENTS = 7
CONDITIONS = ["noise", "truncate", "shuffle"]


def tokenizer(before: Sequence[str], behind: Sequence[str], **special: str) -> Any:
    """A token a character between special ones, whose ids are the first, in order of *special*."""
    names = [*special.values(), *ALPHABET]
    ids = {name: number for number, name in enumerate(names)}
    whole = Tokenizer(WordLevel(ids, unk_token=special["pad_token"]))
    whole.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    whole.decoder = decoders.Fuse()
    whole.post_processor = processors.TemplateProcessing(
        single=" ".join([*before, "$A", *behind]),
        special_tokens=[(name, ids[name]) for name in dict.fromkeys([*before, *behind])],
    )
    sentinel = special.pop("sentinel", None)
    added = {"additional_special_tokens": [sentinel]} if sentinel else {}
    return PreTrainedTokenizerFast(tokenizer_object=whole, **added, **special)


def masked_folder(folder: Path) -> Path:
    """A tiny BERT; [CLS] is 0, [SEP] 1, [MASK] 3."""
    tiny_masked("bert").save_pretrained(folder)
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    tokenizer(["[CLS]"], ["[SEP]"], **names, mask_token="[MASK]").save_pretrained(folder)
    return folder


def seq2seq_folder(folder: Path) -> Path:
    """A tiny T5; </s> is 1, the padding, which its decoder begins with, 2, <extra_id_0> 3."""
    tiny_seq2seq("t5").save_pretrained(folder)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer([], ["</s>"], **names, sentinel="<extra_id_0>").save_pretrained(folder)
    return folder


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Documents as JSON lines."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def pairs() -> list[dict[str, str]]:
    """Sources and targets."""
    return [
        {"text": text_of(70 + 3 * number, 100 + number), "source": text_of(70 + 5 * number, number)}
        for number in range(DOCUMENTS)
    ]


PROTOCOLS: dict[str, dict[str, Any]] = {
    "pll": {"distances": [0, 3, 12], "targets": 3, "masking": "original"},
    "parallel": {"distances": [0, 2, 5], "targets": 3},
    "span_corruption": {"distances": [0, 3, 12], "spans": 2},
}


@pytest.fixture(scope="module", name="contents")
def family_configurations(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, Any]]:
    """A configuration of each protocol, as a YAML file holds it, by its kind."""
    folder = tmp_path_factory.mktemp("families")
    seq2seq = seq2seq_folder(folder / "t5")
    models = {"pll": masked_folder(folder / "bert")}
    file = write_rows(folder / "pairs.jsonl", pairs())
    contents: dict[str, dict[str, Any]] = {}
    for kind, options in PROTOCOLS.items():
        contents[kind] = {
            "name": "tiny",
            "model": {
                "path": str(models.get(kind, seq2seq)),
                "dtype": "float32",
                "device": "cpu",
            },
            "data": {"path": str(file)},
            "protocol": {"kind": kind, **options},
            "conditions": CONDITIONS,
            "analysis": {"resamples": 100},
        }
        if kind == "parallel":
            contents[kind]["data"]["source_column"] = "source"
        else:
            contents[kind]["windows"] = {"length": 64, "per_document": 1}
    return contents
