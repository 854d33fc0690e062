"""Simulated runs that limit attention: rows without a boundary, and costs in their record."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from simulated import Simulation, write_run

DELTAS = {
    "attend(local(w=512, sinks=1))": 0.002,
    "attend(local(w=64, sinks=1))": 0.2,
    "attend(blocks(size=512, sinks=1))": 0.3,
}
FIRST = 300
COSTS = {
    "attend(local(w=512, sinks=1))": {"keys": 513.0, "kv_share": 0.25, "first": FIRST},
    "attend(local(w=64, sinks=1))": {"keys": 65.0, "kv_share": 0.03, "first": 0},
    "attend(blocks(size=512, sinks=1))": {"keys": 513.0, "kv_share": 0.25, "first": 0},
}


def make(folder: Path, documents: int = 8, extra: float = 0.0, seed: int = 0) -> Path:
    """A simulated run with a row a pattern beside every intact row, which costs *extra* more."""
    run = write_run(
        folder / "run", Simulation({"truncate": lambda d: 0.5 / (1 + d)}, documents=documents)
    )
    rng = np.random.default_rng(seed)
    for number, part in enumerate(sorted((run / "scores").glob("*.parquet"))):
        table = pq.read_table(part)
        intact = table.filter(pa.compute.equal(table["condition"].cast("string"), "intact"))
        if not len(intact):
            continue
        frames = []
        for name, delta in DELTAS.items():
            frame = intact.to_pandas()
            frame["condition"] = name
            frame["nll"] = frame["nll_intact"] + delta + extra + rng.normal(0, 0.002, len(frame))
            frames.append(frame)
        both = pd.concat(frames)
        for column in ("far_start", "boundary", "distance"):
            both[column] = -1
        written = pa.Table.from_pandas(both, schema=table.schema, preserve_index=False)
        pq.write_table(
            written.replace_schema_metadata(None), run / "scores" / f"patterns-{number}.parquet"
        )
    record = json.loads((run / "run.json").read_text())
    record["plan"]["conditions"] |= {name: {} for name in DELTAS}
    record["attention"] = {
        name: {"full": 2049.0, "flops_share": cost["kv_share"], **cost}
        for name, cost in COSTS.items()
    }
    (run / "run.json").write_text(json.dumps(record))
    return run
