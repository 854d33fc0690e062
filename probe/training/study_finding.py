"""What a study found, in words, tables and pictures."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from probe.findings.answer import describe_tolerance
from probe.findings.base import Finding
from probe.findings.chart import Chart, Series, delta_axis, distance_axis
from probe.findings.table import Table, between, decimals, records
from probe.text import counted, difference, wrapped
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
    sentences = [wrapped(_sentence(arms, *pair)) for pair in pairs]
    return Finding(
        "arms",
        "The arms",
        sentence=sentences[0] if sentences else "",
        more=sentences[1:],
        basis=wrapped(
            f"Means over {counted(len(study.seeds), 'seed')}. {_level(arms)}: bootstrap over "
            f"{counted(_documents(arms), 'held-out document')}, which leaves out how seeds vary; "
            "seeds: the least and the largest of one seed; both ±: half the interval for other "
            "documents and other seeds; min. detectable: what that interval finds with 80 % power."
        ),
        tables=[*_tables(arms)],
        charts=_charts(arms),
        caveats=arms.caveats,
        files={"arms.csv": arms.table},
    )


def _level(arms: Arms) -> str:
    return f"{100 * arms.confidence:g} %"


def _documents(arms: Arms) -> int:
    return int(arms.table["documents"].max())


def _sentence(arms: Arms, arm: str, other: str) -> str:
    """What an arm changes, with its sign, and whether every seed agrees."""
    parts = []
    for quantity in (FAR, INTACT):
        row = arms.row(quantity, arm, against=other)
        if row is None or math.isnan(row["difference"]):
            continue
        parts.append(f"{quantity} {_change(row, len(arms.study.seeds))}")
    return f"{arm} against {other}: {'; '.join(parts) or 'nothing measured'}."


def _change(row: "pd.Series[float]", seeds: int) -> str:
    value = difference(row["difference"], row["difference_low"], row["difference_high"])
    if math.isnan(row["difference_low"]):
        verdict = "too few documents for an interval"
    elif row["difference_low"] <= 0 <= row["difference_high"]:
        verdict = "no clear change"
    elif seeds == 1:
        verdict = "one seed, which others may contradict"
    elif row["difference_both_low"] <= 0 <= row["difference_both_high"]:
        agree = row["difference_seed_low"] > 0 or row["difference_seed_high"] < 0
        signs = "of one sign" if agree else "of both signs"
        verdict = f"which other seeds may contradict ({signs} in these)"
    else:
        verdict = "beyond what documents and seeds vary"
    return f"{value} nats per token, {verdict}"


def _tables(arms: Arms) -> Iterator[Table]:
    """Two tables per quantity, arms and differences; effective contexts; delta by octave."""
    for name in (FAR, INTACT, NEAR, KEYS):
        measures = arms.measures(name)
        for measure in measures[:1] if name == INTACT else measures:  # all read the same documents
            pairs = [(arm, other) for arm in arms.arms for other in arms.others(arm) or [""]]
            rows = [(arm, arms.row(name, arm, measure, other)) for arm, other in pairs]
            known = [(arm, row) for arm, row in rows if row is not None]
            yield from _of_quantity(arms, name, known, _of(measure, measures))
    measures = list(dict.fromkeys(measure for measure, _ in arms.contexts))
    for measure in measures:
        own = {arm: told for (of, arm), told in arms.contexts.items() if of == measure}
        yield Table(
            f"Effective context (tokens) at {describe_tolerance(arms.tolerance)}, "
            f"{_level(arms)} intervals in brackets{_of(measure, measures)}",
            ["arm", "all seeds", "seed by seed"],
            [[arm, whole, ", ".join(each)] for arm, (whole, each) in own.items()],
            shown="both",
        )
    measures = arms.measures(DELTA)
    for measure in measures:
        of = (arms.table["quantity"] == DELTA) & (arms.table["measure"] == measure)
        deltas = arms.table[of].drop_duplicates(["arm", "distance_from"])
        wide = deltas.pivot(index="arm", columns="distance_from", values="value")
        octaves = deltas.drop_duplicates("distance_from").sort_values("distance_from")
        yield Table(
            "Delta by octave of distance (tokens), nats per token" + _of(measure, measures),
            ["arm", *map(between, records(octaves))],
            [[arm, *(decimals(value, 4) for value in wide.loc[arm])] for arm in arms.arms],
            shown="both",
            numbers=True,
        )


def _of(measure: str, measures: Sequence[str]) -> str:
    """Which of several measures a table is of."""
    return f"; measure {measure}" if len(measures) > 1 else ""


def _of_quantity(
    arms: Arms, name: str, rows: Sequence[tuple[str, "pd.Series[float]"]], of: str
) -> Iterator[Table]:
    """One quantity of every arm, and its differences between arms."""
    level, chose = _level(arms), next(models(arms.study))
    favoured = "" if chose.arm == START else f", which favours {chose.name}"
    octaves = between(rows[0][1].to_dict())
    captions = {
        FAR: "Far delta (nats per token): loss added by perturbed far text, mean of the octaves of "
        f"{octaves} tokens",
        INTACT: "Intact loss (nats per token)",
        NEAR: f"Near loss (nats per token): that with the nearest {octaves} tokens alone",
        KEYS: f"Key-token loss (nats per token), ln LongPPL; keys chosen by {chose.name}{favoured}",
    }
    once = dict(reversed(rows))  # an arm has a row for each other arm
    cells = [
        [arm, decimals(row["value"], 4), _range(row, ""), _range(row, "seed_")]
        for arm, row in reversed(once.items())
    ]
    seeds = "seeds, min to max"
    yield Table(
        captions[name] + of, ["arm", "mean", level, seeds], cells, shown="both", numbers=True
    )
    cells = [
        [
            f"{arm} − {row['against']}",
            difference(row["difference"], math.nan, math.nan),
            *(_range(row, f"difference_{prefix}", sign=True) for prefix in ("", "seed_")),
            decimals(row["difference_both_high"] - row["difference"], 4),
            decimals(row["detectable"], 4),
        ]
        for arm, row in rows
        if not math.isnan(row["difference"])
    ]
    if cells:
        headers = ["arms", "difference", level, "seeds", "both ±", "min. detectable"]
        caption = f"{captions[name].partition(' (')[0]}: differences (nats per token){of}"
        yield Table(caption, headers, cells, shown="both", numbers=True)


def _range(row: "pd.Series[float]", prefix: str, *, sign: bool = False) -> str:
    ends = row[f"{prefix}low"], row[f"{prefix}high"]
    if math.isnan(ends[0]):
        return "–"
    texts = [difference(end, math.nan, math.nan) if sign else decimals(end, 4) for end in ends]
    return " to ".join(texts)


def _charts(arms: Arms) -> list[Chart]:
    """Delta by distance, a line per arm."""
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
                "Delta by distance, by arm",
                distance_axis(float(rows["distance_to"].max())),
                delta_axis(seen),
                series,
                how="Higher: the model loses more when text further away than this is taken from "
                "it, so it reads that text. Lines are means over seeds, bands intervals over "
                "documents.",
                heading=[
                    f"{arms.study.name}: means over {counted(len(arms.study.seeds), 'seed')}",
                    f"bands: {_level(arms)} over {counted(_documents(arms), 'document')}",
                ],
                file=str(measure),
            )
        )
    return charts
