"""A study from the first piece to the last: data, models, scores of the data, measured runs.

Each piece that is done stays done; the same call goes on with the others.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
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
from probe.runs.experiment import Experiment
from probe.runs.experiment import prepare as prepare_run
from probe.runs.identity import readable
from probe.runs.rows import Progress as Scored
from probe.runs.run import run
from probe.text import counted, shown
from probe.training import rules
from probe.training.study import RANDOM, SCORING, START, STORED, Study, Trained, naming
from probe.training.study_data import (
    HELD_OUT,
    TRAINING,
    StudyData,
    chosen,
    held_out_data,
    prepare,
    training_data,
)
from probe.training.train_arm import MODEL, Material, refuse_unfit, train_arm
from probe.training.weigh import short_context, weigh, weighed

RECORD = "study.json"
_MAY_CHANGE = ("arms", "seeds", "measures", "rules")
"""What may be added to a study that has begun."""
Step = Callable[[int, int | None, str], None]
"""Called with what is done, of how much, and a note."""
Work = Callable[[str, str], AbstractContextManager[Step]]
"""What a piece of work is shown by: what is done, and what is counted."""


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
        begun = begin(study, folder)
        missing = [one for one in models(study) if _missing(study, folder, one)]
        total = len(list(models(study)))
        if not missing:
            _write_record(study, folder, begun)
            return folder
        if not begun:  # data of a call that was refused, which may have had others
            with disk_errors(folder):
                for name in (HELD_OUT, TRAINING):
                    (folder / name).unlink(missing_ok=True)
        say(f"{counted(total, 'model')}, {total - len(missing):,} of them trained and measured")
        with work("Reading documents", "document"):
            data = prepare(study, folder, say)
        parts = [*study.measures, *([SCORING] if study.needs_scores else [])]
        for part in parts:  # what is wrong is told before hours of training
            planned_run(study, data, folder, part)
        refuse_unfit(study, data)
        _write_record(study, folder, begun)
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
                    model,
                    own,
                    listen=lambda done, of, loss: step(done, of, f"loss {loss:.3f}"),
                )
    for measure in _missing(study, folder, model):
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


def planned_run(study: Study, data: StudyData, folder: Path, part: str) -> Experiment:
    """What a measure, or the scoring of the training data, reads; the model is not loaded.

    Args:
        study: The study.
        data: Its data.
        folder: Where they are.
        part: A name of ``measures``, or ``scoring``.

    Raises:
        ProbeError: If it does not fit the data, or the model.
    """
    of = training_data(folder) if part == SCORING else held_out_data(folder)
    with naming(part if part == SCORING else f"measures.{part}"):
        experiment = prepare_run(
            study.run(part, name="plan", model=data.source.location.path, data=of)
        )
        experiment.check_sources()
        longest, windows = max(len(piece.ids) for piece in data.pieces), experiment.config.windows
        if part == SCORING and (windows.skip or (windows.length or longest) < longest):
            raise UsageError(
                f"windows.length is {windows.length}, skip {windows.skip}; allowed: {longest} or "
                "more and 0, so that every token of the longest training piece is scored"
            )
        return experiment


def begin(study: Study, folder: Path) -> dict[str, Any]:
    """See that a study is the one that a folder holds.

    Returns:
        What was written down of it; nothing where it has not begun.

    Raises:
        UsageError: If it is another one.
        ProbeError: If the record cannot be read.
    """
    own, known = study.model_dump(mode="json"), _record(folder / RECORD)
    for key in own if known else ():
        pairs = [] if key in _MAY_CHANGE else [(key, known.get(key), own[key])]
        if key == "arms":
            both = [arm for arm in own[key] if arm in known[key]]
            pairs = [
                (f"arms.{arm}", _trained(known[key][arm]), _trained(own[key][arm])) for arm in both
            ]
            pairs.append(("the first arm", next(iter(known[key])), study.first))
        for name, before, now in pairs:
            if before != now:
                raise UsageError(
                    f"{folder} was begun with {name} {shown(before)}; the configuration has "
                    f"{shown(now)}; allowed: the same, or another name"
                )
    return known


def _trained(arm: Mapping[str, Any]) -> dict[str, Any]:
    """What of an arm says how it is trained."""
    return {name: value for name, value in arm.items() if name != "against"}


def _write_record(study: Study, folder: Path, known: Mapping[str, Any]) -> None:
    """Write down what a study is, where that is not what is *known*."""
    own, path = study.model_dump(mode="json"), folder / RECORD
    # An arm that is left out this time has models here: its name is not free for another one.
    own["arms"] = own["arms"] | {
        arm: how for arm, how in known.get("arms", {}).items() if arm not in own["arms"]
    }
    if known != own:
        with disk_errors(path), atomic_write(path) as scratch:
            # Every digit counts: it is compared with what a configuration says.
            text = json.dumps(own, indent=2, ensure_ascii=False)
            scratch.write_text(f"{text}\n", encoding="utf-8")


def has_data(study: Study, folder: Path) -> bool:
    """Whether a folder holds the data of this very study."""
    if not all((folder / name).is_file() for name in (HELD_OUT, TRAINING)):
        return False
    own, known = study.model_dump(mode="json"), _record(folder / RECORD)
    return all(known.get(key) == own[key] for key in own if key not in _MAY_CHANGE)


def _record(path: Path) -> dict[str, Any]:
    """What was written down of a study, nothing where it has not begun."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ProbeError(f"{path} cannot be read: {error}") from error
    if not isinstance(known, dict) or not isinstance(known.get("arms"), dict) or not known["arms"]:
        raise ProbeError(f"{path} holds {shown(known)}; allowed: what probe train wrote")
    return known


def _missing(study: Study, folder: Path, model: Trained) -> list[str]:
    """Measures that are not complete of a model; where none is its weights are needed no more."""
    return [one for one in study.measures if not _is_complete(study, folder, one, model)]


def _is_complete(study: Study, folder: Path, measure: str, model: Trained) -> bool:
    own = run_folder(folder, measure, model)
    record = readable(Store(own).read_record(), own)
    if record is None or record.get("status") != "complete":
        return False
    config = study.run(measure, name=model.name, model="model", data={"path": "stdlib"})
    before, wanted = record["config"], config.model_dump(mode="json")
    if any(before.get(key) != wanted[key] for key in wanted if key not in _ELSEWHERE):
        return False
    return all(before["model"].get(key) == wanted["model"][key] for key in ("dtype", "attention"))


_ELSEWHERE = ("model", "data", "analysis", "batch", "name")
"""Keys of a run's configuration that do not say what is measured."""
