"""Sums and counts by token class, in one pass over the score rows."""

import itertools
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from probe.analysis.bins import bin_index, octave_edges
from probe.analysis.floor import is_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.scan import Block, Floats, Integers, Scan
from probe.analysis.sums import Sums
from probe.classes.labels import DISTANCES, Labels
from probe.classes.table import ClassTable

COUNTS = ("class", "value", "targets", "share", "documents")
WHERE = ("nowhere", "near", "far")
"""Where something stands relative to the boundary."""


class ClassSums:
    """Sums of delta by condition, bin, document and what a token is.

    Rows that are grey, of the noise control or without a boundary are in no sum. A target in no
    class of a kind is in no sum of that class.

    Args:
        run: The open run.
        table: Its class table.

    Raises:
        ProbeError: If the scores or the table cannot be read.
    """

    def __init__(self, run: OpenRun, table: ClassTable) -> None:
        self._run, self._classes, self._labels = run, table.classes, table.labels()
        scan = Scan(run.connection)
        counter = _Counter(scan, run.edges, self._labels)
        try:
            for _ in scan.each(counter.count):
                pass
        except (OSError, pa.ArrowException) as error:
            raise run.unreadable(error) from error
        numbers = {name: number for number, name in enumerate(scan.documents)}
        self._documents = np.array([numbers[name] for name in run.documents], dtype=np.int64)
        self._scan, self._scored = scan, counter.scored
        self._known = {
            (scan.conditions[number], name): arrays for (number, name), arrays in counter.known()
        }

    def conditions(self, name: str) -> list[str]:
        """Conditions with a sum, in order.

        Args:
            name: A class, or one of ``DISTANCES``.
        """
        return sorted(condition for condition, other in self._known if other == name)

    def sums(self, name: str, value: str, condition: str) -> Sums:
        """The sums of one value under one condition, from the start of the condition's curve on.

        Args:
            name: A class, by bin of distance; or one of ``DISTANCES``, by octave.
            value: Of the class, or one of ``WHERE``.
            condition: Canonical text of the condition.
        """
        edges = octave_edges(self._run.last_edge) if name in DISTANCES else self._run.edges
        known = self._known.get((condition, name))
        if known is None:
            return Sums(edges[:0], edges[:0], *np.zeros((2, len(self._documents), 0)))
        number = (WHERE if name in DISTANCES else self._values(name)).index(value)
        targets, sums = (values[self._documents, :, number] for values in known)
        start = self._run.starts.get(condition, 0)
        bins = np.flatnonzero((targets.sum(axis=0) > 0) & (edges[:-1] >= start))
        return Sums(
            edges[bins], edges[bins + 1], sums[:, bins], targets[:, bins].astype(np.float64)
        )

    def _values(self, name: str) -> list[str]:
        return next(list(one.values[name]) for one in self._labels.combined if name in one.values)

    def counts(self) -> pd.DataFrame:
        """How many scored targets each value has; one counts once, whatever was scored of it.

        Returns:
            ``class, value, targets, share`` (of all scored targets)``, documents``; values that no
            scored target has, but other tokens of the windows, have 0 targets. Classes are in the
            order of the table; values are in the order of the number they begin with, else of
            their name.
        """
        whole = int(self._scored.sum())
        rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in self._classes}
        for one in self._labels.combined:
            sizes = [len(label) for label in one.label.values()]
            found = [
                np.bincount(one.numbers[tokens][self._scored[tokens]], minlength=sizes[0])
                for tokens in self._scan.tokens_of_documents()
            ]
            for name, values in one.values.items():
                by_document = np.array(
                    [np.bincount(one.label[name], own, len(values) + 1) for own in found]
                ).reshape(-1, len(values) + 1)
                targets = by_document.sum(axis=0).astype(np.int64)
                documents = (by_document > 0).sum(axis=0)
                for at in sorted(range(len(values)), key=lambda at: _natural(values[at])):
                    share = targets[at] / whole if whole else np.nan
                    rows[name].append((name, values[at], targets[at], share, documents[at]))
        return pd.DataFrame(itertools.chain(*rows.values()), columns=[*COUNTS])


