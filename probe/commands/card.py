"""`probe card`: a run as it is cited, and in the words of other tools."""

from pathlib import Path

import click

from probe.commands._visible import say
from probe.commands.options import FOLDERS, Choice, Target, command_lines

FORMATS = ("md", "json", "eval-results", "every-eval-ever")


@click.command(
    "card",
    short_help="A citable card of a run.",
    epilog=command_lines(
        "probe card results/a",
        "probe card results/a --format json --into card.json",
    ),
)
@click.argument("run", type=FOLDERS)
@click.option(
    "--format",
    "form",
    type=Choice(FORMATS),
    default="md",
    show_default=True,
    help="Markdown or JSON; an entry of a hub model's .eval_results; a record of every-eval-ever.",
)
@click.option("--into", type=Target(), help="File to write; by default the card is printed.")
@click.option(
    "--dataset-id",
    metavar="ID",
    help="For eval-results: the data set on the hub; default: the one that the run read.",
)
@click.option("--task-id", metavar="ID", help="For eval-results: the task of that data set.")
def command(
    run: Path, form: str, into: Path | None, dataset_id: str | None, task_id: str | None
) -> None:
    """Write what is needed to cite RUN and to check it.

    The answer with its intervals, model, data, protocol, versions and self-check, a hash of the
    scored rows, and BibTeX of this tool and of the papers behind protocol and conditions.
    """
    import yaml

    from probe.analysis.open_run import open_run
    from probe.cards import evaluations
    from probe.cards.card import make_card
    from probe.cards.markdown import markdown
    from probe.errors import UsageError
    from probe.findings.base import findings
    from probe.results.files import write_bytes
    from probe.text import json_text

    if form != "eval-results" and (dataset_id or task_id):
        raise UsageError("--dataset-id and --task-id need --format eval-results")
    with open_run(run, write=False) as opened:
        card = make_card(opened, findings(opened, brief=True))
        if form == "md":
            text = markdown(card)
        elif form == "json":
            text = json_text(card.record(), ascii_only=into is None)
        elif form == "eval-results":
            entries = evaluations.eval_results(opened, card, dataset_id=dataset_id, task_id=task_id)
            text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
        else:
            record = evaluations.every_eval_ever(opened, card)
            text = json_text(record, ascii_only=into is None)
    if into is None:
        say(text.rstrip("\n"))
    else:
        write_bytes(into, text.encode("utf-8", "backslashreplace"))
        say(f"Card: {into}")
