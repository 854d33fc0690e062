"""Protocols: which boundaries and which targets of a window are measured.

All indices here count the window's own tokens from 0; the kept first token is the business of
``probe.branches``.
"""

from probe.protocol.grids import Grid, grid
from probe.protocol.runs import Run
from probe.protocol.sliding import LongPPL, longppl
from probe.protocol.sweeps import DEFAULT_RUNS, Sweep, sweep

Plan = Sweep | Grid | LongPPL

__all__ = ["DEFAULT_RUNS", "Grid", "LongPPL", "Plan", "Run", "Sweep", "grid", "longppl", "sweep"]
