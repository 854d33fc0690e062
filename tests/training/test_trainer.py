"""The weighted loss against plain cross entropy and against its sum written out."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from models import tiny
from tiny_run import CHECKOUT
from transformers import Trainer, TrainingArguments

from probe.errors import ProbeError, UsageError
from probe.training.collate import Collate
from probe.training.token_loss import short_losses
from probe.training.trainer import OnlineLongCETrainer, WeightedTrainer

RNG = np.random.default_rng(0)
ROWS = [
    {
        "input_ids": RNG.integers(3, 96, size=size).tolist(),
        "loss_weights": RNG.gamma(1.0, size=size).tolist(),
    }
    for size in (20, 13, 31, 8, 24, 17)
]
ONES = [{"input_ids": row["input_ids"]} for row in ROWS]


def arguments(folder, **changes):
    given = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "max_steps": 1,
        "learning_rate": 0.5,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0,
        "report_to": [],
        "remove_unused_columns": False,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_strategy": "no",
        "train_sampling_strategy": "sequential",
    }
    return TrainingArguments(**(given | changes))


def trained(trainer, rows, folder, *, collate, **changes):
    """The weights of a model behind one step of plain gradient descent."""
    model = tiny("llama", num_hidden_layers=2)
    given = arguments(folder, **changes)
    trainer(model=model, args=given, train_dataset=rows, data_collator=collate).train()
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def plain_step(rows, learning_rate=0.5):
    """The same step, written out: Σ weight · nll over the number of labels."""
    model = tiny("llama", num_hidden_layers=2)
    total, count = torch.zeros(()), 0
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        logp = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), -1)
        losses = -logp.gather(1, ids[0, 1:, None])[:, 0]
        weights = torch.tensor(row.get("loss_weights", [1.0] * ids.shape[1]))[1:]
        total = total + (losses * weights).sum()
        count += len(losses)
    (total / count).backward()
    with torch.no_grad():
        return torch.cat([(w - learning_rate * w.grad).flatten() for w in model.parameters()])


class NoWeights(Collate):
    def __call__(self, rows):
        batch = super().__call__(rows)
        del batch["loss_weights"]
        return batch


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3])
def test_weights_of_1_are_plain_cross_entropy(tmp_path, steps):
    """Transformers' own loss, with and without gradient accumulation."""
    size = {"per_device_train_batch_size": 6 // steps, "gradient_accumulation_steps": steps}
    ours = trained(WeightedTrainer, ONES, tmp_path / "a", collate=Collate(2), **size)
    plain = trained(Trainer, ONES, tmp_path / "b", collate=NoWeights(2), **size)
    assert (ours - plain).abs().max() < 1e-6
    assert (ours - plain_step(ONES)).abs().max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_step_is_that_of_the_weighted_sum(tmp_path, packed, steps):
    size = {"per_device_train_batch_size": 6 // steps, "gradient_accumulation_steps": steps}
    ours = trained(WeightedTrainer, ROWS, tmp_path, collate=Collate(2, packed=packed), **size)
    expected = plain_step(ROWS)
    assert (ours - expected).abs().max() < 2e-6
    assert (ours - plain_step(ONES)).abs().max() > 1e-3, "weights count"


WORKER = """
import sys
import torch
from test_trainer import ROWS, Collate, WeightedTrainer, trained
found = trained(WeightedTrainer, ROWS, sys.argv[1], collate=Collate(2),
                per_device_train_batch_size=1, gradient_accumulation_steps=3)
if torch.distributed.get_rank() == 0:
    torch.save(found, sys.argv[1] + "/found.pt")
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(tmp_path):
    """Over gloo: the labels of both are counted, the gradients averaged."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    paths = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests"), str(Path(__file__).parent)])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--standalone", str(script), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert (found - plain_step(ROWS)).abs().max() < 2e-6


