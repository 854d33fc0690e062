"""Loading a language model and its tokenizer, with one clear line where it fails."""

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as TEXT_TO_TEXT,
)

from probe.errors import ProbeError, UsageError
from probe.models.causal import CausalModel
from probe.models.device import resolve_device, resolve_dtype
from probe.models.encoder import EncoderModel
from probe.models.location import POSITIONS, Location, family_of, locate
from probe.models.masked import MaskedModel
from probe.models.messages import error_line, one_line_errors, warned
from probe.models.scorer import Scorer, unused_positions
from probe.models.seq2seq import Seq2SeqModel
from probe.text import MOST, one_line, printable, shown

FAMILIES: Mapping[str, tuple[Any, type[Scorer]]] = {
    family.family: (loader, family)
    for loader, family in (
        (AutoModelForCausalLM, CausalModel),
        (AutoModelForMaskedLM, MaskedModel),
        (AutoModel, EncoderModel),
        (AutoModelForSeq2SeqLM, Seq2SeqModel),
    )
}
"""What loads the models of a family, and what they are to the engine."""
_SAMPLE = 1 << 20
_ORIGINAL = "original_max_position_embeddings"
_COUNTS = (*POSITIONS, "vocab_size", "num_hidden_layers")
_ONE_BY_ONE = ("llama", "mistral", "qwen2", "qwen3")
"""Families whose tensors transformers takes from a GGUF file one by one, by a table of names; of
others it joins or renames some, and nobody can tell what was left."""
_COMPUTED = ("rope_freqs.weight",)
"""Tensors of GGUF files that a model computes by itself."""
_NAMED = 3  # weights that a message names
_WARNINGS = "warnings.json"  # beside converted weights: what was warned of while converting


@dataclass(frozen=True)
class ModelSource:
    """A model whose weights are not loaded yet: enough to cut windows and to plan.

    Args:
        location: Where it is.
        tokenizer: Its tokenizer, ``None`` where it has none.
        config: Its transformers configuration.
        revision: Resolved commit of a hub model, hash of converted files, fingerprint of a folder.
        family: A key of ``FAMILIES``.
        without: Why there is no tokenizer, empty where there is one.
        warnings: What transformers warned of while reading them, a line each.
    """

    location: Location
    tokenizer: PreTrainedTokenizerBase | None
    config: Any
    revision: str | None
    family: str = CausalModel.family
    without: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def vocabulary(self) -> int:
        """Number of token ids the model knows; of an encoder–decoder, its decoder."""
        decoder = getattr(self.config, "decoder_vocab_size", None)
        return int(decoder or self.config.get_text_config().vocab_size)

    @property
    def source_vocabulary(self) -> int:
        """Number of token ids that what reads a source knows."""
        return int(self.config.get_text_config().vocab_size)

    @property
    def source_positions(self) -> int | None:
        """How many positions a source has, ``None`` where there is no limit."""
        return getattr(self.config, "max_encoder_position_embeddings", None) or self.positions

    @property
    def positions(self) -> int | None:
        """How many positions the model has, ``None`` where there is no limit."""
        text, unused = self.config.get_text_config(), unused_positions(self.config)
        if self.family == "seq2seq" and hasattr(text, "relative_attention_num_buckets"):
            return None  # T5 names the length of its training
        given = [getattr(text, name, None) for name in POSITIONS]
        return next((int(value) - unused for value in given if value and value > 0), None)

    @property
    def trained_length(self) -> int | None:
        """How many tokens it was trained on at once, as far as its configuration says.

        Embeddings of positions that were rescaled afterwards keep the original number.
        """
        text = self.config.get_text_config()
        scaling = getattr(text, "rope_parameters", None) or {}
        given = [scaling.get(_ORIGINAL), getattr(text, _ORIGINAL, None), self.positions]
        return next((int(value) for value in given if value), None)

    @property
    def layers(self) -> int:
        """How many layers the model has, 0 where its configuration does not say."""
        return int(getattr(self.config.get_text_config(), "num_hidden_layers", None) or 0)

    @property
    def bos(self) -> int | None:
        """The tokenizer's BOS, ``None`` where it has none."""
        token = getattr(self.tokenizer, "bos_token_id", None)
        return None if token is None else int(token)

    @property
    def mask(self) -> int | None:
        """The id of the tokenizer's mask token, ``None`` where it has none."""
        token = getattr(self.tokenizer, "mask_token_id", None)
        return None if token is None else int(token)

    @property
    def tokenizer_hash(self) -> str | None:
        """A hash of how the tokenizer cuts texts, ``None`` without one."""
        if self.tokenizer is None:
            return None
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        whole = json.loads(backend.to_str()) if backend else self.tokenizer.get_vocab()
        # How much of a text is read at once says nothing of its tokens.
        cuts = {name: part for name, part in whole.items() if name not in ("truncation", "padding")}
        return hashlib.sha256(json.dumps(cuts, sort_keys=True).encode()).hexdigest()

    @property
    def prepended(self) -> tuple[int, ...]:
        """Special tokens that the tokenizer puts in front of a text by itself, asked of it.

        Having a BOS is not enough: GPT-2, Qwen and SmolLM2 never put theirs anywhere.
        """
        return self._added()[0]

    @property
    def appended(self) -> tuple[int, ...]:
        """Special tokens that it puts behind a text."""
        return self._added()[1]

    @property
    def decoder_lead(self) -> tuple[int, ...]:
        """What stands in front of a decoder's text: its start, and what the tokenizer puts there.

        mBART begins with what its tokenizer puts at a text's end.
        """
        before, behind = self._added(target=True)
        start = getattr(self.config, "decoder_start_token_id", None)
        if self.config.model_type == "mbart" and behind:
            start = behind[-1]
        return before if start is None else (int(start), *before)

    def _added(self, *, target: bool = False) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if self.tokenizer is None:
            return (), ()
        text = {"text_target" if target else "text": "aC"}  # carbon, to some
        whole, plain = (
            list(self.tokenizer(**text, add_special_tokens=special)["input_ids"])
            for special in (True, False)
        )
        places = range(len(whole) - len(plain) + 1)
        first = next((at for at in places if whole[at : at + len(plain)] == plain), 0)
        return tuple(whole[:first]), tuple(whole[first + len(plain) :])


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
        folder = str(_converted(location))
        resolved = _digest(location.sources)
        if (file := Path(folder) / _WARNINGS).is_file():
            earlier = json.loads(file.read_text(encoding="utf-8"))
    with warned() as warnings:
        with one_line_errors(path):
            config = AutoConfig.from_pretrained(folder, **given)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **given)
        except (OSError, ValueError, KeyError, ImportError) as error:
            tokenizer, without = None, error_line(error)  # tokenised data needs none
    _refuse_counts(path, config)
    resolved = resolved or getattr(config, "_commit_hash", None)
    if resolved is None and Path(folder).is_dir():
        resolved = _fingerprint(Path(folder))
    place = Location(folder, None, location.name)
    if family == "auto":
        family = family_of(config.to_dict())
    said = (*earlier, *warnings)
    return ModelSource(place, tokenizer, config, resolved, family, without, said)


