"""What is said of too few documents before a run: a length, or LongPPL, without an interval."""

from typing import Any

import pytest
import torch
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    configured,
    model_folders,
    no_network,
    text_folder,
)

from probe.models.device import resolve_dtype, slow_dtype
from probe.runs.experiment import prepare
from probe.runs.run import notes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "so that every length will be unresolved"),
        (
            {
                "protocol": {"kind": "longppl", "context": 64, "stride": 32},
                "windows": {"length": None, "per_document": 1},
                "conditions": ["truncate"],
            },
            "so that LongPPL will have none",
        ),
    ],
    ids=["sweep", "longppl"],
)
def test_few_documents(base: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    """With six documents nothing is said."""
    for documents, expected in (
        (5, [f"5 documents: an interval needs 6, {said}"]),
        (6, []),
    ):
        experiment = prepare(configured(base, data__max_documents=documents, **changes))
        lines = list(notes(experiment, len(experiment.windows)))
        assert [line for line in lines if "left out" not in line] == expected


@pytest.mark.parametrize(
    ("dtype", "device", "supported", "said"),
    [
        ("bfloat16", "cpu", False, "no instructions for bfloat16"),
        ("float16", "cpu", True, "no instructions for float16"),
        ("bfloat16", "cpu", True, None),
        ("float32", "cpu", False, None),
        ("float16", "cuda", False, None),
    ],
)
def test_a_dtype_that_the_device_emulates(
    monkeypatch: pytest.MonkeyPatch, dtype: str, device: str, supported: bool, said: str | None
) -> None:
    """Whoever asks for a dtype that the processor does not compute in is told before the run."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, False)
    told = slow_dtype(dtype, torch.device(device))
    assert told is None if said is None else said in str(told)
    assert resolve_dtype("auto", torch.device("cpu")) == ("bfloat16" if supported else "float32")
