"""Several processes on one run folder: which part of the run each scores, and who may write."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from probe.errors import ProbeError, UsageError
from probe.results.files import disk_errors
from probe.text import shown

ALLOWED = "i/n with i from 0 to n − 1, such as 0/4, or auto"
LOCK = ".lock"
"""Held by whoever writes into a folder: by one process alone, or by all shards together."""
_BEGIN = ".lock-begin"
_RANKS = ("RANK", "WORLD_SIZE")
_ARRAY = tuple(f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "STEP", "COUNT"))
_WITHOUT = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What a file system answers that has no locks."""


@dataclass(frozen=True)
class Shard:
    """A part of a run: every *count*-th document from number *index* on.

    Args:
        index: Its number, from 0.
        count: How many there are.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, document: int) -> bool:
        """Whether the document of this number, from 0, belongs to it."""
        return document % self.count == self.index


def parse_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """Read which part of a run is to be scored.

    Args:
        text: ``i/n``, or ``auto``: as Slurm's job array says, or else ``RANK`` and ``WORLD_SIZE``.
        environment: Where ``auto`` looks.

    Raises:
        UsageError: If it is neither, or ``auto`` finds nothing, or something that is no shard.
    """
    if text.strip() == "auto":
        return _of_environment(environment)
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
    if match is None:
        raise UsageError(f"shard {shown(text)} is not understood; allowed: {ALLOWED}")
    return _checked(int(match[1]), int(match[2]), "shard")


def _checked(index: int, count: int, where: str) -> Shard:
    if not 0 <= index < count:
        allowed = f"0/{count} to {count - 1}/{count}" if count > 0 else ALLOWED
        raise UsageError(f"{where} is {index}/{count}; allowed: {allowed}")
    return Shard(index, count)


def _of_environment(environment: Mapping[str, str]) -> Shard:
    for names in (_ARRAY, _RANKS):
        if names[0] not in environment:
            continue
        told = ", ".join(f"{name}={shown(environment.get(name))}" for name in names)
        try:
            numbers = [int(environment[name]) for name in names]
        except (KeyError, ValueError) as error:
            raise UsageError(f"shard auto: {told}; allowed: whole numbers") from error
        if names is _RANKS:
            return _checked(numbers[0], numbers[1], f"shard auto: {told}, which")
        task, least, step, count = numbers
        if step < 1 or (task - least) % step:
            raise UsageError(
                f"shard auto: {told}; allowed: an array of even steps, such as --array=0-63"
            )
        return _checked((task - least) // step, count, f"shard auto: {told}, which")
    raise UsageError(
        f"shard auto finds neither {_ARRAY[0]} nor {' and '.join(_RANKS)} in the environment; "
        f"allowed: {ALLOWED}"
    )


class FolderLock:
    """The right to write into a run folder; it goes with the process, however that ends.

    Args:
        folder: The run folder; it is made where it is taken.
        shard: The part of the run that the process scores; ``None`` is all of it, which no other
            process may score meanwhile.

    Attributes:
        missing: Whether the file system turned out to have no locks.
    """

    def __init__(self, folder: Path, shard: Shard | None) -> None:
        self.folder, self.shard, self.missing = folder, shard, False
        self._is_alone = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, or its shard.

        Raises:
            ProbeError: If another process holds it.
        """
        with contextlib.ExitStack() as stack:
            if self.shard is None:
                self._take(stack, LOCK, "another run is writing into it")
                stack.callback(self._remove_if_empty)  # not by a shard: others may begin
            else:
                whole = "a run that is no shard is writing into it"
                self._take(stack, LOCK, whole, shared=True)
                name = f"{LOCK}-{self.shard.index}-of-{self.shard.count}"
                self._take(stack, name, f"another process scores shard {self.shard}")
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """A moment in which no other shard changes what all of them share; one waits for it."""
        with contextlib.ExitStack() as stack:
            if self.shard is not None and not self._is_alone:  # not within itself
                self._take(stack, _BEGIN, "")
                self._is_alone = True
                stack.callback(setattr, self, "_is_alone", False)
            yield

    def _take(
        self, stack: contextlib.ExitStack, name: str, taken: str, *, shared: bool = False
    ) -> None:
        """Lock a file of the folder; it is waited for where nothing is said for *taken*."""
        try:
            import fcntl
        except ImportError:  # no such locks on Windows
            self.missing = True
            return
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            stream: TextIO = stack.enter_context((self.folder / name).open("a+"))
        how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (fcntl.LOCK_NB if taken else 0)
        try:
            fcntl.flock(stream, how)
        except BlockingIOError as error:
            raise ProbeError(f"{self.folder}: {taken}") from error
        except OSError as error:
            if error.errno not in _WITHOUT:
                reason = error.strerror or error
                raise ProbeError(f"cannot lock {self.folder / name}: {reason}") from error
            self.missing = True

    def _remove_if_empty(self) -> None:
        """Leave no folder behind that a refused configuration only locked."""
        if self.folder.is_dir() and [path.name for path in self.folder.iterdir()] == [LOCK]:
            (self.folder / LOCK).unlink()
            self.folder.rmdir()
