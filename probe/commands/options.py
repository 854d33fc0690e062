"""Options that several commands share, and names of files that they write."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.errors import UsageError
from probe.text import MOST, one_line

if TYPE_CHECKING:
    from probe.config import Config
    from probe.runs.matrix import Matrix

TWINS = {
    "model": "model.path",
    "data": "data.path",
    "device": "model.device",
    "dtype": "model.dtype",
}
_OTHER_DATA = (
    ("data.name", "null"),
    ("data.revision", "null"),
    ("data.split", "train"),
    ("data.options", "{}"),
    ("data.data_files", "null"),
)
"""What belongs to the data of the file, and not to those that ``--data`` names."""
FIGURES = ("png", "svg", "pdf")
"""Formats of a figure, told by the ending of its file."""


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a configuration file, the twins of its common keys, and ``--set``."""
    for name, key in reversed(TWINS.items()):
        more = ": a folder, file, glob or hub name" if name == "data" else ""
        command = click.option(f"--{name}", help=f"Instead of {key} in the file{more}.")(command)
    command = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Instead of any key: --set windows.length=8192.",
    )(command)
    return click.argument("config", type=click.Path(path_type=Path))(command)


def user_files(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command an option whose files of the user's own are run before it.

    Args:
        what: What the files register, and what the option is called: ``perturbations``.
    """

    def load(_context: click.Context, _option: click.Parameter, files: tuple[str, ...]) -> None:
        from probe.registry import run_file

        for file in files:
            run_file(file, f"--{what}")

    return click.option(
        f"--{what}",
        multiple=True,
        metavar="FILE",
        expose_value=False,
        callback=load,
        is_eager=True,
        help=f"A Python file that registers {what} of your own.",
    )


def read(config: Path, settings: tuple[str, ...], **twins: str | None) -> "Config | Matrix":
    """Read the configuration that the options ask for, or the matrix of several.

    Other data have other files, splits and options than those of the file: ``--data`` leaves its
    columns and ``max_documents`` alone.

    Raises:
        UsageError: Every mistake in it, a line each.
    """
    from probe.config import changed, check, read_file
    from probe.runs.matrix import expand

    content, changes = read_file(config), _changes(settings, twins)
    if "matrix" in content:
        return expand(content, changes, where=str(config))
    return check(changed(content, changes), where=str(config))


def _changes(settings: tuple[str, ...], twins: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """The keys that the options replace, and their values as YAML."""
    import yaml

    from probe.corpus.dataset import FILE_FORMATS

    given = {name: value for name, value in twins.items() if value is not None}
    changes = [(TWINS[name], yaml.safe_dump(value)) for name, value in given.items()]
    if "data" in given and given["data"] not in FILE_FORMATS:  # those read the same files
        changes += _OTHER_DATA
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            said = one_line(setting, MOST)
            raise UsageError(f"--set {said}: allowed: KEY=VALUE, such as windows.length=8192")
        changes.append((key, value))
    return changes


def quiet() -> None:
    """Keep the libraries' bars and notes off the terminal; mistakes still come through."""
    import datasets
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()


class Target(click.ParamType[Path]):
    """The value of an option that names a file to write.

    Args:
        formats: The endings that are allowed, without their point; without any, all are.
        folders: Whether a folder may be named instead.
    """

    name = "path"

    def __init__(self, *formats: str, folders: bool = False) -> None:
        self.formats = formats
        self.folders = folders

    def convert(
        self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """See that the name can be a file's.

        Raises:
            UsageError: If it is empty, a folder's, or has another ending.
        """
        option = param.opts[0] if param else "the file"
        path, allowed = Path(value), "a file"
        if self.folders:
            allowed = "a folder or a file"
        if not str(value):
            raise UsageError(f"{option} '' is no name; allowed: {allowed}")
        if not self.folders and (path.is_dir() or str(value).endswith("/")):
            raise UsageError(f"{option} '{value}' is a folder; allowed: {allowed}")
        if self.formats and path.suffix.removeprefix(".").lower() not in self.formats:
            *most, last = (f".{name}" for name in self.formats)
            raise UsageError(
                f"{option} '{value}': allowed: a file that ends in {', '.join(most)} or {last}"
            )
        return path


def parted(path: Path) -> tuple[Path, tuple[str, ...]]:
    """A figure's path without its ending, and the one format that it asks for."""
    return path.with_suffix(""), (path.suffix.removeprefix(".").lower(),)
