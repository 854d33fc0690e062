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
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError

from probe.attention.parse import expand
from probe.corpus.dataset import DataOptions, expand_home, file_format
from probe.errors import UsageError
from probe.perturbations.condition import Condition, parse
from probe.protocols import registry
from probe.protocols.base import Part, Plan, Protocol, WindowsConfig
from probe.protocols.sweep import SweepProtocol
from probe.registry import run_file
from probe.text import MOST, one_line, shown

Measure = Literal["nll", "kl", "top1", "entropy"]
# What PyYAML lets through of a value that is none: 2020-13-45, !!int x, 5,000 brackets.
NO_YAML = (yaml.YAMLError, ValueError, AttributeError, RecursionError)
UNKNOWN_KIND = "unknown_kind"
MOST_TOLD = 20
"""Mistakes that are told one by one."""
MOST_VALUES = 1_000_000
"""Values that a configuration may hold."""
DataFiles = str | list[str] | dict[str, str | list[str]]
ConditionText = Annotated[str, BeforeValidator(lambda condition: parse(condition).text)]


def allowed(words: str) -> WrapValidator:
    """Answer a value of none of several types with one line, not with one for each type."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            raise ValueError(f"allowed: {words}") from error

    return WrapValidator(validate)


class ModelConfig(Part):
    """Which model, and how it is loaded."""

    path: str
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    attention: str = "sdpa"
    trust_remote_code: bool = False


class DataConfig(Part):
    """Which documents; the keys are those of `probe.corpus.dataset.DataOptions`."""

    path: str
    name: str | None = None
    revision: str | None = None
    split: str = "train"
    options: dict[str, Any] = Field(default_factory=dict)
    data_files: Annotated[
        DataFiles | None, allowed("a path or glob, a list of them, or such a list for each split")
    ] = None
    text_column: str = "text"
    ids_column: str | None = None
    max_documents: PositiveInt | None = None
    group_column: str | None = None
    metadata_columns: Annotated[tuple[str, ...], allowed("a list of columns")] = ()
    spans_column: str | None = None
    prompt_columns: Annotated[tuple[str, ...], allowed("a list of columns")] = ()
    answer_column: str | None = None
    streaming: bool = False

    @model_validator(mode="before")
    @classmethod
    def _files(cls, content: Any) -> Any:
        """A path that names files or a glob of them is written out: their format, and the files."""
        path = content.get("path") if isinstance(content, dict) else None
        if not isinstance(path, str):
            return content
        path = str(expand_home(path)) if path.startswith("~") else path
        try:
            found = None if content.get("data_files") else file_format(path)
        except OSError as error:
            raise ValueError(f"path: {error.strerror}") from error
        files = {} if found is None else {"data_files": [path]}
        return {**content, "path": found or path, **files}

    @model_validator(mode="after")
    def _one_way(self) -> "DataConfig":
        if bool(self.prompt_columns) != (self.answer_column is not None):
            raise ValueError("prompt_columns and answer_column go together; one of them is missing")
        if self.prompt_columns and (self.spans_column or self.ids_column):
            raise ValueError(
                "prompt_columns make their own passages; allowed without: spans_column, ids_column"
            )
        if self.spans_column and self.ids_column:
            raise ValueError("spans_column holds characters of a text; allowed without: ids_column")
        return self

    @field_validator("metadata_columns")
    @classmethod
    def _free(cls, columns: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        from probe.classes.registry import check_columns

        check_columns(columns)
        read = info.data.get("ids_column") or info.data.get("text_column")
        if read in columns:
            raise ValueError(
                f"{shown(read)} holds the documents themselves; allowed: other columns"
            )
        return columns

    def as_options(self) -> DataOptions:
        """The same, as the corpus takes it."""
        return DataOptions(**self.model_dump())


class AnalysisConfig(Part):
    """How the rows are summarised; no part of a run's identity."""

    tolerances: list[str] = Field(default=["1%", "2%", "5%", "10%"], min_length=1)
    bins_per_octave: Annotated[int, Field(ge=1, le=64)] = 8
    resamples: Annotated[int, Field(ge=100)] = 2000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    simultaneous: bool = False
    classes: list[str] | None = None

    @field_validator("tolerances")
    @classmethod
    def _readable(cls, tolerances: list[str]) -> list[str]:
        from probe.results.tolerance import parse_tolerance

        for text in tolerances:
            parse_tolerance(text)
        return tolerances

    @field_validator("classes")
    @classmethod
    def _known(cls, classes: list[str] | None, info: ValidationInfo) -> list[str] | None:
        from probe.classes.registry import choose

        if classes:
            columns = (info.context or {}).get("metadata_columns", ())
            choose(classes, {column: {} for column in columns})
        return classes


class _RunFile(str):
    """A file that has been run, and what was wrong with it."""

    error: UsageError | None = None


def _loaded(file: str) -> str:
    run_file(file)
    return file


def _run(file: Any) -> Any:
    """Run a file of the user's own; what is wrong with it is kept for the field's own check."""
    if not isinstance(file, str) or isinstance(file, _RunFile):
        return file
    known = _RunFile(file)
    try:
        run_file(file)
    except UsageError as error:
        known.error = error
    return known


