"""Token ids of windows, read from a parquet file that has them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probe.errors import ProbeError

TOKEN_IDS = pa.schema(
    [("document", pa.string()), ("window", pa.int32()), ("token_ids", pa.list_(pa.int32()))]
)


def read_token_ids(path: Path) -> dict[tuple[str, int], NDArray[np.int32]]:
    """Token ids by document and window of a file, shape ``(tokens,)``.

    Args:
        path: A parquet file with ``document, window, token_ids``.

    Raises:
        ProbeError: If it cannot be read.
    """
    try:
        table = pq.read_table(path, columns=TOKEN_IDS.names, page_checksum_verification=True)
        table = table.cast(TOKEN_IDS).combine_chunks()
        document, window, ids = table.columns
        flat = pc.list_flatten(ids)
        if any(column.null_count for column in (*table.columns, flat)):
            raise pa.ArrowInvalid("a value is missing")
    except (pa.ArrowException, OSError) as error:
        raise ProbeError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    lengths = pc.list_value_length(ids).to_numpy()
    stops, tokens = np.cumsum(lengths, dtype=np.int64), flat.to_numpy()
    columns = document, window, pa.array(stops - lengths), pa.array(stops)
    places = zip(*(column.to_pylist() for column in columns), strict=True)
    return {(name, at): tokens[first:stop] for name, at, first, stop in places}
