"""`probe run`: score, resume, print the answer, draw the curve; of a matrix run after run."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from probe.commands._visible import note, say
from probe.commands.options import command_lines, configured, in_results, quiet, read
from probe.commands.progress import Progress

if TYPE_CHECKING:
    from probe.config import Config
    from probe.runs.run import Loader


@click.command(
    "run",
    short_help="Score a configuration and print the answer.",
    epilog=command_lines(
        "probe run configs/quick.yaml",
        "probe run my.yaml --model models/mine --data 'books/*.txt' --set name=mine",
        "probe --quiet run my.yaml --set windows.length=8192 --results /scratch/runs",
    ),
)
@configured
@in_results("the run folders")
def command(config: Path, settings: tuple[str, ...], results: Path, **twins: str | None) -> None:
    """Score CONFIG, going on where an earlier call stopped; print the answer, draw the curve.

    Of a CONFIG with lists under matrix every model is scored on every data set, a run folder each,
    and all are compared.
    """
    settled = read(config, settings, **twins)
    quiet()
    from probe.analysis.open_run import open_run
    from probe.commands.report import noting_unwritten, tell
    from probe.findings.base import findings
    from probe.runs.matrix import Matrix

    if isinstance(settled, Matrix):
        from probe.commands._matrix import run_matrix

        run_matrix(settled, results, score)
        return
    folder = score(settled, results)
    with noting_unwritten(), open_run(folder) as opened:
        tell(opened, findings(opened, brief=True))
        more = (
            "Contrasts, and who is helped and hurt" if opened.has_losses else "All of it on a page"
        )
    say(f"{more}: probe report {folder}", err=True)


def score(config: "Config", results: Path, loader: "Loader | None" = None) -> Path:
    """Score one run behind a bar of its progress; its folder.

    Args:
        config: The configuration.
        results: The folder that holds the run folders.
        loader: What loads the model where something is missing.
    """
    from probe.runs.rows import Progress as Scored
    from probe.runs.run import run

    def listen(scored: Scored) -> None:
        where = "delta at the far end" if scored.far else "delta"
        far = "" if scored.far_delta is None else f", {where} {scored.far_delta:+.4f} nats"
        text = f"{scored.tokens / scored.seconds:,.0f} tokens/s{far}"
        # Loading and checking are no unit's time.
        bar.show(scored.windows, scored.total, text, scored.seconds)

    with Progress("window", lines=True, leave=True) as bar:
        return run(config, results, loader=loader, listen=listen, say=note)
