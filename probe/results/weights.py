"""`weights.parquet`: what the tokens of a run weigh in training, and of which rows it was made."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probe.results.folder import RunFolder
from probe.results.footer import IDENTITY, is_of_another

NAME = "weights.parquet"
COLUMNS = pa.schema(
    [
        ("document", pa.dictionary(pa.int32(), pa.string())),
        ("position", pa.int32()),
        ("token_id", pa.int32()),
        ("delta", pa.float32()),
        ("weight", pa.float32()),
    ]
)
"""Delta in nats, missing where no short context was measured."""
_MADE = b"context_probe.weights"
"""Where the footer says by what rule and of how many rows of scores it was made."""
# What Arrow and json raise of a file that is damaged, or that something else wrote.
_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError),
    pa.ArrowException,
)


@dataclass(frozen=True)
class TokenWeights:
    """The weights of a run's tokens, which lie in its folder.

    Args:
        path: The file.
        rule: The rule that made them, in full.
        condition: The condition whose losses were those of a short context.
        distance: Fewest intact tokens (tokens) of a short context.
    """

    path: Path
    rule: str
    condition: str
    distance: int

    def of_window(
        self, document: str, start: int, ids: Sequence[int]
    ) -> NDArray[np.float64] | None:
        """The weights of a window's tokens.

        Args:
            document: Its document.
            start: Index of its first token there.
            ids: Its token ids.

        Returns:
            Shape ``(len(ids),)``; ``None`` where it cannot be read there or has other tokens.
        """
        places = [
            *(("document", "==", document), ("position", ">=", start)),
            ("position", "<", start + len(ids)),
        ]
        columns = ["position", "token_id", "weight"]
        try:
            rows = pq.read_table(self.path, columns=columns, filters=places).sort_by("position")
            weights = rows["weight"].to_numpy().astype(np.float64)
        except _UNREADABLE:
            return None
        same = rows["token_id"].to_pylist() == list(ids)
        return weights if same and np.isfinite(weights).all() and (weights >= 0).all() else None


def with_origin(run: RunFolder, rule: str, condition: str, distance: int) -> pa.Schema:
    """The columns of ``weights.parquet``, with a footer that says what the weights are made of.

    Args:
        run: The run folder whose rows are weighed.
        rule: See :class:`TokenWeights`.
        condition: See there.
        distance: See there.
    """
    made = {"rule": rule, "condition": condition, "distance": distance, "rows": _rows(run)}
    said = {_MADE: json.dumps(made).encode()}
    if run.facts.identity_hash is not None:
        said[IDENTITY] = run.facts.identity_hash.encode()
    return COLUMNS.with_metadata(said)


def token_weights(run: RunFolder) -> tuple[TokenWeights | None, str | None]:
    """The weights in a run folder.

    Args:
        run: The run folder.

    Returns:
        The weights, and why there are none of the run's rows where a file of them is there, such as
        of a run that went on afterwards; of a folder without one neither.
    """
    path = run.path / NAME
    if not path.is_file():
        return None, None
    try:
        schema = pq.read_schema(path)
        made = json.loads((schema.metadata or {})[_MADE])
        rule, condition = str(made["rule"]), str(made["condition"])
        distance, rows = int(made["distance"]), int(made["rows"])
    except _UNREADABLE:
        return None, f"{NAME} does not say which rows it was made of"
    if is_of_another(schema, run.facts.identity_hash):
        return None, f"{NAME} is of another run"
    if rows != _rows(run):
        return None, f"{NAME} was made of other rows than the run has now"
    return TokenWeights(path, rule, condition, distance), None


def _rows(run: RunFolder) -> int:
    """Rows of all score parts that can be read; a run that goes on has more."""
    return sum(pq.read_metadata(part).num_rows for part in run.parts)
