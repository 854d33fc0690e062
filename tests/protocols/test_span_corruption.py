"""`span_corruption`: losses of spans that were cut out, against plain whole forwards."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from family_runs import tokenizer as special_tokenizer
from models import SEQ2SEQ, VOCABULARY, tiny_seq2seq
from numpy.typing import NDArray
from planted import SURE
from tiny_run import (  # noqa: F401 (fixtures)
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
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, T5Config
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from probe.analysis.open_run import open_run
from probe.commands.main import group
from probe.errors import ProbeError, UsageError
from probe.findings.compare.pair import connect_pair, create_rows, pairing
from probe.models.load import open_source
from probe.models.seq2seq import Seq2SeqModel
from probe.perturbations.samplers import ordinary_ids
from probe.runs.experiment import prepare
from probe.runs.plan import costs
from probe.runs.run import run

BOS, EOS, PAD, SENTINEL = range(4)
DISTANCES = [0, 3, 12]
SPAN = 3
CONDITIONS = ["noise", "truncate", "shuffle", "hide", "replace(source='document')", "drop_target"]


def tokenizer(sentinel: str | None = "<extra_id_0>") -> PreTrainedTokenizerFast:
    """A token a character, </s> behind a text, and a sentinel."""
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return special_tokenizer([], ["</s>"], **names, **({"sentinel": sentinel} if sentinel else {}))


@pytest.fixture(scope="module", name="folders")
def models_with_sentinels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A T5, and a BART, whose positions are embedded, with the same tokenizer."""
    folders = {}
    for family in ("t5", "bart"):
        folders[family] = tmp_path_factory.mktemp("spans") / family
        tiny_seq2seq(family).save_pretrained(folders[family])
        tokenizer().save_pretrained(folders[family])
    return folders


@pytest.fixture(name="content")
def configuration(base: dict[str, Any], folders: Mapping[str, Path]) -> dict[str, Any]:
    protocol = {"kind": "span_corruption", "distances": DISTANCES, "span": SPAN, "spans": 2}
    model = {"path": str(folders["t5"]), "dtype": "float32", "device": "cpu"}
    return changed(base, model=model, protocol=protocol, conditions=CONDITIONS)


@torch.inference_mode()
def plain_nll(
    model: PreTrainedModel,
    left: NDArray[np.int64],
    span: NDArray[np.int64],
    right: NDArray[np.int64],
    seen: NDArray[np.bool_] | None = None,
) -> float:
    """The loss of the last token of (a part of) a span: the model's own whole forward."""
    read = torch.from_numpy(np.concatenate([left, [SENTINEL], right, [EOS]]))[None]
    given = {} if seen is None else {"attention_mask": torch.from_numpy(seen).long()[None]}
    before = [model.config.decoder_start_token_id, SENTINEL, *span[:-1]]
    logits = model(input_ids=read, decoder_input_ids=torch.tensor([before]), **given).logits[0, -1]
    return -float(torch.log_softmax(logits.double(), -1)[span[-1]])


