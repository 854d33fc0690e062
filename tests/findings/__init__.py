"""Findings: numbers against plain loops, words, and charts as data."""
