"""`probe plan`: what a run would cost, counted on its own branches."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from probe.commands.options import configured, quiet, read

if TYPE_CHECKING:
    from probe.experiment import Experiment
    from probe.planning import Planned


@click.command("plan", short_help="What a run would cost.")
@configured
@click.option("--time/--no-time", default=True, help="Load the model and time it (default).")
def command(config: Path, settings: tuple[str, ...], time: bool, **twins: str | None) -> None:
    """Count what CONFIG would forward and measure, and estimate how long it takes."""
    settled = read(config, settings, **twins)
    quiet()
    from probe.experiment import prepare
    from probe.planning import costs, planned_batch
    from probe.run import notes

    experiment = prepare(settled)
    experiment.check_sources()
    counted = costs(experiment, planned_batch(settled), set())
    for line in notes(experiment, len(experiment.windows)):
        click.echo(f"note: {line}", err=True)
    click.echo(
        f"{len(experiment.documents)} documents, {counted.windows} windows of "
        f"{settled.windows.length} tokens, reach {experiment.protocol.reach}\n"
        f"{counted.branches:,} branches, {counted.tokens:,} tokens to forward; the plain way, one "
        f"whole forward per branch: {counted.plain_tokens:,} "
        f"({counted.plain_tokens / counted.tokens:.1f} times as many)\n\n"
        f"{targets_table(counted)}"
    )
    if time:
        click.echo(f"\n{estimate(experiment, counted)}")


def targets_table(counted: "Planned") -> str:
    """Targets by octave of distance (rows) and condition (columns)."""
    from probe.planning import octave_name

    conditions = list(counted.targets)
    octaves = sorted({number for by_octave in counted.targets.values() for number in by_octave})
    rows = [["distance", *conditions]]
    for number in octaves:
        found = [counted.targets[condition].get(number) for condition in conditions]
        rows.append([octave_name(number), *("–" if n is None else f"{n:,}" for n in found)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "Targets\n" + "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def estimate(experiment: "Experiment", counted: "Planned") -> str:
    """Time the model on a piece of this run and say how long the whole takes, and its memory."""
    from probe.models.load import load_model
    from probe.run import check_model
    from probe.timing import speed

    settings = experiment.config.model
    model = load_model(
        experiment.source,
        dtype=settings.dtype,
        device=settings.device,
        attention=settings.attention,
        trust_remote_code=settings.trust_remote_code,
    )
    report = check_model(model, experiment)
    tokens = counted.tokens if report.techniques.branching else counted.plain_tokens
    measured = speed(model, experiment.windows[0].ids)
    targets = sum(sum(octaves.values()) for octaves in counted.targets.values())
    seconds = measured.seconds(tokens, targets)
    kind = str(model.model.dtype).removeprefix("torch.")
    whole = "Branching is not exact on this model: every branch is forwarded whole.\n"
    return (
        ("" if report.techniques.branching else whole)
        + f"About {_duration(seconds)} on {model.device} in {kind} "
        f"({measured.tokens_per_second:,.0f} tokens/s, {measured.targets_per_second:,.0f} "
        f"targets/s), {measured.weights / 2**20:,.0f} MiB of weights and "
        f"{measured.cache(len(experiment.windows[0].ids)) / 2**20:,.0f} MiB of cache a window"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
