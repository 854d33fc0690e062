"""Simulated run folders: known curves, document and window effects, in the results schema."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

Curve = Callable[[np.ndarray], np.ndarray]

SCORES = pa.schema(
    [
        ("document", pa.dictionary(pa.int32(), pa.string())),
        ("window", pa.int32()),
        ("position", pa.int32()),
        ("far_start", pa.int32()),
        ("boundary", pa.int32()),
        ("distance", pa.int32()),
        ("condition", pa.dictionary(pa.int32(), pa.string())),
        ("repeat", pa.int16()),
        ("nll", pa.float32()),
        ("nll_intact", pa.float32()),
    ]
)
WINDOWS = pa.schema(
    [
        ("document", pa.string()),
        ("window", pa.int32()),
        ("start", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
        ("char_start", pa.list_(pa.int32())),
        ("char_end", pa.list_(pa.int32())),
        ("text", pa.string()),
    ]
)


@dataclass(frozen=True)
class Simulation:
    """What is planted in a run.

    Args:
        curves: Expected delta by condition, a function of distances.
        documents: Number of documents.
        windows: Windows of each document.
        length: Tokens of a window.
        boundaries: Offsets of the boundaries inside the window; one means a single near run.
        reach: Distances ``0 … reach - 1`` behind each boundary are targets.
        distances: For a grid: the measured distances; replaces boundaries and reach.
        token_spread: Standard deviation of delta between targets.
        document_spread: Standard deviation of a factor on the curve between documents.
        window_spread: The same between windows.
        noise_spread: Standard deviation of the noise condition; ``None`` leaves it out.
        position_slope: Rise of the intact loss over the window (nats), of documents alike.
        curve_starts: ``plan.conditions.*.curve_start``.
        groups: Group of each document, in turn.
        repeats: Draws of each condition.
        text: Whether the windows have text.
        name: Name of the run.
        model: Name of the model.
        data: Name of the data.
        resamples: Draws of documents behind an interval, where a test does not say.
        seed: Seed of everything.
    """

    curves: Mapping[str, Curve]
    documents: int = 8
    windows: int = 2
    length: int = 512
    boundaries: Sequence[int] = (256,)
    reach: int = 256
    distances: Sequence[int] | None = None
    token_spread: float = 0.02
    document_spread: float = 0.1
    window_spread: float = 0.1
    noise_spread: float | None = 1e-4
    position_slope: float = 0.0
    curve_starts: Mapping[str, int] = field(default_factory=dict)
    groups: Sequence[str | None] = (None,)
    repeats: int = 1
    text: bool = True
    name: str = "simulated"
    model: str = "tiny-model"
    data: str = "made-up"
    resamples: int = 100
    seed: int = 0


def write_run(folder: Path, simulation: Simulation) -> Path:
    """Write ``run.json``, ``windows.parquet`` and one score part a document."""
    (folder / "scores").mkdir(parents=True)
    windows = []
    for number in range(simulation.documents):
        rng = np.random.default_rng([simulation.seed, number])
        factor = 1 + simulation.document_spread * rng.normal()
        columns: list[dict[str, Any]] = []
        for window in range(simulation.windows):
            start = window * simulation.length
            windows.append(_window(simulation, f"doc{number:03d}", window, start))
            scale = factor * (1 + simulation.window_spread * rng.normal())
            columns += _rows(simulation, f"doc{number:03d}", window, start, scale, rng)
        tables = [pa.table(column, schema=SCORES) for column in columns]
        part = folder / "scores" / f"part-{number:05d}.parquet"
        pq.write_table(pa.concat_tables(tables), part, compression="zstd")
    pq.write_table(pa.Table.from_pylist(windows, schema=WINDOWS), folder / "windows.parquet")
    (folder / "run.json").write_text(json.dumps(_record(simulation)), encoding="utf-8")
    return folder


def rows_of(folder: Path) -> pd.DataFrame:
    """All score rows of a run, with the start of their window: for what is worked out in pandas."""
    parts = sorted((folder / "scores").glob("*.parquet"))
    frame = pd.concat([pq.read_table(part).to_pandas() for part in parts], ignore_index=True)
    frame = frame.astype({"document": str, "condition": str, "nll": float, "nll_intact": float})
    windows = pq.read_table(folder / "windows.parquet").to_pandas()
    return frame.merge(windows[["document", "window", "start"]], on=["document", "window"])


def _window(simulation: Simulation, document: str, window: int, start: int) -> dict[str, Any]:
    length = simulation.length
    return {
        "document": document,
        "window": window,
        "start": start,
        "token_ids": list(range(length)),
        "char_start": [3 * index for index in range(length)],
        "char_end": [3 * index + 3 for index in range(length)],
        "text": "abé" * length if simulation.text else None,
    }


def _rows(
    simulation: Simulation,
    document: str,
    window: int,
    start: int,
    scale: float,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Columns of all rows of a window, one entry a condition."""
    boundary, distance = _targets(simulation)
    offset = boundary + distance
    slope = simulation.position_slope * np.arange(simulation.length) / simulation.length
    losses = (rng.gamma(2.0, 1.6, size=simulation.length) + slope).astype(np.float32)
    scored = np.unique(offset)
    minus = np.full(len(scored), -1)
    intact = (scored + start, minus, minus, minus, losses[scored], losses[scored])
    entries = [_columns(document, window, "intact", 0, *intact)]
    curves = dict(simulation.curves)
    if simulation.noise_spread is not None:
        curves["noise"] = np.zeros_like
    for condition, curve in curves.items():
        spread = simulation.noise_spread if condition == "noise" else simulation.token_spread
        expected = np.asarray(curve(distance), dtype=float) * scale
        for repeat in range(simulation.repeats):
            nll = losses[offset] + expected + spread * rng.normal(size=len(distance))
            entries.append(
                _columns(
                    document,
                    window,
                    condition,
                    repeat,
                    offset + start,
                    np.full(len(offset), start),
                    boundary + start,
                    distance,
                    nll,
                    losses[offset],
                )
            )
    return entries


