"""run.json as one model: every value of it that is used is checked, and has a type, here."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from probe.errors import ProbeError, UsageError
from probe.results.tolerance import ALLOWED, parse_tolerance
from probe.text import shown

SCHEMA = 1
"""Version of the results contract; another one's folders are older, or refused."""
_MOST_TOLD = 20
_LONGEST = 60  # characters of a value
_LARGEST = 2**31 - 1
_FARTHEST = 1 << 24  # of distances that no windows limit: bins up to it fit any memory
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
        measure: The column that is measured where rows have no loss: it is read as a delta. Empty
            where they have one.
        caveat: What limits the reading, empty where nothing does.
        memory: What a pattern keeps a share of: an encoder has no cache.
        unit: What distances and lengths are counted in: ``tokens``, or ``ms`` (milliseconds).
        farthest: A distance that need not lie within the windows, as that in a source.
        is_before: Whether a distance is that from a target to far text before it, in its own text.
    """

    needs_far_start: bool = False
    context: int | None = None
    alternatives: str = ""
    measure: str = ""
    caveat: str = ""
    memory: str = "KV cache"
    unit: Literal["tokens", "ms"] = "tokens"
    farthest: int = 0
    is_before: bool = True

    def counted(self, number: int) -> str:
        """A distance or a length in words: ``1 token``, ``1,200 tokens``, ``400 ms``."""
        unit = self.unit.removesuffix("s") if number == 1 and self.unit == "tokens" else self.unit
        return f"{number:,} {unit}"

    @property
    def far_tokens(self) -> str:
        """SQL for the tokens of a row's far context, by the ``start`` of its window."""
        return "boundary - start" if self.context is None else f"{self.context} - distance"


def longest(options: Mapping[str, Any], unit: int = 1) -> int:
    """The longest of a protocol's ``distances`` as ``run.json`` has them, 0 where there is none.

    Args:
        options: What it says under ``config.protocol``.
        unit: How many of the unit of the rows one of the options' has.
    """
    given = options.get("distances")
    numbers = [unit * one for one in given if _is_number(one)] if isinstance(given, list) else []
    return max((round(one) for one in numbers if 0 <= one <= _FARTHEST), default=0)


PLAIN = Reading()
"""Far text begins with the window, and all that lies further than a distance is perturbed."""


def _allowed(words: str, fits: Callable[[Any], bool]) -> PlainValidator:
    """Refuse other values, in these words."""

    def check(value: Any) -> Any:
        if fits(value):
            return value
        raise PydanticCustomError("allowed", "{words}", {"words": words})

    return PlainValidator(check)


def _words(lowest: int, highest: int | None) -> str:
    if highest is None or highest == _LARGEST:
        return f"a whole number, {lowest} or more"
    return f"a whole number, {lowest} to {highest:,}"


def _is_whole(value: Any, lowest: int, highest: int | None) -> bool:
    return type(value) is int and lowest <= value and (highest is None or value <= highest)


def _whole(lowest: int, highest: int | None = None) -> PlainValidator:
    return _allowed(_words(lowest, highest), lambda value: _is_whole(value, lowest, highest))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_tolerance(value: Any) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(parse_tolerance(value).amount)
    except UsageError:
        return False


def _is_span(value: Any) -> bool:
    kinds = [type(part) for part in value] if isinstance(value, list) else []
    return kinds == [str, int, int] and 0 <= value[1] <= value[2] <= _LARGEST


def _is_single(value: Any) -> bool:
    return isinstance(value, str | int | float | None)


_NUMBER = _allowed("a number", _is_number)
_FROM_0 = _allowed("a number from 0 on", lambda value: _is_number(value) and 0 <= value < math.inf)
_SHARE = _allowed("a number between 0 and 1", lambda value: _is_number(value) and 0 < value < 1)
_BOOL = _allowed("true or false", lambda value: isinstance(value, bool))
_SPAN = _allowed("[name, first token, one past the last]", _is_span)
_TOLERANCE = _allowed(ALLOWED, _is_tolerance)

