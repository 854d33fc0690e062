"""A run whose text and names attack the page that shows them."""

import json
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from simulated import SCORES, WINDOWS, Simulation, write_run

ATTACK = "<script>window.hacked=1</script>"
PIECES = [
    *("<script>", "window.hacked=1", "</script>", "<!--", "<img src=x onerror=", '"', "'", "&amp;"),
    *("\u202e", "evil", "\u2066", "\x00", "\x1b[31m", "\u2028", "\ufeff", "\r", "\n", "\t"),
    *("e", "\u0301", "👩\u200d💻", "]]>", "${window.hacked=1}", "{{ 7 * 7 }}", "\\u003cscript"),
]
SPLIT = "😀"
"""One character that four tokens share."""

MODEL = f'</title>{ATTACK}" onload="window.hacked=1'
DATA = "made\u202eup\x07"
NAME = "<b>run\ud800</b>"


def hostile_run(folder: Path) -> Path:
    """Eight documents of 128 tokens, the targets being the last 64; written into *folder*."""
    simulation = Simulation(
        {"truncate": lambda d: 0.5 / (1 + d), "shuffle": lambda d: 0.3 / (1 + d)},
        windows=1,
        length=128,
        boundaries=(64,),
        reach=64,
        name=NAME,
        model=MODEL,
        data=DATA,
    )
    write_run(folder, simulation)
    path = folder / "windows.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row["document"] = renamed(row["document"])
        row["text"], row["char_start"], row["char_end"] = attack_text()
    pq.write_table(pa.Table.from_pylist(rows, schema=WINDOWS), path)
    for part in folder.glob("scores/*.parquet"):
        table = pq.read_table(part)
        names = pa.array([renamed(str(name)) for name in table["document"].to_pylist()])
        table = table.set_column(0, "document", names.dictionary_encode())
        pq.write_table(table.cast(SCORES), part)
    record = json.loads((folder / "run.json").read_text("utf-8"))
    for document in record["data"]["documents"]:
        document["id"] = renamed(document["id"])
    record["config"]["evil"] = {ATTACK: MODEL}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def renamed(document: str) -> str:
    """The document's name as an attack."""
    return f"{document}{ATTACK}\u202e'\""


def attack_text() -> tuple[str, list[int], list[int]]:
    """Text, starts and ends of 128 tokens; token 70 to 73 share one character."""
    pieces = [PIECES[place % len(PIECES)] for place in range(125)]
    pieces[70] = SPLIT
    ends = list(accumulate(map(len, pieces)))
    starts = [0, *ends[:-1]]
    order = [*range(70), 70, 70, 70, 70, *range(71, 125)]
    return "".join(pieces), list(np.array(starts)[order]), list(np.array(ends)[order])
