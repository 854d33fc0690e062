"""Protocols: which boundaries and which targets of a window are measured, one a file."""
