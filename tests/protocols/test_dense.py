"""Protocol dense: every row is that of one whole forward; plan, resume, batch, mistakes."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import plain_logp, tiny, tiny_model, tiny_report
from plans import dense
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    character_tokenizer,
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

from probe.config import check
from probe.engine import branch as tree_parts
from probe.engine.branch import Branch
from probe.engine.engine import Engine
from probe.errors import UsageError
from probe.results.folder import read_folder
from probe.runs import rows as row_blocks
from probe.runs.experiment import prepare
from probe.runs.plan import costs, planned_batch
from probe.runs.run import run

CONTEXT, COUNT, LENGTH = 20, 12, 40
WINDOWS = 9  # the short text is long enough


@pytest.fixture(scope="module", name="content")
def dense_configuration(base: dict[str, Any]) -> dict[str, Any]:
    """The base configuration with the protocol and what follows from it."""
    kept = {key: value for key, value in base.items() if key not in ("protocol", "conditions")}
    protocol = {"kind": "dense", "context": CONTEXT, "targets": COUNT}
    return changed(kept, protocol=protocol, windows__length=LENGTH, name="dense")


Oracle = dict[tuple[int, int], tuple[float, float]]


def plain_rows(model: Any, ids: np.ndarray, lead: list[int], first: int, context: int) -> Oracle:
    """A whole text per target and length: target and length to nll and KL to the longest.

    Texts of one length stand side by side.
    """
    targets = range(first, len(ids))

    def behind(length: int) -> np.ndarray:
        given = [np.concatenate([lead, ids[t - length : t]]).astype(np.int64) for t in targets]
        return plain_logp(model, np.stack(given))[:, -1]

    found, longest = {}, behind(context)
    for length in range(context, 0, -1):
        logp = behind(length)
        kl = (np.exp(longest) * (longest - logp)).sum(axis=1)
        for row, target in enumerate(targets):
            found[target, length] = (-float(logp[row, ids[target]]), float(kl[row]))
    return found


@cache
def whole_text(family: str, ids: bytes) -> np.ndarray:
    """Log-probabilities of a text under a tiny model, worked out once for all tests."""
    return plain_logp(tiny_model(family).model, np.frombuffer(ids, dtype=np.int64).copy())


@given(st.integers(2, 60), st.data())
def test_runs(length: int, data: st.DataObject) -> None:
    """Every target is seen behind every length once, of each the longest first."""
    context = data.draw(st.integers(1, length - 1))
    count = data.draw(st.one_of(st.none(), st.integers(1, length - context)))
    plan = dense(length, context, count)
    seen = [(t, t - one.boundary) for one in plan.runs(True) for t in range(one.first, one.stop)]
    targets = range(*plan.targets)
    assert len(targets) == (length - context if count is None else count)
    assert sorted(seen) == [(t, n) for t in targets for n in range(1, context + 1)]
    known = set()
    for target, distance in sorted(seen, key=lambda pair: pair[0] - pair[1]):
        known |= {target} if distance == context else set()
        assert target in known
    assert plan.reach == context + 1


@pytest.mark.slow
@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("first_token", ["none", "keep", "published"])
def test_rows_are_those_of_one_forward_each(
    first_token: str,
    bos: bool,
    content: dict[str, Any],
    models: Mapping[bool, Path],
    tmp_path: Path,
) -> None:
    """Target by length: nll, KL, boundary and distance; the intact row is the longest context."""
    changes = {"first_token": first_token, "data__max_documents": 2}
    folder = score(content, tmp_path, model__path=str(models[bos]), **changes)
    model = AutoModelForCausalLM.from_pretrained(models[bos]).eval()
    found = scores(folder)
    for (document, _), window in windows(folder).items():
        ids = np.array(window["token_ids"])
        lead = {"none": [], "published": [], "keep": [0] if bos else [ids[0]]}[first_token]
        expected = plain_rows(model, ids, lead, LENGTH - COUNT, CONTEXT)
        rows = found[(found.document == document) & (found.condition == "truncate")]
        places = rows.position - window["start"]
        assert set(zip(places, rows.distance, strict=True)) == set(expected)
        assert len(rows) == len(expected)
        both = np.array([expected[pair] for pair in zip(places, rows.distance, strict=True)])
        assert np.abs(rows[["nll", "kl"]].to_numpy() - both).max() <= 2e-5
        longest = np.array([expected[place, CONTEXT][0] for place in places])
        assert np.abs(rows.nll_intact - longest).max() <= 2e-5
        assert (rows.boundary == rows.position - rows.distance).all()
        assert (rows.far_start == rows.boundary).all()
        intact = found[(found.document == document) & (found.condition == "intact")]
        assert (intact.position - window["start"]).tolist() == list(range(LENGTH - COUNT, LENGTH))
        assert (intact[["far_start", "boundary", "distance"]] == -1).all(axis=None)
        assert (intact.kl == 0).all()
        assert (intact.nll == intact.nll_intact).all()


@pytest.mark.parametrize("bos", [True, False])
def test_the_first_window_of_a_document(
    bos: bool, content: dict[str, Any], models: Mapping[bool, Path], tmp_path: Path
) -> None:
    """The longest context may begin with the window's own first token, which is then not doubled.

    A BOS stands before every context, also before the first.
    """
    changes = {"protocol__targets": None, "first_token": "keep", "data__max_documents": 1}
    folder = score(content, tmp_path, model__path=str(models[bos]), **changes)
    model = AutoModelForCausalLM.from_pretrained(models[bos]).eval()
    (window,) = windows(folder).values()
    ids = np.array(window["token_ids"])
    rows = scores(folder).query("boundary == @window['start']")
    assert len(rows) == 1
    logp = plain_logp(model, np.concatenate([[0] if bos else [], ids[:CONTEXT]]).astype(np.int64))
    assert rows.nll.item() == pytest.approx(-logp[-1, ids[CONTEXT]], abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mamba"])
@pytest.mark.parametrize("held", [1, 600, 1 << 30])
def test_the_engine_with_an_intact_branch_a_target(
    family: str, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows are put by, in how many trees, in whatever order: every measure is right.

    The text repeats itself, so that some starts share a prefix and are walked out of order.
    """
    monkeypatch.setattr("probe.engine.losses.HELD", held)
    monkeypatch.setattr(tree_parts, "MOST_BRANCHES", 7)
    rng = np.random.default_rng(1)
    texts = [np.concatenate([[5] * 70, rng.integers(3, 96, 20)]) for _ in range(2)]
    context, count = 50, 12
    own = [branches(text, context, count) for text in texts]
    reference = list(range(0, 2 * count, 2))
    model = tiny_model(family)
    engine = Engine(model, tiny_report(family).techniques, ("nll", "kl", "top1", "entropy"))
    scored = engine.score(own, reference=reference)
    for text, window, found in zip(texts, own, scored, strict=True):
        whole = {}
        for number, (branch, losses) in enumerate(zip(window, found, strict=True)):
            logp = whole_text(family, branch.ids.tobytes())[branch.first - 1 : branch.stop - 1]
            if number in reference:
                whole[branch.origin] = logp[0]
            rows = np.arange(len(logp))
            assert np.abs(losses.nll + logp[rows, branch.labels]).max() <= 5e-4
            places = branch.origin + rows
            compared = np.array([whole[place] for place in places])
            kl = (np.exp(compared) * (compared - logp)).sum(axis=1)
            assert losses.kl is not None
            assert np.abs(losses.kl - kl).max() <= 5e-4
            assert losses.top1 is not None
            entropy = -(np.exp(logp) * logp).sum(axis=1)
            assert np.abs(losses.entropy - entropy).max() <= 5e-4
        assert sorted(whole) == list(range(len(text) - count, len(text)))