def of_condition(folder: Path, condition: str) -> Iterator[tuple[NDArray[np.int64], int, int, Any]]:
    """Token ids of a row's window, the index of its span and of its target there, and the row.

    A span is known by its targets: the rows of ``SPAN`` consecutive places.
    """
    texts, frame = windows(folder), scores(folder)
    intact = frame[frame.condition == "intact"]
    for row in frame[frame.condition == condition].itertuples():
        text = texts[row.document, row.window]
        places = intact[(intact.document == row.document) & (intact.window == row.window)].position
        spans = np.sort(places.to_numpy()).reshape(-1, SPAN)
        assert (np.diff(spans) == 1).all()
        (span,) = [places for places in spans if row.position in places]
        yield np.array(text["token_ids"]), span[0] - text["start"], row.position - span[0], row


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "side"), [("t5", "both"), ("t5", "left"), ("t5", "right"), ("bart", "both")]
)
def test_every_loss_is_that_of_a_plain_forward(
    content: dict[str, Any], folders: Mapping[str, Path], family: str, side: str, tmp_path: Path
) -> None:
    """Intact, cut off and hidden, on either side, at every place of a span."""
    folder = score(
        content,
        tmp_path,
        model__path=str(folders[family]),
        protocol__side=side,
        conditions=["noise", "truncate", "hide"],
        data__max_documents=3,
    )
    model = tiny_seq2seq(family)
    for condition in ("intact", "noise", "truncate", "hide"):
        rows = list(of_condition(folder, condition))
        assert len(rows) == 3 * 2 * SPAN * (1 if condition == "intact" else len(DISTANCES))
        for ids, start, number, row in rows:
            stop, size = start + SPAN, len(ids)
            left = max(0, start - row.distance) if side != "right" else 0
            right = stop + row.distance if side != "left" else size
            seen = None
            if condition == "hide":
                seen = np.isin(np.arange(size), np.arange(left, right))
                seen = np.concatenate([seen[:start], [True], seen[stop:], [True]])
            if condition in ("intact", "noise", "hide"):
                left, right = 0, size
            span = ids[start : start + number + 1]
            expected = plain_nll(model, ids[left:start], span, ids[stop:right], seen)
            assert row.nll == pytest.approx(expected, abs=2e-4), row
            assert row.nll_intact == pytest.approx(
                plain_nll(model, ids[:start], span, ids[stop:]), abs=2e-4
            )


@pytest.mark.slow
@pytest.mark.parametrize("side", ["both", "left", "right"])
def test_boundaries_are_those_of_the_span(
    content: dict[str, Any], side: str, tmp_path: Path
) -> None:
    """Every target of a span has the span's distance, on both sides."""
    folder = score(content, tmp_path, protocol__side=side, conditions=["truncate"])
    for ids, start, _, row in of_condition(folder, "truncate"):
        origin = windows(folder)[row.document, row.window]["start"]
        left, right = origin + start - row.distance, origin + start + SPAN + row.distance
        assert row.boundary == (right if side == "right" else left)
        assert row.boundary_right == (-1 if side == "left" else right)
        far = {"left": start - row.distance, "right": origin + len(ids) - right}
        assert min(far[one] for one in far if side in (one, "both")) >= max(1, row.distance)


@pytest.mark.parametrize(
    "condition",
    [
        *("shuffle", "reverse", "replace(source='document')", "replace(source='unigram')"),
        *("replace_target(source='unigram')", "drop(rate=0.5)", "drop_target", "paste"),
    ],
)
@pytest.mark.parametrize("side", ["both", "left", "right"])
def test_every_perturbation_leaves_the_rest(
    content: dict[str, Any], condition: str, side: str
) -> None:
    """Near text and an intact side stay, the sentinel between them; far text does not."""
    experiment = prepare(configured(content, protocol__side=side, conditions=[condition]))
    differ = 0
    for window in experiment.windows:
        for one in experiment.branches(window, experiment.draws_of(window)):
            if one.condition == "intact":
                continue
            assert one.branch.source is not None
            read = one.branch.source.ids
            assert read[-1] == EOS
            ((at,),) = (np.flatnonzero(read == SENTINEL),)
            start = one.branch.origin - (one.branch.first - 2)
            near_left = window.ids[start - one.distance if side != "right" else 0 : start]
            right = start + SPAN
            near_right = window.ids[right : right + one.distance if side != "left" else None]
            assert read[at - len(near_left) : at].tolist() == near_left.tolist()
            assert read[at + 1 : -1][: len(near_right)].tolist() == near_right.tolist()
            whole = [*window.ids[:start], SENTINEL, *window.ids[right:], EOS]
            differ += read.tolist() != whole
            assert one.branch.ids.tolist() == [2, SENTINEL, *window.ids[start:right]]
    assert differ > 0


@pytest.mark.slow
def test_a_source_is_encoded_once(content: dict[str, Any], tmp_path: Path) -> None:
    """As many forwards of the encoder as there are sources, and what the plan counts."""
    config = configured(content, batch=1)
    experiment = prepare(config)
    keys, targets = set(), 0
    for window in experiment.windows:
        branches = experiment.branches(window, experiment.draws_of(window))
        sources = [one.branch.source for one in branches]
        keys |= {(window.document, window.index, s.key) for s in sources if s is not None}
        targets += len(branches)
    model = Seq2SeqModel(tiny_seq2seq("t5"))
    calls: list[int] = []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    folder = run(config, tmp_path, model=model)
    check = len(calls) - len(keys)  # the check of the model reads a source as well
    assert 0 < check < 20
    spent = json.loads((folder / "run.json").read_text(encoding="utf-8"))["costs"]
    planned = costs(experiment, 1, set())
    assert spent["tokens"] == planned.tokens == planned.plain_tokens
    assert spent["targets"] == targets
    assert len(keys) < targets / SPAN


