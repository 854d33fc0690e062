"""A run: an experiment prepared, planned, scored and kept."""
