"""A matrix of runs on the command line: scored one after another and compared, or planned."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from probe.commands._visible import fail, note, say
from probe.errors import ProbeError, UsageError
from probe.text import aligned, counted

if TYPE_CHECKING:
    from probe.analysis.open_run import OpenRun
    from probe.config import Config
    from probe.models.scorer import Scorer
    from probe.results.mirror import Mirror
    from probe.results.shards import Shard
    from probe.runs.experiment import Experiment
    from probe.runs.matrix import Matrix
    from probe.runs.plan import Planned

    Score = Callable[[Config, str], Path | None]
    Timing = Callable[[Scorer, Experiment, Planned], float]

COMPARISON = "comparison"
"""Name of the files about all runs, in the folder of the matrix."""


def run_matrix(
    matrix: "Matrix", base: "Path | Mirror", part: "Shard | None", score: "Score"
) -> None:
    """Score every run that is not finished, then print and write the comparison of all.

    Nothing is compared at an address, nor by a shard as long as others are missing.

    Args:
        matrix: The runs.
        base: The folder that holds the folder of the matrix, or its address.
        part: The shard of each run that is scored; ``None`` is all of it.
        score: What scores one run, by its configuration and the name of its folder seen from
            *base*, and gives its folder where the run is complete and on this machine.

    Raises:
        UsageError: If that is the folder of a run.
        ProbeError: At the end, if a run failed.
    """
    from probe.analysis.open_run import open_run

    if isinstance(base, Path) and (base / matrix.name / "run.json").exists():
        raise UsageError(f"{base / matrix.name} is the folder of a run; allowed: another name")

    def work(config: "Config") -> None:
        path = score(config, f"{matrix.name}/{config.name}")
        if path is not None:
            with open_run(path) as run:
                _keep(run)

    failed = _each(matrix, work)
    scored = [config.name for config in matrix.runs if config.name not in failed]
    if isinstance(base, Path):
        _compare_complete(matrix, scored, base / matrix.name, part)
    elif scored:
        say(f"Comparison, once all are merged: probe compare results/{matrix.name}/*/", err=True)
    _refuse(failed, matrix)


def _compare_complete(
    matrix: "Matrix", scored: Sequence[str], folder: Path, part: "Shard | None"
) -> None:
    """Compare the runs that are scored; a shard does so once all runs are complete.

    Args:
        matrix: The runs.
        scored: The names of those that did not fail.
        folder: Of the matrix.
        part: The shard; ``None`` is all of each run.
    """
    from probe.analysis.open_run import open_run
    from probe.results.scores import Store

    # Of those that lacked a shard as this one scored them others may have completed some since.
    complete = [folder / name for name in scored if Store(folder / name).is_complete()]
    missing = len(matrix.runs) - len(complete)
    if part is not None and missing:
        say(
            f"Nothing is compared: {missing} of {counted(len(matrix.runs), 'run')} not complete; "
            "the shard that completes the last of them compares all, or the same command without "
            "--shard, which scores what is missing"
        )
    elif complete:
        with ExitStack() as stack:
            _compare(
                [stack.enter_context(open_run(path, write=False)) for path in complete], folder
            )


def plan_matrix(matrix: "Matrix", timed: "Timing | None") -> None:
    """Count what every run would forward, and all together, and estimate how long that takes.

    Args:
        matrix: The runs.
        timed: What says how many seconds a run takes on a loaded model; ``None`` loads none.

    Raises:
        ProbeError: At the end, if a run has a mistake.
    """
    from probe.runs.experiment import prepare
    from probe.runs.loaded import LastModel
    from probe.runs.plan import costs, planned_batch
    from probe.runs.run import notes

    loader, names = LastModel(), list[str]()
    sums: list[list[float]] = []

    def work(config: "Config") -> None:
        experiment = prepare(config)
        experiment.check_sources()
        for line in notes(experiment, len(experiment.windows)):
            note(line)
        cost = costs(experiment, planned_batch(config), set())
        numbers = [len(experiment.documents), cost.windows, cost.branches, cost.tokens]
        seconds = [] if timed is None else [timed(loader(experiment), experiment, cost)]
        names.append(config.name)
        sums.append([*numbers, *seconds])

    failed = _each(matrix, work)
    header = ["run", "documents", "windows", "branches", "tokens", *(["seconds"] if timed else [])]
    whole = [sum(column) for column in zip(*sums, strict=True)]
    rows = [*zip(names, sums, strict=True), *([("all", whole)] if sums else [])]
    cells = [[name, *(f"{number:,.0f}" for number in own)] for name, own in rows]
    say(aligned([header, *cells], numbers=True))
    _refuse(failed, matrix)


def _each(matrix: "Matrix", work: Callable[["Config"], None]) -> list[str]:
    """Do something with every run; one that fails is named, and the others go on.

    Returns:
        The names of those that failed.
    """
    from probe.commands.main import message_of

    failed = []
    for number, config in enumerate(matrix.runs, start=1):
        say(f"{number} of {len(matrix.runs)}: {config.name}", err=True)
        try:
            work(config)
        except Exception as error:  # whatever it is, the others do not depend on it
            if os.environ.get("PROBE_DEBUG"):
                raise
            fail(f"{config.name}: {message_of(error)}")
            failed.append(config.name)
    return failed


def _refuse(failed: Sequence[str], matrix: "Matrix") -> None:
    if failed:
        runs = counted(len(matrix.runs), "run")
        raise ProbeError(f"{len(failed)} of {runs} failed: {', '.join(failed)}")


def _keep(run: "OpenRun") -> None:
    """The numbers and figures of one run in its folder; its answer is printed."""
    from probe.commands.report import draw, noting_unwritten
    from probe.findings.base import findings, write_files

    with noting_unwritten():
        found = findings(run, brief=True)
        for sentence in [one.sentence for one in found if one.level == "answer" and one.sentence]:
            say(sentence)
        for finding in found:
            draw(finding, run.path / "figures")
        write_files(run, found)


def _compare(runs: Sequence["OpenRun"], folder: Path) -> None:
    """Print models × data, and write all that is known of it beside the run folders."""
    from probe.commands.report import noting_unwritten
    from probe.findings.chart import EmptyChartError
    from probe.findings.compare.charts import panels
    from probe.findings.compare.finding import Asked, cells, together
    from probe.render.figures import save
    from probe.render.table_formats import markdown
    from probe.render.terminal import text
    from probe.results.files import csv_text, warn_unwritten, write_text

    say(f"\n{text(together(runs), wrap=True)}\n")
    tables = together(runs, Asked(every=True)).tables
    table, numbers = folder / f"{COMPARISON}.md", folder / f"{COMPARISON}.csv"
    with noting_unwritten():
        write_text(table, "\n\n".join(map(markdown, tables)) + "\n")
        write_text(numbers, csv_text(cells(runs)))
        if written := [str(file) for file in (table, numbers) if file.is_file()]:
            say(f"All runs: {', '.join(written)}")
        try:
            for file in save(panels(runs), folder / COMPARISON):
                say(f"All runs: {file}")
        except EmptyChartError as error:
            note(f"no figure of all runs: {error}")
        except OSError as error:  # as of a single run: all is scored, and the next call writes it
            warn_unwritten(Path(error.filename or folder / COMPARISON), error)