@pytest.mark.slow
def test_kl_is_that_of_both_distributions(content: dict[str, Any], tmp_path: Path) -> None:
    """KL of the intact distribution to the perturbed one, of plain forwards."""
    folder = score(content, tmp_path, conditions=["truncate"], measures=["nll", "kl"])
    model = tiny_seq2seq("t5")

    @torch.inference_mode()
    def logp(left: Any, span: Any, right: Any) -> torch.Tensor:
        read = torch.tensor([[*left, SENTINEL, *right, EOS]])
        before = torch.tensor([[2, SENTINEL, *span[:-1]]])
        logits = model(input_ids=read, decoder_input_ids=before).logits
        return torch.log_softmax(logits[0, -1].double(), -1)

    for ids, start, number, row in of_condition(folder, "truncate"):
        span, stop = ids[start : start + number + 1], start + SPAN
        whole = logp(ids[:start], span, ids[stop:])
        cut = logp(ids[max(0, start - row.distance) : start], span, ids[stop : stop + row.distance])
        assert row.kl == pytest.approx(float((whole.exp() * (whole - cut)).sum()), abs=2e-4)


class Copying(nn.Module):
    """Expects for a token of a span what stands *offset* places from it in the source."""

    def __init__(self, offset: int, span: int) -> None:
        super().__init__()
        self.offset, self.span = offset, span

    def forward(
        self, input_ids: torch.Tensor, encoder_hidden_states: torch.Tensor, **_: Any
    ) -> Any:
        rows, size = input_ids.shape
        logits = torch.zeros(rows, size, VOCABULARY)
        for row, source in enumerate(encoder_hidden_states.argmax(-1)):
            for at in range(1, size):  # token 1, the sentinel, predicts the first of the span
                place = int((source == SENTINEL).int().argmax()) + at - 1 + self.offset
                place -= self.span - 1 if self.offset > 0 else 0
                if 0 <= place < len(source) - 1:
                    logits[row, at] = SURE * encoder_hidden_states[row, place]
        return BaseModelOutput(last_hidden_state=logits)


class OneHot(nn.Module):
    """An encoder whose states say which token stands where."""

    def forward(self, input_ids: torch.Tensor, **_: Any) -> BaseModelOutput:
        return BaseModelOutput(nn.functional.one_hot(input_ids, VOCABULARY).float())


