"""A Trainer whose loss weighs every token, by weights of the data or by what far text is worth."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, Trainer

from probe.errors import ProbeError, UsageError
from probe.models.model_source import tokenizer_hash
from probe.text import printable, shown
from probe.training.auxiliary import Auxiliary
from probe.training.collate import IGNORED
from probe.training.token_loss import short_losses, token_losses
from probe.training.training_data import FACTS, WEIGHTS


class WeightedTrainer(Trainer):
    """transformers' Trainer with the loss Σ weight · nll / number of labels.

    The weights are taken out of the inputs (``loss_weights``, as
    :class:`probe.training.collate.Collate` has them) and no gradient goes through them. The number
    of labels is that of all micro-batches of a step and of all processes, as in transformers' own
    loss, so that weights of 1 are plain cross entropy, whatever the accumulation.

    Args:
        auxiliary: Losses of whole documents that are added, each times its weight; means over the
            micro-batches of a step and over the processes.
        shuffled: Seed by which the weights are put on other labels of their batch, a control: the
            same weights in the wrong places; ``None`` leaves them where they are.

    Raises:
        UsageError: If ``remove_unused_columns`` would drop the weights.
        ProbeError: If a loss is no number; the last checkpoint is kept.
    """

    def __init__(
        self,
        *args: Any,
        auxiliary: Sequence[Auxiliary] = (),
        shuffled: int | None = None,
        **given: Any,
    ) -> None:
        super().__init__(*args, **given)
        self.auxiliary, self.shuffled = tuple(auxiliary), shuffled
        if self.args.remove_unused_columns:
            raise UsageError(
                "remove_unused_columns is true, which drops loss_weights before they are read; "
                "allowed: TrainingArguments(remove_unused_columns=False)"
            )
        # The loss is divided by the labels of the whole step: they are counted for that.
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """See transformers' Trainer."""
        given = dict(inputs)
        labels, weights = given.pop("labels"), given.pop(WEIGHTS, None)
        if weights is None:
            raise UsageError(
                f"a batch has no {WEIGHTS}; allowed: data_collator=probe.training.collate.Collate()"
            )
        outputs = model(**given, use_cache=False)
        losses = token_losses(outputs.logits, labels)
        weights = self.weights(model, given, labels, weights, losses)
        if self.shuffled is not None:
            weights = shuffled(weights, labels, seed=self.shuffled, step=self.state.global_step)
        loss = (losses * weights[:, 1:].to(losses)).sum()
        own = (labels[:, 1:] != IGNORED).sum()
        loss = loss / (own if num_items_in_batch is None else num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            # The processes' gradients are averaged, and the labels are those of all of them.
            loss = loss * self.accelerator.num_processes
        loss = loss + self._of_documents(model, given, labels)
        if not torch.isfinite(loss):
            step = self.state.global_step + 1
            raise ProbeError(
                f"step {step}: the loss is {loss.item()}; training stops, the last checkpoint in "
                f"{self.args.output_dir} is kept; allowed: finite losses (a smaller learning rate)"
            )
        return (loss, outputs) if return_outputs else loss

    def _of_documents(
        self, model: torch.nn.Module, inputs: Mapping[str, Any], labels: torch.Tensor
    ) -> torch.Tensor:
        """The auxiliary losses of a micro-batch, its share of a step."""
        total = torch.zeros((), device=labels.device)
        if self.auxiliary and "position_ids" in inputs:
            raise UsageError(
                "sequences are packed, and auxiliary losses read whole documents; allowed: "
                "Collate(packed=False)"
            )
        for one in self.auxiliary:
            found = one(model, inputs["input_ids"], labels, self.state.global_step)
            total = total + one.weight * found
        steps = self.current_gradient_accumulation_steps if model.training else 1
        return total / steps

    def weights(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, Any],
        labels: torch.Tensor,
        given: torch.Tensor,
        losses: torch.Tensor,
    ) -> torch.Tensor:
        """What each token's loss weighs: what the data says.

        Args:
            model: The model.
            inputs: What it was given.
            labels: Shape ``(batch, n)``.
            given: The weights of the data, same shape.
            losses: Losses of the labels from the second on, shape ``(batch, n − 1)``.

        Returns:
            Same shape as the labels, without a gradient.
        """
        return given.detach()


