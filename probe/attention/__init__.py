"""Interventions on what attention may see."""
