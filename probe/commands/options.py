"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.errors import UsageError
from probe.printable import MOST, one_line

if TYPE_CHECKING:
    from probe.config import Config

TWINS = {
    "model": "model.path",
    "data": "data.path",
    "device": "model.device",
    "dtype": "model.dtype",
}


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a configuration file, the twins of its common keys, and ``--set``."""
    for name, key in reversed(TWINS.items()):
        command = click.option(f"--{name}", help=f"Instead of {key} in the file.")(command)
    command = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Instead of any key: --set windows.length=8192.",
    )(command)
    return click.argument("config", type=click.Path(path_type=Path))(command)


def own_perturbations(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--perturbations FILE``, whose files are run before it."""

    def load(_context: click.Context, _option: click.Parameter, files: tuple[str, ...]) -> None:
        from probe.perturbations.user import load_file

        for file in files:
            load_file(file, "--perturbations")

    return click.option(
        "--perturbations",
        multiple=True,
        metavar="FILE",
        expose_value=False,
        callback=load,
        is_eager=True,
        help="A Python file that registers perturbations of your own.",
    )(command)


def read(config: Path, settings: tuple[str, ...], **twins: str | None) -> "Config":
    """Read the configuration that the options ask for.

    Raises:
        UsageError: Every mistake in it, a line each.
    """
    from probe.config import load

    changes = [(TWINS[name], str(value)) for name, value in twins.items() if value is not None]
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            said = one_line(setting, MOST)
            raise UsageError(f"--set {said}: allowed: KEY=VALUE, such as windows.length=8192")
        changes.append((key, value))
    return load(config, changes)


def quiet() -> None:
    """Keep the libraries' bars and notes off the terminal; mistakes still come through."""
    import datasets
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
