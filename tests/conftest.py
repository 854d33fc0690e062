"""What holds for all tests: one thread, as threads that share a busy core wait for each other."""

import os

import pytest


def pytest_configure() -> None:
    """Tell torch before anything imports it; tiny models gain nothing from more threads."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of few and long tests first, so that no process is left with one at the end."""
    long = ("real", "cluster", "browser")
    items.sort(
        key=lambda item: (
            item.path.suffix != ".ipynb" and not any(map(item.get_closest_marker, long))
        )
    )


@pytest.fixture(autouse=True)
def _registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers of its own is gone behind it: no other test lists or draws it."""
    from probe.classes import registry as classes
    from probe.perturbations import registry as perturbations

    for registry in (classes.REGISTRY, perturbations.REGISTRY):
        registry.load_builtins()
        monkeypatch.setattr(registry, "entries", dict(registry.entries))