def test_collating_keeps_weights_with_their_tokens():
    padded, packed = Collate(2)(ROWS[:2]), Collate(2, packed=True)(ROWS[:2])
    assert padded["input_ids"].shape == (2, 20)
    assert padded["labels"][1].tolist() == [-100, *ROWS[1]["input_ids"][1:], *[-100] * 7]
    assert padded["loss_weights"][1, :13].tolist() == pytest.approx(ROWS[1]["loss_weights"])
    assert padded["loss_weights"][1, 13:].tolist() == [0] * 7
    assert padded["attention_mask"].sum(1).tolist() == [20, 13]
    assert packed["input_ids"].shape == (1, 33)
    assert packed["position_ids"][0].tolist() == [*range(20), *range(13)]
    assert packed["labels"][0, 20] == -100
    assert "attention_mask" not in packed
    assert Collate(2, length=5)(ROWS)["loss_weights"].shape == (6, 5)


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"input_ids": [1, 2], "loss_weights": [1.0]}, "2 input_ids and 1 loss_weights"),
        ({"input_ids": [1, 2], "loss_weights": [[1.0], [1.0]]}, "and (2, 1) loss_weights"),
        (
            {"input_ids": [1, 2], "loss_weights": [1.0, None]},
            "holds [1.0, None]; allowed: numbers",
        ),
        ({"input_ids": [1], "loss_weights": [-1.0]}, "loss_weights holds -1.0; allowed"),
        ({"input_ids": [1], "loss_weights": [math.nan]}, "loss_weights holds nan; allowed"),
    ],
)
def test_wrong_weights_are_one_line(row, line):
    with pytest.raises(UsageError) as error:
        Collate(2)([row])
    assert line in str(error.value)


@pytest.mark.slow
def test_a_trainer_that_would_drop_the_weights_is_refused(tmp_path):
    with pytest.raises(UsageError, match="allowed: TrainingArguments\\(remove_unused_columns=F"):
        trained(WeightedTrainer, ROWS, tmp_path, collate=Collate(2), remove_unused_columns=True)
    with pytest.raises(UsageError, match=r"allowed: data_collator=probe\.training"):
        trained(WeightedTrainer, ROWS, tmp_path, collate=NoWeights(2))


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops(tmp_path):
    """With its step, and the last checkpoint kept."""
    with pytest.raises(ProbeError, match="step 2: the loss is nan; training stops"):
        trained(
            WeightedTrainer,
            ROWS,
            tmp_path,
            collate=Collate(2),
            learning_rate=1e30,
            max_steps=3,
            save_strategy="steps",
            save_steps=1,
        )
    assert (tmp_path / "checkpoint-1").is_dir()


CONTEXT, STRIDE = 6, 4


@torch.inference_mode()
def plainly(model, ids):
    """Losses behind short contexts, one forward each."""
    found = np.full(len(ids), np.nan)
    for token in range(len(ids)):
        start = (token - CONTEXT) // STRIDE * STRIDE
        if start >= STRIDE:
            given = torch.tensor([ids[start : token + 1]])
            logp = torch.log_softmax(model(input_ids=given).logits[0, -2].double(), -1)
            found[token] = -float(logp[ids[token]])
    return found


def test_short_losses_are_those_of_plain_forwards():
    model = tiny("llama", num_hidden_layers=2)
    batch = Collate(2)(ROWS)
    for rows in (1, 64):
        found = short_losses(
            model,
            batch["input_ids"],
            batch["labels"],
            context=CONTEXT,
            stride=STRIDE,
            rows=rows,
        )
        for row, own in zip(ROWS, found.numpy(), strict=True):
            ids = row["input_ids"]
            assert np.allclose(own[: len(ids)], plainly(model, ids), atol=1e-4, equal_nan=True)
            assert np.isnan(own[len(ids) :]).all()


@pytest.mark.slow
def test_online_longce_is_longce_with_the_models_own_deltas(tmp_path):
    model = tiny("llama", num_hidden_layers=2)
    rows = []
    for row in ROWS:
        ids = torch.tensor([row["input_ids"]])
        with torch.inference_mode():
            logp = torch.log_softmax(model(input_ids=ids).logits[0, :-1].double(), -1)
        long = np.append(np.nan, -logp.gather(1, ids[0, 1:, None])[:, 0].numpy())
        delta = np.nan_to_num(plainly(model, row["input_ids"]) - long)
        rows.append({**row, "loss_weights": np.minimum(np.exp(delta), 3.0).tolist()})
    with_context = type("Online", (OnlineLongCETrainer,), {})

    def online(**given):
        return with_context(**given, context=CONTEXT, stride=STRIDE, gamma=3.0)

    found = trained(online, ONES, tmp_path, collate=Collate(2), per_device_train_batch_size=6)
    assert (found - plain_step(rows)).abs().max() < 5e-6
    assert (found - plain_step(ONES)).abs().max() > 1e-3


@pytest.mark.slow
def test_online_longce_refuses_what_it_cannot_read(tmp_path):
    def online(**given):
        return OnlineLongCETrainer(**given, context=CONTEXT, stride=STRIDE)

    with pytest.raises(UsageError, match="sequences are packed"):
        trained(online, ONES, tmp_path, collate=Collate(2, packed=True))
    with pytest.raises(UsageError, match="context is 0"):
        OnlineLongCETrainer(model=tiny("llama"), args=arguments(tmp_path), context=0, stride=STRIDE)
