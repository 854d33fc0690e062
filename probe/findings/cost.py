"""Cost and identity of a run: what was measured with what, and what it took."""

from collections.abc import Mapping, Sequence
from typing import Any

from probe.analysis.open_run import OpenRun
from probe.findings.answer import counts
from probe.findings.base import Finding, register
from probe.findings.table import Table, decimals
from probe.results.record import CheckRecord

_MEANINGS = {
    "tokens": "tokens forwarded; a prefix that branches share counts once",
    "forwards": "calls of the model's layers",
    "targets": "losses: a target counts once for each run, condition and repeat, and once intact",
    "body_seconds": "in the model's layers",
    "head_seconds": "from the last layer's output to losses",
    "seconds": "body, head and the sharing of prefixes",
    "run_seconds": "scoring, with planning and writing; loading the model is not in it",
    "flops": "products of the forwarded tokens and the targets, by formula",
    "peak_memory": "bytes of the device's memory at most",
    "gpu_flops": "those of calls on GPUs that are known by name, in 16 bits",
    "gpu_peak_flops": "what these GPUs could have done in the seconds of scoring",
    "mfu": "model FLOPs utilisation: the first of these divided by the second",
}
"""What the costs in ``run.json`` are."""


@register("cost", order=900, losses=False)
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """Model, data, seeds, versions, the self-check and the cost.

    Args:
        run: The open run.
        others: Not needed.
    """
    costs = run.facts.costs
    versions = [[str(name), str(one)] for name, one in run.facts.versions.items()]
    tables = [
        Table("The run", ["what", "value"], _facts(run)),
        Table("Cost, all calls of the run together", ["what", "value", "meaning"], _costs(costs)),
        *_checks(run.facts.check),
        Table("Versions", ["package", "version"], versions),
    ]
    sentence = ", ".join(counts(run))
    seconds = costs.get("run_seconds") or costs.get("seconds")
    if isinstance(seconds, int | float):
        sentence += f"; {_time(seconds)}"
    tables = [table for table in tables if table.rows]
    return Finding("run", "Cost and identity of the run", f"{sentence}.", tables=tables)


def _facts(run: OpenRun) -> list[list[str]]:
    model, data, config = (run.record.get(name) or {} for name in ("model", "data", "config"))
    identity, windows = run.facts.identity, run.facts.config.windows
    of_data = identity.get("data")
    left_out = data.get("left_out")
    facts: dict[str, Any] = {
        "run": run.name,
        "status": run.facts.status,
        "model": run.model,
        "model path": model.get("path"),
        "model revision": model.get("revision"),
        "class": model.get("class"),
        "parameters": model.get("parameters"),
        "dtype": model.get("dtype"),
        "device": model.get("device"),
        "trained positions": model.get("positions"),
        "data": run.data,
        "data revision": of_data.get("revision") if isinstance(of_data, Mapping) else None,
        "documents": len(run.facts.data.documents) or None,
        "window length": windows.get("length"),
        "window unit": None if windows.get("unit") == "tokens" else windows.get("unit"),
        "windows per document": windows.get("per_document"),
        "metadata columns": _inline(run.facts.config.data.get("metadata_columns") or None),
        "protocol": _inline(config.get("protocol")),
        "conditions": _inline(config.get("conditions")),
        "first token": config.get("first_token") or identity.get("first_token"),
        "seed": config.get("seed"),
        "targets": run.targets,
    }
    if isinstance(left_out, Mapping):
        for reason, found in left_out.items():
            count = found.get("count") if isinstance(found, Mapping) else found
            if count:
                words = str(reason).replace("_", " ")
                # A licence's header is taken off a file that is read.
                off = words == "licence headers"
                facts[f"{words} taken off" if off else f"left out: {words}"] = count
    return [[name, _shown(value)] for name, value in facts.items() if value is not None]


def _costs(costs: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, value in costs.items():
        words = str(name).replace("_", " ")
        timed = words.endswith("seconds") and isinstance(value, int | float)
        if timed:
            words = words.removesuffix("seconds").strip() or "scoring"
        told = _time(value) if timed else _rounded(value)
        rows.append([words, told, _MEANINGS.get(str(name), "")])
    return rows


def _checks(checks: Sequence[CheckRecord]) -> list[Table]:
    """A table for the differences of each unit."""
    by_unit: dict[str, list[CheckRecord]] = {}
    for check in checks:
        unit = str((check.model_extra or {}).get("unit") or "nats")
        by_unit.setdefault(unit, []).append(check)
    return [_check_table(own, unit) for unit, own in by_unit.items()]


def _check_table(checks: Sequence[CheckRecord], unit: str) -> Table:
    cells = [
        [
            str(check.technique),
            "used" if check.passed else "switched off",
            decimals(check.mean, 6),
            decimals(check.worst, 6),
            str((check.model_extra or {}).get("reason") or ""),
        ]
        for check in checks
    ]
    headers = ["technique", "result", f"mean difference ({unit})", "worst", "reason"]
    return Table("Self-check on this model, against whole forwards", headers, cells)


def _inline(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_inline(part)}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _rounded(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else _shown(value)


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} seconds"
    minutes = seconds / 60
    return f"{minutes:.1f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
