"""The results contract on disk: what a run folder holds, written and read."""
