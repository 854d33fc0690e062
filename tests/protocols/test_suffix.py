"""Protocol suffix: candidates, their rows against plain forwards, what they cost, resume."""

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import plain_logp
from plans import suffix
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
from probe.corpus.windows import Document
from probe.errors import ProbeError, UsageError
from probe.protocols.suffix import DISTRACTOR, SuffixPlan, SuffixProtocol, matches
from probe.runs.experiment import prepare
from probe.runs.plan import costs, planned_batch
from probe.runs.run import notes, run

TOKENS, PREFIXES, CANDIDATES = 16, [0, 24, 48], 4
CHOICE = {"kind": "suffix", "prefixes": PREFIXES, "tokens": TOKENS, "candidates": CANDIDATES}
NAMES = [DISTRACTOR.format(number) for number in range(1, CANDIDATES)]


@pytest.fixture(scope="module", name="content")
def suffix_configuration(base: dict[str, Any]) -> dict[str, Any]:
    """The base configuration with the protocol and what follows from it."""
    content = {key: value for key, value in base.items() if key not in ("windows", "conditions")}
    return changed(content, protocol=CHOICE, windows={"per_document": 2}, name="suffix")


def document(length: int, text: str | None = None) -> Document:
    """A document of one token a character."""
    ends = np.arange(1, length + 1, dtype=np.int32)
    return Document("d", np.arange(length), text, ends - 1, np.ones_like(ends))


@given(
    st.integers(20, 400), st.integers(1, 40), st.integers(2, 7), st.integers(0, 30), st.integers(0)
)
@settings(max_examples=60, deadline=None)
def test_candidates_lie_apart(
    length: int, tokens: int, candidates: int, skip: int, seed: int
) -> None:
    """No candidate overlaps another, the window or what is skipped; long documents have all."""
    options = {"tokens": tokens, "candidates": candidates}
    plan = suffix(tokens + 12, [12], per_document=None, skip=skip, **options)
    text = document(length)
    found = plan.windows(text, seed)
    if length >= plan.fewest:
        assert len(found) == (length - skip) // plan.length
    for window in found:
        starts = plan.places(text, window.start, seed)
        assert starts.tolist() == plan.places(text, window.start, seed).tolist()
        assert len(starts) == candidates - 1
        taken = [range(0, skip), range(window.start, window.start + plan.length)]
        taken += [range(start, start + tokens) for start in starts]
        everything = [index for one in taken for index in one]
        assert len(everything) == len(set(everything))
        assert max(everything) < length


def test_at_matches() -> None:
    """Gold and distractors begin in the tokens in which matches begin, each once; ^ is a line's."""
    text = "".join(f"#{number:02d}" + "x" * 46 + "\n" for number in range(12))
    one = document(len(text), text)
    assert matches(one, "^#").tolist() == list(range(0, 600, 50))
    assert matches(one, "#|#0").tolist() == list(range(0, 600, 50))
    plan = suffix(130, [100], per_document=None, tokens=30, candidates=5, at="^#")
    found = plan.windows(one, 3)
    assert found
    for window in found:
        assert (window.start + 100) % 50 == 0
        starts = plan.places(one, window.start, 3)
        assert len(starts) == 4
        assert (starts % 50 == 0).all()
        assert all(s + 30 <= window.start or s >= window.start + 130 for s in starts.tolist())
    spans = sorted(window.start for window in found)
    assert all(b - a >= 130 for a, b in pairwise(spans))
    many = suffix(130, [100], per_document=None, tokens=30, candidates=13, at="^#")
    assert many.windows(one, 3) == []


def test_token_of_a_match() -> None:
    """A match inside a token begins in it, and with bytes of one character in the first of them."""
    starts = np.array([0, 2, 2, 5], dtype=np.int32)
    ends = np.array([2, 5, 5, 6], dtype=np.int32)
    one = Document("d", np.arange(4), "ab#cde", starts, ends - starts)
    assert matches(one, "#").tolist() == [1]
    assert matches(one, "e$").tolist() == [3]
    assert matches(one, "z").tolist() == []


