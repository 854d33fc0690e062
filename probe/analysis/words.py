"""Numbers, intervals and lengths in words, the same in every sentence and table."""

import math


def signed(value: float, digits: int = 4) -> str:
    """A difference with its sign: ``+0.0123``, ``−0.0400``; ``0.0000`` where nothing is left.

    Args:
        value: A finite number.
        digits: Digits behind the point.
    """
    text = f"{value:+,.{digits}f}"
    return text.replace("-", "−") if text.strip("+-0.") else text[1:]


def difference(value: float, low: float, high: float, digits: int = 4) -> str:
    """A difference with its interval: ``+0.0123 (−0.0100 to +0.0350)``.

    Args:
        value: The difference.
        low: Its lower limit; NaN where there is none, which leaves the value alone.
        high: Its upper limit.
        digits: Digits behind the point; numbers that would all be 0 have one significant digit
            instead, ``+2e−07 (−1e−06 to +3e−06)``, so that 0 is said of exact zeros alone.

    Returns:
        The text; ``–`` where there is no value.
    """
    if math.isnan(value):
        return "–"
    limits = [] if math.isnan(low) or math.isnan(high) else [low, high]
    numbers = [value, *limits]
    if any(f"{abs(number):.{digits}f}".strip("0.") for number in numbers):
        texts = [signed(number, digits) for number in numbers]
    else:
        texts = [f"{number:+.0e}".replace("-", "−") if number else "0" for number in numbers]
    return f"{texts[0]} ({texts[1]} to {texts[2]})" if limits else texts[0]


def counted(number: int, word: str) -> str:
    """A number of things: ``1 document``, ``1,024 tokens``."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def limits(lower: int, upper: int, start: int = 0) -> str:
    """The interval of a length: ``448–640``; ``≤ 128–384`` where it goes below all measured.

    Args:
        lower: Its lower limit (tokens).
        upper: Its upper limit.
        start: First distance that was measured: below it nothing is known.
    """
    return f"{f'≤ {start:,}' if lower < start else f'{lower:,}'}–{upper:,}"


def greater(lower: int | None, estimate: int | None, bound: int) -> str:
    """A length whose interval has no upper limit: ``> 640 (estimate beyond 1,024)``.

    The number behind ``>`` is always the interval's lower limit.

    Args:
        lower: The lower limit (tokens); ``None`` where it lies beyond *bound* itself.
        estimate: The estimate, ``None`` beyond *bound*.
        bound: How far the estimate could be told.
    """
    if lower is None or (estimate is None and lower >= bound):
        return f"> {bound:,}"
    if estimate is None:
        return f"> {lower:,} (estimate beyond {bound:,})"
    return f"> {lower:,} (estimate {estimate:,}; open above)"
