"""Checks of values: each error names what they are of, the value and what is allowed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from probe.text import shown, suggestion


def count(parameter: str, value: Any, *, least: int, most: int | None = None) -> int:
    """Check a whole number.

    Args:
        parameter: Name of the parameter, for the error.
        value: What was given for it.
        least: The smallest value allowed.
        most: The largest; ``None`` is any.

    Returns:
        *value* as an int.

    Raises:
        ValueError: If *value* is no integer (bool is none), below *least* or above *most*.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{parameter} must be an integer >= {least}; got {shown(value)}")
    if most is not None and value > most:
        raise ValueError(f"{parameter} must be an integer up to {most:,}; got {shown(value)}")
    return int(value)


def share(parameter: str, value: Any) -> float:
    """Check a share of the tokens.

    Args:
        parameter: Name of the parameter, for the error.
        value: What was given for it.

    Returns:
        *value* as a float, above 0 and at most 1.

    Raises:
        ValueError: If *value* is no number (bool is none), or not above 0 and at most 1.
    """
    number = isinstance(value, int | float | np.integer | np.floating)
    if isinstance(value, bool) or not number or not 0 < value <= 1:
        raise ValueError(f"{parameter} must be a number above 0 and at most 1; got {shown(value)}")
    return float(value)


def one_of(parameter: str, value: Any, allowed: Sequence[Any]) -> None:
    """Check a value that must be one of a few.

    Args:
        parameter: Name of the parameter, for the error.
        value: What was given for it.
        allowed: What it may be.

    Raises:
        ValueError: If *value* is none of these, or of another type.
    """
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        hint = suggestion(value, [choice for choice in allowed if isinstance(choice, str)])
        raise ValueError(
            f"{parameter} must be {' or '.join(map(repr, allowed))}; got {shown(value)}{hint}"
        )


def flag(parameter: str, value: Any) -> bool:
    """Check a value that must be true or false.

    Args:
        parameter: Name of the parameter, for the error.
        value: What was given for it.

    Raises:
        ValueError: If *value* is no bool.
    """
    one_of(parameter, value, (True, False))
    return bool(value)


def generator(rng: Generator | int) -> Generator:
    """Make a generator of a seed; a generator stays what it is.

    Args:
        rng: A generator, whose state moves on as it is used, or a seed.

    Returns:
        *rng* itself, or ``numpy.random.default_rng(rng)``.

    Raises:
        ValueError: If *rng* is neither a generator nor an integer of at least 0.
    """
    if isinstance(rng, Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer) or rng < 0:
        raise ValueError(f"rng must be a numpy.random.Generator or a seed >= 0; got {shown(rng)}")
    return np.random.default_rng(int(rng))
