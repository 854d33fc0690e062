"""Text for people: what others wrote made safe to show, numbers and columns, names of files."""

import difflib
import hashlib
import json
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

MOST = 200
"""Characters of a value that a message shows."""
WIDTH = 100
"""Most characters of a line, where columns can stand below one another."""
FILE_NAME = 80
"""Bytes of a name inside a file's name; of a longer one the rest is a digest."""


def printable(text: str, keep: str = "") -> str:
    r"""A text with every character escaped that has no shape of its own.

    Args:
        text: Any text, also with lone surrogates.
        keep: Characters that stay as they are, such as the newlines of a text of several lines.

    Returns:
        The text; what Python's ``repr`` escapes is escaped: control characters, newlines, marks
        of direction, surrogates (``\x1b``, ``\n``, ``\u202e``, ``\ud800``).
    """
    return "".join(
        char
        if char in keep or char.isprintable()
        else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def shown(value: object, most: int = MOST) -> str:
    """The ``repr`` of a value in at most *most* characters, cut before it is written out.

    ``reprlib`` bounds the items of a level, not their sum: YAML that names one list in another
    makes 28 MB of 300 bytes.

    Args:
        value: Whatever a user gave, also lists that hold themselves.
        most: Characters, the last of which is ``…`` where something was cut off.
    """
    text = ""
    for piece in _pieces(value, most):
        text += piece
        if len(text) > most:
            return f"{text[: most - 1]}…"
    return text


def suggestion(value: object, known: Iterable[str], then: str = "") -> str:
    """What was probably meant by a name that there is not: ``; did you mean 'sweep'?``.

    Args:
        value: What was written.
        known: The names that there are.
        then: What follows, such as ``allowed: 'sweep', 'grid'``.

    Returns:
        What goes behind the words that refuse the name: the question, where a name comes near, and
        *then*, in one sentence with them.
    """
    near = {name.lower(): name for name in reversed([*known])}
    written = str(value)[:MOST].lower()
    closest = difflib.get_close_matches(written, near, n=1)
    parts = [*(f"did you mean {near[name]!r}?" for name in closest), *filter(None, [then])]
    return f"; {' '.join(parts)}" if parts else ""


def one_line(text: object, most: int = 300) -> str:
    """What others say, such as an error of a library, on one line of at most *most* characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def plain(value: Any) -> Any:
    """A value in JSON's own types: what is not finite is ``None``, floats have eight digits.

    Args:
        value: Dictionaries, lists, tuples, numbers of numpy's too, texts.
    """
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value


def json_text(value: Any, *, ascii_only: bool = False) -> str:
    """A value as JSON, indented, its keys in their order and a newline at the end.

    Args:
        value: See :func:`plain`.
        ascii_only: Whether all other characters are escaped: any terminal and encoding will do.
    """
    text = json.dumps(plain(value), indent=2, ensure_ascii=ascii_only, allow_nan=False)
    # DEL is ASCII too, and json leaves it; nobody else may escape it as Python would.
    return f"{text}\n".replace("\x7f", "\\u007f")


def slug(text: str) -> str:
    """What a condition, a class or another name is called in the name of a file."""
    short = re.sub(r"[^\w.-]+", "-", printable(text)).strip("-.") or "unnamed"
    cut = short.encode()[:FILE_NAME].decode(errors="ignore")
    if cut == short:
        return short
    return f"{cut}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def counted(number: int, word: str) -> str:
    """A number of things: ``1 document``, ``1,024 tokens``."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """How long something takes, in one unit: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


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


def limits(lower: int, upper: int, start: int = 0) -> str:
    """The interval of a length: ``448–640``; ``≤ 128–384`` where it goes below all measured.

    Args:
        lower: Its lower limit (tokens).
        upper: Its upper limit.
        start: First distance that was measured: below it nothing is known.
    """
    return f"{f'≤ {start:,}' if lower < start else f'{lower:,}'}–{upper:,}"


def greater(lower: int | None, bound: int) -> str:
    """A length whose interval has no upper limit: ``> 640``.

    The number behind ``>`` is always the interval's lower limit.

    Args:
        lower: The lower limit (tokens); ``None`` where it lies beyond *bound* itself.
        bound: Up to where it is known to lie beyond.
    """
    return f"> {bound if lower is None else lower:,}"


def open_end(estimate: int | None, bound: int) -> str:
    """What ``> x`` leaves open: ``estimate 704, no upper bound within the measured range``.

    Args:
        estimate: The estimate (tokens), ``None`` beyond *bound*.
        bound: Up to where the length is known to lie beyond.
    """
    if estimate is None:
        return f"estimate beyond {bound:,}"
    return f"estimate {estimate:,}, no upper bound within the measured range"


NO_BREAK = "\N{NO-BREAK SPACE}"
_UNIT = re.compile(r"(?<=\d) (?=%)|(?<=[<>≤≥]) (?=\d)")
"""The blank of ``1 %`` and of ``> 640``."""


def unbroken(text: str) -> str:
    """The text with no-break spaces where a number would part from its sign at a line's end."""
    return _UNIT.sub(NO_BREAK, text)


def wrapped(text: str, indent: str = "  ") -> str:
    """A line of at most :data:`WIDTH` characters, the rest of it below, indented."""
    lines = textwrap.fill(
        unbroken(text),
        WIDTH,
        subsequent_indent=indent,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines.replace(NO_BREAK, " ")


def aligned(
    lines: Sequence[Sequence[str]],
    *,
    rule: bool = False,
    numbers: bool | Literal["all"] = False,
    blocks: bool = False,
) -> str:
    """Rows of words in columns as wide as their longest word.

    Args:
        lines: The rows, the first being the head; equally many words in each, at least one row.
            What a terminal would obey in a word is escaped.
        rule: Whether a line of hyphens follows the head.
        numbers: Whether all columns but the first end, instead of begin, at one place; with ``all``
            the first as well.
        blocks: Whether columns that have no room in :data:`WIDTH` characters stand below, behind
            the first one once more.

    Returns:
        One line a row and block, without blanks at their ends.
    """
    columns = [[printable(word) for word in column] for column in zip(*lines, strict=True)]
    for number, column in enumerate(columns):
        ends = numbers == "all" or (numbers and number > 0)
        width = max(map(len, column))
        place = str.rjust if ends else str.ljust
        columns[number] = [place(word, width) for word in column]
        if rule:
            columns[number].insert(1, "-" * width)
    first, *others = columns
    parts = [[first]]
    for column in others:
        used = sum(len(other[0]) + 2 for other in parts[-1])
        if blocks and used + len(column[0]) > WIDTH and len(parts[-1]) > 1:
            parts.append([first])
        parts[-1].append(column)
    return "\n\n".join(
        "\n".join("  ".join(words).rstrip() for words in zip(*part, strict=True)) for part in parts
    )


def _pieces(value: Any, most: int) -> Iterator[str]:
    """The parts of a value's ``repr``, in order; each level of lists gives one at once."""
    if isinstance(value, str | bytes):
        yield repr(value[: most + 1])
    elif type(value) is dict:
        yield "{"
        for number, (key, part) in enumerate(value.items()):
            yield ", " if number else ""
            yield from _pieces(key, most)
            yield ": "
            yield from _pieces(part, most)
        yield "}"
    elif type(value) in (list, tuple):
        yield "[" if type(value) is list else "("
        for number, part in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(part, most)
        yield "]" if type(value) is list else ",)" if len(value) == 1 else ")"
    elif isinstance(value, int) and value.bit_length() > 4 * most:
        yield f"a whole number of {value.bit_length():,} bits"  # Python refuses to write it out
    else:
        yield printable(one_line(repr(value), most + 1))  # that of a frame has several
