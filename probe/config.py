"""The configuration: one YAML file, every key checked, every mistake told at once."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError

from probe.attention.parse import expand
from probe.corpus.dataset import DataOptions
from probe.errors import UsageError
from probe.fields import Label, Part, allowed
from probe.perturbations.condition import Condition, parse
from probe.protocols import registry
from probe.protocols.base import Plan, Protocol, WindowsConfig
from probe.protocols.sweep import SweepProtocol
from probe.registry import run_file
from probe.text import shown, suggestion
from probe.yaml_file import TOLD, changed, keys_of_parts, mistakes, read_file, refuse_unusable

if TYPE_CHECKING:
    from probe.analysis.looks import Target

Measure = Literal["nll", "kl", "top1", "entropy", "embedding"]
ConditionText = Annotated[str, BeforeValidator(lambda condition: parse(condition).text)]


DeviceMap = Literal["auto", "balanced", "balanced_low_0", "sequential"] | dict[str, int | str]


def _check_address(served: str) -> None:
    """Refuse an address that is none, or that holds a secret, which is not repeated."""
    try:
        parts = urlsplit(served)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
        parts = urlsplit("")
    if "@" in served or parts.query or parts.fragment:
        raise ValueError(
            "model.served holds more than an address; allowed: http://host:port, and a key in the "
            "environment, PROBE_API_KEY"
        )
    if not fits:
        raise ValueError(f"model.served is {shown(served)}; allowed: http://host:port")


class ModelConfig(Part):
    """Which model, and how it is loaded."""

    path: str
    """hub name, folder, GGUF file, or package://<package>/<model> of an installed package"""
    label: Label | None = None
    """what to call it in tables and figures; null: as its folder, file or repository"""
    revision: str | None = None
    """branch, tag or commit on the hub"""
    family: Literal["auto", "causal", "masked", "encoder", "seq2seq", "speech-seq2seq"] = "auto"
    """auto: as its config.json says"""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the device computes in it, else float32 (CUDA: float16)"""
    device: str = "auto"
    """auto: CUDA where there is one, else the CPU"""
    device_map: DeviceMap | None = None
    """how accelerate spreads the weights over devices; null: all on one"""
    quantization: Literal["bitsandbytes-4bit", "torchao-int8"] | None = None
    """weights in fewer bits, as transformers' loader makes them"""
    adapter: str | None = None
    """a folder or hub name of PEFT weights that are put on the model"""
    served: str | None = None
    """address of a server that holds the model, http://host:port; path then gives the tokenizer"""
    api: Literal["vllm", "sglang"] | None = None
    """what the server is"""
    concurrency: int = Field(16, ge=1, le=1024)
    """requests to the server at once"""
    attention: str = "sdpa"
    """attention implementation of transformers"""
    compile: bool = False
    """let torch compile the model's body, where that is exact and faster on a window of the run"""
    trust_remote_code: bool = False
    """run the code that comes with a model of the hub"""


