"""`probe keys`: the tokens that a long context helps, LongPPL over them, LSD by distance."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.commands._visible import print_json, say
from probe.commands.options import FOLDERS, Target, command_lines, with_json
from probe.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from probe.analysis.open_run import OpenRun
    from probe.findings.key_tokens import KeyRule
    from probe.findings.longppl import LongPPL


@click.command(
    "keys",
    short_help="Key tokens and LongPPL of a run.",
    epilog=command_lines(
        "probe keys results/long",
        "probe keys results/large --score results/small  # the keys of one, the losses of another",
        "probe keys results/long --lsd 1 --export keys.json",
    ),
)
@click.argument("run", type=FOLDERS)
@click.option(
    "--score",
    "scored",
    type=FOLDERS,
    help="Give RUN's key tokens the losses of this run, of another model.",
)
@click.option(
    "--export",
    type=Target(),
    help="Write the key tokens as character spans, with all numbers, into a JSON file.",
)
@click.option("--lsd", default=2.0, show_default=True, help="Key tokens have an LSD above this.")
@click.option("--lcl", default=-2.0, show_default=True, help="Key tokens have an LCL above this.")
@with_json("keys")
def command(
    run: Path, scored: Path | None, export: Path | None, lsd: float, lcl: float, as_json: bool
) -> None:
    """Tell LongPPL of RUN, a run with protocol longppl, and how LSD depends on distance.

    Of a run with another protocol and truncated rows, LSD by distance alone is told.
    """
    from probe.analysis.open_run import open_run
    from probe.findings import longppl
    from probe.findings.base import refuse_without_losses
    from probe.findings.key_tokens import KeyRule, key_spans, lsd_table
    from probe.render.terminal import table_text, text
    from probe.results.files import write_bytes
    from probe.text import counted

    rule = KeyRule(lsd, lcl)
    with ExitStack() as stack:
        opened = stack.enter_context(open_run(run, write=False))
        refuse_without_losses([opened])
        if not opened.is_answered_by("longppl"):
            if scored is not None or export is not None:
                raise UsageError(
                    f"run '{run}': --score and --export need a run with protocol longppl"
                )
            table = lsd_table(opened, rule)
            if as_json:
                print_json(_values(opened, rule, table))
            lines = table_text(longppl.lsd_lines(table, rule)) if len(table) else ""
            say(f"{lines or longppl.NOTHING_CUT}\n")
            say(f"LongPPL needs a run with protocol longppl; '{run}' has another.", err=True)
            return
        other = None if scored is None else stack.enter_context(open_run(scored, write=False))
        result = longppl.longppl(opened, scored=other, rule=rule)
        say(text(longppl.alone(result)))
        if export is not None:
            spans = key_spans(opened, rule)
            content = longppl.as_json(result, spans).encode("utf-8", "backslashreplace")
            write_bytes(export, content)
            say(f"\nKey tokens: {export} ({counted(len(spans), 'span')})")
        if as_json:
            print_json(_values(opened, rule, result.by_distance, result))


def _values(
    run: "OpenRun",
    rule: "KeyRule",
    by_distance: "pd.DataFrame",
    result: "LongPPL | None" = None,
) -> dict[str, Any]:
    """The same as plain values, as ``docs/schemas/keys.json`` has them."""
    from probe.findings.longppl import to_record
    from probe.findings.table import records

    values: dict[str, Any] = {
        "schema": 1,
        "run": str(run.path),
        "protocol": run.folder.kind,
        "lsd_above": rule.lsd,
        "lcl_above": rule.lcl,
        "lsd_by_distance": records(by_distance),
        "longppl": None,
        "warnings": list(run.warnings if result is None else result.warnings),
    }
    if result is not None:
        numbers = to_record(result)
        who = {
            name: {"run": str(one.path), "model": one.model, "data": one.data}
            for name, one in {"evaluator": result.evaluator, "scored": result.scored}.items()
        }
        there = [name for name in numbers if name not in (*who, *values) or name == "longppl"]
        values["longppl"] = {**who, **{name: numbers[name] for name in there}}
    return values
