"""Made-up runs of protocol longppl, of tokens of a few characters with random losses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from simulated import SCORES, WINDOWS

K, STRIDE = 8, 4
TEXT = "the cat sat on a mat and then ran far away from home "


def write(
    folder: Path,
    documents: dict[str, str],
    size: int = 3,
    *,
    seed: int = 0,
    model: str = "one",
    skip: int = 0,
    text: bool = True,
    spread: float = 2.0,
) -> Path:
    """A longppl run whose tokens are *size* characters each, with random losses.

    Args:
        folder: Where it goes.
        documents: Texts by name.
        size: Characters of a token.
        seed: Of the losses.
        model: Name of the model.
        skip: Characters at the start that no token has.
        text: Whether the windows keep their text.
        spread: Standard deviation of LSD.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    kept = []
    for name, whole in documents.items():
        tokens = [whole[at : at + size] for at in range(skip, len(whole), size)]
        starts = [size * number for number in range(len(tokens))]
        kept.append(
            {
                "document": name,
                "window": 0,
                "start": 0,
                "token_ids": [hash_of(token) for token in tokens],
                "char_start": starts if text else [],
                "char_end": [s + len(t) for s, t in zip(starts, tokens, strict=True)]
                if text
                else [],
                "text": whole[skip:] if text else None,
            }
        )
        nll = rng.gamma(1.5, 1.2, size=len(tokens))
        places = {"document": name, "window": 0, "repeat": 0}
        for position, loss in enumerate(nll):
            places |= {"position": position, "nll_intact": loss}
            rows.append(
                places
                | {"condition": "intact", "nll": loss}
                | dict.fromkeys(["far_start", "boundary", "distance"], -1)
            )
            if position >= K:
                start = (position - K) // STRIDE * STRIDE
                lsd = rng.normal(0.5, spread) if start else 0.0
                rows.append(
                    places
                    | {"condition": "truncate", "nll": loss + lsd, "distance": position - start}
                    | {"boundary": start, "far_start": start}
                )
    (folder / "scores").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCORES), folder / "scores" / "part.parquet")
    pq.write_table(pa.Table.from_pylist(kept, schema=WINDOWS), folder / "windows.parquet")
    record = {
        "name": folder.name,
        "status": "complete",
        "config": {
            "protocol": {"kind": "longppl", "context": K, "stride": STRIDE},
            "analysis": {"resamples": 300, "confidence": 0.9},
            "seed": 5,
        },
        "model": {"name": f"model-{model}", "path": model, "revision": None},
        "data": {"name": "made-up"},
    }
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def hash_of(token: str) -> int:
    return sum(ord(sign) * 31**number for number, sign in enumerate(token)) % 50_000


def texts(count: int, length: int = 240) -> dict[str, str]:
    return {f"doc{n}": (TEXT[n:] + TEXT * 9)[: length + 7 * n] for n in range(count)}


def frame(folder: Path) -> pd.DataFrame:
    rows = pq.read_table(folder / "scores" / "part.parquet").to_pandas()
    rows = rows.astype({"document": str, "condition": str, "nll": float, "nll_intact": float})
    return rows.assign(lsd=rows.nll - rows.nll_intact)


def keys_of(folder: Path, lsd: float = 2.0, lcl: float = -2.0) -> pd.DataFrame:
    """The key rows by definition."""
    rows = frame(folder)
    return rows[(rows.condition == "truncate") & (rows.lsd > lsd) & (-rows.nll_intact > lcl)]
