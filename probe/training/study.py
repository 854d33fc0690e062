"""The configuration of a study: what is trained on what, in several arms and from several seeds."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from probe.calls import Syntax, literal
from probe.config import Config, DataConfig, OwnFile, check
from probe.errors import ProbeError, UsageError
from probe.fields import Part
from probe.protocols import registry
from probe.text import shown, suggestion
from probe.training import rules
from probe.training.auxiliary import Auxiliary
from probe.training.next_segment import NextSegment
from probe.training.segment_order import SegmentOrder
from probe.training.training_data import FACTS
from probe.yaml_file import changed, keys_of_parts, mistakes, read_file, refuse_unusable

AUXILIARY: Mapping[str, type[Auxiliary]] = {
    "next_segment": NextSegment,
    "segment_order": SegmentOrder,
}
"""Losses of whole documents by the name that a configuration has for them."""
RANDOM = "random"
"""A score that ranks pieces at random."""
STORED = "stored"
"""The weights that come with data of `probe weigh --to`, in place of a rule."""
OURS = frozenset(
    {"output_dir", "max_steps", "num_train_epochs", "per_device_train_batch_size", "seed"}
    | {"learning_rate", "warmup_steps", "lr_scheduler_type", "remove_unused_columns"}
    | {"save_strategy", "save_total_limit", "disable_tqdm", "data_seed", "use_cpu"}
)
"""Arguments of transformers that follow from other keys."""
REFUSED = frozenset(
    {"gradient_accumulation_steps", "auto_find_batch_size"}  # other tokens than the study says
    | {"ignore_data_skip", "save_only_model", "load_best_model_at_end"}  # no going on as before
    | {"eval_strategy", "do_eval", "push_to_hub"}  # held-out documents are for the measures alone
)
"""Arguments of transformers that a study does not take."""
START, SCORING = "start", "scoring"
"""What the model that training starts from is called, and the runs that score training data."""
TAKEN = (START, SCORING)
"""Names that no arm and no measure may have: their runs would be those of others."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_SYNTAX = Syntax("auxiliary loss", "next_segment(weight=0.1)")


class StartConfig(Part):
    """The model that training starts from: a new one, or one that is there."""

    config: dict[str, Any] | None = None
    """of a new model: model_type and sizes, in the words of transformers"""
    path: str | None = None
    """of one that is there: hub name, folder, GGUF file, or package://<package>/<model>"""
    revision: str | None = None
    """branch, tag or commit on the hub"""
    frozen_layers: Annotated[int, Field(ge=0)] = 0
    """lowest layers that stay as they are, with the embeddings; 0 trains all"""
    device: str = "auto"
    """auto: CUDA where there is one, else the CPU"""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.config is None) == (self.path is None):
            raise ValueError("allowed: either config (a new model) or path (one that is there)")
        if self.config is not None:
            if "model_type" not in self.config:
                raise ValueError("config: model_type is missing, such as llama")
            if self.frozen_layers:
                raise ValueError(
                    "frozen_layers: allowed with path: a new model has learned nothing"
                )
        return self


class TokenizerConfig(Part):
    """A tokenizer that is made of the training texts."""

    kind: Literal["bpe", "words"] = "bpe"
    """bpe: byte pair encoding; words: what blanks part is a token"""
    size: Annotated[int, Field(ge=4, le=1_000_000)] = 4096
    """tokens of its vocabulary, at most"""


class OnlineConfig(Part):
    """LongCE with weights of the model that is trained, by a second forward."""

    context: PositiveInt
    """fewest tokens of a short context"""
    stride: PositiveInt
    """by how many tokens it moves"""
    gamma: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 5.0
    """the largest weight"""


