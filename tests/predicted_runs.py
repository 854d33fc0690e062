"""Simulated runs whose delta is what far text repeats: a prediction can know most of it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from simulated import WINDOWS, Simulation, write_run

from probe.analysis.copies import Copies, log_frequencies

SCORED, POPULATION, LENGTH, BOUNDARY = 12, 72, 128, 64
HEIGHT = {"truncate": 0.6, "shuffle": 0.9}


def repeating(folder: Path, *, population: int = POPULATION, worth: float = 1.0) -> Path:
    """A run in which a target is worth more where its token stands in far text alone.

    Documents repeat more or less of their far text. ``population.parquet`` has the others.

    Args:
        folder: Where to write it.
        population: Documents of the data, the scored ones among them; with no others no file.
        worth: Times what the repeated tokens are worth.
    """
    curves = {name: lambda d: 0 * d + 0.1 for name in HEIGHT}
    simulation = Simulation(
        curves,
        documents=SCORED,
        windows=1,
        length=LENGTH,
        boundaries=(BOUNDARY,),
        reach=BOUNDARY,
        document_spread=0.0,
        window_spread=0.0,
        resamples=400,
    )
    write_run(folder, simulation)
    ids = [_text(seed) for seed in range(POPULATION)]
    windows = pq.read_table(folder / "windows.parquet").to_pylist()
    for window, own in zip(windows, ids, strict=False):
        window["token_ids"] = own.tolist()
    pq.write_table(pa.Table.from_pylist(windows, schema=WINDOWS), folder / "windows.parquet")
    others = [
        {"document": f"other{number}", "window": 0, "token_ids": ids[number].tolist()}
        for number in range(SCORED, population)
    ]
    if others:
        pq.write_table(pa.Table.from_pylist(others), folder / "population.parquet")
    known = log_frequencies(ids)
    for part, own in zip(sorted(folder.glob("scores/*.parquet")), ids, strict=False):
        table = pq.read_table(part)
        rows = table.to_pandas()
        place = rows["position"].to_numpy() % LENGTH
        alone = Copies(own, known[own]).features(place, np.minimum(place, BOUNDARY))[:, 0]
        height = rows["condition"].astype(str).map(HEIGHT).fillna(0.0).to_numpy()
        nll = rows["nll"].to_numpy() + worth * height * alone * (rows["boundary"].to_numpy() >= 0)
        at = table.schema.get_field_index("nll")
        nll = pa.array(nll.astype(np.float32))
        pq.write_table(table.set_column(at, table.schema.field(at), nll), part)
    return folder


def _text(seed: int) -> np.ndarray:
    """A far text, and a near one that takes a share of its tokens from there."""
    rng = np.random.default_rng([seed, 7])
    far = rng.integers(1000, size=BOUNDARY)
    near = rng.integers(1000, 2000, size=LENGTH - BOUNDARY)
    again = rng.random(LENGTH - BOUNDARY) < rng.beta(1, 2)
    return np.concatenate([far, np.where(again, rng.choice(far, size=len(near)), near)])
