"""Too few documents or targets, empty classes, too many values: said, not guessed."""

from pathlib import Path

import pandas as pd
import pytest
from class_runs import curves_of, simulation, word_run

from probe.classes import registry
from probe.classes.curves import CONTEXTS, CURVES, MOST_VALUES
from probe.classes.table import classify
from probe.classes.tokens import WindowTokens
from probe.results.folder import RunFolder
from probe.text import counted


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return word_run(tmp_path_factory.mktemp("runs") / "run", simulation())


@pytest.mark.slow
@pytest.mark.parametrize("documents", [1, 2, 5])
def test_few_documents(tmp_path: Path, documents: int) -> None:
    """One document, or a few: unresolved, and no interval anywhere."""
    run = word_run(tmp_path / "run", simulation(documents=documents))
    found = curves_of(run, classify(run, ["kind", "copy"]))
    assert set(found.contexts["kind"]) == {"unresolved"}
    assert f"{counted(documents, 'document')}, at least 6 needed" in set(found.contexts["reasons"])
    assert found.contexts[["length", "low", "high"]].isna().all(axis=None)
    for frame in (found.curves, found.occurrences, found.copies):
        assert len(frame)
        assert frame[["low", "high"]].isna().all(axis=None)
        assert frame["delta"].notna().all()


@pytest.mark.slow
def test_few_documents_of_a_class(tmp_path: Path) -> None:
    """A group of two documents is unresolved in a run of eight; the others are not."""
    groups = ("rare", *["often"] * 3)
    run = word_run(tmp_path / "run", simulation(groups=groups, windows=6))
    found = curves_of(run, classify(run, ["group"]))
    at = found.contexts[found.contexts["condition"] == "truncate"].set_index("value")
    assert set(at.loc["rare", "text"]) == {"unresolved (2 documents, at least 6 needed)"}
    assert set(at.loc["often", "documents"]) == {6}
    assert "unresolved" not in set(at.loc["often", "kind"])
    assert found.curves.query("value == 'rare'")["low"].isna().all()


@pytest.mark.slow
def test_few_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than 50 targets in an octave that the answer rests on: unresolved, with the number."""
    run = word_run(tmp_path / "run", simulation(boundaries=(48,), windows=2))
    registry.load_builtins()
    monkeypatch.setattr(registry.REGISTRY, "entries", dict(registry.REGISTRY.entries))

    @registry.register("thin")
    def thin(window: WindowTokens) -> list[str | None]:
        """In each window 3 of the 16 targets of the last octave, and all before."""
        labels: list[str | None] = [None] * len(window)
        labels[48:67] = ["late"] * 19
        labels[48:52], labels[52:80] = ["few"] * 4, [*["early"] * 4, *["many"] * 24]
        labels[64:67] = ["few"] * 3
        return labels

    contexts = curves_of(run, classify(run, ["thin"])).contexts
    at = contexts.query("condition == 'truncate' and tolerance == '1%'").set_index("value")
    assert at.loc["few", "text"] == (
        "unresolved (48 targets at distances 16–31, at least 50 needed)"
    )
    assert at.loc["early", "text"] == (
        "unresolved (0 targets at distances 16–31, at least 50 needed)"
    )
    assert at.loc["many", "kind"] == "greater", "that nothing lies below 8 takes no part in it"
    assert set(contexts["kind"]) <= {"length", "zero", "greater", "unresolved"}


@pytest.mark.slow
def test_a_grid_has_octaves_without_targets(tmp_path: Path) -> None:
    """Where the protocol itself measures nothing, nothing is needed."""
    run = word_run(tmp_path / "run", simulation(distances=(0, 16), repeats=1, windows=6))
    contexts = curves_of(run, classify(run, ["kind"])).contexts
    at = contexts.query("condition == 'truncate' and tolerance == '1%'").set_index("value")
    assert at.loc["word", "kind"] != "unresolved"


@pytest.mark.slow
def test_an_empty_class(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """No member at all is a note; a value that no target has is counted, and unresolved."""
    registry.load_builtins()
    monkeypatch.setattr(registry.REGISTRY, "entries", dict(registry.REGISTRY.entries))
    registry.register("nobody")(lambda window: [None] * len(window))
    registry.register("unscored")(lambda window: ["first", *[None] * (len(window) - 1)])
    found = curves_of(run, classify(run, ["nobody", "unscored"], write=False))
    assert found.notes == ("token class nobody has no member",)
    (count,) = found.counts.to_dict("records")
    assert (count["value"], count["targets"], count["share"], count["documents"]) == (
        "first",
        0,
        0,
        0,
    )
    assert set(found.contexts["text"]) == {"unresolved (no target)"}
    assert found.curves.empty
    assert tuple(found.curves) == CURVES
    none = curves_of(run, classify(run, ["nobody"], write=False))
    assert none.contexts.empty
    assert tuple(none.contexts) == CONTEXTS
    assert len(none.occurrences) == len(found.occurrences) > 0


def test_no_class_at_all(run: RunFolder) -> None:
    """Without a class the tables of occurrences are there all the same."""
    found = curves_of(run, classify(run, [], write=False))
    assert found.curves.empty
    assert found.counts.empty
    assert len(found.occurrences)


@pytest.mark.slow
def test_token_ids_alone(tmp_path: Path) -> None:
    """Classes that need text say why they are empty."""
    run = word_run(tmp_path / "run", simulation(), text=False)
    found = curves_of(run, classify(run, ["kind", "copy"]))
    assert found.notes == ("token class kind has no member: the windows have no text",)
    assert set(found.contexts["class"]) == {"copy"}


@pytest.mark.slow
def test_many_values(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class with a value a token is counted whole, and read where most targets are."""
    registry.load_builtins()
    monkeypatch.setattr(registry.REGISTRY, "entries", dict(registry.REGISTRY.entries))
    registry.register("place")(lambda window: [str(number) for number in range(len(window))])
    found = curves_of(run, classify(run, ["place"], write=False))
    assert len(found.counts) == 96
    assert found.contexts["value"].nunique() == MOST_VALUES
    (note,) = found.notes
    assert note == f"token class place has 96 values: curves of the {MOST_VALUES} with most targets"


@pytest.mark.slow
def test_hostile_names(tmp_path: Path) -> None:
    """Groups and file names are values, whatever signs they hold."""
    names = ("'; DROP TABLE x --", '<script>alert("1")</script>')
    run = word_run(tmp_path / "run", simulation(groups=names))
    file = tmp_path / 'it\'s "here".py'
    file.write_text("def f(window):\n    return [window.group] * len(window)\n", encoding="utf-8")
    found = curves_of(run, classify(run, ["group", f"{file}:f"]))
    assert set(found.counts["value"]) == set(names)
    own = found.curves.groupby("class")
    assert len(own) == 2
    first, second = (part.drop(columns="class").reset_index(drop=True) for _, part in own)
    pd.testing.assert_frame_equal(first, second)
