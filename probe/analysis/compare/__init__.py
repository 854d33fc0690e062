"""Comparing runs: paired where their windows are the same, by document otherwise."""

from probe.analysis.compare.comparison import Comparison, compare
from probe.analysis.compare.table import run_table, summary_table

__all__ = ["Comparison", "compare", "run_table", "summary_table"]
