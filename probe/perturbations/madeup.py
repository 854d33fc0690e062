"""A made-up text, for a perturbation that is only tried."""

import numpy as np
from numpy.typing import NDArray

from probe.language import MODEL, Labels, pipeline
from probe.perturbations.ids import Ids
from probe.perturbations.text import TAGS, UNITS, TokenText


class MadeUp(TokenText):
    """A text that stands in for any other where a perturbation is only tried.

    Args:
        tokens: Its tokens; words of 2, sentences of 16, every tenth type common.
    """

    def __init__(self, tokens: int) -> None:
        ids = np.arange(tokens)
        super().__init__("", ids, ids + 1, ids)

    def units(self, unit: str) -> Ids:
        """See :class:`TokenText`."""
        if unit not in UNITS:
            return super().units(unit)
        return np.arange(len(self)) // {"token": 1, "word": 2, "sentence": 16}[unit]

    def labels(self, kind: str, model: str = MODEL) -> Labels:
        """See :class:`TokenText`; the pipeline must be there though it is not asked."""
        pipeline(model)
        names = TAGS if kind == "pos" else ("", "", "PERSON")
        return [names[place % len(names)] for place in range(len(self))]

    @property
    def common(self) -> NDArray[np.bool_]:
        """See :class:`TokenText`."""
        common: NDArray[np.bool_] = np.arange(len(self)) % 10 == 0
        return common
