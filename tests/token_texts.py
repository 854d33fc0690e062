"""Texts whose tokens are given, for perturbations that read them."""

from collections.abc import Sequence

import numpy as np

from probe.perturbations.units import TokenText

PIECES = (" the", " cats", ".", " An", "na", " saw", "\n", " old", ",", " she", "!", " dog")
"""Texts of the token ids 0, 1, 2 …, over and over."""


def written(pieces: Sequence[str], ids: Sequence[int] | None = None, **more: object) -> TokenText:
    """A text of these tokens, one behind the other; equal texts have equal ids unless given."""
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64) if len(pieces) else ends
    own = np.unique(np.array(pieces, dtype=object), return_inverse=True)[1] if ids is None else ids
    return TokenText("".join(pieces), starts, ends, np.array(own, dtype=np.int64), **more)  # type: ignore[arg-type]


def spelled(ids: Sequence[int]) -> TokenText:
    """Token ids spelled with `PIECES`; every seventh type is common."""
    common = np.arange(max(ids, default=0) + 1) % 7 == 0
    return written([PIECES[token % len(PIECES)] for token in ids], ids, common=common)
