"""What is said of too few documents before a run: a length, or LongPPL, without an interval."""

from typing import Any

import pytest
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    configured,
    model_folders,
    no_network,
    text_folder,
)

from probe.experiment import prepare
from probe.run import notes


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
