"""What every part of a configuration is, and the windows, which protocols are fitted to."""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from probe.errors import UsageError


def allowed(words: str) -> WrapValidator:
    """Answer a value of none of several types with one line, not with one for each type."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            raise ValueError(f"allowed: {words}") from error

    return WrapValidator(validate)


class Part(BaseModel):
    """A part of the configuration: unknown keys are mistakes, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WindowsConfig(Part):
    """Which windows of a document; without a length the whole document is one."""

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
