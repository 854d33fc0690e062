"""Options that several commands share, and names of files that they write."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from probe.commands._visible import JSON, LEVEL, QUIET, alert
from probe.errors import UsageError
from probe.text import MOST, counted, one_line, suggestion

if TYPE_CHECKING:
    from probe.analysis.open_run import OpenRun
    from probe.config import Config
    from probe.runs.matrix import Matrix

TWINS = {
    "model": "model.path",
    "data": "data.path",
    "device": "model.device",
    "dtype": "model.dtype",
}
_OTHER_MODEL = (("model.label", "null"), ("model.revision", "null"))
"""What belongs to the model of the file, and not to the one that ``--model`` names."""
_OTHER_DATA = (
    ("data.label", "null"),
    ("data.name", "null"),
    ("data.revision", "null"),
    ("data.split", "train"),
    ("data.options", "{}"),
    ("data.data_files", "null"),
)
"""What belongs to the data of the file, and not to those that ``--data`` names."""
LEVELS = ("debug", "info", "warning", "error")
_HANDLER = "probe.handler"
FIGURES = ("png", "svg", "pdf")
"""Formats of a figure, told by the ending of its file."""


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--set``, its parameter ``settings``."""
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Instead of any key: --set windows.length=8192.",
    )(command)


def in_results(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command ``--results``, the folder that holds what it writes.

    Args:
        what: What lies in it, such as ``the run folders``.
    """
    return click.option(
        "--results",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("results"),
        show_default=True,
        help=f"Folder that holds {what}.",
    )


def local(folder: str) -> Path:
    """A folder of this machine, which ``file://`` may stand before.

    Raises:
        UsageError: If it is a file.
    """
    path = Path(folder.removeprefix("file://"))
    if path.is_file():
        raise UsageError(f"'{path}' is a file; allowed: a folder, or an address")
    return path


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a configuration file, the twins of its common keys, and ``--set``."""
    for name, key in reversed(TWINS.items()):
        more = ": a folder, file, glob or hub name" if name == "data" else ""
        command = click.option(f"--{name}", help=f"Instead of {key} in the file{more}.")(command)
    command = with_settings(command)
    return click.argument("config", type=click.Path(path_type=Path))(command)


def with_json(schema: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command ``--json``, its parameter ``as_json``: the command then prints a value.

    It does so by :func:`probe.commands._visible.print_json`; what it says otherwise is not printed.

    Args:
        schema: What describes the value, a file of ``docs/schemas`` without its ending.
    """

    def keep(context: click.Context, _option: click.Parameter, value: bool) -> bool:
        context.meta[JSON] = value
        return value

    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        callback=keep,
        help=f"Print JSON instead, as docs/schemas/{schema}.json describes it.",
    )


def command_lines(*lines: str) -> str:
    """Command lines that stand at the end of a command's help, as click's ``epilog``.

    Args:
        lines: Whole lines, ``probe run my.yaml``; behind two blanks and ``#`` may stand why.
    """
    return "\n".join(["Examples:", "\n\b", *(f"  {line}" for line in lines)])


def names_of(registry: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What completes a word with registered names, as click's ``shell_complete``.

    Args:
        registry: The module that has ``names``; it is imported when a word is completed.
    """

    def complete(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[str]:
        names: Iterable[str] = import_module(registry).names()
        return [name for name in names if name.startswith(incomplete)]

    return complete


def user_files(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command an option whose files of the user's own are run before it.

    Args:
        what: What the files register, and what the option is called: ``perturbations``.
    """

    def load(context: click.Context, _option: click.Parameter, files: tuple[str, ...]) -> None:
        from probe.registry import run_file

        for file in () if context.resilient_parsing else files:  # no code is run to complete a word
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


def labelled(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that reads runs other names for their models and data: see :func:`show_as`."""
    for what in ("data", "model"):
        command = click.option(
            f"--{what}-label",
            f"{what}_labels",
            multiple=True,
            metavar="NAME",
            help=f"Call the {what} so here, once for all runs or for each in turn; "
            f"{what}.label in a configuration is for good.",
        )(command)
    return command


def show_as(
    runs: Sequence["OpenRun"], model_labels: Sequence[str], data_labels: Sequence[str]
) -> None:
    """Call the models and data of open runs by other names, in this process alone.

    Args:
        runs: The runs.
        model_labels: None, one for all of them, or one for each.
        data_labels: Likewise.

    Raises:
        UsageError: If there are more or fewer, or one is blank.
    """
    for what, labels in (("model", model_labels), ("data", data_labels)):
        if len(labels) not in (0, 1, len(runs)):
            raise UsageError(
                f"--{what}-label is given {len(labels)} times for {counted(len(runs), 'run')}; "
                "allowed: once for all runs, or once for each"
            )
        if not all(label.strip() for label in labels):
            raise UsageError(f"--{what}-label is blank; allowed: text to show")
        for number, run in enumerate(runs if labels else ()):
            setattr(run, what, labels[number % len(labels)])


def read(config: Path, settings: tuple[str, ...], **twins: str | None) -> "Config | Matrix":
    """Read the configuration that the options ask for, or the matrix of several.

    Other data have other files, splits and options than those of the file: ``--data`` leaves its
    columns and ``max_documents`` alone.

    Raises:
        UsageError: Every mistake in it, a line each.
    """
    from probe.config import check
    from probe.runs.matrix import expand
    from probe.yaml_file import changed, read_file

    content, changes = read_file(config), _changes(settings, twins)
    if "arms" in content:
        raise UsageError(f"{config} holds arms of a study; allowed with: probe train, probe plan")
    if "matrix" in content:
        return expand(content, changes, where=str(config), folder=config.parent)
    return check(changed(content, changes), where=str(config), folder=config.parent)


def _changes(settings: tuple[str, ...], twins: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """The keys that the options replace, and their values as YAML."""
    import yaml

    from probe.corpus.dataset import FILE_FORMATS

    given = {name: value for name, value in twins.items() if value is not None}
    changes = [(TWINS[name], yaml.safe_dump(value)) for name, value in given.items()]
    if "model" in given:
        changes += _OTHER_MODEL
    if "data" in given and given["data"] not in FILE_FORMATS:  # those read the same files
        changes += _OTHER_DATA
    return changes + setting_changes(settings)


def setting_changes(settings: Iterable[str]) -> list[tuple[str, str]]:
    """The keys and values of ``--set``.

    Raises:
        UsageError: If one is no key with a value.
    """
    changes = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            said = one_line(setting, MOST)
            raise UsageError(f"--set {said}: allowed: KEY=VALUE, such as windows.length=8192")
        changes.append((key, value))
    return changes


def verbosity() -> list[click.Parameter]:
    """``--quiet`` and ``--log-level``: they hold for the whole call, and hand a command nothing."""
    quiet = click.Option(
        ["--quiet", "-q"],
        is_flag=True,
        expose_value=False,
        callback=_quiet,
        help="Print nothing but errors and what is asked for: no notes, no progress.",
    )
    level = click.Option(
        ["--log-level"],
        type=Choice(LEVELS, case_sensitive=False),
        expose_value=False,
        callback=_level,
        metavar="LEVEL",
        help="Print what is logged from this level on: debug, info, warning, error; error hides"
        " the notes.",
    )
    return [quiet, level]


def quiet() -> None:
    """Keep the libraries' bars and notes off the terminal, but for what ``--log-level`` asks for.

    Mistakes still come through. The libraries are imported for it.
    """
    import datasets
    from transformers.utils import logging as transformers

    context = click.get_current_context(silent=True)
    level = None if context is None else context.meta.get(LEVEL)
    transformers.set_verbosity(level or logging.ERROR)
    transformers.disable_progress_bar()
    datasets.disable_progress_bars()
    if context is None or level is None:
        return
    datasets.logging.set_verbosity(level)
    datasets.logging.enable_propagation()
    # What transformers prints itself would stand beside our handler's line.
    transformers.disable_default_handler()
    transformers.enable_propagation()
    root = context.find_root()
    root.call_on_close(datasets.logging.disable_propagation)
    root.call_on_close(transformers.disable_propagation)
    root.call_on_close(transformers.enable_default_handler)


class _Lines(logging.Handler):
    """Prints a record as one line of standard error; of names in it a terminal obeys nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a library's mistake costs no run
            text = str(record.msg)
        message = " ".join(text.split())
        alert(f"{record.levelname.lower()}: {record.name}: {message}")


def _quiet(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        context.meta[QUIET] = True
        _log(context, context.meta.get(LEVEL, logging.ERROR))


def _level(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None and not context.resilient_parsing:
        context.meta[LEVEL] = getattr(logging, value.upper())
        _log(context, context.meta[LEVEL])


def _log(context: click.Context, level: int) -> None:
    """Print all records from a level on, until the call is over; the level asked for last holds."""
    root, meta = logging.getLogger(), context.meta
    meta[LEVEL] = level
    if _HANDLER not in meta:
        handler, before = _Lines(), root.level

        def undo() -> None:
            logging.captureWarnings(False)
            root.removeHandler(handler)
            root.setLevel(before)

        meta[_HANDLER] = handler
        root.addHandler(handler)
        logging.captureWarnings(True)
        context.find_root().call_on_close(undo)
    # Both: what other loggers hand on is not asked for the root's level.
    meta[_HANDLER].setLevel(level)
    root.setLevel(level)


class Choice(click.Choice[str]):
    """A choice that says which of its values was probably meant."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """What is wrong, what is allowed, and what comes near."""
        message = super().get_invalid_choice_message(value, ctx).rstrip(".")
        return f"{message}{suggestion(value, self.choices)}"


class _Folder(click.Path):
    """A path that the shell completes with folders; what is wrong with it is told by its reader."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Leave it to the shell, which knows the folders."""
        return [CompletionItem(incomplete, type="dir")]


FOLDERS = _Folder(path_type=Path)
"""Type of an argument that names a run folder."""
TYPED_FOLDER = _Folder()
"""The same, as it was typed: a path makes ``s3:/x`` of ``s3://x``."""


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
