"""The `probe` command: finds the subcommands, and turns every mistake into one line."""

import importlib
import os
import sys
from typing import Any

import click

from probe import __version__
from probe.errors import ProbeError

COMMANDS = ("run", "plan", "report", "plot", "compare", "keys", "show", "list", "check")


class Group(click.Group):
    """Commands are loaded when they are asked for; their mistakes are told in one place."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import ``probe.commands.<name>``."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"probe.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; no traceback reaches a user unless PROBE_DEBUG is set."""
        try:
            return super().invoke(ctx)
        except ProbeError as error:
            if os.environ.get("PROBE_DEBUG"):
                raise
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            click.echo("Stopped. What was measured is kept: the same command goes on.", err=True)
            ctx.exit(130)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except OSError as error:
            if os.environ.get("PROBE_DEBUG"):
                raise
            click.echo(f"Error: {error.filename or ''}: {error.strerror or error}", err=True)
            ctx.exit(1)
        except Exception as error:
            if os.environ.get("PROBE_DEBUG"):
                raise
            line = " ".join(str(error).split())
            click.echo(
                f"Error: unexpected {type(error).__name__}: {line} (PROBE_DEBUG=1 shows where)",
                err=True,
            )
            ctx.exit(1)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="probe")
def group() -> None:
    """Measure how far back a language model really reads."""


def main() -> None:
    """Run the command line."""
    # Two threads that spin while they wait slow each other down; torch reads this when it loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    sys.exit(group())
