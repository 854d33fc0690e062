"""Prediction-powered sums: what is known of all documents narrows what some of them say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock

import duckdb
import numpy as np
from numpy.typing import NDArray

from probe.analysis.bins import bin_index, octave_index
from probe.analysis.bootstrap import Floats, ratio
from probe.analysis.copies import FEATURES, Copies, Integers, log_frequencies
from probe.analysis.floor import is_noise
from probe.analysis.scan import Block, Scan
from probe.analysis.sums import Sums
from probe.errors import ProbeError
from probe.results.token_ids import read_token_ids

FEWEST = 4
"""Documents below which no slope is asked for."""
POOLED = 1
"""Octaves on either side whose targets a prediction is fitted to as well."""
RIDGE = 1e-3
"""Ridge of that fit, as a share of each feature's mean square."""
ROUNDING = 1e-12
"""Share of its squares from which on a prediction differs from document to document."""
LARGEST = 1 << 24
"""No model has a token id so large: a table of all below it is no burden."""


def adjusted(sums: Sums, centred: Floats, population: int, scored: int | None = None) -> Sums:
    """Sums that say of the whole population what those of the scored documents alone say of them.

    A prediction p that costs no forward is known of the scored documents and of all. The mean
    becomes mean(delta) − λ · (mean of p over the scored − mean of p over all): unbiased for any p
    that was not fitted to the document itself, and narrower where p tells documents apart. λ is
    that of least squares by octave, 0 where p says nothing: divided by its own noise it is shrunk
    by ``1 − 2/t²``.

    Each document's sum then differs from its part of the mean by what λ, found without that
    document, leaves of it, and by its share of what the population itself varies by. So a
    bootstrap of these sums, and every test on them, holds all of the uncertainty.

    Args:
        sums: Sums of delta by document and bin.
        centred: Predicted sum of delta (nats) less that of as many targets of the population, by
            document and bin, shape ``(documents, bins)``; 0 where nothing is predicted.
        population: Documents whose mean prediction is known, the scored ones among them.
        scored: How many of them would be scored, for what that would leave; by default as many as
            there are here.

    Returns:
        The sums of as many documents and targets.

    Source: Angelopoulos et al. 2023, "Prediction-powered inference"; Angelopoulos, Duchi and Zrnic
        2023, "PPI++"; Zrnic and Candès 2024, "Cross-prediction-powered inference"; for means of
        samples the regression estimator, Cochran 1977, "Sampling techniques", chapter 7.
    """
    present = sums.targets.sum(axis=1) > 0
    documents = int(present.sum())
    if documents < FEWEST or population <= documents:
        return sums
    mean, behind = (_mean(values, sums.targets) for values in (sums.sums, centred))
    error, spread = sums.sums - mean * sums.targets, centred - behind * sums.targets
    slope, others = np.zeros_like(mean), np.zeros_like(sums.sums)
    octaves = octave_index(sums.lower)
    for octave in np.unique(octaves):
        bins = octaves == octave
        whole = centred[:, bins].sum(axis=1)
        found = _slopes(error[:, bins].sum(axis=1), spread[:, bins].sum(axis=1), whole, present)
        slope[bins], others[:, bins] = found[0], found[1][:, None]
    scored = min(scored or documents, population)
    known = 1 - np.sqrt(scored / population)
    left = error - known * others * spread
    if scored < population:  # λ has taken a degree of freedom
        left *= np.where(slope > 0, np.sqrt((scored - 1) / (scored - 2)), 1)
    left -= _mean(left, sums.targets) * sums.targets
    return replace(sums, sums=(mean - slope * behind) * sums.targets + left)


def _mean(values: Floats, targets: Floats) -> Floats:
    """Of each bin, a target; 0 where there is none."""
    return np.nan_to_num(ratio(values.sum(axis=0), targets.sum(axis=0)))


