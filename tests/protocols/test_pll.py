"""`pll`: losses of masked targets, against a plain loop with one mask at a time."""

import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from models import MASKED, SMALL, VOCABULARY, tiny_masked
from numpy.typing import NDArray
from planted import SURE
from tiny_run import (  # noqa: F401 (fixtures)
    ALPHABET,
    base_configuration,
    changed,
    configured,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
    windows,
)
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import WordLevel, WordPiece
from torch import nn
from transformers import BertConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput

import probe
from probe.analysis.open_run import open_run
from probe.commands.main import group
from probe.errors import UsageError
from probe.findings.compare.pair import connect_pair, create_rows, pairing
from probe.findings.documents import delta_by_position
from probe.models.masked import MaskedModel
from probe.runs.run import run

CLS, SEP, PAD, MASK = range(4)
DISTANCES = [0, 3, 12]


def masked_tokenizer() -> PreTrainedTokenizerFast:
    """A token a character between [CLS] and [SEP]; words are what white space parts."""
    names = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", *ALPHABET]
    tokenizer = Tokenizer(WordLevel({one: n for n, one in enumerate(names)}, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    )


def save(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    masked_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", name="masked")
def masked_folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A tiny model of every family."""
    return {
        family: save(tiny_masked(family), tmp_path_factory.mktemp("masked") / family)
        for family in MASKED
    }


@pytest.fixture(name="content")
def masked_configuration(base: dict[str, Any], masked: Mapping[str, Path]) -> dict[str, Any]:
    protocol = {"kind": "pll", "distances": DISTANCES, "targets": 4, "masking": "original"}
    conditions = ["noise", "truncate", "shuffle", "hide"]
    model = {"path": str(masked["bert"]), "dtype": "float32", "device": "cpu"}
    return changed(base, model=model, protocol=protocol, conditions=conditions)


@torch.inference_mode()
def plain_nll(
    model: PreTrainedModel,
    ids: NDArray[np.int64],
    at: int,
    label: int,
    *,
    positions: NDArray[np.int64] | None = None,
) -> float:
    """The loss of one target: its mask forwarded between [CLS] and [SEP], nothing else."""
    given: dict[str, Any] = {}
    whole = np.concatenate([[CLS], ids, [SEP]])
    whole[at + 1] = MASK
    if positions is not None:
        given["position_ids"] = torch.from_numpy(np.concatenate([[0], positions]))[None]
        given["attention_mask"] = torch.ones(1, len(whole), dtype=torch.long)
    logits = model(input_ids=torch.from_numpy(whole)[None], **given).logits[0, at + 1]
    return -float(torch.log_softmax(logits.double(), -1)[label])


def intact_part(at: int, row: Any, size: int, side: str) -> slice:
    """What stays of a window around the target at an index of it."""
    if row.condition == "intact":
        return slice(0, size)
    left, right = max(0, at - row.distance), at + row.distance + 1
    return slice(left if side != "right" else 0, right if side != "left" else size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "side"), [("bert", "left"), ("bert", "right"), *((one, "both") for one in MASKED)]
)
def test_truncation_is_a_plain_forward_of_the_cut_text(
    content: dict[str, Any], masked: Mapping[str, Path], family: str, side: str, tmp_path: Path
) -> None:
    """Every loss, intact and cut on either side, of every family."""
    folder = score(
        content,
        tmp_path,
        model__path=str(masked[family]),
        protocol__side=side,
        conditions=["truncate"],
    )
    model = tiny_masked(family)
    frame, texts = scores(folder), windows(folder)
    assert set(frame.condition) == {"intact", "truncate"}
    assert set(frame.distance) == {-1, *DISTANCES}
    for row in frame.itertuples():
        text = texts[row.document, row.window]
        ids, at = np.array(text["token_ids"]), int(row.position) - text["start"]
        part = intact_part(at, row, len(ids), side)
        expected = plain_nll(model, ids[part], at - part.start, ids[at])
        assert row.nll == pytest.approx(expected, abs=2e-4)


def of_condition(folder: Path, condition: str) -> Iterator[tuple[NDArray[np.int64], int, Any]]:
    """Token ids of a row's window, the index of its target among them, and the row."""
    texts = windows(folder)
    for row in scores(folder).query("condition == @condition").itertuples():
        text = texts[row.document, row.window]
        yield np.array(text["token_ids"]), row.position - text["start"], row


@pytest.mark.slow
def test_hidden_text_leaves_a_gap_in_the_positions(content: dict[str, Any], tmp_path: Path) -> None:
    """What is left keeps its place, the special token behind it too."""
    folder, model = score(content, tmp_path, conditions=["hide"]), tiny_masked("bert")
    for ids, at, row in of_condition(folder, "hide"):
        places = np.arange(len(ids))[at - row.distance : at + row.distance + 1]
        positions = np.append(places + 1, len(ids) + 1)
        expected = plain_nll(model, ids[places], row.distance, ids[at], positions=positions)
        assert row.nll == pytest.approx(expected, abs=2e-4)
        assert row.boundary_right - row.position - 1 == row.position - row.boundary == row.distance


@pytest.mark.slow
def test_rounding_alone_is_noise(content: dict[str, Any], tmp_path: Path) -> None:
    """The intact text down the path of conditions gives the intact losses."""
    frame = scores(score(content, tmp_path))
    noise = frame.query("condition == 'noise'")
    assert len(noise) == len(DISTANCES) * len(frame.query("condition == 'intact'"))
    np.testing.assert_allclose(noise.nll, noise.nll_intact, atol=1e-5)
    shuffled = frame.query("condition == 'shuffle' and distance == 3")
    assert (shuffled.nll - shuffled.nll_intact).abs().max() > 0.01


BLOCK, WIDTH = 16, 5
PATTERNS: dict[str, Callable[[int, int], bool]] = {
    f"attend(blocks({BLOCK}))": lambda query, key: query // BLOCK == key // BLOCK or key == 0,
    f"attend(local({WIDTH}, sinks=0))": lambda query, key: abs(query - key) < WIDTH,
}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "albert"])
@pytest.mark.parametrize("condition", PATTERNS)
def test_patterns_equal_a_mask_of_ones_own(
    content: dict[str, Any], masked: Mapping[str, Path], condition: str, family: str, tmp_path: Path
) -> None:
    """A pattern is what eager attention gives under a mask that a double loop fills."""
    change = {"model__path": str(masked[family]), "conditions": [condition]}
    folder, model = score(content, tmp_path, **change), tiny_masked(family)
    model.set_attn_implementation("eager")
    (name,) = {one for one in scores(folder).condition if one != "intact"}
    for ids, at, row in of_condition(folder, name):
        whole = np.concatenate([[CLS], ids, [SEP]])
        whole[at + 1] = MASK
        mask = torch.full((1, 1, len(whole), len(whole)), torch.finfo(torch.float32).min)
        for query, key in np.ndindex(len(whole), len(whole)):
            if PATTERNS[condition](query, key):
                mask[0, 0, query, key] = 0
        with torch.inference_mode():
            logits = model(torch.from_numpy(whole)[None], attention_mask=mask).logits[0, at + 1]
        expected = -float(torch.log_softmax(logits, -1)[ids[at]])
        assert row.nll == pytest.approx(expected, abs=2e-4)
        assert (row.boundary, row.boundary_right, row.distance) == (-1, -1, -1)


