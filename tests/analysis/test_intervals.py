"""Groups of rows that are no distances: which one matters most, as far as intervals bear it out."""

import numpy as np
import pandas as pd
import pytest

from probe.analysis.intervals import strongest


def table(*rows: tuple[str, float, float, float]) -> pd.DataFrame:
    """Groups by name with delta and its limits."""
    frame = pd.DataFrame(rows, columns=["band", "delta", "low", "high"])
    return frame.assign(condition="truncate")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [("near", 0.2, 0.1, 0.3), ("far", 0.4, -0.1, 0.9)],
            "near (truncate: +0.2000 (+0.1000 to +0.3000) nats a token) matters most",
        ),
        (
            [("near", 0.2, -0.1, 0.3), ("far", -0.4, -0.9, 0.1)],
            "no band's interval lies above 0; the largest delta is that of near"
            " (truncate: +0.2000 (-0.1000 to +0.3000) nats a token)",
        ),
        (
            [("near", 0.2, np.nan, np.nan)],
            "the largest delta is that of near (truncate: +0.2000 nats a token),"
            " with too few documents for an interval",
        ),
    ],
)
def test_only_what_an_interval_bears_out_matters_most(rows, said) -> None:
    """The largest delta wins among those above 0; an interval that holds 0 claims nothing."""
    told = strongest(table(*rows), lambda row: str(row["band"]), "band")
    assert told.replace("−", "-") == said
