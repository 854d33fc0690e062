"""A stretch of a window with far text on both sides, for models whose tokens see both."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from probe.corpus.windows import Window
from probe.engine.branch import Attention, Branch
from probe.protocols.base import Inputs, ModelFacts
from probe.protocols.branches import FAR_LANE, Draw, around

Ids = NDArray[np.int64]


def whole(window: Window, ids: Ids, targets: slice, model: ModelFacts) -> Branch:
    """A window as it is, between the special tokens of the model.

    Args:
        window: The window, whose own tokens are the labels.
        ids: Its token ids, masks among them where targets are masked; shape ``(n,)``.
        targets: Places of consecutive targets in the window.
        model: The model.
    """
    return _branch(window, ids, targets.start, targets, model)


def surrounded(
    window: Window,
    ids: Ids,
    near: slice,
    targets: slice,
    draw: Draw,
    model: ModelFacts,
    inputs: Inputs,
) -> tuple[Branch, int]:
    """A window whose tokens before and behind a stretch are changed by a draw.

    Args:
        window: The window, whose own tokens are the labels.
        ids: Its token ids, masks among them where targets are masked; shape ``(n,)``.
        near: Places of the tokens that stay.
        targets: Places of consecutive targets, among them.
        draw: The condition and its repeat.
        model: The model.
        inputs: What else branches are made of.

    Returns:
        The branch, and how many tokens stand in the place of those before *near*.
    """
    condition = draw.condition
    text, before, places = around(window, ids, near, draw, inputs, window.ids[targets])
    first = before + targets.start - near.start
    branch = _branch(window, text, first, targets, model, positions=places)
    if condition.is_noise:
        branch = replace(branch, keys=branch.keys + FAR_LANE)
    if condition.pattern is not None:
        lead = len(branch.ids) - len(text) - len(model.behind)
        branch = replace(branch, attention=Attention(condition.pattern, lead + before))
    return branch, before


def _branch(
    window: Window,
    ids: Ids,
    first: int,
    targets: slice,
    model: ModelFacts,
    *,
    positions: Ids | None = None,
) -> Branch:
    """Tokens between the special ones of the model.

    Args:
        window: The window.
        ids: Token ids, shape ``(n,)``.
        first: Index of the first target in *ids*.
        targets: Places of the targets in the window.
        model: The model.
        positions: Their places in the window where they are not 0, 1, 2, ….
    """
    lead = model.first_token.lead(window, ids)[: model.first_token.extra]
    read = np.concatenate([lead, ids, np.array(model.behind, dtype=np.int64)])
    if positions is not None:
        size = len(lead) + len(window.ids)
        behind = np.arange(size, size + len(model.behind))
        positions = np.concatenate([np.arange(len(lead)), len(lead) + positions, behind])
    labels = window.ids[targets]
    start = len(lead) + first + 1  # a target stands behind the token that it is predicted by
    return Branch(
        *(read, read, start, start + len(labels), targets.start),
        positions=positions,
        masked=labels,
    )
