"""Tests of how a run is planned, scored and kept."""
