"""Looks at an interval: when, how sure, what is asked for, and where a run is expected to stop."""

import math
from dataclasses import replace

import numpy as np
import pytest
from open_runs import opened
from scipy.stats import t
from simulated import Simulation, write_run

from probe.analysis.bootstrap import bootstrap, pointwise_band, resample_weights
from probe.analysis.looks import (
    Look,
    Target,
    asked_delta,
    asked_length,
    confidence_after,
    look,
    needed_in_words,
    numbers,
    predicted,
)
from probe.analysis.precision import half_width
from probe.errors import UsageError

CONDITIONS = ("truncate", "shuffle")
TOLERANCES = ("1%", "5 %")


def test_numbers_grow_by_half() -> None:
    """Whatever the last one is, a larger sample is looked at after the same documents before it."""
    assert list(numbers(50)) == [8, 12, 18, 27, 40, 50]
    assert list(numbers(8)) == [8]
    assert list(numbers(6)) == [6]
    assert list(numbers(1000))[:5] == [8, 12, 18, 27, 40]


def test_few_documents_spend_little_of_the_error() -> None:
    """A fifth of it at the first look, nearly all of it with thousands."""
    assert [confidence_after(n, 0.95) for n in (8, 32, 96)] == [0.99, 0.975, 0.962]
    found = [confidence_after(n, 0.9) for n in (*numbers(10_000), 10**9)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0.9


@pytest.mark.parametrize(
    ("answer", "octaves", "words"),
    [
        ("truncate", 1, "precision.answer is 'truncate'; allowed: condition@tolerance"),
        ("truncate@2%", 1, "allowed after @: the run's own tolerances, 1%, 5%"),
        ("reverse@1%", 1, "allowed conditions: truncate, shuffle"),
        ("truncat@1%", 1, "did you mean 'truncate'?"),
        ("truncate@1", 1, "tolerance '1' is not understood"),
        ("truncate@1%", 0.1, "two bins apart at least; allowed: 0.125 or more"),
    ],
)
def test_lengths_that_are_refused(answer: str, octaves: float, words: str) -> None:
    """What it is, and what is allowed."""
    with pytest.raises(UsageError) as caught:
        asked_length(answer, octaves, CONDITIONS, TOLERANCES, 8)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "condition", "words"),
    [
        ("0.01", None, "allowed: nats @ first-last"),
        ("0 @ 1-2", None, "a number above 0"),
        ("0.01 @ 35-64", None, "allowed: distances between 32 and 63, the shorter one first"),
        ("0.01 @ 39-35", None, "the shorter one first"),
        (
            "0.01 @ 31-63",
            None,
            "and 63, the shorter one first; at nearer ones stopping early costs coverage",
        ),
        ("0.01 @ 32-35", "noise", "precision.condition is 'noise'; allowed conditions: truncate"),
    ],
)
def test_deltas_that_are_refused(text: str, condition: str | None, words: str) -> None:
    """What it is, and what is allowed."""
    with pytest.raises(UsageError) as caught:
        asked_delta(text, condition, CONDITIONS, 64)
    assert words in str(caught.value)


def test_a_reach_that_has_near_distances_alone() -> None:
    """Then there is a length to ask for, and no delta."""
    with pytest.raises(UsageError, match="or a reach beyond 32; at nea"):
        asked_delta("0.01 @ 4-15", None, CONDITIONS, 32)


def test_what_is_asked() -> None:
    """In canonical text; delta is that of truncate, or else of the first condition."""
    length = asked_length("shuffle@5%", 0.5, CONDITIONS, TOLERANCES, 8)
    assert length == Target("shuffle", 0.5, tolerance="5%")
    assert str(length) == "the effective context under shuffle at 5 %"
    delta = asked_delta(" .01@ 32 - 63", None, CONDITIONS, 64)
    assert delta == Target("truncate", 0.01, distances=(32, 63))
    assert asked_delta("1 @ 32-33", None, ["reverse"], 64).condition == "reverse"
    assert delta.width_text() == "± 0.01 nats"


