"""Windows of attention beside text that is cut off or hidden at the same distance."""

import pandas as pd

from probe.analysis.intervals import delta_table
from probe.analysis.summary import Summary
from probe.results.folder import connected

ATTENDED = "attend(local(w))"
SERIES = (ATTENDED, "truncate", "hide")
APART = (("hide", ATTENDED), ("truncate", "hide"))
"""Differences: what layers carry over beyond a window, and what positions alone do."""
NEAR = 1 / 8
"""How much more than *w* tokens may stand before a target, as a share of *w*."""
COLUMNS = ("series", "w", "delta", "low", "high", "targets", "documents")
_SPAN = r"^attend\(local\(w=([0-9]{1,9}), sinks=1\)\)$"


def beside(summary: Summary) -> pd.DataFrame:
    """What a window of *w* keys loses, and text cut off or hidden at distance *w*.

    All three are of the same targets, those of a grid behind whose boundary they have *w* tokens,
    or up to an eighth more: of many targets that share a boundary at distance *w* the first ones.

    Args:
        summary: Of a run with ``attend(local(w))``.

    Returns:
        Columns :data:`COLUMNS`: a row for each of :data:`SERIES` and width that the run has, and
        ``hide − attend(local(w))`` and the like where both are there, the mean of the paired
        difference; nats a token, limits of a bootstrap over documents. Empty where the run is no
        grid, or has one of them alone.
    """
    config = summary.run.record.get("config") or {}
    frame = pd.DataFrame(columns=list(COLUMNS))
    if (config.get("protocol") or {}).get("kind") != "grid":
        return frame
    with connected(summary.run, checked=False) as connection:
        rows = connection.execute(
            f"""WITH rows AS (
                SELECT condition::VARCHAR AS condition, document, "window", position, boundary,
                    distance, avg(nll::DOUBLE - nll_intact) AS delta
                FROM scores WHERE condition IN ('truncate', 'hide')
                    OR regexp_matches(condition, '{_SPAN}') GROUP BY ALL
            ), near AS (
                SELECT condition AS series, document, "window", position, delta,
                    distance,
                    min(distance) OVER (PARTITION BY condition, document, "window", boundary) AS w
                FROM rows WHERE boundary >= 0
            ), attended AS (
                SELECT document, "window", position, delta,
                    regexp_extract(condition, '{_SPAN}', 1)::BIGINT AS w
                FROM rows WHERE boundary < 0
            )
            SELECT near.series, document, w, count(*) AS targets,
                sum(near.delta) AS text, sum(attended.delta) AS attended
            FROM near JOIN attended USING (document, "window", position, w)
            WHERE near.distance <= w * (1 + {NEAR}) GROUP BY ALL ORDER BY ALL"""
        ).df()
    if rows.empty:
        return frame
    sums = _series(rows)
    table = delta_table(pd.concat(sums.values()), ("series", "w"), summary.analysis)
    order = {name: number for number, name in enumerate(sums)}
    return table.sort_values(
        ["series", "w"], key=lambda own: own.map(order) if own.name == "series" else own
    ).reset_index(drop=True)[list(COLUMNS)]


def _series(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Sums by series, width and document, and those of differences."""
    keys = ["w", "document", "targets"]
    found = {ATTENDED: rows.drop_duplicates(["w", "document"]).rename(columns={"attended": "sum"})}
    for name in ("truncate", "hide"):
        own = rows[rows["series"] == name]
        if len(own):
            found[name] = own.rename(columns={"text": "sum"})
    for first, second in APART:
        if first in found and second in found:
            both = found[first].merge(found[second], on=keys, suffixes=("", "_less"))
            both["sum"] -= both["sum_less"]
            found[f"{first} − {second}"] = both
    return {
        name: own[[*keys, "sum"]].rename(columns={"sum": "delta_sum"}).assign(series=name)
        for name, own in found.items()
    }
