"""Sums and counts by token class, in one pass over the score rows."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from probe.analysis.bins import Integers, bin_index, octave_edges
from probe.analysis.floor import is_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.scan import Block, Floats, Layout, Places, Scan
from probe.analysis.sums import Sums
from probe.classes.registry import DISTANCES
from probe.classes.table import ClassTable

COUNTS = ("class", "value", "targets", "share", "documents")
WHERE = ("nowhere", "near", "far")
"""Where something stands relative to the boundary."""
_WHERE_HAS = np.concatenate(
    [np.repeat(np.eye(3), 3, axis=0), np.tile(np.eye(3), (3, 1))], axis=1, dtype=np.float64
)
"""Which of them each of the two ``DISTANCES`` has, by three times that of the first plus that of
the second."""


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows that are in a sum.

    Args:
        chosen: Their numbers in the block, shape ``(rows,)``, as all that follow.
        stretch: Number of the stretch of each.
        place: Index of its target in the window.
        distance: Tokens from the boundary.
        bin: Bin of the distance.
        octave: Octave of the distance.
    """

    chosen: Integers
    stretch: Places
    place: Places
    distance: Places
    bin: Integers
    octave: Integers


class ClassSums:
    """Sums of delta by condition, bin, document and what a token is.

    It counts along as a run is opened, or else reads the rows when it is first asked. Rows that are
    grey, of the noise control or without a boundary are in no sum; a target in no class of a kind
    is in no sum of that class.

    Args:
        run: The open run.
        table: Its class table.

    Raises:
        ProbeError: If the table or, once it is asked, the scores cannot be read.
    """

    def __init__(self, run: OpenRun, table: ClassTable) -> None:
        self.table = table
        self._run, self._labels = run, table.labels()
        self._known_scan: Scan | None = None
        self._documents = 0
        self._scored = np.zeros(self._labels.tokens, dtype=bool)
        self._arrays: dict[tuple[int, str], tuple[NDArray[np.int32], Floats]] = {}
        self._lock = Lock()
        edges, octaves = run.edges, octave_edges(run.last_edge)
        distances = np.arange(edges[0], edges[-1])
        # Looked up by distance; both ends are all others.
        self._lowest = int(edges[0]) - 1
        self._bin = np.concatenate([[-1], bin_index(distances, edges), [-1]])
        self._octave = np.concatenate([[-1], bin_index(distances, octaves), [-1]])
        self._values = {
            name: list(values)
            for one in self._labels.combined
            for name, values in one.values.items()
        } | {name: list(WHERE) for name in DISTANCES}
        self._edges = dict.fromkeys(self._values, edges) | dict.fromkeys(DISTANCES, octaves)

    def begin(self, scan: Scan) -> None:
        """Get ready for the rows of a pass."""
        self._known_scan, self._documents = scan, len(scan.documents)

    def count(self, block: Block) -> None:
        """Count a block of rows; any thread may."""
        layout = block.layout
        self._scored[layout.spread(block.token) + layout.place] = True
        rows = layout.once(self._rows)
        curves, curve = np.unique(
            layout.condition * self._documents + block.document, return_inverse=True
        )
        token = block.token[rows.stretch] + rows.place
        curve, delta = curve[rows.stretch], block.delta[rows.chosen]
        place = curve * (len(self._run.edges) - 1) + rows.bin
        for one in self._labels.combined:
            self._add(curves, list(one.values), place, one.numbers.take(token), one.has, delta)
        place = curve * (len(self._edges[DISTANCES[0]]) - 1) + rows.octave
        where = np.zeros(len(delta), dtype=np.int8)
        for known in self._labels.back.values():
            back = known.take(token)
            where = 3 * where + (back >= 0) + (back > rows.distance)
        self._add(curves, list(DISTANCES), place, where, _WHERE_HAS, delta)

    def _rows(self, layout: Layout) -> "_Rows":
        """The rows of a layout that are in a sum."""
        names = self._scan.conditions
        noise = np.array([is_noise(names[number]) for number in layout.condition])
        at = np.clip(layout.distance - self._lowest, 0, len(self._bin) - 1)
        out = layout.grey | layout.free | layout.spread(noise) | (self._bin.take(at) < 0)
        chosen = np.flatnonzero(~out)
        return _Rows(
            chosen,
            layout.stretch[chosen],
            layout.place[chosen],
            layout.distance[chosen],
            self._bin.take(at[chosen]),
            self._octave.take(at[chosen]),
        )

    def _add(
        self,
        curves: Integers,
        names: list[str],
        place: Integers,
        number: NDArray[Any],
        has: Floats,
        delta: Floats,
    ) -> None:
        """Add rows to the arrays of some classes, by the number of their labels together."""
        bins, size = len(self._edges[names[0]]) - 1, len(has)
        keys, most = place * size + number, len(curves) * bins * size
        shape = (len(curves), bins, size)
        targets = np.bincount(keys, minlength=most).reshape(shape) @ has
        sums = np.bincount(keys, delta, minlength=most).reshape(shape) @ has
        ends = np.cumsum([len(self._values[name]) for name in names]).tolist()
        with self._lock:
            for number_, curve in enumerate(curves.tolist()):
                condition, document = divmod(curve, self._documents)
                for name, first, last in zip(names, [0, *ends], ends, strict=False):
                    if (condition, name) not in self._arrays:
                        whole = (self._documents, bins, last - first)
                        self._arrays[condition, name] = np.zeros(whole, np.int32), np.zeros(whole)
                    known = self._arrays[condition, name]
                    known[0][document] += targets[number_, :, first:last].astype(np.int32)
                    known[1][document] += sums[number_, :, first:last]

    def _count_all(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self.count(block)

    @property
    def _scan(self) -> Scan:
        """The pass in which the rows are, or were, counted."""
        if self._known_scan is None:
            scan = Scan(self._run.connection)
            self.begin(scan)
            try:
                for _ in scan.each(self._count_all):
                    pass
            except (OSError, pa.ArrowException) as error:
                raise self._run.unreadable(error) from error
            return scan
        return self._known_scan

    def conditions(self, name: str) -> list[str]:
        """Conditions with a sum, in order.

        Args:
            name: A class, or one of ``DISTANCES``.
        """
        names = self._scan.conditions
        return sorted(names[number] for number, other in self._arrays if other == name)

    def sums(self, name: str, value: str, condition: str) -> Sums:
        """The sums of one value under one condition, from the start of the condition's curve on.

        Args:
            name: A class, by bin of distance; or one of ``DISTANCES``, by octave.
            value: Of the class, or one of ``WHERE``.
            condition: Canonical text of the condition.
        """
        scan, edges = self._scan, self._edges[name]
        numbers = {text: number for number, text in enumerate(scan.conditions)}
        known = self._arrays.get((numbers.get(condition, -1), name))
        if known is None:
            return Sums(edges[:0], edges[:0], *np.zeros((2, len(self._run.documents), 0)))
        numbers = {text: number for number, text in enumerate(scan.documents)}
        documents = [numbers[text] for text in self._run.documents]
        at = self._values[name].index(value)
        targets, sums = (values[documents, :, at].astype(np.float64) for values in known)
        start = self._run.starts.get(condition, 0)
        bins = np.flatnonzero((targets.sum(axis=0) > 0) & (edges[:-1] >= start))
        texts = self._run.texts(condition)
        return Sums(edges[bins], edges[bins + 1], sums[:, bins], targets[:, bins], texts)

    def counts(self) -> pd.DataFrame:
        """How many scored targets each value has; one counts once, whatever was scored of it.

        Returns:
            ``class, value, targets, share`` (of all scored targets)``, documents``; values that no
            scored target has, but other tokens of the windows, have 0 targets. Classes are in the
            order of the table; values are in the order of the number they begin with, else of
            their name.
        """
        scan, rows = self._scan, defaultdict[str, list[tuple[Any, ...]]](list)
        whole = int(self._scored.sum())
        for one in self._labels.combined:
            found = [
                np.bincount(one.numbers[tokens][self._scored[tokens]], minlength=len(one.has))
                for tokens in scan.tokens_of_documents()
            ]
            labels = [(name, value) for name, values in one.values.items() for value in values]
            for label, by_document in zip(labels, (np.array(found) @ one.has).T, strict=True):
                targets, documents = int(by_document.sum()), int((by_document > 0).sum())
                rows[label[0]].append((*label, targets, targets / max(whole, 1), documents))
        ordered = [
            row
            for name in self.table.classes
            for row in sorted(rows[name], key=lambda row: _natural(row[1]))
        ]
        frame = pd.DataFrame(ordered, columns=[*COUNTS])
        return frame if whole else frame.assign(share=np.nan)


def _natural(value: str) -> tuple[int, int, str]:
    """Sorts ``16–63`` before ``256–1023``, and names behind numbers."""
    digits = value[: len(value) - len(value.lstrip("0123456789"))]
    return (0, int(digits), value) if digits.isascii() and digits else (1, 0, value)
