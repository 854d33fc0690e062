"""`chunks`: embeddings of encoders, against plain forwards of whole windows and of each chunk."""

import json
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from killed_runs import Tries, process_of_tries  # noqa: F401 (a fixture)
from models import MASKED, SMALL, VOCABULARY, tiny, tiny_masked, tiny_seq2seq
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tiny_run import (  # noqa: F401 (fixtures)
    CHECKOUT,
    base_configuration,
    changed,
    configured,
    environment,
    model_folders,
    no_network,
    parts,
    score,
    scores,
    text_folder,
    windows,
)
from torch import nn
from transformers import AutoModel, BertConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

import probe
from probe.analysis.open_run import open_run
from probe.corpus.windows import Document, Window
from probe.errors import ProbeError, UsageError
from probe.findings.base import findings
from probe.findings.edges import edges
from probe.models.encoder import EncoderModel
from probe.perturbations.condition import parse
from probe.protocols.base import ANY_MODEL, Inputs
from probe.protocols.branches import Draw
from probe.protocols.surrounded import BothSides
from probe.runs.experiment import prepare
from probe.runs.run import run
from protocols.test_pll import CLS, SEP, masked_tokenizer, save

LENGTH, SIZES = 64, (10, 32)
BARE = ("bert", "roberta", "albert", "deberta", "modernbert")


def tiny_encoder(family: str) -> PreTrainedModel:
    """A random encoder without a head, of a family of ``MASKED``, in evaluation mode."""
    name, sizes = MASKED[family]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes)
    model: PreTrainedModel = AutoModel.from_config(config, dtype=torch.float32)
    return model.eval()


@pytest.fixture(scope="module", name="encoders")
def encoder_folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    return {family: save(tiny_encoder(family), folder / family) for family in BARE}


@pytest.fixture(name="content")
def chunked_configuration(base: dict[str, Any], encoders: Mapping[str, Path]) -> dict[str, Any]:
    return changed(
        base,
        model={"path": str(encoders["bert"]), "dtype": "float32", "device": "cpu"},
        protocol={"kind": "chunks", "chunk": list(SIZES)},
        conditions=["truncate"],
    )


@torch.inference_mode()
def states(
    model: PreTrainedModel, ids: NDArray[np.int64], positions: NDArray[np.int64] | None = None
) -> torch.Tensor:
    """Last hidden states of tokens between [CLS] and [SEP], by the model's own forward."""
    given: dict[str, Any] = {}
    if positions is not None:
        given["position_ids"] = torch.from_numpy(np.concatenate([[0], positions]))[None]
        given["attention_mask"] = torch.ones(1, len(ids) + 2, dtype=torch.long)
    whole = torch.from_numpy(np.concatenate([[CLS], ids, [SEP]]))[None]
    return model(input_ids=whole, **given).last_hidden_state[0, 1:-1].double()


def turned(one: torch.Tensor, other: torch.Tensor) -> NDArray[np.float64]:
    """1 − cosine, as it is defined."""
    return np.asarray(1 - torch.nn.functional.cosine_similarity(one, other, dim=-1))


