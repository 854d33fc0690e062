"""A YAML file as plain values, and every mistake in it as a line in the file's own words."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from probe.errors import UsageError
from probe.fields import Part
from probe.text import MOST, one_line, shown, suggestion

# What PyYAML lets through of a value that is none: 2020-13-45, !!int x, 5,000 brackets.
NO_YAML = (yaml.YAMLError, ValueError, AttributeError, RecursionError)
TOLD = "told"
"""Type of an error of ours whose message holds the value, and what is allowed, already."""
MOST_TOLD = 20
"""Mistakes that are told one by one."""
MOST_VALUES = 1_000_000
"""Values that a configuration may hold."""


def read_file(path: Path) -> dict[str, Any]:
    """The plain values of a configuration file, unchecked.

    Raises:
        UsageError: If it cannot be read, or is no mapping.
    """
    try:
        content = _read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"configuration {path}: {error.strerror}") from error
    except NO_YAML as error:
        raise UsageError(f"configuration {path} is no YAML: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise UsageError(f"configuration {path} holds {shown(content)}; allowed: keys with values")
    return content


def changed(content: dict[str, Any], changes: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The plain values with some of them replaced.

    Args:
        content: What a file holds; it is changed in place.
        changes: Dotted keys and YAML values: ``("windows.length", "8192")``.

    Raises:
        UsageError: If a key leads through a value that holds none, or a value is no YAML.
    """
    for key, value in changes:
        _change(content, key, value)
    return content


class _Loader(yaml.SafeLoader):
    """Reads YAML in which mappings may be merged (``<<``), each pair of keys and values once.

    PyYAML keeps them as often as they are named: some lines that merge one another would multiply
    without an end while they are read, before there is a value to count.
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        # The last of equal keys holds: of pairs named twice the last is kept.
        last = {id(key): (key, value) for key, value in reversed(node.value)}
        node.value = list(reversed(last.values()))


def _read_yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


def refuse_unusable(content: object, where: str) -> None:
    """Refuse plain values that are no mapping, or that a few lines of YAML make endless.

    Raises:
        UsageError: If they are no mapping, there are more than ``MOST_VALUES``, each alias written
            out, or a number has more than 64 bits.
    """
    if not isinstance(content, Mapping):
        raise UsageError(f"{where} is {shown(content)}; allowed: a mapping of keys to values")
    waiting: list[Any] = [content]
    count = 0
    while waiting:
        value = waiting.pop()
        count += 1
        if isinstance(value, Mapping):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, int) and value.bit_length() > 64:
            raise UsageError(f"{where} holds {shown(value)}; allowed: whole numbers of 64 bits")
        if count + len(waiting) > MOST_VALUES:
            raise UsageError(
                f"{where} holds more than {MOST_VALUES:,} values, with every alias written out; "
                "allowed: no more than that"
            )


def _change(content: dict[str, Any], key: str, value: str) -> None:
    """Put one ``--set key=value`` into the plain values."""
    *parents, last, setting = *key.split("."), f"{key}={value}"
    place: Any = content
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise UsageError(f"--set {one_line(setting, MOST)}: {shown(parent)} holds no keys")
    try:
        place[last] = _read_yaml(value)
    except NO_YAML as error:
        raise UsageError(
            f"--set {one_line(setting, MOST)}: the value is no YAML: {one_line(error)}"
        ) from error


def mistakes(error: ValidationError, where: str, parts: Mapping[str, Sequence[str]]) -> UsageError:
    """What pydantic refused as an error of ours, a line for each mistake.

    Args:
        error: What it raised.
        where: What to call the whole.
        parts: The keys of every part by its path, see :func:`keys_of_parts`.
    """
    lines = [f"  {_mistake(detail, parts)}" for detail in error.errors()[:MOST_TOLD]]
    if (more := error.error_count() - len(lines)) > 0:
        lines.append(f"  … and {more:,} more")
    told = "\n".join(lines)
    return UsageError(f"{where} has {error.error_count():,} mistake(s):\n{told}")


def keys_of_parts(
    whole: type[Part], others: Mapping[str, type[Part] | None]
) -> dict[str, Sequence[str]]:
    """The keys of every part of a configuration, by the part's path; of the whole by the empty.

    Args:
        whole: The configuration.
        others: Parts whose type the values say, by their path.
    """
    waiting: list[tuple[str, type[Part]]] = [("", whole)]
    found: dict[str, Sequence[str]] = {}
    while waiting:
        path, part = waiting.pop()
        found[path] = list(part.model_fields)
        for name, field in part.model_fields.items():
            inside = f"{path}.{name}" if path else name
            inner = others.get(inside, field.annotation)
            types = [one for one in (inner, *get_args(inner)) if isinstance(one, type)]
            waiting += [(inside, one) for one in types if issubclass(one, Part)]
    return found


def _mistake(detail: Any, parts: Mapping[str, Sequence[str]]) -> str:
    """One pydantic error as one line in the words of the file.

    Args:
        detail: The error.
        parts: The keys of every part.
    """
    if not detail["loc"]:  # of keys together: it names them itself
        return str(detail["msg"]).removeprefix("Value error, ")
    path = one_line(".".join(map(str, detail["loc"])))
    value = shown(detail["input"])
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown key (value {value}){_meant_key(detail['loc'], parts)}"
    if detail["type"] == "missing":
        return f"{path}: is missing"
    if detail["type"] == TOLD:
        return f"{path}: {detail['msg']}"
    message = str(detail["msg"]).removeprefix("Value error, ")
    said = detail["type"] == "value_error" and value in message
    choices = re.findall("'([^']*)'", message) if detail["type"] == "literal_error" else []
    meant = suggestion(detail["input"], choices)
    return f"{path}: {message}" + ("" if said else f"; got {value}{meant}")


def _meant_key(place: Sequence[str | int], parts: Mapping[str, Sequence[str]]) -> str:
    """The key that an unknown one was probably meant to be: one of its part, or of another part."""
    *parents, key = place
    beside = parts.get(".".join(map(str, parents)), ())
    if known := suggestion(key, beside):
        return known
    elsewhere = [f"{part}.{name}" for part, names in parts.items() for name in names if part]
    return suggestion(key, [name for name in elsewhere if name.rpartition(".")[2] == key])
