"""`probe run`: score, resume, print the answer, draw the curve."""

import time
from pathlib import Path

import click

from probe.commands._visible import note, say
from probe.commands.options import configured, examples, quiet, read


@click.command(
    "run",
    short_help="Score a configuration and print the answer.",
    epilog=examples(
        "probe run configs/quick.yaml",
        "probe run my.yaml --model models/mine --data 'books/*.txt' --set name=mine",
        "probe --quiet run my.yaml --set windows.length=8192 --results /scratch/runs",
    ),
)
@configured
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    show_default=True,
    help="Folder that holds the run folders.",
)
def command(config: Path, settings: tuple[str, ...], results: Path, **twins: str | None) -> None:
    """Score CONFIG, going on where an earlier call stopped; print the answer, draw the curve."""
    settled = read(config, settings, **twins)
    quiet()
    from tqdm import tqdm

    from probe.analysis.open_run import open_run
    from probe.commands.report import noting_unwritten, tell
    from probe.findings.base import findings
    from probe.runs.rows import Progress
    from probe.runs.run import run

    # Shown from the first unit on: a mistake that comes before it stands alone.
    bar = tqdm(
        total=None, unit="window", dynamic_ncols=True, mininterval=1.0, delay=1e-3, smoothing=0
    )

    def listen(progress: Progress) -> None:
        bar.total = progress.total
        bar.start_t = time.time() - progress.seconds  # loading and checking are no unit's time
        where = "delta at the far end" if progress.far else "delta"
        far = "" if progress.far_delta is None else f", {where} {progress.far_delta:+.4f} nats"
        bar.set_postfix_str(
            f"{progress.tokens / progress.seconds:,.0f} tokens/s{far}", refresh=False
        )
        bar.update(progress.windows - bar.n)

    with bar:  # all notes come before the first unit, so there is no bar yet
        folder = run(settled, results, listen=listen, say=note)
    with noting_unwritten(), open_run(folder) as opened:
        tell(opened, findings(opened, brief=True))
    say(f"Contrasts, and who is helped and hurt: probe report {folder}", err=True)