@pytest.mark.slow
def test_costs_are_two_sided(content: dict[str, Any], tmp_path: Path) -> None:
    """A window of w keys has w − 1 on each side; an encoder holds what one query sees."""
    folder = score(content, tmp_path, conditions=[f"attend(local({WIDTH}, sinks=0))"])
    ((name, costs),) = json.loads((folder / "run.json").read_text())["attention"].items()
    assert name == f"attend(local(w={WIDTH}, sinks=0))" or "local" in name
    assert costs["keys"] == 2 * WIDTH - 1
    assert costs["full"] == 64 + 2
    assert costs["kv_share"] == pytest.approx((2 * WIDTH - 1) / 66)
    assert costs["first"] == 0
    printed = CliRunner().invoke(group, ["report", str(folder)], catch_exceptions=False).output
    printed = re.sub(r"\s+", " ", printed + (folder / "report.html").read_text("utf-8"))
    assert "share of the keys and values kept" in printed
    assert "cache" not in printed.replace("default-src", "")


@pytest.mark.slow
def test_later_pieces_of_a_word_are_masked_too(content: dict[str, Any], tmp_path: Path) -> None:
    """With ``within_word_l2r`` the rest of the target's word is hidden, the part before it not."""
    model, pieces = tiny_masked("bert"), ["[CLS]", "[SEP]", "[PAD]", "[MASK]", *ALPHABET]
    tokenizer = Tokenizer(
        WordPiece(
            {one: n for n, one in enumerate([*pieces, *(f"##{letter}" for letter in ALPHABET)])},
            unk_token="[PAD]",
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = masked_tokenizer().backend_tokenizer.post_processor
    model.save_pretrained(tmp_path / "pieces")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]"
    ).save_pretrained(tmp_path / "pieces")
    content = changed(content, model__path=str(tmp_path / "pieces"), protocol__masking=None)
    del content["protocol"]["masking"]
    folder = score(content, tmp_path, conditions=["truncate"])
    begins, several = len(pieces), 0
    for ids, at, row in of_condition(folder, "intact"):
        stop = at + 1
        while stop < len(ids) and ids[stop] >= begins:  # a piece that goes on with a word
            stop += 1
        several += stop > at + 1
        hidden = ids.copy()
        hidden[at:stop] = MASK
        expected = plain_nll(model, hidden, at, ids[at])
        assert row.nll == pytest.approx(expected, abs=2e-4)
    assert several > 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "passed"), [("rule", True), ("bert", False)], ids=["equal", "not equal"]
)
def test_several_targets_are_masked_at_once_where_that_is_equal(
    content: dict[str, Any], model: str, passed: bool, tmp_path: Path
) -> None:
    """It is tried on the model at hand, told in run.json, and left where losses differ."""
    change = {"windows__per_document": 5, "protocol__targets": 16, "protocol__distances": [3]}
    content = changed(content, **change, protocol__targets_per_forward=8)
    content |= {"conditions": ["truncate"]}
    scorer = MaskedModel(masked_rule(-1) if model == "rule" else tiny_masked("bert"))
    alone, several = (
        run(configured(content, name=f"k{k}", protocol__targets_per_forward=k), tmp_path, model=own)
        for k, own in ((1, scorer if model == "bert" else None), (8, scorer))
    )
    record = json.loads((several / "run.json").read_text())
    (proof,) = [one for one in record["check"] if one["technique"] == "targets_per_forward"]
    assert proof["passed"] is passed
    assert proof["targets"] >= 256
    if not passed:
        np.testing.assert_array_equal(scores(alone).nll, scores(several).nll)
        return
    assert (
        record["costs"]["forwards"]
        < json.loads((alone / "run.json").read_text())["costs"]["forwards"]
    )


