"""`probe run`: score, resume, print the answer, draw the curve; of a matrix run after run."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from probe.commands._visible import note, say
from probe.commands.options import command_lines, configured, local, quiet, read
from probe.commands.progress import Progress
from probe.errors import UsageError
from probe.text import counted

if TYPE_CHECKING:
    from probe.config import Config
    from probe.results.scores import Store
    from probe.results.shards import Shard
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
@click.option(
    "--results",
    default="results",
    show_default=True,
    metavar="FOLDER",
    help="Folder that holds the run folders, or an address such as s3://bucket/runs.",
)
@click.option(
    "--shard",
    metavar="i/n",
    help="Score the i-th of n parts of the documents, from 0, beside processes that score the "
    "others; auto: as Slurm's job array, or RANK and WORLD_SIZE, say.",
)
def command(
    config: Path,
    settings: tuple[str, ...],
    results: str,
    shard: str | None,
    **twins: str | None,
) -> None:
    """Score CONFIG, going on where an earlier call stopped; print the answer, draw the curve.

    Of a CONFIG with lists under matrix every model is scored on every data set, a run folder each,
    and all are compared.
    """
    settled = read(config, settings, **twins)
    quiet()
    from probe.analysis.open_run import open_run
    from probe.commands.report import noting_unwritten, tell
    from probe.findings.base import findings
    from probe.results.mirror import is_address
    from probe.results.scores import Store
    from probe.results.shards import parse_shard
    from probe.runs.matrix import Matrix

    part = None if shard is None else parse_shard(shard)
    if isinstance(settled, Matrix):
        if part is not None or is_address(results):
            wrong = f"--shard {part}" if part is not None else f"--results {results}"
            raise UsageError(
                f"{wrong}: {config} is a matrix of {counted(len(settled.runs), 'run')}; allowed: "
                "a configuration of one run"
            )
        from probe.commands._matrix import run_matrix

        run_matrix(settled, local(results), score)
        return
    if is_address(results):
        _score_at(settled, results, part)
        return
    store = Store(local(results) / settled.name, part)
    folder = score(settled, store)
    if part is not None and (store.read_record() or {}).get("status") != "complete":
        say(f"Shard {part} is scored, others are missing: {folder}")
        return
    with noting_unwritten(), open_run(folder) as opened:
        tell(opened, findings(opened, brief=True))
        more = (
            "Contrasts, and who is helped and hurt" if opened.has_losses else "All of it on a page"
        )
    say(f"{more}: probe report {folder}", err=True)


def _score_at(config: "Config", results: str, part: "Shard | None") -> None:
    """Score a run, or a shard of it, into a run folder at an address; there it goes on, too."""
    from probe.results.mirror import Mirror
    from probe.results.scores import Store

    address = f"{results.rstrip('/')}/{config.name}"
    own = address if part is None else f"{address}/{part.index}-of-{part.count}"
    with TemporaryDirectory() as scratch:
        folder, mirror = Path(scratch) / config.name, Mirror(own)
        mirror.fetch(folder)
        score(config, Store(folder, part, mirror))
    said = "All of it" if part is None else f"Shard {part}"
    of = address if part is None else f"{address}/*"
    say(f"{said} is scored: {own}")
    say(f"Answer: probe merge '{of}' --into results/{config.name}", err=True)


def score(config: "Config", results: "Path | Store", loader: "Loader | None" = None) -> Path:
    """Score one run behind a bar of its progress; its folder.

    Args:
        config: The configuration.
        results: The folder that holds the run folders, or the run folder, see
            :func:`probe.runs.run.run`.
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
