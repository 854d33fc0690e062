"""Protocol longppl: every row is that of the published loop, written out; plan and resume."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import plain_logp, tiny
from numpy.typing import NDArray
from plans import BOS_IN_FRONT, longppl
from plans import windows as settings
from pydantic import ValidationError
from tiny_run import (  # noqa: F401 (fixtures)
    LENGTHS,
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
from tokenizers import processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from probe.analysis.open_run import OpenRun, open_run
from probe.config import Config, check
from probe.corpus.windows import Document, whole
from probe.errors import UsageError
from probe.findings.key_tokens import KeyRule, key_spans
from probe.findings.longppl import longppl as answered
from probe.models.load import open_source
from probe.protocols.base import ANY_MODEL
from probe.protocols.longppl import LongPPLPlan
from probe.runs.experiment import prepare
from probe.runs.plan import costs, planned_batch
from probe.runs.run import run

K, STRIDE = 64, 32
SHORT = {"kind": "longppl", "context": K, "stride": STRIDE}


@pytest.fixture(scope="module", name="content")
def longppl_configuration(base: dict[str, Any]) -> dict[str, Any]:
    """The base configuration with the protocol and what follows from it."""
    content = {key: value for key, value in base.items() if key not in ("windows", "conditions")}
    return changed(content, protocol=SHORT, first_token="published", name="longppl")


@pytest.fixture(name="opened")
def open_runs() -> Iterator[Callable[[Path], OpenRun]]:
    """A function that opens a run until the test ends."""
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(open_run(folder, write=False))


def published(
    model: Any, ids: NDArray[np.int64], first: int | None = None, k: int = K, stride: int = STRIDE
) -> dict[int, tuple[float, float]]:
    """The published loop: index of each target to its loss in the whole and in the short text.

    Args:
        model: A causal LM.
        ids: The document with its BOS, if it has one.
        first: A token put in front of the short contexts as well (``keep``).
        k: Fewest tokens of a short context.
        stride: By how many tokens it moves.
    """
    rows = np.arange(len(ids) - 1)
    full = -plain_logp(model, ids)[rows, ids[1:]]  # full[t - 1] is the loss of token t
    found = {}
    for start in range(0, len(ids) - k, stride):
        short = ids[start : start + k + stride]
        led = short if start == 0 or first is None else np.concatenate([[first], short])
        logp = plain_logp(model, led)
        skip = len(led) - len(short)
        for at in range(k, len(short)):
            index = start + at
            found[index] = (full[index - 1], -logp[at + skip - 1, ids[index]])
    return found


def text_of_length(tokens: int) -> Document:
    """A document of token ids."""
    none = np.zeros(0, dtype=np.int32)
    return Document("d", np.arange(tokens), None, none, none)


@given(st.integers(8, 200), st.integers(1, 40), st.integers(2, 40), st.integers(0, 1))
def test_runs(length: int, context: int, stride: int, extra: int) -> None:
    """Every token from index K on is a target once; the indices are those of the published loop."""
    model = BOS_IN_FRONT if extra else ANY_MODEL
    plan = LongPPLPlan(settings(length, 1), model, context=context, stride=stride)
    runs, stop = plan.runs(True), length + extra
    starts = list(range(0, stop - context, stride))
    assert [run.boundary + extra for run in runs[1:]] == starts[1:]
    assert [run.boundary for run in runs[:1]] == [0] * (len(starts) > 0)
    targets = [index for run in runs for index in range(run.first, run.stop)]
    assert targets == list(range(context - extra, length))
    assert plan.targets == (0, length)
    for later in runs[1:]:
        distances = {later.first - later.boundary, later.stop - 1 - later.boundary}
        assert min(distances) == context
        assert max(distances) < plan.reach
    short = plan.of_window(whole(text_of_length(9)), text_of_length(9), 0)
    assert short.length == 9
    assert short.runs(True) == replace(plan, settings=settings(9, 1)).runs(True)


@pytest.mark.slow
@pytest.mark.parametrize("first_token", ["published", "keep", "none"])
@pytest.mark.parametrize("bos", [True, False])
def test_rows_are_those_of_the_published_loop(
    bos: bool,
    first_token: str,
    content: dict[str, Any],
    models: Mapping[bool, Path],
    tmp_path: Path,
) -> None:
    """Token by token: whole and short losses, boundaries, distances; with a BOS and without."""
    folder = score(content, tmp_path, model__path=str(models[bos]), first_token=first_token)
    model = AutoModelForCausalLM.from_pretrained(models[bos]).eval()
    found = scores(folder)
    extra = int(bos and first_token != "none")
    assert len(windows(folder)) == len(LENGTHS)
    for (document, _), window in windows(folder).items():
        ids = np.array([0] * extra + window["token_ids"])
        leads = first_token == "keep"
        expected = published(model, ids, (0 if bos else ids[0]) if leads else None)
        rows = found[(found.document == document) & (found.condition == "truncate")]
        rows = rows.sort_values("position")
        indices = rows.position.to_numpy() + extra
        assert indices.tolist() == sorted(expected)
        both = np.array([expected[index] for index in indices])
        assert np.abs(rows.nll_intact - both[:, 0]).max() <= 1e-5
        assert np.abs(rows.nll - both[:, 1]).max() <= 1e-5
        starts = (indices - K) // STRIDE * STRIDE
        assert (rows.boundary == np.maximum(starts - extra, 0)).all()
        assert (rows.far_start == rows.boundary).all()
        late = starts > 0
        assert (rows.distance[late] == (indices - starts)[late]).all()
        assert rows.distance[late].between(K, K + STRIDE - 1).all()
        assert (rows.nll[~late] == rows.nll_intact[~late]).all()  # nothing is cut off
        intact = found[(found.document == document) & (found.condition == "intact")]
        first = 0 if extra else 1  # nothing predicts the first token of all
        assert sorted(intact.position) == list(range(first, len(window["token_ids"])))


TEMPLATES = {
    "a BOS in front": "<s> $A",
    "a BOS that it does not add": None,
    "no BOS": None,
    "a BOS in front and an EOS behind": "<s> $A </s>",
}


def tokenizer_with(template: str | None, *, bos: bool = True) -> PreTrainedTokenizerFast:
    """A character tokenizer that itself adds what a template says, and nothing without one."""
    tokenizer = copy.deepcopy(character_tokenizer(bos, prepends=False))
    if template is not None:
        special = [("<s>", 0), ("</s>", 1)]
        processor = processors.TemplateProcessing(single=template, special_tokens=special)
        tokenizer.backend_tokenizer.post_processor = processor
    return tokenizer


@pytest.mark.slow
@pytest.mark.parametrize("has", TEMPLATES)
def test_longppl_is_that_of_the_published_code(
    has: str, content: dict[str, Any], tmp_path: Path, opened: Callable[[Path], OpenRun]
) -> None:
    """LSD, key tokens and LongPPL of their code written out, with what the tokenizer itself adds.

    They choose keys on the text with special tokens, and take their losses from one without.
    """
    tokenizer = tokenizer_with(TEMPLATES[has], bos=has != "no BOS")
    model = tiny("llama", num_hidden_layers=2)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "m")
    path, rule = str(tmp_path / "m"), KeyRule(lsd=0.02, lcl=-3.4)
    few = changed(content, model__path=path, data__max_documents=4)
    folder, losses = score(few, tmp_path), score(few, tmp_path, first_token="none", name="losses")
    found, extra, chosen, nlls = scores(folder), int("front" in has), set(), []
    for (document, _), window in windows(folder).items():
        text, name = window["text"], {"return_offsets_mapping": True}
        whole, bare = tokenizer(text, **name), tokenizer(text, add_special_tokens=False, **name)
        pairs = published(model, np.array(whole["input_ids"]))
        lsd = {index: short - full for index, (full, short) in pairs.items()}
        keys = [i for i, (full, _) in pairs.items() if lsd[i] > rule.lsd and -full > rule.lcl]
        ids = np.array(bare["input_ids"])
        own = -plain_logp(model, ids)[np.arange(len(ids) - 1), ids[1:]]
        places = {whole["offset_mapping"][index] for index in keys}
        carried = [i for i, place in enumerate(bare["offset_mapping"]) if place in places]
        chosen |= {(document, index) for index in carried}
        nlls += [own[index - 1] for index in carried]
        rows = found[(found.document == document) & (found.condition == "truncate")]
        assert sorted(rows.position + extra) == [i for i in sorted(lsd) if i < len(ids) + extra]
        expected = np.array([lsd[index] for index in rows.position + extra])
        assert np.abs(rows.nll - rows.nll_intact - expected).max() <= 2e-5
    spans = key_spans(opened(folder), rule)
    assert chosen == {(s.document, s.position + n) for s in spans for n in range(s.tokens)}
    assert 8 <= len(chosen) < 0.9 * (found.condition == "truncate").sum()
    answers = [answered(opened(folder), scored=opened(losses), rule=rule)]
    if not extra:  # nothing added: the same losses
        answers.append(answered(opened(folder), rule=rule))
    for answer in answers:
        assert answer.keys == len(nlls)
        assert answer.loss == pytest.approx(np.mean(nlls), abs=1e-5)


@pytest.mark.parametrize(
    ("template", "ids"),
    [(None, ()), ("<s> $A", (0,)), ("$A </s>", ()), ("</s> $A", (1,)), ("<s> </s> $A", (0, 1))],
)
def test_what_a_tokenizer_prepends(
    template: str | None, ids: tuple[int, ...], content: dict[str, Any], tmp_path: Path
) -> None:
    """The tokenizer is asked: ``published`` takes that, ``keep`` the BOS; two are refused."""
    tiny("llama", num_hidden_layers=2).save_pretrained(tmp_path / "m")
    tokenizer_with(template).save_pretrained(tmp_path / "m")
    path = str(tmp_path / "m")
    assert open_source(path).prepended == ids
    assert prepare(configured(content, model__path=path, first_token="keep")).first_token.bos == 0
    config = configured(content, model__path=path)
    if len(ids) < 2:
        assert prepare(config).first_token.bos == (ids[0] if ids else None)
        return
    words = r"puts 2 tokens in front of a text, \[0, 1\]; allowed with such a tokenizer: keep, none"
    with pytest.raises(UsageError, match=words):
        prepare(config)


@pytest.mark.slow
def test_another_reading_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    """A folder with a BOS in front that the tokenizer does not add is of another reading."""
    tiny("llama", num_hidden_layers=2).save_pretrained(tmp_path / "m")
    tokenizer_with(None).save_pretrained(tmp_path / "m")
    path = str(tmp_path / "m")
    folder = score(content, tmp_path, model__path=path, data__max_documents=2)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["identity"]["bos"] = 0
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds another run: bos was 0, is None; choose another"):
        score(content, tmp_path, model__path=path)


@pytest.mark.slow
def test_windows_are_whole_documents(content: dict[str, Any], texts: Path, tmp_path: Path) -> None:
    """Each document from its first token on, those without a target left out and counted."""
    folder = score(content, tmp_path, protocol__context=188)  # 190 tokens: 188 and 2 more
    kept = windows(folder)
    assert {name: len(row["token_ids"]) for (name, _), row in kept.items()} == {
        f"{number}.txt": length for number, length in enumerate(LENGTHS)
    }
    for (document, index), row in kept.items():
        assert (index, row["start"]) == (0, 0)
        assert row["text"] == (texts / document).read_text(encoding="utf-8")
    folder = score(content, tmp_path, name="longer", protocol__context=189)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert sorted(record["data"]["left_out"]["too_short"]["ids"]) == ["0.txt", "short.txt"]
    assert len(windows(folder)) == len(LENGTHS) - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "cut"),
    [({}, 299), ({"first_token": "none"}, 300), ({"windows": {"length": 99}}, 99)],
)
def test_documents_are_cut(
    changes: dict[str, Any], cut: int, content: dict[str, Any], tmp_path: Path
) -> None:
    """At the model's positions, which the BOS takes one of, or where the configuration says."""
    tiny("llama", num_hidden_layers=2, max_position_embeddings=300).save_pretrained(tmp_path / "m")
    character_tokenizer(True).save_pretrained(tmp_path / "m")
    folder = score(content, tmp_path, model__path=str(tmp_path / "m"), **changes)
    lengths = {int(name[0]): len(row["token_ids"]) for (name, _), row in windows(folder).items()}
    assert lengths == {number: min(length, cut) for number, length in enumerate(LENGTHS)}


