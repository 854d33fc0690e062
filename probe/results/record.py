"""run.json as the analysis reads it: every value that it uses is checked here, in one place."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.analysis.tolerance import ALLOWED, parse_tolerance
from probe.errors import ProbeError, UsageError

SCHEMA = 1
"""Version of the results contract; another one's folders are older, or refused."""
_MOST_TOLD = 20
_LARGEST = 2**31 - 1
Fits = Callable[[Any], bool]
Needs = Callable[[str | None], Mapping[str, int]]
"""What a protocol's answer is worked out with, by its kind: whole numbers that cannot be missing,
each with the lowest allowed."""


@dataclass(frozen=True)
class Reading:
    """What reading the rows of a run must know of its protocol.

    Args:
        needs_far_start: Whether a length is read from the column ``far_start``.
        context: Tokens before a target where its far text begins: the longest context that its
            loss is compared with. ``None`` where far text begins with the window.
        alternatives: How the conditions begin that are other texts in the targets' place, which are
            no losses of the targets; empty where there are none.
        caveat: What limits the reading, empty where nothing does.
    """

    needs_far_start: bool = False
    context: int | None = None
    alternatives: str = ""
    caveat: str = ""

    @property
    def far_tokens(self) -> str:
        """SQL for the tokens of a row's far context, by the ``start`` of its window."""
        return "boundary - start" if self.context is None else f"{self.context} - distance"


PLAIN = Reading()
"""Far text begins with the window, and all that lies further than a distance is perturbed."""


