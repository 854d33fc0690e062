"""What run.json says of the machine and the data of a user, taken out before it is shared."""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from probe.corpus.dataset import FILE_FORMATS, STDLIB, is_local

LEFT_OUT = "left out"
"""What stands in place of a value that is not shared."""
COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision that is a commit of the hub."""
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_PART = r"[\w.@+%{}\[\]*?-]+"
_PATH = re.compile(
    rf"""(?<![\w/.:~\\])               # where a word begins, and not within an address
    (?: ~?(?:/{_PART}){{2,}}          # two folders or more, also of a home
      | (?:[A-Za-z]:|~)(?:(?:\\{{1,2}}|/){_PART}){{2,}}
      | \\(?:\\{_PART}){{2,}}         # what Windows shares; else signs are escaped so: \x1b\u202e
    )[\\/]?""",
    re.VERBOSE,
)
"""A path of this machine inside a text."""


def shareable(record: Mapping[str, Any], *, with_text: bool = False) -> dict[str, Any]:
    """A run's record without what concerns its user alone.

    Paths of this machine become their last part, addresses lose user, password and query,
    ``data.options`` loses its values (a token may stand there), and paths inside other texts are
    cut as well. Names stay: of the run, the model, documents and passages.

    Args:
        record: Content of ``run.json``.
        with_text: Whether the values of the data's own columns stay, ``group`` and ``metadata``.

    Returns:
        A copy.
    """
    copy = deepcopy(dict(record))
    for settings in (copy.get("config"), copy.get("identity")):
        if isinstance(settings, dict):
            _share_settings(settings)
    for named in (copy.get("model"), copy.get("data")):
        if isinstance(named, dict) and isinstance(named.get("path"), str):
            named["path"] = last_part(named["path"])
    documents = (copy.get("data") or {}).get("documents") or []
    for document in documents if not with_text else ():
        for column in ("group", "metadata"):
            document.pop(column, None)
    shared: dict[str, Any] = _without_paths(copy)
    return shared


def last_part(path: str) -> str:
    """The end of a path of this machine; a hub name, ``package://`` and the like as they are."""
    if "://" in path:
        return _address(path)
    return _end(path) if _is_path(path) else path


def local_names(names: Iterable[str]) -> list[str]:
    """Those names in which a path of this machine stands."""
    return [name for name in names if _PATH.search(name)]


def hub_model(record: Mapping[str, Any]) -> str | None:
    """The hub name of a run's model, ``None`` where it is a file or a folder.

    Args:
        record: Content of ``run.json``: a model of the hub has a commit as its revision.
    """
    model = record.get("model") or {}
    path, revision = str(model.get("path") or ""), str(model.get("revision") or "")
    return path if COMMIT.fullmatch(revision) and _HUB_NAME.fullmatch(path) else None


def hub_data(record: Mapping[str, Any]) -> str | None:
    """The hub name of a run's data, ``None`` where it comes from files or the standard library.

    Args:
        record: Content of ``run.json``.
    """
    data = (record.get("config") or {}).get("data") or {}
    path = str(data.get("path") or "")
    files = path in FILE_FORMATS or path == STDLIB or _is_path(path) or Path(path).exists()
    return None if files or not _HUB_NAME.fullmatch(path) else path


def _share_settings(settings: dict[str, Any]) -> None:
    """Shorten what a configuration, or the identity, names by path."""
    model, data, analysis = (settings.get(name) for name in ("model", "data", "analysis"))
    if isinstance(model, str):
        settings["model"] = last_part(model)
    elif isinstance(model, dict) and isinstance(model.get("path"), str):
        model["path"] = last_part(model["path"])
    if isinstance(data, dict):
        data["path"] = last_part(str(data.get("path")))
        data["data_files"] = _each(data.get("data_files"))
        options = data.get("options") or {}
        data["options"] = (
            dict.fromkeys(options, LEFT_OUT) if isinstance(options, dict) else LEFT_OUT
        )
    for name in ("perturbations", "protocols"):
        if isinstance(settings.get(name), list):
            settings[name] = _each(settings[name])
    if isinstance(analysis, dict) and isinstance(analysis.get("classes"), list):
        analysis["classes"] = _each(analysis["classes"])


def _each(value: Any) -> Any:
    """Files that are named alone, in a list or by split, each shortened."""
    if isinstance(value, Mapping):
        return {key: _each(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_each(part) for part in value]
    if not isinstance(value, str):
        return value
    return _address(value) if "://" in value else _end(value)


def _is_path(path: str) -> bool:
    return is_local(path) or "\\" in path


def _address(address: str) -> str:
    """An address without user, password, query and fragment."""
    scheme, place, path, *_ = urlsplit(address)
    return urlunsplit((scheme, place.rpartition("@")[2], path, "", ""))


def _without_paths(value: Any) -> Any:
    """A copy in which paths inside texts are cut to their end; keys are names, and stay."""
    if isinstance(value, Mapping):
        return {key: _without_paths(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(part) for part in value]
    return shorten(value) if isinstance(value, str) else value


def shorten(text: str) -> str:
    """A text in which every path of this machine is cut to ``…/`` and its end."""
    return _PATH.sub(lambda path: f"…/{_end(path[0])}", text)


def _end(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]