def _slopes(
    error: Floats, spread: Floats, whole: Floats, present: NDArray[np.bool_]
) -> tuple[float, Floats]:
    """The slope of one on the other, of all documents and without each, shape ``(documents,)``.

    A *spread* that is what rounding leaves of the *whole* has none.
    """
    count = present.sum()
    products, squares = error * spread, spread**2
    within = count / (count - 1)  # without a document the mean of the others moves away from it
    over = np.append(products.sum() - within * products, products.sum())
    under = np.append(squares.sum() - within * squares, squares.sum())
    told = under > ROUNDING * (whole**2).sum()
    over = np.where(told, over, 0)
    slopes = np.divide(over, under, out=np.zeros_like(over), where=told)
    noise = (error[:, None] - spread[:, None] * slopes) ** 2 * squares[:, None]
    noise = noise.sum(axis=0) - np.append(np.diagonal(noise), 0)
    kept = np.divide(noise, over**2, out=np.ones_like(over), where=over > 0)
    slopes = np.where(over > 0, slopes * np.maximum(1 - 2 * kept, 0), 0)
    return float(slopes[-1]), slopes[:-1]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Delta as predicted without a forward, for the documents of a run and for many more.

    Args:
        documents: Documents of the run.
        population: Documents whose mean prediction is known, those of the run among them.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.
        centred: By condition the predicted sums of :func:`adjusted` (nats), shape ``(documents,
            bins)``.
    """

    documents: int
    population: int
    edges: NDArray[np.int64]
    centred: Mapping[str, Floats]

    def inside(self, condition: str, lower: Integers, upper: Integers) -> Floats:
        """Predicted sums of some bins: those of the bins that lie in each.

        Args:
            condition: Canonical text of the condition; of others than those predicted 0.
            lower: First distance of each bin (tokens), shape ``(bins,)``.
            upper: First distance behind each, same shape.

        Returns:
            Nats, shape ``(documents, bins)``.
        """
        if condition not in self.centred:
            return np.zeros((self.documents, len(lower)))
        until = np.pad(np.cumsum(self.centred[condition], axis=1), ((0, 0), (1, 0)))
        first = np.minimum(np.searchsorted(self.edges, lower), len(self.edges) - 1)
        last = np.searchsorted(self.edges, upper, side="right") - 1
        return until[:, np.maximum(last, first)] - until[:, first]

    def adjust(
        self, sums: Sums, condition: str, other: str = "", scored: int | None = None
    ) -> Sums:
        """The sums of what a condition does, or of what it does beyond another one.

        Args:
            sums: Sums over the documents of the run, in its order, in any bins, over all targets or
                over some.
            condition: Canonical text of the condition.
            other: That of the condition which is subtracted, if any.
            scored: As :func:`adjusted` takes it.
        """
        known = (self.inside(name, sums.lower, sums.upper) for name in (condition, other))
        return adjusted(sums, np.subtract(*known), self.population, scored)


@dataclass(frozen=True, eq=False)
class Proxy:
    """What a small model's run says of a big model's, see :mod:`probe.analysis.proxy`.

    Args:
        path: Its folder.
        name: Name of the small model.
        prediction: Delta of the big run as it predicts it.
    """

    path: Path
    name: str
    prediction: Prediction


@dataclass(eq=False)
class _Moments:
    """What a fit needs of the rows of one condition and document: ``features`` and a constant.

    Args:
        squares: Sums of products of features, shape ``(octaves, features, features)``.
        products: Sums of features times delta (nats), shape ``(octaves, features)``.
        features: Sums of features, shape ``(bins, features)``.
        windows: Numbers of the windows.
    """

    squares: Floats
    products: Floats
    features: Floats
    windows: set[int] = field(default_factory=set)


class Predictor:
    """Counts what predicts delta as the rows of a run are read: see :class:`Copies`.

    Delta of a target is regressed on its features by least squares, by octave of distance with the
    octaves beside it, and for each document without that document.

    Args:
        windows: Token ids of all windows, those with scores among them, by document and number.
        edges: Edges of the bins (tokens).
    """

    def __init__(
        self, windows: Mapping[tuple[str, int], Integers], edges: NDArray[np.int64]
    ) -> None:
        self._windows, self._edges = windows, edges
        self._octaves = octave_index(edges[:-1])
        self._log_frequency = log_frequencies(list(windows.values()))
        self._copies = lru_cache(maxsize=16)(lambda *key: self._copies_of(windows[key]))
        self._sums: dict[tuple[str, int, bytes], Floats] = {}
        self._moments: dict[tuple[str, str], _Moments] = {}
        self._lock = Lock()

    def _copies_of(self, ids: Integers) -> Copies:
        return Copies(ids, self._log_frequency[ids])

    def begin(self, scan: Scan) -> None:
        """Get ready for the rows of a pass."""
        self._scan = scan

    def count(self, block: Block) -> None:
        """Count a block of rows; any thread may."""
        layout, delta = block.layout, block.delta
        conditions, documents = self._scan.conditions, self._scan.documents
        usable = ~(layout.grey | layout.free) & (layout.distance >= 0)
        usable &= layout.place >= layout.beyond
        for stretch, rows in enumerate(_stretches(layout.first, usable)):
            condition = conditions[layout.condition[stretch]]
            document, window = documents[block.document[stretch]], int(block.window[stretch])
            if not len(rows) or is_noise(condition) or not block.known[stretch]:
                continue
            found = self._copies(document, window).features(layout.place[rows], layout.beyond[rows])
            self._add(condition, document, window, found, layout.distance[rows], delta[rows])

    def _add(
        self,
        condition: str,
        document: str,
        window: int,
        features: Floats,
        distance: Integers,
        delta: Floats,
    ) -> None:
        features = np.column_stack([features, np.ones(len(features))])
        bins = bin_index(distance, self._edges)
        octaves, size = self._octaves[bins], int(self._octaves[-1]) + 1
        squares, products = (np.zeros((size, *features.shape[1:] * n)) for n in (2, 1))
        for octave in np.unique(octaves):
            own = octaves == octave
            squares[octave] = features[own].T @ features[own]
            products[octave] = features[own].T @ delta[own]
        sums = _binned(features, bins, len(self._edges) - 1)
        with self._lock:
            known = self._moments.get((condition, document))
            if known is None:
                known = self._moments[condition, document] = _Moments(squares, products, sums)
            else:
                known.squares += squares
                known.products += products
                known.features += sums
            known.windows.add(window)

    def prediction(
        self, connection: duckdb.DuckDBPyConnection, documents: Sequence[str]
    ) -> Prediction:
        """What is predicted, once all rows are counted.

        A condition whose targets lie otherwise from window to window has no prediction.

        Args:
            connection: From :func:`probe.results.views.connect`.
            documents: Documents with scores, in the order of the sums.
        """
        conditions = dict.fromkeys(condition for condition, _ in self._moments)
        population, centred = len({name for name, _ in self._windows}), {}
        for condition in conditions:
            layout = _layout(connection, condition)
            each = np.bincount(bin_index(layout[2], self._edges), minlength=len(self._edges) - 1)
            known = {d: m for d in documents if (m := self._moments.get((condition, d)))}
            if any((m.features[:, -1] != len(m.windows) * each).any() for m in known.values()):
                continue
            code = layout.tobytes()  # once: it is as long as the layout
            beyond, names = np.zeros((len(each), len(FEATURES) + 1)), set(known)
            for key in self._windows:
                if key[0] not in known and (sums := self._sums_of(key, layout, code)).any():
                    beyond += sums
                    names.add(key[0])
            centred[condition] = _centred(known, documents, self._octaves, beyond)
            population = min(population, len(names))
        return Prediction(len(documents), population, self._edges, centred)

    def _sums_of(self, key: tuple[str, int], layout: NDArray[np.int64], code: bytes) -> Floats:
        """Sums of the features of a window without scores, shape ``(bins, features + 1)``."""
        place, beyond, distance = layout
        known = *key, code
        if known not in self._sums:
            ids, size = self._windows[key], len(self._edges) - 1
            self._sums[known] = np.zeros((size, len(FEATURES) + 1))
            if len(ids) > place.max(initial=-1):
                features = self._copies_of(ids).features(place, beyond)
                features = np.column_stack([features, np.ones(len(features))])
                self._sums[known] = _binned(features, bin_index(distance, self._edges), size)
        return self._sums[known]


def predictor(folder: Path, edges: NDArray[np.int64]) -> Predictor | None:
    """What predicts delta in a run folder; ``None`` without windows of documents beyond its own.

    Args:
        folder: The folder, with ``population.parquet`` where there are such.
        edges: Edges of the bins (tokens).

    Raises:
        ProbeError: If a file with token ids cannot be read, or holds what is no token id.
    """
    path = folder / "population.parquet"
    if not path.exists():
        return None
    scored, found = _token_ids(folder / "windows.parquet"), _token_ids(path)
    own = {document for document, _ in scored}
    beyond = {key: ids for key, ids in found.items() if key[0] not in own}  # not scored by now
    return Predictor(scored | beyond, edges) if beyond else None


def _token_ids(path: Path) -> dict[tuple[str, int], NDArray[np.int32]]:
    found = read_token_ids(path)
    for (document, _), ids in found.items():
        if ids.size and not 0 <= ids.min() <= ids.max() < LARGEST:
            wrong = ids[(ids < 0) | (ids >= LARGEST)][0]
            raise ProbeError(
                f"{path} holds the token id {wrong} in document {document!r}; allowed: 0 to"
                f" {LARGEST - 1}"
            )
    return found


def _stretches(first: Integers, usable: NDArray[np.bool_]) -> Iterator[Integers]:
    """The usable rows of each stretch of a block."""
    ends = np.append(first[1:], len(usable))
    for begin, end in zip(first.tolist(), ends.tolist(), strict=True):
        yield begin + np.flatnonzero(usable[begin:end])


def _binned(features: Floats, bins: Integers, size: int) -> Floats:
    """Sums of features by bin, shape ``(size, features)``."""
    return np.column_stack([np.bincount(bins, one, minlength=size) for one in features.T])


def _layout(connection: duckdb.DuckDBPyConnection, condition: str) -> NDArray[np.int64]:
    """Place, boundary and distance (tokens) of a window's targets, shape ``(3, targets)``."""
    found = connection.execute(
        """WITH own AS (FROM targets
            WHERE condition = $1 AND NOT grey AND distance >= 0 AND position >= boundary)
        SELECT position - boundary + far AS place, far, distance
        FROM own SEMI JOIN (SELECT document, "window" FROM own LIMIT 1) USING (document, "window")
        ORDER BY far, place""",
        [condition],
    ).fetchnumpy()
    return np.array([found[name] for name in ("place", "far", "distance")], dtype=np.int64)


