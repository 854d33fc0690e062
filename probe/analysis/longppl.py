"""LongPPL: the perplexity of the tokens that a long context helps (Fang et al. 2025)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from probe.analysis.bootstrap import bootstrap, pointwise_band, resample_weights
from probe.analysis.carried import carry
from probe.analysis.keys import KeyRule, key_view
from probe.analysis.lsd import lsd_by_distance, lsd_edges
from probe.analysis.settings import Analysis
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import ProbeError, UsageError
from probe.results.folder import RunFolder, protocol_kind, read_folder
from probe.results.views import connect, scored_documents


@dataclass(frozen=True, eq=False)
class LongPPL:
    """What the key tokens of a run say; losses in nats a token.

    Args:
        evaluator: The run that chose the key tokens.
        scored: The run whose losses they have; the same, or another.
        same: Whether both are of one model.
        rule: Which tokens are key.
        loss: Mean loss of the key tokens of all documents; ``None`` without any.
        low: Lower limit of its interval, ``None`` where it is unresolved.
        high: Upper limit.
        confidence: Confidence of the interval.
        keys: Key tokens of the scored run.
        targets: Tokens that could have been key: of one run, its targets in short contexts; of
            another run, all its tokens.
        chosen: Key tokens of the evaluator.
        documents: Documents of both runs.
        with_keys: Documents with a key token: the interval resamples documents.
        all_loss: Mean loss of all tokens of the scored run in these documents.
        by_distance: LSD of the evaluator by distance, columns
            :data:`probe.analysis.lsd.COLUMNS`.
        warnings: What is missing, one line each.
    """

    evaluator: RunFolder
    scored: RunFolder
    same: bool
    rule: KeyRule
    loss: float | None
    low: float | None
    high: float | None
    confidence: float
    keys: int
    targets: int
    chosen: int
    documents: int
    with_keys: int
    all_loss: float
    by_distance: pd.DataFrame
    warnings: tuple[str, ...]

    @property
    def perplexity(self) -> float | None:
        """LongPPL itself: exp of the mean loss of the key tokens."""
        return None if self.loss is None else float(np.exp(self.loss))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its interval, ``None`` where it is unresolved."""
        if self.low is None or self.high is None:
            return None
        return float(np.exp(self.low)), float(np.exp(self.high))


def is_longppl(record: Mapping[str, Any]) -> bool:
    """Whether a run's ``run.json`` says that its protocol is longppl."""
    return protocol_kind(record) == "longppl"


def longppl(
    run_dir: str | Path,
    *,
    scored: str | Path | None = None,
    rule: KeyRule | None = None,
    analysis: Analysis | None = None,
) -> LongPPL:
    """LongPPL of a run, with keys chosen by the run itself or by another one.

    The losses of the key tokens of all documents are pooled; the interval draws documents again,
    forms the same ratio of sums, and is stretched for few documents like every other one.

    Args:
        run_dir: The run that chooses the key tokens, with protocol ``longppl``.
        scored: The run whose losses they get, over the same documents; the same by default.
        rule: Which tokens are key, ``LSD > 2`` and ``LCL > -2`` by default.
        analysis: Resamples, seed and confidence; by default what the scored run asks for.

    Raises:
        UsageError: If a run has another protocol.
        ProbeError: If a folder cannot be read, or the runs have no document in common.

    Source: Fang et al. 2025, "What is Wrong with Perplexity for Long-context Language Modeling?",
        arXiv:2410.23771: LongPPL of one text; here the key tokens of all documents are pooled.
    """
    evaluator = open_longppl(run_dir)
    other = evaluator if scored is None else open_longppl(scored)
    how = analysis or Analysis.from_record(other.record)
    rule = rule or KeyRule()
    try:
        with connect(evaluator.path / "windows.parquet", evaluator.parts) as connection:
            key_view(connection, rule)
            table = lsd_by_distance(connection, lsd_edges(connection))
            chosen = _own_sums(connection)
            sums, warnings = chosen, list[str]()
            if scored is not None:
                with connect(other.path / "windows.parquet", other.parts) as second:
                    sums, warnings = carry(connection, second, other.path)
    except duckdb.Error as error:
        read = " and ".join(dict.fromkeys(f"'{run.path}'" for run in (evaluator, other)))
        raise ProbeError(f"the scores of {read} cannot be read: {error}") from error
    loss, low, high = _pooled(sums, how)
    return LongPPL(
        evaluator=evaluator,
        scored=other,
        same=scored is None or _model(evaluator) == _model(other),
        rule=rule,
        loss=loss,
        low=low,
        high=high,
        confidence=how.confidence,
        keys=int(sums["keys"].sum()),
        targets=int(sums["targets"].sum()),
        chosen=int(chosen["keys"].sum()),
        documents=len(sums),
        with_keys=int((sums["keys"] > 0).sum()),
        all_loss=float(sums["all_sum"].sum() / max(1, sums["all_tokens"].sum())),
        by_distance=table,
        warnings=tuple(dict.fromkeys([*evaluator.warnings, *other.warnings, *warnings])),
    )


def open_longppl(path: str | Path) -> RunFolder:
    """Open a run whose protocol is longppl.

    Raises:
        UsageError: If it is another.
        ProbeError: If it cannot be read.
    """
    run = read_folder(path)
    if not is_longppl(run.record):
        kind = protocol_kind(run.record)
        raise UsageError(
            f"run '{run.path}' has protocol {kind!r}; allowed for LongPPL: longppl, whole "
            "documents and their short contexts"
        )
    return run


def _own_sums(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """By document: targets, keys and their loss, all tokens and theirs; one row each."""
    sums = connection.execute(
        """SELECT document, count(*) AS targets, count(*) FILTER (WHERE key) AS keys,
            coalesce(sum(nll) FILTER (WHERE key), 0) AS key_sum
        FROM candidates GROUP BY document"""
    ).df()
    tokens = connection.execute(
        """SELECT document, count(*) AS all_tokens, sum(nll::DOUBLE) AS all_sum FROM scores
        WHERE condition = 'intact' GROUP BY document"""
    ).df()
    names = pd.DataFrame({"document": scored_documents(connection)})
    return names.merge(sums, how="left").merge(tokens, how="left").fillna(0)


def _pooled(sums: pd.DataFrame, how: Analysis) -> tuple[float | None, float | None, float | None]:
    """Mean loss of the key tokens, and its limits where enough documents have one."""
    columns: Sequence[str] = ("key_sum", "keys")
    total, count = (sums[[name]].to_numpy(dtype=np.float64) for name in columns)
    if not count.any():
        return None, None, None
    weights = resample_weights(len(sums), how.resamples, how.seed)
    found = bootstrap(total, count, weights, how.confidence)
    mean = float(found.mean[0])
    if found.documents < FEWEST_DOCUMENTS:
        return mean, None, None
    low, high = pointwise_band(found, how.confidence)
    return mean, float(low[0]), float(high[0])


def _model(run: RunFolder) -> tuple[Any, Any]:
    model = run.record.get("model") or {}
    return model.get("path"), model.get("revision")
