"""Protocols: which boundaries and which targets of a window are measured.

All indices here count the window's own tokens from 0; the kept first token is the business of
``probe.branches``.
"""

from probe.protocol.bands import Band, band
from probe.protocol.grids import Grid, grid
from probe.protocol.passages import Passages
from probe.protocol.runs import Run
from probe.protocol.sliding import LongPPL, longppl
from probe.protocol.starts import Dense, dense
from probe.protocol.suffixes import Suffix, suffix
from probe.protocol.sweeps import DEFAULT_RUNS, Sweep, sweep

Plan = Sweep | Grid | Band | LongPPL | Suffix | Dense | Passages

__all__ = [
    "DEFAULT_RUNS",
    "Band",
    "Dense",
    "Grid",
    "LongPPL",
    "Passages",
    "Plan",
    "Run",
    "Suffix",
    "Sweep",
    "band",
    "dense",
    "grid",
    "longppl",
    "suffix",
    "sweep",
]