def branches(text: np.ndarray, context: int, count: int) -> list[Branch]:
    """An intact branch and a truncated one in turn, *count* of each; then truncated ones alone."""
    found = []
    for one in dense(len(text), context, count).runs(True):
        ids = text[one.boundary : one.stop]
        if len(ids) == context + 1:
            found.append(Branch(ids, ids, context, context + 1, one.stop - 1))
        first = one.first - one.boundary
        found.append(Branch(ids, ids, first, len(ids), one.first))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3, "auto"])
def test_plan_tells_the_cost(batch: int | str, content: dict[str, Any], tmp_path: Path) -> None:
    """The plan's tokens are those forwarded: one text a start, nothing for the intact rows."""
    experiment = prepare(configured(content, batch=batch))
    counted = costs(experiment, planned_batch(experiment.config), set())
    folder = score(content, tmp_path, batch=batch)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert counted.tokens == record["costs"]["tokens"]
    first = LENGTH - COUNT - CONTEXT
    starts = [1 + min(CONTEXT + 1, LENGTH - at) for at in range(first, LENGTH - 1)]
    assert counted.plain_tokens == WINDOWS * sum(starts)
    assert sum(counted.targets["truncate"].values()) == WINDOWS * COUNT * CONTEXT
    assert counted.targets["truncate"][1] == WINDOWS * COUNT  # distance 1
    assert sum(counted.targets["intact"].values()) == WINDOWS * COUNT


