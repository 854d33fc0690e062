"""Simulated runs to compare: other tokens over the same text, plain rows to check against."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from simulated import WINDOWS

from probe.analysis.open_run import open_run
from probe.analysis.settings import Analysis
from probe.findings.compare.comparison import Comparison, compare
from probe.findings.compare.conclusion import comparison_finding
from probe.render.terminal import text

ALPHABET = list("abc é漢🎉\n")
EPSILON = np.log(1.01)


def compared(a: Path, b: Path, analysis: Analysis | None = None) -> Comparison:
    """Open two runs and compare them."""
    with ExitStack() as stack:
        opened = [
            stack.enter_context(open_run(folder, analysis=analysis, write=False))
            for folder in (a, b)
        ]
        return compare(*opened)


def printed(comparison: Comparison) -> str:
    """The comparison as the terminal has it."""
    return text(comparison_finding(comparison), wrap=True)


def step(at: int, height: float = 0.3):
    """A curve of *height* nats that falls to 0 at a distance."""
    return lambda distances: np.where(distances < at, height, 0.0)


def retokenise(folder: Path, characters: int) -> Path:
    """Give every token of a simulated run so many characters of the same text; new token ids."""
    windows = pq.read_table(folder / "windows.parquet").to_pylist()
    for window in windows:
        length = len(window["token_ids"])
        window["char_start"] = [characters * index for index in range(length)]
        window["char_end"] = [characters * (index + 1) for index in range(length)]
        window["text"] = ("abé" * characters * length)[: characters * length]
    return write_windows(folder, windows)


def random_text(folder: Path, seed: int = 0) -> Path:
    """Give the windows random tokens of 0 to 5 characters, each of one to four bytes."""
    rng = np.random.default_rng(0)
    vocabulary = ["".join(rng.choice(ALPHABET, size=size)) for size in np.arange(60) % 6]
    windows = pq.read_table(folder / "windows.parquet").to_pylist()
    for number, window in enumerate(windows):
        rng = np.random.default_rng([seed, number])
        ids = rng.integers(60, size=len(window["token_ids"]))
        ends = np.cumsum([len(vocabulary[token]) for token in ids])
        window["token_ids"] = ids.tolist()
        window["char_start"] = [0, *ends[:-1].tolist()]
        window["char_end"] = ends.tolist()
        window["text"] = "".join(vocabulary[token] for token in ids)
    return write_windows(folder, windows)


def write_windows(folder: Path, windows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(windows, schema=WINDOWS), folder / "windows.parquet")
    return folder


def change_record(folder: Path, **parts: Any) -> Path:
    """Change ``run.json``: a mapping changes the keys that it names."""
    record = json.loads((folder / "run.json").read_text("utf-8"))
    for key, value in parts.items():
        record[key] = {**record.get(key, {}), **value} if isinstance(value, dict) else value
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def rows_of(folder: Path) -> pd.DataFrame:
    """Every row of a run with delta, grey, and its distance and own bytes worked out plainly."""
    parts = sorted((folder / "scores").glob("*.parquet"))
    frame = pd.concat([pq.read_table(part).to_pandas() for part in parts], ignore_index=True)
    frame = frame.astype({"document": str, "condition": str, "nll": float, "nll_intact": float})
    places = []
    for window in pq.read_table(folder / "windows.parquet").to_pylist():
        text, starts = window["text"], window["char_start"]
        first = [len(text[:start].encode()) for start in starts] if text is not None else []
        size = [b - a for a, b in zip(first, [*first[1:], len(text.encode())], strict=True)]
        places.append(
            pd.DataFrame(
                {
                    "document": window["document"],
                    "window": window["window"],
                    "start": window["start"],
                    "position": window["start"] + np.arange(len(first)),
                    "byte": first,
                    "bytes": size,
                }
            )
        )
    known = pd.concat(places, ignore_index=True)
    frame = frame.merge(known, on=["document", "window", "position"])
    boundaries = known.rename(columns={"position": "boundary", "byte": "boundary_byte"})
    keys = ["document", "window", "boundary"]
    frame = frame.merge(boundaries[[*keys, "boundary_byte"]], on=keys, how="left")
    return frame.assign(
        delta=frame.nll - frame.nll_intact,
        grey=frame.distance > frame.boundary - frame.start,
        bytes_back=frame.byte - frame.boundary_byte,
    )
