"""Units of work for many workers: each is done once, whoever dies or dawdles."""

from collections import Counter, deque
from collections.abc import Hashable, Iterable
from statistics import median

SLOW = 2.0
"""How many times the usual seconds a unit runs that is given to a second worker at the end."""
MOST_LOSSES = 3
"""Workers that a unit may take with it before it is given up."""
_REMEMBERED = 101


class Queue:
    """What is to be done, what is being done by whom, and what is done.

    It keeps no time and starts nothing: whoever drives it says what happened and when.

    Args:
        units: The units, in the order in which they are handed out.
    """

    def __init__(self, units: Iterable[int]) -> None:
        self._waiting = deque(units)
        self._running: dict[int, dict[Hashable, float]] = {}
        self._of: dict[Hashable, int] = {}
        self._again: set[int] = set()
        self._losses = Counter[int]()
        self._seconds = deque[float](maxlen=_REMEMBERED)
        self.given_up: list[int] = []
        """Units that were lost with ``MOST_LOSSES`` workers."""

    @property
    def left(self) -> int:
        """Units that are not done, and not given up."""
        return len(self._waiting) + len(self._running)

    def take(self, worker: Hashable, now: float) -> int | None:
        """A unit for a worker that has none.

        When no unit waits any more, it is the one that has run longest, for ``SLOW`` times the
        usual seconds at least; each is handed out a second time once.

        Args:
            worker: The worker.
            now: The time (s).

        Returns:
            The unit, ``None`` where there is none for it now.
        """
        unit = self._waiting.popleft() if self._waiting else self._slow(now)
        if unit is not None:
            self._running.setdefault(unit, {})[worker] = now
            self._of[worker] = unit
        return unit

    def _slow(self, now: float) -> int | None:
        if not self._seconds:
            return None
        usual = median(self._seconds)
        since = {
            unit: min(workers.values())
            for unit, workers in self._running.items()
            if unit not in self._again
        }
        unit = min(since, key=since.__getitem__, default=None)
        if unit is None or now - since[unit] < SLOW * usual:
            return None
        self._again.add(unit)
        return unit

    def unit_of(self, worker: Hashable) -> int:
        """The unit that a worker has."""
        return self._of[worker]

    def done(self, worker: Hashable, now: float) -> bool:
        """A worker has finished its unit.

        Args:
            worker: The worker.
            now: The time (s).

        Returns:
            Whether the unit is new; of a second worker's it is not, and goes nowhere.
        """
        unit = self._of.pop(worker)
        if unit not in self._running:
            return False
        self._seconds.append(now - self._running.pop(unit)[worker])
        return True

    def lost(self, worker: Hashable) -> None:
        """A worker is no more; its unit, if it had one, is the next to be handed out."""
        unit = self._of.pop(worker, None)
        if unit is None or unit not in self._running:
            return
        del self._running[unit][worker]
        self._losses[unit] += 1
        if self._running[unit]:
            return  # another worker has it, too
        del self._running[unit]
        self._again.discard(unit)
        if self._losses[unit] < MOST_LOSSES:
            self._waiting.appendleft(unit)
        else:
            self.given_up.append(unit)
