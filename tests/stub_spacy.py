"""A stand-in for spaCy: parts of speech and entities by a list of words, no weights."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import pytest

from probe.perturbations import units

POS = {"Anna": "PROPN", "Smith": "PROPN", "cats": "NOUN", "dog": "NOUN", "saw": "VERB"}
POS |= {"the": "DET", "old": "ADJ", "she": "PRON", "and": "CCONJ", ".": "PUNCT", ",": "PUNCT"}
ENTITIES = {"Anna": "PERSON", "Smith": "PERSON"}
_TOKEN = re.compile(r"\w+|[^\w\s]|\s+")


@dataclass
class Token:
    """One token of spaCy's, as far as we look at it."""

    text: str
    idx: int
    i: int

    def __len__(self) -> int:
        return len(self.text)

    @property
    def is_space(self) -> bool:
        return self.text.isspace()

    @property
    def pos_(self) -> str:
        return "SPACE" if self.is_space else POS.get(self.text, "X")

    @property
    def ent_type_(self) -> str:
        return ENTITIES.get(self.text, "")


class Document:
    """An analysed text; a single space between two words is no token, as in spaCy."""

    def __init__(self, text: str, parts: tuple[str, ...]) -> None:
        found = [match for match in _TOKEN.finditer(text) if match.group() != " "]
        self.tokens = [Token(match.group(), match.start(), i) for i, match in enumerate(found)]
        self.parts = parts

    def __len__(self) -> int:
        return len(self.tokens)

    def __iter__(self) -> Iterator[Token]:
        return iter(self.tokens)

    def has_annotation(self, name: str) -> bool:
        return name in self.parts


class Pipeline:
    """What ``spacy.load`` gives."""

    def __init__(self, *parts: str) -> None:
        self.parts, self.max_length, self.seen = parts, 10, list[str]()
        self.pipe_names = [part.lower() for part in parts]

    def __call__(self, text: str) -> Document:
        assert len(text) <= self.max_length
        self.seen.append(text)
        return Document(text, self.parts)


def install(patch: pytest.MonkeyPatch, pipeline: Pipeline | None = None) -> Pipeline:
    """Put the stand-in where spaCy would be; every name but ``missing`` is its pipeline."""
    stub = ModuleType("spacy")
    found = Pipeline("POS", "ENT_IOB") if pipeline is None else pipeline

    def load(model: str) -> Pipeline:
        if model == "missing":
            raise OSError(model)
        return found

    stub.load = load  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "spacy", stub)
    forget()
    return found


def forget() -> None:
    """What was loaded and analysed before is another test's."""
    units.pipeline.cache_clear()
    units.analysed.cache_clear()
