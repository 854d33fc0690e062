"""The configuration: one YAML file, every key checked, every mistake told at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from probe.attention.parse import expand
from probe.config_protocols import ProtocolConfig, SweepConfig, with_windows
from probe.errors import UsageError
from probe.options import (
    AnalysisConfig,
    DataConfig,
    ModelConfig,
    Part,
    WindowsConfig,
    allowed,
)
from probe.perturbations.condition import Condition, parse
from probe.perturbations.register import load_file
from probe.protocol import Plan
from probe.text import MOST, one_line, shown

Measure = Literal["nll", "kl", "top1", "entropy"]
# What PyYAML lets through of a value that is none: 2020-13-45, !!int x, 5,000 brackets.
NO_YAML = (yaml.YAMLError, ValueError, AttributeError, RecursionError)
NLL: tuple[Measure, ...] = ("nll",)
MOST_TOLD = 20
"""Mistakes that are told one by one."""
MOST_VALUES = 1_000_000
"""Values that a configuration may hold."""
ConditionText = Annotated[str, BeforeValidator(lambda condition: parse(condition).text)]


class Config(Part):
    """A whole experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255)]
    model: ModelConfig
    data: DataConfig
    windows: WindowsConfig = WindowsConfig()
    protocol: Annotated[ProtocolConfig, Field(discriminator="kind")] = SweepConfig()
    perturbations: list[Annotated[str, AfterValidator(load_file)]] = Field(default_factory=list)
    conditions: Annotated[list[ConditionText], Field(min_length=1)]
    first_token: Literal["keep", "none", "published"] = "keep"
    repeats: Annotated[int, Field(ge=1, le=32767)] = 1  # the column is int16
    measures: list[Measure] = Field(default_factory=lambda: list(NLL), min_length=1)
    patterns: Literal["dense", "flex"] = "dense"
    batch: Annotated[Literal["auto"] | PositiveInt, allowed("auto, or a number of windows")] = (
        "auto"
    )
    seed: Annotated[int, Field(ge=0)] = 0
    analysis: AnalysisConfig = AnalysisConfig()

    @model_validator(mode="before")
    @classmethod
    def _own_windows(cls, content: Any) -> Any:
        return with_windows(content) if isinstance(content, Mapping) else content

    @field_validator("protocol", mode="before")
    @classmethod
    def _sweep_by_default(cls, protocol: Any) -> Any:
        return {"kind": "sweep", **protocol} if isinstance(protocol, dict) else protocol

    @field_validator("measures")
    @classmethod
    def _each_once(cls, measures: list[Measure], info: ValidationInfo) -> list[Measure]:
        if "kl" in measures and getattr(info.data.get("protocol"), "kind", None) == "suffix":
            raise ValueError("allowed with protocol suffix: nll, top1, entropy; candidates differ")
        return list(dict.fromkeys(measures))

    @field_validator("conditions", mode="before")
    @classmethod
    def _written_out(cls, conditions: Any) -> Any:
        """Each layer or head that a text names by ``each(n)`` is a condition of its own."""
        if not isinstance(conditions, list | tuple):
            return conditions
        every = [expand(one) if isinstance(one, str) else [one] for one in conditions]
        return [text for texts in every for text in texts]

    @field_validator("conditions")
    @classmethod
    def _distinct(cls, conditions: list[str], info: ValidationInfo) -> list[str]:
        # `intact` is always scored; a condition named twice is one condition.
        known = _with_controls(conditions)
        known.pop("intact", None)
        if not known:
            raise ValueError("allowed: one condition or more besides intact")
        texts, every = list(known), known.values()
        others = [one for one in every if one.text != "truncate" and not one.is_noise]
        kind = getattr(info.data.get("protocol"), "kind", None)
        if kind in ("longppl", "suffix") and (others or "truncate" not in known):
            raise ValueError(f"allowed with protocol {kind}: truncate, and noise beside it")
        if kind != "passages" and any("passage" in one.reads | one.sources for one in every):
            raise ValueError("allowed with protocol passages alone: move, source='passage'")
        if kind == "dense" and texts != ["truncate"]:
            raise ValueError("allowed with protocol dense: truncate")
        patterns = [one.text for one in every if one.pattern is not None]
        if patterns and kind not in ("sweep", "grid"):
            raise ValueError(f"{patterns[0]}: allowed with protocol sweep or grid")
        return texts

    @model_validator(mode="after")
    def _sequences_alone(self) -> "Config":
        targets = getattr(self.protocol, "targets", None)
        if not (getattr(targets, "alone", False) or getattr(targets, "count", 0) == 1):
            for condition in self.parsed:
                if condition.alone:
                    raise ValueError(
                        f"conditions: {shown(condition.text)} depends on its target, and targets "
                        "that "
                        "share a sequence would share its far context; allowed: protocol grid or "
                        "band with targets: {alone: true}"
                    )
        return self

    @property
    def parsed(self) -> tuple[Condition, ...]:
        """The conditions, read."""
        return tuple(parse(text) for text in self.conditions)

    @property
    def plan(self) -> Plan:
        """The protocol for this configuration's windows.

        Raises:
            UsageError: If it does not fit them.
        """
        return self.protocol.plan(self.windows)