Single = Annotated[str | int | float | None, _allowed("text, a number or a bool", _is_single)]
From0 = Annotated[float | None, _FROM_0]
_WORDS = {"string_type": "text", "missing": "text", "list_type": "a list"}
_WORDS |= dict.fromkeys(("model_type", "dict_type"), "an object")
"""What is allowed, in other words than pydantic's."""


class _Part(BaseModel):
    """An object of run.json: more keys are let be, null and what is missing are the defaults."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _said(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {name: value for name, value in content.items() if value is not None}


_OR_EMPTY = BeforeValidator(lambda value: {} if value is None else value)


class ModelRecord(_Part):
    """The model of a run: ``path``, ``revision`` and ``dtype`` as it was loaded."""

    name: str | None = None
    vocabulary: Annotated[int | None, _whole(1, 10_000_000)] = None
    trained_length: Annotated[int | None, _whole(1)] = None
    path: Any = None
    revision: Any = None
    dtype: Any = None


class DocumentRecord(_Part):
    """A document of a run; ``spans`` are name, first token, and one past the last."""

    id: str
    group: Single = None
    metadata: dict[str, Single] = {}
    spans: list[Annotated[tuple[str, int, int], _SPAN]] = []
    sha256: Any = None


class DataRecord(_Part):
    """The data of a run."""

    name: str | None = None
    pool: list[str] = []
    documents: list[DocumentRecord] = []


class ConditionRecord(_Part):
    """What the plan says of a condition; ``curve_start`` in tokens."""

    curve_start: Annotated[int | None, _whole(0, _LARGEST)] = None


class PlanRecord(_Part):
    """The plan of a run, by canonical text of the condition."""

    conditions: dict[str, Annotated[ConditionRecord, _OR_EMPTY]] = {}
    reach: Annotated[int | None, _whole(1, _LARGEST)] = None


class PatternRecord(_Part):
    """What an attention pattern costs: keys a target, and shares of the full attention's costs."""

    keys: From0 = None
    full: From0 = None
    kv_share: From0 = None
    flops_share: From0 = None
    forward_share: From0 = None
    first: Annotated[int | None, _whole(0, _LARGEST)] = None


class CheckRecord(_Part):
    """An outcome of the self-check (nats)."""

    technique: Any = None
    passed: Any = None
    mean: Annotated[float | None, _NUMBER] = None
    worst: Annotated[float | None, _NUMBER] = None
    limit: From0 = None


class ProtocolRecord(_Part):
    """The options of a run's protocol; those of its kind are more keys."""

    kind: str | None = None
    at: str | None = None


class AnalysisRecord(_Part):
    """How the configuration asks to read the run."""

    tolerances: list[Annotated[str, _TOLERANCE]] = []
    bins_per_octave: Annotated[int | None, _whole(1, 64)] = None
    resamples: Annotated[int | None, _whole(1, 1_000_000)] = None
    confidence: Annotated[float | None, _SHARE] = None
    simultaneous: Annotated[bool | None, _BOOL] = None
    predict: Annotated[bool | None, _BOOL] = None
    classes: list[str] | None = None


class LookRecord(_Part):
    """What an interval was after so many documents; ``half_width`` is missing where it had none."""

    documents: Annotated[int, _whole(1, _LARGEST)]
    confidence: Annotated[float, _SHARE]
    half_width: From0 = None


class PrecisionRecord(_Part):
    """Which interval was to be how narrow (octaves of a length, nats of delta), and every look."""

    condition: str
    half_width: Annotated[float, _FROM_0]
    tolerance: Annotated[str | None, _TOLERANCE] = None
    distances: tuple[int, int] | None = None
    looks: list[LookRecord] = []
    needed: str | None = None


