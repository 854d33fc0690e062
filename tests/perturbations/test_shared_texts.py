"""A few far texts that the windows of a run have in common."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    configured,
    model_folders,
    no_network,
    parts,
    score,
    scores,
    text_folder,
    windows,
)
from transformers import AutoModelForCausalLM

from probe.errors import UsageError
from probe.perturbations.condition import draw_rng, is_nested, is_random, parse
from probe.perturbations.shared_texts import SharedTexts, text_numbers
from probe.perturbations.steps import shared_of
from probe.runs.experiment import Experiment, prepare
from probe.runs.plan import costs, planned_batch
from probe.runs.run import run

NAME = "replace(source='document', shared=4)"
OWN = "replace(source='document')"
BOS = 0


@pytest.fixture(scope="module", name="content")
def shared_configuration(base: dict[str, Any]) -> dict[str, Any]:
    """Eight documents, four texts, two draws of each."""
    return changed(base, conditions=["noise", "truncate", NAME, OWN], repeats=2)


@pytest.fixture(scope="module", name="folder")
def run_folder(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of it; tests only read it."""
    return score(content, tmp_path_factory.mktemp("shared"))


def text_of(experiment: Experiment, document: str, repeat: int) -> NDArray[np.int64]:
    """The text that a document's windows begin with, drawn step by step."""
    pool = list(experiment.documents)
    number = pool.index(document) % 4
    owners = pool[(number + 1) % 4 :: 4]
    rng = draw_rng(0, "", number, NAME, repeat)
    ids = experiment.documents[owners[rng.integers(len(owners))]].ids
    room = experiment.plan.longest_far
    first = int(rng.integers(len(ids) - room + 1))
    return ids[first : first + room].astype(np.int64)


@pytest.mark.slow
@torch.inference_mode()
def test_every_loss(content: dict[str, Any], folder: Path) -> None:
    """Each is that of a whole forward of the BOS, the text's beginning and the window's own end."""
    model = AutoModelForCausalLM.from_pretrained(content["model"]["path"]).eval()
    experiment, rows = prepare(configured(content)), scores(folder)
    seen = 0
    for (document, _), window in windows(folder).items():
        ids = np.array(window["token_ids"])
        own = rows[(rows["document"] == document) & (rows["condition"] == NAME)]
        for (repeat, boundary), some in own.groupby(["repeat", "boundary"]):
            at = boundary - window["start"]
            far = text_of(experiment, document, repeat)[:at]
            whole = torch.tensor([[BOS, *far, *ids[at:]]])
            logp = torch.log_softmax(model(whole).logits[0].double(), dim=-1)
            for row in some.itertuples():
                place = 1 + row.position - window["start"]
                assert row.nll == pytest.approx(-float(logp[place - 1, whole[0, place]]), abs=1e-5)
                seen += 1
    assert seen == (rows["condition"] == NAME).sum() == 8 * 2 * (32 + 2 * 8)


@pytest.mark.slow
def test_old_names_keep_their_draws(base: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    """A run without shared texts has the same rows: the parameter is no part of its name."""
    alone = scores(score(base, tmp_path, conditions=["noise", "truncate", OWN], repeats=2))
    rows = scores(folder)
    others = rows[rows["condition"] != NAME].reset_index(drop=True)
    assert others.equals(alone)
    assert parse("replace(source='document', shared=None)").text == OWN


def test_no_window_takes_its_own_document(content: dict[str, Any]) -> None:
    """Each document begins with one text, each text is of another document, and all are used."""
    experiment = prepare(configured(content))
    pool = list(experiment.documents.values())
    texts, condition = SharedTexts(pool, 32), parse(NAME)
    users: dict[bytes, list[str]] = defaultdict(list)
    for document in pool:
        ids = texts.of(condition, document.id, 0, 0).ids
        users[ids.tobytes()].append(document.id)
        inside = np.lib.stride_tricks.sliding_window_view(document.ids, 32)
        assert not (inside == ids).all(axis=1).any()
    assert sorted(map(len, users.values())) == [2, 2, 2, 2]
    first, again, other = (texts.of(condition, pool[0].id, *draw).ids for draw in DRAWS)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


DRAWS = ((0, 0), (0, 0), (1, 0))


def test_documents_that_come_later_keep_the_texts() -> None:
    """Those of the pool take turns, a later one goes by its name alone."""
    pool = [f"{number}" for number in range(10)]
    numbers = text_numbers(pool, pool, 4)
    assert numbers.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    late = text_numbers([f"late {number}" for number in range(400)], pool, 4)
    assert np.bincount(late).min() > 60
    assert text_numbers(["late 7"], pool, 4)[0] == late[7]


@pytest.mark.slow
def test_plan_tells_the_cost(content: dict[str, Any], folder: Path) -> None:
    """The plan's tokens are those that were forwarded, fewer than with a text for each window."""
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    both = {}
    for name in (NAME, OWN):
        experiment = prepare(configured(content, conditions=[name]))
        both[name] = costs(experiment, planned_batch(experiment.config), set()).tokens
    experiment = prepare(configured(content))
    counted = costs(experiment, planned_batch(experiment.config), set())
    assert counted.tokens == record["costs"]["tokens"]
    assert both[NAME] < both[OWN]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_a_lost_part_comes_back(batch: int, content: dict[str, Any], tmp_path: Path) -> None:
    """A run that goes on in the middle ends with the same bytes: no window comes first."""
    folder = score(content, tmp_path, batch=batch)
    before = parts(folder)
    for name in sorted(before)[1:]:
        (folder / "scores" / name).unlink()
    run(configured(content, batch=batch), tmp_path)
    assert parts(folder) == before


def test_what_it_is() -> None:
    """It is drawn, it is nested, and it is named after how many texts there are."""
    condition = parse("replace('document', shared=4)")
    assert condition.text == NAME
    assert condition.shared == shared_of(NAME) == 4
    assert shared_of(OWN) is parse(OWN).shared is parse("shuffle").shared is None
    assert is_random(condition, 100)
    assert is_nested(condition)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("replace(source='document', shared=0)", r"shared must be an integer >= 2; got 0"),
        ("replace(source='document', shared=1)", r"shared must be an integer >= 2; got 1"),
        ("replace(source='document', shared=2.5)", r"shared must be an integer >= 2; got 2\.5"),
        ("replace(source='document', shared=True)", r"shared must be an integer >= 2; got True"),
        ("replace(source='unigram', shared=4)", r"shared is 4; allowed: with source='document'"),
        ("replace(source=[1, 2], shared=4)", r"shared is 4; allowed: with source='document'"),
        ("[replace(source='document', shared=4), shuffle]", r"shared is 4; allowed: with source="),
        ("[shuffle, replace(source='document', shared=4)]", r"shared is 4; allowed: with source="),
        (
            "replace(source='document', rate=0.5, shared=4)",
            r"shared must come without a rate; got rate 0\.5",
        ),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    """One line: what it is, its value, what is allowed."""
    with pytest.raises(UsageError, match=said) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_more_texts_than_documents(content: dict[str, Any], tmp_path: Path) -> None:
    """Each text is of another document, and a run says so before anything is scored."""
    said = r"takes each text from another document, and the run began with 3; allowed: shared of 2"
    with pytest.raises(UsageError, match=said):
        score(content, tmp_path, data__max_documents=3)


def test_other_protocols(content: dict[str, Any]) -> None:
    """Only where all intervals cover the choice of the texts."""
    band = {"kind": "band", "edges": [0, 8, 16]}
    with pytest.raises(UsageError, match="shared: allowed with sweep, grid"):
        configured(content, protocol=band)
