"""Figures for papers: a frame or a summary in, matplotlib axes out; nothing global is changed."""

from probe.plots.bands import bands
from probe.plots.beside import beside
from probe.plots.classes import classes
from probe.plots.compare import compare
from probe.plots.curve import curve
from probe.plots.heads import heads
from probe.plots.heatmap import heatmap
from probe.plots.importance import importance
from probe.plots.information import contrasts, information, ratios
from probe.plots.passages import passages
from probe.plots.save import save
from probe.plots.suffix import accuracy
from probe.plots.tolerance import tolerance
from probe.plots.tradeoff import tradeoff

__all__ = [
    "accuracy",
    "bands",
    "beside",
    "classes",
    "compare",
    "contrasts",
    "curve",
    "heads",
    "heatmap",
    "importance",
    "information",
    "passages",
    "ratios",
    "save",
    "tolerance",
    "tradeoff",
]
