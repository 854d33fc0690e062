"""The parts of a configuration, each a value that checks itself."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from probe.corpus.data_files import expand_home
from probe.corpus.dataset import DataOptions, file_format
from probe.errors import UsageError
from probe.text import shown


def allowed(words: str) -> WrapValidator:
    """Answer a value of none of several types with one line, not with one for each type."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            raise ValueError(f"allowed: {words}") from error

    return WrapValidator(validate)


DataFiles = str | list[str] | dict[str, str | list[str]]


class Part(BaseModel):
    """A part of the configuration: unknown keys are mistakes, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
        from probe.classes.choice import check_columns

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


class WindowsConfig(Part):
    """Which windows of a document; without a length (``longppl``) the whole document is one."""

    length: Annotated[int, Field(ge=8)] | None = 2048
    per_document: PositiveInt | None = 4
    skip: Annotated[int, Field(ge=0)] = 0

    @property
    def fixed(self) -> int:
        """Tokens of every window.

        Raises:
            UsageError: If it is not said.
        """
        if self.length is None:
            raise UsageError("windows.length is null; allowed with this protocol: a whole number")
        return self.length


class AnalysisConfig(Part):
    """How the rows are summarised; no part of a run's identity."""

    tolerances: Annotated[list[str], Field(min_length=1)] = ["1%", "2%", "5%", "10%"]
    bins_per_octave: Annotated[int, Field(ge=1, le=64)] = 8
    resamples: Annotated[int, Field(ge=100)] = 2000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    simultaneous: bool = False
    classes: list[str] | None = None

    @field_validator("tolerances")
    @classmethod
    def _readable(cls, tolerances: list[str]) -> list[str]:
        from probe.analysis.tolerance import parse_tolerance

        for text in tolerances:
            parse_tolerance(text)
        return tolerances

    @field_validator("classes")
    @classmethod
    def _known(cls, classes: list[str] | None, info: ValidationInfo) -> list[str] | None:
        from probe.classes.choice import choose

        if classes:
            columns = (info.context or {}).get("metadata_columns", ())
            choose(classes, {column: {} for column in columns})
        return classes