CURVES = {"truncate": lambda d: np.where(d < 32, 0.3, 0.0)}
DELTA = Target("truncate", 0.01, distances=(4, 30))


@pytest.mark.slow
def test_width_of_delta(tmp_path) -> None:
    """That of the pooled ratio of sums over the rows at these distances, document by document."""
    run = opened(write_run(tmp_path / "run", Simulation(CURVES)))
    rows = run.connection.execute(
        "SELECT document, delta FROM targets WHERE condition = 'truncate' AND NOT grey"
        " AND distance >= 4 AND distance <= 30"
    ).df()
    by_document = rows.groupby("document").delta.agg(["sum", "count"]).loc[run.documents]
    sums, targets = (by_document[[name]].to_numpy(dtype=float) for name in ("sum", "count"))
    weights = resample_weights(len(sums), run.analysis.resamples, run.analysis.seed)
    low, high = pointwise_band(bootstrap(sums, targets, weights, 0.95), 0.95)
    found = look(run, DELTA)
    assert found.half_width == pytest.approx((high[0] - low[0]) / 2)
    assert (found.documents, found.confidence) == (len(run.documents), 0.95)
    quantiles = {number: t.ppf(0.975, number - 1) / math.sqrt(number) for number in range(6, 999)}
    unit = found.half_width / quantiles[found.documents]
    needed = next(number for number, width in quantiles.items() if unit * width <= 0.01)
    assert needed_in_words(run, DELTA) == f"{needed:,}"


@pytest.mark.slow
def test_what_no_number_of_documents_gives(tmp_path) -> None:
    """A width that is asked for too small, and one that is 0 by now."""
    run = opened(write_run(tmp_path / "run", Simulation(CURVES)))
    assert needed_in_words(run, replace(DELTA, half_width=1e-12)) == "> 1,000,000,000,000,000"
    alike = Simulation({"truncate": lambda d: 0 * d}, token_spread=0)
    same = opened(write_run(tmp_path / "same", alike))
    assert look(same, DELTA).half_width == 0
    assert needed_in_words(same, DELTA) == "6"
    then = predicted(same, DELTA, 100, 0.95)
    assert then is not None
    assert (then.documents, then.half_width) == (8, 0)


@pytest.mark.slow
def test_width_of_a_length(tmp_path) -> None:
    """That of the run's own answer; none where it has no upper limit."""
    run = opened(write_run(tmp_path / "run", Simulation(CURVES)))
    found = look(run, Target("truncate", 0.5, tolerance="1%"))
    context = run.context("truncate", "1%")
    assert context is not None
    assert found.half_width == pytest.approx(half_width(context))
    assert look(run, Target("nothing", 0.5, tolerance="1%")).half_width is None


@pytest.mark.slow
def test_where_a_run_is_expected_to_stop(tmp_path) -> None:
    """By the standard error of a finished run, at the confidence of each look."""
    run = opened(write_run(tmp_path / "run", Simulation(CURVES)))
    now = look(run, DELTA)
    assert now.half_width is not None

    def width(documents: int) -> float:
        def error(count: int, confidence: float) -> float:
            return float(t.ppf((1 + confidence) / 2, count - 1)) / math.sqrt(count)

        level = confidence_after(documents, 0.95)
        ratio = error(documents, level) / error(now.documents, 0.95)
        return float(now.half_width or 0) * ratio

    target = Target("truncate", width(27) * 1.001, distances=(4, 30))
    then = predicted(run, target, 100, 0.95)
    assert then is not None
    assert then == Look(27, confidence_after(27, 0.95), pytest.approx(width(27)))
    last = predicted(run, target, 18, 0.95)
    assert last is not None
    assert (last.documents, last.is_enough(target)) == (18, False)
    assert predicted(run, Target("nothing", 1, distances=(4, 30)), 18, 0.95) is None
    length = predicted(run, Target("truncate", 10, tolerance="1%"), 100, 0.95)
    assert length is not None
    assert length.documents == 8
