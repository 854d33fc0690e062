"""`probe run`: score, resume, print the answer, draw the curve; of a matrix run after run."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from probe.commands._visible import note, say
from probe.commands.options import configured, quiet, read

if TYPE_CHECKING:
    from probe.config import Config
    from probe.runs.run import Loader


@click.command("run", short_help="Score a configuration and print the answer.")
@configured
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    show_default=True,
    help="Folder that holds the run folders.",
)
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
    say(f"Contrasts, and who is helped and hurt: probe report {folder}", err=True)


def score(config: "Config", results: Path, loader: "Loader | None" = None) -> Path:
    """Score one run behind a bar of its progress; its folder.

    Args:
        config: The configuration.
        results: The folder that holds the run folders.
        loader: What loads the model where something is missing.
    """
    from tqdm import tqdm

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
        return run(config, results, loader=loader, listen=listen, say=note)