@pytest.mark.slow
def test_a_batch_and_blocks_change_nothing(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows walked together, and rows written in blocks of a part, are the same rows."""
    first = scores(score(content, tmp_path, batch=1))
    monkeypatch.setattr(row_blocks, "BLOCK", 50)
    folder = score(content, tmp_path, name="blocks", batch=3)
    part = pq.ParquetFile(next(iter(sorted(folder.glob("scores/*.parquet")))))
    assert part.num_row_groups > 3
    other = scores(folder)
    key = ["document", "window", "condition", "position", "distance"]
    assert (first[key] == other[key]).all(axis=None)
    measured = ["nll", "nll_intact", "kl"]
    assert np.abs(first[measured].to_numpy() - other[measured].to_numpy()).max() <= 2e-5
    assert read_folder(folder).warnings == ()


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on(content: dict[str, Any], tmp_path: Path) -> None:
    """Every part is a window's: what is missing is scored, no row is lost and none is there twice.

    A part of which only the beginning was written is no part.
    """
    folder = score(content, tmp_path, batch=1)
    before = parts(folder)
    assert len(before) == WINDOWS
    gone = sorted(before)[2:5]
    for name in gone:
        (folder / "scores" / name).unlink()
    (folder / "scores" / f"{gone[0]}.tmp").write_bytes(before[gone[0]][:500])
    heard: list[int] = []
    run(configured(content, batch=1), tmp_path, listen=lambda told: heard.append(told.windows))
    assert heard == [1, 2, 3]
    assert parts(folder) == before
    run(configured(content, batch=1), tmp_path, listen=lambda _: pytest.fail("nothing is missing"))


@pytest.mark.slow
def test_only_what_is_asked_for(content: dict[str, Any], tmp_path: Path) -> None:
    """KL is measured unless the configuration says otherwise; the other losses are the same."""
    with_kl = scores(score(content, tmp_path, data__max_documents=2))
    nll = scores(score(content, tmp_path, name="nll", measures=["nll"], data__max_documents=2))
    assert "kl" not in nll
    assert np.abs(with_kl.nll - nll.nll).max() <= 2e-5


def test_context_up_to_the_positions(content: dict[str, Any], tmp_path: Path) -> None:
    """Windows may be longer than the model's positions, contexts may not."""
    small = tiny("llama", num_hidden_layers=2, max_position_embeddings=32)
    small.save_pretrained(tmp_path / "m")
    character_tokenizer(True).save_pretrained(tmp_path / "m")
    at = {"model__path": str(tmp_path / "m"), "windows__length": 100, "protocol__targets": 3}
    prepare(configured(content, **at, protocol__context=30))
    with pytest.raises(UsageError, match=r"protocol.context and its target take 32 and the kept"):
        prepare(configured(content, **at, protocol__context=31))
    prepare(configured(content, **at, protocol__context=31, first_token="none"))


SHORT = {"kind": "dense", "context": 1}
LEAST = {"name": "a", "model": {"path": "m"}, "data": {"path": "text"}}


def test_defaults() -> None:
    """All targets with so long a context; truncate alone; nll and KL."""
    config = check({**LEAST, "protocol": {"kind": "dense", "context": 512}})
    assert config.plan == dense(2048, 512, 1536)
    assert (config.conditions, config.measures) == (["truncate"], ["nll", "kl"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conditions": ["shuffle"]}, "conditions: allowed with protocol dense: truncate"),
        ({"conditions": ["truncate", "noise"]}, "conditions: allowed with protocol dense"),
        ({"protocol": {"kind": "dense"}}, "protocol.context: is missing"),
        (
            {"windows": {"length": 512}},
            "protocol.context is 512; allowed: 1 to 511, windows have 512 tokens",
        ),
        (
            {"windows": {"length": 600}, "protocol": {**SHORT, "targets": 600}},
            "protocol.targets is 600; allowed: 1 to 599, the tokens behind a context of 1 in "
            "windows of 600",
        ),
    ],
)
def test_mistakes(changes: dict[str, Any], words: str) -> None:
    """What does not fit is one line with the value and what is allowed."""
    content = {**LEAST, "protocol": {"kind": "dense", "context": 512}, **changes}
    with pytest.raises(UsageError) as caught:
        check(content)
    assert str(caught.value).splitlines()[-1].strip().startswith(words)