def chunks_of(folder: Path, condition: str) -> Iterator[tuple[pd.DataFrame, NDArray[np.int64]]]:
    """The rows of each chunk, in the order of its tokens, and the token ids of its window."""
    texts, frame = windows(folder), scores(folder).query("condition == @condition")
    for (document, number, size), own in frame.groupby(["document", "window", "chunk"]):
        text = texts[document, number]
        places = own.position.to_numpy() - text["start"]
        for _, rows in own.assign(place=places).groupby(places // size):
            yield rows.sort_values("place"), np.array(text["token_ids"])


def to_nearest_cut(place: int, start: int, stop: int, length: int) -> int:
    """Tokens between a place and the nearest cut of its chunk, counted one by one."""
    cuts = [cut for cut in (start - 1, stop) if 0 <= cut < length]
    return min(len(range(min(place, cut) + 1, max(place, cut))) for cut in cuts)


@pytest.mark.slow
@pytest.mark.parametrize("family", BARE)
def test_a_chunk_alone_is_a_plain_forward_of_it(
    content: dict[str, Any], encoders: Mapping[str, Path], family: str, tmp_path: Path
) -> None:
    """Every token's and every chunk's 1 − cosine; the last chunk is short; places and distances."""
    folder = score(content, tmp_path, model__path=str(encoders[family]))
    model, found = tiny_encoder(family), 0
    for rows, ids in chunks_of(folder, "truncate"):
        size = int(rows.chunk.iloc[0])
        start = int(rows.place.iloc[0])
        stop = min(start + size, LENGTH)
        assert list(rows.place) == [*range(start, stop)]
        whole, alone = states(model, ids)[start:stop], states(model, ids[start:stop])
        np.testing.assert_allclose(rows.embedding, turned(whole, alone), atol=2e-6)
        pooled = float(turned(whole.mean(0)[None], alone.mean(0)[None])[0])
        np.testing.assert_allclose(rows.embedding_pooled, pooled, atol=2e-6)
        expected = [to_nearest_cut(place, start, stop, LENGTH) for place in rows.place]
        assert list(rows.distance) == expected
        origin = rows.position.iloc[0] - start
        assert set(rows.boundary) == {origin + (start or stop)}
        assert set(rows.boundary_right) == {origin + stop if stop < LENGTH else -1}
        assert set(rows.far_start) == set(rows.boundary)  # nothing stands before it
        found += len(rows)
    assert found == 8 * LENGTH * len(SIZES)
    assert scores(folder).embedding.max() > 1e-3


@pytest.mark.slow
def test_rows_have_no_loss(content: dict[str, Any], tmp_path: Path) -> None:
    """Losses are missing, not NaN; the intact text is its own: it does not turn."""
    import pyarrow.parquet as pq

    folder = score(content, tmp_path)
    for part in folder.glob("scores/*.parquet"):
        table = pq.read_table(part)
        assert table["nll"].null_count == table["nll_intact"].null_count == len(table)
    intact = scores(folder).query("condition == 'intact'")
    assert len(intact) == 8 * LENGTH
    assert not intact[["embedding", "embedding_pooled"]].to_numpy().any()
    assert set(intact.chunk) == set(intact.boundary) == set(intact.distance) == {-1}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_hidden_text_keeps_the_positions(
    content: dict[str, Any], encoders: Mapping[str, Path], family: str, tmp_path: Path
) -> None:
    """A chunk under ``hide`` stands where it stood, the special token behind it too."""
    path = str(encoders[family])
    folder = score(content, tmp_path, model__path=path, conditions=["hide"])
    model = tiny_encoder(family)
    shift = model.config.pad_token_id + 1 if family == "roberta" else 0
    for rows, ids in chunks_of(folder, "hide"):
        places = rows.place.to_numpy(copy=True)
        positions = np.append(places + 1, LENGTH + 1)
        whole, given = np.concatenate([[CLS], ids[places], [SEP]]), {}
        given["position_ids"] = torch.from_numpy(np.append(0, positions) + shift)[None]
        given["attention_mask"] = torch.ones(1, len(whole), dtype=torch.long)
        with torch.inference_mode():
            output = model(input_ids=torch.from_numpy(whole)[None], **given)
        alone = output.last_hidden_state[0, 1:-1].double()
        expected = turned(states(model, ids)[places], alone)
        np.testing.assert_allclose(rows.embedding, expected, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["shuffle", "replace(source='document')"])
def test_what_lies_outside_is_changed_in_its_place(
    content: dict[str, Any], condition: str, tmp_path: Path
) -> None:
    """The window stays as long as it is, the chunk as it is; each side is drawn by itself."""
    config = configured(content, conditions=[condition])
    experiment = prepare(config)
    folder, model = run(config, tmp_path), tiny_encoder("bert")
    frame = scores(folder).query("condition == @condition")
    for window in experiment.windows:
        whole = states(model, window.ids)
        for one in experiment.branches(window, experiment.draws)[1:]:
            start, size = one.branch.origin, one.branch.targets
            ids = one.branch.ids[1:-1]
            assert (one.branch.ids[0], one.branch.ids[-1], len(ids)) == (CLS, SEP, LENGTH)
            near = slice(start, start + size)
            assert np.array_equal(ids[near], window.ids[near])
            if condition == "shuffle":
                for side in (slice(0, start), slice(start + size, None)):
                    assert sorted(ids[side]) == sorted(window.ids[side])
            assert not np.array_equal(ids, window.ids)
            own = frame.query(
                "document == @window.document and window == @window.index and chunk == @one.chunk"
            )
            own = own[own.position.between(one.position, one.position + size - 1)]
            expected = turned(whole[near], states(model, ids)[near])
            np.testing.assert_allclose(own.embedding, expected, atol=2e-6)


def test_the_two_sides_are_drawn_apart() -> None:
    """Far text of equal length on both sides is not put into the same order."""
    ids, nothing = np.arange(30), np.empty(0, dtype=np.int32)
    window = Window("a", 0, 0, ids, None, nothing, nothing)
    inputs = Inputs(Document("a", ids, None, nothing, nothing), 0, {}, lambda *_: {}, None)
    near = slice(10, 20)
    draw = Draw(parse("shuffle"))
    branch, before = BothSides(window, ids, ANY_MODEL).surrounded(near, near, draw, inputs)
    assert before == 10
    assert sorted(branch.ids[:10]) == [*range(10)]
    assert list(branch.ids[10:20]) == list(branch.labels) == [*range(10, 20)]
    assert sorted(branch.ids[20:]) == [*range(20, 30)]
    assert list(branch.ids[:10]) != list(branch.ids[20:] - 20)


@pytest.mark.slow
def test_rounding_alone_is_noise(content: dict[str, Any], tmp_path: Path) -> None:
    """The intact window down the path of conditions, once for each chunk, does not turn."""
    folder = score(content, tmp_path, conditions=["noise", "truncate"])
    noise = scores(folder).query("condition == 'noise'")
    assert len(noise) == 8 * LENGTH * len(SIZES)
    assert noise.embedding.max() < 1e-9
    record = json.loads((folder / "run.json").read_text())
    chunks = sum(-(-LENGTH // size) for size in SIZES)
    per_window = LENGTH + 2 + chunks * 2 + len(SIZES) * LENGTH  # intact; chunks with two specials
    apart = 7 * (LENGTH + 2)  # chunks of one number share their noise, whatever their size
    assert record["costs"]["tokens"] == 8 * (per_window + apart)


class Neighbours(nn.Module):
    """The state of a token is the sum of what stands up to *k* tokens from it, on each side."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        generator = torch.Generator().manual_seed(0)
        self.table = torch.randn(VOCABULARY, 24, generator=generator)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        known, k = self.table[ids], self.k
        padded = nn.functional.pad(known, (0, 0, k, k))
        size = ids.shape[1]
        # Weights differ: text that another half of it repeats is not the same.
        return torch.stack(
            [padded[:, at : at + size] * (1 + at / 7) for at in range(2 * k + 1)]
        ).sum(0)


class PlantedEncoder(PreTrainedModel):
    config_class = BertConfig

    def __init__(self, config: BertConfig, k: int) -> None:
        super().__init__(config)
        self.rule, self.weight = Neighbours(k), nn.Linear(1, 1)

    def forward(self, input_ids: torch.Tensor) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.rule(input_ids))


@pytest.mark.slow
@pytest.mark.parametrize("k", [0, 1, 5])
def test_a_planted_encoder_changes_within_its_reach_alone(
    content: dict[str, Any], k: int, tmp_path: Path
) -> None:
    """One that sees k tokens on each side: all change lies within k tokens of a cut."""
    model = EncoderModel(PlantedEncoder(BertConfig(**SMALL), k).eval())
    folder = run(configured(content), tmp_path, model=model)
    frame = scores(folder).query("condition == 'truncate'")
    assert (frame.query("distance >= @k").embedding < 1e-9).all()
    assert (frame.query("distance < @k").embedding > 1e-5).all()
    with open_run(folder) as opened:
        measured = edges(opened)
    seen = measured.by_distance
    assert ((seen.change > 1e-9) == (seen.distance_from < k)).all()
    assert (measured.by_chunk.within_90 <= max(k, 1)).all()
    assert k != 1 or (measured.by_chunk.within_50 == 1).all()


@pytest.mark.slow
def test_killed_and_resumed(content: dict[str, Any], tries: Tries, tmp_path: Path) -> None:
    """A run that is killed goes on, and its parts are those of one that was not, to the byte."""
    content |= {"conditions": ["truncate", "shuffle"], "batch": 1}
    whole = score(content, tmp_path / "whole")
    end = tries(configuration=content, results=tmp_path, after_first=0.02, pause=0.5)
    assert end["status"] == -signal.SIGKILL
    assert 0 < len(parts(tmp_path / content["name"])) < 8
    assert parts(score(content, tmp_path)) == parts(whole)


@pytest.mark.slow
def test_chunks_of_one_token_are_told(content: dict[str, Any], tmp_path: Path) -> None:
    folder = score(content, tmp_path, protocol__chunk=[1], data__max_documents=1)
    with open_run(folder, write=False) as opened:
        (answer,) = (one for one in findings(opened) if one.id == "answer")
    assert "in chunks of 1 token under truncate 1 − cosine is" in answer.sentence
    assert "within 1 token of a chunk's edges" in answer.sentence


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measures": ["nll"]}, "allowed with protocol chunks, whose models predict nothing"),
        ({"measures": ["embedding", "kl"]}, "predict nothing: embedding"),
        ({"protocol__chunk": [64]}, "protocol.chunk is [64]; allowed: one or more from 1 to 63"),
        ({"protocol__chunk": []}, "protocol.chunk is []; allowed: one or more"),
        ({"protocol__chunk": [0]}, "protocol.chunk.0: Input should be greater than or equal to 1"),
        ({"windows__length": None}, "windows.length is null; allowed with this protocol"),
        ({"windows__length": 600}, "the model has 512 positions; allowed: up to 510"),
        ({"conditions": ["attend(blocks(8))"]}, "sinks=1)): allowed with protocol sweep"),
        ({"conditions": ["drop_target"]}, "depends on its target"),
        ({"protocol": {"kind": "pll"}, "measures": ["nll"]}, "is an encoder one; allowed"),
        ({"protocol": {"kind": "sweep"}, "measures": ["embedding"]}, "that measure encoders"),
    ],
)
def test_what_does_not_fit_is_one_line(
    content: dict[str, Any], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Measures, chunks, windows and conditions that do not fit, and protocols that do not."""
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        score(content, tmp_path, **changes)
    assert len(str(caught.value).splitlines()) <= 2


def test_other_models_are_refused(
    content: dict[str, Any], base: dict[str, Any], tmp_path: Path
) -> None:
    """A causal model and an encoder–decoder are no encoders, whatever the configuration says."""
    causal = base["model"]["path"]
    with pytest.raises(UsageError, match=r"measures encoder language models, and .* causal one"):
        score(content, tmp_path, model__path=causal)
    with pytest.raises(UsageError, match=r"model.family is 'encoder', and .* is 'llama'; allowed"):
        score(content, tmp_path, model__path=causal, model__family="encoder")
    bart = save(tiny_seq2seq("bart"), tmp_path / "bart")
    for family, message in {"auto": "a seq2seq one", "encoder": "is 'bart'; allowed"}.items():
        with pytest.raises(UsageError, match=message):
            score(content, tmp_path, model__path=str(bart), model__family=family)
    decoder = tiny_encoder("bert")
    decoder.config.is_decoder = True
    save(decoder, tmp_path / "decoder")
    with pytest.raises(UsageError, match="is a causal one"):
        score(content, tmp_path, model__path=str(tmp_path / "decoder"))
    with pytest.raises(UsageError, match="LlamaModel is in training mode"):
        EncoderModel(tiny("llama").train())


@pytest.mark.slow
def test_the_encoder_of_a_masked_model(content: dict[str, Any], tmp_path: Path) -> None:
    """A checkpoint with a head, or without a pooler, is read as the encoder that is in it."""
    masked = tiny_masked("bert")
    path = save(masked, tmp_path / "masked")
    assert not any("pooler" in name for name in load_file(path / "model.safetensors"))
    folder = score(content, tmp_path / "a", model__path=str(path))
    assert json.loads((folder / "run.json").read_text())["model"]["class"] == "BertModel"
    for rows, ids in chunks_of(folder, "truncate"):
        places = rows.place.to_numpy(copy=True)
        whole, alone = states(masked.base_model, ids)[places], ids[places]
        np.testing.assert_allclose(
            rows.embedding, turned(whole, states(masked.base_model, alone)), atol=2e-6
        )
    loaded = probe.run(
        changed(content, model__path=str(path)),
        results=tmp_path / "b",
        model=masked,
        progress=False,
    )
    assert scores(loaded.path).embedding.equals(scores(folder).embedding)


@pytest.mark.slow
def test_other_missing_weights_are_refused(
    content: dict[str, Any], encoders: Mapping[str, Path], tmp_path: Path
) -> None:
    """Only the pooler may be missing: all else would be drawn at random."""
    tiny_encoder("bert").save_pretrained(tmp_path / "less")
    masked_tokenizer().save_pretrained(tmp_path / "less")
    file = tmp_path / "less" / "model.safetensors"
    weights = load_file(file)
    gone = next(name for name in weights if name.endswith("attention.output.dense.weight"))
    for name, fits in {"pooler.dense.weight": True, gone: False}.items():
        left = {other: weight for other, weight in weights.items() if other != name}
        save_file(left, file, metadata={"format": "pt"})
        if fits:
            score(content, tmp_path / "fits", model__path=str(file.parent))
            continue
        with pytest.raises(UsageError, match=r"the checkpoint lacks 1 weight \(encoder.layer"):
            score(content, tmp_path / "not", model__path=str(file.parent))


def test_states_that_are_no_number(content: dict[str, Any], tmp_path: Path) -> None:
    """They are named as what they are."""
    model = PlantedEncoder(BertConfig(**SMALL), 1).eval()
    model.rule.table[5:] = float("nan")
    with pytest.raises(ProbeError, match="the model's hidden states are not finite"):
        run(configured(content), tmp_path, model=EncoderModel(model))


def test_documents_shorter_than_a_window_are_left_out(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """In a line, as with other protocols; a chunk is shorter than that."""
    lines: list[str] = []
    run(configured(content), tmp_path, say=lines.append)
    assert "left out, too short: 1 (short.txt)" in lines


def test_hidden_text_that_is_not_hidden(
    content: dict[str, Any], encoders: Mapping[str, Path], tmp_path: Path
) -> None:
    """Windows of attention are cut by places in the text: what is left out moves them."""
    with pytest.raises(ProbeError, match="ModernBertModel has layers that do not go by position"):
        score(content, tmp_path, model__path=str(encoders["modernbert"]), conditions=["hide"])


class Leaking(PlantedEncoder):
    """Adds the mean over the rows of a batch to every row."""

    def forward(self, input_ids: torch.Tensor) -> BaseModelOutput:
        states = self.rule(input_ids)
        return BaseModelOutput(last_hidden_state=states + states.mean(0, keepdim=True))


@pytest.mark.slow
def test_rows_prove_themselves(content: dict[str, Any], tmp_path: Path) -> None:
    """Chunks are rows of a batch only on a model whose states do not depend on other rows."""
    config, folders = BertConfig(**SMALL), []
    for kind in (PlantedEncoder, Leaking):
        name = kind.__name__
        model = EncoderModel(kind(config, 2).eval())
        folders.append(run(configured(content, name=name, batch=1), tmp_path, model=model))
    good, bad = (json.loads((one / "run.json").read_text()) for one in folders)
    ((rows,), (leak,)) = good["check"], bad["check"]
    assert (rows["passed"], leak["passed"]) == (True, False)
    assert leak["unit"] == rows["unit"] == "between states at length 1"
    assert good["costs"]["forwards"] < bad["costs"]["forwards"]
    # A row alone is its own mean: twice the state, which does not turn.
    alone, plain = (scores(one).embedding for one in reversed(folders))
    np.testing.assert_allclose(alone, plain, atol=1e-6)
