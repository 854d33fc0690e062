"""`probe keys`: the tokens that a long context helps, LongPPL over them, LSD by distance."""

from pathlib import Path

import click

from probe.commands._target import Target
from probe.commands._visible import say
from probe.errors import UsageError


@click.command("keys", short_help="Key tokens and LongPPL of a run.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--score",
    "scored",
    type=click.Path(path_type=Path),
    help="Give RUN's key tokens the losses of this run, of another model.",
)
@click.option(
    "--export",
    type=Target(),
    help="Write the key tokens as character spans, with all numbers, into a JSON file.",
)
@click.option("--lsd", default=2.0, show_default=True, help="Key tokens have an LSD above this.")
@click.option("--lcl", default=-2.0, show_default=True, help="Key tokens have an LCL above this.")
def command(run: Path, scored: Path | None, export: Path | None, lsd: float, lcl: float) -> None:
    """Tell LongPPL of RUN, a run with protocol longppl, and how LSD depends on distance.

    Of a run with another protocol and truncated rows, LSD by distance alone is told.
    """
    from probe.analysis.key_answer import answer, as_json, table
    from probe.analysis.keys import KeyRule, key_spans
    from probe.analysis.longppl import is_longppl, longppl
    from probe.analysis.lsd import lsd_table
    from probe.results.files import write_whole
    from probe.results.folder import read_folder
    from probe.text import counted

    rule = KeyRule(lsd, lcl)
    opened = read_folder(run)
    if not is_longppl(opened.record):
        if scored is not None or export is not None:
            raise UsageError(f"run '{run}': --score and --export need a run with protocol longppl")
        say(f"{table(lsd_table(opened, rule), rule)}\n")
        say(f"LongPPL needs a run with protocol longppl; '{run}' has another.", err=True)
        return
    found = longppl(run, scored=scored, rule=rule)
    say(answer(found))
    if export is not None:
        spans = key_spans(opened, rule)
        write_whole(export, as_json(found, spans).encode("utf-8", "backslashreplace"))
        say(f"\nKey tokens: {export} ({counted(len(spans), 'span')})")


def tell(folder: Path) -> None:
    """Print LongPPL of a run folder and keep it there, in ``longppl.json``."""
    from probe.analysis.key_answer import answer, write_answer
    from probe.analysis.longppl import longppl

    found = longppl(folder)
    say(f"{answer(found)}\n")
    write_answer(folder / "longppl.json", found)
    say(f"Numbers: {folder / 'longppl.json'}, {folder / 'summary.json'}")
