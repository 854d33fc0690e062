"""run.json: what a run is, what it was made with, and whether another one may share its folder."""

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from probe import __version__
from probe.config import Config
from probe.errors import UsageError
from probe.experiment import Experiment
from probe.identity import identity, refuse_other, refuse_other_code, refuse_other_documents
from probe.perturbations.user import marks
from probe.store import identity_hash

SCHEMA_VERSION = 1
_PARTS = {"identity": dict, "model": dict, "data": dict, "plan": dict, "check": list, "costs": dict}
_OF_WEIGHTS = ("class", "parameters", "device", "warnings")  # known once they were loaded
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
    if before is not None:
        refuse_other(before["identity"], mine, folder)
        refuse_other_documents(before["data"], data, folder)
    earlier = before["plan"]["conditions"] if before else {}
    own = marks(config.parsed)
    if before is not None:
        refuse_other_code(before.get("perturbations", {}), own, folder)
        own = before.get("perturbations", {}) | own
    return {
        "schema": SCHEMA_VERSION,
        "name": config.name,
        "status": "unfinished",
        "config": config.model_dump(mode="json"),
        "identity": mine,
        # Kept: a later version may know more of what a run is, and would name the same run anew.
        "identity_hash": (before or {}).get("identity_hash") or identity_hash(mine),
        "perturbations": own,
        "versions": _versions(),
        "model": {
            "name": experiment.source.location.name,
            "path": config.model.path,
            "revision": experiment.source.revision,
            "dtype": dtype,
            "vocabulary": experiment.source.vocabulary,
            "positions": experiment.source.positions,
            "trained_length": experiment.source.trained_length,
            "bos": experiment.first_token.bos,
        }
        | ({k: before["model"][k] for k in _OF_WEIGHTS if k in before["model"]} if before else {}),
        "data": data,
        "plan": {
            "reach": experiment.protocol.reach,
            "targets": list(experiment.protocol.targets),
            "windows": len(experiment.windows),
            "conditions": earlier
            | {
                text: {"curve_start": _start(experiment, text, shared), "shared": shared}
                for text, shared in experiment.shared.items()
            },
        },
        "check": before["check"] if before else [],
        "attention": before.get("attention", {}) if before else {},
        "costs": before["costs"] if before else {},
    }


def _start(experiment: Experiment, text: str, shared: bool) -> int:
    """First distance of a condition's curve.

    Of a pattern that presses far keys for near queries it is 1: the target behind the last far
    token is predicted by that token, which is far itself.
    """
    condition = next(one for one in experiment.config.parsed if one.text == text)
    late = condition.pattern is not None and condition.pattern.needs_boundary
    return max(experiment.protocol.curve_start(shared), int(late))


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
    attention = record.get("attention", {})
    if not isinstance(attention, dict) or not all(isinstance(c, dict) for c in attention.values()):
        missing.append("attention")
    if missing:
        raise UsageError(
            f"{folder / 'run.json'} lacks {', '.join(missing)}, or holds something else there; "
            "choose another name, or remove the folder"
        )
    return record


def _data(experiment: Experiment) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for place in experiment.windows.places:
        counts[place.document] = counts.get(place.document, 0) + 1
    left, metadata = experiment.corpus.left_out, experiment.corpus.metadata
    return {
        "name": data_name(experiment.config),
        "path": experiment.config.data.path,
        "pool": list(experiment.pool),
        "documents": [
            {
                "id": document.id,
                "tokens": len(document.ids),
                "sha256": hashlib.sha256(document.ids.astype("<i8").data).hexdigest(),
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
