"""How far the answer can be trusted: what could be found, and how documents differ."""

from collections.abc import Mapping
from typing import Any

from probe.analysis.answer import in_order
from probe.analysis.floor import without_noise
from probe.analysis.record import records
from probe.analysis.tolerance import spaced
from probe.report.answers import main_condition, threshold_of, value_line
from probe.report.charts import Chart, Rule
from probe.report.explained import (
    Explained,
    Section,
    Table,
    between,
    by_condition,
    decimals,
    figure,
    frame,
    length,
    pivot,
)
from probe.report.svg import delta_scale, distance_scale


def detectable_section(explained: Explained) -> Section | None:
    """The smallest delta this run would have found."""
    rows = frame(
        explained, "detectable", *("condition", "distance_from", "distance_to", "detectable")
    )
    rows = without_noise(rows)
    if rows.empty:
        return None
    names = in_order(rows["condition"].astype(str))
    lines = [
        value_line(
            rows[rows["condition"] == name].drop(columns=["low", "high"], errors="ignore"),
            name,
            look,
            "detectable",
        )
        for look, name in enumerate(names)
    ]
    values = rows["detectable"].to_numpy(float)
    chart = Chart(
        "Smallest delta that would be found",
        distance_scale(float(rows["distance_to"].max())),
        delta_scale(values, threshold_of(explained.summary), "detectable delta (nats a token)"),
        lines,
        [Rule(threshold_of(explained.summary), "")],
    )
    how = (
        "A mean delta of this size would be found with 80 % power at"
        f" {100 - 100 * explained.summary.analysis.confidence:g} % (two-sided) with these"
        " documents. Above the dotted line, the smallest tolerance, a run needs more documents."
    )
    table = pivot(
        "Smallest detectable delta (nats a token) by distance (tokens)",
        records(rows),
        names,
        by="condition",
        cell=lambda row: decimals(row["detectable"]),
    )
    main = main_condition(explained.summary) or names[0]
    own = records(rows[rows["condition"] == main].sort_values("distance_from"))
    finding = (
        f"Under {main} a delta of {decimals(own[-1]['detectable'])} nats would be found at"
        f" {between(own[-1])}."
        if own
        else ""
    )
    return Section("detectable", "What could be found", finding, [figure(chart, how, table)])


def document_section(explained: Explained) -> Section | None:
    """How the answer differs between documents, and without each group of them."""
    summary = explained.summary
    if summary.spread.empty:
        return None
    found = by_condition(summary.spread)
    headers = ["condition", "tolerance", "quartile", "median", "quartile", "beyond reach"]
    cells = [
        [
            str(row["condition"]),
            spaced(str(row["tolerance"])),
            *(length(row[name]) for name in ("quartile_1", "median", "quartile_3")),
            f"{int(row['beyond_reach'])} of {int(row['documents'])}",
        ]
        for row in found
    ]
    tables = [Table("Effective context (tokens) of single documents", headers, cells)]
    if len(summary.without_group):
        rows = records(summary.without_group)
        tables.append(
            Table(
                "The estimate without each group of documents (tokens)",
                ["condition", "tolerance", "left out", "estimate", "documents left"],
                [
                    [
                        str(row["condition"]),
                        spaced(str(row["tolerance"])),
                        str(row["left_out"]),
                        length(row["length"]),
                        str(int(row["documents"])),
                    ]
                    for row in rows
                ],
            )
        )
    main = main_condition(summary)
    own = [row for row in found if row["condition"] == main]
    finding = _middle_half(own[0], str(main)) if own else ""
    return Section("documents", "Documents", finding, [], tables)


def _middle_half(row: Mapping[str, Any], condition: str) -> str:
    """Where half of the documents lie, or how many are beyond reach."""
    at = f"Under {condition} at {spaced(str(row['tolerance']))}"
    if row["quartile_1"] is None or row["quartile_3"] is None:
        beyond = f"{int(row['beyond_reach'])} of {int(row['documents'])}"
        return f"{at} the length of {beyond} documents is beyond reach."
    ends = f"{length(row['quartile_1'])} and {length(row['quartile_3'])} tokens"
    return f"{at} half of the documents lie between {ends}."