class DataConfig(DataOptions):
    """Which documents; columns that describe them are token classes, too."""

    @field_validator("metadata_columns")
    @classmethod
    def _classes(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        from probe.classes.registry import check_columns

        check_columns(columns)
        return columns


class AnalysisConfig(Part):
    """How the rows are summarised; no part of a run's identity."""

    tolerances: list[str] = Field(default=["1%", "2%", "5%", "10%"], min_length=1)
    """what may be lost: a share of perplexity, or nats per token"""
    bins_per_octave: Annotated[int, Field(ge=1, le=64)] = 8
    resamples: Annotated[int, Field(ge=100)] = 2000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    simultaneous: bool = False
    classes: list[str] | None = None
    predict: bool = True
    """let the token ids of documents that are not scored narrow the intervals"""
    population: Annotated[int, Field(ge=0)] = 500
    """most documents whose token ids are read for that, the scored ones among them"""

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
        from probe.classes.registry import choose, is_user

        if classes:
            classes = [_beside(one, info) if is_user(one) else one for one in classes]
            columns = (info.context or {}).get("metadata_columns", ())
            choose(classes, {column: {} for column in columns})
        return classes


class PrecisionConfig(Part):
    """Which interval ends a run once it is narrow enough; no part of a run's identity."""

    answer: str | None = None
    """an effective context, condition@tolerance: truncate@1%"""
    octaves: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """with answer: half the width that its interval may have"""
    nats: str | None = None
    """half the width that the interval of delta may have, and where: 0.01 @ 512-1023"""
    condition: ConditionText | None = None
    """with nats: whose delta; null: truncate, or else the first condition"""

    @model_validator(mode="after")
    def _one_interval(self) -> "PrecisionConfig":
        given = {name for name, value in self if value is not None}
        if given not in ({"answer", "octaves"}, {"nats"}, {"nats", "condition"}):
            raise ValueError(
                "allowed: {answer: truncate@1%, octaves: 0.5}, or {nats: 0.01 @ 512-1023}, with or "
                "without condition"
            )
        return self

    def target(self, config: "Config") -> "Target":
        """The interval that is meant.

        Raises:
            UsageError: If the run that *config* describes has no such interval, or none that can
                become as narrow.
        """
        from probe.analysis.looks import asked_delta, asked_length, refuse_few

        protocol = config.protocol
        if not protocol.has_length:
            kinds = ", ".join(registry.kinds(lambda one: one.has_length))
            raise UsageError(
                f"precision: protocol {registry.kind_of(type(protocol))} has no interval around a "
                f"curve; allowed: protocol {kinds}"
            )
        refuse_few(config.data.max_documents)
        conditions = [c.text for c in config.parsed if not c.is_noise and c.pattern is None]
        analysis = config.analysis
        if self.answer is not None and self.octaves is not None:
            bins, tolerances = analysis.bins_per_octave, analysis.tolerances
            return asked_length(self.answer, self.octaves, conditions, tolerances, bins)
        assert self.nats is not None
        return asked_delta(self.nats, self.condition, conditions, config.plan.reach)


class _RunFile(str):
    """A file that has been run, and what was wrong with it."""

    error: UsageError | None = None


def _beside(file: str, info: ValidationInfo) -> str:
    """A Python file beside the configuration, or else as seen from the working directory.

    Args:
        file: Its path; a function in it may follow behind a colon.
        info: What is known of the configuration.
    """
    folder: Path | None = (info.context or {}).get("folder")
    name = file.rpartition(":")[0] or file
    with suppress(OSError, ValueError):  # a name that is too long, or holds NUL
        if folder is not None and (folder / name).is_file():
            return str(folder / file)
    return file


def _loaded(file: str, info: ValidationInfo) -> str:
    file = _beside(file, info)
    run_file(file)
    return file


OwnFile = Annotated[str, AfterValidator(_loaded)]
"""A Python file of the user's own, which is run."""


def _run(file: Any, info: ValidationInfo) -> Any:
    """Run a file of the user's own; what is wrong with it is kept for the field's own check."""
    if not isinstance(file, str) or isinstance(file, _RunFile):
        return file
    known = _RunFile(_beside(file, info))
    try:
        run_file(known)
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
        allowed = f"allowed: {', '.join(map(repr, registry.kinds()))}"
        words = {"words": f"is {shown(kind)}{suggestion(kind, registry.kinds(), allowed)}"}
        unknown = PydanticCustomError(TOLD, "{words}", words)
        mistake = InitErrorDetails(type=unknown, loc=("kind",), input=kind)
        raise ValidationError.from_exception_data("protocol", [mistake])
    return found.model_validate(protocol)


class Config(Part):
    """A whole experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255)]
    """of the run and of its folder in results; the same name goes on where it stopped"""
    model: ModelConfig
    data: DataConfig
    windows: WindowsConfig = WindowsConfig()
    protocols: list[Annotated[str, BeforeValidator(_was_run)]] = Field(default_factory=list)
    """Python files with protocols of your own, beside this file or in the working directory"""
    protocol: Annotated[SerializeAsAny[Protocol], BeforeValidator(_by_kind)] = SweepProtocol()
    perturbations: list[OwnFile] = Field(default_factory=list)
    """Python files with perturbations of your own, beside this file or in the working directory"""
    conditions: Annotated[list[ConditionText], Field(min_length=1)]
    """what is done to far text; probe list has others"""
    first_token: Literal["keep", "none", "published"] = "keep"
    """keep puts the BOS, or a window's first token, in front of every condition"""
    repeats: Annotated[int, Field(ge=1, le=32767)] = 1  # the column is int16
    """random draws of every condition"""
    measures: list[Measure] = Field(default=["nll"], min_length=1)
    """nll, kl, top1, entropy; embedding of encoders"""
    patterns: Literal["dense", "flex"] = "dense"
    batch: Annotated[Literal["auto"] | PositiveInt, allowed("auto, or a number of windows")] = (
        "auto"
    )
    seed: Annotated[int, Field(ge=0)] = 0
    """of the sample of documents, the windows and the draws"""
    precision: PrecisionConfig | None = None
    """stop once narrow enough: {answer: truncate@1%, octaves: 0.5}"""
    analysis: AnalysisConfig = AnalysisConfig()

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, content: Any, info: ValidationInfo) -> Any:
        """What was not said and follows from the protocol, once the files that have it are run."""
        if not isinstance(content, Mapping):
            return content
        if isinstance(files := content.get("protocols"), list | tuple):
            content = {**content, "protocols": [_run(file, info) for file in files]}
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
        """Each layer or head that a text names by ``each(n)`` is a condition of its own.

        One text is a list of one.
        """
        if isinstance(conditions, str):
            conditions = [conditions]
        if not isinstance(conditions, list | tuple):
            return conditions
        every = [expand(one) if isinstance(one, str) else [one] for one in conditions]
        return [text for texts in every for text in texts]

    @field_validator("conditions")
    @classmethod
    def _distinct(cls, conditions: list[str], info: ValidationInfo) -> list[str]:
        # `intact` is always scored; a condition named twice is one condition.
        protocol: Protocol | None = info.data.get("protocol")
        if protocol is not None:
            conditions = [one.text for c in conditions for one in protocol.written_out(parse(c))]
        known = _with_controls(conditions)
        known.pop("intact", None)
        if not known:
            raise ValueError("allowed: one condition or more besides intact")
        if protocol is not None:
            _check_conditions(protocol, list(known.values()))
        return list(known)

    @model_validator(mode="after")
    def _fits_its_protocol(self) -> "Config":
        self.protocol.check_data(self.data)
        _check_characters(self)
        if (self.model.served is None) != (self.model.api is None):
            raise ValueError(
                f"model.served is {shown(self.model.served)}, model.api {shown(self.model.api)}; "
                "allowed: both, or none of them"
            )
        if self.model.served is not None:
            _check_address(self.model.served)
            for name in ("adapter", "quantization", "device_map"):
                if getattr(self.model, name) is not None:
                    raise ValueError(
                        f"model.{name} with model.served: how weights are held is the server's "
                        "matter; allowed: one of the two"
                    )
        if self.model.compile:
            whose = {"served": "is held by a server", "device_map": "is moved about layer by layer"}
            for name, words in whose.items():
                if getattr(self.model, name) is not None:
                    raise ValueError(
                        f"model.compile with model.{name}: a model that {words} is not compiled "
                        "here; allowed: one of the two"
                    )
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


