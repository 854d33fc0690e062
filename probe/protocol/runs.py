"""A run: what a protocol measures of a window in one sequence."""

from typing import NamedTuple


class Run(NamedTuple):
    """One boundary and the consecutive targets measured behind it.

    Args:
        boundary: Index of the first intact token after the far context.
        first: Index of the first target.
        stop: One past the last target.
        start: Index of the first far token; what stands before it stays intact.
    """

    boundary: int
    first: int
    stop: int
    start: int = 0
