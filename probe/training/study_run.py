"""A study from the first piece to the last: data, models, scores of the data, measured runs.

Each piece that is done stays done; the same call goes on with the others.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.open_run import OpenRun
from probe.config import Config
from probe.errors import ProbeError, UsageError
from probe.results.files import atomic_write, disk_errors
from probe.results.scores import Store
from probe.runs.rows import Progress as Scored
from probe.runs.run import run
from probe.text import counted, json_text, shown
from probe.training import rules
from probe.training.study import RANDOM, STORED, Study, auxiliary
from probe.training.study_data import (
    StudyData,
    chosen,
    held_out_data,
    prepare,
    training_data,
)
from probe.training.train_arm import MODEL, Material, train_arm
from probe.training.weigh import short_context, weigh, weighed

RECORD = "study.json"
START = "start"
"""What the model that training starts from is called, where it is measured too."""
_MAY_CHANGE = ("arms", "seeds", "measures")
"""What may be added to a study that has begun."""
Step = Callable[[int, int | None, str], None]
"""Called with what is done, of how much, and a note."""
Work = Callable[[str, str], AbstractContextManager[Step]]
"""What a piece of work is shown by: what is done, and what is counted."""


@dataclass(frozen=True)
class Trained:
    """A model of a study.

    Args:
        arm: Its arm; ``start`` is the model that training starts from.
        seed: Its seed, ``None`` of the start.
    """

    arm: str
    seed: int | None

    @property
    def name(self) -> str:
        """Of its runs, and of its folder."""
        return self.arm if self.seed is None else f"{self.arm}-{self.seed}"


def models(study: Study) -> Iterator[Trained]:
    """The models that are measured: the start where it has learned something, and every arm."""
    if study.model.path is not None:
        yield Trained(START, None)
    for seed in study.seeds:
        for arm in study.arms:
            yield Trained(arm, seed)


def run_folder(folder: Path, measure: str, model: Trained) -> Path:
    """Where a model's run of a measure is."""
    return folder / "runs" / measure / model.name


