"""run.json: what a run is, what it was made with, and whether another one may share its folder."""

import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from probe import __version__
from probe.config import Config
from probe.errors import UsageError
from probe.experiment import Experiment
from probe.perturbations.user import marks
from probe.store import Store
from probe.windows import Window

SCHEMA_VERSION = 1
_PARTS = {"identity": dict, "model": dict, "data": dict, "plan": dict, "check": list, "costs": dict}
_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "numpy",
    "scipy",
    "pyarrow",
    "duckdb",
)

_LATER = ("spans_column", "prompt_columns", "answer_column", "alone")


def begin(
    experiment: Experiment, dtype: str, before: dict[str, Any] | None, folder: Path
) -> dict[str, Any]:
    """The record of a run as it starts.

    Args:
        experiment: The run.
        dtype: Resolved dtype of the weights.
        before: The folder's record, ``None`` for a new folder.
        folder: The run folder, for the message.

    Raises:
        UsageError: If the folder holds a run of another identity, or its documents have changed.
    """
    config = experiment.config
    mine, data = identity(experiment, dtype), _data(experiment)
    if before is not None:
        _refuse_other(before["identity"], mine, folder)
        _refuse_other_documents(before["data"], data, folder)
    earlier = before["plan"]["conditions"] if before else {}
    own = marks(config.parsed)
    if before is not None:
        _refuse_other_code(before.get("perturbations", {}), own, folder)
        own = before.get("perturbations", {}) | own
    return {
        "schema": SCHEMA_VERSION,
        "name": config.name,
        "status": "unfinished",
        "config": config.model_dump(mode="json"),
        "identity": mine,
        "perturbations": own,
        "versions": _versions(),
        "model": {
            "name": experiment.source.location.name,
            "path": config.model.path,
            "revision": experiment.source.revision,
            "dtype": dtype,
            "vocabulary": experiment.source.vocabulary,
            "positions": experiment.source.positions,
            "bos": experiment.first_token.bos,
        }
        | (
            {k: before["model"].get(k) for k in ("class", "parameters", "device")} if before else {}
        ),
        "data": data,
        "plan": {
            "reach": experiment.protocol.reach,
            "targets": list(experiment.protocol.targets),
            "windows": len(experiment.windows),
            "conditions": earlier
            | {
                text: {"curve_start": experiment.protocol.curve_start(shared), "shared": shared}
                for text, shared in experiment.shared.items()
            },
        },
        "check": before["check"] if before else [],
        "costs": before["costs"] if before else {},
    }


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
    }


def _grown(part: dict[str, Any]) -> dict[str, Any]:
    """Without the keys that came later, where they say nothing: older folders go on."""
    if isinstance(part.get("targets"), dict):
        part = {**part, "targets": _grown(part["targets"])}
    return {key: value for key, value in part.items() if key not in _LATER or value}


def readable(record: dict[str, Any] | None, folder: Path) -> dict[str, Any] | None:
    """The record of an earlier call, if it has this version's fields.

    Raises:
        UsageError: If another version wrote it.
    """
    if record is None:
        if any(folder.glob("scores/*.parquet")):
            raise UsageError(
                f"{folder} holds scores, but no run.json that says of what; choose another name, "
                "or remove the folder"
            )
        return None
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA_VERSION:
        raise UsageError(
            f"{folder} has schema {schema!r}; allowed: {SCHEMA_VERSION}, that of "
            "this version; choose another name"
        )
    missing = [key for key in _PARTS if not isinstance(record.get(key), _PARTS[key])]
    if missing:
        raise UsageError(
            f"{folder / 'run.json'} lacks {', '.join(missing)}; choose another name, or remove the "
            "folder"
        )
    return record


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


def _refuse_other(before: dict[str, Any], mine: dict[str, Any], folder: Path) -> None:
    differ = [
        f"{key} was {_short(before.get(key))}, is {_short(value)}"
        for key, value in mine.items()
        if before.get(key) != value
    ]
    if differ:
        raise UsageError(
            f"{folder} holds another run: {'; '.join(differ)}; "
            "choose another name, or remove the folder"
        )


def _refuse_other_documents(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Windows show a part of a document; replaced text is taken from all of it."""
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


def _refuse_other_code(before: dict[str, str], now: dict[str, str], folder: Path) -> None:
    """Rows of two versions of a perturbation must not mix under one name."""
    if other := [name for name, mark in now.items() if before.get(name, mark) != mark]:
        raise UsageError(
            f"{folder} was scored with other code of perturbation {other[0]!r}; choose another "
            "name for it or for the run"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _data(experiment: Experiment) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for window in experiment.windows:
        counts[window.document] = counts.get(window.document, 0) + 1
    left, metadata = experiment.corpus.left_out, experiment.corpus.metadata
    return {
        "name": data_name(experiment.config),
        "path": experiment.config.data.path,
        "pool": list(experiment.pool),
        "documents": [
            {
                "id": document.id,
                "tokens": len(document.ids),
                "sha256": hashlib.sha256(document.ids.astype("<i8").tobytes()).hexdigest(),
                "windows": counts[document.id],
                "group": document.group,
            }
            | ({"spans": [list(span) for span in document.spans]} if document.spans else {})
            | ({"metadata": dict(metadata[document.id])} if document.id in metadata else {})
            for document in experiment.corpus.documents
        ],
        "left_out": {
            reason: {"count": omitted.count, "ids": list(omitted.ids)}
            for reason, omitted in vars(left).items()
            if not isinstance(omitted, int)
        }
        | {"licence_headers": left.licence_headers},
    }


def data_name(config: Config) -> str:
    """What to call the data where people read it."""
    data = config.data
    if isinstance(data.data_files, str | list):
        files = [data.data_files] if isinstance(data.data_files, str) else data.data_files
        return ", ".join("/".join(Path(file).parts[-2:]) for file in files)
    return data.path if data.name is None else f"{data.path} ({data.name})"


def _versions() -> dict[str, str]:
    found = {"context-probe": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
