"""`probe plan`: what a run would cost, counted on its own branches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from probe.commands._visible import note, print_json, say
from probe.commands.options import FOLDERS, command_lines, configured, quiet, read, with_json
from probe.commands.progress import Progress
from probe.errors import UsageError
from probe.text import aligned, counted, duration

if TYPE_CHECKING:
    import pandas as pd

    from probe.config import Config
    from probe.models.scorer import Scorer
    from probe.runs.experiment import Experiment
    from probe.runs.plan import Planned, Speed

OCTAVES = 0.5


@click.command(
    "plan",
    short_help="What a run would cost.",
    epilog=command_lines(
        "probe plan configs/quick.yaml",
        "probe plan my.yaml --no-time --set windows.length=8192  # the model is not loaded",
        "probe plan my.yaml --from results/pilot --octaves 0.25  # how many documents?",
        "probe plan my.yaml --from results/pilot --proxy results/small  # how many of each?",
        "probe plan my.yaml --hardware '8x H100' --mfu 0.4  # what it takes there",
        "probe plan configs/training/planted.yaml  # what `probe train` would cost",
    ),
)
@configured
@click.option("--time/--no-time", default=True, help="Load the model and time it (default).")
@click.option(
    "--from",
    "finished",
    type=FOLDERS,
    metavar="RUN",
    help="A run like it: how many such documents the answers need.",
)
@click.option(
    "--octaves",
    type=float,
    metavar="X",
    help=f"With --from: an interval of at most ± X octaves; default {OCTAVES}.",
)
@click.option(
    "--proxy",
    type=FOLDERS,
    metavar="RUN",
    help="With --from: a cheaper model's run on the same windows; how to divide the documents.",
)
@click.option(
    "--hardware",
    metavar="'8x H100'",
    help="What it takes on other hardware, in place of the time here.",
)
@click.option("--mfu", type=float, help="With --hardware: the share of its peak; default 0.4.")
@with_json("plan")
def command(
    config: Path,
    settings: tuple[str, ...],
    time: bool,
    finished: Path | None,
    octaves: float | None,
    proxy: Path | None,
    hardware: str | None,
    mfu: float | None,
    as_json: bool,
    **twins: str | None,
) -> None:
    """Count what CONFIG would forward and measure, and estimate how long it takes.

    With --from RUN it also says how many documents like those of RUN the interval around each
    effective context needs, and after how many a CONFIG with precision stops.
    """
    from probe.runs.matrix import Matrix
    from probe.training.study import is_study

    if mfu is not None and hardware is None:
        raise UsageError("--mfu: allowed with --hardware")
    if is_study(config):
        given = {"--from": finished, "--octaves": octaves, "--json": as_json or None, **twins}
        given |= {"--hardware": hardware, "--proxy": proxy}
        if wrong := next((name for name, value in given.items() if value is not None), None):
            raise UsageError(f"{wrong}: allowed with a run; {config} is a study")
        plan_study(config, settings, timed=time)
        return
    if proxy is not None and finished is None:
        raise UsageError(f"--proxy '{proxy}' needs a run of the big model to plan from: --from RUN")
    settled = read(config, settings, **twins)
    if isinstance(settled, Matrix):
        from probe.commands._matrix import plan_matrix

        if finished is not None or octaves is not None:
            raise UsageError("--from and --octaves take one run; this is a matrix of several")
        for option, value in (("--json", as_json), ("--hardware", hardware)):
            if value:
                raise UsageError(f"{option} is of one run; this is a matrix of several")
        quiet()
        plan_matrix(settled, (lambda *run: timed(*run).seconds) if time else None)
        return
    precision = read_precision(settled, finished, octaves)
    quiet()
    from probe.cluster.hardware import MFU, parse_hardware, project
    from probe.runs.experiment import prepare
    from probe.runs.plan import costs, planned_batch
    from probe.runs.run import notes
    from probe.runs.stopping import target_of

    there = None if hardware is None else parse_hardware(hardware, MFU if mfu is None else mfu)
    documents = settled.data.max_documents
    with Progress("document", doing="Reading documents", total=documents) as bar:
        experiment = prepare(settled, listen=bar.show)
    experiment.check_sources()
    if settled.precision is not None:
        target_of(experiment)
    with Progress("window", doing="Counting", total=len(experiment.windows)) as bar:
        cost = costs(experiment, planned_batch(settled), set(), listen=bar.show)
    remarks = list(notes(experiment, len(experiment.windows)))
    for line in remarks:
        note(line)
    unit = " ms" if experiment.plan.frame else ""
    say(
        f"{counted(len(experiment.documents), 'document')}, {counted(cost.windows, 'window')} of "
        f"{window_tokens(experiment)} tokens, reach {experiment.plan.reach}{unit}\n"
        f"{cost.branches:,} branches, {cost.tokens:,} tokens to forward; the plain way, one "
        f"whole forward per branch: {cost.plain_tokens:,} "
        f"({cost.plain_tokens / cost.tokens:.1f} times as many)\n\n"
        f"{targets_table(cost)}"
    )
    stop = read_stop(experiment, finished)
    if stop:
        say(f"\n{stop.text}")
    if precision:
        say(f"\n{precision}")
    divided = None
    if proxy is not None and finished is not None:
        from probe.findings.proxy import divide

        divided = divide(finished, proxy, len(experiment.documents))
        say(f"\n{divided}")
    projected = there and project(experiment, cost, there)
    if projected:
        say(f"\n{projected}")
    here = time and not projected and settled.model.served is None  # no weights are loaded then
    estimated = estimate(experiment, cost) if here else None
    if estimated:
        say(f"\n{estimated}")
    if as_json:
        values = as_values(experiment, cost, remarks, precision, estimated)
        values |= {"stop": stop and stop._asdict(), "hardware": projected and projected.as_json()}
        print_json(values | {"proxy": divided and divided.as_json()})


def plan_study(config: Path, settings: tuple[str, ...], *, timed: bool) -> None:
    """Say what a study costs, arm by arm."""
    from probe.commands.options import setting_changes
    from probe.training.study import load
    from probe.training.study_plan import study_cost

    study = load(config, setting_changes(settings))
    quiet()
    cost = study_cost(study, Path("results"), timed=timed)
    say(
        f"{counted(cost.pieces, 'training piece')} of up to {study.length:,} tokens, "
        f"{cost.data_tokens:,} in all; {counted(cost.held_out, 'document')} held out; "
        f"{cost.parameters:,} parameters"
    )
    rows = [["arm", "models", "tokens trained", "epochs", "tokens forwarded", "FLOPs"]]
    rows += [
        [
            one.arm,
            f"{one.models}",
            f"{one.trained:,}",
            f"{one.epochs:.1f}",
            f"{one.forwards:,.0f}",
            f"{cost.flops(one.forwards):.2g}",
        ]
        for one in cost.arms
    ]
    counts = sum(one.models for one in cost.arms)
    trained = sum(one.models * one.trained for one in cost.arms)
    whole = [f"{trained:,}", "", f"{cost.forwards:,.0f}", f"{cost.flops(cost.forwards):.2g}"]
    say(aligned([*rows, ["all models", f"{counts}", *whole]], numbers=True))
    say(
        "Tokens and FLOPs are per model. Epochs: passes over its documents. Forwarded:\n"
        "in training, measuring and scoring, a backward pass as two forward passes.\n"
        "FLOPs: 2 per parameter and forwarded token, no attention."
    )
    if cost.seconds_per_token is not None:
        seconds = duration(cost.forwards * cost.seconds_per_token)
        rate = 1 / cost.seconds_per_token
        say(f"About {seconds} on this machine ({rate:,.0f} forwarded tokens/s)")


@dataclass(frozen=True)
class Precision:
    """Documents that intervals need, read off a finished run.

    Args:
        run: Its folder.
        octaves: Half the width that an interval may have.
        documents: How many it has.
        needed: A row a condition and tolerance, see
            :func:`probe.analysis.precision.documents_needed`.
        warnings: What limits the run, one line each.
    """

    run: Path
    octaves: float
    documents: int
    needed: "pd.DataFrame"
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        """The table, and below it why a number is missing."""
        return (
            f"Documents needed for an interval of ± {self.octaves:g} octaves, like the "
            f"{self.documents} of {self.run} and with as many windows each (its conditions, windows"
            f" and reach; the tolerances are those asked for here)\n{_needed(self.needed)}"
        )


def read_precision(
    config: "Config", finished: Path | None, octaves: float | None
) -> Precision | None:
    """Documents that *config*'s tolerances need, by condition; ``None`` without a run to read.

    Raises:
        UsageError: If *octaves* is not above 0, or there is no run that it could be of.
    """
    if finished is None:
        if octaves is not None:
            raise UsageError(f"--octaves {octaves:g} needs a run to plan from: --from RUN")
        return None
    from probe.analysis.open_run import open_run
    from probe.analysis.precision import pilot
    from probe.results.tolerance import parse_tolerance

    asked = None if config.precision is None else config.precision.octaves
    width = (asked or OCTAVES) if octaves is None else octaves
    if not width > 0:
        raise UsageError(f"--octaves is {width:g}; allowed: a number above 0")
    tolerances = [parse_tolerance(text) for text in config.analysis.tolerances]
    with open_run(finished, write=False) as run:
        needed, documents = pilot(run, width, tolerances), len(run.documents)
    for line in run.warnings:
        note(line)
    return Precision(finished, width, documents, needed, run.warnings)


class Stop(NamedTuple):
    """Where a run with a precision is expected to stop.

    Args:
        documents: After how many documents; ``None`` where that is not known.
        text: The same in words, or what is known.
    """

    documents: int | None
    text: str


def read_stop(experiment: "Experiment", finished: Path | None) -> Stop | None:
    """Where a run is expected to stop, by a run like it; ``None`` without a precision."""
    from probe.analysis.looks import numbers, predicted
    from probe.analysis.open_run import open_run
    from probe.runs.population import has_others
    from probe.runs.stopping import target_of

    config, most = experiment.config, len(experiment.documents)
    if config.precision is None:
        return None
    target = target_of(experiment)
    asked = f"Precision: {target}, {target.width_text()}: "
    if finished is None:
        looks = [f"{number:,}" for number, _ in zip(numbers(most), range(4), strict=False)]
        return Stop(
            None,
            f"{asked}looked at after {', '.join(looks)} … documents, {most:,} at most; where the "
            "run stops no count can tell: --from RUN, a run like it, does",
        )
    with open_run(finished, write=False) as run:
        if not has_others(experiment):
            run.prediction = None  # nor will the run that is planned have one
        then = predicted(run, target, most, config.analysis.confidence)
    if then is None:
        return Stop(None, f"{asked}{finished} has no such interval to go by")
    if not then.is_enough(target):
        width = then.half_width
        found = "no interval with two ends" if width is None else target.width_text(width)
        return Stop(None, f"{asked}not within {counted(most, 'document')}, which give {found}")
    own = set(list(experiment.documents)[: then.documents])
    places = experiment.windows.places
    windows = sum(place.document in own for place in places)
    return Stop(
        then.documents,
        f"{asked}the run is expected to stop after {then.documents:,} of "
        f"{counted(most, 'document')}, {counted(windows, 'window')}: "
        f"{windows / len(places):.0%} of what is counted here",
    )


def _needed(needed: "pd.DataFrame") -> str:
    """Conditions in rows, tolerances in columns; a word where there is no number."""
    tolerances = list(dict.fromkeys(needed["tolerance"]))
    lines, reasons = [["condition", *tolerances]], []
    for condition, rows in needed.groupby("condition", sort=False):
        texts = list(rows["text"])
        lines.append([str(condition), *(_short(text) for text in texts)])
        for text in dict.fromkeys(text for text in texts if _short(text) != text):
            at = [tolerances[number] for number, other in enumerate(texts) if other == text]
            reasons.append(f"- {condition} at {', '.join(at)}: {text}")
    return "\n".join([aligned(lines), *reasons])


def _short(text: str) -> str:
    """The answer for a cell of a table; what needs a sentence stands below it."""
    if text.startswith("needs a longer reach"):
        return "beyond reach"
    return text.partition(" (")[0]


def window_tokens(experiment: "Experiment") -> str:
    """Tokens of a window; the shortest and the longest where each is a whole document."""
    lengths = [place.length for place in experiment.windows.places]
    return " to ".join(map(str, dict.fromkeys([min(lengths), max(lengths)])))


def targets_table(cost: "Planned") -> str:
    """Targets by octave of distance (rows) and condition (columns)."""
    from probe.runs.plan import octave_name

    # Patterns of attention have no distance, and they may be hundreds.
    named = [name for name in cost.targets if name.startswith("attend(")]
    patterns = [name for name in named if set(cost.targets[name]) == {-1}]
    conditions = [name for name in cost.targets if name not in patterns]
    others = [cost.targets[name][-1] for name in patterns]
    octaves = sorted({number for name in conditions for number in cost.targets[name]})
    rows = [["distance", *conditions]]
    for number in octaves:
        found = [cost.targets[condition].get(number) for condition in conditions]
        rows.append([octave_name(number), *("–" if n is None else f"{n:,}" for n in found)])
    told = [f"Targets\n{aligned(rows, numbers=True)}"] if conditions else []
    if others:
        each = " to ".join(f"{n:,}" for n in dict.fromkeys((min(others), max(others))))
        told.append(f"{counted(len(others), 'attention pattern')}: {each} targets each")
    return "\n".join(told)


class Timed(NamedTuple):
    """How long a run takes by what was timed of its model.

    Args:
        seconds: Without loading and self-check.
        speed: What was measured.
        branching: Whether shared prefixes are forwarded once; else every branch is whole.
    """

    seconds: float
    speed: "Speed"
    branching: bool


def timed(model: "Scorer", experiment: "Experiment", cost: "Planned") -> Timed:
    """Check a model, time it on a piece of a run, and say how long the whole takes."""
    from probe.runs.loaded import check_model
    from probe.runs.plan import speed

    branching = check_model(model, experiment).techniques.branching
    measured = speed(model, experiment.windows[0].ids, experiment.config.measures)
    targets = sum(sum(octaves.values()) for octaves in cost.targets.values())
    tokens = cost.tokens if branching else cost.plain_tokens
    return Timed(measured.seconds(tokens, targets), measured, branching)


@dataclass(frozen=True)
class Estimate:
    """How long a run takes on this machine, and its memory.

    Args:
        device: Where the model is.
        dtype: Of its weights.
        timed: What was timed.
        cache: Bytes of keys and values of a window.
    """

    device: str
    dtype: str
    timed: Timed
    cache: float

    def __str__(self) -> str:
        measured = self.timed.speed
        whole = "Branching is not exact on this model: every branch is forwarded whole.\n"
        return (
            ("" if self.timed.branching else whole)
            + f"About {duration(self.timed.seconds)} on {self.device} in {self.dtype} "
            f"({measured.tokens_per_second:,.0f} tokens/s, {measured.targets_per_second:,.0f} "
            f"targets/s), {measured.weights / 2**20:,.0f} MiB of weights and "
            f"{self.cache / 2**20:,.0f} MiB of cache per window"
        )


def estimate(experiment: "Experiment", cost: "Planned") -> Estimate:
    """Time the model on a piece of this run and say how long the whole takes, and its memory."""
    from probe.runs.loaded import load

    model = load(experiment)
    found = timed(model, experiment, cost)
    kind = str(model.model.dtype).removeprefix("torch.")
    cache = found.speed.cache(len(experiment.windows[0].ids))
    return Estimate(str(model.device), kind, found, cache)


def as_values(
    experiment: "Experiment",
    cost: "Planned",
    remarks: Sequence[str],
    precision: Precision | None,
    estimated: Estimate | None,
) -> dict[str, Any]:
    """The same as plain values, as ``docs/schemas/plan.json`` has them."""
    from probe.findings.table import records
    from probe.runs.plan import octave_limits

    lengths = [place.length for place in experiment.windows.places]
    targets = []
    for condition, octaves in cost.targets.items():
        for number, count in sorted(octaves.items()):
            first, last = octave_limits(number)
            distances = {"distance_from": first, "distance_to": last}
            targets.append({"condition": condition, **distances, "targets": count})
    return {
        "schema": 1,
        "documents": len(experiment.documents),
        "windows": cost.windows,
        "window_tokens": {"shortest": min(lengths), "longest": max(lengths)},
        "unit": "ms" if experiment.plan.frame else "tokens",
        "reach": experiment.plan.reach,
        "branches": cost.branches,
        "tokens": cost.tokens,
        "plain_tokens": cost.plain_tokens,
        "targets": targets,
        "precision": precision
        and {
            "run": str(precision.run),
            "octaves": precision.octaves,
            "documents": precision.documents,
            "needed": records(precision.needed.drop(columns="documents")),
        },
        "timing": estimated
        and {
            "seconds": estimated.timed.seconds,
            "device": estimated.device,
            "dtype": estimated.dtype,
            "branching": estimated.timed.branching,
            "tokens_per_second": estimated.timed.speed.tokens_per_second,
            "targets_per_second": estimated.timed.speed.targets_per_second,
            "weight_bytes": estimated.timed.speed.weights,
            "cache_bytes_per_window": estimated.cache,
        },
        "notes": [*(precision.warnings if precision else ()), *remarks],
    }
