"""Studies: what arms are trained on, going on where one stopped, and what it costs."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from command_line import probe
from tiny_study import CONTEXT, LENGTH, STRIDE, content
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from probe.errors import UsageError
from probe.text import WIDTH
from probe.training import study_run, train_arm
from probe.training.collate import IGNORED, Collate
from probe.training.study import Trained, check_study
from probe.training.study_data import chosen, prepare
from probe.training.study_plan import study_cost
from probe.training.study_run import train
from probe.training.token_loss import short_losses, short_tokens
from probe.training.trainer import shuffled

# -- data --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pieces_and_held_out_documents_share_nothing(done, texts):
    study, folder = done
    data = prepare(study, folder)
    held = pq.read_table(folder / "held_out.parquet").to_pylist()
    assert len(held) == data.held_out == 6
    every = pd.read_parquet(texts)["text"]
    assert {row["text"] for row in held} <= set(every)
    names = {row["document"] for row in held}
    assert not names & {piece.document for piece in data.pieces}
    room = LENGTH - 1
    for piece in data.pieces:
        words = every[int(piece.document)].split()[piece.start :][:room]
        assert data.source.tokenizer.convert_ids_to_tokens(piece.ids.tolist()) == words
        assert len(piece.ids) * 2 >= room
    found = {(p.document, p.start) for p in data.pieces}
    for number, text in enumerate(every):
        size = len(text.split())
        wanted = {(str(number), at) for at in range(0, size, room) if 2 * (size - at) >= room}
        assert str(number) in names or wanted <= found


def test_documents_of_a_held_out_group_are_not_trained_on(tmp_path):
    rows = [{"text": " ".join(["a b c d"] * 20), "book": number % 8} for number in range(24)]
    pd.DataFrame(rows).to_parquet(tmp_path / "books.parquet")
    given = content(tmp_path / "books.parquet", held_out=3)
    given["data"]["group_column"] = "book"
    data = prepare(check_study(given), tmp_path / "study")
    held = pq.read_table(tmp_path / "study" / "held_out.parquet")["document"].to_pylist()
    groups = {int(name) % 8 for name in held}
    assert data.pieces
    assert not groups & {int(piece.document) % 8 for piece in data.pieces}


@pytest.mark.slow
def test_a_random_half_has_the_lengths_of_the_best_half(done):
    study, folder = done
    data = prepare(study, folder)
    scores = pd.DataFrame(
        {
            "document": [str(n) for n in range(len(data.pieces))],
            "tokens": [len(piece.ids) for piece in data.pieces],
            "score": np.random.default_rng(5).normal(size=len(data.pieces)),
        }
    )
    scores["rank"] = scores["score"].rank(ascending=False)
    scores["length_bin"] = [1 << (n.bit_length() - 1) for n in scores["tokens"]]
    selection = study.arms["half"].documents
    best = chosen(data.pieces, selection, scores, seed=0)
    random = chosen(data.pieces, selection.model_copy(update={"score": "random"}), None, seed=0)
    for numbers in (best, random):
        tokens = sum(len(data.pieces[n].ids) for n in numbers)
        assert tokens == pytest.approx(data.tokens / 2, rel=0.1)
    assert best != random != chosen(data.pieces, selection, None, seed=1)


# -- training ----------------------------------------------------------------------------------


class _Plain(Trainer):
    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)


class _NoWeights(Collate):
    def __call__(self, rows):
        batch = super().__call__(rows)
        del batch["loss_weights"]
        return batch


def weights_of(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    return torch.cat([one.detach().flatten() for one in model.parameters()])


@pytest.mark.slow
def test_the_plain_arm_is_transformers_trainer(done, tmp_path):
    """The same steps by the bare Trainer on the same rows."""
    study, folder = done
    data = prepare(study, folder)
    rng, order = np.random.default_rng([1, 0]), []
    while len(order) < 40:
        order += rng.permutation(len(data.pieces)).tolist()
    rows = [{"input_ids": [data.bos, *data.pieces[n].ids.tolist()]} for n in order[:40]]
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(data.source.config)
    given = TrainingArguments(
        str(tmp_path),
        max_steps=20,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        warmup_steps=1,
        lr_scheduler_type="cosine",
        seed=1,
        remove_unused_columns=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    pad = data.source.tokenizer.pad_token_id
    _Plain(model=model, args=given, train_dataset=rows, data_collator=_NoWeights(pad)).train()
    plain = torch.cat([one.detach().flatten() for one in model.parameters()])
    ours = weights_of(folder / "models" / "plain-1" / "model")
    assert (ours - plain).abs().max() < 1e-6
    assert (ours - weights_of(folder / "models" / "plain-0" / "model")).abs().max() > 1e-2


@pytest.mark.slow
def test_a_training_that_is_cut_off_goes_on_from_its_checkpoint(done, tmp_path, monkeypatch):
    """The same weights in the end; a checkpoint that lacks something is not used."""
    study, folder = done
    data = prepare(study, folder)
    monkeypatch.setattr(train_arm, "SAVE_SECONDS", 0.0)
    material = train_arm.Material(range(len(data.pieces)), {})
    steps: list[int] = []

    def stop(done: int, _of: int, _loss: float) -> None:
        steps.append(done)
        if done == 8 and len(steps) == 8:
            raise KeyboardInterrupt

    given = {"trained": Trained("plain", 1), "folder": tmp_path, "listen": stop}
    with pytest.raises(KeyboardInterrupt):
        train_arm.train_arm(study, data, material, **given)
    last = tmp_path / "checkpoints" / "checkpoint-7"
    assert (last / "trainer_state.json").is_file()
    shutil.copytree(last, last.with_name("checkpoint-9"))
    (last.with_name("checkpoint-9") / "trainer_state.json").write_text("{")
    lacking = shutil.copytree(last, last.with_name("checkpoint-10"))
    state = json.loads((lacking / "trainer_state.json").read_text()) | {"global_step": 10}
    (lacking / "trainer_state.json").write_text(json.dumps(state))
    (lacking / "optimizer.pt").unlink()
    train_arm.train_arm(study, data, material, **given)
    assert steps == [*range(1, 9), *range(8, 21)]
    assert not (tmp_path / "checkpoints").exists()
    whole = weights_of(folder / "models" / "plain-1" / "model")
    assert torch.equal(weights_of(tmp_path / "model"), whole)
    facts = json.loads((tmp_path / "model" / "training.json").read_text())
    assert facts["steps"] == 20


def test_shuffled_weights_are_the_same_in_other_places():
    labels = torch.tensor([[IGNORED, 1, 2, 3, 4], [IGNORED, 5, 6, IGNORED, IGNORED]])
    weights = torch.arange(10.0).view(2, 5)
    found = shuffled(weights, labels, seed=0, step=3)
    ignored = labels == IGNORED
    assert torch.equal(found[ignored], weights[ignored])
    assert found.sort().values.sum() == weights.sum()
    assert sorted(found[~ignored].tolist()) == sorted(weights[~ignored].tolist())
    assert not torch.equal(found, weights)
    assert torch.equal(found, shuffled(weights, labels, seed=0, step=3))
    assert not torch.equal(found, shuffled(weights, labels, seed=0, step=4))


@pytest.mark.slow
def test_short_contexts_begin_with_the_bos(done):
    """One forward a token, the BOS in front."""
    study, folder = done
    data = prepare(study, folder)
    model = AutoModelForCausalLM.from_pretrained(folder / "models" / "plain-0" / "model").eval()
    rows = [{"input_ids": [data.bos, *piece.ids.tolist()]} for piece in data.pieces[:3]]
    batch = Collate(1)(rows)
    found = short_losses(
        model, batch["input_ids"], batch["labels"], context=CONTEXT, stride=STRIDE, bos=data.bos
    )
    for row, own in zip(rows, found, strict=True):
        ids = row["input_ids"]
        for token in range(len(ids)):
            start = (token - CONTEXT) // STRIDE * STRIDE
            if start < STRIDE:
                assert own[token].isnan()
                continue
            given = torch.tensor([[data.bos, *ids[start : token + 1]]])
            with torch.inference_mode():
                logp = torch.log_softmax(model(input_ids=given).logits[0, -2].double(), -1)
            assert float(own[token]) == pytest.approx(-float(logp[ids[token]]), abs=1e-4)
    with pytest.raises(UsageError, match="does not begin with the BOS 7"):
        short_losses(
            model, batch["input_ids"], batch["labels"], context=CONTEXT, stride=STRIDE, bos=7
        )


@pytest.mark.slow
def test_short_contexts_are_those_of_the_protocol(done):
    """Losses behind short contexts against the rows of a run of protocol longppl."""
    study, folder = done
    data = prepare(study, folder)
    model = AutoModelForCausalLM.from_pretrained(folder / "models" / "plain-0" / "model").eval()
    batch = Collate(1)([{"input_ids": [data.bos, *data.pieces[2].ids.tolist()]}])
    (found,) = short_losses(
        model, batch["input_ids"], batch["labels"], context=CONTEXT, stride=STRIDE, bos=data.bos
    )
    rows = pq.read_table(folder / "runs/scoring/plain-0/scores").to_pandas()
    cut = rows[(rows["document"].astype(str) == "2") & (rows["condition"] == "truncate")]
    cut = cut[cut["boundary"] > 0].sort_values("position")
    known = found.isfinite().nonzero()[:, 0]
    assert (known - 1).tolist() == cut["position"].tolist()
    assert found[known].numpy() == pytest.approx(cut["nll"].to_numpy(), abs=1e-4)


@pytest.mark.slow
def test_an_arm_by_a_rule_gets_the_weights_of_the_scoring_run(done):
    """A fifth of each piece's tokens, the ones of the largest |delta|, weigh 5; others nothing."""
    study, folder = done
    data = prepare(study, folder)
    material = study_run._material(
        study, data, folder, Trained("sparse", 0), lambda *_: _Nothing(), lambda _: None
    )
    assert set(material.weights) == set(range(len(data.pieces)))
    rows = pq.read_table(folder / "runs/scoring/plain-0/scores").to_pandas()
    number = 3
    own = rows[rows["document"].astype(str) == str(number)]
    wide = own.pivot_table(index="position", columns="condition", values="nll", observed=True)
    delta = (wide["truncate"] - wide["intact"]).abs()
    far = delta[delta.index >= CONTEXT + STRIDE - 1]  # the BOS is the first token
    size = len(data.pieces[number].ids)
    top = far.sort_values(ascending=False).index[: round(0.2 * size)]
    assert set(np.flatnonzero(material.weights[number])) == set(top)
    assert material.weights[number][top] == pytest.approx(size / len(top))
    assert material.weights[number].sum() == pytest.approx(size)


