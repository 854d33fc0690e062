"""Loading a language model and its tokenizer, with one clear line where it fails."""

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as TEXT_TO_TEXT,
)

from probe.errors import ProbeError, UsageError
from probe.models.causal import CausalModel
from probe.models.device import resolve_device, resolve_dtype
from probe.models.encoder import EncoderModel
from probe.models.location import POSITIONS, SPEECH, Location, family_of, locate
from probe.models.masked import MaskedModel
from probe.models.model_source import ModelSource
from probe.models.placement import WHOLE, Layout
from probe.models.scorer import Scorer
from probe.models.seq2seq import Seq2SeqModel
from probe.models.speech_seq2seq import SpeechModel
from probe.text import MOST, one_line, printable, shown

FAMILIES: Mapping[str, tuple[Any, type[Scorer]]] = {
    family.family: (loader, family)
    for loader, family in (
        (AutoModelForCausalLM, CausalModel),
        (AutoModelForMaskedLM, MaskedModel),
        (AutoModel, EncoderModel),
        (AutoModelForSeq2SeqLM, Seq2SeqModel),
        (AutoModelForSpeechSeq2Seq, SpeechModel),
    )
}
"""What loads the models of a family, and what they are to the engine."""
_SAMPLE = 1 << 20
_COUNTS = (*POSITIONS, "vocab_size", "num_hidden_layers")
_ONE_BY_ONE = ("llama", "mistral", "qwen2", "qwen3")
"""Families whose tensors transformers takes from a GGUF file one by one, by a table of names; of
others it joins or renames some, and nobody can tell what was left."""
_COMPUTED = ("rope_freqs.weight",)
"""Tensors of GGUF files that a model computes by itself."""
_NAMED = 3  # weights that a message names
_WARNINGS = "warnings.json"  # beside converted weights: what was warned of while converting


def open_source(
    path: str,
    *,
    revision: str | None = None,
    family: str = "auto",
    trust_remote_code: bool = False,
) -> ModelSource:
    """Find a model and read its configuration and tokenizer.

    Args:
        path: See :func:`probe.models.location.locate`.
        revision: Branch, tag or commit on the hub.
        family: A key of ``FAMILIES``; ``auto`` asks its configuration: whether it is an
            encoder–decoder's, and which architectures it names.
        trust_remote_code: Run code that comes with the model; never unless the user says so.

    Raises:
        UsageError: If there is no such model.
        ProbeError: If it is there and cannot be read.
    """
    location = locate(path, revision)
    given: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    folder = location.path
    resolved, without = None, ""
    earlier: list[str] = []
    if location.sources:
        folder = str(converted(location))
        resolved = _digest(location.sources)
        if (file := Path(folder) / _WARNINGS).is_file():
            earlier = json.loads(file.read_text(encoding="utf-8"))
    with _warned() as warnings:
        with _one_line_errors(path):
            config = AutoConfig.from_pretrained(folder, **given)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **given)
        except (OSError, ValueError, KeyError, ImportError) as error:
            tokenizer, without = None, _line(error)  # tokenised data needs none
        family = family_of(config.to_dict()) if family == "auto" else family
        with _one_line_errors(path):
            hears = family == SpeechModel.family
            extractor = AutoFeatureExtractor.from_pretrained(folder, **given) if hears else None
    _refuse_counts(path, config)
    resolved = resolved or getattr(config, "_commit_hash", None)
    if resolved is None and Path(folder).is_dir():
        resolved = fingerprint(Path(folder))
    place = Location(folder, None, location.name)
    said = (*earlier, *warnings)
    return ModelSource(place, tokenizer, config, resolved, family, without, said, extractor)