def _check_characters(config: Config) -> None:
    """Refuse windows of characters where there are none, or where only tokens are measured.

    Raises:
        ValueError: If so.
    """
    if config.windows.unit != "characters":
        return
    # A pattern counts tokens; a text that windows share has as many as the longest far text, which
    # more documents may make longer.
    counted = (one.text for one in config.parsed if one.pattern is not None or one.shared)
    in_tokens = next(counted, None)
    if not config.protocol.allows_characters:
        kinds = " or ".join(registry.kinds(lambda one: one.allows_characters))
        raise ValueError(f"windows.unit is 'characters'; allowed with protocol {kinds}")
    if config.data.ids_column is not None:
        raise ValueError("windows.unit is 'characters'; allowed without data.ids_column")
    if in_tokens is not None:
        raise ValueError(f"windows.unit is 'characters'; allowed without {in_tokens}")


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
    parts = [one.text for one in conditions if one.of is not None]
    if parts and not protocol.has_source:
        kinds = " or ".join(registry.kinds(lambda one: one.has_source))
        raise ValueError(f"{parts[0]}: of= is allowed with protocol {kinds}")
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
    return check(changed(read_file(path), changes), where=str(path), folder=path.parent)


def check(
    content: Mapping[str, Any], where: str = "configuration", folder: Path | None = None
) -> Config:
    """Make a configuration of plain values, as a notebook has them.

    Args:
        content: What a YAML file would hold.
        where: What to call it in the message.
        folder: Where Python files that it names are looked for first; then, and by default, they
            are seen from the working directory.

    Raises:
        UsageError: Every mistake, a line each.
    """
    refuse_unusable(content, where)
    if "matrix" in content:
        raise UsageError(f"{where} holds a matrix of runs; allowed: one run")
    try:
        config = Config.model_validate(content, context=_columns(content) | {"folder": folder})
    except ValidationError as error:
        raise mistakes(error, where, _parts(content)) from error
    config.plan  # noqa: B018 - raises where the protocol does not fit the windows
    if config.precision is not None:
        config.precision.target(config)  # raises where the run has no such interval
    return config


def _columns(content: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata columns, which the token classes of another part may be."""
    data = content.get("data")
    columns = data.get("metadata_columns") if isinstance(data, Mapping) else None
    named = isinstance(columns, list | tuple) and all(isinstance(one, str) for one in columns)
    return {"metadata_columns": tuple(columns) if named and columns else ()}


def _parts(content: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """The keys of every part of a configuration, by the part's path."""
    protocol = content.get("protocol")
    kind = registry.protocol_of(_kind(protocol if isinstance(protocol, Mapping) else {}))
    return keys_of_parts(Config, {"protocol": kind})