class Planted(PreTrainedModel):
    """An encoder–decoder whose decoder is a rule, and whose head changes nothing."""

    config_class = T5Config
    main_input_name = "input_ids"

    def __init__(self, config: T5Config, offset: int) -> None:
        super().__init__(config)
        self.encoder, self.decoder = OneHot(), Copying(offset, SPAN)
        self.shared = nn.Embedding(VOCABULARY, 1)

    def get_encoder(self, *_: Any, **__: Any) -> nn.Module:
        return self.encoder

    def get_decoder(self, *_: Any, **__: Any) -> nn.Module:
        return self.decoder

    def get_input_embeddings(self) -> nn.Module:
        return self.shared

    def get_output_embeddings(self) -> None:
        return None

    def forward(
        self, decoder_input_ids: torch.Tensor, encoder_outputs: Any, **_: Any
    ) -> Seq2SeqLMOutput:
        states = self.decoder(decoder_input_ids, encoder_outputs.last_hidden_state)
        return Seq2SeqLMOutput(logits=states.last_hidden_state)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("offset", "side"), [(-12, "both"), (-12, "left"), (7, "both"), (7, "right")]
)
def test_planted_distances_are_found(
    content: dict[str, Any], offset: int, side: str, tmp_path: Path
) -> None:
    """A model that copies from 12 to the left reads 12 tokens, one from 7 to the right 7."""
    rng, letters = np.random.default_rng(0), list("abcdefhmnorstw")
    for number in range(8):  # nothing but the copy repeats a letter within a dozen
        written = "".join(rng.permutation(letters)[: abs(offset)]) * 60
        (tmp_path / f"{number}.txt").write_text(written[:300], encoding="utf-8")
    protocol = {"kind": "span_corruption", "side": side, "distances": [*range(24)], "spans": 2}
    content |= {"protocol": protocol, "conditions": ["truncate"]}
    config = configured(content, data__data_files=f"{tmp_path}/*.txt", windows__length=112)
    planted = Planted(T5Config(**SEQ2SEQ["t5"][1]), offset).eval()
    folder = run(config, tmp_path, model=Seq2SeqModel(planted))
    result = CliRunner().invoke(group, ["report", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0
    answers = json.loads((folder / "summary.json").read_text())["effective_context"]
    (found,) = [
        one for one in answers if one["condition"] == "truncate" and one["tolerance"] == "1%"
    ]
    assert (found["lower"], found["estimate"], found["upper"]) == (abs(offset),) * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "targets"),
    [
        # The longest span that leaves a token on each side, and one side alone.
        ({"windows__length": 8, "protocol": {"span": 6, "spans": 1, "distances": [0]}}, 6),
        ({"windows__length": 8, "protocol": {"span": 7, "spans": 1, "side": "left"}}, 7),
        # Spans side by side, which leave no choice.
        ({"windows__length": 8, "protocol": {"span": 2, "spans": 3, "distances": [0]}}, 6),
        ({"windows__length": 8, "protocol": {"span": 1, "spans": 1}}, 1),
        ({"windows__length": 64, "protocol": {"span": 40, "spans": 1}}, 40),
    ],
)
def test_sizes_at_the_edge(
    content: dict[str, Any], changes: dict[str, Any], targets: int, tmp_path: Path
) -> None:
    """Every token of every span has a finite loss at every distance, once."""
    changes["protocol"] = {"kind": "span_corruption", **changes["protocol"]}
    frame = scores(score(content, tmp_path, conditions=["truncate", "hide"], **changes))
    rows = frame[frame.condition == "truncate"]
    assert np.isfinite(frame.nll).all()
    assert not rows.duplicated(["document", "window", "position", "distance"]).any()
    counts = rows.groupby(["document", "window", "distance"]).size()
    assert set(counts) == {targets}


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"protocol__span": 63}, "protocol.span is 63; allowed: 1 to 62, so that a token is left"),
    ({"protocol__span": 0}, "protocol.span: "),
    (
        {"protocol__distances": [16]},
        "protocol.distances is [16]; allowed: one or more from 0 to 15",
    ),
    ({"protocol__distances": []}, "protocol.distances is []; allowed: one or more from 0 to 15"),
    ({"protocol__spans": 14}, "protocol.spans is 14; allowed: 1 to 5, side by side among the 16"),
    ({"protocol__side": "up"}, "'both', 'left' or 'right'; got 'up'"),
    ({"windows__length": None}, "windows.length is null; allowed with this protocol"),
    (
        {"data__source_column": "text"},
        "data.source_column: allowed without, with protocol span_corruption",
    ),
    ({"conditions": ["truncate(of='source')"]}, "of= is allowed with protocol parallel"),
    ({"conditions": ["attend(local(4))"]}, "attend(local(w=4, sinks=1)): allowed with protocol"),
    ({"first_token": "none"}, "a decoder begins with its start token; allowed: keep"),
]


