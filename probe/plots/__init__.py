"""Figures for papers: a frame or a summary in, matplotlib axes out; nothing global is changed."""

from probe.plots.bands import bands
from probe.plots.classes import classes
from probe.plots.compare import compare
from probe.plots.curve import curve
from probe.plots.heatmap import heatmap
from probe.plots.information import contrasts, information, ratios
from probe.plots.save import save
from probe.plots.tolerance import tolerance

__all__ = [
    "bands",
    "classes",
    "compare",
    "contrasts",
    "curve",
    "heatmap",
    "information",
    "ratios",
    "save",
    "tolerance",
]
