"""From score rows to curves, effective context and their intervals; reads results, needs no torch."""