class SelectionConfig(Part):
    """The part of the training data that an arm gets."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """of the tokens, in every octave of length"""
    score: str = "mean_delta"
    """what ranks pieces: a score of `probe list`, or random"""

    @field_validator("score")
    @classmethod
    def _known(cls, score: str) -> str:
        return score if score == RANDOM else rules.parse(score, "document").text


class Arm(Part):
    """One way to train: without any key plain cross entropy on all of the data."""

    weights: str | None = None
    """rule of the tokens' weights, such as longce(gamma=5), by deltas of the scoring run; stored:
    those that come with data of `probe weigh --to`"""
    online: OnlineConfig | None = None
    """LongCE with weights of the model that is trained"""
    shuffled: bool = False
    """put the weights on other tokens of the batch: the same weights in the wrong places"""
    auxiliary: list[str] = Field(default_factory=list)
    """losses of whole pieces that are added, such as next_segment(weight=0.1)"""
    documents: SelectionConfig | None = None
    """train on a part of the data"""
    against: list[str] = Field(default_factory=list)
    """arms that it is compared with; by default the first"""

    @field_validator("weights")
    @classmethod
    def _rule(cls, text: str | None) -> str | None:
        return text if text in (None, STORED) else rules.parse(text, "token").text

    @field_validator("auxiliary")
    @classmethod
    def _read(cls, texts: list[str]) -> list[str]:
        for text in texts:
            auxiliary(text)
        return texts

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.weights and self.online:
            raise ValueError("weights and online both weigh tokens; allowed: one of them")
        if self.shuffled and not (self.weights or self.online):
            raise ValueError(
                "shuffled: allowed with weights or online: there is nothing to shuffle"
            )
        return self

    @property
    def needs_scores(self) -> bool:
        """Whether something must be measured of the training data before it is trained."""
        chosen = self.documents is not None and self.documents.score != RANDOM
        return self.weights not in (None, STORED) or chosen


def is_weighed(path: str) -> bool:
    """Whether data come with weights: whether `probe weigh --to` wrote the folder."""
    return (Path(path) / FACTS).is_file()


def auxiliary(text: str) -> Auxiliary:
    """Read a loss of whole pieces: ``next_segment(weight=0.1, context=512)``.

    Raises:
        UsageError: If it cannot be read, is unknown, or has a parameter out of range.
    """
    call = _SYNTAX.call(_SYNTAX.read(text), text)
    if (loss := AUXILIARY.get(call.name)) is None:
        hint = suggestion(call.name, AUXILIARY, f"allowed: {', '.join(AUXILIARY)}")
        raise UsageError(f"there is no loss {shown(call.name)}{hint}")
    parameters = list(inspect.signature(loss).parameters.values())
    try:
        given = call.arguments(parameters, lambda _name, node: literal(node))
    except ValueError as error:
        raise UsageError(f"loss {shown(text)}: {error}") from error
    try:
        return loss(**given)
    except TypeError as error:  # a text where a number belongs
        raise UsageError(f"loss {shown(text)}: allowed: numbers") from error


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


class Study(Part):
    """A whole study: models are trained from every seed in every arm, and measured."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255)]
    """of the study and of its folder in results; the same name goes on where it stopped"""
    model: StartConfig
    tokenizer: TokenizerConfig | None = None
    """null: the one that comes with the model"""
    data: DataConfig
    held_out: PositiveInt
    """documents that no arm is trained on: the measures read them"""
    length: Annotated[int, Field(ge=4)]
    """tokens of a training piece, with the BOS"""
    tokens: PositiveInt
    """that every arm is trained on"""
    batch: PositiveInt = 8
    """pieces of a step"""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """share of the steps in which the learning rate rises; behind them it falls to 0"""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """further TrainingArguments of transformers"""
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(default=[0, 1, 2], min_length=1)
    """of the new weights and of the order of the data; every arm has each"""
    rules: list[OwnFile] = Field(default_factory=list)
    """Python files with rules and scores of your own, beside this file or in the working
    directory"""
    arms: Annotated[dict[str, Arm], Field(min_length=1)]
    """ways to train by name; the first is what the others are compared with"""
    scoring: dict[str, Any] | None = None
    """how the training data are scored, as a configuration of `probe run` without model and data;
    the model is that of the first arm from the same seed, or the one that training starts from"""
    measures: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """what is measured of every trained model, each a configuration of `probe run` without model
    and data"""
    seed: Annotated[int, Field(ge=0)] = 0
    """of the choice of the documents that are held out"""

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        return list(dict.fromkeys(seeds))

    @field_validator("trainer")
    @classmethod
    def _others(cls, given: dict[str, Any]) -> dict[str, Any]:
        if known := sorted(OURS & given.keys()):
            raise ValueError(f"{', '.join(known)} follows from other keys; allowed: others")
        if known := sorted(REFUSED & given.keys()):
            raise ValueError(f"{', '.join(known)} is nothing that a study takes; allowed: others")
        return given

    @field_validator("arms", "measures")
    @classmethod
    def _names(cls, parts: dict[str, Any]) -> dict[str, Any]:
        for name in parts:
            if not _NAME.fullmatch(name) or name in TAKEN:
                raise ValueError(
                    f"{shown(name)}: allowed: names of letters, digits, - and _, 100 at most, the "
                    f"first a letter or digit; not {' or '.join(TAKEN)}"
                )
        return parts

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.model.config is not None and self.tokenizer is None and not self.data.ids_column:
            raise ValueError("tokenizer is missing: a new model has none of its own")
        if self.model.path is not None and self.tokenizer is not None:
            raise ValueError(
                "tokenizer: allowed with model.config: the model at model.path has one"
            )
        if self.tokenizer is not None and self.data.ids_column:
            raise ValueError("tokenizer: allowed with texts: data.ids_column holds token ids")
        for name, arm in self.arms.items():
            if arm.online and arm.online.context + arm.online.stride >= self.length:
                raise ValueError(
                    f"arms.{name}.online: context {arm.online.context:,} and stride "
                    f"{arm.online.stride:,}; allowed: together below {self.length:,}, the length: "
                    "no token has a short context otherwise"
                )
        stored = [name for name, arm in self.arms.items() if arm.weights == STORED]
        if stored and not is_weighed(self.data.path):
            raise ValueError(
                f"arms.{stored[0]}: {STORED} weights are those of a folder that probe weigh --to "
                f"wrote; data.path is {shown(self.data.path)}"
            )
        names = list(self.arms)
        for name, arm in self.arms.items():
            for other in arm.against:
                if other not in (*names, START) or other == name:
                    known = [one for one in names if one != name]
                    hint = suggestion(other, known, f"allowed: {', '.join(known)}")
                    raise ValueError(f"arms.{name}.against: there is no other {shown(other)}{hint}")
        needing = [name for name, arm in self.arms.items() if arm.needs_scores]
        if needing and self.scoring is None:
            raise ValueError(
                f"arms.{needing[0]} needs scores of the training data; scoring is missing, such as "
                "{protocol: {kind: longppl, context: 128, stride: 128}}"
            )
        if needing and needing[0] == names[0] and self.model.path is None:
            raise ValueError(
                f"arms.{needing[0]} is the first, whose model scores the training data; allowed: "
                "an arm without weights and documents before it"
            )
        return self

    def against(self, arm: str) -> list[str]:
        """Arms that one is compared with; the start is compared with the first."""
        known = self.arms.get(arm)
        return (known.against if known else []) or [self.first] * (arm != self.first)

    @property
    def first(self) -> str:
        """The arm that others are compared with unless they say another."""
        return next(iter(self.arms))

    @property
    def needs_scores(self) -> bool:
        """Whether an arm needs scores of the training data."""
        return any(arm.needs_scores for arm in self.arms.values())

    def run(self, part: str, *, name: str, model: str, data: Mapping[str, Any]) -> Config:
        """The configuration that measures a trained model, or scores the training data.

        Args:
            part: A name of ``measures``, or ``scoring``.
            name: Of the run.
            model: Folder of the model, or where the one is that training starts from.
            data: Of the documents.

        Raises:
            UsageError: If it has a mistake.
        """
        content = self.scoring if part == SCORING else self.measures[part]
        assert content is not None
        where = part if part == SCORING else f"measures.{part}"
        given = content.get("model", {})
        if not isinstance(given, Mapping):
            raise UsageError(f"{where}.model is {shown(given)}; allowed: keys with values")
        known: list[str] = [key for key in ("name", "data", "matrix") if key in content]
        known += [f"model.{key}" for key in ("path", "revision") if key in given]
        if known:
            raise UsageError(f"{where}.{known[0]}: allowed without: the study says it")
        of_model = {"label": name, "dtype": "float32", "device": self.model.device, **given}
        whole = {**content, "name": name, "model": {**of_model, "path": model}, "data": data}
        with naming(where):
            config = check(whole, where)
            if part == SCORING and not config.protocol.has_short_context:
                kinds = " or ".join(registry.kinds(lambda one: one.has_short_context))
                raise UsageError(
                    f"protocol.kind is {config.protocol.kind}; allowed: {kinds}, in which a token "
                    "has one short context"
                )
        return config


