"""Made-up windows, and simulated runs whose windows hold words, for the tests of token classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from open_runs import changed
from simulated import WINDOWS, Simulation, write_run

from probe.analysis.open_run import open_run
from probe.analysis.settings import Analysis
from probe.classes.class_sums import ClassSums
from probe.classes.curves import ClassCurves, class_curves
from probe.classes.table import ClassTable
from probe.classes.tokens import TokenCounts, WindowTokens
from probe.results.folder import RunFolder, read_folder
from probe.results.tolerance import parse_tolerance

TYPES = (" the", " cat", "ching", " sat", ".", "\n", " 12", " ,;", "é", "'s", " 3rd", "er")
"""Texts of the token ids 0, 1, 2 … of made-up windows."""


def counted(ids: Sequence[int]) -> TokenCounts:
    """The counts of these ids."""
    return TokenCounts(*np.unique(np.asarray(ids, dtype=np.int64), return_counts=True))


def window_of(
    tokens: Sequence[int] | Sequence[str],
    *,
    start: int = 0,
    group: str | None = None,
    document: str = "a",
    counts: TokenCounts | None = None,
) -> WindowTokens:
    """A window of token ids without text, or of tokens by their texts (equal text, equal id)."""
    text = None
    offsets = np.empty((2, 0), dtype=np.int64)
    ids = np.array(tokens)
    if any(isinstance(token, str) for token in tokens):
        text = "".join(map(str, tokens))
        ends = np.cumsum([len(str(token)) for token in tokens])
        offsets = np.stack([np.concatenate([[0], ends[:-1]]), ends])
        ids = np.unique(ids, return_inverse=True)[1]
    ids = ids.astype(np.int64)
    return WindowTokens(
        document=document,
        window=0,
        start=start,
        ids=ids,
        char_start=offsets[0],
        char_end=offsets[1],
        text=text,
        group=group,
        counts=counts or counted(ids),
    )


def word_run(folder: Path, simulation: Simulation, *, text: bool = True) -> RunFolder:
    """A simulated run whose windows hold seeded tokens of ``TYPES``, the first ones most often."""
    write_run(folder, simulation)
    rng = np.random.default_rng(simulation.seed)
    chances = 1 / (1 + np.arange(len(TYPES)))
    path = folder / "windows.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        ids = rng.choice(len(TYPES), size=simulation.length, p=chances / chances.sum())
        ends = np.cumsum([len(TYPES[number]) for number in ids])
        row["token_ids"] = ids.tolist()
        row["text"] = "".join(TYPES[number] for number in ids) if text else None
        row["char_start"] = [0, *ends[:-1].tolist()] if text else []
        row["char_end"] = ends.tolist() if text else []
    pq.write_table(pa.Table.from_pylist(rows, schema=WINDOWS), path)
    return read_folder(folder)


def score_rows(run: RunFolder) -> pd.DataFrame:
    """All score rows of a run."""
    parts = [pq.read_table(part).to_pandas() for part in run.parts]
    plain = [part.astype({"document": str, "condition": str}) for part in parts]
    return pd.concat(plain, ignore_index=True)


def window_rows(run: RunFolder) -> list[dict[str, Any]]:
    """All rows of windows.parquet."""
    rows: list[dict[str, Any]] = pq.read_table(run.path / "windows.parquet").to_pylist()
    return rows


HOW = Analysis(
    tolerances=(parse_tolerance("1%"), parse_tolerance("5% of delta0")),
    bins_per_octave=2,
    resamples=200,
)


def falling(distance: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-distance / 8))


def simulation(**changes: Any) -> Simulation:
    """Some rows are grey: boundaries at 24 have targets at distances up to 31."""
    values: dict[str, Any] = {
        "curves": {"truncate": falling, "shuffle": lambda d: falling(d) / 2},
        "documents": 8,
        "windows": 2,
        "length": 96,
        "boundaries": (24, 48),
        "reach": 32,
        "curve_starts": {"shuffle": 4},
        "repeats": 2,
    }
    return Simulation(**(values | changes))


def curves_of(run: RunFolder, table: ClassTable, how: Analysis = HOW) -> ClassCurves:
    """What is said of the classes of a run that has no noise floor, and three bytes a token."""
    opened = open_run(run.path, analysis=how, write=False)
    made = changed(opened, floor=None, bytes_per_token=3.0)
    return class_curves(made, ClassSums(made, table))
