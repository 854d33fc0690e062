"""Tables in plain text hold the numbers of the frames they are made from."""

import numpy as np
import pytest
from simulated import Simulation, write_run

from probe.analysis.summary import summarise
from probe.analysis.tables import contrast_table, tail_table


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    curves = {
        "truncate": lambda d: np.where(d < 32, 0.2, 0.0),
        "replace(source='document')": lambda d: np.where(d < 32, 0.3, 0.0),
        "noise": lambda d: 0.0 * d,
    }
    return summarise(write_run(tmp_path_factory.mktemp("tables") / "run", Simulation(curves)))


def test_contrasts_by_octave(summary):
    """A row an octave, a column a contrast, the frame's delta and interval in each cell."""
    lines = contrast_table(summary).splitlines()
    assert lines[1].split("  ")[0] == "distance"
    assert "truncate − intact" in lines[1]
    rows = summary.contrasts[summary.contrasts["scale"] == "octave"]
    assert len(lines) - 2 == rows["distance_from"].nunique()
    first = rows[(rows["contrast"] == "truncate − intact") & (rows["distance_from"] == 0)].iloc[0]
    assert lines[2].startswith("0–7")
    assert f"{first.delta:+.4f} ({first.low:+.4f} to {first.high:+.4f})" in lines[2]


def test_tails_leave_out_noise(summary):
    """Shares of targets helped and hurt by condition and octave; of noise they say nothing."""
    text = tail_table(summary)
    assert "noise" not in text
    row = summary.tails[summary.tails["condition"] == "truncate"].iloc[0]
    assert any(
        line.startswith("truncate") and f"{row.helped:.0%}" in line for line in text.splitlines()
    )
