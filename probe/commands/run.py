"""`probe run`: score, resume, print the answer, draw the curve; of a matrix run after run."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from probe.commands._visible import note, say
from probe.commands.options import command_lines, configured, local, quiet, read
from probe.commands.progress import Progress
from probe.errors import UsageError
from probe.text import duration

if TYPE_CHECKING:
    from probe.config import Config
    from probe.results.mirror import Mirror
    from probe.results.scores import Store
    from probe.results.shards import Shard
    from probe.runs.begun import Workers


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
@click.option(
    "--ray",
    is_flag=False,
    flag_value="",
    metavar="[ADDRESS]",
    help="Score on Ray: on this machine, or on the cluster at ADDRESS (auto, host:6379).",
)
@click.option("--workers", type=click.IntRange(1), help="How many; as many as there is room for.")
@click.option(
    "--gpus-per-worker", "gpus", type=click.FloatRange(0), help="1 where there are GPUs, else 0."
)
def command(
    config: Path,
    settings: tuple[str, ...],
    results: str,
    shard: str | None,
    ray: str | None,
    workers: int | None,
    gpus: float | None,
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
    from probe.results.mirror import Mirror, is_address
    from probe.results.shards import parse_shard
    from probe.runs.loaded import LastModel
    from probe.runs.matrix import Matrix
    from probe.runs.run import Here

    part = None if shard is None else parse_shard(shard)
    given = {"--shard": shard, "--workers": workers, "--gpus-per-worker": gpus}
    refuse = {
        "--shard": (ray is not None, "without --ray, which divides the run itself"),
        "--workers": (ray is None, "with --ray"),
        "--gpus-per-worker": (ray is None, "with --ray"),
    }
    for option, (wrong, allowed) in refuse.items():
        if wrong and given[option] is not None:
            raise UsageError(f"{option} {given[option]}: allowed {allowed}")
    base = Mirror(results) if is_address(results) else local(results)
    with ExitStack() as stack:
        team: Workers = Here(loader=LastModel())
        if ray is not None:
            from probe.cluster.ray import RayWorkers

            team = RayWorkers(ray or None, workers, gpus, say=note)
            stack.enter_context(team.connected())
        score = partial(_score, base=base, part=part, workers=team)
        if isinstance(settled, Matrix):
            from probe.commands._matrix import run_matrix

            run_matrix(settled, base, part, score)
            return
        folder = score(settled, settled.name)
    if folder is None:
        return
    with noting_unwritten(), open_run(folder) as opened:
        tell(opened, findings(opened, brief=True))
        more = (
            "Contrasts, and who is helped and hurt" if opened.has_losses else "All of it on a page"
        )
    say(f"{more}: probe report {folder}", err=True)


def _score(
    config: "Config",
    name: str,
    *,
    base: "Path | Mirror",
    part: "Shard | None",
    workers: "Workers",
) -> Path | None:
    """Score a run, or a shard of it; say so where its answer is not to be had yet.

    Args:
        config: The configuration.
        name: Of the run folder, seen from *base*.
        base: The folder that holds the run folders, or its address.
        part: The shard; ``None`` is all of it.
        workers: Who scores what is missing.

    Returns:
        The run folder; ``None`` where the run is at an address, or other shards are missing.
    """
    with _at(base, name, part) as store:
        _score_missing(config, store, workers)
        if store.mirror is not None:
            said = "All of it" if part is None else f"Shard {part}"
            of = "" if part is None else "/*"
            say(f"{said} is scored: {store.mirror.address}")
            address = f"{base}/{name}{of}"
            say(f"Answer: probe merge '{address}' --into results/{name}", err=True)
            return None
        if part is not None and not store.is_complete():
            say(f"Shard {part} is scored, others are missing: {store.folder}")
            return None
        return store.folder


@contextmanager
def _at(base: "Path | Mirror", name: str, part: "Shard | None") -> "Iterator[Store]":
    """The run folder: under a folder of this machine, or here for a while and at an address."""
    from probe.results.mirror import Mirror
    from probe.results.scores import Store

    if isinstance(base, Path):
        yield Store(base / name, part)
        return
    own = f"{base}/{name}"
    if part is not None:  # shards of a store of objects, which has no locks, share no folder
        own = f"{own}/{part.index}-of-{part.count}"
    with TemporaryDirectory() as scratch:
        folder, mirror = Path(scratch) / name, Mirror(own)
        mirror.fetch(folder)
        yield Store(folder, part, mirror)


def _score_missing(config: "Config", store: "Store", workers: "Workers") -> None:
    """Score what is missing in a run folder, behind a bar of its progress."""
    from probe.runs.rows import Progress as Scored
    from probe.runs.run import run

    def listen(scored: Scored) -> None:
        where = "delta at the far end" if scored.far else "delta"
        far = "" if scored.far_delta is None else f", {where} {scored.far_delta:+.4f} nats"
        rate = scored.tokens / scored.seconds
        each = f", {rate / scored.workers:,.0f} a worker" if scored.workers > 1 else ""
        text = f"{rate:,.0f} tokens/s{each}{far}"
        if scored.width:
            left = scored.seconds / scored.windows * (scored.total - scored.windows)
            text += f"; {scored.width}, {duration(left)} more at this rate"
        # Loading and checking are no unit's time.
        bar.show(scored.windows, scored.total, text, scored.seconds)

    with Progress("window", lines=True, leave=True) as bar:
        run(config, store, workers=workers, listen=listen, say=note)
