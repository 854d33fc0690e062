"""The commands whose outputs are kept, and the folder that each runs in."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml
from golden_inputs import CONFIGURATIONS, write_data, write_models

HERE = Path(__file__).parent
UNFINISHED = "unfinished"
"""The run ``finished`` as it was when five of its twelve windows were scored."""
RUNS = (*CONFIGURATIONS, UNFINISHED)
UNREPORTED = (
    UNFINISHED,
    "finished",
    "longppl-near",
    "sweep-writer",
    "sweep-pairs",
    "few",
    "suffix-at",
    "attend-near",
    "prompts",
)
"""Runs without a case ``report-…``: others say the same, or a case of another name has them."""
MISTAKES = """
name: no/name
model: {path: models/writer, dtype: float3}
data: {path: stdlib, file: x, metadata_columns: [frequency]}
windows: {length: 4}
protocol: {kind: swep}
conditions: [shufle, "replace(source='nowhere')", "attend(local(0))", truncate(1)]
measures: [nll, ppl]
analysis: {tolerances: [1], classes: [coppy]}
"""


def _plot(kind: str, *runs: str, more: Sequence[str] = ()) -> list[str]:
    return ["plot", *(f"runs/{run}" for run in runs), "--kind", kind, *more]


def _compare(*runs: str, more: Sequence[str] = ()) -> list[str]:
    return ["compare", *(f"runs/{run}" for run in runs), *more]


SHOWN = {
    "shuffle": ["shuffle(span=5)"],
    "shuffle-words": ["shuffle(unit='word', within='sentence')"],
    "spans": ["shuffle_spans(span=3)", "--seed", "7"],
    "reverse": ["reverse(unit='sentence')"],
    "replace": ["replace(source='document', rate=0.3)"],
    "chain": ["[drop(rate=0.5), shuffle]"],
    "keep": ["keep(what='common')", "--boundary", "40"],
    "hide": ["hide(sinks=4)"],
    "delete": ["delete(sinks=2, positions='kept')"],
    "drop-target": ["drop_target"],
    "replace-target": ["replace_target(source='unigram', matched=True)"],
    "truncate": ["truncate"],
    "tokens": ["replace(source='self')", "--model", "models/writer", "--text", "inputs/text.txt"],
    "local": ["attend(local(8))"],
    "joined": ["attend(local(4) + strided(6) + global(positions=[0, 9]))"],
    "heads": [
        "attend(heads(gaussian, layers=[0], heads=[1, 2]) + heads(dilated(4, 2), layers=[1]))",
        "--model",
        "models/writer",
    ],
    "pool": ["attend(pool(4))"],
    "blocks": ["attend(blocks(6, sinks=2))"],
    "random": ["attend(random(3, seed=1) + local(2))"],
}
COMMANDS = (
    *("init", "run", "plan", "report", "plot", "compare", "keys", "card", "push", "show", "list"),
    *("weigh", "train", "check", "merge"),
)
SVG = ("--output", "figure.svg")
LIMITS = ("--lsd", "0.5", "--lcl", "-4")

COMPARED = {
    "paired": ("sweep", "sweep-writer"),
    "by-document": ("sweep-writer", "sweep-pairs"),
    "patterns": ("attend", "attend-near"),
    "protocols": ("sweep", "grid"),
    "many": ("few", "suffix", "longppl"),
    "longppl": ("longppl", "longppl-near"),
    "suffix": ("suffix", "suffix-at"),
}
COMPARED_FILES = {
    "paired": ("--csv", "table.csv", "--figure", "figure.svg"),
    "by-document": ("--csv", "table.csv"),
}

CASES: dict[str, list[str]] = {
    **{f"report-{run}": ["report", f"runs/{run}"] for run in RUNS if run not in UNREPORTED},
    "report-several": ["report", "runs/sweep-pairs", "runs/few", "--output", "several"],
    "report-asked": [
        "report",
        "runs/unfinished",
        "--class",
        "frequency(top=0.2)",
        "--class",
        "inputs/own.py:vowel",
        "--output",
        "page.html",
    ],
    **{f"compare-{name}": _compare(*runs) for name, runs in COMPARED.items()},
    **{
        f"compare-{name}-full": _compare(*runs, more=["--full", *COMPARED_FILES.get(name, ())])
        for name, runs in COMPARED.items()
    },
    "compare-one": _compare("sweep"),
    "compare-delta": _compare("few", "sweep-writer", "sweep", more=["--value", "delta@10"]),
    "compare-csv": _compare("few", "sweep", "grid", more=["--format", "csv", "--full"]),
    "plot-default": ["plot", "runs/sweep"],
    "plot-condition": ["plot", "runs/grid", "--condition", "truncate", *SVG],
    "plot-curves": _plot("curve", "sweep-pairs", "few"),
    "plot-classes": _plot("classes", "sweep", more=["--class", "subword", *SVG]),
    "plot-information": _plot("information", "grid", more=SVG),
    "plot-tolerance": _plot("tolerance", "sweep-pairs", more=SVG),
    "plot-heatmap": _plot("heatmap", "sweep", more=SVG),
    "plot-position": _plot("heatmap", "grid", more=["--by", "position", *SVG]),
    "plot-matrix": _plot("matrix", "sweep", "sweep-writer", "grid", more=SVG),
    "plot-compare": _plot("compare", "sweep", "sweep-writer", more=SVG),
    "plot-bytes": _plot("compare", "sweep-writer", "sweep-pairs", more=["--unit", "bytes", *SVG]),
    "plot-importance": _plot("importance", "dense", more=SVG),
    "plot-kl": _plot(
        "importance", "dense", more=["--measure", "kl", "--document", "3", "--window", "0", *SVG]
    ),
    "plot-tradeoff": _plot("tradeoff", "attend", more=SVG),
    "plot-beside": _plot("beside", "beside", more=SVG),
    "plot-heads": _plot("heads", "heads"),
    "plot-bands": _plot("curve", "band", more=SVG),
    "plot-passages": _plot("curve", "prompts", more=SVG),
    "plot-suffix": _plot("curve", "suffix", "suffix-at", more=SVG),
    "plot-nothing": _plot("tradeoff", "few", more=SVG),
    "keys": ["keys", "runs/longppl"],
    "keys-scored": [
        "keys",
        "runs/longppl",
        "--score",
        "runs/longppl-near",
        "--export",
        "keys.json",
        *LIMITS,
    ],
    "keys-of-a-sweep": ["keys", "runs/sweep"],
    "list": ["list"],
    **{f"show-{name}": ["show", *arguments] for name, arguments in SHOWN.items()},
    **{f"plan-{name}": ["plan", f"{name}.yaml"] for name in ("sweep", "suffix", "pool")},
    "plan-from": ["plan", "sweep.yaml", "--from", "runs/sweep", "--no-time"],
    "plan-mistakes": ["plan", "mistakes.yaml"],
    "check": ["check", "models/near", "--dtype", "float32", "--length", "96"],
    "help": ["--help"],
    **{f"help-{name}": [name, "--help"] for name in COMMANDS},
}
"""Each as on the command line, paths relative to the folder of :func:`case_folder`."""


def place_inputs(folder: Path) -> None:
    """Put models and texts into a folder; texts that are there already stay."""
    write_models(folder / "models")
    if (HERE / "models").exists():
        shutil.copytree(HERE / "models", folder / "models", dirs_exist_ok=True)
    if not (folder / "inputs").exists():
        if (HERE / "inputs").exists():
            shutil.copytree(HERE / "inputs", folder / "inputs")
        else:
            write_data(folder / "inputs")
    for name, configuration in CONFIGURATIONS.items():
        write_yaml(folder / f"{name}.yaml", configuration)
    (folder / "mistakes.yaml").write_text(MISTAKES, encoding="utf-8")


def write_yaml(file: Path, content: object) -> None:
    """Write a configuration."""
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def case_folder(name: str, folder: Path, inputs: Path) -> Path:
    """Make the folder in which a case runs.

    Args:
        name: Of the case.
        folder: An empty folder.
        inputs: A folder of :func:`place_inputs`, from which is copied what the case names.

    Returns:
        *folder*.
    """
    arguments = CASES[name]
    for run in [one for one in arguments if one.startswith("runs/")]:
        shutil.copytree(HERE / run, folder / run)
    if any("yaml" in one or one.startswith("models/") for one in arguments):
        shutil.copytree(inputs, folder, dirs_exist_ok=True)
    else:
        shutil.copytree(HERE / "inputs", folder / "inputs")
    return folder


def keep_unfinished(run: Path, target: Path) -> None:
    """Copy a run as it was when five windows were scored: fewer parts, and another status."""
    shutil.copytree(run, target)
    for part in sorted((target / "scores").iterdir())[5:]:
        part.unlink()
    record = json.loads((target / "run.json").read_text(encoding="utf-8"))
    record["status"] = "unfinished"
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    (target / "run.json").write_text(text, encoding="utf-8")
