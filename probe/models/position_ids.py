"""Whether a model goes by position ids, so that a token that is left out can be called hidden."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from probe.errors import ProbeError
from probe.models.scorer import Scorer
from probe.text import shown

EXACT = 5e-4  # nats in float32, the largest difference of one loss; what is wrong is off by more
ROUNDED = 0.02  # nats in bfloat16 and float16, of the mean
SAME = 1e-6  # nats: below it a gap in the position ids made no difference at all
_FIRST = 4  # tokens that are left in front of a gap


@torch.inference_mode()
def uses_position_ids(model: Scorer, text: NDArray[np.int64]) -> bool:
    """Find out whether a gap in the position ids changes a model's losses.

    Families with ALiBi count keys and take no notice of position ids, though some accept them.

    Args:
        model: The model.
        text: Token ids, shape ``(n,)``, 8 or more.
    """
    if not model.takes_positions:
        return False
    ids, near, places = _with_gap(model, text)
    with_gap, closed = (
        _states(model, ids[places], positions) for positions in (places, _counted(places))
    )
    return bool(_difference(model, with_gap, closed, ids[near:]).abs().max() > SAME)


@torch.inference_mode()
def omission_hides(model: Scorer, text: NDArray[np.int64]) -> bool:
    """Find out whether tokens that are left out are as good as hidden by an attention mask.

    They are the same where attention alone carries text along and finds its way by position ids;
    not with windows that are shorter than the text, ALiBi or recurrent layers.

    Args:
        model: The model.
        text: Token ids of a window as long as the run's, shape ``(n,)``, 8 or more.

    Returns:
        Whether the losses of the last third are equal.
    """
    if not model.takes_positions:
        return False
    ids, near, places = _with_gap(model, text)
    left_out = _states(model, ids[places], places)
    seen = torch.ones(len(ids), len(ids), dtype=torch.bool, device=ids.device)
    if model.family == "causal":
        seen = seen.tril()
    seen[near:, _FIRST:near] = seen[:_FIRST, _FIRST:near] = False
    dtype = model.model.dtype
    mask = torch.zeros(seen.shape, dtype=dtype, device=ids.device)
    mask = mask.masked_fill_(~seen, torch.finfo(dtype).min)
    try:
        masked = _states(model, ids, _counted(ids), mask[None, None])
    except (ValueError, RuntimeError, TypeError, IndexError):  # some families take no such mask
        return False
    difference = _difference(model, left_out, masked, ids[near:])
    if dtype == torch.float32:
        return bool(difference.abs().max() <= EXACT)
    return bool(difference.mean().abs() <= ROUNDED)


def refuse_ignored_positions(
    model: Scorer, text: NDArray[np.int64], names: Mapping[str, str | None]
) -> None:
    """Refuse conditions that keep positions where the model does not go by them.

    Args:
        model: The model.
        text: Token ids of a window as long as the run's, shape ``(n,)``, 8 or more.
        names: The conditions that keep positions, each with the name of its perturbation.

    Raises:
        ProbeError: If the model takes no notice of position ids; or for ``hide``, if leaving tokens
            out does not hide them.
    """
    family = type(model.model).__name__
    for condition, name in names.items():
        if not uses_position_ids(model, text):
            raise ProbeError(
                f"condition {shown(condition)} keeps positions, and {family} takes no notice of "
                "position ids; allowed: positions='closed'"
            )
        if name == "hide" and not omission_hides(model, text):
            raise ProbeError(
                f"condition {shown(condition)}: {family} has layers that do not go by position ids "
                "alone (sliding windows shorter than the text, recurrent layers): what is left out "
                "is not hidden; allowed: truncate, delete"
            )


def _with_gap(model: Scorer, text: NDArray[np.int64]) -> tuple[torch.Tensor, int, torch.Tensor]:
    """A text, where its last third begins, and the places of that and of the first few tokens."""
    ids = torch.from_numpy(text).to(model.device)
    near = len(ids) - len(ids) // 3
    places = torch.cat([torch.arange(_FIRST), torch.arange(near, len(ids))]).to(ids.device)
    return ids, near, places


def _counted(ids: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(ids), device=ids.device)


def _states(
    model: Scorer, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    states, _ = model.states(ids[None], positions=positions[None], mask=mask, keep=False)
    return states[0]


def _difference(
    model: Scorer, states: torch.Tensor, others: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """How the losses of the last tokens but the first of them differ, float32."""
    last = slice(-len(targets), -1)
    return model.difference(states[last], others[last], targets[1:])
