"""A spaCy pipeline with its weights: what classes and conditions make of real tags."""

from pathlib import Path

import numpy as np
import pytest
from real_pipeline import PIPELINE, REAL
from stub_spacy import forget
from token_texts import written

from probe.errors import UsageError
from probe.perturbations import units
from probe.perturbations.condition import parse
from probe.perturbations.removal import drop, keep

pytestmark = REAL
TOKENS = ("An", "na", " Smith", " saw", "\n", " the", " ca", "ts", " in", " Paris", ".")
TEXT = written(TOKENS)


@pytest.fixture(autouse=True)
def _no_stand_in() -> None:
    forget()  # what a stand-in has analysed


def test_parts_of_speech() -> None:
    """Every piece of a word has the tag of the whole word; a line end has none."""
    found = units.word_labels("pos", TEXT.text, TEXT.char_start, TEXT.char_end, model=PIPELINE)
    name, noun = "PROPN", "NOUN"
    assert found == [name, name, name, "VERB", None, "DET", noun, noun, "ADP", name, "PUNCT"]


def test_entities() -> None:
    """A name of two words is one person, in all its tokens."""
    found = units.word_labels("entity", TEXT.text, TEXT.char_start, TEXT.char_end, model=PIPELINE)
    assert found == [*["PERSON"] * 3, "", None, *[""] * 4, "GPE", ""]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("NOUN", [" ca", "ts"]),
        ("NOUN+VERB", [" saw", " ca", "ts"]),
        ("entity", ["An", "na", " Smith", " Paris"]),
    ],
)
def test_keep_and_drop(what: str, expected: list[str]) -> None:
    """Keeping a kind leaves its tokens, dropping it all others."""
    places = np.arange(len(TOKENS))
    kept = keep(places, rng=0, what=what, model=PIPELINE, text=TEXT)
    assert [TOKENS[place] for place in kept] == expected
    dropped = drop(places, rng=0, what=what, model=PIPELINE, text=TEXT)
    assert sorted([*kept, *dropped]) == places.tolist()


def test_its_version_is_known() -> None:
    """A run is marked with the pipeline; a condition names it as any parameter."""
    assert units.pipeline_version(PIPELINE).endswith(", 3.8.0")
    condition = parse(f"keep(what='NOUN', model={PIPELINE!r})")
    assert condition.needs_text


def test_a_part_is_missing(tmp_path: Path) -> None:
    """Without its recogniser it looks for no entities, and says so in one line."""
    spacy = pytest.importorskip("spacy")
    spacy.load(PIPELINE, exclude=["ner"]).to_disk(tmp_path / "without")
    with pytest.raises(UsageError, match="looks for no entities; its parts: tok2vec, tagger"):
        units.word_labels(
            "entity", "Anna", np.array([0]), np.array([4]), model=str(tmp_path / "without")
        )