@pytest.mark.slow
def test_a_model_without_positions(content: dict[str, Any], tmp_path: Path) -> None:
    """Nothing cuts a document where the model has no limit; whole forwards give the same rows."""
    tiny("mamba").save_pretrained(tmp_path / "m")
    character_tokenizer(True).save_pretrained(tmp_path / "m")
    settled = changed(content, model__path=str(tmp_path / "m"), data__max_documents=2)
    folder = score(settled, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m").eval()
    found = scores(folder)
    for (document, _), window in windows(folder).items():
        ids = np.array([0, *window["token_ids"]])
        expected = published(model, ids)
        rows = found[(found.document == document) & (found.condition == "truncate")]
        both = np.array([expected[position + 1] for position in rows.position])
        assert np.abs(rows[["nll_intact", "nll"]].to_numpy() - both).max() <= 5e-5


@pytest.mark.slow
def test_noise_goes_the_way_of_the_short_contexts(content: dict[str, Any], tmp_path: Path) -> None:
    """Noise has the rows of truncate, and next to no delta."""
    folder = score(content, tmp_path, conditions=["noise(windows=3)", "truncate"])
    found = scores(folder)
    noise = found[found.condition == "noise(windows=3)"]
    short = found[(found.condition == "truncate") & found.document.isin(noise.document)]
    places = ["document", "position", "boundary", "distance"]
    assert noise[places].to_numpy().tolist() == short[places].to_numpy().tolist()
    assert noise.document.nunique() == 3
    assert (noise.nll - noise.nll_intact).abs().max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3, "auto"])