class OnlineLongCETrainer(WeightedTrainer):
    """LongCE: the model weighs its own batch by a second forward over short contexts.

    The short contexts are those of protocol ``longppl``: every token behind the first *context* is
    a target behind ``context`` to ``context + stride − 1`` tokens. Weights of the data multiply
    those of LongCE.

    Args:
        context: Fewest tokens of a short context, K.
        stride: By how many tokens it moves.
        gamma: The largest weight.
        rows: Short contexts that are forwarded at once.
        bos: The BOS that every row begins with and that is put in front of every short context,
            besides its tokens; ``None`` puts nothing there.

    Source: Fang et al. 2025.
    """

    def __init__(
        self,
        *args: Any,
        context: int,
        stride: int,
        gamma: float = 5.0,
        rows: int = 64,
        bos: int | None = None,
        **given: Any,
    ) -> None:
        super().__init__(*args, **given)
        if context < 1 or stride < 1 or gamma < 1:
            raise UsageError(
                f"context is {context}, stride {stride}, gamma {gamma:g}; allowed: 1 or more each"
            )
        self.context, self.stride, self.gamma = context, stride, gamma
        self.rows, self.bos = rows, bos

    def weights(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, Any],
        labels: torch.Tensor,
        given: torch.Tensor,
        losses: torch.Tensor,
    ) -> torch.Tensor:
        """min(exp(delta), γ) times the weights of the data."""
        if "position_ids" in inputs:
            raise UsageError(
                "sequences are packed, whose short contexts would cross from one into the next; "
                "allowed: Collate(packed=False)"
            )
        short = short_losses(
            model,
            inputs["input_ids"],
            labels,
            context=self.context,
            stride=self.stride,
            rows=self.rows,
            bos=self.bos,
        )
        delta = torch.zeros_like(given, dtype=torch.float32)
        known = torch.isfinite(short[:, 1:])
        delta[:, 1:] = torch.where(known, short[:, 1:] - losses.detach(), 0)
        return (delta.exp().clamp(max=self.gamma) * given).detach()


def shuffled(weights: torch.Tensor, labels: torch.Tensor, *, seed: int, step: int) -> torch.Tensor:
    """The weights of a batch's labels put on one another's places.

    Args:
        weights: Shape ``(batch, n)``.
        labels: Same shape; those that are ignored keep their weight.
        seed: Of the order.
        step: What the order depends on beside the seed.
    """
    draw = np.random.SeedSequence([seed, step]).generate_state(1)
    places = (labels != IGNORED).flatten().nonzero()[:, 0]
    generator = torch.Generator().manual_seed(int(draw[0]))
    order = torch.randperm(len(places), generator=generator).to(places.device)
    found = weights.flatten().clone()
    found[places] = found[places[order]]
    return found.view_as(weights)


def refuse_other_tokenizer(folder: str | Path, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Refuse to train on weights of other token ids than those of a model's tokenizer.

    Args:
        folder: Training data of :func:`probe.training.training_data.write_dataset`.
        tokenizer: The tokenizer of the model that is to be trained, before tokens are added to it.

    Returns:
        ``None`` where both are the same; a line that nothing was compared where the run that was
        weighed does not name its tokenizer: an older one, or one of token ids.

    Raises:
        UsageError: If the tokenizers differ, or the folder does not say whose its weights are.
    """
    place = Path(folder) / FACTS
    try:
        model = json.loads(place.read_text(encoding="utf-8"))["model"]
        name, weighed_by = str(model["name"]), model["tokenizer"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{shown(str(place))} cannot be read; allowed: a folder that probe weigh --to wrote"
        ) from error
    if weighed_by is None:
        return f"{shown(str(place))} names no tokenizer: whether its ids are the model's is unknown"
    given = tokenizer_hash(tokenizer)
    if given != weighed_by:
        raise UsageError(
            f"weights in {shown(str(folder))} are of tokenizer {printable(str(weighed_by))[:12]} "
            f"({shown(name)}), the model's is {given[:12]} ({shown(tokenizer.name_or_path)}); "
            "allowed: weights of a run with the tokenizer of the model"
        )
    return None