def load_model(
    source: ModelSource,
    *,
    dtype: str = "auto",
    device: str = "auto",
    attention: str = "sdpa",
    trust_remote_code: bool = False,
    layout: Layout = WHOLE,
) -> Scorer:
    """Load the weights.

    Args:
        source: The model.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto``: see :func:`resolve_dtype`.
        device: A torch device, or ``auto``: CUDA where there is one, else the CPU.
        attention: transformers' ``attn_implementation``; a family without ``sdpa`` (Bloom, Mamba,
            Gemma 2) takes ``eager`` in its place.
        trust_remote_code: See :func:`open_source`.
        layout: Over which devices they are spread, quantised and with which adapter.

    Returns:
        The model; ``warnings`` holds what transformers warned of, those of *source* too.

    Raises:
        UsageError: If the device or the attention is not to be had, or the checkpoint lacks
            weights of the model or holds some in another shape.
        ProbeError: If the weights cannot be read or it is no language model of its family.
    """
    place = resolve_device(device)
    loader, scorer = FAMILIES[source.family]
    kind = source.config.model_type
    if source.family == Seq2SeqModel.family and kind not in TEXT_TO_TEXT:
        raise UsageError(
            f"model {shown(source.location.name)} is {shown(kind)}, an encoder–decoder that reads "
            "no text; allowed: one of AutoModelForSeq2SeqLM, or with model.family "
            f"{SpeechModel.family}: {', '.join(SPEECH)}"
        )
    with _warned() as warnings:
        model, unexpected = _weights(
            source.location.path,
            loader=loader,
            revision=source.revision,
            dtype=getattr(torch, resolve_dtype(dtype, place)),
            # Its own choice is sdpa where there is one; asked for by name it is an error elsewhere.
            attn_implementation=None if attention == "sdpa" else attention,
            trust_remote_code=trust_remote_code,
            unread=scorer.unread,
            **layout.given(place),
        )
        layout.put_on(model)
    if layout.is_plain:
        model.to(place)
    loaded = scorer(model.eval(), *([source.extractor] if source.extractor else []))
    said = (*source.warnings, *warnings, *unexpected, *loaded.warnings)
    loaded.warnings = tuple(dict.fromkeys(said))
    return loaded


def _weights(
    path: str,
    *,
    named: str | None = None,
    loader: Any = AutoModelForCausalLM,
    unread: tuple[str, ...] = (),
    **given: Any,
) -> tuple[Any, list[str]]:
    """A model whose every weight comes from its checkpoint, and a line on weights left over.

    transformers draws at random what a checkpoint lacks, and says so in a warning only; of weights
    that begin as *unread* does none is needed. Messages call the place *named*, by default
    *path*.
    """
    # Without ignore_mismatched_sizes transformers raises before it says which weights.
    asked = given | {"output_loading_info": True, "ignore_mismatched_sizes": True}
    load: Callable[..., Any] = loader.from_pretrained
    named = named or path
    with _one_line_errors(named):
        try:
            model, loaded = load(path, **asked)
        except RuntimeError as error:
            if not (parted := _unconverted(error)):
                raise
            raise UsageError(
                f"model.path {named!r}: the parts that {_listed(parted)} would be made of do not "
                "fit together, some are missing or have another shape; allowed: a checkpoint with "
                "every weight that its config.json asks for, in its shape"
            ) from error
    name = type(model).__name__
    if missing := sorted(key for key in loaded["missing_keys"] if not key.startswith(unread)):
        raise UsageError(
            f"model.path {named!r}: the checkpoint lacks {_listed(missing)} of {name}, which would "
            "be drawn at random; allowed: a checkpoint with every weight that its config.json asks "
            "for"
        )
    if mismatched := sorted(loaded["mismatched_keys"]):
        keys, (key, held, asked) = [key for key, *_ in mismatched], mismatched[0]
        raise UsageError(
            f"model.path {named!r}: the checkpoint holds {_listed(keys)} "
            f"of {name} in another shape ({key} is {tuple(held)}, config.json asks for "
            f"{tuple(asked)}); allowed: weights of the shapes that its config.json asks for"
        )
    left = sorted(loaded["unexpected_keys"])
    return model, [_left_over(left, model)] if left else []


def _left_over(keys: list[str], model: Any) -> str:
    return f"the checkpoint holds {_listed(keys)} that {type(model).__name__} has not"


def _unconverted(error: Exception) -> list[str]:
    """Weights that transformers could not make of their parts, such as the experts of a layer.

    It names them in a report that it logs, and raises an error that points there.
    """
    frames = (frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__))
    reports = [seen["loading_info"] for seen in frames if "loading_info" in seen]
    return sorted({key for report in reports for key in getattr(report, "conversion_errors", ())})


def _listed(keys: list[str]) -> str:
    first = (printable(one_line(key, MOST)) for key in keys[:_NAMED])
    named = ", ".join(first) + (", …" if len(keys) > _NAMED else "")
    return f"{len(keys)} weight{'' if len(keys) == 1 else 's'} ({named})"


def _refuse_counts(path: str, config: Any) -> None:
    """Refuse a configuration whose counts are none."""
    text = config.get_text_config()
    written = text.to_dict()
    for name in _COUNTS:
        if name in POSITIONS and name not in written:
            continue  # a property of the class: XLNet's says -1 where nothing limits it
        value = getattr(text, name, None)
        if isinstance(value, int) and value < 1:
            raise UsageError(
                f"model.path {path!r}: its config.json gives {name} {value}; allowed: 1 or more"
            )


