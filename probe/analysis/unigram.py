"""The loss of targets without any context: how often their tokens occur in the run's documents."""

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probe.results.folder import RunFolder


def unigram_sums(
    connection: duckdb.DuckDBPyConnection, run: RunFolder, of: list[str] | tuple[str, int]
) -> NDArray[np.float64]:
    """Losses by the counts of ``frequencies.parquet``, with one added to each token's.

    Args:
        connection: From :func:`probe.results.views.connect`.
        run: The run; its ``run.json`` tells the size of the vocabulary.
        of: Documents, or a document and the number of one of its windows.

    Returns:
        The sum over the targets of each document, shape ``(documents,)``; or the loss of each
        target of the window in order of position, shape ``(targets,)``; nats, NaN where the counts
        cannot be read.
    """
    rows = connection.execute(
        """SELECT s.document, w.token_ids[s.position - w.start + 1] AS id, count(*) AS targets,
            min(s.position) AS place
        FROM (SELECT DISTINCT document, "window", position FROM scores
            WHERE condition = 'truncate'
                AND ($document IS NULL OR (document = $document AND "window" = $number))) s
        JOIN windows w ON s.document = w.document AND s."window" = w."window"
        GROUP BY s.document, id, if($document IS NULL, 0, s.position) ORDER BY place""",
        {
            "document": of[0] if isinstance(of, tuple) else None,
            "number": of[1] if isinstance(of, tuple) else None,
        },
    ).df()
    losses = rows["targets"].to_numpy() * _losses(run, rows["id"].to_numpy(dtype=np.int64))
    if isinstance(of, tuple):
        return losses
    sums = np.zeros(len(of))
    np.add.at(sums, pd.Index(of).get_indexer(pd.Index(rows["document"].astype(str))), losses)
    return sums


def _losses(run: RunFolder, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    try:
        table = pq.read_table(
            run.path / "frequencies.parquet",
            columns=["token_id", "count"],
            page_checksum_verification=True,
        )
        known, counts = (column.to_numpy().astype(np.int64) for column in table.columns)
    except (OSError, pa.ArrowException):
        return np.full(len(ids), np.nan)
    told = (run.record.get("model") or {}).get("vocabulary")
    highest = max(int(known.max(initial=-1)), int(ids.max(initial=-1)))
    size = max(int(told) if isinstance(told, int) else 0, highest + 1)
    found = np.zeros(size, dtype=np.int64)
    found[known] = counts
    losses: NDArray[np.float64] = np.log(found.sum() + size) - np.log(found[ids] + 1)
    return losses
