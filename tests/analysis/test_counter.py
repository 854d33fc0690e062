"""Counts of deltas: how fine their cells are, and that none is lost."""

import numpy as np
import pytest

from probe.analysis import counter as counter_module
from probe.analysis.counter import LINEAR, Deltas


def counted(values: np.ndarray, octaves: np.ndarray, pieces: int = 1) -> dict[str, np.ndarray]:
    """Columns of the cells of one condition."""
    found = Deltas(4)
    for part in np.array_split(np.arange(len(values)), pieces):
        found.add(octaves[part], values[part], {(0, len(part)): 0})
    (columns,) = found.columns()
    return columns


@pytest.mark.parametrize("pieces", [1, 13])
def test_no_cell_is_wider_than_a_thousandth(monkeypatch, pieces):
    """Sorted, the values of a cell are next to one another and hardly differ; sums are exact."""
    monkeypatch.setattr(counter_module, "_TOGETHER", 1000)
    rng = np.random.default_rng(0)
    size = 20_000
    values = rng.choice([-1, 1], size) * 10.0 ** rng.uniform(-8, 2, size)
    octaves = rng.integers(4, size=size)
    cells = counted(values, octaves, pieces)
    assert cells["targets"].sum() == size
    for octave in range(4):
        own = np.sort(values[octaves == octave])
        chosen = cells["octave"] == octave
        counts, sums = cells["targets"][chosen], cells["delta_sum"][chosen]
        order = np.argsort(sums / counts)
        parts = np.split(own, np.cumsum(counts[order])[:-1])
        np.testing.assert_allclose(sums[order], [part.sum() for part in parts], rtol=1e-9)
        width = np.array([np.ptp(part) for part in parts])
        least = np.array([np.abs(part).min() for part in parts])
        assert (width <= 1.01e-3 * (least + 2 * LINEAR)).all()


def test_zero_is_a_cell_of_its_own_and_conditions_are_apart():
    """What does not change is 0 to the last digit; a condition without a row has no cell."""
    found = Deltas(1)
    octaves = np.zeros(5, dtype=np.int64)
    found.add(octaves, np.array([0.0, 0.0, -0.3, 0.3, 1e9]), {(0, 2): 7, (2, 5): 3})
    three, seven = found.columns()
    assert (three["condition"][0], seven["condition"][0]) == (3, 7)
    assert seven["delta_sum"].tolist() == [0.0]
    assert three["delta_sum"].tolist() == pytest.approx([-0.3, 0.3, 1e9])
