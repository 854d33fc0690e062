"""An open run: its rows, and what every finding about them is worked out with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from probe.analysis.bootstrap import Floats, resample_weights
from probe.analysis.cells import cells, scored
from probe.analysis.floor import NoiseFloor, length_limit
from probe.analysis.settings import Analysis
from probe.analysis.sums import curve_starts
from probe.results.folder import RunFolder
from probe.results.views import bytes_per_token, measured_edges


@dataclass(frozen=True, eq=False)
class Opened:
    """An open run.

    Args:
        connection: From :func:`probe.results.views.connect`.
        how: How the run is read.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.
        documents: All documents of the run, in the order of *weights*.
        conditions: Canonical texts of its conditions with a boundary.
        starts: First distance (tokens) of each condition's curve.
        weights: Draws of the documents, shape ``(resamples, documents)``: conditions and classes
            are drawn together.
        per_token: Mean UTF-8 bytes of a token, ``None`` for data without text.
        floor: Its noise floor, measured on all targets; ``None`` where it is not known.
        length: How much losses change with a sequence's length alone (nats).
    """

    connection: duckdb.DuckDBPyConnection
    how: Analysis
    edges: NDArray[np.int64]
    documents: Sequence[str]
    conditions: Sequence[str]
    starts: Mapping[str, int]
    weights: Floats
    per_token: float | None
    floor: NoiseFloor | None = None
    length: float = 0.0

    @property
    def reach(self) -> int:
        """End of the last bin (tokens)."""
        return int(self.edges[-1])


def opened(
    connection: duckdb.DuckDBPyConnection,
    run: RunFolder,
    how: Analysis,
    *,
    floor: NoiseFloor | None = None,
) -> Opened:
    """Look up in the rows of a run what its findings need; equal rows, equal draws.

    Args:
        connection: From :func:`probe.results.views.connect`.
        run: The run that it is of.
        how: How to read it.
        floor: Its noise floor, where it is known.
    """
    edges = measured_edges(connection, how.bins_per_octave)
    documents, conditions = scored(connection, cells(connection, edges))
    return Opened(
        connection,
        how,
        edges,
        documents,
        conditions,
        curve_starts(run.record),
        resample_weights(max(len(documents), 1), how.resamples, how.seed),
        bytes_per_token(connection),
        floor,
        length_limit(run.record),
    )
