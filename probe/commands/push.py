"""`probe push`: a run folder as a data set on the hub, private and without text by default."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from probe.commands._visible import note, say
from probe.commands.options import FOLDERS, command_lines

if TYPE_CHECKING:
    from probe.cards.repository import Contents


@click.command(
    "push",
    short_help="Upload a run as a data set of the hub.",
    epilog=command_lines(
        "probe push results/a hf://datasets/me/a --dry-run  # what would go",
        "probe push results/a hf://datasets/me/a --public --licence cc-by-4.0",
    ),
)
@click.argument("run", type=FOLDERS)
@click.argument("address", metavar="hf://datasets/USER/NAME")
@click.option("--dry-run", is_flag=True, help="Tell what would go, and send nothing.")
@click.option("--public", is_flag=True, help="Everybody may read it; by default it is private.")
@click.option(
    "--with-text",
    is_flag=True,
    help="The text of the documents, token ids, labels of tokens and the page go as well.",
)
@click.option(
    "--licence",
    "--license",
    metavar="ID",
    help="Licence of the data set, by the hub's identifier: cc-by-4.0; by default none is named.",
)
def command(
    run: Path, address: str, dry_run: bool, public: bool, with_text: bool, licence: str | None
) -> None:
    """Upload RUN to the hub as a data set that load_dataset reads, with its card as README.

    Rows, numbers, figures and settings go; paths of this machine are taken out. Names of documents
    go with the rows. The token is HF_TOKEN, or that of `hf auth login`.
    """
    from huggingface_hub import HfApi, get_token

    from probe.analysis.open_run import open_run
    from probe.cards.repository import contents, repository_of, upload
    from probe.errors import ProbeError

    repository = repository_of(address)
    if not dry_run and get_token() is None:
        raise ProbeError("no token of the hub; allowed: HF_TOKEN, or `hf auth login`")
    with open_run(run, write=False) as opened:
        whole = contents(opened, repository, with_text=with_text, licence=licence)
        _tell(whole, opened.model, opened.data)
        for line in opened.warnings:
            note(line)
    kind = "public" if public else "private"
    if dry_run:
        say(f"\nDry run: nothing was sent to {repository} ({kind}).")
        return
    say(f"\nUploading to {repository}", err=True)
    say(f"\nData set ({kind}): {upload(whole, repository, public=public, api=HfApi())}")


def _tell(whole: "Contents", model: str, data: str) -> None:
    """Print what goes, what does not and why, and the names that go along."""
    from probe.text import aligned, counted, shown

    total = sum(item.size for item in whole.items)
    say(f"{counted(len(whole.items), 'file')}, {_size(total)}:")
    sent = _summed((item.path, item.size, item.what) for item in whole.items)
    say(aligned([[name, _size(size), what] for name, size, what in sent]))
    if whole.left_out:
        say("\nLeft out:")
        left = _summed((name, 0, reason) for name, reason in whole.left_out)
        say(aligned([[name, reason] for name, _, reason in left]))
    some = ", ".join(map(shown, whole.names[:3])) + (", …" if len(whole.names) > 3 else "")
    say(f"\nThe card names the model {shown(model)} and the data {shown(data)}.")
    say(f"Names of {counted(len(whole.names), 'document')} stand in the rows: {some}")


def _summed(files: Iterable[tuple[str, int, str]]) -> Iterator[tuple[str, int, str]]:
    """Files with their size and what is said of them; a folder's that are all the same as one."""
    for (folder, what), group in groupby(files, lambda file: (file[0].rpartition("/")[0], file[2])):
        alike = list(group)
        if folder and len(alike) > 2:
            yield f"{folder}/ ({len(alike):,} files)", sum(size for _, size, _ in alike), what
        else:
            yield from alike


def _size(size: float) -> str:
    """Bytes as people read them: ``812 B``, ``1.5 MB``."""
    if size < 1000:
        return f"{size:.0f} B"
    units = ("kB", "MB", "GB")
    power = next((at for at in (1, 2) if size < 1000 ** (at + 1)), 3)
    return f"{size / 1000**power:,.1f} {units[power - 1]}"
