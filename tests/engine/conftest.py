"""The engine's own paths, made short enough for the windows of tests."""

from collections import Counter
from functools import partial

import pytest
from plain_forwards import Paths

from probe.engine import branch as tree
from probe.engine import walk
from probe.engine.walk import Walk


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Make the long, packed, batched and piecewise paths short enough for a small window.

    Returns:
        How often each was taken.
    """
    monkeypatch.setattr(walk, "SHORT", 30)
    monkeypatch.setattr(tree, "PACK", 70)
    monkeypatch.setattr(walk, "PIECE", 27)
    monkeypatch.setattr(walk, "ALONE", 40)
    monkeypatch.setattr(walk, "build", partial(tree.build, shared_at_least=6))
    taken: Paths = Counter()
    forward, rows, packed = Walk._forward, Walk._forward_rows, Walk._forward_packed

    def count_forward(self, ids, cache, *further, **named):  # type: ignore[no-untyped-def]
        if cache is not None:
            taken["continued"] += 1
        return forward(self, ids, cache, *further, **named)

    def count_rows(self, nodes, cache):  # type: ignore[no-untyped-def]
        taken["rows"] += len(nodes) > 1
        return rows(self, nodes, cache)

    def count_packed(self, nodes, cache):  # type: ignore[no-untyped-def]
        taken["packed"] += len(nodes) > 1
        return packed(self, nodes, cache)

    monkeypatch.setattr(Walk, "_forward", count_forward)
    monkeypatch.setattr(Walk, "_forward_rows", count_rows)
    monkeypatch.setattr(Walk, "_forward_packed", count_packed)
    return taken
