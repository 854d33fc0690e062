"""What the kept runs are made of: tiny models and texts from a seed, and every configuration."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import tiny
from tiny_run import ALPHABET, character_tokenizer
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

SPECIAL = 3  # ids below are <s>, </s> and <pad>
DOCUMENTS, LENGTH = 10, 158  # of texts.jsonl, in tokens of one character
SHARP = 1.2  # standard deviation of a random weight times the square root of its inputs
NEAR = 10  # keys that a layer of ``near`` sees
OWN = '''"""A token class of the user's own."""


def vowel(window):
    """Whether a token is a vowel; blank ones are neither."""
    return [None if not text.strip() else text in "aeio" for text in window.texts]
'''


def model(seed: int, vocabulary: int, *, near: bool = False) -> PreTrainedModel:
    """A random model whose weights come from NumPy, so that no version of torch changes them.

    Args:
        seed: Of its weights.
        vocabulary: Number of token ids.
        near: Whether each of its two layers sees ``NEAR`` keys alone, so that a target depends on
            the 2 · NEAR − 1 tokens before it and on no other.
    """
    more = {"num_hidden_layers": 2, "vocab_size": vocabulary}
    made = tiny("mistral", sliding_window=NEAR, **more) if near else tiny("llama", **more)
    rng = np.random.default_rng([seed, 71])
    with torch.no_grad():
        for _, weight in sorted(made.named_parameters()):
            if weight.ndim > 1:
                drawn = rng.normal(size=tuple(weight.shape)) * SHARP / weight.shape[1] ** 0.5
                weight.copy_(torch.from_numpy(drawn))
    return made


def pair_tokenizer() -> PreTrainedTokenizerFast:
    """Two letters a token, for runs with another tokenizer."""
    letters = [sign for sign in ALPHABET if sign.isalpha()]
    pieces = [*ALPHABET, *(first + second for first in letters for second in letters)]
    vocabulary = {text: number for number, text in enumerate(["<s>", "</s>", "<pad>", *pieces])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    pairs = "[a-z]{1,2}|[^a-z]"
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pairs), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def write_models(folder: Path) -> None:
    """Write ``writer``, the author of the texts, ``near``, which has its weights, and ``pairs``."""
    characters = character_tokenizer(True)
    for name in ("writer", "near"):
        model(0, len(characters), near=name == "near").save_pretrained(folder / name)
        characters.save_pretrained(folder / name)
    pairs = pair_tokenizer()
    model(1, len(pairs)).save_pretrained(folder / "pairs")
    pairs.save_pretrained(folder / "pairs")


@torch.inference_mode()
def written(
    author: PreTrainedModel, lengths: list[int], seed: int, *, heat: float = 1.0
) -> list[str]:
    """Texts that a model has drawn from its own distribution, so that what is far off helps it."""
    tokenizer = character_tokenizer(True)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(len(lengths), 1, dtype=torch.int64)
    for _ in range(max(lengths)):
        logits = author(input_ids=ids).logits[:, -1].double() / heat
        logits[:, :SPECIAL] = -torch.inf
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        ids = torch.cat([ids, drawn], dim=1)
    texts = [tokenizer.decode(row[1 : 1 + n]) for row, n in zip(ids, lengths, strict=True)]
    for text, length in zip(texts, lengths, strict=True):
        assert len(text) == length
    return texts


def write_data(folder: Path) -> None:
    """Write texts.jsonl, passages.jsonl, prompts.jsonl and own.py.

    The texts are of two authors, both the model ``writer``: one draws at temperature 1, the other,
    ``hot``, at 1.5. One more is too short for a window and one is empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    author = model(0, len(character_tokenizer(True)))
    lengths = [LENGTH - 3 * number for number in range(DOCUMENTS)]
    texts, hot = (written(author, lengths, seed=0, heat=heat) for heat in (1, 1.5))
    rows = [
        {
            "text": (hot if number % 5 == 2 else texts)[number],
            "author": "hot" if number % 5 == 2 else "writer",
            "genre": ("prose", "=SUM(A1)", "poésie")[number % 3],
            "year": None if number == 4 else 1990 + number % 2,
        }
        for number in range(DOCUMENTS)
    ]
    for text in (texts[0][:20], ""):
        rows.append({"text": text, "author": "writer", "genre": "prose", "year": 1990})
    _write(folder / "texts.jsonl", rows)
    documents = written(author, [70] * DOCUMENTS, seed=1)
    _write(folder / "passages.jsonl", [_spans(*pair) for pair in enumerate(documents)])
    _write(folder / "prompts.jsonl", [_prompt(*pair) for pair in enumerate(documents)])
    (folder / "own.py").write_text(OWN, encoding="utf-8")
    (folder / "text.txt").write_text(texts[0], encoding="utf-8")


def _spans(number: int, text: str) -> dict[str, Any]:
    """Three passages with text between them, and the last eight characters as the answer."""
    starts = [3, 22 + number % 3, 42]
    spans = [
        {"name": name, "start": start, "end": start + 12 + (number + start) % 4}
        for name, start in zip(("question", "first", "second"), starts, strict=True)
    ]
    return {"text": text, "spans": [*spans, {"name": "answer", "start": 62, "end": 70}]}


def _prompt(number: int, text: str) -> dict[str, Any]:
    """Two contexts, a question and a reply."""
    middle = 24 + number % 3
    contexts = [text[:middle], text[middle:45]]
    return {"contexts": contexts, "question": text[45:60], "reply": text[60:]}


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    file.write_text("".join(lines), encoding="utf-8")


TEXTS = {
    "path": "json",
    "data_files": "inputs/texts.jsonl",
    "group_column": "author",
    "metadata_columns": ["genre", "year"],
}
BASE: dict[str, Any] = {
    "model": {"path": "models/writer", "dtype": "float32", "device": "cpu"},
    "data": TEXTS,
    "windows": {"length": 64, "per_document": 2},
    "protocol": {"kind": "sweep", "reach": 32, "runs": {1: 1, 4: 2}},
    "conditions": ["noise", "truncate"],
    "batch": 64,  # one part of scores
    "analysis": {
        "resamples": 100,
        "bins_per_octave": 2,
        "tolerances": ["2%", "10%"],
        "classes": ["frequency"],
    },
}
FULL = {
    "resamples": 100,
    "bins_per_octave": 8,
    "tolerances": ["1%", "2%", "5%", "10%"],
    "classes": None,
}
"""The default, but for the draws."""
NEARBY = {"model": {"path": "models/near"}}
MAIN = ["noise", "truncate", "shuffle", "replace(source='document')"]
LONGPPL = {
    "windows": None,
    "protocol": {"kind": "longppl", "context": 32, "stride": 16},
    "conditions": None,
    "first_token": "published",
}
SUFFIX = {
    "windows": {"per_document": 2},
    "protocol": {"kind": "suffix", "prefixes": [0, 8, 32], "tokens": 8, "candidates": 4},
    "conditions": None,
}
FIXED = {"count": 8, "end_offset": 4}
CHANGES: dict[str, dict[str, Any]] = {
    "sweep": {
        **NEARBY,
        "conditions": MAIN,
        "measures": ["nll", "kl", "top1", "entropy"],
        "analysis": FULL,
    },
    "sweep-writer": {"conditions": MAIN[:3]},
    "sweep-pairs": {
        "model": {"path": "models/pairs"},
        "windows": {"length": 32},
        "protocol": {"reach": 16},
        "conditions": MAIN[:3],
    },
    "classes": {
        "conditions": ["truncate", "reverse", "drop(rate=0.5)", "replace(source='unigram')"],
        "repeats": 2,
        "analysis": {
            "classes": ["copy(edges=(2, 4))", "genre", "group", "inputs/own.py:vowel", "year"],
            "tolerances": ["5%", "0.5 nats", "50%"],
        },
    },
    "few": {"data": {"max_documents": 4}, "conditions": ["truncate", "shuffle(unit='word')"]},
    "grid": {
        **NEARBY,
        "protocol": {"kind": "grid", "distances": [2, 4, 8, 16, 32], "targets": FIXED},
        "conditions": [*MAIN, "replace(source='vocabulary', rate=0.2)"],
    },
    "grid-alone": {
        "protocol": {
            "kind": "grid",
            "distances": [4, 8, 16, 32],
            "targets": {**FIXED, "count": 6, "alone": True},
        },
        "conditions": ["noise", "truncate", "drop_target", "replace_target(source='unigram')"],
    },
    "band": {
        "protocol": {"kind": "band", "edges": [0, 8, 16, 32], "targets": FIXED},
        "conditions": [*MAIN, "shuffle(unit='word')", "keep(what='common')"],
    },
    "longppl": LONGPPL,
    "longppl-near": {**NEARBY, **LONGPPL},
    "suffix": SUFFIX,
    "suffix-at": {
        **NEARBY,
        **SUFFIX,
        "windows": {"per_document": 1},
        "protocol": {**SUFFIX["protocol"], "at": "[ .]", "candidates": 2},
        "measures": ["nll", "top1"],
    },
    "dense": {
        "windows": {"length": 40, "per_document": 1},
        "protocol": {"kind": "dense", "context": 12, "targets": 8},
        "conditions": None,
        "first_token": "none",
        "measures": ["nll", "kl"],
    },
    "passages": {
        "data": {"path": "json", "data_files": "inputs/passages.jsonl", "spans_column": "spans"},
        "windows": None,
        "protocol": {"kind": "passages"},
        "conditions": [
            "delete",
            "shuffle",
            "replace(source='passage')",
            "move",
            "move(to='first')",
        ],
    },
    "prompts": {
        "data": {
            "path": "json",
            "data_files": "inputs/prompts.jsonl",
            "prompt_columns": ["contexts", "question"],
            "answer_column": "reply",
        },
        "windows": None,
        "protocol": {"kind": "passages", "answer": "reply"},
        "conditions": ["delete", "hide"],
    },
    "attend": {
        "conditions": [
            "noise",
            "truncate",
            "attend(local(4))",
            "attend(local(8))",
            "attend(local(16))",
            "attend(blocks(8))",
            "attend(local(4) + strided(8))",
        ]
    },
    "attend-near": {**NEARBY, "conditions": ["attend(local(4))", "attend(local(8))"]},
    "beside": {
        "protocol": {"kind": "grid", "distances": [4, 8, 16], "targets": FIXED},
        "conditions": [
            "truncate",
            "hide(sinks=1)",
            "attend(local(4))",
            "attend(local(8))",
            "attend(local(16))",
        ],
    },
    "pool": {
        "protocol": {"kind": "grid", "distances": [8], "targets": {"count": 16, "end_offset": 0}},
        "conditions": [
            "noise",
            "truncate",
            "attend(pool(2))",
            "attend(pool(8))",
            "attend(pool(8, before_rope=True))",
            "attend(svd(2))",
            "attend(project(4))",
        ],
    },
    "heads": {
        "windows": {"per_document": 1},
        "protocol": {"reach": 24},
        "conditions": [
            "attend(heads(zero, layers=each(2), heads=each(4)))",
            "attend(heads(mean, layers=each(2), heads=each(4)))",
            "attend(gaussian)",
        ],
    },
    "finished": {
        "data": {"max_documents": 6},
        "protocol": {"runs": {1: 1}},
        "conditions": ["truncate", "replace(source='document')"],
        "batch": 1,
    },
}
"""What each run has in place of ``BASE``: a mapping changes the keys that it names, ``None``
takes a key away; another protocol or other data are whole."""


def _merged(name: str) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, **BASE}
    for key, value in CHANGES[name].items():
        other = isinstance(value, Mapping) and ("kind" in value or "path" in value)
        if value is None:
            del made[key]
        elif isinstance(value, Mapping) and key in made and (key == "model" or not other):
            made[key] = {**made[key], **value}
        else:
            made[key] = value
    return made


CONFIGURATIONS = {name: _merged(name) for name in CHANGES}
"""Each as a YAML file holds it; paths are relative to the folder of ``make.py``."""
