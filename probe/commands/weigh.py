"""`probe weigh`: from a run to weights of tokens, scores of documents, and training data."""

from pathlib import Path

import click

from probe.commands._visible import say
from probe.commands.options import FOLDERS, command_lines, user_files


@click.command(
    "weigh",
    short_help="Weights of tokens and scores of documents, for training.",
    epilog=command_lines(
        "probe weigh results/long",
        'probe weigh results/long --rule "sparse(kappa=0.2)" --score key_share',
        "probe weigh results/long --to data/weighed --select 0.5",
    ),
)
@click.argument("run", type=FOLDERS)
@click.option(
    "--rule", default="longce", show_default=True, help="What weighs tokens; `probe list` has all."
)
@click.option("--score", default="mean_delta", show_default=True, help="What scores documents.")
@click.option(
    "--condition",
    default="truncate",
    show_default=True,
    help="The condition whose losses are those of a short context.",
)
@click.option(
    "--distance",
    type=click.IntRange(min=1),
    help="Fewest tokens of a short context; by default that of the protocol, where it has one.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write training data into this folder: input_ids, loss_weights, score; Parquet, a card.",
)
@click.option(
    "--select",
    type=click.FloatRange(0, 1, min_open=True),
    help="With --to: keep the documents of the highest scores that hold this share of the tokens, "
    "in every octave of length.",
)
@user_files("rules")
def command(
    run: Path,
    rule: str,
    score: str,
    condition: str,
    distance: int | None,
    to: Path | None,
    select: float | None,
) -> None:
    """Weigh the tokens of RUN by delta, and score its documents.

    Delta is the loss of a token in a short context less that in the long one. Writes
    weights.parquet and documents.parquet into the run folder.
    """
    from probe.analysis.open_run import open_run
    from probe.errors import UsageError
    from probe.findings.base import refuse_without_losses
    from probe.training.rules import parse
    from probe.training.training_data import refuse_folder, write_dataset
    from probe.training.weigh import short_context, weigh

    if select is not None and to is None:
        raise UsageError("--select chooses documents of training data; allowed with --to FOLDER")
    if to is not None:
        refuse_folder(to)
    weights, of_documents = parse(rule, "token"), parse(score, "document")
    with open_run(run, write=False) as opened:
        refuse_without_losses([opened])
        short = short_context(opened, condition, distance)
        summary = weigh(opened, weights, of_documents, short=short)
        for line in summary.lines:
            say(line)
        say(f"{run}/weights.parquet, {run}/documents.parquet")
        if to is not None:
            kept = write_dataset(opened, summary, to, share=select)
            say(f"{kept.line}: {to}")