class ConfigRecord(_Part):
    """The configuration of a run."""

    seed: Annotated[int | None, _whole(0)] = None
    model: dict[str, Any] = {}
    data: dict[str, Any] = {}
    windows: dict[str, Any] = {}
    protocol: ProtocolRecord = ProtocolRecord()
    analysis: AnalysisRecord = AnalysisRecord()
    first_token: Any = None


class Record(_Part):
    """The content of run.json."""

    name: str | None = None
    status: str | None = None
    identity_hash: str | None = None
    model: ModelRecord = ModelRecord()
    data: DataRecord = DataRecord()
    plan: PlanRecord = PlanRecord()
    config: ConfigRecord = ConfigRecord()
    precision: PrecisionRecord | None = None
    attention: dict[str, Annotated[PatternRecord, _OR_EMPTY]] = {}
    check: list[CheckRecord] = []
    counts: dict[str, Any] = {}
    identity: dict[str, Any] = {}
    costs: dict[str, Any] = {}
    versions: dict[str, Any] = {}


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
        folder = path.parent
        if (folder / "study.json").is_file():
            raise UsageError(
                f"'{folder}' is the folder of a study: its runs are in {folder / 'runs'}, and "
                "`probe train CONFIG` compares them"
            )
        raise UsageError(f"'{folder}' is no run folder: it has no run.json")
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
        raise ProbeError(f"'{path}' holds {shown(record, _LONGEST)}; allowed: an object")
    if mistakes := list(_mistakes(record, needs)):
        raise ProbeError(_told(path, mistakes))
    return record


PEAK, MFU = "peak_memory", "mfu"
UNADDED = (PEAK, MFU)
"""Costs that do not add up: bytes, of which the most counts, and a share."""
GPU_FLOPS, GPU_PEAK = "gpu_flops", "gpu_peak_flops"
"""FLOPs on GPUs that are known, and those that they could have done meanwhile."""


def add_costs(before: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Costs of several calls together.

    Args:
        before: What some took, as run.json has it.
        more: What others took.
    """
    total = dict(before)
    for name, value in more.items():
        known = before.get(name, 0)
        total[name] = max(known, value) if name in UNADDED else known + value
    if total.get(GPU_FLOPS) and total.get(GPU_PEAK):
        total[MFU] = total[GPU_FLOPS] / total[GPU_PEAK]
    return total


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
        f"'{folder / 'run.json'}' has schema {shown(schema, _LONGEST)}; allowed: up to {SCHEMA},"
        " that of this version"
    )


def _mistakes(record: Mapping[str, Any], needs: Needs) -> Iterator[str]:
    try:
        Record.model_validate(record)
    except ValidationError as error:
        yield from map(_mistake, error.errors(include_url=False))
    config = record.get("config")
    protocol = config.get("protocol") if isinstance(config, dict) else None
    if not isinstance(protocol, dict):
        return
    for name, lowest in needs(protocol.get("kind")).items():
        if not _is_whole(protocol.get(name), lowest, _LARGEST):
            value = shown(protocol[name], _LONGEST) if name in protocol else "missing"
            yield f"config.protocol.{name} is {value}; allowed: {_words(lowest, _LARGEST)}"


def _mistake(error: ErrorDetails) -> str:
    """Where a value is, what it is, and what is allowed there."""
    place, value = error["loc"], error["input"]
    where, allowed = ".".join(map(str, place)), _WORDS.get(error["type"], error["msg"])
    said = "missing" if error["type"] == "missing" else shown(value, _LONGEST)
    return f"{where} is {said}; allowed: {allowed}"


def _told(path: Path, mistakes: list[str]) -> str:
    if len(mistakes) == 1:
        return f"'{path}': {mistakes[0]}"
    more = len(mistakes) - _MOST_TOLD
    lines = mistakes[:_MOST_TOLD] + ([f"and {more:,} more"] if more > 0 else [])
    return "\n  ".join([f"'{path}' has {len(mistakes):,} mistakes:", *lines])