def is_study(path: Path) -> bool:
    """Whether a file holds a study, as far as it can be read."""
    try:
        return "arms" in read_file(path)
    except UsageError:
        return False


def load(path: Path, changes: Sequence[tuple[str, str]] = ()) -> Study:
    """Read the configuration of a study.

    Args:
        path: A YAML file.
        changes: Dotted keys and YAML values that replace what the file says.

    Raises:
        UsageError: Every mistake, a line each: its path, the value, what is allowed.
    """
    return check_study(changed(read_file(path), changes), str(path), path.parent)


@contextmanager
def naming(part: str) -> Iterator[None]:
    """Put the part of a study in front of what is wrong with it, where that does not say it."""
    try:
        yield
    except ProbeError as error:
        if str(error).startswith(part):
            raise
        raise type(error)(f"{part}: {error}") from error


def check_study(
    content: Mapping[str, Any], where: str = "study", folder: Path | None = None
) -> Study:
    """Make a study of plain values.

    Args:
        content: What a YAML file would hold.
        where: What to call it in the message.
        folder: Where files of rules are looked for first.

    Raises:
        UsageError: Every mistake, a line each.
    """
    refuse_unusable(content, where)
    try:
        study = Study.model_validate(content, context={"folder": folder})
    except ValidationError as error:
        raise mistakes(error, where, keys_of_parts(Study, {})) from error
    parts = [*study.measures, *([SCORING] if study.scoring is not None else [])]
    for part in parts:
        study.run(part, name="study", model="model", data={"path": "stdlib"})
    return study
