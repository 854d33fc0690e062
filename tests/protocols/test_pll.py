"""`pll`: losses of masked targets, against a plain loop with one mask at a time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import MASKED, tiny_masked
from numpy.typing import NDArray
from tiny_run import (  # noqa: F401 (fixtures)
    ALPHABET,
    base_configuration,
    changed,
    configured,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
    windows,
)
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

CLS, SEP, PAD, MASK = range(4)
DISTANCES = [0, 3, 12]


def masked_tokenizer() -> PreTrainedTokenizerFast:
    """A token a character between [CLS] and [SEP]; words are what white space parts."""
    names = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", *ALPHABET]
    tokenizer = Tokenizer(WordLevel({one: n for n, one in enumerate(names)}, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    )


def save(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    masked_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", name="masked")
def masked_folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A tiny model of every family."""
    return {
        family: save(tiny_masked(family), tmp_path_factory.mktemp("masked") / family)
        for family in MASKED
    }


@pytest.fixture(name="content")
def masked_configuration(base: dict[str, Any], masked: Mapping[str, Path]) -> dict[str, Any]:
    protocol = {"kind": "pll", "distances": DISTANCES, "targets": 4, "masking": "original"}
    conditions = ["noise", "truncate", "shuffle", "hide"]
    model = {"path": str(masked["bert"]), "dtype": "float32", "device": "cpu"}
    return changed(base, model=model, protocol=protocol, conditions=conditions)


@torch.inference_mode()
def plain_nll(
    model: PreTrainedModel,
    ids: NDArray[np.int64],
    at: int,
    label: int,
    *,
    positions: NDArray[np.int64] | None = None,
) -> float:
    """The loss of one target: its mask forwarded between [CLS] and [SEP], nothing else."""
    given: dict[str, Any] = {}
    whole = np.concatenate([[CLS], ids, [SEP]])
    whole[at + 1] = MASK
    if positions is not None:
        given["position_ids"] = torch.from_numpy(np.concatenate([[0], positions]))[None]
        given["attention_mask"] = torch.ones(1, len(whole), dtype=torch.long)
    logits = model(input_ids=torch.from_numpy(whole)[None], **given).logits[0, at + 1]
    return -float(torch.log_softmax(logits.double(), -1)[label])


def intact_part(at: int, row: Any, size: int, side: str) -> slice:
    """What stays of a window around the target at an index of it."""
    if row.condition == "intact":
        return slice(0, size)
    left, right = max(0, at - row.distance), at + row.distance + 1
    return slice(left if side != "right" else 0, right if side != "left" else size)


@pytest.mark.parametrize("side", ["both", "left", "right"])
@pytest.mark.parametrize("family", list(MASKED))
def test_truncation_is_a_plain_forward_of_the_cut_text(
    content: dict[str, Any], masked: Mapping[str, Path], family: str, side: str, tmp_path: Path
) -> None:
    """Every loss, intact and cut on either side, of every family."""
    folder = score(
        content,
        tmp_path,
        model__path=str(masked[family]),
        protocol__side=side,
        conditions=["truncate"],
    )
    model = tiny_masked(family)
    frame, texts = scores(folder), windows(folder)
    assert set(frame.condition) == {"intact", "truncate"}
    assert set(frame.distance) == {-1, *DISTANCES}
    for row in frame.itertuples():
        text = texts[row.document, row.window]
        ids, at = np.array(text["token_ids"]), int(row.position) - text["start"]
        part = intact_part(at, row, len(ids), side)
        expected = plain_nll(model, ids[part], at - part.start, ids[at])
        assert row.nll == pytest.approx(expected, abs=2e-4)