def train(
    study: Study,
    results: Path,
    *,
    work: Work = lambda *_: nullcontext(lambda *_: None),
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train and measure what is missing of a study.

    Args:
        study: The study.
        results: The folder that holds the folder of the study.
        work: What shows a piece of work.
        say: Called with lines worth telling a user.

    Returns:
        The folder of the study.

    Raises:
        UsageError: If it does not fit its data, its model or what the folder holds.
        ProbeError: If a loss is no number, or the disk is full.
    """
    folder = results / study.name
    with Store(folder).locked():
        begin(study, folder)
        missing = [one for one in models(study) if not _is_measured(study, folder, one)]
        total = len(list(models(study)))
        if not missing:
            return folder
        say(f"{counted(total, 'model')}, {total - len(missing):,} of them trained and measured")
        with work("Reading documents", "document"):
            data = prepare(study, folder, say)
        _refuse_short(study, data)
        say(
            f"{counted(len(data.pieces), 'training piece')} of up to {study.length:,} tokens, "
            f"{data.tokens:,} in all; {counted(data.held_out, 'document')} held out"
        )
        for one in missing:
            _finish(study, data, folder, one, work, say)
    return folder


def _finish(
    study: Study,
    data: StudyData,
    folder: Path,
    model: Trained,
    work: Work,
    say: Callable[[str], None],
) -> None:
    """Train a model where it is not there, and measure it."""
    path = study.model.path or ""
    if model.seed is not None:
        own = folder / "models" / model.name
        path = str(own / MODEL)
        if not Path(path).is_dir():
            material = _material(study, data, folder, model, work, say)
            with work(f"{model.name}: training", "step") as step:
                train_arm(
                    study,
                    data,
                    material,
                    arm=model.arm,
                    seed=model.seed,
                    folder=own,
                    listen=lambda done, of, loss: step(done, of, f"loss {loss:.3f}"),
                )
    for measure in study.measures:
        config = study.run(measure, name=model.name, model=path, data=held_out_data(folder))
        _measure(config, folder / "runs" / measure, f"{model.name}: {measure}", work, say)


def _measure(
    config: Config, results: Path, doing: str, work: Work, say: Callable[[str], None]
) -> Path:
    def listen(scored: Scored) -> None:
        step(scored.windows, scored.total, f"{scored.tokens / scored.seconds:,.0f} tokens/s")

    with work(doing, "window") as step:
        return run(config, results, listen=listen, say=say)


def _material(
    study: Study,
    data: StudyData,
    folder: Path,
    model: Trained,
    work: Work,
    say: Callable[[str], None],
) -> Material:
    """What an arm is trained on: pieces by score, weights by rule."""
    arm, numbers = study.arms[model.arm], list(range(len(data.pieces)))
    assert model.seed is not None
    weights: dict[int, NDArray[np.float32]] = {}
    if arm.weights == STORED:
        weights = {n: one.weights for n, one in enumerate(data.pieces) if one.weights is not None}
    if not arm.needs_scores:
        if arm.documents is not None:
            numbers = chosen(data.pieces, arm.documents, None, model.seed)
        return Material(numbers, weights)
    with OpenRun.of_folder(_scored(study, folder, model.seed, work, say), write=False) as opened:
        short = short_context(opened)
        if arm.documents is not None:
            scores = pd.DataFrame()
            if arm.documents.score != RANDOM:
                rule = rules.parse(arm.documents.score, "document")
                scores = weigh(opened, rules.parse("longce"), rule, short=short).documents
            numbers = chosen(data.pieces, arm.documents, scores, model.seed)
        if arm.weights not in (None, STORED):
            for one in weighed(opened, short, rules.parse(arm.weights)):
                weights[int(one.document)] = one.weights.astype(np.float32)
    return Material(numbers, weights)


def _scored(study: Study, folder: Path, seed: int, work: Work, say: Callable[[str], None]) -> Path:
    """The run that scores the training pieces, by the first arm's model or by the start."""
    by = Trained(START, None) if study.model.path is not None else Trained(study.first, seed)
    path = study.model.path or str(folder / "models" / by.name / MODEL)
    if study.model.path is None and not Path(path).is_dir():
        raise ProbeError(
            f"{path} is missing, which scores the training data; allowed: the model of arm "
            f"{study.first}, or a new folder"
        )
    config = study.run("scoring", name=by.name, model=path, data=training_data(folder))
    return _measure(config, folder / "runs" / "scoring", f"{by.name}: scoring the data", work, say)


def begin(study: Study, folder: Path) -> None:
    """Write down what a study is, or see that it is the one that was begun.

    Raises:
        UsageError: If it is another one.
        ProbeError: If the record cannot be read or written.
    """
    own, path = study.model_dump(mode="json"), folder / RECORD
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = {}
    except (OSError, ValueError) as error:
        raise ProbeError(f"{path} cannot be read: {error}") from error
    for key in own if known else ():
        pairs = [] if key in _MAY_CHANGE else [(key, known.get(key), own[key])]
        if key == "arms":
            both = [arm for arm in own[key] if arm in known[key]]
            pairs = [(f"arms.{arm}", known[key][arm], own[key][arm]) for arm in both]
            pairs.append(("the first arm", next(iter(known[key])), study.first))
        for name, before, now in pairs:
            if before != now:
                raise UsageError(
                    f"{folder} was begun with {name} {shown(before)}; the configuration has "
                    f"{shown(now)}; allowed: the same, or another name"
                )
    if known != own:
        with disk_errors(path), atomic_write(path) as scratch:
            scratch.write_text(json_text(own), encoding="utf-8")


def _is_measured(study: Study, folder: Path, model: Trained) -> bool:
    """Whether every measure of a model is complete; its weights are then needed no more."""
    for measure in study.measures:
        own = run_folder(folder, measure, model)
        record = Store(own).read_record()
        if record is None or record.get("status") != "complete":
            return False
        config = study.run(measure, name=model.name, model="model", data={"path": "stdlib"})
        wanted = config.model_dump(mode="json")
        if any(record["config"].get(key) != wanted[key] for key in wanted if key not in _ELSEWHERE):
            return False
    return True


_ELSEWHERE = ("model", "data", "analysis", "batch", "name")
"""Keys of a run's configuration that do not say what is measured."""


def _refuse_short(study: Study, data: StudyData) -> None:
    """Refuse an auxiliary loss that no piece is long enough for."""
    for name, arm in study.arms.items():
        for text in arm.auxiliary:
            if (need := auxiliary(text).fewest) > study.length:
                raise UsageError(
                    f"arms.{name}: {text} needs {need:,} tokens; allowed: up to {study.length:,}, "
                    "the length of a training piece"
                )