class Copied(nn.Module):
    """Expects the token that stands *offset* places from a target, before it or behind it."""

    def __init__(self, offset: int) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, input_ids: torch.Tensor) -> BaseModelOutput:
        known = nn.functional.one_hot(input_ids, VOCABULARY) * SURE
        before, behind = max(0, -self.offset), max(0, self.offset)
        padded = nn.functional.pad(known, (0, 0, before, behind))
        logits = padded[:, behind : behind + input_ids.shape[1]]
        return BaseModelOutput(last_hidden_state=logits)


class PlantedMasked(PreTrainedModel):
    """A masked model whose body is a rule and whose head changes nothing."""

    config_class = BertConfig

    def __init__(self, config: BertConfig, offset: int) -> None:
        super().__init__(config)
        self.body, self.head = Copied(offset), nn.Linear(1, 1)

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, input_ids: torch.Tensor) -> MaskedLMOutput:
        return MaskedLMOutput(logits=self.body(input_ids).last_hidden_state)


def masked_rule(offset: int) -> PreTrainedModel:
    """A model that copies what stands *offset* places from the mask."""
    return PlantedMasked(BertConfig(**SMALL), offset).eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("offset", "side"), [(-12, "both"), (-12, "left"), (5, "both"), (5, "right")]
)
def test_planted_distances_are_found(
    content: dict[str, Any], offset: int, side: str, tmp_path: Path
) -> None:
    """A model that copies from 12 to the left reads 12 tokens, one from 5 to the right 5."""
    rng, letters = np.random.default_rng(0), list("abcdefhmnorstw")
    for number in range(8):  # nothing but the copy repeats a letter within a dozen
        written = "".join(rng.permutation(letters)[: abs(offset)]) * 60
        (tmp_path / f"{number}.txt").write_text(written[:300], encoding="utf-8")
    protocol = {"kind": "pll", "side": side, "distances": [*range(24)], "targets": 4}
    content |= {"protocol": {**protocol, "masking": "original"}, "conditions": ["truncate"]}
    config = configured(
        content, data__data_files=f"{tmp_path}/*.txt", windows__length=112, windows__per_document=2
    )
    folder = run(config, tmp_path, model=MaskedModel(masked_rule(offset)))
    result = CliRunner().invoke(group, ["report", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0
    answers = json.loads((folder / "summary.json").read_text())["effective_context"]
    (found,) = [
        one for one in answers if one["condition"] == "truncate" and one["tolerance"] == "1%"
    ]
    assert (found["lower"], found["estimate"], found["upper"]) == (abs(offset),) * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": {"kind": "sweep"}}, "protocol sweep measures causal language models"),
        ({"protocol__distances": [40]}, "protocol.distances is [40]; allowed: one or more from 0"),
        ({"protocol__targets": 900}, "protocol.targets is 900; allowed: 1 to"),
        ({"protocol__side": "up"}, "'both', 'left' or 'right'; got 'up'"),
        ({"windows__length": 600}, "the model has 512 positions; allowed: up to 510"),
    ],
)
def test_what_does_not_fit_is_one_line(
    content: dict[str, Any], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Protocols of another family, distances, targets and windows that do not fit."""
    with pytest.raises(UsageError, match=re.escape(message)):
        score(content, tmp_path, **changes)


def test_several_tokens_in_front_are_refused(
    content: dict[str, Any], masked: Mapping[str, Path], tmp_path: Path
) -> None:
    """The line names the first_token that was asked for, and one that is allowed then."""
    folder = tmp_path / "several"
    shutil.copytree(masked["bert"], folder)
    tokenizer = masked_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] [PAD] $A [SEP]",
        special_tokens=[("[CLS]", CLS), ("[PAD]", PAD), ("[SEP]", SEP)],
    )
    tokenizer.save_pretrained(folder)
    line = r"first_token is 'keep': the tokenizer puts 2 tokens .*: none$"
    with pytest.raises(UsageError, match=line):
        score(content, tmp_path, model__path=str(folder))
    few = {"conditions": ["truncate"], "data__max_documents": 1}
    score(content, tmp_path, model__path=str(folder), first_token="none", **few)


def test_a_causal_model_has_no_sides(base: dict[str, Any], tmp_path: Path) -> None:
    """Neither the protocol nor its key goes with a causal model."""
    with pytest.raises(UsageError, match=r"model.path .* is a causal one; allowed"):
        score(base, tmp_path, protocol={"kind": "pll"})
    with pytest.raises(UsageError, match=r"protocol.side: unknown key"):
        score(base, tmp_path, protocol__side="left")


@pytest.mark.slow
def test_from_python_with_a_loaded_model(content: dict[str, Any], tmp_path: Path) -> None:
    """``probe.run`` takes a model of the family that the protocol measures."""
    content |= {"conditions": ["truncate"]}
    opened = probe.run(content, results=tmp_path / "a", model=tiny_masked("bert"), progress=False)
    assert sorted(opened.scores.nll) == sorted(scores(score(content, tmp_path / "b")).nll)


def test_words_need_text(content: dict[str, Any], tmp_path: Path) -> None:
    """Tokenised data has no words to mask."""
    rows = [{"ids": np.random.default_rng(n).integers(4, 20, size=90).tolist()} for n in range(3)]
    file = tmp_path / "ids.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    content |= {"data": {"path": "json", "data_files": str(file), "ids_column": "ids"}}
    del content["protocol"]["masking"]
    with pytest.raises(UsageError, match=r"protocol.masking is 'within_word_l2r'"):
        score(content, tmp_path, conditions=["truncate"])
    folder = score(content, tmp_path, conditions=["truncate"], protocol__masking="original")
    assert len(scores(folder)) == 3 * 4 * (1 + len(DISTANCES))


@pytest.mark.slow
@pytest.mark.parametrize("side", ["both", "left", "right"])
def test_distances_in_bytes(content: dict[str, Any], side: str, tmp_path: Path) -> None:
    """A token is a character of one byte here: bytes to far text are tokens, on either side."""
    folder = score(content, tmp_path, protocol__side=side, conditions=["truncate"])
    with open_run(folder, write=False) as run, connect_pair(run, run) as connection:
        pairing(connection, run, run, same=True)
        create_rows(connection)
        rows = connection.execute("SELECT tokens, distance FROM a_bytes").fetchall()
        reach = connection.execute("SELECT max(reach), max(bytes_reach) FROM a_spans").fetchone()
    assert len(rows) == 8 * 4 * len(DISTANCES)
    assert all(tokens == in_bytes for tokens, in_bytes in rows)
    assert reach == (max(DISTANCES),) * 2


@pytest.mark.slow
def test_places_of_targets_whose_far_text_lies_behind(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """Delta by position is where targets stand, wherever their far text does."""
    folder = score(content, tmp_path, protocol__side="right", conditions=["truncate"])
    with open_run(folder, write=False) as run:
        table = delta_by_position(run, "truncate", rows=1)
    places = [at for _, at, _ in of_condition(folder, "truncate")]
    (first,), (behind,) = set(table.position_from), set(table.position_to)
    assert (first, behind) == (min(places), max(places) + 1)


@pytest.mark.slow
def test_layers_of_shared_weights_are_told_apart(
    content: dict[str, Any], masked: Mapping[str, Path], tmp_path: Path
) -> None:
    """A pattern on some layers of an ALBERT is on those alone; on each of them it is on all."""
    asked = [f"attend(heads(local(3), layers={numbers}))" for numbers in ([0], [1], [2], [0, 1, 2])]
    conditions = [*asked, "attend(local(3))"]
    change = {"model__path": str(masked["albert"]), "conditions": conditions}
    frame = scores(score(content, tmp_path, **change)).query("condition != 'intact'")
    losses = [part.nll.to_numpy() for _, part in frame.groupby("condition")]
    equal = [np.allclose(a, b, atol=1e-5) for a, b in itertools.combinations(losses, 2)]
    assert len(losses) == 5
    assert sum(equal) == 1
