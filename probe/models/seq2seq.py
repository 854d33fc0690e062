"""Encoder–decoders: a decoder with a cache, the source that it reads encoded once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput

from probe.errors import ProbeError
from probe.models.scorer import Scorer, has_gaps


class Seq2SeqModel(Scorer):
    """An encoder–decoder: a token is predicted by those before it and by a source, see `reading`.

    Its tokens are the decoder's, the start token first; the body is the decoder.
    """

    family = "seq2seq"
    has_encoder = True
    masks_source: ClassVar[bool] = True
    """Whether what must not be attended to of a source is told by a mask."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._read: tuple[torch.Tensor, torch.Tensor] | None = None
        super().__init__(model)
        config = model.config
        self.vocabulary = int(getattr(config, "decoder_vocab_size", None) or self.vocabulary)

    def _find_body(self) -> tuple[nn.Module, Any]:
        """The decoder, and its output for four tokens behind a source of four."""
        encoder, decoder = self.model.get_encoder(), self.model.get_decoder()
        if self.model in (encoder, decoder) or encoder is decoder:
            raise ProbeError(f"{type(self.model).__name__} is no encoder–decoder of transformers")
        self.encoder = encoder
        ids = torch.zeros((1, 4), dtype=torch.long, device=self.model.device)
        with torch.inference_mode():
            states = encoder(input_ids=ids).last_hidden_state
            output = decoder(input_ids=ids, encoder_hidden_states=states, use_cache=True)
        return decoder, output

    def _head_inputs(self, ids: torch.Tensor) -> dict[str, Any]:
        nothing = torch.zeros((1, 1, 1), dtype=self.model.dtype, device=ids.device)
        return {"decoder_input_ids": ids, "encoder_outputs": self._encoded(nothing)}

    def _encoded(self, states: torch.Tensor) -> BaseModelOutput:
        """States of the encoder as the model's forward takes them."""
        return BaseModelOutput(last_hidden_state=states)

    @contextmanager
    def reading(self, source: torch.Tensor, seen: torch.Tensor | None = None) -> Iterator[None]:
        """Encode sources, once, and let the decoder read them meanwhile.

        Args:
            source: Token ids with special tokens, shape ``(batch, n)``, int64. Rows of the decoder
                that are several times as many read them in turn.
            seen: Which of them anything may attend to, same shape, bool; ``None`` is all.
        """
        before = self._read
        mask = torch.ones_like(source) if seen is None else seen.long()
        with torch.no_grad():
            states = self.encoder(input_ids=source, attention_mask=mask).last_hidden_state
        self._read = states, mask
        try:
            yield
        finally:
            self._read = before

    def states(
        self,
        ids: torch.Tensor,
        cache: Cache | None = None,
        *,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        keep: bool = True,
    ) -> tuple[torch.Tensor, Cache | None]:
        """See :class:`probe.models.scorer.Scorer`."""
        output = self._decode(ids, cache, positions, mask, use_cache=keep or cache is not None)
        grown = output.get(self.cache_name) if self.cache_name is not None else None
        return output.last_hidden_state, grown

    def logits(self, ids: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """See :class:`probe.models.scorer.Scorer`."""
        states, mask = self._source(len(ids))
        given: dict[str, Any] = {
            "decoder_input_ids": ids,
            "encoder_outputs": self._encoded(states),
            "use_cache": False,
        }
        if self.masks_source:
            given["attention_mask"] = mask
        if has_gaps(positions):
            given["decoder_position_ids"] = positions
        logits: torch.Tensor = self.model(**given).logits
        return logits

    @torch.inference_mode()
    def cross_attention(self, ids: torch.Tensor) -> torch.Tensor:
        """How each token attends to the source that is read, the mean of all layers and heads.

        Args:
            ids: Token ids of the decoder, shape ``(1, n)``, int64.

        Returns:
            Weights, shape ``(n, source)``, float32, on the CPU; each row sums to 1.

        Raises:
            ProbeError: If the model does not give them.
        """
        return self._cross_attentions(ids).mean(1).mean(0)

    @torch.inference_mode()
    def _cross_attentions(self, ids: torch.Tensor) -> torch.Tensor:
        """The same of every head: shape ``(layers, heads, n, source)``."""
        before = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")  # others do not give their weights
        try:
            given = self._decode(ids, use_cache=False, output_attentions=True)
        finally:
            self.model.set_attn_implementation(before)
        layers = [weights for weights in given.get("cross_attentions") or () if weights is not None]
        if not layers:
            raise ProbeError(
                f"{type(self.model).__name__} does not give its cross attention, by which the "
                "source place of a target is estimated; allowed: protocol.alignment: column"
            )
        return torch.stack([weights[0].float() for weights in layers]).cpu()

    def _decode(
        self,
        ids: torch.Tensor,
        cache: Cache | None = None,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        **asked: Any,
    ) -> Any:
        states, seen = self._source(len(ids))
        given: dict[str, Any] = {
            "input_ids": ids,
            "encoder_hidden_states": states,
            **asked,
        }
        if "encoder_attention_mask" in self._accepted:  # Whisper's decoder knows none
            given["encoder_attention_mask"] = seen
        if cache is not None and self.cache_name is not None:
            given[self.cache_name] = cache
        if positions is not None:
            given["position_ids"] = positions
        if mask is not None:
            given["attention_mask"] = mask
        return self.body(**given)

    def _source(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Encoded sources and their masks, one for each row of the decoder."""
        if self._read is None:
            raise RuntimeError("a decoder reads a source, see Seq2SeqModel.reading")
        states, mask = self._read
        times = rows // len(states)
        # In float32 for a while (Scorer.float32) the source is what it was.
        weight = self.model.get_input_embeddings().weight
        assert isinstance(weight, torch.Tensor)
        states = states.to(weight.dtype)
        return states.repeat(times, 1, 1), mask.repeat(times, 1)