def load_model(
    source: ModelSource,
    *,
    dtype: str = "auto",
    device: str = "auto",
    attention: str = "sdpa",
    trust_remote_code: bool = False,
) -> Scorer:
    """Load the weights.

    Args:
        source: The model.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto``: see :func:`resolve_dtype`.
        device: A torch device, or ``auto``: CUDA where there is one, else the CPU.
        attention: transformers' ``attn_implementation``; a family without ``sdpa`` (Bloom, Mamba,
            Gemma 2) takes ``eager`` in its place.
        trust_remote_code: See :func:`open_source`.

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
            "no text; allowed: one of AutoModelForSeq2SeqLM"
        )
    with warned() as warnings:
        model, unexpected = _weights(
            source.location.path,
            loader=loader,
            revision=source.revision,
            dtype=getattr(torch, resolve_dtype(dtype, place)),
            # Its own choice is sdpa where there is one; asked for by name it is an error elsewhere.
            attn_implementation=None if attention == "sdpa" else attention,
            trust_remote_code=trust_remote_code,
            unread=scorer.unread,
        )
    model.to(place)
    loaded = scorer(model.eval())
    loaded.warnings = tuple(dict.fromkeys((*source.warnings, *warnings, *unexpected)))
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
    with one_line_errors(named):
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


def cache_folder() -> Path:
    """Where converted models are kept: ``$XDG_CACHE_HOME/context-probe`` or ``~/.cache/…``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "context-probe"


def _converted(location: Location) -> Path:
    """The folder with a model as transformers keeps it, made once of files in another form."""
    key = f"{_digest(location.sources)[:16]}-transformers-{transformers.__version__}-complete"
    folder = cache_folder() / key
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix="converting-"))
    try:
        with one_line_errors(str(location.sources[0])):
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
    with warned() as warnings:
        model, unexpected = _weights(
            location.path,
            named=str(location.sources[0]),
            gguf_file=location.gguf,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        tokenizer = AutoTokenizer.from_pretrained(location.path, gguf_file=location.gguf)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if left := _unused_tensors(location, model):
        unexpected.append(_left_over(left, model))
    said = json.dumps([*warnings, *unexpected])
    (folder / _WARNINGS).write_text(said, encoding="utf-8")


def _unused_tensors(location: Location, model: Any) -> list[str]:
    """Tensors of a GGUF file that transformers left out, which it does without a word."""
    if model.config.model_type not in _ONE_BY_ONE:
        return []
    from gguf import GGUFReader
    from transformers import modeling_gguf_pytorch_utils as converter

    processor = converter.TensorProcessor()
    known = converter.get_gguf_hf_weights_map(model, processor)
    names = (tensor.name for tensor in GGUFReader(location.sources[0]).tensors)
    return sorted(name for name in names if name not in known and name not in _COMPUTED)


def _fingerprint(folder: Path) -> str:
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
