"""LongPPL of a real model: equal to a direct computation from the definition, token by token."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from open_runs import opened
from real_model import MODEL, REAL, converted_weights  # noqa: F401 (fixture)
from tiny_run import scores

from probe.config import check
from probe.findings.key_tokens import key_spans
from probe.findings.longppl import longppl
from probe.models.load import load_model
from probe.runs.experiment import prepare
from probe.runs.run import run

K, STRIDE, LENGTH = 64, 32, 300
pytestmark = REAL


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    """The weights in float32; converted ones stay in the user's cache."""
    return load_model(prepare(config("published", 1)).source, dtype="float32").model


def config(first_token: str, documents: int) -> Any:
    return check(
        {
            "name": f"longppl-{first_token}",
            "model": {"path": MODEL, "dtype": "float32"},
            "data": {"path": "stdlib", "max_documents": documents},
            "windows": {"length": LENGTH},
            "protocol": {"kind": "longppl", "context": K, "stride": STRIDE},
            "first_token": first_token,
        }
    )


@torch.inference_mode()
def losses(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Cross entropy of every token but the first, as the published code computes it."""
    logits = model(input_ids=ids[None]).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits.float(), ids[1:], reduction="none")


def direct(model: torch.nn.Module, ids: torch.Tensor, first: int | None) -> dict[int, Any]:
    """Index of each target to its loss in the whole and in the short text, and if it is key."""
    full, found = losses(model, ids), {}
    for start in range(0, len(ids) - K, STRIDE):
        short = ids[start : start + K + STRIDE]
        lead = [] if start == 0 or first is None else [first]
        led = losses(model, torch.cat([torch.tensor(lead, dtype=ids.dtype), short]))
        for at in range(K, len(short)):
            long = float(full[start + at - 1])
            brief = float(led[at - 1 + len(lead)])
            found[start + at] = long, brief, brief - long > 2 and -long > -2
    return found


@pytest.mark.parametrize("first_token", ["published", "keep"])
def test_longppl_is_that_of_the_definition(
    model: torch.nn.Module, first_token: str, tmp_path: Path
) -> None:
    """Losses, key tokens and LongPPL, over two documents of 300 tokens.

    The tokenizer has a BOS and does not add it: no token stands in front, as in the published code.
    """
    folder = run(config(first_token, 2), tmp_path)
    bos = json.loads((folder / "run.json").read_text(encoding="utf-8"))["model"]["bos"]
    assert bos == {"published": None, "keep": 1}[first_token]
    lead = [] if bos is None else [bos]
    rows, found = scores(folder), longppl(opened(folder))
    chosen = {
        (span.document, span.position + number)
        for span in key_spans(opened(folder))
        for number in range(span.tokens)
    }
    keys = []
    for window in pq.read_table(folder / "windows.parquet").to_pylist():
        ids = torch.tensor([*lead, *window["token_ids"]])
        expected = direct(model, ids, bos)
        own = rows[(rows.document == window["document"]) & (rows.condition == "truncate")]
        own = own.sort_values("position")
        assert (own.position + len(lead)).tolist() == list(expected)
        both = np.array([values[:2] for values in expected.values()])
        assert np.abs(own[["nll_intact", "nll"]].to_numpy() - both).max() <= 1e-4
        for index, (long, _, key) in expected.items():
            assert ((window["document"], index - len(lead)) in chosen) == key
            keys += [long] if key else []
    assert found.keys == len(keys) >= 3
    assert found.perplexity == pytest.approx(np.exp(np.mean(keys)), rel=1e-4)
