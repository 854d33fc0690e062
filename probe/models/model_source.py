"""A model before its weights are loaded: what its configuration and its tokenizer say."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from probe.corpus.tokenise import Reader
from probe.models.causal import CausalModel
from probe.models.location import POSITIONS, Location
from probe.models.scorer import unused_positions

SENTINELS = ("<extra_id_0>", "▁<extra_id_0>")
"""How T5 and those behind it call the first token that stands for a span; mT5 the second way."""
_ORIGINAL = "original_max_position_embeddings"


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of how a tokenizer cuts texts: token ids of two with the same hash agree.

    Args:
        tokenizer: A tokenizer; tokens that were added to it count.

    Returns:
        SHA-256, 64 hexadecimal digits.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    whole = json.loads(backend.to_str()) if backend else tokenizer.get_vocab()
    # How much of a text is read at once says nothing of its tokens.
    cuts = {name: part for name, part in whole.items() if name not in ("truncation", "padding")}
    return hashlib.sha256(json.dumps(cuts, sort_keys=True).encode()).hexdigest()


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
        extractor: The feature extractor of a speech model.
    """

    location: Location
    tokenizer: PreTrainedTokenizerBase | None
    config: Any
    revision: str | None
    family: str = CausalModel.family
    without: str = ""
    warnings: tuple[str, ...] = ()
    extractor: Any = None

    @property
    def vocabulary(self) -> int:
        """Number of token ids the model knows; of an encoder–decoder, its decoder."""
        decoder = getattr(self.config, "decoder_vocab_size", None)
        return int(decoder or self.config.get_text_config().vocab_size)

    @property
    def reader(self) -> Reader:
        """How it reads a record; what it hears goes by the protocol."""
        return Reader(self.tokenizer, self.vocabulary, self.source_vocabulary)

    @property
    def source_vocabulary(self) -> int:
        """Number of token ids that what reads a source knows."""
        return int(self.config.get_text_config().vocab_size)

    @property
    def source_positions(self) -> int | None:
        """How many positions a source has, ``None`` where there is no limit."""
        return getattr(self.config, "max_encoder_position_embeddings", None) or self.positions

    @property
    def position_seconds(self) -> float | None:
        """Seconds of sound that a position of the encoder stands for, where it pads all sound."""
        samples = getattr(self.extractor, "n_samples", None)
        positions = getattr(self.config, "max_source_positions", None)
        if not samples or not positions:
            return None
        return float(samples / self.extractor.sampling_rate / positions)

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
        return None if self.tokenizer is None else tokenizer_hash(self.tokenizer)

    @property
    def sentinel(self) -> int | None:
        """The id of the first token that stands for a span in T5's training, ``None`` without."""
        known = {} if self.tokenizer is None else self.tokenizer.get_vocab()
        found = (known[name] for name in SENTINELS if name in known)
        return next((token for token in found if token < self.vocabulary), None)

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
        return before if start is None or before[:1] == (start,) else (int(start), *before)

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
