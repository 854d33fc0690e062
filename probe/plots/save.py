"""Figures as files."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.plots.style import sheet
from probe.results.files import write_bytes

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": 300, "metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}
"""The formats, with what makes their bytes depend on nothing but the figure."""


def save(
    figure: Axes | Figure, path: str | Path, formats: Sequence[str] = ("png", "svg")
) -> tuple[Path, ...]:
    """Write a figure; equal figures give equal bytes.

    Args:
        figure: The figure, or axes in it.
        path: Path without suffix; the folder is made if need be. Each file is whole or not there.
        formats: Any of ``png`` (300 dots an inch), ``svg`` and ``pdf`` (text as letters of an
            embedded font).

    Returns:
        The files, one a format, in their order.

    Raises:
        ValueError: If a format is none of these, or the axes belong to no figure.
        OSError: If a file cannot be written.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ValueError(f"format {unknown[0]!r} is unknown; allowed: {', '.join(FORMATS)}")
    whole = figure.get_figure(root=True) if isinstance(figure, Axes) else figure
    if whole is None:
        raise ValueError("these axes belong to no figure")
    base = Path(path)
    files = tuple(base.with_name(f"{base.name}.{name}") for name in formats)
    with sheet():
        for name, file in zip(formats, files, strict=True):
            drawn = BytesIO()
            whole.savefig(drawn, format=name, **FORMATS[name])
            write_bytes(file, drawn.getvalue())
    return files
