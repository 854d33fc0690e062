"""What two runs must share to stand in one folder, and the refusal of what does not."""

import hashlib
import inspect
import platform
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe import __version__
from probe.config import ModelConfig
from probe.corpus.dataset import data_name
from probe.corpus.windows import Document, Windows
from probe.errors import UsageError
from probe.models.load import fingerprint
from probe.perturbations.condition import Condition, code_versions
from probe.protocols import registry
from probe.protocols.branches import TargetRun
from probe.results.footer import identity_hash
from probe.results.record import SCHEMA
from probe.runs import stopping
from probe.runs.experiment import Experiment
from probe.text import shown

_LATER: Mapping[str, Any] = {
    **dict.fromkeys(("spans_column", "prompt_columns", "answer_column", "alone")),
    **dict.fromkeys(("source_column", "alignment_column", "audio_column", "language")),
    "unit": "tokens",
}
"""Keys that came later, and what they are where they say nothing."""
_OF_LOADING = ("served", "quantization", "adapter")
"""What an identity says of the weights only where there is something to say."""
_EARLIER = {"patterns": "dense"}
"""What folders are that were written before a key came in."""
_NESTED = ("data", "windows", "protocol")
SHORT = 60
"""Characters of a value that a refusal shows."""


def identity(experiment: Experiment, dtype: str) -> dict[str, Any]:
    """What two runs must share to stand in one folder.

    Labels, ``conditions``, ``repeats``, ``max_documents``, ``metadata_columns``, ``precision`` and
    ``analysis`` are no part of it: they may change, and only the missing rows are scored.
    """
    config = experiment.config
    free = {"label", "max_documents", "metadata_columns"}
    return {
        "model": config.model.path,
        "revision": experiment.source.revision,
        "bos": experiment.first_token.bos,
        "dtype": dtype,
        "attention": config.model.attention,
        "data": _grown(config.data.model_dump(mode="json", exclude=free)),
        "windows": _grown(config.windows.model_dump(mode="json")),
        "protocol": _grown(config.protocol.model_dump(mode="json")),
        # What the protocol's keys mean may change with a version: rows of both must not mix.
        "runs": [_indices(run) for run in experiment.plan.runs(True)],
        "seed": config.seed,
        "first_token": config.first_token,
        "measures": sorted(config.measures),
        "patterns": config.patterns,
        **{name: value for name, value in _weights(config.model).items() if value is not None},
    }


def _weights(model: ModelConfig) -> dict[str, str | None]:
    """What makes other numbers of the same weights; folders that were written before lack it."""
    adapter = model.adapter
    if adapter is not None and Path(adapter).is_dir():
        adapter = f"{adapter} {fingerprint(Path(adapter))}"
    values = (model.api if model.served is not None else None, model.quantization, adapter)
    return dict(zip(_OF_LOADING, values, strict=True))


def _indices(run: TargetRun) -> list[int]:
    """Boundary, first target and one past the last; where far begins, if not with the window."""
    return [run.boundary, run.first, run.stop, *([run.start] if run.start else [])]


def _grown(part: dict[str, Any]) -> dict[str, Any]:
    """Without the keys that came later, where they say nothing: older folders go on."""
    if isinstance(part.get("targets"), dict):
        part = {**part, "targets": _grown(part["targets"])}
    return {
        key: value
        for key, value in part.items()
        if key not in _LATER or (value and value != _LATER[key])
    }


def refuse_other_windows(
    known: Mapping[tuple[str, int], NDArray[np.int32]], windows: Windows, folder: Path
) -> None:
    """Refuse a folder whose windows hold other tokens: the data has changed under its name.

    Args:
        known: Token ids of the windows that the folder holds, by document and number.
        windows: Those that there are now.
        folder: The folder.

    Raises:
        UsageError: If a window that was scored now holds other tokens, or is gone.
    """
    now = {(one.document, one.window): windows.ids(one) for one in windows.places} if known else {}
    refuse_changed_windows(known, now, folder)


def refuse_changed_windows(
    before: Mapping[tuple[str, int], NDArray[Any]],
    now: Mapping[tuple[str, int], NDArray[Any]],
    folder: Path,
) -> None:
    """Refuse a folder with a window that is gone, or holds other tokens.

    Args:
        before: Token ids of the windows that were scored, by document and number.
        now: Those that there are.
        folder: The folder.

    Raises:
        UsageError: If so.
    """
    for (document, at), ids in before.items():
        found = now.get((document, at))
        if found is None or len(found) != len(ids) or (found != ids).any():
            raise _changed(f"window {at} of {document!r}", found is None, folder)


