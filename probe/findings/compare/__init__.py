"""Runs together: one table and one chart of many, the differences of two."""
