"""What the parts of a configuration are made of; pydantic is loaded with it."""

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)


class Part(BaseModel):
    """A part of the configuration: unknown keys are mistakes, values do not change.

    What stands below a field says what it is, also in `probe list` and `probe init`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def allowed(words: str) -> WrapValidator:
    """Answer a value of none of several types with one line, not with one for each type."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            raise ValueError(f"allowed: {words}") from error

    return WrapValidator(validate)


def _label(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("allowed: text to show, on one line")
    return text.strip()


Label = Annotated[str, Field(max_length=200), AfterValidator(_label)]
"""What the user calls a model or a data set."""
