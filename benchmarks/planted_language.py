"""A small language whose far dependencies are known: text to train on, and a score of the weights.

    python benchmarks/planted_language.py make data/planted-near.parquet --near --documents 40000
    probe train configs/training/planted-start.yaml
    python benchmarks/planted_language.py make data/planted.parquet --documents 800
    probe train configs/training/planted.yaml
    python benchmarks/planted_language.py score results/training-planted

Facts are stated early in a document, ``fact n7 v3 v9 v0 v5 .``, and asked for later,
``ask n7 v3 v9 v0 v5 .``: those four values are told by far text alone, 200 to 900 words ago in
documents of 1,022 words, 6 to 110 in those of 126. All other words need the last 20 at most: they
are sentences of a chain in which a word allows four others and whose last word follows from the
first. With a BOS a document is a training piece of 1,023 or 127 tokens, a token a word.

``score`` asks how well weights find the asked values: of the run that scored the training pieces,
precision and recall by rule, at a threshold that is said; and what each model's intact loss is on
the asked values and on all other words of the held-out documents.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.random import Generator
from transformers import AutoTokenizer

from probe.analysis.open_run import OpenRun
from probe.training.rules import parse
from probe.training.weigh import short_context, weighed

NAMES, FILLERS, OPENERS, BRANCHES, VALUES = 32, 64, 16, 4, 4
"""Names, and as many values; words of sentences, those that begin one, how many may follow a word;
values of a fact."""
_CHAIN = np.random.default_rng(7)
FOLLOWERS = _CHAIN.integers(FILLERS, size=(FILLERS, BRANCHES))
SHARES = _CHAIN.dirichlet(np.ones(BRANCHES), size=FILLERS).cumsum(axis=1)


@dataclass(frozen=True)
class Shape:
    """How documents are built.

    Args:
        words: Words of a document.
        lead: Words before the first fact, at most: as many of the text that needs little.
        every: Words between two facts there, on average.
        questions: For each fact.
        nearest: Words between a fact, or the last question for it, and the next, at least.
        furthest: Words between a fact and a question, as they are drawn; what is said in between
            comes on top.
        beginning: Words behind those in which all facts are stated.
    """

    words: int
    lead: int
    every: int
    questions: int
    nearest: int
    furthest: int
    beginning: int


NEAR = Shape(126, 30, 2, 5, 6, 90, 18)
FAR = Shape(1022, 300, 4, 2, 200, 700, 84)


def sentences(rng: Generator) -> Iterator[list[str]]:
    """Text that needs its last 20 words only, a sentence after the other, without an end."""
    while True:
        opener = int(rng.integers(OPENERS))
        chain = [opener]
        for share in rng.random(rng.integers(6, 12)):
            at = min(int((SHARES[chain[-1]] < share).sum()), BRANCHES - 1)
            chain.append(int(FOLLOWERS[chain[-1], at]))
        yield [*(f"w{word}" for word in chain), f"w{(7 * opener + 3) % FILLERS}", "."]


def document(rng: Generator, shape: Shape) -> list[str]:
    """The words of a document."""
    waiting: list[tuple[float, list[str]]] = []
    names: list[int] = []  # the last ones that were stated: each is one fact while it is asked for
    words: list[str] = []
    lead = int(rng.integers(shape.lead + 1))
    text = (word for sentence in sentences(rng) for word in sentence)
    while len(words) < shape.words:
        if waiting and len(words) >= min(waiting)[0]:
            waiting.remove(said := min(waiting))
            words += said[1]
        elif lead <= len(words) < lead + shape.beginning and rng.random() < 1 / shape.every:
            name = int(rng.choice(list(set(range(NAMES)) - set(names))))
            names = [*names, name][-(NAMES - 8) :]
            values = [f"v{value}" for value in rng.integers(NAMES, size=VALUES)]
            gaps = np.sort(rng.uniform(shape.nearest, shape.furthest, size=shape.questions))
            apart = np.diff(gaps, prepend=0) >= shape.nearest
            fact = [f"n{name}", *values, "."]
            words += ["fact", *fact]
            waiting += [(len(words) + gap, ["ask", *fact]) for gap in gaps[apart]]
        else:
            words.append(next(text))
    return words[: shape.words]


def asked(words: list[str], nearest: int = FAR.nearest) -> set[int]:
    """Places of the values that are asked for and were said before, so many words ago or more."""
    places: set[int] = set()
    last: dict[str, int] = {}
    for at, (mark, name) in enumerate(pairwise(words)):
        if mark in ("ask", "fact"):
            values = range(at + 2, min(at + 2 + VALUES, len(words)))
            if mark == "ask" and name in last and at - last[name] >= nearest:
                places.update(values)
            last[name] = at
    return places


def table(documents: int, seed: int, shape: Shape = FAR) -> pa.Table:
    """Documents in one column, ``text``."""
    made = (document(np.random.default_rng([seed, number]), shape) for number in range(documents))
    return pa.table({"text": [" ".join(words) for words in made]})


def detection(weights: pd.DataFrame, far: dict[str, set[int]], least: float) -> dict[str, float]:
    """Precision and recall of the tokens that weigh more than *least*.

    Args:
        weights: Rows of ``weights.parquet``: ``document, position, delta, weight``; tokens without
            a delta are left out.
        far: Places of the tokens that need far text, by document.
        least: The threshold.
    """
    known = weights[weights["delta"].notna()]
    pairs = zip(known["document"].astype(str), known["position"], strict=True)
    truth = np.array([at in far[document] for document, at in pairs])
    found = (known["weight"] > least).to_numpy()
    hits = float((truth & found).sum())
    return {
        "tokens": float(len(known)),
        "need far text": float(truth.sum()),
        "found": float(found.sum()),
        "precision": hits / max(found.sum(), 1),
        "recall": hits / max(truth.sum(), 1),
    }


def score(study: Path) -> pd.DataFrame:
    """How well each rule finds the asked values, in the runs that scored the training pieces."""
    pieces = pq.read_table(study / "training.parquet").to_pandas()
    model = next((study / "models").glob("*/model"))
    tokenizer = AutoTokenizer.from_pretrained(model)
    far = {
        str(number): asked(tokenizer.convert_ids_to_tokens(ids.tolist()))
        for number, ids in enumerate(pieces["input_ids"])
    }
    rows = []
    for folder in sorted((study / "runs" / "scoring").iterdir()):
        with OpenRun.of_folder(folder, write=False) as run:
            short = short_context(run)
            for text, least in (("longce(gamma=5)", 2.0), ("sparse(kappa=0.02)", 0.0), ("keys", 0)):
                frames = [
                    pd.DataFrame(
                        {
                            "document": one.document,
                            "position": one.start + np.arange(len(one.ids)),
                            "delta": np.where(one.tokens.measured, one.tokens.delta, np.nan),
                            "weight": one.weights,
                        }
                    )
                    for one in weighed(run, short, parse(text))
                ]
                found = detection(pd.concat(frames), far, least)
                rows.append({"run": folder.name, "rule": text, "weight above": least, **found})
    return pd.DataFrame(rows)


def losses(study: Path) -> pd.DataFrame:
    """Intact losses (nats) of the asked values and of all other words of the held-out documents."""
    model = next((study / "models").glob("*/model"))
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = []
    for folder in sorted((study / "runs" / "longppl").iterdir()):
        with OpenRun.of_folder(folder, write=False) as run:
            windows = run.connection.execute("SELECT document, token_ids FROM windows").fetchall()
            far = {
                document: asked(tokenizer.convert_ids_to_tokens(list(ids)))
                for document, ids in windows
            }
            found = run.connection.execute(
                "SELECT document, position, any_value(nll::DOUBLE) AS nll FROM scores "
                "WHERE condition = 'intact' GROUP BY document, position"
            ).df()
        pairs = zip(found["document"], found["position"], strict=True)
        truth = np.array([at in far[document] for document, at in pairs])
        arm, _, seed = folder.name.rpartition("-")
        values = {"asked values": found["nll"][truth].mean(), "others": found["nll"][~truth].mean()}
        rows.append({"arm": arm or folder.name, "seed": seed if arm else "", **values})
    return pd.DataFrame(rows).sort_values(["arm", "seed"], ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write documents into a Parquet file")
    make.add_argument("file", type=Path)
    make.add_argument("--documents", type=int, default=800)
    make.add_argument("--near", action="store_true", help="short documents, to start from")
    make.add_argument("--seed", type=int, default=0)
    scored = commands.add_parser("score", help="weights as a detector of far dependencies")
    scored.add_argument("study", type=Path)
    args = parser.parse_args()
    if args.command == "make":
        args.file.parent.mkdir(parents=True, exist_ok=True)
        shape = NEAR if args.near else FAR
        pq.write_table(table(args.documents, args.seed, shape), args.file)
    else:
        for frame in (score(args.study), losses(args.study)):
            print(frame.to_string(index=False, float_format="%.3f"), end="\n\n")


if __name__ == "__main__":
    main()
