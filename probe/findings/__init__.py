"""Findings: one answered question of a run a file."""