def _was_run(file: Any) -> Any:
    if isinstance(file, _RunFile) and file.error is not None:
        raise file.error
    return str(file) if isinstance(file, str) else file


def _kind(protocol: Mapping[str, Any]) -> Any:
    """The kind that a configuration asks for; a sweep where it does not say."""
    return protocol.get("kind", SweepProtocol().kind)


def _by_kind(protocol: Any) -> Any:
    """The protocol of a kind, of plain values."""
    if isinstance(protocol, Protocol):
        return protocol
    if not isinstance(protocol, Mapping):
        raise PydanticKnownError("model_attributes_type")
    kind = _kind(protocol)
    found = registry.protocol_of(kind)
    if found is None:
        known = ", ".join(map(repr, registry.kinds()))
        words = {"words": f"is {shown(kind)}; allowed: {known}"}
        unknown = PydanticCustomError(UNKNOWN_KIND, "{words}", words)
        mistake = InitErrorDetails(type=unknown, loc=("kind",), input=kind)
        raise ValidationError.from_exception_data("protocol", [mistake])
    return found.model_validate(protocol)


class Config(Part):
    """A whole experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255)]
    model: ModelConfig
    data: DataConfig
    windows: WindowsConfig = WindowsConfig()
    protocols: list[Annotated[str, BeforeValidator(_was_run)]] = Field(default_factory=list)
    protocol: Annotated[SerializeAsAny[Protocol], BeforeValidator(_by_kind)] = SweepProtocol()
    perturbations: list[Annotated[str, AfterValidator(_loaded)]] = Field(default_factory=list)
    conditions: Annotated[list[ConditionText], Field(min_length=1)]
    first_token: Literal["keep", "none", "published"] = "keep"
    repeats: Annotated[int, Field(ge=1, le=32767)] = 1  # the column is int16
    measures: list[Measure] = Field(default=["nll"], min_length=1)
    patterns: Literal["dense", "flex"] = "dense"
    batch: Annotated[Literal["auto"] | PositiveInt, allowed("auto, or a number of windows")] = (
        "auto"
    )
    seed: Annotated[int, Field(ge=0)] = 0
    analysis: AnalysisConfig = AnalysisConfig()

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, content: Any) -> Any:
        """What was not said and follows from the protocol, once the files that have it are run."""
        if not isinstance(content, Mapping):
            return content
        if isinstance(files := content.get("protocols"), list | tuple):
            content = {**content, "protocols": [_run(file) for file in files]}
        protocol = content.get("protocol")
        known = registry.protocol_of(_kind(protocol)) if isinstance(protocol, Mapping) else None
        return known.defaults(content) if known else content

    @field_validator("measures")
    @classmethod
    def _each_once(cls, measures: list[Measure], info: ValidationInfo) -> list[Measure]:
        if (protocol := info.data.get("protocol")) is not None:
            protocol.check_measures(measures)
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
        if (protocol := info.data.get("protocol")) is not None:
            _check_conditions(protocol, list(known.values()))
        return list(known)

    @model_validator(mode="after")
    def _sequences_alone(self) -> "Config":
        dependent = [condition for condition in self.parsed if condition.alone]
        if dependent and not self.protocol.alone:
            kinds = " or ".join(registry.kinds(lambda one: one.has_single_targets))
            raise ValueError(
                f"conditions: {shown(dependent[0].text)} depends on its target, and targets that "
                f"share a sequence would share its far context; allowed: protocol {kinds} with "
                "targets: {alone: true}"
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


def _check_conditions(protocol: Protocol, conditions: Sequence[Condition]) -> None:
    """Refuse what a protocol does not measure.

    Raises:
        ValueError: If a condition is not allowed, or one is missing.
    """
    protocol.check_conditions(conditions)
    named = any("passage" in one.reads | one.sources for one in conditions)
    if named and not protocol.has_passages:
        kinds = " or ".join(registry.kinds(lambda one: one.has_passages))
        raise ValueError(f"allowed with protocol {kinds} alone: move, source='passage'")
    patterns = [one.text for one in conditions if one.pattern is not None]
    if patterns and not protocol.allows_patterns:
        kinds = " or ".join(registry.kinds(lambda one: one.allows_patterns))
        raise ValueError(f"{patterns[0]}: allowed with protocol {kinds}")


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
    return check(changed(read_file(path), changes), where=str(path))


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
        changes: See :func:`load`.

    Raises:
        UsageError: If a key leads through a value that holds none, or a value is no YAML.
    """
    for key, value in changes:
        _change(content, key, value)
    return content


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
    if "matrix" in content:
        raise UsageError(f"{where} holds a matrix of runs; allowed: one run")
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
    path = one_line(".".join(map(str, detail["loc"])))
    value = shown(detail["input"])
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown key (value {value})"
    if detail["type"] == "missing":
        return f"{path}: is missing"
    if detail["type"] == UNKNOWN_KIND:
        return f"{path}: {detail['msg']}"
    message = str(detail["msg"]).removeprefix("Value error, ")
    said = detail["type"] == "value_error" and value in message
    return f"{path}: {message}" + ("" if said else f"; got {value}")
