"""Names of runs that a reader can tell apart: where two runs have one name, by their folders."""

from collections.abc import Sequence
from pathlib import Path

from probe.analysis.runs import Run


def told_apart(runs: Sequence[Run]) -> list[str]:
    """A name for each run, no two alike.

    A run that shares its name has as much of its folder's path as tells them apart; where its name
    is not the folder's, both. One folder that comes twice is numbered.

    Args:
        runs: The runs.
    """
    paths = [run.path.resolve() for run in runs]
    found = [_label(run, path, runs, paths) for run, path in zip(runs, paths, strict=True)]
    return [
        f"{name} ({found[: index + 1].count(name)})" if found.count(name) > 1 else name
        for index, name in enumerate(found)
    ]


def _label(run: Run, path: Path, runs: Sequence[Run], paths: Sequence[Path]) -> str:
    alike = [other for one, other in zip(runs, paths, strict=True) if one.name == run.name]
    others = [other for other in alike if other != path]
    if not others:
        return run.name
    tail = _tail(path, others)
    return tail if path.name == run.name else f"{run.name} ({tail})"


def _tail(path: Path, others: Sequence[Path]) -> str:
    """As much of a path's end as no other ends with, at least its last part."""
    for size in range(1, len(path.parts)):
        end = path.parts[-size:]
        if all(other.parts[-size:] != end for other in others):
            return "/".join(end)
    return str(path)
