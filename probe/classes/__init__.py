"""Token classes: a label for every token of a window."""
