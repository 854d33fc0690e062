"""Training of one arm from one seed, on transformers' Trainer; it goes on from its checkpoints."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from probe.errors import ProbeError, UsageError
from probe.models.device import resolve_device
from probe.models.load import load_model
from probe.results.files import disk_errors
from probe.text import one_line, shown
from probe.training.collate import Collate
from probe.training.study import Study, Trained, auxiliary
from probe.training.study_data import StudyData
from probe.training.trainer import OnlineLongCETrainer, WeightedTrainer
from probe.training.training_data import WEIGHTS

CHECKPOINTS, MODEL, FACTS = "checkpoints", "model", "training.json"
SAVE_SECONDS = 300.0
"""Between two checkpoints, the last two of which are kept."""
_UNWRITTEN = ("Error while serializing", "inline_container")
"""What safetensors and torch say where the disk is full, in no OSError."""
Listener = Callable[[int, int, float], None]
"""Called behind every step with its number, the number of all, and its loss."""


@dataclass(frozen=True, eq=False)
class Material:
    """What an arm is trained on.

    Args:
        numbers: Numbers of its pieces.
        weights: Of the tokens of each of them, by the piece's number; without any all weigh 1.
    """

    numbers: Sequence[int]
    weights: Mapping[int, NDArray[np.float32]]


class _InOrderTrainer(WeightedTrainer):
    """Rows come in the order in which they are given: it is drawn before, for all arms alike."""

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(cast(Sized, train_dataset or self.train_dataset))


class _InOrderOnlineTrainer(_InOrderTrainer, OnlineLongCETrainer):
    """The same of LongCE online."""


class _Steps(TrainerCallback):
    """Tells of every step, and saves from time to time."""

    def __init__(self, listen: Listener) -> None:
        self.listen, self.loss, self.saved = listen, float("nan"), time.monotonic()
        self.begun = False

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.loss = kwargs["logs"].get("loss", self.loss)

    def on_step_end(self, args: Any, state: Any, control: Any, **_kwargs: Any) -> None:
        self.begun = True
        self.listen(state.global_step, state.max_steps, self.loss)
        if time.monotonic() - self.saved >= SAVE_SECONDS and state.global_step < state.max_steps:
            self.saved, control.should_save = time.monotonic(), True


def steps_of(study: Study) -> int:
    """Steps of every arm: as many whole batches as the tokens are, one at least."""
    return max(1, round(study.tokens / (study.batch * study.length)))


def train_arm(
    study: Study,
    data: StudyData,
    material: Material,
    trained: Trained,
    folder: Path,
    listen: Listener = lambda *_: None,
) -> None:
    """Train a model, and write it into ``folder/model``; where it is there nothing is done.

    Args:
        study: The study.
        data: Its data.
        material: What of it the arm is trained on.
        trained: Its arm, and the seed of new weights and of the order of the pieces, which is the
            same in all arms with the same pieces.
        folder: Where checkpoints are kept, and the model is written.
        listen: Called behind every step.

    Raises:
        UsageError: If an argument of the trainer is unknown, or does not fit.
        ProbeError: If a loss is no number, which the last checkpoint outlives, the last checkpoint
            cannot be read, or memory or the disk is full.
    """
    if (folder / MODEL).is_dir():
        return
    steps, seed = steps_of(study), trained.seed
    assert seed is not None, "the start is trained no more"
    order = _order(material.numbers, steps * study.batch, seed)
    model = start_model(study, data, seed)
    options, started = study.arms[trained.arm], time.perf_counter()
    given: dict[str, Any] = {"auxiliary": [auxiliary(text) for text in options.auxiliary]}
    given["shuffled"] = seed if options.shuffled else None
    trainer: type[WeightedTrainer] = _InOrderTrainer
    if options.online is not None:
        trainer = _InOrderOnlineTrainer
        given |= options.online.model_dump() | {"bos": data.bos}
    padding = getattr(data.source.tokenizer, "pad_token_id", None) or 0
    rows = [_row(data, material, number) for number in order]
    last, told = _last_checkpoint(folder / CHECKPOINTS), _Steps(listen)
    with disk_errors(folder), _one_line_errors(study, folder, last, told):
        made = trainer(
            model=model,
            args=_arguments(study, steps, seed, folder),
            train_dataset=rows,
            data_collator=Collate(padding),
            callbacks=[told],
            **given,
        )
        made.remove_callback(PrinterCallback)
        made.train(resume_from_checkpoint=last)
        facts = {
            "arm": trained.arm,
            "seed": seed,
            "steps": steps,
            "tokens": sum(len(row["input_ids"]) for row in rows),
            "pieces": len(material.numbers),
            "seconds": round(time.perf_counter() - started, 1),
            "loss": told.loss,
            "losses": [
                [entry["step"], entry["loss"]]
                for entry in made.state.log_history
                if "loss" in entry
            ],
        }
        _write(model, data, folder, facts)


@contextmanager
def _one_line_errors(
    study: Study, folder: Path, checkpoint: str | None, steps: _Steps
) -> Iterator[None]:
    """What others say of a full disk or memory, a checkpoint, or arguments, as errors of ours."""
    try:
        yield
    except ProbeError:
        raise
    except Exception as error:
        reason = one_line(error)
        if isinstance(error, torch.OutOfMemoryError):
            raise ProbeError(f"{folder}: {reason}; allowed: a smaller batch or length") from error
        if any(words in str(error) for words in _UNWRITTEN):
            raise ProbeError(
                f"cannot write {folder}: {reason}; free some space and run the same command again, "
                "which goes on from the last checkpoint"
            ) from error
        if checkpoint is not None and not steps.begun:
            raise ProbeError(
                f"{checkpoint} cannot be read: {reason}; remove it: training goes on from the "
                "checkpoint before it, or begins again"
            ) from error
        if study.trainer and not steps.begun:
            raise UsageError(f"trainer {shown(study.trainer)}: {reason}") from error
        raise


def start_model(study: Study, data: StudyData, seed: int) -> PreTrainedModel:
    """The model that training starts from; a new one is drawn by the seed."""
    model: Any
    if study.model.path is None:
        torch.manual_seed(seed)
        try:
            model = AutoModelForCausalLM.from_config(data.source.config)
        except Exception as error:  # whatever sizes that do not fit lead to
            raise UsageError(f"model.config: {one_line(error)}") from error
        model.to(resolve_device(study.model.device))
    else:
        model = load_model(data.source, dtype="float32", device=study.model.device).model
        if study.model.frozen_layers:
            _freeze(model, study.model.frozen_layers)
    trained: PreTrainedModel = model.train()
    return trained


def refuse_unfit(study: Study, data: StudyData) -> None:
    """Refuse what no arm could be trained with, before the model is loaded.

    Raises:
        UsageError: If there are fewer layers than are to be frozen, or an argument of the trainer
            is unknown.
    """
    size = int(data.source.config.get_text_config().num_hidden_layers)
    if (count := study.model.frozen_layers) >= size:
        raise UsageError(
            f"model.frozen_layers is {count}; allowed: 0 to {size - 1}, one layer is trained"
        )
    _arguments(study, 1, 0, Path())


def _freeze(model: PreTrainedModel, count: int) -> None:
    """Leave the lowest layers and the embeddings, a head that is tied to them too, as they are."""
    size = int(model.config.get_text_config().num_hidden_layers)
    lists = [one for one in model.modules() if isinstance(one, torch.nn.ModuleList)]
    layers = next((one for one in lists if len(one) == size), None)
    if layers is None:
        raise UsageError(
            f"model.frozen_layers is {count}; allowed: 0, or a model whose layers are one list"
        )
    for part in (model.get_input_embeddings(), *layers[:count]):
        part.requires_grad_(False)


def _arguments(study: Study, steps: int, seed: int, folder: Path) -> TrainingArguments:
    given: dict[str, Any] = {
        "output_dir": str(folder / CHECKPOINTS),
        "max_steps": steps,
        "per_device_train_batch_size": study.batch,
        "learning_rate": study.learning_rate,
        "warmup_steps": int(steps * study.warmup),
        "lr_scheduler_type": "cosine",
        "seed": seed,
        "remove_unused_columns": False,
        "save_strategy": "no",  # by time: see _Steps
        "save_total_limit": 2,
        "logging_steps": max(1, steps // 50),
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "use_cpu": resolve_device(study.model.device).type == "cpu",
    }
    try:
        return TrainingArguments(**(given | study.trainer))
    except (TypeError, ValueError, ImportError) as error:
        reason = one_line(error).replace(
            "TrainingArguments.__init__() got an unexpected", "unknown"
        )
        raise UsageError(f"trainer: {reason}") from error


def _order(numbers: Sequence[int], rows: int, seed: int) -> list[int]:
    """Pieces, each as often as any other before it comes again, until there are so many rows."""
    rng, order = np.random.default_rng([seed, 0]), list[int]()
    while len(order) < rows:
        order += [numbers[at] for at in rng.permutation(len(numbers))]
    return order[:rows]


def _row(data: StudyData, material: Material, number: int) -> dict[str, Any]:
    ids, weights = data.pieces[number].ids, material.weights.get(number)
    front = [] if data.bos is None else [data.bos]
    row: dict[str, Any] = {"input_ids": np.concatenate([front, ids]).astype(np.int64)}
    if weights is not None:
        row[WEIGHTS] = np.concatenate([np.ones(len(front)), weights]).astype(np.float32)
    return row


def _last_checkpoint(folder: Path) -> str | None:
    """The last checkpoint that is whole; what was cut off while it was written goes."""
    found: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        try:
            state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            for name in ("optimizer.pt", "scheduler.pt"):  # without them it would begin them anew
                (path / name).stat()
            found.append((int(state["global_step"]), path))
        except (OSError, ValueError, KeyError, TypeError):  # its state is written last
            shutil.rmtree(path, ignore_errors=True)
    return str(max(found)[1]) if found else None


def _write(model: PreTrainedModel, data: StudyData, folder: Path, facts: dict[str, Any]) -> None:
    """The model as transformers reads it, whole or not at all; checkpoints are then needless."""
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        raise ProbeError(f"{folder}: weights are no numbers; allowed: a smaller learning rate")
    scratch = folder / f".{MODEL}.probe"
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(scratch)
    if data.source.tokenizer is not None:
        data.source.tokenizer.save_pretrained(scratch)
    (scratch / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    scratch.rename(folder / MODEL)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