@pytest.mark.slow
@pytest.mark.parametrize("first_token", ["published", "keep", "none"])
@pytest.mark.parametrize("bos", [True, False])
def test_rows_are_those_of_plain_forwards(
    bos: bool,
    first_token: str,
    content: dict[str, Any],
    models: Mapping[bool, Path],
    tmp_path: Path,
) -> None:
    """Every candidate behind every prefix: its own forward gives its rows, each named as gold's."""
    changes = {"model__path": str(models[bos]), "first_token": first_token}
    config = configured(content, **changes)
    found = scores(run(config, tmp_path))
    model = AutoModelForCausalLM.from_pretrained(models[bos]).eval()
    experiment = prepare(config)
    documents, plan = experiment.documents, experiment.plan
    assert isinstance(plan, SuffixPlan)
    assert set(found.condition) == {"intact", "truncate", *NAMES}
    for (name, number), window in windows(tmp_path / "suffix").items():
        ids, start = np.array(window["token_ids"]), window["start"]
        whole = documents[name].ids
        starts = plan.places(documents[name], start, 0)
        own = {"truncate": ids[48:]} | {
            condition: whole[at : at + TOKENS] for condition, at in zip(NAMES, starts, strict=True)
        }
        rows = found[(found.document == name) & (found.window == number)]
        for prefix in PREFIXES:
            cut = prefix < 48
            lead = [0] if bos and (first_token == "keep" or not cut) else []
            if not bos and first_token == "keep" and cut:
                lead = [ids[0]]
            lead = [] if first_token == "none" else lead
            before = np.array([*lead, *ids[48 - prefix : 48]], dtype=np.int64)
            skip = int(len(before) == 0)
            forwarded = plain_logp(model, np.stack([[*before, *tokens] for tokens in own.values()]))
            for (condition, tokens), logp in zip(own.items(), forwarded, strict=True):
                known = rows[(rows.condition == condition) & (rows.boundary == start + 48 - prefix)]
                nll = -logp[np.arange(TOKENS - skip) + len(before) + skip - 1, tokens[skip:]]
                assert np.abs(known.nll.to_numpy() - nll).max() <= 1e-4, (prefix, condition)
                assert known.position.tolist() == list(range(start + 48 + skip, start + 64))
                assert (known.distance == known.position - known.boundary).all()
        intact = rows[rows.condition == "intact"].set_index("position").nll
        others = rows[rows.condition != "intact"]
        assert (others.nll_intact.to_numpy() == intact[others.position].to_numpy()).all()


def test_candidates_share_their_prefix(content: dict[str, Any]) -> None:
    """Each prefix is forwarded once, and behind it every candidate; intact is the gold one."""
    experiment = prepare(configured(content))
    counted = costs(experiment, planned_batch(experiment.config), set())
    per_window = sum(1 + prefix + CANDIDATES * TOKENS for prefix in PREFIXES)
    # A prefix below 32 tokens is cheaper forwarded with each candidate than branched from.
    short = sum((CANDIDATES - 1) * (1 + p) for p in PREFIXES if 1 + p < 32)
    assert counted.tokens <= counted.windows * (per_window + short)
    assert counted.tokens >= counted.windows * (per_window - TOKENS)
    long = prepare(configured(content, protocol__prefixes=[88], protocol__tokens=2))
    counted = costs(long, 1, set())
    assert counted.tokens <= counted.windows * (1 + 88 + CANDIDATES * 2)
    assert counted.tokens < 1.3 * counted.windows * (1 + 88 + 2)