class _Counter:
    """Counts blocks of rows, in several threads.

    Args:
        scan: Where the blocks come from.
        edges: Edges of the bins (tokens).
        labels: What each token is.

    Attributes:
        scored: Whether a token is a target of any row.
    """

    def __init__(self, scan: Scan, edges: Integers, labels: Labels) -> None:
        self._scan, self._labels = scan, labels
        distances = np.arange(int(edges[0]), int(edges[-1]))
        octaves = octave_edges(int(edges[-1]))
        outside = [-1]
        self._bin = np.concatenate([outside, bin_index(distances, edges), outside])
        self._octave = np.concatenate([outside, bin_index(distances, octaves), outside])
        self._lowest, self._bins = int(edges[0]) - 1, len(edges) - 1
        self._documents = len(scan.documents)
        self._shapes = {
            name: (len(edges) - 1, len(values))
            for one in labels.combined
            for name, values in one.values.items()
        } | dict.fromkeys(DISTANCES, (len(octaves) - 1, len(WHERE)))
        self._arrays: dict[tuple[int, str], tuple[NDArray[np.int32], Floats]] = {}
        self._lock = Lock()
        self.scored = np.zeros(labels.tokens, dtype=bool)

    def known(self) -> Iterator[tuple[tuple[int, str], tuple[NDArray[np.int32], Floats]]]:
        """Targets and sums by document, bin and value, of each condition's number and class."""
        yield from self._arrays.items()

    def count(self, blocks: Iterable[Block]) -> None:
        """Count some blocks."""
        for block in blocks:
            token = block.spread(block.token) + block.place
            self.scored[token] = True
            self._count(block, token)

    def _count(self, block: Block, token: Integers) -> None:
        names = self._scan.conditions
        noise = np.array([is_noise(names[number]) for number in block.condition])
        at = np.clip(block.distance - self._lowest, 0, len(self._bin) - 1)
        bins = self._bin.take(at)
        rows = np.flatnonzero(~(block.grey | block.free | block.spread(noise) | (bins < 0)))
        curves, curve = np.unique(
            block.condition * self._documents + block.document, return_inverse=True
        )
        groups = list(zip(*map(np.ndarray.tolist, np.divmod(curves, self._documents)), strict=True))
        curve, token, delta = block.spread(curve)[rows], token[rows], block.delta[rows]
        place = curve * self._bins + bins[rows]
        for one in self._labels.combined:
            numbers = one.numbers.take(token)
            for name, label in one.label.items():
                self._add(groups, name, place, label.take(numbers), delta)
        place = curve * self._shapes[DISTANCES[0]][0] + self._octave.take(at)[rows]
        distance = block.distance[rows]
        for name, known in self._labels.back.items():
            back = known.take(token)
            self._add(groups, name, place, (back >= 0) + (back > distance).view(np.int8), delta)

    def _add(
        self,
        groups: list[tuple[int, int]],
        name: str,
        place: Integers,
        label: NDArray[Any],
        delta: Floats,
    ) -> None:
        """Add the rows of some conditions and documents to the arrays of a class."""
        bins, values = self._shapes[name]
        shape = (len(groups), bins, values + 1)
        keys = place * (values + 1) + label
        targets = np.bincount(keys, minlength=int(np.prod(shape))).reshape(shape)
        sums = np.bincount(keys, delta, minlength=int(np.prod(shape))).reshape(shape)
        with self._lock:
            for number, (condition, document) in enumerate(groups):
                if (condition, name) not in self._arrays:
                    whole = (self._documents, bins, values)
                    self._arrays[condition, name] = np.zeros(whole, np.int32), np.zeros(whole)
                known = self._arrays[condition, name]
                known[0][document] += targets[number, :, :values]
                known[1][document] += sums[number, :, :values]


def _natural(value: str) -> tuple[int, int, str]:
    """Sorts ``16–63`` before ``256–1023``, and names behind numbers."""
    digits = value[: len(value) - len(value.lstrip("0123456789"))]
    return (0, int(digits), value) if digits.isascii() and digits else (1, 0, value)
