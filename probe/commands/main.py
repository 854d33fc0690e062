"""The `probe` command: finds the subcommands, and turns every mistake into one line."""

import importlib
import os
import signal
import sys
from functools import cache
from io import StringIO, TextIOWrapper
from typing import Any

import click

from probe import __version__
from probe.commands._visible import alert, fail
from probe.commands.options import command_lines, verbosity
from probe.errors import ProbeError
from probe.text import shown, suggestion

COMMANDS = (
    "init",
    "run",
    "plan",
    "merge",
    "report",
    "plot",
    "compare",
    "keys",
    "weigh",
    "train",
    "card",
    "push",
    "show",
    "list",
    "check",
)
KEPT = "Stopped. What was measured is kept: the same command resumes the run."
"""What an interrupted `probe run` says."""
TRAINED = (
    "Stopped. Models that are trained and what was measured of them are kept, and of the model at "
    "hand its last checkpoint, which is written every 5 minutes: the same command goes on."
)
"""What an interrupted `probe train` says; no other command keeps anything."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler sends it before it kills: it ends a command as Ctrl-C does."""


class Group(click.Group):
    """Commands are loaded when they are asked for; their mistakes are told in one place."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import ``probe.commands.<name>``."""
        return _command(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the command line begins with."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            allowed = f"allowed: {', '.join(COMMANDS)}"
            ctx.fail(f"no such command {shown(name)}{suggestion(name, COMMANDS, allowed)}")
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the command line; what is wrong with it is told as everything else is."""
        try:
            return super().make_context(*args, **extra)
        except click.ClickException as error:
            raise _told(error) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; no traceback reaches a user unless PROBE_DEBUG is set."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, BrokenPipeError):
            raise
        except (KeyboardInterrupt, click.Abort) as error:
            told = {"run": KEPT, "train": TRAINED}
            alert(told.get(str(ctx.invoked_subcommand), "Interrupted."))
            ctx.exit(128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT))
        except click.ClickException as error:
            raise _told(error) from error
        except (Exception, SystemExit) as error:
            if os.environ.get("PROBE_DEBUG"):
                raise
            fail(message_of(error))
            ctx.exit(error.exit_code if isinstance(error, ProbeError) else 1)


@cache
def _command(name: str) -> click.Command:
    """A command with the options that all have, as its module is imported."""
    command: click.Command = importlib.import_module(f"probe.commands.{name}").command
    command.params += verbosity()
    return command


def _told(error: click.ClickException) -> click.exceptions.Exit:
    """Print what click says of a mistake, and give what ends the program with its status."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        flags = [flag for one in error.ctx.command.get_params(error.ctx) for flag in one.opts]
        name = error.option_name
        words = f"no such option {shown(name)}{suggestion(name, flags)}"
        error = click.NoSuchOption(name, words, ctx=error.ctx)
    text = StringIO()
    error.show(file=text)
    alert(text.getvalue().rstrip("\n"))
    return click.exceptions.Exit(error.exit_code)


def message_of(error: BaseException) -> str:
    """What went wrong, in a line or in a list of mistakes."""
    if isinstance(error, ProbeError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or error}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    line = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {line} (PROBE_DEBUG=1 shows where)"


def _terminate(*_: object) -> None:
    raise Terminated


@click.group(
    cls=Group,
    params=verbosity(),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=command_lines(
        "probe run configs/quick.yaml  # a first answer, in a minute or two",
        "probe report results/quick  # all that the run says, and its page",
        "probe run --help",
    ),
)
@click.version_option(__version__, prog_name="probe")
def group() -> None:
    """Measure how far back a language model really reads."""


def main() -> None:
    """Run the command line."""
    # Two threads that spin while they wait slow each other down; torch reads this when it loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # unset, it warns where we start others
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars of libraries; ours say what they want
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what others print must not crash either
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # else whoever started us ignores it
        signal.signal(signal.SIGTERM, _terminate)
    sys.exit(group())