@pytest.mark.slow
def test_a_run_that_was_cut_off_ends_with_the_same_rows(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """A part that is gone is scored again, byte for byte; noise added later adds its own rows."""
    folder = score(content, tmp_path)
    whole = parts(folder)
    for name in list(whole)[::2]:
        (folder / "scores" / name).unlink()
    assert parts(score(content, tmp_path)) == whole
    score(content, tmp_path, conditions=["truncate", "noise"])
    assert {name: data for name, data in parts(folder).items() if name in whole} == whole
    found = scores(folder)
    noise = found[found.condition.astype(str) == "noise"]
    assert len(noise) == (found.condition == "truncate").sum()
    assert not found.duplicated(["document", "window", "condition", "boundary", "position"]).any()


@pytest.mark.slow
def test_another_seed_draws_others(content: dict[str, Any], tmp_path: Path) -> None:
    """The same windows cannot be told of from another seed's distractors: the folder is refused."""
    score(content, tmp_path)
    with pytest.raises(UsageError, match="seed was 0, is 1"):
        score(content, tmp_path, seed=1)


def test_documents_without_a_place_are_left_out(
    content: dict[str, Any], texts: Path, tmp_path: Path
) -> None:
    """Too few matches: the documents are counted and named; none at all is an error."""
    text = " ".join(["the cat sat"] * 30)
    for name, times in {"many": 12, "few": 2}.items():
        body = "\n".join(f"CHAPTER\n{text[:60]}" for _ in range(times)) + "\n" + "a" * 300
        (tmp_path / f"{name}.txt").write_text(body.lower(), encoding="utf-8")
    at = {"protocol__at": "^ch", "data__data_files": f"{tmp_path}/*.txt"}
    config = configured(content, **at)
    experiment = prepare(config)
    assert list(experiment.documents) == ["many.txt"]
    assert list(notes(experiment, 0)) == [
        "left out, without what the protocol needs: 1 (few.txt)",
        "1 document: an interval needs 6, so that accuracy will have none",
    ]
    for window in experiment.windows:
        assert window.text is not None
        assert window.text[-TOKENS:].startswith("ch")
    with pytest.raises(ProbeError, match=re.escape("protocol.at 'nowhere' matches nowhere")):
        prepare(configured(content, **{**at, "protocol__at": "nowhere"}))
    assert prepare(configured(content)).corpus.left_out.no_window.count == 0


def test_defaults_follow_the_prefixes(content: dict[str, Any]) -> None:
    """Windows hold the longest prefix and a continuation, and the condition is truncate."""
    config = configured(content)
    assert (config.windows.length, config.windows.per_document) == (64, 2)
    assert config.conditions == ["truncate"]
    assert isinstance(config.plan, SuffixPlan)
    assert config.plan.reach == 64
    assert [run.boundary for run in config.plan.runs(True)] == [0, 24, 48]
    assert configured(content, windows={"length": 100}).plan.runs(True)[0].boundary == 36
    assert check(config.model_dump(mode="json")).plan == config.plan


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"protocol__prefixes": []}, "at least 1 item"),
        ({"protocol__prefixes": [-1]}, "greater than or equal to 0"),
        ({"protocol__prefixes": "x"}, "protocol.prefixes"),
        ({"protocol__candidates": 1}, "greater than or equal to 2"),
        ({"protocol__at": "("}, "allowed: a regular expression"),
        ({"windows": {"length": 60}}, "one or more from 0 to 44"),
        ({"conditions": ["shuffle"]}, "allowed with protocol suffix: truncate"),
        ({"conditions": ["noise"]}, "allowed with protocol suffix: truncate"),
        ({"measures": ["nll", "kl"]}, "allowed with protocol suffix: nll, top1, entropy"),
    ],
)
def test_mistakes(changes: dict[str, Any], said: str, content: dict[str, Any]) -> None:
    """Each is answered with what is allowed."""
    with pytest.raises(UsageError, match=re.escape(said)):
        configured(content, **changes)


def test_token_ids_have_no_matches(content: dict[str, Any]) -> None:
    """A regular expression is not looked for in token ids."""
    plan = suffix(64, [48], per_document=1, tokens=16, candidates=2, at="x")
    with pytest.raises(UsageError, match="the data came as token ids"):
        plan.windows(document(400), 0)


def test_no_perturbation_takes_the_name() -> None:
    """The rows of candidates have a condition that no perturbation can have."""
    from probe.perturbations.registry import register

    alternatives = SuffixProtocol.reading({}).alternatives
    assert DISTRACTOR.format(1).startswith(alternatives)
    assert len(alternatives) > len("distractor")
    with pytest.raises(ValueError, match="what a protocol calls its candidates"):
        register("distractor")
