"""One condition for each layer or head: ``attend(heads(zero, layers=each(30), heads=each(9)))``."""

import itertools
import re

from probe.errors import UsageError
from probe.printable import one_line, shown
from probe.registry import refuse_long

_EACH = re.compile(r"\beach\s*\(\s*([^()]*?)\s*\)")
MOST = 10_000  # conditions out of one text


def expand(text: str) -> list[str]:
    """Write a condition out once for each number below what ``each`` says, in all combinations.

    Args:
        text: A condition.

    Returns:
        Conditions, each with a list of one number in place of every ``each(n)``; *text* alone where
        there is none.

    Raises:
        UsageError: If ``each`` holds no number of at least 1, or they are too many together.

    Example:
        >>> expand("attend(heads(zero, layers=[3], heads=each(2)))")
        ['attend(heads(zero, layers=[3], heads=[0]))', 'attend(heads(zero, layers=[3], heads=[1]))']
    """
    refuse_long(text, "condition")
    counts = []
    for found in _EACH.finditer(text):
        if not re.search(r"\b(layers|heads)\s*=\s*$", text[: found.start()]):
            raise UsageError(
                f"condition {shown(text)}: {one_line(found[0])}; allowed: as layers= or heads= of "
                "heads(...)"
            )
        if not re.fullmatch(r"[1-9][0-9]{0,8}", found[1]):
            raise UsageError(
                f"condition {shown(text)}: {one_line(found[0])}; allowed: a whole number from 1 to"
                f" {MOST:,}"
            )
        counts.append(int(found[1]))
    total = 1
    for count in counts:
        total *= count
    if total > MOST:
        raise UsageError(f"condition {shown(text)} stands for {total:,}; allowed: up to {MOST:,}")
    written = []
    for numbers in itertools.product(*map(range, counts)):
        left = iter(numbers)
        written.append(_EACH.sub(lambda _, left=left: f"[{next(left)}]", text))  # type: ignore[misc]
    return written