def _targets(simulation: Simulation) -> tuple[np.ndarray, np.ndarray]:
    """Boundary and distance of each target of a window."""
    if simulation.distances is None:
        boundary, distance = np.meshgrid(
            np.array(simulation.boundaries), np.arange(simulation.reach), indexing="ij"
        )
        return boundary.ravel(), distance.ravel()
    first = simulation.length - 20
    boundary = first - np.repeat(np.array(simulation.distances), 10)
    return boundary, first + np.tile(np.arange(10), len(simulation.distances)) - boundary


def _columns(
    document: str,
    window: int,
    condition: str,
    repeat: int,
    position: np.ndarray,
    far_start: np.ndarray,
    boundary: np.ndarray,
    distance: np.ndarray,
    nll: np.ndarray,
    nll_intact: np.ndarray,
) -> dict[str, Any]:
    count = len(position)

    def same(text: str) -> pa.DictionaryArray:
        indices = pa.array(np.zeros(count), pa.int32())
        return pa.DictionaryArray.from_arrays(indices, pa.array([text]))

    return {
        "document": same(document),
        "window": np.full(count, window, dtype=np.int32),
        "position": position.astype(np.int32),
        "far_start": far_start.astype(np.int32),
        "boundary": boundary.astype(np.int32),
        "distance": distance.astype(np.int32),
        "condition": same(condition),
        "repeat": np.full(count, repeat, dtype=np.int16),
        "nll": nll.astype(np.float32),
        "nll_intact": nll_intact.astype(np.float32),
    }


def _record(simulation: Simulation) -> dict[str, Any]:
    documents = [
        {
            "id": f"doc{number:03d}",
            "tokens": simulation.windows * simulation.length,
            "windows": simulation.windows,
            "group": simulation.groups[number % len(simulation.groups)],
        }
        for number in range(simulation.documents)
    ]
    starts = {name: {"curve_start": start} for name, start in simulation.curve_starts.items()}
    return {
        "name": simulation.name,
        "status": "complete",
        "config": {
            "analysis": {
                "tolerances": ["1%", "2%", "5%", "10%"],
                "bins_per_octave": 8,
                "resamples": simulation.resamples,
                "confidence": 0.95,
            },
            "windows": {"length": simulation.length},
            "protocol": {"kind": "sweep", "reach": simulation.reach},
            "seed": simulation.seed,
        },
        "model": {"name": simulation.model, "dtype": "float32", "path": "models/tiny"},
        "data": {"name": simulation.data, "documents": documents, "left_out": 0},
        "plan": {"reach": simulation.reach, "conditions": starts},
    }
