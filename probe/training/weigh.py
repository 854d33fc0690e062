"""Weights of tokens and scores of documents, from what a run measured of far text."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probe.analysis.open_run import OpenRun
from probe.errors import ProbeError, UsageError
from probe.protocols import registry
from probe.results.files import atomic_write, disk_errors
from probe.results.weights import COLUMNS, NAME, with_origin
from probe.text import counted, shown
from probe.training.rules import Floats, Rule, Tokens

DOCUMENTS = ("document", "score", "standard_error", "rank", "length_bin", "tokens", "measured")
"""Columns of ``documents.parquet``: the score of a document and its standard error over tokens
taken as independent, its rank by falling score, the power of two that its tokens reach, its tokens
and how many of them were measured."""
ROWS = 1 << 20
"""Rows that are read at once, and of a row group."""


@dataclass(frozen=True, eq=False)
class Weighed:
    """A sequence of a run with what its tokens weigh.

    Args:
        document: Id of its document.
        start: Index of its first token in the document.
        ids: Its token ids, shape ``(n,)``.
        tokens: What was measured of them.
        weights: What they weigh, shape ``(n,)``.
    """

    document: str
    start: int
    ids: NDArray[np.int64]
    tokens: Tokens
    weights: Floats


@dataclass(frozen=True)
class Short:
    """What a short context is in a run.

    Args:
        condition: The condition that cuts far text off.
        distance: Fewest intact tokens before a target, K.
    """

    condition: str
    distance: int


def short_context(run: OpenRun, condition: str = "truncate", distance: int | None = None) -> Short:
    """What is taken as the short context of a run.

    Args:
        run: An open run.
        condition: The condition that cuts far text off.
        distance: Fewest intact tokens before a target; by default the short context of the
            protocol, where it has one.

    Raises:
        UsageError: If the run has no such condition or distance, none is known, or its losses are
            none that a causal model is trained with.
    """
    facts = registry.facts(run.folder.kind)
    if facts.family != "causal":
        raise UsageError(
            f"run '{run.path}' has protocol {run.folder.kind}, which measures {facts.family} "
            "models; allowed: runs of causal ones, whose tokens are predicted by those before them"
        )
    if condition not in run.conditions:
        known = ", ".join(name for name in run.conditions if name != "intact")
        raise UsageError(
            f"run '{run.path}' has no condition {shown(condition)}, whose losses are those of a "
            f"short context; allowed: {known or 'a run with truncate'}"
        )
    if distance is None:
        if not facts.has_short_context:
            kinds = " or ".join(registry.kinds(lambda one: one.has_short_context))
            raise UsageError(
                f"run '{run.path}' has protocol {run.folder.kind}, whose targets have many short "
                f"contexts; allowed: --distance, 1 to {run.reach - 1}, or a run of protocol {kinds}"
            )
        distance = int(run.record["config"]["protocol"]["context"])
    if not 1 <= distance < run.reach:
        raise UsageError(f"--distance is {distance}; allowed: 1 to {run.reach - 1}")
    return Short(condition, distance)


def weighed(run: OpenRun, short: Short, rule: Rule, *others: Rule) -> Iterator[Weighed]:
    """The windows of a run in order, with what their tokens weigh.

    A token's delta is that of its shortest context of at least ``short.distance`` tokens; where the
    short context is the whole text before it, it counts as not measured.

    Args:
        run: An open run.
        short: What a short context is.
        rule: What weighs them.
        others: Rules that read the same, and may need measures.

    Raises:
        UsageError: If a measure is missing.
    """
    needed = rule.entry.measures.union(*(other.entry.measures for other in others))
    held = {name for name, *_ in run.connection.execute("DESCRIBE scores").fetchall()}
    for name in sorted(needed - held):
        raise UsageError(
            f"run '{run.path}' has no {name}, which the rule needs; allowed: a run with "
            f"measures: [nll, {name}]"
        )
    kl = "avg(s.kl)" if "kl" in needed else "0"
    run.connection.execute(
        """CREATE OR REPLACE TEMP TABLE numbered AS SELECT document, "window", start,
        row_number() OVER (ORDER BY document, "window") - 1 AS number FROM windows"""
    )
    windows = run.connection.sql(
        """SELECT n.document, n.start, w.token_ids FROM numbered n
        JOIN windows w USING (document, "window") ORDER BY number"""
    ).to_arrow_table()
    batches = run.connection.sql(
        f"""SELECT n.number, s.position - n.start AS at, s.distance,
            avg(s.nll::DOUBLE - s.nll_intact) AS delta,
            avg(s.nll_intact::DOUBLE) AS long, {kl} AS kl
        FROM scores s JOIN numbered n USING (document, "window")
        WHERE s.condition = $condition AND s.distance >= $distance AND s.boundary > n.start
        GROUP BY ALL ORDER BY 1, 2, 3""",
        params={"condition": short.condition, "distance": short.distance},
    ).to_arrow_reader(ROWS)
    ids = windows["token_ids"].combine_chunks()
    offsets, values = (np.asarray(array) for array in (ids.offsets, ids.values))
    starts = windows["start"].to_numpy()
    rows = _by_window(batches, len(windows))
    for number, of_window in enumerate(rows):
        own = values[offsets[number] : offsets[number + 1]].astype(np.int64)
        document = windows["document"][number].as_py()
        tokens = _tokens(of_window, len(own))
        yield Weighed(document, int(starts[number]), own, tokens, rule(tokens))


def _by_window(batches: pa.RecordBatchReader, count: int) -> Iterator[NDArray[np.float64]]:
    """Rows of each window, columns ``at, distance, delta, long, kl``."""
    held, at = np.zeros((0, 6)), 0
    for batch in batches:
        columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
        held = np.concatenate([held, np.stack(columns, axis=1).astype(np.float64)])
        last = int(held[-1, 0]) if len(held) else at
        # All but the last window of a batch are whole.
        edges = np.searchsorted(held[:, 0], np.arange(at, last + 1))
        for first, stop in pairwise(edges):
            yield held[first:stop, 1:]
        held, at = held[edges[-1] :] if len(edges) else held, max(at, last)
    for number in range(at, count):
        yield held[held[:, 0] == number, 1:]


def _tokens(rows: NDArray[np.float64], count: int) -> Tokens:
    """Rows of one window, by token and rising distance, as arrays over its tokens."""
    places, first = np.unique(rows[:, 0].astype(np.int64), return_index=True)
    delta, long, kl = np.zeros(count), np.full(count, np.nan), np.full(count, np.nan)
    measured = np.zeros(count, dtype=bool)
    measured[places] = True
    delta[places], long[places], kl[places] = rows[first, 2:].T
    return Tokens(delta, long, measured, kl)


@dataclass(frozen=True, eq=False)
class Summary:
    """What was weighed.

    Args:
        rule: What weighs tokens.
        score: What scores documents.
        short: What a short context was.
        tokens: Tokens of all windows.
        measured: How many of them have a delta that was measured.
        mean: Mean weight of all tokens.
        largest: The largest weight.
        documents: Columns :data:`DOCUMENTS`, the best first.
    """

    rule: Rule
    score: Rule
    short: Short
    tokens: int
    measured: int
    mean: float
    largest: float
    documents: pd.DataFrame

    @property
    def lines(self) -> tuple[str, ...]:
        """What was done, for a user."""
        share = self.measured / self.tokens if self.tokens else 0.0
        return (
            f"{counted(self.tokens, 'token')} of {counted(len(self.documents), 'document')} "
            f"weighed by {self.rule.text}; documents scored by {self.score.text}",
            f"{share * 100:.1f} % of the tokens have a delta: their loss behind "
            f"{self.short.distance:,} tokens or more, less that in the whole text; the others "
            "weigh as if it were 0",
            f"mean weight {self.mean:.3g}, the largest {self.largest:.3g}; every token of plain "
            "training weighs 1",
        )


def weigh(
    run: OpenRun, rule: Rule, score: Rule, *, short: Short | None = None, into: Path | None = None
) -> Summary:
    """Weigh the tokens of a run and score its documents.

    Args:
        run: An open run.
        rule: What weighs tokens, window by window.
        score: What scores documents, over all their windows.
        short: What a short context is, by default :func:`short_context`.
        into: Where ``weights.parquet`` and ``documents.parquet`` are written, by default the run
            folder.

    Raises:
        UsageError: If a rule is of another level, or the run lacks what it needs.
        ProbeError: If no token was measured, or nothing can be written.
    """
    for one, level in ((rule, "token"), (score, "document")):
        if one.entry.level != level:
            raise UsageError(
                f"rule {one.text} is of a {one.entry.level}; allowed here: one of a {level}"
            )
    short = short or short_context(run)
    into = into or run.path
    rows: list[tuple[Any, ...]] = []
    parts: list[Weighed] = []  # of the document at hand: they come one after the other
    total = largest = 0.0
    with ExitStack() as stack:
        stack.enter_context(disk_errors(into / NAME))
        scratch = stack.enter_context(atomic_write(into / NAME))
        schema = with_origin(run.folder, rule.text, short.condition, short.distance)
        writer = stack.enter_context(pq.ParquetWriter(scratch, schema, compression="zstd"))
        for group in grouped(weighed(run, short, rule, score), ROWS):
            writer.write_table(_table(group))
            for sequence in group:
                if parts and sequence.document != parts[0].document:
                    rows.append(_scored(parts, score))
                    parts = []
                parts.append(sequence)
                total += float(sequence.weights.sum())
                largest = max(largest, float(sequence.weights.max(initial=0)))
        writer.close()
        rows += [_scored(parts, score)] if parts else []
        documents = _documents(rows)
        measured = int(documents["measured"].sum())
        if not measured:
            raise ProbeError(
                f"run '{run.path}' has no token behind {short.distance} tokens with text cut off "
                "before them; allowed: longer documents, or a shorter distance"
            )
    with disk_errors(into / "documents.parquet"), atomic_write(into / "documents.parquet") as place:
        documents.to_parquet(place, index=False)
    tokens = int(documents["tokens"].sum())
    return Summary(rule, score, short, tokens, measured, total / tokens, largest, documents)


def grouped(found: Iterator[Weighed], tokens: int) -> Iterator[list[Weighed]]:
    """Sequences, together as soon as they have so many tokens.

    Args:
        found: Sequences.
        tokens: Fewest tokens of a group but the last.
    """
    group: list[Weighed] = []
    held = 0
    for one in found:
        group.append(one)
        held += len(one.ids)
        if held >= tokens:
            yield group
            group, held = [], 0
    if group:
        yield group


def _table(group: Sequence[Weighed]) -> pa.Table:
    names = {name: code for code, name in enumerate(dict.fromkeys(o.document for o in group))}
    sizes = [len(one.ids) for one in group]
    codes = np.repeat([names[one.document] for one in group], sizes).astype(np.int32)
    delta = np.concatenate([one.tokens.delta for one in group]).astype(np.float32)
    measured = np.concatenate([one.tokens.measured for one in group])
    columns = [
        pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(names))),
        np.concatenate([one.start + np.arange(len(one.ids)) for one in group]).astype(np.int32),
        np.concatenate([one.ids for one in group]).astype(np.int32),
        pa.array(delta, mask=~measured),
        np.concatenate([one.weights for one in group]).astype(np.float32),
    ]
    return pa.table(columns, schema=COLUMNS)


def _scored(parts: Sequence[Weighed], score: Rule) -> tuple[Any, ...]:
    """The score of a document, by its sequences, and what else its row holds."""
    names = ("delta", "long", "measured", "kl")
    columns = (np.concatenate([getattr(part.tokens, name) for part in parts]) for name in names)
    whole = Tokens(*columns)
    length, measured = len(whole), int(whole.measured.sum())
    return parts[0].document, *score(whole), length.bit_length() - 1, length, measured


def _documents(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    frame = pd.DataFrame(
        rows, columns=["document", "score", "standard_error", "length_bin", "tokens", "measured"]
    )
    # Documents without a measured token have no score, and come last.
    frame = frame.sort_values(["score", "document"], ascending=[False, True], ignore_index=True)
    frame["rank"] = np.where(frame["score"].isna(), math.nan, np.arange(1, len(frame) + 1))
    frame["rank"] = frame["rank"].astype("Int64")
    frame["length_bin"] = 2 ** frame["length_bin"]
    return frame[list(DOCUMENTS)]
