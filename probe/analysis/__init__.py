"""From score rows to curves, effective context and intervals; reads results, needs no torch."""
