"""Training data from a run: token ids with a weight each, documents chosen by score."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from probe.analysis.open_run import OpenRun
from probe.errors import ProbeError, UsageError
from probe.results.files import disk_errors
from probe.text import counted, json_text, printable
from probe.training.weigh import Summary, Weighed, grouped, weighed

WEIGHTS = "loss_weights"
"""The column of weights, one a token of ``input_ids``."""
SCHEMA = pa.schema(
    [
        ("document", pa.string()),
        ("start", pa.int32()),
        ("input_ids", pa.list_(pa.int32())),
        ("attention_mask", pa.list_(pa.int8())),
        (WEIGHTS, pa.list_(pa.float32())),
        ("score", pa.float64()),
        ("score_rank", pa.int32()),
        ("length_bin", pa.int64()),
    ]
)
"""Columns of a row, a sequence each: its document, its first token there, and one entry a token."""
SHARD = 1 << 24
"""Tokens of a Parquet file."""
CARD = "README.md"
FACTS = "weights.json"
"""What the weights were made of, beside the shards."""
_MODEL = ("name", "class", "revision", "dtype", "bos", "vocabulary", "tokenizer")
_DATA = ("revision", "split")


@dataclass(frozen=True)
class Kept:
    """What was written.

    Args:
        documents: Documents.
        of: Documents of the run.
        tokens: Tokens.
    """

    documents: int
    of: int
    tokens: int

    @property
    def line(self) -> str:
        """For a user."""
        return (
            f"{counted(self.tokens, 'token')} in {self.documents:,} of "
            f"{counted(self.of, 'document')}"
        )


def select(documents: pd.DataFrame, share: float) -> list[str]:
    """The best documents that hold a share of the tokens, in each octave of length.

    In each the best are taken as long as they hold no more than the share, the next one where that
    is nearer to it; longer texts score higher otherwise, and would be all that is left.

    Args:
        documents: Of :class:`probe.training.weigh.Summary`.
        share: Of the tokens, above 0 and up to 1.

    Returns:
        Ids of documents, the best of each octave first.
    """
    chosen: list[str] = []
    scored = documents[documents["score"].notna()]
    for _, octave in scored.sort_values("rank").groupby("length_bin"):
        held = octave["tokens"].cumsum().to_numpy()
        wanted = share * held[-1]
        count = int(np.argmin(np.abs(np.concatenate([[0], held]) - wanted)))
        chosen += octave["document"].iloc[:count].tolist()
    return chosen


def write_dataset(
    run: OpenRun, summary: Summary, folder: Path, *, share: float | None = None
) -> Kept:
    """Write a folder that ``datasets.load_dataset`` reads: Parquet shards and a card.

    Args:
        run: The open run.
        summary: What was weighed of it.
        folder: Where; it must not be there, or be empty.
        share: Share of the tokens that is kept, see :func:`select`; ``None`` keeps all.

    Raises:
        UsageError: If there is something in the folder.
        ProbeError: If no document is chosen, or nothing can be written.
    """
    refuse_folder(folder)
    documents = summary.documents.set_index("document", drop=False)
    chosen = set(documents.index if share is None else select(summary.documents, share))
    if not chosen:
        raise ProbeError(
            f"no document is chosen: {(share or 1) * 100:g} % of the tokens of every octave of "
            "length is less than half of its best document; allowed: a larger share"
        )
    sequences = (one for one in weighed(run, summary.short, summary.rule) if one.document in chosen)
    scratch = folder.with_name(f".{folder.name}.probe")
    tokens = 0
    with disk_errors(folder):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            for number, shard in enumerate(grouped(sequences, SHARD)):
                tokens += sum(len(one.ids) for one in shard)
                pq.write_table(_table(shard, documents), scratch / f"train-{number:05d}.parquet")
            kept = Kept(len(chosen), len(documents), tokens)
            facts = _facts(run, summary, share)
            (scratch / FACTS).write_text(json_text(facts), encoding="utf-8")
            (scratch / CARD).write_text(_card(facts, kept), encoding="utf-8")
            if folder.is_dir():
                folder.rmdir()
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return kept


def refuse_folder(folder: Path) -> None:
    """Refuse a folder that something is in, or that has no name of its own to be made under.

    Raises:
        UsageError: If it is such a one.
        ProbeError: If it cannot be looked into.
    """
    if folder.name in ("", ".."):
        raise UsageError(f"--to is {str(folder)!r}; allowed: a folder with a name")
    with disk_errors(folder):
        is_full = folder.is_dir() and any(folder.iterdir())
    if is_full:
        raise UsageError(f"--to {folder} is not empty; allowed: a new or an empty folder")


def _table(shard: Sequence[Weighed], documents: pd.DataFrame) -> pa.Table:
    own = documents.loc[[one.document for one in shard]]
    columns: list[Any] = [
        [one.document for one in shard],
        [one.start for one in shard],
        [one.ids.astype(np.int32) for one in shard],
        [np.ones(len(one.ids), dtype=np.int8) for one in shard],
        [one.weights.astype(np.float32) for one in shard],
        own["score"].tolist(),
        own["rank"].tolist(),
        own["length_bin"].tolist(),
    ]
    return pa.table(
        [
            pa.array(c, field.type, from_pandas=True)
            for c, field in zip(columns, SCHEMA, strict=True)
        ],
        schema=SCHEMA,
    )


def _facts(run: OpenRun, summary: Summary, share: float | None) -> dict[str, Any]:
    """What the weights were made of; nothing in it names a path of the machine."""
    config, model = run.record["config"], run.record["model"]
    return {
        "schema": 1,
        "rule": summary.rule.text,
        "score": summary.score.text,
        "selected": share,
        "condition": summary.short.condition,
        "short_context": summary.short.distance,
        "stride": config["protocol"].get("stride"),
        "protocol": run.folder.kind,
        "measured_tokens": summary.measured,
        "tokens": summary.tokens,
        "first_token": config["first_token"],
        "model": {name: model.get(name) for name in _MODEL},
        "data": {"name": run.data, **{name: config["data"].get(name) for name in _DATA}},
        "run": run.record["identity_hash"],
    }


def _card(facts: dict[str, Any], kept: Kept) -> str:
    """The data card, in the hub's form."""
    model, data = facts["model"], facts["data"]
    stride = f", moved by {facts['stride']:,}" if facts["stride"] else ""
    selected = (
        "all documents"
        if facts["selected"] is None
        else "the best documents of every octave of length that hold "
        f"{facts['selected'] * 100:g} % of it"
    )
    bos = "none" if model["bos"] is None else str(model["bos"])
    rows = {
        "tokens": f"{kept.tokens:,} in {kept.documents:,} of {kept.of:,} documents ({selected})",
        "weights": f"`{facts['rule']}`, one a token of `input_ids`, for its own loss",
        "score": f"`{facts['score']}`",
        "measured by": f"{model['name']} ({model['dtype']}, revision {model['revision']})",
        "text": f"{data['name']}, revision {data['revision'] or 'unknown'}",
        "short context": f"{facts['short_context']:,} tokens or more{stride}, under "
        f"`{facts['condition']}` (protocol {facts['protocol']})",
        "tokens with a delta": f"{facts['measured_tokens']:,} of {facts['tokens']:,} of the run; "
        "the others weigh as if it were 0",
        "first token": f"{facts['first_token']}; BOS {bos}, which is not among `input_ids`",
        "run": facts["run"],
    }
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join(
        [
            "---",
            "configs:",
            "- config_name: default",
            "  data_files: train-*.parquet",
            "---",
            "# Token ids with a weight for every loss",
            "",
            "Weights are functions of delta, the loss of a token in a short context less that in a",
            "long one; made by context-probe (`probe weigh`).",
            "",
            "| | |",
            "|---|---|",
            *lines,
            "",
            "A trainer needs `remove_unused_columns=False` and a loss that takes `loss_weights`:",
            "`probe.training.trainer.WeightedTrainer` with `probe.training.collate.Collate`.",
            "",
        ]
    )


def _cell(value: str) -> str:
    return printable(value).replace("|", "\\|").replace("<", "&lt;")