class _Nothing:
    def __enter__(self):
        return lambda *_: None

    def __exit__(self, *_):
        return None


# -- a whole study -----------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_done_stays_done(done, tmp_path, monkeypatch):
    """A second call trains nothing, even where the weights are gone; a new seed alone is added."""
    study, folder = done
    results = tmp_path / "results"
    shutil.copytree(folder.parent, results)
    shutil.rmtree(results / "study" / "models")
    trained: list[tuple[str, int]] = []
    real = train_arm.train_arm

    def counted(*given, **named):
        trained.append((given[3].arm, given[3].seed))
        real(*given, **named)

    monkeypatch.setattr(study_run, "train_arm", counted)
    train(study, results)
    assert trained == []
    more = study.model_copy(update={"seeds": [0, 1, 2], "arms": {"plain": study.arms["plain"]}})
    train(more, results)
    assert trained == [("plain", 2)]


@pytest.mark.slow
def test_a_plan_counts_what_is_forwarded(done, texts, tmp_path):
    """Measured tokens by the costs of the runs, trained ones as one forward and two backward."""
    study, folder = done
    cost = study_cost(study, folder.parent, timed=True)
    measured = 0
    for measure in study.measures:
        record = json.loads((folder / "runs" / measure / "plain-0" / "run.json").read_text())
        measured += record["costs"]["tokens"]
    trained = 20 * 2 * LENGTH
    by_arm = {one.arm: one for one in cost.arms}
    assert by_arm["plain"].trained == trained
    assert by_arm["plain"].forwards == 3 * trained + measured
    shorts = 2 * (1 + CONTEXT + STRIDE)  # of 48 tokens: from 12 and 24 on, behind the BOS each
    assert by_arm["longce"].forwards == (3 + shorts / LENGTH) * trained + measured
    record = json.loads((folder / "runs/scoring/plain-0/run.json").read_text())
    assert by_arm["half"].epochs == pytest.approx(2 * by_arm["plain"].epochs)
    assert by_arm["half"].forwards == 3 * trained + measured + record["costs"]["tokens"]
    assert by_arm["sparse"].forwards == 3 * trained + measured
    model = AutoModelForCausalLM.from_pretrained(folder / "models/plain-0/model")
    assert cost.parameters == model.num_parameters()
    assert cost.seconds_per_token > 0
    # Data of another study under the same name are not read.
    smaller = study.model_copy(update={"held_out": 5})
    assert study_cost(smaller, folder.parent, timed=False).held_out == 5
    # Without a folder the data are made elsewhere, and nothing is left behind.
    assert study_cost(study, tmp_path, timed=False).forwards == cost.forwards
    assert not list(tmp_path.iterdir())


