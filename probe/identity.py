"""What two runs must share to stand in one folder, and the refusal of what does not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probe.errors import UsageError
from probe.experiment import Experiment
from probe.printable import shown
from probe.store import Store
from probe.windows import Window

_LATER = ("spans_column", "prompt_columns", "answer_column", "alone")


_EARLIER = {"patterns": "dense"}
"""What folders are that were written before a key came in."""


def identity(experiment: Experiment, dtype: str) -> dict[str, Any]:
    """What two runs must share to stand in one folder.

    ``conditions``, ``repeats``, ``max_documents``, ``metadata_columns`` and ``analysis`` are no
    part of it: they may change, and only the missing rows are scored.
    """
    config = experiment.config
    free = {"max_documents", "metadata_columns"}
    return {
        "model": config.model.path,
        "revision": experiment.source.revision,
        "bos": experiment.first_token.bos,
        "dtype": dtype,
        "attention": config.model.attention,
        "data": _grown(config.data.model_dump(mode="json", exclude=free)),
        "windows": config.windows.model_dump(mode="json"),
        "protocol": _grown(config.protocol.model_dump(mode="json")),
        # What the protocol's keys mean may change with a version: rows of both must not mix.
        "runs": [list(run if run.start else run[:3]) for run in experiment.protocol.runs(True)],
        "seed": config.seed,
        "first_token": config.first_token,
        "measures": sorted(config.measures),
        "patterns": config.patterns,
    }


def _grown(part: dict[str, Any]) -> dict[str, Any]:
    """Without the keys that came later, where they say nothing: older folders go on."""
    if isinstance(part.get("targets"), dict):
        part = {**part, "targets": _grown(part["targets"])}
    return {key: value for key, value in part.items() if key not in _LATER or value}


def refuse_other_windows(store: Store, windows: Sequence[Window]) -> None:
    """Refuse a folder whose windows hold other tokens: the data has changed under its name.

    Raises:
        UsageError: If a window that was scored now holds other tokens, or is gone.
    """
    now = {(w.document, w.index): w.ids for w in windows}
    for (document, index), ids in store.read_windows().items():
        found = now.get((document, index))
        if found is None:
            raise UsageError(
                f"{store.folder} holds window {index} of {document!r}, which this configuration "
                "does not: max_documents may grow, not shrink, and the data may not change; "
                "choose another name"
            )
        if found.tolist() != ids:
            raise UsageError(
                f"{store.folder}: window {index} of {document!r} now holds other tokens: the data "
                "or the tokenizer has changed; choose another name"
            )


def refuse_other(before: dict[str, Any], mine: dict[str, Any], folder: Path) -> None:
    """Refuse a folder of another identity.

    Raises:
        UsageError: If anything of :func:`identity` differs.
    """
    before = _EARLIER | before
    differ = [
        f"{key} was {shown(before.get(key))}, is {shown(value)}"
        for key, value in mine.items()
        if before.get(key) != value
    ]
    if differ:
        raise UsageError(
            f"{folder} holds another run: {'; '.join(differ)}; "
            "choose another name, or remove the folder"
        )


def refuse_other_documents(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Refuse a folder of other documents: replaced text is taken from all of each.

    Raises:
        UsageError: If one is gone or holds other tokens.
    """
    earlier = {document["id"]: document["sha256"] for document in before["documents"]}
    found = {document["id"]: document["sha256"] for document in now["documents"]}
    if missing := [name for name in earlier if name not in found]:
        raise UsageError(
            f"{folder} holds document {missing[0]!r}, which this configuration no longer gives: "
            "max_documents may grow, not shrink; choose another name"
        )
    if other := [name for name, digest in earlier.items() if found[name] != digest]:
        raise UsageError(
            f"{folder}: document {other[0]!r} now holds other tokens: the data or the tokenizer "
            "has changed; choose another name"
        )


def refuse_other_code(before: dict[str, str], now: dict[str, str], folder: Path) -> None:
    """Refuse a folder that was scored with another version of a perturbation of one's own.

    Raises:
        UsageError: If so: rows of both would mix under one name.
    """
    if other := [name for name, mark in now.items() if before.get(name, mark) != mark]:
        raise UsageError(
            f"{folder} was scored with other code of perturbation {other[0]!r}; choose another "
            "name for it or for the run"
        )
