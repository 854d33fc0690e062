"""What a study costs, counted before anything is trained: tokens, FLOPs, time."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from probe.runs.plan import costs, planned_batch
from probe.training.study import SCORING, Arm, Study, auxiliary
from probe.training.study_data import StudyData, prepare
from probe.training.study_run import has_data, planned_run
from probe.training.token_loss import short_tokens, token_losses
from probe.training.train_arm import start_model, steps_of

BACKWARD = 2
"""What a backward pass costs, in forward passes over the same tokens."""


@dataclass(frozen=True)
class ArmCost:
    """What an arm costs, one seed.

    Args:
        arm: Its name; ``start`` is measured alone.
        trained: Tokens that it is trained on, with the padding of shorter pieces.
        epochs: How often it passes over its documents, which may be a share of all.
        forwards: Tokens as often as one is forwarded or gone back through, everything counted:
            training, scoring of the data, measuring.
        models: How many models it has.
    """

    arm: str
    trained: int
    epochs: float
    forwards: float
    models: int


@dataclass(frozen=True)
class StudyCost:
    """What a study costs.

    Args:
        arms: Each of them.
        pieces: Training pieces that there are.
        data_tokens: Tokens in them.
        held_out: Documents that are held out.
        parameters: Of the model, those of the embeddings too.
        seconds_per_token: Of a forward pass on this machine, as one training step had them;
            ``None`` where it was not timed.
    """

    arms: tuple[ArmCost, ...]
    pieces: int
    data_tokens: int
    held_out: int
    parameters: int
    seconds_per_token: float | None

    @property
    def forwards(self) -> float:
        """Tokens of all models, as often as they are forwarded or gone back through."""
        return sum(arm.forwards * arm.models for arm in self.arms)

    def flops(self, forwards: float) -> float:
        """Floating-point operations of forward passes over so many tokens, attention left out."""
        return 2.0 * self.parameters * forwards


def study_cost(study: Study, results: Path, *, timed: bool) -> StudyCost:
    """Count what a study would forward and train.

    Args:
        study: The study.
        results: The folder that holds its folder, whose data are read where they are there.
        timed: Whether one training step is taken, to say how long all take.

    Raises:
        UsageError: If it does not fit its data or its model.
        ProbeError: If there are too few documents.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = results / study.name
        if not has_data(study, folder):
            folder = Path(scratch)
        data = prepare(study, folder)
        measured = sum(_measured(study, data, folder, part) for part in study.measures)
        scored = 0.0
        if study.needs_scores:
            scored = _measured(study, data, folder, SCORING)
        model = start_model(study, data, study.seeds[0])
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        parameters = sum(p.numel() for p in model.parameters())
        trained = steps_of(study) * study.batch * study.length
        arms = [ArmCost("start", 0, 0, measured, 1)] if study.model.path is not None else []
        if study.model.path is not None:
            scored /= len(study.seeds)  # one start scores them for all seeds
        paid = False
        for name, arm in study.arms.items():
            # What scores the data does so once for all arms that ask for it.
            own = scored if arm.needs_scores and not paid else 0
            paid = paid or bool(own)
            forwards = trained * _passes(study, data, arm, trainable / parameters) + measured + own
            share = 1.0 if arm.documents is None else arm.documents.share
            epochs = steps_of(study) * study.batch / (share * len(data.pieces))
            arms.append(ArmCost(name, trained, epochs, forwards, len(study.seeds)))
        seconds = _seconds(study, data, model, trainable / parameters) if timed else None
        return StudyCost(
            tuple(arms), len(data.pieces), data.tokens, data.held_out, parameters, seconds
        )


def _measured(study: Study, data: StudyData, folder: Path, part: str) -> int:
    """Tokens that a measure forwards."""
    experiment = planned_run(study, data, folder, part)
    return costs(experiment, planned_batch(experiment.config), set()).tokens


def _passes(study: Study, data: StudyData, arm: Arm, trainable: float) -> float:
    """How often a token of the data is forwarded or gone back through, on average."""
    whole = 1 + BACKWARD * trainable
    passes = whole
    if arm.online is not None:
        context, stride = arm.online.context, arm.online.stride
        tokens = short_tokens(study.length, context=context, stride=stride, bos=data.bos)
        passes += tokens / study.length
    for text in arm.auxiliary:
        passes += whole * auxiliary(text).forwarded / study.length
    return passes


def _seconds(study: Study, data: StudyData, model: torch.nn.Module, trainable: float) -> float:
    """Seconds of a forward pass a token: those of the second of two training steps."""
    device = next(model.parameters()).device
    rows = [torch.tensor(data.pieces[n % len(data.pieces)].ids) for n in range(study.batch)]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).long().to(device)
    for _ in range(2):
        started = time.perf_counter()
        token_losses(model(input_ids=ids, use_cache=False).logits, ids).mean().backward()  # type: ignore[no-untyped-call]
        model.zero_grad()
    return (time.perf_counter() - started) / (ids.numel() * (1 + BACKWARD * trainable))