@contextmanager
def _warned() -> Iterator[list[str]]:
    """Collect what transformers warns of meanwhile, whatever its verbosity; each line once."""
    distinct: dict[str, None] = {}
    lines: list[str] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # The report on a checkpoint's weights is read from the loading info instead.
            if record.funcName != "log_state_dict_report":
                distinct[" ".join(record.getMessage().split())] = None

    transformers.utils.logging.warning_once.cache_clear()  # once for each model, not for a process
    logger, handler = transformers.utils.logging.get_logger("transformers"), Collecting()
    before, level = logger.handlers[:], logger.level
    logger.handlers[:] = [handler]
    logger.setLevel(logging.WARNING)
    try:
        yield lines
    finally:
        logger.handlers[:] = before
        logger.setLevel(level)
        lines += distinct


def cache_folder() -> Path:
    """Where converted models are kept: ``$XDG_CACHE_HOME/context-probe`` or ``~/.cache/…``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "context-probe"


def converted(location: Location) -> Path:
    """The folder with a model as transformers keeps it, made once of files in another form."""
    key = f"{_digest(location.sources)[:16]}-transformers-{transformers.__version__}-complete"
    folder = cache_folder() / key
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix="converting-"))
    try:
        with _one_line_errors(str(location.sources[0])):
            if location.recipe is None:
                _convert(location, scratch)
            else:
                location.recipe.convert(location.sources[0].parent, scratch)
        scratch.rename(folder)
    except OSError:
        if not (folder / "config.json").is_file():  # another process may have been first
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _convert(location: Location, folder: Path) -> None:
    for package in ("gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise ProbeError(
                f"GGUF files need the package {package!r}: pip install {package} (extra gguf)"
            )
    try:
        from transformers import GgufConfig
    except ImportError as error:
        raise ProbeError(f"transformers {transformers.__version__} reads no GGUF file") from error
    with _warned() as warnings, _read_once():
        model, unexpected = _weights(
            location.path,
            named=str(location.sources[0]),
            gguf_file=location.gguf,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        tokenizer = AutoTokenizer.from_pretrained(location.path, gguf_file=location.gguf)
        if left := _unused_tensors(location, model):
            unexpected.append(_left_over(left, model))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    said = json.dumps([*warnings, *unexpected])
    (folder / _WARNINGS).write_text(said, encoding="utf-8")


@contextmanager
def _read_once() -> Iterator[None]:
    """Let a GGUF file and its table of names be read once, not for every part of a model.

    transformers opens the file three times, which takes seconds for its vocabulary alone, and
    makes the table anew for every module.
    """
    import gguf
    from gguf import gguf_reader, tensor_mapping

    class Reader(gguf_reader.GGUFReader):
        def _get(self, *given: Any, **named: Any) -> Any:
            # A slice of a memmap is a memmap, and slow to make: there are two for every token.
            vars(self)["data"] = self.data.view(np.ndarray)
            return super()._get(*given, **named)

    slow: dict[str, Callable[..., Any]] = {
        "GGUFReader": Reader,
        "get_tensor_name_map": tensor_mapping.get_tensor_name_map,
    }
    before = {name: getattr(gguf, name) for name in slow}
    vars(gguf).update({name: cache(one) for name, one in slow.items()})
    try:
        yield
    finally:
        vars(gguf).update(before)


def _unused_tensors(location: Location, model: Any) -> list[str]:
    """Tensors of a GGUF file that transformers left out, which it does without a word."""
    if model.config.model_type not in _ONE_BY_ONE:
        return []
    from gguf import GGUFReader
    from transformers import modeling_gguf_pytorch_utils as converter

    processor = converter.TensorProcessor()
    known = converter.get_gguf_hf_weights_map(model, processor)
    names = (tensor.name for tensor in GGUFReader(str(location.sources[0])).tensors)
    return sorted(name for name in names if name not in known and name not in _COMPUTED)


def fingerprint(folder: Path) -> str:
    """Tell a folder's weights from others under the same name, without reading all of them.

    Names and sizes of all files, and of each its first and last MiB.
    """
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_SAMPLE))
            stream.seek(max(0, size - _SAMPLE))
            digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


@contextmanager
def _one_line_errors(path: str) -> Iterator[None]:
    """Turn what transformers raises into one line that names the model."""
    try:
        yield
    except ProbeError:
        raise
    except torch.OutOfMemoryError as error:
        raise ProbeError(f"model {path!r} does not fit the device's memory") from error
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UsageError(f"model.path {path!r} cannot be loaded: {_line(error)}") from error
    except Exception as error:  # broken files raise whatever their reader raises
        raise ProbeError(f"model.path {path!r} cannot be loaded: {_line(error)}") from error


def _line(error: Exception) -> str:
    """The first line of what a library says, with the next where it only announces that."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    count = 2 if lines and lines[0].endswith(":") else 1
    return one_line(" ".join(lines[:count])) or type(error).__name__
