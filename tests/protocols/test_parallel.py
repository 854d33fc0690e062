"""`parallel`: far sources and far prefixes of encoder–decoders, against plain whole forwards."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from models import SEQ2SEQ, tiny_seq2seq
from numpy.typing import NDArray
from tiny_run import (  # noqa: F401 (fixtures)
    ALPHABET,
    changed,
    configured,
    model_folders,
    no_network,
    score,
    scores,
    text_of,
)
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from probe.analysis.open_run import open_run
from probe.attention.apply import check_support
from probe.attention.parse import parse as parse_pattern
from probe.commands.main import group
from probe.config import check
from probe.engine.branch import Branch, Source
from probe.engine.engine import Engine
from probe.engine.selfcheck import check as check_techniques
from probe.engine.walk import Techniques
from probe.errors import ProbeError, UsageError
from probe.findings.contrasts import pairs as pairs_of
from probe.models.seq2seq import Seq2SeqModel
from probe.perturbations.steps import part_of
from probe.runs.experiment import prepare
from probe.runs.plan import costs

EOS = 1
TECHNIQUES = Techniques(packing=False)
"""What the self-check leaves of a decoder that takes no position ids."""
DISTANCES = [0, 2, 5]
DOCUMENTS = 7
CONDITIONS = ["noise", "truncate", "shuffle", "replace(source='document')", "hide"]


def target_of(number: int) -> str:
    return text_of(30 + 3 * number, 100 + number)


def source_of(number: int) -> str:
    return text_of(40 + 5 * number, number)


def tokenizer() -> PreTrainedTokenizerFast:
    """A token a character, </s> behind a text."""
    names = ["<s>", "</s>", "<pad>", *ALPHABET]
    whole = Tokenizer(WordLevel({one: n for n, one in enumerate(names)}, unk_token="<pad>"))
    whole.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    whole.decoder = decoders.Fuse()
    whole.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", EOS)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=whole, eos_token="</s>", pad_token="<pad>")


@pytest.fixture(scope="session", name="folders")
def seq2seq_folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A tiny model of every family."""
    folders = {}
    for family in SEQ2SEQ:
        folders[family] = tmp_path_factory.mktemp("seq2seq") / family
        tiny_seq2seq(family).save_pretrained(folders[family])
        tokenizer().save_pretrained(folders[family])
    return folders


@pytest.fixture(scope="session", name="pairs")
def parallel_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources and targets, and for each word of a target a character of its source."""
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = []
    for number in range(DOCUMENTS):
        source, target = source_of(number), target_of(number)
        words = len(target.split())
        places = [int(place) for place in np.linspace(len(source) - 1, 0, words)]
        places[0] = None  # type: ignore[call-overload]
        rows.append({"text": target, "source": source, "places": places})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(name="content")
def configuration(folders: Mapping[str, Path], pairs: Path) -> dict[str, Any]:
    return {
        "name": "tiny",
        "model": {"path": str(folders["t5"]), "dtype": "float32", "device": "cpu"},
        "data": {"path": str(pairs), "source_column": "source"},
        "protocol": {"kind": "parallel", "distances": DISTANCES, "targets": 4},
        "conditions": CONDITIONS,
        "analysis": {"resamples": 100},
    }


def ids_of(text: str) -> NDArray[np.int64]:
    return np.array(tokenizer()(text, add_special_tokens=False)["input_ids"], dtype=np.int64)


@torch.inference_mode()
def plain_nll(
    model: PreTrainedModel,
    source: NDArray[np.int64],
    before: NDArray[np.int64],
    label: int,
    *,
    seen: NDArray[np.int64] | None = None,
) -> float:
    """The loss of a target: the model's own whole forward, nothing else."""
    start = model.config.decoder_start_token_id
    given = {} if seen is None else {"attention_mask": torch.from_numpy(np.append(seen, 1))[None]}
    logits = model(
        input_ids=torch.from_numpy(np.append(source, EOS))[None],
        decoder_input_ids=torch.from_numpy(np.append([start], before))[None],
        **given,
    ).logits[0, -1]
    return -float(torch.log_softmax(logits.double(), -1)[label])


