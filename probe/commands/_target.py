"""Files that an option names to be written: what cannot be one is refused before any work."""

from pathlib import Path

import click

from probe.errors import UsageError

FIGURES = ("png", "svg", "pdf")
"""Formats of a figure, told by the ending of its file."""


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