def read_record(path: Path, needs: Needs = lambda _: {}) -> Mapping[str, Any]:
    """The content of a run's ``run.json``.

    A lone surrogate, which no UTF-8 file can hold, is named in it as pages do: ``[U+D800]``.

    Args:
        path: The file.
        needs: From the kind of its protocol to what must stand under ``config.protocol``.

    Raises:
        UsageError: If it is missing.
        ProbeError: If it is no JSON, or with a line for each value that cannot be one.
    """
    if not path.is_file():
        raise UsageError(f"'{path.parent}' is no run folder: it has no run.json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        text = json.dumps(record, ensure_ascii=False)
        if (whole := re.sub("[\ud800-\udfff]", _named, text)) != text:
            record = json.loads(whole)
    except (OSError, ValueError) as error:
        raise ProbeError(f"'{path}' cannot be read: {error}") from error
    except RecursionError as error:
        raise ProbeError(f"'{path}' cannot be read: its brackets are too deep") from error
    if not isinstance(record, dict):
        raise ProbeError(f"'{path}' holds {_shown(record)}; allowed: an object")
    if mistakes := list(_mistakes(record, needs)):
        raise ProbeError(_told(path, mistakes))
    return record


def _named(surrogate: re.Match[str]) -> str:
    return f"[U+{ord(surrogate[0]):04X}]"


def older_schema(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """What to say of a folder of another version; a record that names none is taken as it is.

    Raises:
        ProbeError: If a later version wrote it, or the version is no number.
    """
    schema = record.get("schema", SCHEMA)
    whole = type(schema) is int
    if whole and schema == SCHEMA:
        return []
    if whole and schema < SCHEMA:
        return [
            f"run '{folder.name}' has schema {schema}, older than {SCHEMA}: it is read as far as"
            " possible"
        ]
    raise ProbeError(
        f"'{folder / 'run.json'}' has schema {_shown(schema)}; allowed: up to {SCHEMA}, that of"
        " this version"
    )


def _of(kind: type | tuple[type, ...]) -> Fits:
    return lambda value: isinstance(value, kind)


def _whole(lowest: int, highest: int | None = None) -> tuple[str, Fits]:
    def fits(value: Any) -> bool:
        return type(value) is int and lowest <= value and (highest is None or value <= highest)

    if highest is None or highest == _LARGEST:
        return f"a whole number, {lowest} or more", fits
    return f"a whole number, {lowest} to {highest:,}", fits


def _is_tolerance(value: Any) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(parse_tolerance(value).amount)
    except UsageError:
        return False


def _is_confidence(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


def _is_span(value: Any) -> bool:
    kinds = [type(part) for part in value] if isinstance(value, list) else []
    return kinds == [str, int, int] and 0 <= value[1] <= value[2] <= _LARGEST


TEXT = ("text", _of(str))
OBJECT = ("an object", _of(dict))
LIST = ("a list", _of(list))
NUMBER = ("a number", lambda value: type(value) in (int, float))
FROM_0 = (
    "a number from 0 on",
    lambda value: type(value) in (int, float) and 0 <= value < float("inf"),
)
SINGLE = ("text, a number or a bool", _of((str, int, float)))
RULES: Mapping[str, tuple[str, Fits]] = {
    "name": TEXT,
    "status": TEXT,
    "identity_hash": TEXT,
    **dict.fromkeys(
        ("model", "data", "plan", "config", "counts", "identity", "costs", "versions"), OBJECT
    ),
    "model.name": TEXT,
    "model.vocabulary": _whole(1, 10_000_000),
    "model.trained_length": _whole(1),
    "data.name": TEXT,
    "data.documents": LIST,
    "data.documents.*": OBJECT,
    "data.documents.*.id": TEXT,
    "data.documents.*.group": SINGLE,
    "data.documents.*.metadata": OBJECT,
    "data.documents.*.metadata.*": SINGLE,
    "data.documents.*.spans": LIST,
    "data.documents.*.spans.*": ("[name, first token, one past the last]", _is_span),
    "plan.conditions": OBJECT,
    "plan.conditions.*": OBJECT,
    "plan.conditions.*.curve_start": _whole(0, _LARGEST),
    "attention": OBJECT,
    "attention.*": OBJECT,
    **dict.fromkeys(("attention.*.keys", "attention.*.full"), FROM_0),
    **dict.fromkeys(("attention.*.kv_share", "attention.*.flops_share"), FROM_0),
    "attention.*.forward_share": FROM_0,
    "attention.*.first": _whole(0, _LARGEST),
    "check": LIST,
    "check.*": OBJECT,
    "check.*.mean": NUMBER,
    "check.*.worst": NUMBER,
    "check.*.limit": FROM_0,
    "config.seed": _whole(0),
    **dict.fromkeys(
        ("config.model", "config.data", "config.windows", "config.protocol", "config.analysis"),
        OBJECT,
    ),
    "config.protocol.kind": TEXT,
    "config.protocol.at": TEXT,
    "config.analysis.tolerances": LIST,
    "config.analysis.tolerances.*": (ALLOWED, _is_tolerance),
    "config.analysis.bins_per_octave": _whole(1, 64),
    "config.analysis.resamples": _whole(1, 1_000_000),
    "config.analysis.confidence": ("a number between 0 and 1", _is_confidence),
    "config.analysis.simultaneous": ("true or false", _of(bool)),
    "config.analysis.classes": LIST,
    "config.analysis.classes.*": TEXT,
}
"""Where a value is, what is allowed there, and whether a value is that; ``*`` is every part of a
list or object. Null is a value that is not said."""
_ITEMS = (
    "data.documents.*",
    "data.documents.*.spans.*",
    "check.*",
    "config.analysis.tolerances.*",
    "config.analysis.classes.*",
)
"""Where null is none of the values."""


def _mistakes(record: Mapping[str, Any], needs: Needs) -> Iterator[str]:
    wrong: set[str] = set()
    for path, (allowed, fits) in RULES.items():
        for where, value in _at(record, path.split(".")):
            if where.rpartition(".")[0] in wrong:  # told already, as a whole
                wrong.add(where)
            elif not (fits(value) or (value is None and path not in _ITEMS)):
                wrong.add(where)
                yield f"{where} is {_shown(value)}; allowed: {allowed}"
    for where, document in _at(record, ["data", "documents", "*"]):
        if where not in wrong and "data.documents" not in wrong and document.get("id") is None:
            yield f"{where}.id is missing; allowed: {TEXT[0]}"
    for _, protocol in _at(record, ["config", "protocol"]):
        kind = protocol.get("kind") if isinstance(protocol, dict) else None
        for name, lowest in needs(kind).items() if isinstance(protocol, dict) else ():
            allowed, fits = _whole(lowest, _LARGEST)
            if not fits(protocol.get(name)):
                value = _shown(protocol[name]) if name in protocol else "missing"
                yield f"config.protocol.{name} is {value}; allowed: {allowed}"


def _at(value: Any, path: list[str], where: str = "") -> Iterator[tuple[str, Any]]:
    """The values at a path, each with where it is; none where a part of the path is not there."""
    if not path:
        yield where.removeprefix("."), value
        return
    first, *rest = path
    found: Iterator[tuple[Any, Any]] = iter(())
    if first == "*" and isinstance(value, list):
        found = iter(enumerate(value))
    elif isinstance(value, dict):
        found = iter(value.items()) if first == "*" else iter([(first, value.get(first))])
    for name, part in found:
        yield from _at(part, rest, f"{where}.{name}")


def _told(path: Path, mistakes: list[str]) -> str:
    if len(mistakes) == 1:
        return f"'{path}': {mistakes[0]}"
    more = len(mistakes) - _MOST_TOLD
    lines = mistakes[:_MOST_TOLD] + ([f"and {more:,} more"] if more > 0 else [])
    return "\n  ".join([f"'{path}' has {len(mistakes):,} mistakes:", *lines])


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