@torch.inference_mode()
def plain_places(
    family: str, source: NDArray[np.int64], target: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Mean places of the cross attention, from an eager model's own output."""
    model = tiny_seq2seq(family)
    model.set_attn_implementation("eager")
    start = model.config.decoder_start_token_id
    output = model(
        input_ids=torch.from_numpy(np.append(source, EOS))[None],
        decoder_input_ids=torch.from_numpy(np.append([start], target[:-1]))[None],
        output_attentions=True,
    )
    weights = np.mean([layer[0].double().numpy() for layer in output.cross_attentions], axis=(0, 1))
    weights = weights[:, : len(source)]
    return np.rint((weights * np.arange(len(source))).sum(1) / weights.sum(1)).astype(np.int64)


def words_to_tokens(text: str, places: list[int | None]) -> list[int | None]:
    """The place of the word of each character; white space goes with the word behind it."""
    found: list[int | None] = []
    for at in range(len(text)):
        word = len(text[: at + 1].split()) - 1
        if text[at].isspace():
            word += 1
        found.append(places[min(word, len(places) - 1)])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", list(SEQ2SEQ))
def test_every_loss_is_that_of_a_plain_forward(
    content: dict[str, Any], folders: Mapping[str, Path], family: str, tmp_path: Path
) -> None:
    """Intact, cut and hidden sources around the place that cross attention gives; cut prefixes."""
    folder = score(
        content,
        tmp_path,
        model__path=str(folders[family]),
        data__max_documents=2,
        conditions=["noise", "truncate", "hide"],
    )
    model, frame = tiny_seq2seq(family), scores(folder)
    assert set(frame.condition) == {
        *("intact", "noise(of='source')", "noise(of='target')", "hide(of='source')"),
        *("truncate(of='source')", "truncate(of='target')"),
    }
    assert set(frame.distance) == {-1, *DISTANCES}
    texts = {str(n): (ids_of(source_of(n)), ids_of(target_of(n))) for n in range(DOCUMENTS)}
    places = {name: plain_places(family, *text) for name, text in texts.items()}
    for row in frame.itertuples():
        (source, target), at = texts[row.document], int(row.position)
        place, seen, start = places[row.document][at], None, 0
        near = slice(max(0, place - row.distance), place + row.distance + 1)
        if row.condition == "truncate(of='source')":
            source = source[near]
        elif row.condition == "hide(of='source')":
            seen = np.zeros(len(source), dtype=np.int64)
            seen[near] = 1
        elif row.condition == "truncate(of='target')":
            start = at - row.distance
            assert (row.boundary, row.far_start) == (start, start)
        if row.of == "source":
            far = len(texts[row.document][0]) - len(range(len(texts[row.document][0]))[near])
            assert (row.far_start, row.boundary) == (near.start, far)
            assert row.boundary_right in (-1, near.stop)
        expected = plain_nll(model, source, target[start:at], target[at], seen=seen)
        assert row.nll == pytest.approx(expected, abs=2e-4), row
        assert pd.isna(row.of) if row.condition == "intact" else row.of in row.condition


@pytest.mark.slow
def test_a_column_says_where_targets_belong(content: dict[str, Any], tmp_path: Path) -> None:
    """By characters of each word, and a word that belongs nowhere is no target."""
    folder = score(
        content,
        tmp_path,
        data__alignment_column="places",
        protocol__alignment="column",
        protocol__of="source",
        conditions=["truncate"],
    )
    model, frame = tiny_seq2seq("t5"), scores(folder)
    rows = frame[frame.condition != "intact"]
    assert set(rows.of) == {"source"}
    for row in rows.itertuples():
        number, at = int(row.document), int(row.position)
        source, target = ids_of(source_of(number)), ids_of(target_of(number))
        words = target_of(number).split()
        given = [int(place) for place in np.linspace(len(source) - 1, 0, len(words))]
        place = words_to_tokens(target_of(number), [None, *given[1:]])[at]
        assert place is not None
        near = slice(max(0, place - row.distance), place + row.distance + 1)
        expected = plain_nll(model, source[near], target[:at], target[at])
        assert row.nll == pytest.approx(expected, abs=2e-4)


@pytest.mark.slow
def test_token_ids_are_aligned_by_tokens(content: dict[str, Any], tmp_path: Path) -> None:
    """Data of token ids needs no tokenizer's characters."""
    rows = [
        {
            "ids": ids_of(target_of(number)).tolist(),
            "source": ids_of(source_of(number)).tolist(),
            "places": [min(at, 20) for at in range(len(target_of(number)))],
        }
        for number in range(DOCUMENTS)
    ]
    file = tmp_path / "ids.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"path": str(file), "ids_column": "ids", "source_column": "source"}
    data["alignment_column"] = "places"
    folder = score(
        changed(content, conditions=["truncate"], protocol__alignment="column") | {"data": data},
        tmp_path,
    )
    model, frame = tiny_seq2seq("t5"), scores(folder)
    for row in frame[frame.of == "source"].itertuples():
        number, at = int(row.document), int(row.position)
        source, target, place = ids_of(source_of(number)), ids_of(target_of(number)), min(at, 20)
        near = slice(max(0, place - row.distance), place + row.distance + 1)
        expected = plain_nll(model, source[near], target[:at], target[at])
        assert row.nll == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("condition", ["shuffle", "replace(source='document')", "replace(5)"])
def test_near_source_and_targets_stay(
    content: dict[str, Any], condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Perturbed far text of a source keeps its length; near text and the decoder's are intact."""
    config = configured(content, conditions=[condition])
    experiment = prepare(config)
    for window in experiment.windows:
        document = experiment.documents[window.document]
        assert document.source is not None
        for one in experiment.branches(window, experiment.draws_of(window)):
            source = one.branch.source
            assert source is not None
            # No later target: a branch ends with its own, or is the intact text.
            if one.condition != "intact":
                assert len(one.branch.ids) == one.branch.stop
            if one.of != "source":
                assert np.array_equal(source.ids[:-1], document.source.ids)
                continue
            changed_at = np.flatnonzero(source.ids[:-1] != document.source.ids)
            near = slice(one.far_start, one.far_start + 2 * one.distance + 1)
            stop = one.boundary_right if one.boundary_right != -1 else len(document.source.ids)
            assert len(source.ids) == len(document.source.ids) + 1
            assert not any(one.far_start <= at < stop for at in changed_at), near
            assert np.array_equal(
                one.branch.ids[1:], document.ids[: one.position + 1].astype(np.int64)
            )


@pytest.mark.slow
@pytest.mark.parametrize("family", list(SEQ2SEQ))
def test_no_branch_sees_later_targets(
    content: dict[str, Any], folders: Mapping[str, Path], family: str
) -> None:
    """Other tokens behind a target leave its loss, under every condition, as it was."""
    experiment = prepare(configured(content, model__path=str(folders[family])))
    window = experiment.windows[0]
    scored = experiment.branches(window, experiment.draws_of(window))
    engine = Engine(Seq2SeqModel(tiny_seq2seq(family)), TECHNIQUES)
    (before,) = engine.score([[one.branch for one in scored]])
    longer = []
    for one in scored:
        tail = np.full(3, 7)
        ids = np.concatenate([one.branch.ids[: one.branch.stop], tail])
        longer.append(replace(one.branch, ids=ids, keys=ids))
    (after,) = engine.whole().score([longer])
    for one, other in zip(before, after, strict=True):
        assert np.allclose(one.nll, other.nll, atol=2e-4)


@pytest.mark.parametrize("family", list(SEQ2SEQ))
def test_techniques_prove_themselves_on_a_decoder_with_its_source(family: str) -> None:
    """All but packing, which needs position ids that these decoders do not take."""
    model = Seq2SeqModel(tiny_seq2seq(family))
    rng = np.random.default_rng(0)
    with model.reading(torch.from_numpy(rng.integers(3, 96, size=(1, 40)))):
        report = check_techniques(model, rng.integers(3, 96, size=97))
    failed = {outcome.technique for outcome in report.outcomes if not outcome.passed}
    assert failed == {"packing"}


@pytest.mark.parametrize("family", list(SEQ2SEQ))
def test_branches_of_one_source_share_and_others_do_not(family: str) -> None:
    """Equal tokens behind two sources: each loss is its own source's; a source is encoded once."""
    model, rng = tiny_seq2seq(family), np.random.default_rng(3)
    ids = rng.integers(3, 96, size=120)
    texts = [np.append(rng.integers(3, 96, size=30), EOS) for _ in range(2)]
    sources = [*(Source(text) for text in texts), Source(texts[0].copy())]
    branches = [
        Branch(ids[:size], ids[:size], size - 20, size, size - 20, source=source)
        for size in (70, 110, 120)
        for source in sources
    ]
    calls: list[int] = []
    scorer = Seq2SeqModel(model)
    handle = scorer.encoder.register_forward_hook(lambda *_: calls.append(1))
    engine = Engine(scorer, TECHNIQUES)
    (losses,) = engine.score([branches])
    handle.remove()
    assert len(calls) == 2
    assert engine.costs.tokens == 2 * (31 + 120)
    for branch, found in zip(branches, losses, strict=True):
        assert branch.source is not None
        with torch.inference_mode():
            logits = model(
                input_ids=torch.from_numpy(branch.source.ids)[None],
                decoder_input_ids=torch.from_numpy(branch.ids)[None],
            ).logits[0]
        rows = torch.log_softmax(logits.double(), -1)[branch.first - 1 : branch.stop - 1]
        expected = -rows.gather(1, torch.from_numpy(branch.labels)[:, None])[:, 0]
        assert np.allclose(found.nll, expected, atol=2e-4)


def test_a_target_waits_for_no_later_source() -> None:
    """Compared with an intact branch of a source that comes later, it is refused, not made up."""
    scorer, rng = Seq2SeqModel(tiny_seq2seq("t5")), np.random.default_rng(4)
    ids, sources = (
        rng.integers(3, 96, size=6),
        [Source(rng.integers(3, 96, size=n)) for n in (5, 6)],
    )
    first, second = (Branch(ids, ids, at, at + 1, at, source=sources[0]) for at in (3, 4))
    intact = replace(second, source=sources[1])
    engine = Engine(scorer, TECHNIQUES, ("nll", "kl"))
    engine.score([[first, intact, second]], reference=None)
    with pytest.raises(RuntimeError, match="stands before the intact one"):
        engine.score([[first, intact, second]], reference=[0, 1])


def test_windows_of_equal_lengths_are_walked_together() -> None:
    """Two windows, each with a source of its own, in one forward."""
    scorer, rng = Seq2SeqModel(tiny_seq2seq("bart")), np.random.default_rng(5)
    windows = []
    for _ in range(2):
        ids, source = rng.integers(3, 96, size=60), Source(rng.integers(3, 96, size=25))
        windows.append(
            [Branch(ids[:n], ids[:n], n - 5, n, n - 5, source=source) for n in (40, 50, 60)]
        )
    engine = Engine(scorer, TECHNIQUES)
    together = engine.score(windows)
    assert engine.costs.tokens == 2 * (25 + 60)
    for window, losses in zip(windows, together, strict=True):
        (alone,) = engine.whole().score([window])
        for one, other in zip(losses, alone, strict=True):
            assert np.allclose(one.nll, other.nll, atol=2e-4)


@pytest.mark.slow
def test_a_plan_counts_what_is_forwarded(content: dict[str, Any], tmp_path: Path) -> None:
    """Tokens of encoder and decoder, where the data says the places."""
    changes = {"data__alignment_column": "places", "protocol__alignment": "column"}
    experiment = prepare(configured(content, **changes))
    planned = costs(experiment, 1, set())
    folder = score(content, tmp_path, **changes)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["costs"]["tokens"] == planned.tokens < planned.plain_tokens


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped(content: dict[str, Any], tmp_path: Path) -> None:
    """A condition more is scored alone, at the same places; the page tells both curves apart."""
    few = {"data__max_documents": 2}
    first = score(content, tmp_path / "a", conditions=["truncate"], **few)
    more = ["truncate", "shuffle(of='source')"]
    score(content, tmp_path / "a", conditions=more, **few)
    whole = score(content, tmp_path / "b", conditions=more, **few)
    one, other = (scores(run).astype({"of": object}) for run in (first, whole))
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.slow
def test_a_target_is_dropped_from_a_far_source(content: dict[str, Any], tmp_path: Path) -> None:
    """Copies of it that the source holds, where model and tokenizer have one vocabulary."""
    data = {**content["data"], "alignment_column": "places", "max_documents": 2}
    given = {"protocol__alignment": "column", "protocol__distances": [2]}
    given |= {"protocol__of": "source", "conditions": ["drop_target"]}
    folder = score({**content, "data": data}, tmp_path, **given)
    model, frame = tiny_seq2seq("t5"), scores(folder)
    rows = frame[frame.condition == "drop_target(of='source')"]
    assert len(rows) == 8
    for row in rows.itertuples():
        source, target = (ids_of(of(int(row.document))) for of in (source_of, target_of))
        at, places = int(row.position), np.arange(len(source))
        stop = len(source) if row.boundary_right == -1 else row.boundary_right
        near = (places >= row.far_start) & (places < stop)
        kept = source[near | (source != target[at])]
        assert row.nll == pytest.approx(plain_nll(model, kept, target[:at], target[at]), abs=2e-4)
    assert (rows.nll != rows.nll_intact).any()


@torch.inference_mode()
def attended_nll(
    model: PreTrainedModel,
    source: NDArray[np.int64],
    before: NDArray[np.int64],
    label: int,
    near: NDArray[np.bool_],
) -> float:
    """The loss of a target whose decoder sees *near* of the source, a row a token that it reads.

    A whole forward of the model's own in which every cross attention has that mask.
    """
    model.set_attn_implementation("eager")  # which adds the mask that it is given
    added = torch.zeros(near.shape).masked_fill(torch.from_numpy(~near), -1e9)[None, None]

    def masked(_module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = "mask" if "mask" in kwargs else "attention_mask"
        return args, kwargs | {name: added}

    cross = [
        module
        for name, module in model.named_modules()
        if name.endswith(("encoder_attn", "EncDecAttention"))
    ]
    hooks = [module.register_forward_pre_hook(masked, with_kwargs=True) for module in cross]
    try:
        return plain_nll(model, source, before, label)
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.slow
@pytest.mark.parametrize("family", list(SEQ2SEQ))
def test_cross_attention_around_the_aligned_place(
    content: dict[str, Any], folders: Mapping[str, Path], family: str, tmp_path: Path
) -> None:
    """Every loss is that of a plain forward under a mask filled in by a double loop."""
    width = 4
    folder = score(
        content,
        tmp_path,
        model__path=str(folders[family]),
        data__max_documents=2,
        conditions=["truncate", f"attend(cross(local({width}, sinks=0)))", "attend(cross(zero))"],
    )
    model, frame = tiny_seq2seq(family), scores(folder)
    texts = {str(n): (ids_of(source_of(n)), ids_of(target_of(n))) for n in range(DOCUMENTS)}
    places = {name: plain_places(family, *text) for name, text in texts.items()}
    rows = frame[frame.condition.str.startswith("attend(cross(local")]
    assert len(rows) == 8
    assert set(rows.boundary) == {-1}
    for row in rows.itertuples():
        (source, target), at = texts[row.document], int(row.position)
        near = np.zeros((at + 1, len(source) + 1), dtype=bool)
        for query in range(at + 1):  # which predicts the token of that number
            for key in range(len(source) + 1):
                near[query, key] = abs(key - places[row.document][query]) < width
        expected = attended_nll(model, source, target[:at], target[at], near)
        assert row.nll == pytest.approx(expected, abs=2e-4), row
    assert np.abs(rows.nll - rows.nll_intact).max() > 0.05
    blind = frame[frame.condition == "attend(cross(zero))"]
    assert not np.allclose(blind.nll, blind.nll_intact, atol=0.01)


def test_an_encoder_pattern_is_on_the_encoder(
    content: dict[str, Any], folders: Mapping[str, Path], tmp_path: Path
) -> None:
    """A source is encoded once for all targets of a pattern, and as its mask says."""
    folder = score(
        content,
        tmp_path,
        model__path=str(folders["bart"]),
        data__max_documents=1,
        conditions=["attend(encoder(local(3, sinks=0)))", "attend(decoder(local(4, sinks=0)))"],
    )
    frame = scores(folder).sort_values("position")
    model = tiny_seq2seq("bart")
    document = frame.document.iloc[0]
    source, target = ids_of(source_of(int(document))), ids_of(target_of(int(document)))

    def band(size: int, width: int, *, causal: bool) -> torch.Tensor:
        mask = torch.full((size, size), -1e9)
        for query in range(size):
            for key in range(size):
                if abs(query - key) < width and not (causal and key > query):
                    mask[query, key] = 0
        return mask[None, None]

    model.set_attn_implementation("eager")
    start = model.config.decoder_start_token_id
    encoder, decoder = band(len(source) + 1, 3, causal=False), band(len(target), 4, causal=True)
    for name, given in (
        ("attend(encoder(local(w=3, sinks=0)))", {"attention_mask": encoder}),
        ("attend(decoder(local(w=4, sinks=0)))", {"decoder_attention_mask": decoder}),
    ):
        with torch.inference_mode():
            read = torch.from_numpy(np.append(source, EOS))[None]
            states = model.get_encoder()(read, attention_mask=given.get("attention_mask"))
            output = model(
                encoder_outputs=states,
                decoder_input_ids=torch.from_numpy(np.append([start], target[:-1]))[None],
                decoder_attention_mask=given.get("decoder_attention_mask"),
            ).logits[0]
        losses = -torch.log_softmax(output.double(), -1).numpy()[np.arange(len(target)), target]
        rows = frame[frame.condition == name]
        assert len(rows) == 4
        assert np.allclose(rows.nll, losses[rows.position], atol=2e-4)
        assert not np.allclose(rows.nll, rows.nll_intact, atol=0.01)


def test_a_source_is_encoded_once_for_a_pattern(content: dict[str, Any]) -> None:
    """Of all patterns that leave the encoder alone none encodes it again."""
    patterns = ["attend(cross(zero))", "attend(decoder(local(3)))", "attend(cross(local(3)))"]
    changed_ones = ["attend(encoder(local(3)))", "attend(encoder(zero) + cross(uniform))"]
    experiment = prepare(configured(content, conditions=[*patterns, *changed_ones]))
    window = experiment.windows[0]
    scored = experiment.branches(window, experiment.draws_of(window))
    scorer = Seq2SeqModel(tiny_seq2seq("t5"))
    engine = Engine(scorer, TECHNIQUES)
    engine._support = check_support(scorer.model, parse_pattern("cross(zero)"))
    calls: list[int] = []
    handle = scorer.encoder.register_forward_hook(lambda *_: calls.append(1))
    engine.score([[one.branch for one in scored]])
    handle.remove()
    assert len(calls) == 1 + len(changed_ones)


@pytest.mark.slow
def test_heads_of_three_attentions_on_one_scale(content: dict[str, Any], tmp_path: Path) -> None:
    """``heads.csv`` ranks them together, each in its place; a plan counts them as the run does."""
    conditions = [
        f"attend({name}(heads(zero, layers=each(2), heads=each(4))))"
        for name in ("encoder", "decoder", "cross")
    ]
    more = ["attend(cross(gaussian(offset=0)))", "attend(cross(local(w=200)))"]
    experiment = prepare(configured(content, conditions=[*conditions, *more]))
    planned = costs(experiment, 1, set())
    folder = score(content, tmp_path, conditions=[*conditions, *more])
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["costs"]["tokens"] == planned.tokens
    told = record["attention"]
    assert told["attend(cross(local(w=200, sinks=1)))"]["first"] is None
    assert told["attend(heads(cross(zero), layers=[0], heads=[0]))"]["first"] == 0
    share = told["attend(cross(gaussian(offset=0)))"]
    assert 0 < share["kv_share"] < 1
    assert 0 < share["flops_share"] < 1
    with open_run(folder) as run:
        report = CliRunner().invoke(group, ["report", str(folder)])
        assert report.exit_code == 0, report.output
        heads = pd.read_csv(folder / "heads.csv")
        assert run.patterns
    assert len(heads) == 24
    assert set(heads.attention) == {"encoder", "decoder", "cross"}
    assert list(heads.delta) == sorted(heads.delta, reverse=True)
    assert "attention  layer  head" in report.output
    assert "the three attentions added up" in report.output


MISTAKES: list[tuple[dict[str, Any], str]] = [
    (
        {"data": {"path": "x.jsonl"}},
        "data.source_column: is missing; needed with protocol parallel",
    ),
    (
        {"data__source_column": "missing"},
        "data.source_column: 'missing' is not in 'json'; allowed: text, source, places",
    ),
    ({"protocol__alignment": "column"}, "data.alignment_column is missing"),
    ({"protocol": {"kind": "grid", "distances": [1]}}, "data.source_column: allowed without"),
    ({"conditions": ["truncate(of='left')"]}, "of is 'left'; allowed, once: 'source', 'target'"),
    ({"first_token": "none"}, "a decoder begins with its start token; allowed: keep"),
    ({"protocol__distances": [40]}, "no document"),
    ({"windows": {"length": None, "per_document": 2}}, "which measures whole documents: 1, 0"),
    ({"conditions": ["hide(of='target')"]}, "takes no notice of position ids"),
    ({"model__family": "causal"}, "measures seq2seq language models"),
    ({"conditions": ["attend(local(4))"]}, "encoder(...), decoder(...) or cross(...) around"),
    ({"conditions": ["attend(heads(cross(zero), layers=[7]))"]}, "layers holds 7; allowed: 0 to 1"),
]


@pytest.mark.parametrize(("changes", "line"), MISTAKES)
def test_a_mistake_is_one_line(
    content: dict[str, Any], changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    """What, the value, what is allowed."""
    if "data" in changes:
        content = {**content, "data": changes["data"]}
        changes = {}
    if "protocol" in changes:
        content = {**content, "protocol": changes["protocol"], "windows": {"length": 32}}
        changes = {}
    with pytest.raises((UsageError, ProbeError)) as error:
        score(content, tmp_path, **changes)
    assert line in str(error.value)


def test_models_and_protocols_of_other_families_are_refused(
    content: dict[str, Any], models: Mapping[bool, Path], pairs: Path, tmp_path: Path
) -> None:
    """A causal model under parallel, and an encoder–decoder under sweep."""
    with pytest.raises(UsageError, match=r"parallel measures seq2seq .* is a causal one"):
        score(content, tmp_path, model__path=str(models[True]))
    sweep = {"kind": "sweep", "reach": 8, "runs": {1: 1}}
    other = {**content, "protocol": sweep, "windows": {"length": 16}, "data": {"path": str(pairs)}}
    with pytest.raises(UsageError, match=r"sweep measures causal .* is a seq2seq one"):
        score({**other, "conditions": ["truncate"]}, tmp_path)
    with pytest.raises(UsageError, match="of= is allowed with protocol parallel"):
        check({**other, "conditions": ["truncate(of='source')"]})


def test_a_source_longer_than_the_encoder_is_refused(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """With the document's name and both numbers."""
    folder = tmp_path / "short"
    tiny_seq2seq("bart", max_position_embeddings=64).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    line = r"its source has \d\d tokens and 1 special ones; the encoder has 64 positions"
    with pytest.raises(UsageError, match=line):
        score(content, tmp_path, model__path=str(folder))


def test_an_alignment_must_fit_the_words(content: dict[str, Any], tmp_path: Path) -> None:
    """One line names the column, the document and the number of words."""
    with pytest.raises(UsageError, match=r"data.alignment_column: 'source' of document .* words"):
        score(content, tmp_path, data__alignment_column="source", protocol__alignment="column")


@pytest.mark.slow
def test_a_distance_in_a_source_may_be_longer_than_a_target(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """A short target of a long source, as of a summary: its rows are read, and no mad ones."""
    rows = [{"text": text_of(6, n), "source": text_of(90, 50 + n)} for n in range(3)]
    file = tmp_path / "short.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"path": str(file), "source_column": "source"}
    protocol = {"kind": "parallel", "distances": [1, 20], "of": "source", "targets": 3}
    folder = score(
        {**content, "data": data, "protocol": protocol, "conditions": ["truncate"]}, tmp_path
    )
    with open_run(folder) as run:
        assert not any("left out" in line for line in run.warnings)
        assert run.folder.reading.farthest == 20
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["config"]["protocol"]["distances"] = [1, "x", 10**12, -1]
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ProbeError, match="a distance of 20 tokens; allowed: up to"):
        open_run(folder).__enter__()


@pytest.mark.slow
def test_both_curves_stand_on_one_page(content: dict[str, Any], tmp_path: Path) -> None:
    """Answers and contrasts by the text that is changed; the caveat says what places rest on."""
    folder = score(
        content,
        tmp_path,
        conditions=["truncate", "replace(source='document')"],
        protocol__targets=2,
    )
    printed = CliRunner().invoke(group, ["report", str(folder)])
    assert printed.exit_code == 0, printed.output
    with open_run(folder) as run:
        conditions = {context.condition for context in run.contexts}
        assert run.main_condition == "truncate(of='source')"
        pairs, _ = pairs_of(run.conditions)
    assert {part_of(condition) for condition in conditions} == {"source", "target"}
    assert all(part_of(one) == part_of(other) for one, other in pairs if other != "intact")
    assert len(pairs) == 4
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "truncate(of=&#x27;source&#x27;)" in page or "truncate(of='source')" in page
    assert "estimated: the mean place of the model's cross attention" in printed.output
