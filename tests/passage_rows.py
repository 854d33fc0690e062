"""A data set of texts with named passages and an answer, and a run of protocol passages over it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiny_run import score, text_of

NAMES = ("question", "first", "second", "third")
CONDITIONS = ["delete", "shuffle", "replace(source='passage')", "move", "move(to='first')"]


def make_row(number: int) -> dict[str, Any]:
    """Four passages with a little text between them, and an answer."""
    text, spans = "", []
    for at, name in enumerate(NAMES):
        text += text_of(5, 100 * number + at)
        start = len(text)
        text += text_of(9 + (number + 3 * at) % 7, 1000 * number + at)
        spans.append({"name": name, "start": start, "end": len(text)})
    text += text_of(4, number)
    spans.append({"name": "answer", "start": len(text), "end": len(text) + 6})
    return {"text": text + text_of(6, 7 + number), "spans": spans}


def score_passages(
    base: Mapping[str, Any], folder: Path, rows: Sequence[Mapping[str, Any]], **changes: Any
) -> Path:
    """Write the rows into a folder and score their passages; return the run folder."""
    file = folder / "qa.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"path": "json", "data_files": str(file), "spans_column": "spans"}
    own = {"data": data, "windows": {}, "protocol": {"kind": "passages"}, **changes}
    return score(base, folder, **own)
