"""A small language whose far dependencies are known: text to train on, and a score of the weights.

    python benchmarks/planted_language.py make data/planted.parquet --documents 6000
    probe train configs/training/planted.yaml
    python benchmarks/planted_language.py score results/planted

A document has 1,022 words, a token each. Facts are stated at its beginning, ``fact n7 v3 .``, and
asked for 200 to 900 words later, ``ask n7 v3 .``: the value can be told from far text alone. All
other words need the last 20 at most: sentences of a chain in which a word allows four others and
whose last word follows from the first, and phrases that are said again at once.

``score`` asks how well weights find the asked values: of the run that scored the training pieces,
precision and recall by rule, at the rule's own threshold.
"""

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.random import Generator

LENGTH = 1022
"""Words of a document: with a BOS a training piece of 1,023 tokens, or a window of 1,024."""
NAMES, FILLERS, OPENERS, BRANCHES = 32, 64, 16, 4
FACTS, ASKS, ECHOES = 8, 16, 0.5
"""Facts and questions of a document; how many of the sentences are phrases that are said twice."""
STATED, NEAREST, FURTHEST = 110, 200, 900
"""Words within which facts are stated; between a fact and the question for it."""
_CHAIN = np.random.default_rng(7)
FOLLOWERS = _CHAIN.integers(FILLERS, size=(FILLERS, BRANCHES))
SHARES = _CHAIN.dirichlet(np.ones(BRANCHES), size=FILLERS).cumsum(axis=1)
WORDS = [*(f"n{i}" for i in range(NAMES)), *(f"v{i}" for i in range(NAMES))]
WORDS += [f"w{i}" for i in range(FILLERS)]


def sentences(rng: Generator) -> Iterator[list[str]]:
    """Text that needs its last 20 words only, a sentence after the other, without an end."""
    while True:
        if rng.random() < ECHOES:
            phrase = [WORDS[at] for at in rng.integers(len(WORDS), size=rng.integers(4, 9))]
            yield [*phrase, ".", *phrase, "."]
            continue
        opener = int(rng.integers(OPENERS))
        chain = [opener]
        for share in rng.random(rng.integers(6, 12)):
            at = min(int((SHARES[chain[-1]] < share).sum()), BRANCHES - 1)
            chain.append(int(FOLLOWERS[chain[-1], at]))
        yield [*(f"w{word}" for word in chain), f"w{(7 * opener + 3) % FILLERS}", "."]


def document(rng: Generator) -> tuple[list[str], list[int]]:
    """The words of a document, and the places of the values that far text alone tells."""
    names = rng.choice(NAMES, FACTS, replace=False)
    values = rng.integers(NAMES, size=FACTS)
    stated = rng.integers(STATED, size=FACTS)
    said = [
        (int(at), ["fact", f"n{n}", f"v{v}", "."])
        for at, n, v in zip(stated, names, values, strict=True)
    ]
    # Every fact is asked for at most once in a stretch, so that no answer stands near another.
    gaps = np.linspace(NEAREST + STATED, FURTHEST - 20, ASKS // FACTS + 1)
    for low, high in pairwise(gaps):
        for n, v in zip(names, values, strict=True):
            said.append((int(rng.integers(low, high)), ["ask", f"n{n}", f"v{v}", "."]))
    said.sort(key=lambda one: one[0])
    words: list[str] = []
    far: list[int] = []
    last: dict[str, int] = {}
    text = (word for sentence in sentences(rng) for word in sentence)
    while len(words) < LENGTH:
        if said and len(words) >= said[0][0]:
            _, statement = said.pop(0)
            answer = len(words) + 2
            if statement[0] == "ask" and answer - last[statement[1]] >= NEAREST:
                far.append(answer)
            last[statement[1]] = answer
            words += statement
        else:
            words.append(next(text))
    return words[:LENGTH], [at for at in far if at < LENGTH]


def table(documents: int, seed: int) -> pa.Table:
    """Documents: ``text``, and ``far``, the places of the words that need far text."""
    made = (document(np.random.default_rng([seed, number])) for number in range(documents))
    texts, far = zip(*((" ".join(words), places) for words, places in made), strict=True)
    return pa.table({"text": list(texts), "far": list(far)})


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
    from probe.analysis.open_run import OpenRun
    from probe.training.rules import parse
    from probe.training.weigh import short_context, weighed

    pieces = pq.read_table(study / "training.parquet").to_pandas()
    tokenizer = (study / "start" / "tokenizer.json").read_text()
    from tokenizers import Tokenizer

    read = Tokenizer.from_str(tokenizer)
    far = {}
    for number, ids in enumerate(pieces["input_ids"]):
        words = [read.id_to_token(int(one)) for one in ids]
        far[str(number)] = asked(words)
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


def asked(words: list[str]) -> set[int]:
    """Places of the values that are asked for, and were last said 200 words ago or more."""
    places: set[int] = set()
    last: dict[str, int] = {}
    for at, (mark, name) in enumerate(pairwise(words)):
        if mark in ("ask", "fact") and at + 2 < len(words):
            if mark == "ask" and at + 2 - last.get(name, at) >= NEAREST:
                places.add(at + 2)
            last[name] = at + 2
    return places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write documents into a Parquet file")
    make.add_argument("file", type=Path)
    make.add_argument("--documents", type=int, default=6000)
    make.add_argument("--seed", type=int, default=0)
    scored = commands.add_parser("score", help="weights as a detector of far dependencies")
    scored.add_argument("study", type=Path)
    args = parser.parse_args()
    if args.command == "make":
        args.file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(args.documents, args.seed), args.file)
    else:
        print(score(args.study).to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
