"""Perturbations of the far context: pure functions on token ids, named by text."""
