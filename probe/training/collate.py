"""Sequences with a weight for every token, put into one batch: padded, or packed into one row."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from probe.errors import UsageError
from probe.text import shown
from probe.training.training_data import WEIGHTS

IGNORED = -100
"""The label of what no loss is taken of, as in torch and transformers."""


class Collate:
    """Make a batch of rows with ``input_ids`` and, where they have them, ``loss_weights``.

    The weight of a token is that of its own loss, which the token before predicts: it has the
    token's place, and the model's shift takes labels and weights alike. The first token of a
    sequence is predicted by nothing and has no label.

    Args:
        pad: Id of the padding token.
        packed: Put the sequences of a batch into one row, apart by position ids that begin anew,
            in place of padding; models read them apart with ``use_cache=False``.
        length: Most tokens of a sequence; what is longer is cut off. ``None`` is all.

    Raises:
        UsageError: If *length* is below 1.
    """

    def __init__(self, pad: int = 0, *, packed: bool = False, length: int | None = None) -> None:
        if length is not None and length < 1:
            raise UsageError(f"length is {length}; allowed: 1 or more, or None")
        self.pad, self.packed, self.length = pad, packed, length

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Batch rows.

        Args:
            rows: With ``input_ids`` and ``loss_weights``, of equal lengths; weights of 1 without.

        Returns:
            ``input_ids, labels, loss_weights`` of shape ``(rows, longest)`` with
            ``attention_mask``, or, packed, of shape ``(1, tokens)`` with ``position_ids``.

        Raises:
            UsageError: If a row has another number of weights than of tokens, or none of a token.
        """
        ids = [torch.as_tensor(row["input_ids"], dtype=torch.long)[: self.length] for row in rows]
        weights = [self._weights(row, len(own)) for row, own in zip(rows, ids, strict=True)]
        labels = [own.clone() for own in ids]
        for own in labels:
            own[:1] = IGNORED
        if self.packed:
            return {
                "input_ids": torch.cat(ids)[None],
                "labels": torch.cat(labels)[None],
                WEIGHTS: torch.cat(weights)[None],
                "position_ids": torch.cat([torch.arange(len(own)) for own in ids])[None],
            }
        seen = [torch.ones(len(own), dtype=torch.long) for own in ids]
        columns = [("input_ids", ids, self.pad), ("labels", labels, IGNORED)]
        columns += [(WEIGHTS, weights, 0), ("attention_mask", seen, 0)]
        return {
            name: torch.nn.utils.rnn.pad_sequence(each, batch_first=True, padding_value=value)
            for name, each, value in columns
        }

    def _weights(self, row: Mapping[str, Any], count: int) -> torch.Tensor:
        given = row.get(WEIGHTS)
        if given is None:
            return torch.ones(count)
        try:
            weights = torch.as_tensor(given, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"{WEIGHTS} holds {shown(given)}; allowed: numbers from 0 on"
            ) from error
        if weights.shape != (len(row["input_ids"]),):
            given = len(weights) if weights.ndim == 1 else tuple(weights.shape)
            raise UsageError(
                f"a row has {len(row['input_ids'])} input_ids and {given} {WEIGHTS}; "
                "allowed: one weight a token"
            )
        if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
            wrong = next(w for w in weights.tolist() if not 0 <= w < float("inf"))
            raise UsageError(f"{WEIGHTS} holds {shown(wrong)}; allowed: numbers from 0 on")
        return weights[: self.length]
