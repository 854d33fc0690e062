"""What holds for all tests: one thread, for threads that share a busy core wait for each other."""

import os


def pytest_configure() -> None:
    """Tell torch before anything imports it; tiny models gain nothing from more threads."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
