"""Classes that need a language: spaCy's view carried over to the model's tokens, and wordfreq."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from class_runs import window_of, word_run
from simulated import Simulation

from probe.classes.registry import choose
from probe.classes.table import classify
from probe.errors import UsageError
from probe.perturbations import units

SMALL = Simulation({}, documents=2, windows=1, length=40, boundaries=(20,), reach=20)


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A pipeline on disk that needs no trained weights: parts of speech and entities by rule."""
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed (extra nlp)")
    nlp = spacy.blank("en")
    tags = nlp.add_pipe("attribute_ruler")
    tags.add([[{"LOWER": {"IN": ["anna", "smith", "cats"]}}]], {"POS": "NOUN"})
    tags.add([[{"LOWER": "saw"}]], {"POS": "VERB"})
    tags.add([[{"IS_PUNCT": True}]], {"POS": "PUNCT"})
    entities = nlp.add_pipe("entity_ruler")
    entities.add_patterns([{"label": "PERSON", "pattern": "Anna Smith"}])
    folder = tmp_path / "pipeline"
    nlp.to_disk(folder)
    return folder


def label(name: str, *tokens: str) -> list[str | None]:
    (one,) = choose([name])
    return one.labels(window_of(tokens))


TOKENS = ("An", "na", " Smith", " saw", "\n", " ca", "ts", ".")


@pytest.mark.slow
def test_parts_of_speech(pipeline: Path) -> None:
    """A piece of a word has the word's; the space in front of a token is not looked at."""
    expected = ["NOUN", "NOUN", "NOUN", "VERB", None, "NOUN", "NOUN", "PUNCT"]
    assert label(f"pos(model={str(pipeline)!r})", *TOKENS) == expected


@pytest.mark.slow
def test_entities(pipeline: Path) -> None:
    """Every token of an entity has its label; what is none says so."""
    expected = [*["PERSON"] * 3, "no entity", None, *["no entity"] * 3]
    name = f"entity(model={str(pipeline)!r})"
    assert label(name, *TOKENS) == expected
    assert label(name, "cats") == ["no entity"]
    assert label(name, "\n", "") == [None, None]


@pytest.mark.slow
def test_one_analysis_serves_both(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window is sent through the pipeline once, however many classes ask."""
    loaded = units.pipeline(str(pipeline))
    seen: list[str] = []

    class Counting:
        max_length = 10
        pipe_names = loaded.pipe_names

        def __call__(self, text: str) -> Any:
            seen.append(text)
            assert self.max_length >= len(text), "a long window is no error"
            return loaded(text)

    counting = Counting()
    monkeypatch.setattr(units, "pipeline", lambda _: counting)
    window = window_of(TOKENS)
    for one in choose([f"{name}(model={str(pipeline)!r})" for name in ("pos", "entity")]):
        one.labels(window)
    assert seen == [window.text]


@pytest.mark.slow
def test_kept_with_the_pipelines_version(pipeline: Path, tmp_path: Path) -> None:
    """Labels are kept as long as the pipeline is the same."""
    run = word_run(tmp_path / "run", SMALL)
    name = f"pos(model={str(pipeline)!r})"
    (before,) = choose([name])
    assert before.version
    classify(run, [name])
    units.pipeline.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "pipeline", None)  # nothing is loaded for what is there
        classify(run, [name])
    meta = pipeline / "meta.json"
    meta.write_text(meta.read_text("utf-8").replace("0.0.0", "0.0.1"), encoding="utf-8")
    assert choose([name])[0].version != before.version


@pytest.mark.slow
def test_a_pipeline_that_cannot_answer(tmp_path: Path) -> None:
    """One that assigns no parts of speech, or is not there, is told in one line."""
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed (extra nlp)")
    spacy.blank("en").to_disk(tmp_path / "blank")
    for name, said in (
        (f"pos(model={str(tmp_path / 'blank')!r})", "assigns no parts of speech; its parts: none"),
        (f"entity(model={str(tmp_path / 'blank')!r})", "looks for no entities; its parts: none"),
        ("pos(model='nobody_has_this')", "python -m spacy download nobody_has_this"),
        (f"pos(model={str(tmp_path)!r})", "cannot be loaded"),
    ):
        with pytest.raises(UsageError) as caught:
            label(name, "a")
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_word_frequency() -> None:
    """By the Zipf scale of the word that a token is part of."""
    wordfreq = pytest.importorskip("wordfreq", reason="wordfreq is not installed (extra nlp)")
    tokens = (" the", " un", "usual", " qzxjvv", ".", " sauro", "pod")
    assert 3 <= wordfreq.zipf_frequency("unusual", "en") < 5
    assert 0 < wordfreq.zipf_frequency("sauropod", "en") < 3
    middle, low = "zipf 3 to 5", "zipf below 3"
    expected = ["zipf 5 or more", middle, middle, "unknown", None, low, low]
    assert label("word_frequency", *tokens) == expected
    assert label("word_frequency(edges=[1])", " the", ".") == ["zipf 1 or more", None]
    with pytest.raises(UsageError, match="wordfreq has no language 'xx'"):
        label("word_frequency(language='xx')", " the")


@pytest.mark.parametrize("edges", ["[]", "[5, 3]", "[0, 3]", "[3, 3]", "['a']", "3"])
def test_borders_are_judged(edges: str) -> None:
    """Borders on the Zipf scale rise and are above 0."""
    with pytest.raises(UsageError, match=r"word_frequency: edges are .*; allowed"):
        label(f"word_frequency(edges={edges})", "a")


def test_without_text() -> None:
    """Token ids alone have no language."""
    for name in ("pos", "entity", "word_frequency"):
        (one,) = choose([name])
        assert one.labels(window_of([1, 2])) == [None, None]


@pytest.mark.slow
def test_without_the_extra() -> None:
    """One line says what to install; nothing of it is imported before it is needed."""
    code = """
import sys
sys.modules |= {"spacy": None, "wordfreq": None}  # as if they were not installed
from class_runs import window_of
from probe.classes.registry import choose
for name in ("pos", "entity", "word_frequency"):
    try:
        choose([name])[0].labels(window_of(["a"]))
    except Exception as error:
        print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line, package in zip(lines, ("spacy", "spacy", "wordfreq"), strict=True):
        assert line.startswith("UsageError ")
        assert line.endswith(f": pip install {package} (extra nlp)")
