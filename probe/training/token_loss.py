"""Losses of tokens as training needs them: of a batch, behind short contexts, of whole rows."""

import torch

from probe.errors import UsageError
from probe.training.collate import IGNORED


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of every label, 0 where it is ignored.

    Args:
        logits: Shape ``(batch, n, V)``; row t predicts label t + 1.
        labels: Shape ``(batch, n)``, int64.

    Returns:
        Shape ``(batch, n − 1)``, nats, float32: of the labels from the second on.
    """
    # Labels are moved, and not the logits, of which a part would be a copy.
    behind = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), behind.flatten(), reduction="none", ignore_index=IGNORED
    )
    return losses.view_as(labels)[:, :-1]


def mean_log_likelihoods(model: torch.nn.Module, ids: torch.Tensor, *, first: int) -> torch.Tensor:
    """The mean log-probability of each row's tokens from *first* on, with a gradient.

    Args:
        model: A causal language model.
        ids: Token ids, shape ``(rows, n)``.
        first: Index of the first token that counts, at least 1.

    Returns:
        Shape ``(rows,)``, nats per token.
    """
    losses = token_losses(model(input_ids=ids, use_cache=False).logits, ids)
    return -losses[:, first - 1 :].mean(1)


@torch.no_grad()
def short_losses(
    model: torch.nn.Module,
    ids: torch.Tensor,
    labels: torch.Tensor,
    *,
    context: int,
    stride: int,
    rows: int = 64,
    bos: int | None = None,
) -> torch.Tensor:
    """Losses of tokens behind short contexts, by one forward each *context* + *stride* tokens.

    Args:
        model: The model; dropout is off meanwhile.
        ids: Token ids, shape ``(batch, n)``.
        labels: Labels, same shape.
        context: Fewest tokens before a target.
        stride: Targets of a forward.
        rows: Short contexts that are forwarded at once.
        bos: The BOS that every row begins with: it stands in front of every short context, besides
            its tokens. ``None`` puts nothing there.

    Returns:
        Shape ``(batch, n)``, nats, float32; not a number for tokens without a short context and
        labels that are ignored.
    """
    front = ids[:, :0] if bos is None else ids.new_full((len(ids), 1), bos)
    before = front.shape[1]
    if not torch.equal(ids[:, :before], front):
        raise UsageError(f"a row does not begin with the BOS {bos}; allowed: rows that do, or none")
    size = ids.shape[1]
    found = torch.full(ids.shape, torch.nan, dtype=torch.float32, device=ids.device)
    starts = _starts(size, context, stride)
    training = model.training
    model.eval()
    try:
        for length, same in _by_length(starts, size, context + stride):
            cut, own = (
                torch.stack([torch.cat([front, one[:, at : at + length]], 1) for at in same], dim=1)
                for one in (ids, labels)
            )
            cut, own = cut.flatten(0, 1), own.flatten(0, 1)
            own[:, : before + context] = IGNORED
            parts = [
                token_losses(model(input_ids=texts, use_cache=False).logits, targets)
                for texts, targets in zip(
                    torch.split(cut, rows), torch.split(own, rows), strict=True
                )
            ]
            losses = torch.cat(parts).view(len(ids), len(same), before + length - 1)
            for number, at in enumerate(same):
                found[:, at + context : at + length] = losses[:, number, before + context - 1 :]
    finally:
        model.train(training)
    return found.masked_fill(labels == IGNORED, torch.nan)


def short_tokens(size: int, *, context: int, stride: int, bos: int | None = None) -> int:
    """Tokens that :func:`short_losses` forwards for a row of *size* tokens."""
    starts = _starts(size, context, stride)
    return sum((bos is not None) + min(context + stride, size - at) for at in starts)


def _starts(size: int, context: int, stride: int) -> range:
    """First tokens of short contexts but the text's own beginning, whose targets lose nothing."""
    return range(stride, size - context, stride)


def _by_length(starts: range, size: int, most: int) -> list[tuple[int, list[int]]]:
    """Short contexts of equal lengths together: all but, it may be, the last."""
    groups: dict[int, list[int]] = {}
    for at in starts:
        groups.setdefault(min(most, size - at), []).append(at)
    return list(groups.items())
