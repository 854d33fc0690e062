"""How many forwards an interval costs, plain and as predicted: one large run, resampled.

    probe run configs/precision-code.yaml
    python benchmarks/precision.py results/precision-code --documents 24 48

A run that scored many documents is read as if it had scored some: ``--draws`` times so many of them
are drawn, the others are known by their token ids alone, as those of its ``population.parquet``
are. The table has, by octave, the half-width of delta's interval as the scored documents alone give
it and as predicted (medians of the draws, nats per token), and how many times the forward tokens
the plain way needs for the half-width of the other: the square of their ratio, since half-widths go
with one over the square root of the documents. Its interval is that of the middle 95 % of the
draws; ``all`` draws nothing and reads the run as it is.

With ``--by-window`` every window is a document, and all other windows of the same documents are the
population: for a few long books, of which many windows were scored.
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

from probe.analysis.bootstrap import standard_error
from probe.analysis.open_run import OpenRun, open_run
from probe.analysis.sums import Sums, by_octave, to_sums
from probe.config import check
from probe.results.scores import Store
from probe.runs.experiment import prepare

OCTAVES = (256, 512)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--documents", type=int, nargs="*", default=[24, 48])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--condition", default="truncate")
    parser.add_argument("--by-window", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = by_window(args.run, Path(scratch) / "run") if args.by_window else args.run
        with open_run(folder, write=False) as run:
            print(f"{args.run.name}, {args.condition}, {len(run.documents)} scored")
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
