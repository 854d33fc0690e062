"""The corpus of a run: a seeded sample of the documents that are read, an account of the others.

Python's own standard library is a corpus that every machine already has.
"""

import re
import sysconfig
import tokenize
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from probe.corpus.dataset import STDLIB, DataOptions
from probe.corpus.records import Record, records
from probe.corpus.sound import numbered
from probe.corpus.tokenise import Reader, to_document
from probe.corpus.windows import Document
from probe.errors import ProbeError, UsageError
from probe.text import shown

NAMED = 100
"""How many documents that were left out are named, for each reason."""
SIMILARITY = 0.5
"""Share of common lines (Jaccard) from which two files are near-duplicates."""

# Tests and installed packages differ between machines.
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
_BUILD_DATA = "_sysconfigdata"  # start of the name of a module written when Python was built
_LICENCE = re.compile(r"licen[cs]e|copyright", re.IGNORECASE)


@dataclass(frozen=True)
class Omitted:
    """Documents that were left out for one reason.

    Args:
        count: How many.
        ids: The first ``NAMED`` of their names.
    """

    count: int = 0
    ids: tuple[str, ...] = ()

    @classmethod
    def of(cls, ids: Sequence[str]) -> "Omitted":
        """Count names and keep the first."""
        return cls(len(ids), tuple(ids[:NAMED]))


@dataclass(frozen=True)
class LeftOut:
    """What was read and is no document of the corpus.

    Args:
        too_short: Documents with too few tokens for a window.
        empty: Documents without any token.
        near_duplicate: Sources (``stdlib``) that have mostly the lines of another.
        undecodable: Sources (``stdlib``) that do not hold the encoding they declare.
        no_window: Documents without a window that the protocol can use (``suffix``).
        licence_headers: Number of sources (``stdlib``) whose licence comment was taken off.
    """

    too_short: Omitted = Omitted()
    empty: Omitted = Omitted()
    near_duplicate: Omitted = Omitted()
    undecodable: Omitted = Omitted()
    no_window: Omitted = Omitted()
    licence_headers: int = 0


@dataclass(frozen=True, eq=False)
class Corpus:
    """The documents of a run.

    Args:
        documents: At least one, in seeded order.
        left_out: What was read on the way to them and is none.
    """

    documents: tuple[Document, ...]
    left_out: LeftOut


def load_corpus(
    options: DataOptions,
    reader: Reader,
    *,
    minimum: int,
    unit: str = "tokens",
    seed: int,
    listen: Callable[[int], None] = lambda _: None,
) -> Corpus:
    """Read, tokenise and sample the documents of a data set.

    Documents are taken in seeded order until there are ``max_documents`` of them: with the same
    seed a larger sample starts with the smaller one.

    Args:
        options: The data set.
        reader: How the model reads a document.
        minimum: Tokens that a document must have: a window, and what is skipped before it.
        unit: ``characters`` where *minimum* counts these.
        seed: Seed of the sample.
        listen: Called with the number of documents that there are, each time there is one more.

    Returns:
        At least one and at most ``max_documents`` documents, and what was left out until they
        were found.

    Raises:
        UsageError: If the request does not fit the data set.
        ProbeError: If the data set is empty or unreadable, or no document is long enough.
    """
    read, left_out = read_records(options, seed=seed)
    documents: list[Document] = []
    too_short: list[str] = []
    empty: list[str] = []
    longest = 0
    for record in read:
        document = to_document(record, reader)
        tokens, size = len(document.ids), document.size(unit)
        if tokens and unit == "characters" and document.text is None:
            raise UsageError(
                f"windows.unit is {unit!r}, and the tokenizer does not say which characters a "
                "token has; allowed: tokens, or a fast tokenizer"
            )
        longest = max(longest, size)
        if tokens and size >= minimum:
            documents.append(document)
            listen(len(documents))
            if len(documents) == options.max_documents:
                break
        else:
            (too_short if tokens else empty).append(document.id)
    if not documents:
        seen = len(too_short) + len(empty)
        raise _no_document(options, seen=seen, longest=longest, need=minimum, unit=unit)
    left_out = replace(left_out, too_short=Omitted.of(too_short), empty=Omitted.of(empty))
    return Corpus(tuple(numbered(documents)), left_out)


def read_records(options: DataOptions, *, seed: int) -> tuple[Iterator[Record], LeftOut]:
    """The documents of a data set in seeded order, and what was left out before they are read.

    Raises:
        UsageError: If the request does not fit the data set.
        ProbeError: If the data set is empty or unreadable.
    """
    if options.path != STDLIB:
        return records(options, seed=seed), LeftOut()
    sources, left_out = _python_sources(options)
    order = np.random.default_rng(seed).permutation(len(sources))
    return (sources[index] for index in order.tolist()), left_out


def _python_sources(options: DataOptions) -> tuple[list[Record], LeftOut]:
    free = {name: getattr(options, name) for name in ("label", "max_documents")}
    plain = DataOptions(path=STDLIB, **free).model_dump()
    given = [key for key, value in options.model_dump().items() if value != plain[key]]
    if given:
        raise UsageError(
            f"data: {', '.join(given)} cannot be set where data.path is {STDLIB!r};"
            f" allowed: {', '.join(free)}"
        )
    return _own_library()


@cache
def _own_library() -> tuple[list[Record], LeftOut]:
    """The sources of the running Python, which a command reads more than once."""
    return python_sources()


def _no_document(
    options: DataOptions, *, seen: int, longest: int, need: int, unit: str
) -> ProbeError:
    if not seen:
        return ProbeError(f"split {shown(options.split)} of data set {options.named} is empty")
    if not longest:
        return ProbeError(
            f"no document of data set {options.named} holds a token: {seen} read, each empty"
            " or of characters that the tokenizer leaves out, as some leave out NUL"
        )
    return ProbeError(
        f"no document of data set {options.named} is long enough: {seen} read, the longest"
        f" has {longest} {unit}, a window needs {need}; allowed: longer documents, shorter windows"
    )


# -- the standard library of Python -----------------------------------------------------------


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
    sources = [
        Record(name, text=text, group=name.partition("/")[0] if "/" in name else "modules")
        for index, (name, text) in enumerate(texts.items())
        if index not in copies
    ]
    return sources, left_out


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
