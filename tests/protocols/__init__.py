"""Tests of the protocols, a file each."""
