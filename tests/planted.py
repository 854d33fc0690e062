"""Models that are known to read exactly so far back, and texts in which reading on helps."""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import MistralConfig, MistralForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

SURE = 6.0  # logit of the token that is expected; the others have 0
FREE = 3  # ids below are special and stand in no text


class Rule(Protocol):
    """Predicts each next token from at most ``reads`` tokens before it.

    Args:
        reads: A target at distance ``reads`` or more from the far text does not depend on it.
        vocabulary: Number of token ids.
    """

    reads: int
    vocabulary: int

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids ``(batch, n)`` to the logits of the tokens after them, ``(batch, n, V)``."""


class CopyRule:
    """Expects the token that stands ``period`` places before the target."""

    def __init__(self, period: int, vocabulary: int) -> None:
        self.reads, self.vocabulary = period, vocabulary

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*ids.shape, self.vocabulary)
        known = ids[:, : max(0, ids.shape[1] - self.reads + 1)]
        logits[:, self.reads - 1 :] = SURE * nn.functional.one_hot(known, self.vocabulary)
        return logits


class NGramRule:
    """Expects one token for each sequence of ``n − 1`` tokens, as a fixed hash of them."""

    def __init__(self, n: int, vocabulary: int) -> None:
        self.reads, self.vocabulary = n - 1, vocabulary

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        code = torch.zeros_like(ids)
        for back in range(self.reads):
            earlier = nn.functional.pad(ids, (back, 0))[:, : ids.shape[1]]
            code = (code * 8191 + earlier + 1) % 1_000_003
        expected = FREE + code % (self.vocabulary - FREE)
        return SURE * nn.functional.one_hot(expected, self.vocabulary).float()


class _Body(nn.Module):
    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, input_ids: torch.Tensor) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.rule(input_ids))


class PlantedModel(PreTrainedModel):
    """A causal LM without cache whose body is a rule and whose head changes nothing."""

    config_class = PretrainedConfig

    def __init__(self, config: PretrainedConfig, rule: Rule) -> None:
        super().__init__(config)
        self.body = _Body(rule)
        self.lm_head = nn.Linear(rule.vocabulary, rule.vocabulary, bias=False)
        with torch.no_grad():
            self.lm_head.weight.copy_(torch.eye(rule.vocabulary))

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(self, input_ids: torch.Tensor, **_: Any) -> CausalLMOutput:
        return CausalLMOutput(logits=self.lm_head(self.body(input_ids=input_ids).last_hidden_state))


def planted(rule: Rule) -> PlantedModel:
    """A model that predicts by *rule* and reads exactly ``rule.reads`` tokens back."""
    return PlantedModel(PretrainedConfig(vocab_size=rule.vocabulary), rule).eval()


def sliding(window: int, layers: int, vocabulary: int) -> MistralForCausalLM:
    """A random Mistral each of whose layers sees *window* tokens, itself among them.

    A target depends on the ``layers · (window − 1) + 1`` tokens before it and on no other.
    """
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
        sliding_window=window,
        bos_token_id=0,
        eos_token_id=1,
    )
    return MistralForCausalLM(config).eval()


def written_by(rule: Rule, length: int, *, surprise: float = 0.1, seed: int = 0) -> NDArray[Any]:
    """A text in which *rule* expects most tokens, so that every token it reads helps.

    Args:
        rule: Whose expectations come true.
        length: Tokens.
        surprise: Share of tokens that are drawn at random instead.
        seed: Of the draws.

    Returns:
        Token ids, shape ``(length,)``, int64, none below ``FREE``.
    """
    rng = np.random.default_rng(seed)
    ids = rng.integers(FREE, rule.vocabulary, size=length)
    expected = rng.random(length) >= surprise
    for at in range(rule.reads, length):
        if expected[at]:
            known = torch.from_numpy(ids[None, at - rule.reads : at])
            ids[at] = int(rule(known)[0, -1].argmax())
    return ids
