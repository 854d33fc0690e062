"""`probe train`: models trained in several arms and from several seeds, measured and compared."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from probe.commands._visible import note, say
from probe.commands.options import command_lines, in_results, quiet, setting_changes, with_settings
from probe.commands.progress import Progress

if TYPE_CHECKING:
    from probe.training.study_run import Step


@click.command(
    "train",
    short_help="Train arms of a study, measure and compare them.",
    epilog=command_lines(
        "probe train configs/training/planted.yaml",
        "probe train my.yaml --set seeds=[0] --set tokens=1_000_000  # a first look",
    ),
)
@click.argument("config", type=click.Path(path_type=Path))
@with_settings
@in_results("the folder of the study")
def command(config: Path, settings: tuple[str, ...], results: Path) -> None:
    """Train the models of CONFIG, going on where an earlier call stopped; compare what they read.

    Every arm is trained from every seed on the same number of tokens, and measured on documents
    that none was trained on: delta by distance, losses, effective context, LongPPL.
    `probe plan CONFIG` says what it costs.
    """
    from probe.training.study import load

    study = load(config, setting_changes(settings))
    quiet()
    from probe.commands.report import draw, noting_unwritten
    from probe.findings.base import file_texts
    from probe.render.terminal import text
    from probe.results.files import write_text
    from probe.training.study_arms import arms_of
    from probe.training.study_finding import finding
    from probe.training.study_run import train

    folder = train(study, results, work=_work, say=note)
    found = finding(arms_of(study, folder))
    say(text(found, wrap=True))
    say()
    with noting_unwritten():
        draw(found, folder)
        for name, content in file_texts([found]).items():
            write_text(folder / name, content)
            say(f"Numbers: {folder / name}")


@contextmanager
def _work(doing: str, unit: str) -> "Iterator[Step]":
    """A piece of work behind a bar."""
    say(doing, err=True)
    with Progress(unit, doing=doing, lines=True) as bar:
        yield bar.show
