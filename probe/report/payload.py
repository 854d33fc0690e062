"""What the script of the token explorer reads: losses as JSON that no text can break out of."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

# What could end a script element, or be read by an editor as something else than it is.
_RISKY = re.compile(
    "[<>&\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def packed(content: Mapping[str, Any]) -> Markup:
    """JSON that stays one string inside a script element, whatever it holds."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(_RISKY.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def losses(rows: pd.DataFrame, conditions: Sequence[str], first: int, last: int) -> dict[str, Any]:
    """Losses of a window's tokens in thousandths of a nat.

    Args:
        rows: Columns ``condition, far, offset, nll, nll_intact``, both losses in nats.
        conditions: Names of the conditions, which become numbers.
        first: Index in the window of the first token shown.
        last: Index of the last one.

    Returns:
        Plain values: intact losses by token; by condition and boundary in blocks.
    """
    intact = rows.groupby("offset")["nll_intact"].first().reindex(range(first, last + 1))
    blocks = []
    for (condition, far), part in rows.groupby(["condition", "far"], sort=True):
        nll = part.set_index("offset")["nll"]
        start, end = int(nll.index.min()), int(nll.index.max())
        values = _thousandths(nll.reindex(range(start, end + 1)))
        blocks.append([conditions.index(str(condition)), int(str(far)), start, values])
    return {"first": first, "intact": _thousandths(intact), "blocks": blocks}


def _thousandths(values: "pd.Series[Any]") -> list[int | None]:
    return [None if np.isnan(value) else round(float(value) * 1000) for value in values]
