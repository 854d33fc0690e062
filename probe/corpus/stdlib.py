"""The sources of Python's own standard library: a corpus that every machine already has."""

import re
import sysconfig
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from probe.corpus.records import LeftOut, Omitted, Record

SIMILARITY = 0.5
"""Share of common lines (Jaccard) from which two files are near-duplicates."""

# Tests and installed packages differ between machines.
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
_BUILD_DATA = "_sysconfigdata"  # start of the name of a module written when Python was built
_LICENCE = re.compile(r"licen[cs]e|copyright", re.IGNORECASE)


def python_sources(folder: Path | None = None) -> tuple[list[Record], LeftOut]:
    """Read every module below a folder, without tests and installed packages.

    Args:
        folder: Where to look; ``None`` is the standard library of the running Python.

    Returns:
        The documents in order of their names, which are paths relative to the folder; their group
        is the top-level package, ``modules`` for files outside of one. And what was left out.
    """
    folder = Path(sysconfig.get_path("stdlib")) if folder is None else folder
    texts: dict[str, str] = {}
    undecodable = []
    licence_headers = 0
    for name in sorted(_modules(folder)):
        try:
            with tokenize.open(folder / name) as file:
                text = file.read()
        except (SyntaxError, UnicodeDecodeError):  # an encoding that is unknown, or not kept
            undecodable.append(name)
            continue
        texts[name] = without_licence(text)
        licence_headers += texts[name] != text
    lines = [{line.strip() for line in text.splitlines()} - {""} for text in texts.values()]
    copies = set(near_duplicates(lines))
    left_out = LeftOut(
        near_duplicate=Omitted.of([name for index, name in enumerate(texts) if index in copies]),
        undecodable=Omitted.of(undecodable),
        licence_headers=licence_headers,
    )
    records = [
        Record(name, text=text, group=name.partition("/")[0] if "/" in name else "modules")
        for index, (name, text) in enumerate(texts.items())
        if index not in copies
    ]
    return records, left_out


def _modules(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        relative = path.relative_to(folder)
        if path.name.startswith(_BUILD_DATA) or _SKIPPED_FOLDERS.intersection(relative.parts):
            continue
        if path.is_file():
            yield relative.as_posix()


def without_licence(text: str) -> str:
    """Take off the comments at a file's start, up to the last block that speaks of a licence.

    Args:
        text: Source of a module. Blocks of comments are parted by blank lines.

    Returns:
        The text behind that block and the blank lines after it, or the same text.
    """
    end = position = 0
    licensed = False
    for line in text.splitlines(keepends=True):
        position += len(line)
        if not line.strip():
            licensed = False
        elif not line.startswith("#"):
            break
        licensed = licensed or _LICENCE.search(line) is not None
        end = position if licensed else end
    return text[end:].lstrip("\n") if end else text


def near_duplicates(lines: Sequence[set[str]]) -> list[int]:
    """Find the files that have mostly the lines of an earlier file that stays.

    Two sets with a Jaccard similarity of at least ``s`` share a line among the rarest
    ``⌊(1 − s)·n⌋ + 1`` of either set's ``n`` lines. Only these are looked up, which spares the
    lines that nearly every file has; candidates are then compared in full.

    Args:
        lines: The distinct lines of each file.

    Returns:
        Indices of the files to leave out, rising. A file without lines is none of them.

    Source: Chaudhuri, Ganti & Kaushik 2006, prefix filtering of set-similarity joins.
    """
    frequency = Counter(line for file in lines for line in file)
    kept_with: dict[str, list[int]] = defaultdict(list)
    copies = []
    for index, file in enumerate(lines):
        rarest = _rarest(file, frequency)
        candidates = {other for line in rarest for other in kept_with[line]}
        if any(_jaccard(file, lines[other]) >= SIMILARITY for other in candidates):
            copies.append(index)
            continue
        for line in rarest:
            kept_with[line].append(index)
    return copies


def _rarest(file: set[str], frequency: Mapping[str, int]) -> list[str]:
    ordered = sorted(file, key=lambda line: (frequency[line], line))
    return ordered[: int((1 - SIMILARITY) * len(ordered)) + 1]


def _jaccard(lines: set[str], other: set[str]) -> float:
    common = len(lines & other)
    return common / (len(lines) + len(other) - common)