def test_plan_tells_the_cost(batch: int | str, content: dict[str, Any], tmp_path: Path) -> None:
    """The plan's tokens are those forwarded; the first short context costs none of its own."""
    experiment = prepare(configured(content, batch=batch))
    counted = costs(experiment, planned_batch(experiment.config), set())
    folder = score(content, tmp_path, batch=batch)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert counted.tokens == record["costs"]["tokens"]
    assert counted.windows == len(LENGTHS)
    stops = [length + 1 for length in LENGTHS]
    short = [min(K + STRIDE, n - at) for n in stops for at in range(STRIDE, n - K, STRIDE)]
    assert counted.tokens == sum(stops) + sum(short)
    rows = scores(folder)
    assert sum(counted.targets["truncate"].values()) == (rows.condition == "truncate").sum()


@pytest.mark.slow
def test_going_on(content: dict[str, Any], tmp_path: Path) -> None:
    """A lost part comes back with the same bytes, more documents add theirs, nothing else moves."""
    folder = score(content, tmp_path, data__max_documents=3)
    before = parts(folder)
    (folder / "scores" / max(before)).unlink()
    score(content, tmp_path, data__max_documents=3)
    assert parts(folder) == before
    score(content, tmp_path)
    after = parts(folder)
    assert {name: after[name] for name in before} == before
    assert scores(folder).document.nunique() == len(LENGTHS)
    with pytest.raises(UsageError, match=r"another run: protocol\.stride was \d+, is 16; choose"):
        score(content, tmp_path, protocol__stride=16)


