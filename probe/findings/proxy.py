"""The proxy: how well a small model's run predicts a big one's, and how to pay for both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from probe.analysis.open_run import OpenRun, open_run
from probe.analysis.proxy import explained, split, use_proxy
from probe.findings.base import Finding, register
from probe.findings.table import Table, between, by_condition, decimals, records
from probe.text import aligned, counted


@register("proxy", order=91)
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding | None:
    """How well a small model's run on more documents predicts that of a big one.

    Args:
        run: The open run.
        others: Not needed.
    """
    if run.proxy is None:
        return None
    name, rows = run.proxy.name, by_condition(explained(run))
    if not rows:
        return None
    own = [row for row in rows if row["condition"] == run.main_condition] or rows
    counts = {"documents": run.proxy.prediction.population, "common": len(run.documents)}
    sentence = (
        f"{name} was scored on {counts['documents']:,} documents, {counts['common']:,} of them"
        f" in common: under {own[-1]['condition']} at {between(own[-1])} {run.unit} it explains"
        f" {_squared(own[-1])} of the variance between documents (R²)."
    )
    return Finding(
        "proxy",
        "Predicted by another model",
        sentence=sentence,
        headlines=[sentence],
        tables=[
            Table(
                "R²: how much of the variance between documents the proxy explains, with its "
                f"{run.analysis.confidence * 100:g} % interval",
                ["condition", f"distance ({run.unit})", "R²"],
                [[str(row["condition"]), between(row), _squared(row)] for row in rows],
                shown="both",
            )
        ],
        files={
            "findings.json": {
                "proxy": {"run": str(run.proxy.path), "model": name, **counts, "octaves": rows}
            }
        },
    )


def _squared(row: dict[str, Any]) -> str:
    return f"{decimals(row['r_squared'], 2)} ({decimals(row['low'], 2)}–{decimals(row['high'], 2)})"


@dataclass(frozen=True, eq=False)
class Division:
    """How a budget is divided between a big model and its proxy.

    Args:
        proxy: Name of the small model.
        documents: The budget, as documents of the big model alone.
        octaves: Of :func:`probe.analysis.proxy.split`.
    """

    proxy: str
    documents: int
    octaves: pd.DataFrame

    def __str__(self) -> str:
        head = ["distance", "condition", "R²", "documents", self.proxy, "±", "± without"]
        lines = [
            [
                between(row),
                str(row["condition"]),
                decimals(row["r_squared"], 2),
                f"{row['documents']:,}",
                f"{row['proxy_documents']:,}" if row["proxy_documents"] else "–",
                decimals(row["half_width"], 4),
                decimals(row["plain"], 4),
            ]
            for row in by_condition(self.octaves)
        ]
        return (
            f"What {counted(self.documents, 'document')} cost, divided between this model and "
            f"{self.proxy}, by octave:\ndocuments of each, and ± of the mean delta (nats per "
            f"token)\n{aligned([head, *lines], numbers=True)}"
        )

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        octaves = records(self.octaves)
        return {"model": self.proxy, "documents": self.documents, "octaves": octaves}


def divide(finished: Path, proxy: Path, documents: int) -> Division:
    """Divide a budget between a model and its proxy, by what a pilot says.

    Args:
        finished: The pilot, a run of the big model.
        proxy: The run of the small one.
        documents: The budget, as documents of the big model alone.

    Raises:
        UsageError: If the proxy is one of other data, windows or conditions than the pilot.
    """
    with open_run(finished, write=False) as run, open_run(proxy, write=False) as small:
        use_proxy(run, small)
        return Division(small.model, documents, split(run, small, documents))
