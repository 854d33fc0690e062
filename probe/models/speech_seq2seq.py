"""Speech models: an encoder that hears sound, a decoder of text, and when each token is spoken."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from probe.corpus.sound import Hearing
from probe.errors import ProbeError, UsageError
from probe.models.scorer import accepted
from probe.models.seq2seq import Seq2SeqModel
from probe.text import one_line, shown

SEVERAL = 51865
"""Whisper's smallest vocabulary with several languages (``is_multilingual`` of its own code)."""
_TRIED = 320  # samples of a frame where no data says it
_FILTER = 7  # positions that a median is taken of, where the configuration does not say


@dataclass
class _Encoded(BaseModelOutput):
    """What an encoder gives, with the mask that Moonshine's decoder asks for."""

    attention_mask: torch.Tensor | None = None


class SpeechModel(Seq2SeqModel):
    """An encoder–decoder whose source is sound: samples in frames, see `reading`.

    Args:
        model: A model of transformers in evaluation mode.
        extractor: Its feature extractor, which makes of samples what the encoder takes.
    """

    family = "speech-seq2seq"
    masks_source = False

    def __init__(self, model: PreTrainedModel, extractor: Any) -> None:
        super().__init__(model)
        self.extractor = extractor
        if not self.alignment_heads:
            self.warnings = (
                "generation_config.json names no alignment_heads: places in the sound rest on all "
                "heads of the cross attention",
            )

    def _find_body(self) -> tuple[nn.Module, Any]:
        """The decoder, and its output for four tokens behind four positions of nothing."""
        encoder, decoder = self.model.get_encoder(), self.model.get_decoder()
        if encoder is None or decoder is None or self.model in (encoder, decoder):
            raise ProbeError(f"{type(self.model).__name__} is no encoder–decoder of transformers")
        self.encoder = encoder
        ids = torch.zeros((1, 4), dtype=torch.long, device=self.model.device)
        width = self.model.config.hidden_size
        nothing = torch.zeros((1, 4, width), dtype=self.model.dtype, device=self.model.device)
        with torch.inference_mode():
            output = decoder(input_ids=ids, encoder_hidden_states=nothing, use_cache=True)
        return decoder, output

    def _encoded(self, states: torch.Tensor) -> BaseModelOutput:
        return _Encoded(last_hidden_state=states)

    @contextmanager
    def reading(self, source: torch.Tensor, seen: torch.Tensor | None = None) -> Iterator[None]:
        """Encode sounds, once, and let the decoder read them meanwhile.

        Args:
            source: Samples in frames, shape ``(batch, n, samples)``, float32.
            seen: Which frames can be heard, shape ``(batch, n)``, bool; the others are silent, for
                an encoder of sound need not take a mask. ``None`` is all.

        Raises:
            ProbeError: If the encoder does not take the sound.
        """
        heard = source if seen is None else source * seen[..., None]
        clips = heard.flatten(1).cpu().numpy()
        before = self._read
        try:
            with torch.no_grad():
                states = self.encoder(**self._features(clips)).last_hidden_state
        except (ValueError, RuntimeError, IndexError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ProbeError(
                f"{type(self.model).__name__} cannot hear {clips.shape[1]:,} samples "
                f"({type(error).__name__}: {one_line(error)}); allowed: a clip that its feature "
                "extractor and its encoder take"
            ) from error
        self._read = states, torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
        try:
            yield
        finally:
            self._read = before

    def _features(self, clips: NDArray[np.float32]) -> dict[str, torch.Tensor]:
        """What the encoder is given of clips, shape ``(batch, samples)``."""
        made = self.extractor(
            list(clips),
            sampling_rate=self.extractor.sampling_rate,
            return_tensors="pt",
            return_attention_mask=True,
        )
        known = accepted(self.encoder)
        return {
            name: value.to(self.device, self.model.dtype if value.is_floating_point() else None)
            for name, value in made.items()
            if name in known
        }

    def some_source(self, length: int) -> torch.Tensor:
        """See :class:`probe.models.scorer.Scorer`: noise."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn((1, length, _TRIED), generator=generator).to(self.device) / 10

    @property
    def alignment_heads(self) -> list[tuple[int, int]]:
        """Layer and number of the heads of the cross attention that follow what is spoken."""
        given = getattr(self.model.generation_config, "alignment_heads", None) or ()
        return [(int(layer), int(head)) for layer, head in given]

    def spoken(self, ids: torch.Tensor, first: int, samples: int) -> NDArray[np.float64]:
        """Where in the sound that is read each token is spoken, by dynamic time warping.

        A token is predicted by the row of the cross attention before it. The path goes on behind
        the last token to the end of the sound, so that this token ends too.

        Args:
            ids: Token ids of the decoder, shape ``(1, n)``, int64.
            first: Index of the first that is spoken.
            samples: Samples of the sound.

        Returns:
            First sample of each spoken token and one past its last, shape ``(n - first, 2)``.

        Source: Whisper's word timestamps (github.com/openai/whisper, ``timing.py``), with the
            functions of transformers that stand behind ``return_token_timestamps``.
        """
        from transformers.models.whisper.generation_whisper import (
            _dynamic_time_warping,
            _median_filter,
        )

        weights = self._cross_attentions(ids)
        of_position = self._samples_of_position(samples, weights.shape[-1])
        heads = self.alignment_heads
        chosen = (
            torch.stack([weights[layer, head] for layer, head in heads])
            if heads
            else weights.flatten(0, 1)
        )
        rows = chosen[None, :, first - 1 :, : math.ceil(samples / of_position)]
        spread = torch.std(rows, dim=-2, keepdim=True, unbiased=False)
        rows = ((rows - rows.mean(-2, keepdim=True)) / spread).nan_to_num(0.0)
        width = getattr(self.model.config, "median_filter_width", _FILTER)
        matrix = _median_filter(rows, width).mean(1)[0]
        tokens, positions = _dynamic_time_warping(-matrix.double().numpy())
        numbers = np.arange(ids.shape[1] - first)
        begins = positions[np.searchsorted(tokens, numbers)]
        ends = positions[np.searchsorted(tokens, numbers, side="right") - 1] + 1
        return np.minimum(np.stack([begins, ends], axis=1) * of_position, float(samples))

    def _samples_of_position(self, samples: int, positions: int) -> float:
        """Samples that a position of the encoder stands for; Whisper's sound is padded to 30 s."""
        return float(max(samples, _padded(self.extractor)) / positions)


def hearing_of(extractor: Any, frame: float, *, model: str) -> Hearing:
    """How a model reads sound.

    Args:
        extractor: Its feature extractor.
        frame: Seconds of a frame.
        model: Its ``path``, for an error.

    Raises:
        UsageError: If a frame is no whole number of samples, or the extractor names no rate.
    """
    rate = getattr(extractor, "sampling_rate", None)
    if type(rate) is not int or rate < 1:
        raise UsageError(
            f"model.path {model!r}: its feature extractor has the sampling_rate {shown(rate)}; "
            "allowed: samples a second"
        )
    samples = round(frame * rate)
    if samples < 1 or abs(samples - frame * rate) > 1e-6 * rate:
        raise UsageError(
            f"protocol.frame is {frame:g}: {frame * rate:g} samples at {rate:,} a second, as "
            f"model.path {model!r} reads; allowed: whole samples"
        )
    return Hearing(rate, samples, _padded(extractor) or None)


def speak(tokenizer: Any, language: str | None, *, vocabulary: int, model: str) -> None:
    """Let a tokenizer begin the decoder's texts as a language asks, where the model has several.

    Args:
        tokenizer: Of a speech model; changed.
        language: Name or code of the language, ``None`` for the only one.
        vocabulary: Token ids that the model knows: Whisper has several languages from
            ``SEVERAL`` on.
        model: The model's ``path``, for an error.

    Raises:
        UsageError: If the language is missing, unknown, or one that the model has no choice of.
    """
    choose = getattr(tokenizer, "set_prefix_tokens", None)
    several = choose is not None and vocabulary >= SEVERAL
    if not several and language is None:
        return
    if not several or choose is None:
        raise UsageError(
            f"data.language is {shown(language)}; allowed with model.path {model!r}, which knows "
            "no others: null"
        )
    if language is None:
        raise UsageError(
            f"data.language is null, and model.path {model!r} knows several; allowed: what is "
            "spoken, such as english or en"
        )
    before = tokenizer.language
    try:
        choose(language=language, task="transcribe")
        tokenizer.prefix_tokens  # noqa: B018 - raises where there is no such language
    except ValueError as error:
        tokenizer.language = before
        raise UsageError(
            f"data.language is {shown(language)}; allowed: a language that the model knows, such "
            "as english or en"
        ) from error


def _padded(extractor: Any) -> int:
    """Samples to which an extractor pads sound, 0 where it does not."""
    return int(getattr(extractor, "n_samples", None) or 0)
