"""What several tests of perturbations need."""

from collections.abc import Iterator

import pytest
from stub_spacy import forget, install


@pytest.fixture(scope="module")
def stand_in_for_spacy() -> Iterator[None]:
    """A pipeline that needs no model, for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        yield
    forget()