@pytest.mark.slow
def test_curve(content: dict[str, Any], tmp_path: Path, opened: Callable[[Path], OpenRun]) -> None:
    """What any run tells: a curve from K on, or none where all far texts are short."""
    folder = score(content, tmp_path, conditions=["noise", "truncate"], measures=["nll", "kl"])
    told = opened(folder)
    curve = told.curve[(told.curve.condition == "truncate") & ~told.curve.grey]
    assert (curve.distance_from.min(), curve.distance_to.max()) == (K, K + STRIDE)
    assert len(told.documents) == len(LENGTHS)
    short = score(content, tmp_path, name="short", protocol__context=400)
    assert opened(short).contexts == ()
    alone = score(content, tmp_path, name="alone", protocol__stride=1000)  # one short context
    assert opened(alone).targets == sum(LENGTHS)


# -- the configuration --------------------------------------------------------------------------


def mistake(**changes: Any) -> str:
    least = {"name": "a", "model": {"path": "m"}, "data": {"path": "text"}, "protocol": SHORT}
    with pytest.raises(UsageError) as caught:
        check({**least, **changes})
    return str(caught.value).splitlines()[-1].strip()


def test_defaults() -> None:
    """Whole documents, one window each, truncate; the published context and stride."""
    least = {"name": "a", "model": {"path": "m"}, "data": {"path": "text"}}
    config = check({**least, "protocol": {"kind": "longppl"}})
    assert config.windows.model_dump() == {
        **{"length": None, "per_document": 1, "skip": 0},
        "unit": "tokens",
    }
    assert config.conditions == ["truncate"]
    assert config.plan == longppl(None, context=4096, stride=1024)
    assert config.plan.length == 4096 + 2048
    assert Config.model_validate(config.model_dump()) == config
    limited = check({**least, "protocol": {"kind": "longppl"}, "windows": {"length": 8192}})
    assert limited.plan == longppl(8192)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"conditions": ["truncate", "shuffle"]},
            "conditions: allowed with protocol longppl: truncate, and noise with it; "
            "got ['truncate', 'shuffle']",
        ),
        ({"conditions": ["noise"]}, "conditions: allowed with protocol longppl: truncate"),
        ({"conditions": ["intact"]}, "conditions: allowed: one condition or more besides intact"),
        ({"protocol": {**SHORT, "stride": 1}}, "protocol.stride: "),
        ({"protocol": {**SHORT, "context": 0}}, "protocol.context: "),
        ({"protocol": {**SHORT, "reach": 3}}, "protocol.reach: unknown key (value 3)"),
        (
            {"windows": {"length": 65}},
            "protocol.context is 64; allowed: 1 to 63, windows have up to 65 tokens",
        ),
        (
            {"windows": {"per_document": 4, "skip": 9}},
            "windows.per_document is 4, windows.skip 9; allowed with protocol longppl, which "
            "measures whole documents: 1, 0",
        ),
        (
            {"protocol": {"kind": "sweep"}, "windows": {"length": None}, "conditions": ["noise"]},
            "windows.length is null; allowed with this protocol: a whole number",
        ),
    ],
)
def test_mistakes(changes: dict[str, Any], words: str) -> None:
    """What does not fit is one line with the value and what is allowed."""
    assert mistake(**changes).startswith(words)


def test_context_beyond_the_positions(content: dict[str, Any]) -> None:
    """A short context as long as the model's positions leaves no target."""
    with pytest.raises(UsageError, match=r"protocol\.context is 4096; allowed: 1 to 1021"):
        prepare(configured(content, protocol__context=4096))


def test_functions_refuse() -> None:
    """The protocol says what is wrong where no configuration stands before it."""
    with pytest.raises(ValidationError, match=r"stride\n.* greater than or equal to 2"):
        longppl(None, context=64, stride=1)
    with pytest.raises(ValidationError, match=r"context\n.* greater than 0"):
        longppl(9, context=0, stride=4)
    with pytest.raises(UsageError, match=r"protocol\.context is 8; allowed: 1 to 7"):
        longppl(9, context=8, stride=4)


@pytest.mark.slow
def test_a_notebooks_model(content: dict[str, Any], tmp_path: Path) -> None:
    """A run listens and tells like any other."""
    heard = []
    run(configured(content, data__max_documents=2, batch=1), tmp_path, listen=heard.append)
    assert [progress.windows for progress in heard] == [1, 2]
    assert all(progress.far_delta is not None for progress in heard)
