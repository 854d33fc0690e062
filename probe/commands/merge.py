"""`probe merge`: run folders of one run, scored in several places, joined into one."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from probe.commands._visible import note, say
from probe.commands.options import TYPED_FOLDER, command_lines, local
from probe.errors import UsageError


@click.command(
    "merge",
    short_help="Join folders of one run, scored in several places.",
    epilog=command_lines(
        "probe merge node0/my-run node1/my-run --into results/my-run",
        "probe merge 's3://bucket/runs/my-run/*' --into results/my-run",
    ),
)
@click.argument("folders", nargs=-1, required=True)
@click.option(
    "--into",
    required=True,
    type=TYPED_FOLDER,
    metavar="FOLDER",
    help="The folder to join them in; it may hold a part of the run already.",
)
def command(folders: tuple[str, ...], into: str) -> None:
    """Join run FOLDERS of one run, such as shards on disks of their own, into one folder.

    They stay as they are, and may be addresses such as s3://bucket/runs/my-run. Folders of another
    run are refused; what two of them have scored must agree within what the dtype of the weights
    rounds.
    """
    from probe.results.mirror import Mirror, is_address
    from probe.runs.merge import merge

    if re.match(r"(?!file:)[A-Za-z0-9+.-]{2,}:/", into):
        raise UsageError(f"--into {into}: allowed: a folder of this machine")
    target = Path(into.removeprefix("file://"))
    with TemporaryDirectory() as scratch:
        paths, names = list[Path](), list[str]()
        for name in folders:
            if not is_address(name):
                paths.append(local(name))
                names.append(str(paths[-1].resolve()))
                continue
            for mirror in Mirror(name).folders():
                paths.append(Path(scratch) / mirror.address.replace("://", "/"))
                names.append(mirror.address)
                mirror.fetch(paths[-1])
        merge(paths, target, note, names=names)
    say(f"Answer and page: probe report {target}")
