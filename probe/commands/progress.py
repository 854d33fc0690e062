"""How far a command has come, on standard error: bars on a terminal, else a line a minute."""

import sys
import time
from types import TracebackType
from typing import Self

from probe.commands._visible import QUIET, asked, say
from probe.text import counted

PAUSE = 60.0
"""Seconds between two lines where there is no terminal, and before the first."""


class Progress:
    """Some work that is counted; nothing of it is shown where the call is to be quiet.

    Args:
        unit: What is counted, such as ``window``.
        doing: What is done, in front of the bar.
        total: How many there will be, ``None`` where that is not known.
        lines: Whether it is told without a terminal too, in lines.
        leave: Whether the bar stays when all is done.
    """

    def __init__(
        self,
        unit: str,
        *,
        doing: str | None = None,
        total: int | None = None,
        lines: bool = False,
        leave: bool = False,
    ) -> None:
        from tqdm import tqdm

        self._unit, self._lines = unit, lines and not sys.stderr.isatty()
        # One that stays is shown from the first unit on: a mistake before it stands alone.
        self._bar = tqdm(
            total=total,
            desc=doing,
            unit=unit,
            leave=leave,
            disable=asked(QUIET) or not sys.stderr.isatty(),
            dynamic_ncols=True,
            mininterval=1.0,
            delay=1e-3 if leave else 0,
            smoothing=0,
        )
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def show(
        self, done: int, total: int | None = None, text: str = "", seconds: float | None = None
    ) -> None:
        """Say how far it has come.

        Args:
            done: Units that are done.
            total: How many there will be, where it was not known before.
            text: What else to say.
            seconds: How long it has taken, where that is less than since it was made.
        """
        if self._lines and time.monotonic() - self._told >= PAUSE:
            self._told = time.monotonic()
            units = counted(done if total is None else total, self._unit)
            of = units if total is None else f"{done:,} of {units}"
            say(f"{of}{f', {text}' if text else ''}", err=True)
        if self._bar.disable:
            return
        if total is not None:
            self._bar.total = total
        if seconds is not None:
            self._bar.start_t = time.time() - seconds
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(done - self._bar.n)
