"""What token ids predict of a run, worked out row by row from the files of its folder."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from copies_by_loops import features_of
from simulated import rows_of

from probe.analysis.copies import FEATURES
from probe.analysis.predicted import POOLED, RIDGE


def ids_of(path: Path) -> dict[tuple[str, int], list[int]]:
    """Token ids by document and window of a file."""
    rows = pq.read_table(path, columns=["document", "window", "token_ids"]).to_pylist()
    return {(row["document"], row["window"]): row["token_ids"] for row in rows}


def centred_of(folder: Path, condition: str, edges: np.ndarray) -> dict[str, np.ndarray]:
    """Predicted sum by bin of each scored document, less that of as many targets of all documents.

    A regression of delta on the features of its targets for each document without its own rows,
    and for each octave with the rows of the octaves beside it.
    """
    scored, others = ids_of(folder / "windows.parquet"), ids_of(folder / "population.parquet")
    every = [*scored.values(), *others.values()]
    counts = np.ones(max(map(max, every)) + 1)
    for ids in every:
        for one in ids:
            counts[one] += 1
    logs = np.log(counts / counts.sum())
    known = others | scored

    @cache
    def features(document: str, window: int, place: int, boundary: int) -> tuple[float, ...]:
        ids = known[document, window]
        return (*features_of(ids, [logs[one] for one in ids], place, boundary), 1.0)

    rows = rows_of(folder)
    rows = rows[(rows["condition"] == condition) & (rows["boundary"] >= 0)]
    rows = rows.assign(delta=rows["nll"] - rows["nll_intact"])
    keys = ["document", "window", "position", "boundary", "distance", "start"]
    rows = rows.groupby(keys, as_index=False)["delta"].mean()  # of the repeats
    rows = rows[rows["distance"] <= rows["boundary"] - rows["start"]]
    rows = rows.assign(place=rows["position"] - rows["start"], far=rows["boundary"] - rows["start"])
    rows["bin"] = [int(np.flatnonzero(edges <= one)[-1]) for one in rows["distance"]]
    rows["octave"] = [max(int(one).bit_length() - 3, 0) for one in rows["distance"]]
    rows["features"] = [
        features(row.document, row.window, row.place, row.far) for row in rows.itertuples()
    ]
    (first, *_) = rows.groupby(["document", "window"], sort=False)
    layout = first[1]
    beyond = [
        (row.bin, features(document, window, row.place, row.far))
        for document, window in known
        if document not in set(rows["document"])
        for row in layout.itertuples()
    ]
    size = len(edges) - 1
    found = {}
    for document in rows["document"].unique():
        weights = {
            octave: _fit(rows[rows["document"] != document], octave)
            for octave in rows["octave"].unique()
        }
        found[document] = np.zeros(size)
        for bin_, own in rows[rows["document"] == document].groupby("bin"):
            all_of_bin = [
                *rows[rows["bin"] == bin_]["features"],
                *(f for b, f in beyond if b == bin_),
            ]
            mean = np.mean(all_of_bin, axis=0)
            for row in own.itertuples():
                found[document][bin_] += float(
                    sum((np.array(row.features) - mean)[:-1] * weights[row.octave][:-1])
                )
    return found


def _fit(rows: pd.DataFrame, octave: int) -> np.ndarray:
    """Weights of the features and the constant, by least squares with a little ridge."""
    near = rows[(rows["octave"] - octave).abs() <= POOLED]
    matrix, delta = np.array(near["features"].tolist()), near["delta"].to_numpy()
    squares = matrix.T @ matrix
    for at in range(len(FEATURES)):
        squares[at, at] *= 1 + RIDGE
    return np.linalg.solve(squares + 1e-9 * np.eye(len(squares)), matrix.T @ delta)
