"""A stretch of a window with far text on both sides, for models whose tokens see both."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probe.corpus.windows import Window
from probe.engine.branch import Attention, Branch
from probe.protocols.base import Inputs, ModelFacts
from probe.protocols.branches import FAR_LANE, Draw, around

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class BothSides:
    """A window as a model reads it whose tokens see both sides, between its special tokens.

    Args:
        window: The window, whose own tokens are the labels.
        ids: Its token ids, masks among them where targets are masked; shape ``(n,)``.
        model: The model.
    """

    window: Window
    ids: Ids
    model: ModelFacts

    def whole(self, targets: slice) -> Branch:
        """The window as it is.

        Args:
            targets: Places of consecutive targets in the window.
        """
        return self._branch(self.ids, targets.start, targets)

    def surrounded(
        self, near: slice, targets: slice, draw: Draw, inputs: Inputs
    ) -> tuple[Branch, int]:
        """The window whose tokens before and behind a stretch are changed by a draw.

        Args:
            near: Places of the tokens that stay.
            targets: Places of consecutive targets, among them.
            draw: The condition and its repeat.
            inputs: What else branches are made of.

        Returns:
            The branch, and how many tokens stand in the place of those before *near*.
        """
        condition, labels = draw.condition, self.window.ids[targets]
        text, before, places = around(self.window, self.ids, near, draw, inputs, labels)
        first = before + targets.start - near.start
        branch = self._branch(text, first, targets, positions=places)
        if condition.is_noise:
            branch = replace(branch, keys=branch.keys + FAR_LANE)
        if condition.pattern is not None:
            lead = len(branch.ids) - len(text) - len(self.model.behind)
            branch = replace(branch, attention=Attention(condition.pattern, lead + before))
        return branch, before

    def _branch(
        self, ids: Ids, first: int, targets: slice, *, positions: Ids | None = None
    ) -> Branch:
        """Tokens between the special ones of the model.

        Args:
            ids: Token ids, shape ``(n,)``.
            first: Index of the first target in *ids*.
            targets: Places of the targets in the window.
            positions: Their places in the window where they are not 0, 1, 2, ….
        """
        model, own = self.model, self.window.ids
        lead = model.first_token.lead(self.window, ids)[: model.first_token.extra]
        read = np.concatenate([lead, ids, np.array(model.behind, dtype=np.int64)])
        if positions is not None:
            size = len(lead) + len(own)
            behind = np.arange(size, size + len(model.behind))
            positions = np.concatenate([np.arange(len(lead)), len(lead) + positions, behind])
        labels = own[targets]
        start = len(lead) + first + 1  # a target stands behind the token that it is predicted by
        return Branch(
            *(read, read, start, start + len(labels), targets.start),
            positions=positions,
            masked=labels,
        )