@pytest.mark.parametrize(("changes", "line"), MISTAKES)
def test_a_mistake_is_one_line(
    content: dict[str, Any], changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    """What, the value, what is allowed."""
    with pytest.raises((UsageError, ProbeError)) as error:
        score(content, tmp_path, **changes)
    assert line in str(error.value)


@pytest.mark.parametrize(
    ("sentinel", "known"), [(None, False), ("<extra_id_0>", True), ("▁<extra_id_0>", True)]
)
def test_a_tokenizer_without_sentinels_is_refused(
    content: dict[str, Any], sentinel: str | None, known: bool, tmp_path: Path
) -> None:
    """One line; mT5 writes its sentinels otherwise."""
    tiny_seq2seq("t5").save_pretrained(tmp_path / "model")
    tokenizer(sentinel).save_pretrained(tmp_path / "model")
    assert open_source(str(tmp_path / "model")).sentinel == (SENTINEL if known else None)
    changes = {"model__path": str(tmp_path / "model"), "data__max_documents": 1}
    if known:
        score(content, tmp_path, conditions=["truncate"], **changes)
        return
    with pytest.raises(UsageError, match=r"<extra_id_0>, and the model or its tokenizer has none"):
        score(content, tmp_path, **changes)


def test_a_sentinel_that_the_model_does_not_know_is_none(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """Its id lies behind the last that the model has."""
    tiny_seq2seq("t5", vocab_size=3).save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    assert open_source(str(tmp_path / "model")).sentinel is None


def test_no_condition_draws_a_sentinel() -> None:
    """Text that is put in place of far text has none."""
    assert SENTINEL not in ordinary_ids(tokenizer(), VOCABULARY)


def test_positions_of_encoder_and_decoder_are_kept_to(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """A window may be as long as it fits without its span; the line says how long."""
    tiny_seq2seq("bart", max_position_embeddings=16).save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    content = changed(content, model__path=str(tmp_path / "model"), conditions=["truncate"])
    allowed = {"protocol__spans": 1, "protocol__distances": [0], "data__max_documents": 2}
    score(content, tmp_path, name="fits", windows__length=17, **allowed)
    with pytest.raises(UsageError, match=r"windows.length is 18: .* 16 positions.* up to 17$"):
        score(content, tmp_path, name="long", windows__length=18, **allowed)
    with pytest.raises(UsageError, match=r"protocol.span is 15: the decoder has 16 .* up to 14$"):
        score(content, tmp_path, name="span", windows__length=28, **allowed, protocol__span=15)


@pytest.mark.slow
def test_token_ids_need_no_text(content: dict[str, Any], tmp_path: Path) -> None:
    """Data of token ids is measured as text is."""
    rows = [{"ids": np.random.default_rng(n).integers(4, 20, size=90).tolist()} for n in range(3)]
    file = tmp_path / "ids.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    content |= {"data": {"path": "json", "data_files": str(file), "ids_column": "ids"}}
    frame = scores(score(content, tmp_path, conditions=["truncate"]))
    assert len(frame) == 3 * 2 * SPAN * (1 + len(DISTANCES))


@pytest.mark.slow
@pytest.mark.parametrize("side", ["both", "left", "right"])
def test_distances_in_bytes(content: dict[str, Any], side: str, tmp_path: Path) -> None:
    """A token is a byte here: from a span to far text as many bytes as tokens, on either side."""
    folder = score(content, tmp_path, protocol__side=side, conditions=["truncate"])
    with open_run(folder, write=False) as opened, connect_pair(opened, opened) as connection:
        pairing(connection, opened, opened, same=True)
        create_rows(connection)
        rows = connection.execute("SELECT tokens, distance FROM a_bytes").fetchall()
        reach = connection.execute("SELECT max(reach), max(bytes_reach) FROM a_spans").fetchone()
    assert len(rows) == 8 * 2 * SPAN * len(DISTANCES)
    assert all(tokens == in_bytes for tokens, in_bytes in rows)
    assert reach == (max(DISTANCES),) * 2


@pytest.mark.slow
def test_a_run_goes_on_and_is_reported(content: dict[str, Any], tmp_path: Path) -> None:
    """A condition more is scored alone, at the same spans; the caveat says where far text lies."""
    first = score(content, tmp_path / "a", conditions=["truncate"])
    score(content, tmp_path / "a", conditions=["truncate", "shuffle"])
    whole = score(content, tmp_path / "b", conditions=["truncate", "shuffle"])
    pd.testing.assert_frame_equal(scores(first), scores(whole))
    printed = CliRunner().invoke(group, ["report", str(first)])
    assert printed.exit_code == 0, printed.output
    words = re.sub(r"\s+", " ", printed.output)
    assert "far text is on both sides of its span, and a distance is that of each" in words
