"""What a study found, in words, tables and pictures."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from probe.findings.base import Finding
from probe.findings.chart import Chart, Series, delta_axis, distance_axis
from probe.findings.table import Table, decimals
from probe.text import counted, difference
from probe.training.study import START
from probe.training.study_arms import DELTA, FAR, INTACT, KEYS, NEAR, Arms
from probe.training.study_run import models


def finding(arms: Arms) -> Finding:
    """The arms as tables and a picture.

    Args:
        arms: What is known of them.
    """
    study = arms.study
    pairs = [(arm, other) for arm in arms.arms for other in arms.others(arm)]
    sentences = [_sentence(arms, *pair) for pair in pairs]
    return Finding(
        "arms",
        "The arms",
        sentence=sentences[0] if sentences else "",
        more=sentences[1:],
        basis=f"Means over {counted(len(study.seeds), 'seed')}; intervals: {_level(arms)} over "
        "documents.",
        tables=[*_tables(arms)],
        charts=_charts(arms),
        caveats=arms.caveats,
        files={"arms.csv": arms.table},
    )


def _level(arms: Arms) -> str:
    return f"{100 * arms.confidence:g} %"


def _sentence(arms: Arms, arm: str, other: str) -> str:
    """What an arm changes, with its sign, and whether every seed agrees."""
    parts = []
    for quantity, words in ((FAR, "far text is worth"), (INTACT, "intact loss")):
        row = arms.row(quantity, arm, against=other)
        if row is None or math.isnan(row["difference"]):
            continue
        parts.append(f"{words} {_change(row, len(arms.study.seeds))}")
    return f"{arm} against {other}: {'; '.join(parts) or 'nothing measured'}."


def _change(row: "pd.Series[float]", seeds: int) -> str:
    value = difference(row["difference"], row["difference_low"], row["difference_high"])
    if math.isnan(row["difference_low"]):
        verdict = "too few documents to say more"
    elif row["difference_low"] <= 0 <= row["difference_high"]:
        verdict = "no clear change"
    elif seeds == 1:
        verdict = "one seed, which others may contradict"
    else:
        agree = row["difference_seed_low"] > 0 or row["difference_seed_high"] < 0
        verdict = f"that sign {'in every seed' if agree else 'not in every seed'}"
    return f"{value} nats per token ({verdict})"


def _tables(arms: Arms) -> Iterator[Table]:
    """A table a quantity, arms in rows; then effective contexts, and delta by octave."""
    for name in (FAR, INTACT, NEAR, KEYS):
        measures = arms.measures(name)
        for measure in measures[:1] if name == INTACT else measures:  # all read the same documents
            pairs = [(arm, other) for arm in arms.arms for other in arms.others(arm) or [""]]
            rows = [(arm, arms.row(name, arm, measure, other)) for arm, other in pairs]
            known = [(arm, row) for arm, row in rows if row is not None]
            yield _table(arms, name, known, _of(measure, measures))
    measures = list(dict.fromkeys(measure for measure, _ in arms.contexts))
    for measure in measures:
        own = {arm: told for (of, arm), told in arms.contexts.items() if of == measure}
        yield Table(
            f"Effective context (tokens), {arms.tolerance}{_of(measure, measures)}",
            ["arm", "all seeds", "of each seed"],
            [[arm, whole, ", ".join(each)] for arm, (whole, each) in own.items()],
            shown="both",
        )
    measures = arms.measures(DELTA)
    for measure in measures:
        of = (arms.table["quantity"] == DELTA) & (arms.table["measure"] == measure)
        octaves = arms.table[of].drop_duplicates(["arm", "distance_from"])
        wide = octaves.pivot(index="arm", columns="distance_from", values="value")
        yield Table(
            "Delta by octave, nats per token; columns: first distance" + _of(measure, measures),
            ["arm", *map(str, wide.columns)],
            [[arm, *map(decimals, wide.loc[arm])] for arm in arms.arms],
            shown="both",
            numbers=True,
        )


def _of(measure: str, measures: Sequence[str]) -> str:
    """Which of several measures a table is of."""
    return f"; measure {measure}" if len(measures) > 1 else ""


def _table(arms: Arms, name: str, rows: Sequence[tuple[str, "pd.Series[float]"]], of: str) -> Table:
    """One quantity of every arm, and its difference from others."""
    level, chose = _level(arms), next(models(arms.study))
    favoured = "" if chose.arm == START else ", which has the lower loss on them for that"
    a, b = int(rows[0][1]["distance_from"]), int(rows[0][1]["distance_to"]) - 1
    captions = {
        FAR: f"Far delta: the mean of the octaves from {a:,} to {b:,} tokens, nats per token",
        INTACT: "Intact loss, nats per token",
        NEAR: f"Near loss: with the nearest {a:,} to {b:,} tokens alone, nats per token",
        KEYS: "Loss of key tokens, whose exp is LongPPL, nats per token; keys are those of "
        f"{chose.name}{favoured}",
    }
    cells: list[list[str]] = []
    for arm, row in rows:
        own = [decimals(row["value"]), _range(row, ""), _range(row, "seed_")]
        if cells and cells[-1][0] == arm:
            own = [""] * 3  # the same as in the row above, against another arm
        apart = ["–"] * 5
        if not math.isnan(row["difference"]):
            value = difference(row["difference"], math.nan, math.nan, 3)
            limits = _range(row, "difference_"), _range(row, "difference_seed_")
            apart = [str(row["against"]), value, *limits, decimals(row["detectable"])]
        cells.append([arm, *own, *apart])
    headers = ["arm", "mean", level, "seeds", "against", "difference", level, "seeds", "detectable"]
    return Table(captions[name] + of, headers, cells, shown="both")


def _range(row: "pd.Series[float]", prefix: str) -> str:
    low, high = row[f"{prefix}low"], row[f"{prefix}high"]
    return "–" if math.isnan(low) else f"{decimals(low)} to {decimals(high)}"


def _charts(arms: Arms) -> list[Chart]:
    """Delta by distance, a line an arm."""
    octaves = arms.table[arms.table["quantity"] == DELTA]
    charts = []
    for measure, rows in octaves.groupby("measure", sort=False):
        series = []
        for look, arm in enumerate(arms.arms):
            own = rows[rows["arm"] == arm].drop_duplicates("distance_from")
            middle = (own["distance_from"] + own["distance_to"] - 1).to_numpy(np.float64) / 2
            low, high = (own[name].to_numpy(np.float64) for name in ("low", "high"))
            known = bool(np.isfinite(low).any())
            series.append(
                Series(
                    arm,
                    middle,
                    own["value"].to_numpy(np.float64),
                    look,
                    low if known else None,
                    high if known else None,
                )
            )
        seen = rows[["value", "low", "high"]].to_numpy(np.float64)
        charts.append(
            Chart(
                "What far text is worth, by arm",
                distance_axis(float(rows["distance_to"].max())),
                delta_axis(seen),
                series,
                how="Higher: the model loses more when text further away than this is taken from "
                "it, so it reads that text. Lines are means over seeds, bands intervals over "
                "documents.",
                heading=[f"{arms.study.name}: {counted(len(arms.study.seeds), 'seed')} an arm"],
                file=str(measure),
            )
        )
    return charts