def refuse_changed_documents(
    before: Mapping[str, Any], now: Mapping[str, Any], folder: Path
) -> None:
    """Refuse a folder with a document that is gone, or another: replaced text is taken from all.

    Args:
        before: What a record says of the data that was scored.
        now: What it says of those that there are.
        folder: The folder.

    Raises:
        UsageError: If so.
    """
    hashes = {repr(one["id"]): one["sha256"] for one in now["documents"]}
    for one in before["documents"]:
        name = repr(one["id"])
        if name not in hashes or hashes[name] != one["sha256"]:
            raise _changed(f"document {name}", name not in hashes, folder)


def _changed(name: str, gone: bool, folder: Path) -> UsageError:
    """The refusal of a folder with a text that is gone or another one, by its name."""
    if gone:
        return UsageError(
            f"{folder} holds {name}, which this configuration no longer gives: max_documents "
            "may grow, not shrink, and the data may not change; choose another name"
        )
    return UsageError(
        f"{folder}: {name} now holds other tokens: the data or the tokenizer has changed; "
        "choose another name"
    )


def _refuse_other(before: dict[str, Any], mine: dict[str, Any], folder: Path) -> None:
    """Refuse a folder of another identity."""
    if differ := differences(before, mine):
        raise UsageError(
            f"{folder} holds another run: {'; '.join(differ)}; "
            "choose another name, or remove the folder"
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of one identity is another in a second one, in words; nothing where they are one."""
    before, now = _EARLIER | dict(before), _EARLIER | dict(now)
    # The runs of targets follow from windows and protocol: they are news where nothing else is.
    keys = [*now, *(key for key in _OF_LOADING if key in before and key not in now)]
    differ = [line for key in keys if key != "runs" for line in _changes(key, before, now)]
    if not differ and before.get("runs") != now.get("runs"):
        differ = ["the protocol, in this version, has other boundaries and targets"]
    return differ


def _changes(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs under a key, by the keys below it where both hold some."""
    was, value = before.get(key), now.get(key)
    if was == value:
        return []
    if isinstance(was, dict) and isinstance(value, dict) and key in _NESTED:
        keys = dict.fromkeys([*was, *value])
        return [f"{key}.{line}" for inner in keys for line in _changes(inner, was, value)]
    if isinstance(was, str) and isinstance(value, str):
        both = zip(was, value, strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))
        start = max(was.rfind("/", 0, shared) + 1, shared - SHORT // 2)
        if max(len(was), len(value)) > SHORT and start > 0:  # or what differs would be cut off
            was, value = f"…{was[start:]}", f"…{value[start:]}"
    return [f"{key} was {shown(was, SHORT)}, is {shown(value, SHORT)}"]


def with_code(
    what: str, before: dict[str, str], now: dict[str, str], folder: Path
) -> dict[str, str]:
    """Hashes of code of the user's own, by name; refused where another version was scored with.

    Args:
        what: What the code is of, such as ``perturbation``.
        before: Hashes that are known, by name.
        now: Those to be added.
        folder: The folder that is refused.

    Raises:
        UsageError: If so.
    """
    if other := [name for name, mark in now.items() if before.get(name, mark) != mark]:
        raise UsageError(
            f"{folder} was scored with other code of {what} {other[0]!r}; choose another "
            "name for it or for the run"
        )
    return before | now


def _protocol_marks(experiment: Experiment) -> dict[str, str]:
    """A hash of the source of a user's own protocol and of its plan, where it is to be had."""
    protocol = type(experiment.config.protocol)
    if registry.is_builtin(protocol):
        return {}
    try:
        sources = [inspect.getsource(part) for part in (protocol, type(experiment.plan))]
    except (OSError, TypeError):
        return {}
    return {registry.kind_of(protocol): hashlib.sha256("\n".join(sources).encode()).hexdigest()}


_PARTS = {"identity": dict, "model": dict, "data": dict, "plan": dict, "check": list, "costs": dict}
_OF_WEIGHTS = ("class", "parameters", "device", "warnings", "serves")  # known once they were loaded
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
    earlier = before or {}
    model = earlier.get("model", {})
    conditions = earlier.get("plan", {}).get("conditions", {})
    code = {"perturbation": code_versions(config.parsed), "protocol": _protocol_marks(experiment)}
    if before is not None:
        _refuse_other(before["identity"], mine, folder)
        refuse_changed_documents(before["data"], data, folder)
        code = {
            what: with_code(what, before.get(f"{what}s", {}), now, folder)
            for what, now in code.items()
        }
    return {
        "schema": SCHEMA,
        "name": config.name,
        "status": "unfinished",
        "config": config.model_dump(mode="json"),
        "identity": mine,
        # Kept: a later version may know more of what a run is, and would name the same run anew.
        "identity_hash": earlier.get("identity_hash") or identity_hash(mine),
        "perturbations": code["perturbation"],
        **({"protocols": code["protocol"]} if code["protocol"] else {}),
        "versions": _versions(),
        "model": {
            "name": config.model.label or experiment.source.location.name,
            "path": config.model.path,
            "revision": experiment.source.revision,
            "dtype": dtype,
            "vocabulary": experiment.source.vocabulary,
            "positions": experiment.source.positions,
            "trained_length": experiment.source.trained_length,
            "bos": experiment.first_token.bos,
            "tokenizer": experiment.source.tokenizer_hash,
        }
        | {name: model[name] for name in _OF_WEIGHTS if name in model},
        "data": data,
        "plan": {
            "reach": experiment.plan.reach,
            "targets": list(experiment.plan.targets),
            "windows": len(experiment.windows),
            "conditions": conditions
            | {one.text: _condition(experiment, one) for one in config.parsed},
        },
        "check": earlier.get("check", []),
        "attention": earlier.get("attention", {}),
        "costs": earlier.get("costs", {}),
        **stopping.recorded(config, earlier),
    }


def _condition(experiment: Experiment, condition: Condition) -> dict[str, Any]:
    """Whether its far text is shared between boundaries, and where its curve begins.

    Of a pattern that presses far keys for near queries it is 1: the target behind the last far
    token is predicted by that token, which is far itself.
    """
    shared = experiment.shared[condition.text]
    late = condition.pattern is not None and condition.pattern.needs_boundary
    return {"curve_start": max(experiment.plan.curve_start(shared), int(late)), "shared": shared}


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
    if schema != SCHEMA:
        raise UsageError(
            f"{folder} has schema {schema!r}; allowed: {SCHEMA}, that of "
            "this version; choose another name"
        )
    missing = [key for key in _PARTS if not isinstance(record.get(key), _PARTS[key])]
    attention = record.get("attention", {})
    if not isinstance(attention, dict) or not all(isinstance(c, dict) for c in attention.values()):
        missing.append("attention")
    documents = record["data"].get("documents") if "data" not in missing else []
    if not isinstance(documents, list) or not all(map(_is_document, documents)):
        missing.append("data.documents")
    if missing:
        raise UsageError(
            f"{folder / 'run.json'} lacks {', '.join(missing)}, or holds something else there; "
            "choose another name, or remove the folder"
        )
    return record


def _is_document(value: Any) -> bool:
    return isinstance(value, dict) and {"id", "sha256"} <= value.keys()


def _data(experiment: Experiment) -> dict[str, Any]:
    counts = Counter(place.document for place in experiment.windows.places)
    left = experiment.corpus.left_out
    return {
        "name": data_name(experiment.config.data),
        "path": experiment.config.data.path,
        "pool": list(experiment.pool),
        "documents": [
            {
                "id": document.id,
                "tokens": len(document.ids),
                "sha256": _hash(document),
                "windows": counts[document.id],
                "group": document.group,
            }
            | ({"spans": [list(span) for span in document.spans]} if document.spans else {})
            | ({"metadata": dict(document.metadata)} if document.metadata else {})
            for document in experiment.corpus.documents
        ],
        "left_out": {
            reason: {"count": omitted.count, "ids": list(omitted.ids)}
            for reason, omitted in vars(left).items()
            if not isinstance(omitted, int)
        }
        | {"licence_headers": left.licence_headers},
    }


def _hash(document: Document) -> str:
    """Of its tokens, and of those of its source and where they belong."""
    digest = hashlib.sha256(document.ids.astype("<i8").data)
    if document.source is not None:
        digest.update(document.source.ids.astype("<i8").data)
        if document.source.frames is not None:
            digest.update(document.source.frames[document.source.ids].data)
    if document.places is not None:
        digest.update(document.places.astype("<i8").data)
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {"context-probe": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