def test_the_tokens_of_short_contexts_are_those_that_are_forwarded():
    class Counting(torch.nn.Module):
        tokens = 0

        def forward(self, input_ids, use_cache):
            self.tokens += input_ids.numel()
            return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 3))

    for size, context, stride, bos in [(48, 12, 12, 0), (50, 7, 5, None), (20, 12, 8, 0)]:
        model, ids = Counting(), torch.zeros(1, size, dtype=torch.long)
        short_losses(model, ids, ids, context=context, stride=stride, bos=bos)
        assert model.tokens == short_tokens(size, context=context, stride=stride, bos=bos)


@pytest.mark.slow
def test_a_start_scores_the_data_once_for_all_seeds(done, tmp_path):
    study, folder = done
    given = study.model_dump() | {"tokenizer": None}
    given["model"] = {"path": str(folder / "models/plain-0/model")}
    given["arms"] = {"plain": {}, "sparse": {"weights": "sparse"}}
    cost = study_cost(check_study(given), tmp_path, timed=False)
    _, plain, sparse = cost.arms
    one = study_cost(check_study(given | {"seeds": [0]}), tmp_path, timed=False)
    scored = one.arms[2].forwards - one.arms[1].forwards
    assert scored > 0
    assert (sparse.forwards - plain.forwards) * 2 == pytest.approx(scored)


