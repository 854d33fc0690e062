"""What a mean hides, where the losses stand, and how documents differ."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from probe.analysis.answer import conditions_of
from probe.analysis.floor import without_noise
from probe.analysis.record import records
from probe.report.answers import main_condition, threshold_of
from probe.report.charts import Chart, Line
from probe.report.explained import (
    Explained,
    Figure,
    Section,
    Table,
    between,
    decimals,
    figure,
    frame,
    middles,
    percent,
    pivot,
    ranged,
)
from probe.report.svg import delta_scale, distance_scale, linear_scale, position_scale

MORE_THAN_ALL = (
    "More than 100 % in the top 1 %: the other targets together gain from the far text being gone,"
    " so that the sum is smaller than what its largest parts add."
)
_QUANTILES = ("q01", "q05", "q25", "q50", "q75", "q95", "q99")


def share_section(explained: Explained) -> Section | None:
    """Targets helped and hurt, the top 1 % of the sum, and quantiles of delta."""
    summary = explained.summary
    rows = without_noise(summary.tails)
    if rows.empty:
        return None
    names = conditions_of(summary)
    table = pivot(
        "Targets that the far text helped / hurt, and the part of the sum in the top 1 %",
        records(rows),
        names,
        by="condition",
        cell=lambda row: (
            f"{percent(row['helped'])} / {percent(row['hurt'])}; top {percent(row['top_share'])}"
        ),
    )
    main = main_condition(summary) or names[0]
    own = records(rows[rows["condition"] == main].sort_values("distance_from"))
    finding = ""
    if own:
        last = own[-1]
        finding = (
            f"Under {main} at {between(last)} the far text helped {percent(last['helped'])} of the"
            f" targets and hurt {percent(last['hurt'])}"
        )
        top = last["top_share"]
        finding += f"; 1 % of them carry {percent(top)} of the sum." if top is not None else "."
    parts = rows.loc[rows["condition"].isin(names), "top_share"]
    notes = [MORE_THAN_ALL] if bool((parts > 1).any()) else []
    drawn = _quantile_figure(explained, main)
    return Section(
        "shares", "What the mean hides", finding, [drawn] if drawn else [], [table], notes
    )


def _quantile_figure(explained: Explained, main: str) -> Figure | None:
    every = frame(explained, "quantiles", "condition", "distance_from", "distance_to", *_QUANTILES)
    rows = every[every["condition"] == main].sort_values("distance_from")
    if rows.empty:
        return None
    x = middles(rows)
    lines = [
        Line(
            f"middle {share} % of targets",
            x,
            np.full(len(x), np.nan),
            0,
            rows[low].to_numpy(float),
            rows[high].to_numpy(float),
            class_=f"fan{index}",
            points=False,
        )
        for index, (low, high, share) in enumerate(
            [("q01", "q99", 98), ("q05", "q95", 90), ("q25", "q75", 50)]
        )
    ]
    lines.append(Line("median", x, rows["q50"].to_numpy(float), 0))
    chart = Chart(
        f"Quantiles of delta under {main}",
        distance_scale(float(rows["distance_to"].max())),
        delta_scale(rows[["q01", "q99"]].to_numpy(float), threshold_of(explained.summary)),
        lines,
    )
    how = (
        "The spread between single targets: most tokens hardly change, a few need the far text"
        " badly. The mean curve above is carried by the upper tail."
    )
    cells = [
        [str(row["condition"]), between(row), *(decimals(row[name]) for name in _QUANTILES)]
        for row in records(without_noise(every))
    ]
    headers = ["condition", "distance", *(f"{int(name[1:])} %" for name in _QUANTILES)]
    return figure(chart, how, Table("Quantiles of delta (nats)", headers, cells))


def position_section(explained: Explained) -> Section | None:
    """Intact loss by position, with its power law; without a fit the plain means."""
    losses = explained.summary.losses
    fit = getattr(explained, "positions", None)
    rows = losses.by_quarter if fit is None else fit.table
    if rows is None or rows.empty:
        return None
    ends = rows["position_from"].to_numpy(float), rows["position_to"].to_numpy(float)
    x = (ends[0] + ends[1] - 1) / 2
    low, high = (rows[name].to_numpy(float) if name in rows else None for name in ("low", "high"))
    fitted = rows["fit"].to_numpy(float) if "fit" in rows else None
    sayings = [
        f"positions {between(row, 'position')}: {ranged(row, 'loss')}" for row in records(rows)
    ]
    line = Line("intact loss", x, rows["loss"].to_numpy(float), 0, low, high, told=sayings)
    lines = [line]
    if fitted is not None and np.isfinite(fitted).any():
        lines.append(Line("power law", x, fitted, 1, points=False))
    across = position_scale(float(x.min()), float(ends[1].max()), "position (tokens)")
    shown = [line.y, *(limit for limit in (low, high) if limit is not None)]
    heights = linear_scale(np.concatenate(shown), "loss (nats a token)")
    chart = Chart("Intact loss by position", across, heights, lines)
    how = (
        "The loss of intact text should fall, or stay, the more text stands before a token. Where"
        " it rises, delta has no meaning."
    )
    columns = ["positions", "loss (nats)", "targets"]
    cells = [
        [between(row, "position"), ranged(row, "loss"), f"{int(row['targets']):,}"]
        for row in records(rows)
    ]
    rises = losses.worsening is not None if fit is None else bool(fit.rises)
    finding = fit.text if fit is not None else _plain_finding(rows)
    notes = ["The intact loss rises with position: read delta there with care."] if rises else []
    table = Table("Intact loss by position in the window", columns, cells)
    return Section(
        "positions",
        "Intact loss by position",
        finding,
        [figure(chart, how, table)],
        [_losses(explained)],
        notes,
    )


def _plain_finding(rows: pd.DataFrame) -> str:
    first, last = records(rows.iloc[[0, -1]])
    return (
        f"The intact loss is {decimals(first['loss'])} nats at positions"
        f" {between(first, 'position')} and {decimals(last['loss'])} at"
        f" {between(last, 'position')}."
    )


def _losses(explained: Explained) -> Table:
    headers = ["condition", "loss (nats a token)", "perplexity", "intact on the same", "targets"]
    cells = [
        [
            str(row["condition"]),
            decimals(row["loss"]),
            decimals(row["perplexity"], 2),
            decimals(row["intact_loss"]),
            f"{int(row['targets']):,}",
        ]
        for row in records(explained.summary.losses.by_condition)
    ]
    return Table("Mean losses; a condition's targets may repeat over runs", headers, cells)


def reading_section(explained: Explained) -> Section | None:
    """Where far text is read at all, by KL; ``None`` where it was not measured."""
    rows = explained.summary.reading
    if rows.empty or "kl" not in rows:
        return None
    rows = without_noise(rows)
    names = conditions_of(explained.summary)
    table = pivot(
        "KL(intact ‖ condition), nats, by octave of distance; * above its noise floor",
        records(rows),
        names,
        by="condition",
        cell=lambda row: ranged(row, "kl") + (" *" if row["read"] else ""),
    )
    what = "KL to the intact distribution also sees what helps as often as it hurts."
    finding = _read(rows, names)
    return Section("reading", "Where far text is read", finding, [], [table], [what])


def _read(rows: pd.DataFrame, names: Sequence[str]) -> str:
    """How far the KL of each condition is above its noise floor."""
    parts = []
    for name in names:
        own = records(rows[rows["condition"] == name].sort_values("distance_from"))
        if own and own[0]["floor"] is None:
            parts.append(f"{name} has no noise floor to compare with")
        elif own:
            unread = next((row for row in own if not row["read"]), None)
            last = own[-1]
            parts.append(
                f"{name} at all distances up to {int(last['distance_to']):,}, where KL is"
                f" {ranged(last, 'kl')} nats"
                if unread is None
                else f"{name} up to {int(unread['distance_from']):,}"
            )
    return f"Far text is read (KL above its noise floor) under {'; '.join(parts)}." if parts else ""
