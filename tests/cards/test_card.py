"""The card of a run: what it says, for every protocol, and that it says no path."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from open_runs import opened

from probe.analysis.open_run import OpenRun
from probe.cards.card import Card, make_card
from probe.cards.markdown import markdown
from probe.findings.base import findings

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "results" / "example"
RUNS = Path(__file__).parents[1] / "golden" / "runs"


def copied(folder: Path, place: Path, **changes: Any) -> Path:
    """A copy of a run folder with other values in its run.json; a dictionary is joined."""
    target = place / folder.name
    shutil.copytree(folder, target)
    record = json.loads((target / "run.json").read_text("utf-8"))
    for name, value in changes.items():
        record[name] = record[name] | value if isinstance(value, dict) else value
    (target / "run.json").write_text(json.dumps(record), "utf-8")
    return target


@functools.cache
def card_of_example() -> Card:
    return card_of(EXAMPLE)


def card_of(folder: Path, place: Path | None = None, **changes: Any) -> Card:
    with opened(folder if place is None else copied(folder, place, **changes)) as run:
        return make_card(run, findings(run, brief=True))


def test_example() -> None:
    """Model, data, protocol, seeds, versions and self-check are those of run.json."""
    card = card_of_example()
    record = json.loads((EXAMPLE / "run.json").read_text("utf-8"))
    assert card.model["revision"] == record["model"]["revision"]
    assert card.model["path"] == record["model"]["path"]
    assert card.data["measured"] == "24 documents, 24 windows, 24,576 targets"
    assert card.protocol == record["config"]["protocol"]
    assert card.windows == record["config"]["windows"]
    assert card.settings["seed"] == 0
    assert card.versions == record["versions"]
    assert [one["technique"] for one in card.check] == [one["technique"] for one in record["check"]]
    assert card.conditions == tuple(record["plan"]["conditions"])
    assert card.rows["count"] == 155_648


def test_lengths_are_those_of_the_summary() -> None:
    """The JSON holds every effective context as ``summary.json`` has it."""
    summary = json.loads((EXAMPLE / "summary.json").read_text("utf-8"))
    own = json.loads(json.dumps(card_of_example().record()))["effective_context"]
    for one, kept in zip(own, summary["effective_context"], strict=True):
        assert one.pop("epsilon") == pytest.approx(kept.pop("epsilon"))
        assert one == kept


@pytest.mark.parametrize("folder", sorted(RUNS.iterdir()), ids=lambda folder: folder.name)
def test_every_protocol_has_a_card(folder: Path) -> None:
    """A sentence, JSON without what is not finite, and Markdown."""
    card = card_of(folder)
    assert card.answers
    assert all(answer.sentences for answer in card.answers)
    text = json.dumps(card.record(), allow_nan=False)
    assert json.loads(text)["schema"] == 1
    for answer in card.answers:
        for one in answer.tables:
            assert one.rows, "a table of an answer has rows"
    assert markdown(card).count("| --- |") >= 1 + sum(len(answer.tables) for answer in card.answers)


def test_no_path_of_the_machine(tmp_path: Path) -> None:
    """A model and data from folders are named by their last part."""
    card = card_of(
        RUNS / "sweep",
        tmp_path,
        model={"path": "/home/anna/models/tiny"},
        identity={"model": "/home/anna/models/tiny"},
    )
    assert card.model["path"] == "tiny"
    assert "anna" not in json.dumps(card.record())


def test_hash_follows_the_rows(tmp_path: Path) -> None:
    """Another run has another hash, a copy the same."""
    assert card_of(RUNS / "sweep").rows == card_of(RUNS / "sweep", tmp_path, name="x").rows
    assert card_of(RUNS / "sweep").rows != card_of(RUNS / "grid").rows


def opened_with_card(folder: Path) -> tuple[OpenRun, Card]:
    """A run that stays open, with its card."""
    run = opened(folder)
    return run, make_card(run, findings(run, brief=True))
