"""Data sets to documents: where texts come from, how they are tokenised, sampled and counted."""
