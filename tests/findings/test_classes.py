"""Which tokens need far text: said where intervals lie apart, and nowhere else."""

from itertools import combinations

import pandas as pd
import pytest
from explained_run import Explained, explained
from probe.report.which import class_finding, contrasts, last_seen, which
from simulated import Simulation, write_run

from probe.analysis.summary import summarise

LENGTHS = {
    "near": (192, 88, 240),
    "middle": (288, 176, 704),
    "far": (None, 512, None),
    "farther": (None, 640, None),
    "few": (None, None, None),
}


@pytest.fixture(scope="module", name="summary")
def short_summary(tmp_path_factory):
    curves = {"truncate": lambda d: 0.5 / (1 + d), "shuffle": lambda d: 1 / (1 + d)}
    run = Simulation(curves, windows=1, length=128, boundaries=(64,), reach=64, resamples=100)
    return summarise(write_run(tmp_path_factory.mktemp("which") / "run", run), write=False)


def contexts(lengths=LENGTHS, name="last_occurrence", condition="truncate", tolerance="10%"):
    """Answers of one class; what has no lower limit is unresolved."""
    rows = [
        (name, value, condition, tolerance, "unresolved" if low is None else "length", *limits)
        for value, limits in lengths.items()
        for low in [limits[1]]
    ]
    columns = ["class", "value", "condition", "tolerance", "kind", "length", "low", "high"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["text"] = [f"<{value}>" for value in frame["value"]]
    return frame.astype(dict.fromkeys(["length", "low", "high"], "Int64"))


def test_the_pair_that_lies_farthest_apart(summary):
    """The one that brute force finds among all pairs of answers."""
    apart = {
        (one, other): high_limits[1] / low_limits[2]
        for pair in combinations(LENGTHS, 2)
        for one, other in (pair, pair[::-1])
        for high_limits, low_limits in [(LENGTHS[one], LENGTHS[other])]
        if high_limits[1] and low_limits[2] and high_limits[1] > low_limits[2]
    }
    (found,) = contrasts(Explained(summary, class_contexts=contexts()), "truncate")
    assert (found.more[0], found.less[0]) == max(apart, key=apart.get) == ("farther", "near")
    assert found.apart == pytest.approx(640 / 240)
    assert found.text() == (
        "by last_occurrence at 10 %, <farther> tokens for “farther”, <near> for “near”"
    )


def test_classes_that_do_not_differ(summary):
    """Intervals that meet, or touch, tell nothing apart; without two answers nothing is said."""
    same = contexts({"a": (192, 88, 240), "b": (300, 240, 704)}, name="copy")
    found = Explained(summary, class_contexts=same)
    assert contrasts(found, "truncate") == []
    assert which(found) == [
        "No class of tokens is told from another under truncate: all their intervals meet."
    ]
    assert class_finding(found, "truncate") == (
        "Effective context under truncate: no value is told from another in copy."
    )
    both = Explained(summary, class_contexts=pd.concat([same, contexts()]))
    assert class_finding(both, "truncate").endswith("; no value is told from another in copy.")
    assert len(which(both)) == 1
    few = contexts({"a": (192, 88, 240), "few": (None, None, None)})
    assert which(Explained(summary, class_contexts=few)) == []
    assert which(Explained(summary)) == []


def test_tokens_last_seen_in_the_far_text(summary):
    """Told at the farthest octave that has both, if the intervals lie apart there."""
    full = explained(summary)
    assert last_seen(full, "truncate").startswith(
        "Under truncate, tokens that were last seen in the far text need it: at distances 512–1,023"
    )
    rows = full.occurrences
    rows = rows.assign(low=rows["low"].where(rows["distance_from"] < 512, -1.0))
    met = Explained(summary, occurrences=rows)
    assert last_seen(met, "truncate") == ""
    assert last_seen(full, "reverse") == ""