def _centred(
    known: Mapping[str, _Moments],
    documents: Sequence[str],
    octaves: NDArray[np.int64],
    others: Floats,
) -> Floats:
    """Predicted sums of each document by bin, less those of as many targets of the population.

    Args:
        known: What is known of each document with a row.
        documents: All documents.
        octaves: The octave of each bin.
        others: Sums of the features of windows without scores, shape ``(bins, features + 1)``.
    """
    found = list(known.values())
    squares = _pooled(np.stack([one.squares for one in found]))
    products = _pooled(np.stack([one.products for one in found]))
    features = np.stack([one.features for one in found])
    # Without each document, so that its own delta is not in what is predicted of it.
    squares, products = squares.sum(axis=0) - squares, products.sum(axis=0) - products
    diagonal = np.einsum("...ii->...i", squares)
    penalty = np.append(np.full(len(FEATURES), RIDGE), 0) * diagonal
    squares = squares + np.eye(squares.shape[-1]) * (penalty + 1e-9)[..., None]
    weights = np.linalg.solve(squares, products[..., None])[..., 0][:, octaves]
    whole = features.sum(axis=0) + others
    mean = ratio(whole, np.broadcast_to(whole[:, -1:], whole.shape))
    centred = features - features[:, :, -1:] * np.nan_to_num(mean)
    predicted = np.zeros((len(documents), len(octaves)))
    at = [documents.index(name) for name in known]
    predicted[at] = (weights * centred)[:, :, :-1].sum(axis=-1)
    return predicted


def _pooled(moments: Floats) -> Floats:
    """Moments of each octave with those beside it; the octaves are the second axis."""
    padded = np.pad(moments, [(0, 0), (POOLED, POOLED), *[(0, 0)] * (moments.ndim - 2)])
    octaves = moments.shape[1]
    return np.asarray(sum(padded[:, at : at + octaves] for at in range(2 * POOLED + 1)))