@pytest.mark.slow
def test_the_commands(done, tmp_path, monkeypatch):
    study, folder = done
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study.model_dump(), sort_keys=False))
    shutil.copytree(folder.parent, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    found = probe("train", path)
    assert found.exit_code == 0, found.output
    assert "longce against plain: far delta" in found.output
    assert "Far delta (nats per token): loss added by perturbed far text" in found.output
    assert max(map(len, found.output.splitlines())) <= WIDTH
    assert (tmp_path / "results/study/far.png").is_file()
    table = pd.read_csv(tmp_path / "results/study/arms.csv")
    assert set(table["arm"]) == set(study.arms)
    plan = probe("plan", path, "--no-time")
    assert plan.exit_code == 0, plan.output
    assert "tokens trained" in plan.output
    wrong = probe("report", "results/study")
    assert (wrong.exit_code, "is the folder of a study" in wrong.output) == (2, True)
    wrong = probe("run", path)
    assert (wrong.exit_code, "allowed with: probe train" in wrong.output) == (2, True)
    wrong = probe("plan", path, "--model", "x")
    assert (wrong.exit_code, "allowed with a run" in wrong.output) == (2, True)
    wrong = probe("train", path, "--set", "tokens=7")
    assert (wrong.exit_code, "was begun with tokens" in wrong.output) == (2, True)


# -- data that come with weights ---------------------------------------------------------------


@pytest.mark.slow
def test_weights_of_the_data_are_trained_on(done, tmp_path):
    """`probe weigh --to`, then an arm with stored weights; another tokenizer is refused."""
    _, folder = done
    found = probe("weigh", folder / "runs/longppl/plain-0", "--to", tmp_path / "weighed")
    assert found.exit_code == 0, found.output
    start = folder / "models/plain-0/model"
    given = content(tmp_path / "weighed", held_out=2, tokenizer=None, scoring=None)
    given |= {"name": "stored", "model": {"path": str(start)}, "seeds": [0]}
    given["data"]["ids_column"] = "input_ids"
    given["arms"] = {"plain": {}, "stored": {"weights": "stored"}}
    stored = check_study(given)
    path = train(stored, tmp_path)
    data = prepare(stored, path)
    rows = pq.read_table(next((tmp_path / "weighed").glob("*.parquet"))).to_pylist()
    by_name = {f"{row['document']}:{row['start']}": row for row in rows}
    for piece in data.pieces:
        own = by_name[piece.document]
        assert own["input_ids"][: LENGTH - 1] == piece.ids.tolist()
        assert own["loss_weights"][: LENGTH - 1] == piece.weights.tolist()
    models = [weights_of(path / "models" / f"{arm}-0" / "model") for arm in ("plain", "stored")]
    assert not torch.equal(*models)
    other = tmp_path / "other"
    shutil.copytree(start, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    first, second = list(tokenizer["model"]["vocab"].items())[5:7]
    tokenizer["model"]["vocab"] |= {first[0]: second[1], second[0]: first[1]}
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UsageError, match="are of tokenizer"):
        train(check_study(given | {"name": "other", "model": {"path": str(other)}}), tmp_path)
    (file,) = (tmp_path / "weighed").glob("*.parquet")
    table = pq.read_table(file)
    weights = [row[:-1] for row in table["loss_weights"].to_pylist()]
    short = table.set_column(4, "loss_weights", pa.array(weights))
    for broken, words in (
        (short, "allowed: one weight a token"),
        (table.drop("start"), "has no P"),
    ):
        pq.write_table(broken, file)
        with pytest.raises(UsageError, match=words):
            train(check_study(given | {"name": "broken"}), tmp_path)
    with pytest.raises(UsageError, match="stored weights are those of a folder that probe weigh"):
        check_study(given | {"data": {"path": str(folder)}})