def _with_controls(conditions: Sequence[str]) -> dict[str, Condition]:
    """Each condition once, a targeted removal with its count-matched control behind it."""
    known: dict[str, Condition] = {}
    for text in conditions:
        known[text] = parse(text)
        if (control := known[text].control) is not None:
            known[control.text] = control
    return known


def load(path: Path, changes: Sequence[tuple[str, str]] = ()) -> Config:
    """Read a configuration file.

    Args:
        path: A YAML file.
        changes: Dotted keys and YAML values that replace what the file says:
            ``("windows.length", "8192")``.

    Raises:
        UsageError: Every mistake, a line each: its path, the value, what is allowed.
    """
    try:
        content = _read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"configuration {path}: {error.strerror}") from error
    except NO_YAML as error:
        raise UsageError(f"configuration {path} is no YAML: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise UsageError(f"configuration {path} holds {shown(content)}; allowed: keys with values")
    for key, value in changes:
        _change(content, key, value)
    return check(content, where=str(path))


def check(content: Mapping[str, Any], where: str = "configuration") -> Config:
    """Make a configuration of plain values, as a notebook has them.

    Args:
        content: What a YAML file would hold.
        where: What to call it in the message.

    Raises:
        UsageError: Every mistake, a line each.
    """
    if not isinstance(content, Mapping):
        raise UsageError(f"{where} is {shown(content)}; allowed: a mapping of keys to values")
    _refuse_endless(content, where)
    try:
        config = Config.model_validate(content, context=_columns(content))
    except ValidationError as error:
        mistakes = [f"  {_mistake(detail)}" for detail in error.errors()[:MOST_TOLD]]
        if (more := error.error_count() - len(mistakes)) > 0:
            mistakes.append(f"  … and {more:,} more")
        told = "\n".join(mistakes)
        raise UsageError(f"{where} has {error.error_count():,} mistake(s):\n{told}") from error
    config.plan  # noqa: B018 - raises where the protocol does not fit the windows
    return config


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


def _refuse_endless(content: object, where: str) -> None:
    """Refuse what a few lines of YAML can stand for, and nothing can be done with.

    Raises:
        UsageError: If there are more than ``MOST_VALUES``, each alias written out, or a number has
            more than 64 bits.
    """
    waiting, count = [content], 0
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


def _columns(content: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata columns, which the token classes of another part may be."""
    data = content.get("data")
    columns = data.get("metadata_columns") if isinstance(data, Mapping) else None
    named = isinstance(columns, list | tuple) and all(isinstance(one, str) for one in columns)
    return {"metadata_columns": tuple(columns) if named and columns else ()}


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


def _mistake(detail: Any) -> str:
    """One pydantic error as one line in the words of the file."""
    if not detail["loc"]:  # of keys together: it names them itself
        return str(detail["msg"]).removeprefix("Value error, ")
    kind = 1 if detail["loc"][0] == "protocol" else None  # the tag that pydantic puts in there
    path = one_line(".".join(str(part) for at, part in enumerate(detail["loc"]) if at != kind))
    value = shown(detail["input"])
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown key (value {value})"
    if detail["type"] == "missing":
        return f"{path}: is missing"
    if detail["type"] == "union_tag_invalid":
        tag, tags = detail["ctx"]["tag"], detail["ctx"]["expected_tags"]
        return f"{path}.kind: is {shown(tag)}; allowed: {tags}"
    message = str(detail["msg"]).removeprefix("Value error, ")
    said = detail["type"] == "value_error" and value in message
    return f"{path}: {message}" + ("" if said else f"; got {value}")
