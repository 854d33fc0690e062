"""A run that stops once an interval is narrow: the first rows of the whole run, and no others."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    configured,
    model_folders,
    no_network,
    parts,
    score,
    scores,
    text_folder,
    text_of,
)

from probe.analysis import looks
from probe.analysis.looks import confidence_after, numbers
from probe.analysis.open_run import open_run
from probe.analysis.precision import half_width
from probe.errors import UsageError
from probe.results.scores import Store
from probe.results.shards import Shard
from probe.runs.experiment import prepare
from probe.runs.run import Here, run
from probe.runs.stopping import target_of

DOCUMENTS = 30
DELTA = "@ 4-15"


@pytest.fixture(autouse=True)
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets runs stop by distances that real ones may not: the windows here are short."""
    monkeypatch.setattr(looks, "NEAREST", 0)


@pytest.fixture(scope="module", name="content")
def many_documents(
    base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The configuration of thirty documents, one window each."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(DOCUMENTS):
        (folder / f"{number}.txt").write_text(text_of(80, number), encoding="utf-8")
    return changed(
        base,
        data__data_files=f"{folder}/*.txt",
        protocol__runs={1: 1},
        conditions=["noise", "truncate", "replace(source='document')"],
    )


@pytest.fixture(scope="module", name="whole")
def whole_run(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all thirty documents."""
    return score(content, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module", name="widths")
def plain_widths(whole: Path) -> dict[int, float]:
    """Half the width of the interval of delta after each look, from the rows alone."""
    rows = scores(whole)
    rows = rows[(rows.condition == "truncate") & rows.distance.between(4, 15)]
    order = [one["id"] for one in record(whole)["data"]["documents"]]
    delta = (rows.nll.astype(float) - rows.nll_intact).groupby(rows.document).sum()
    count = rows.groupby("document").size()
    found = {}
    for number in numbers(DOCUMENTS):
        own = sorted(order[:number])
        sums, targets = delta[own].to_numpy(), count[own].to_numpy(dtype=float)
        rng = np.random.default_rng(0)
        draws = [rng.integers(number, size=number) for _ in range(100)]
        means = np.array([sums[d].sum() / targets[d].sum() for d in draws])
        level = confidence_after(number, 0.95)
        tails = np.array([(1 - level) / 2, (1 + level) / 2])
        wider = t.ppf(tails[1], number - 1) / norm.ppf(tails[1]) * np.sqrt(number / (number - 1))
        low, high = np.quantile(wider * means, tails)
        found[number] = (high - low) / 2
    return found


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return content


def first_rows(whole: Path, documents: int) -> pd.DataFrame:
    """The rows of a run's first documents."""
    own = [one["id"] for one in record(whole)["data"]["documents"]][:documents]
    rows = scores(whole)
    return rows[rows.document.isin(own)].reset_index(drop=True)


def asked(width: float) -> Mapping[str, Any]:
    return {"nats": f"{width:.6f} {DELTA}"}


def between(widths: dict[int, float]) -> tuple[int, float]:
    """A number of documents after some looks, and a width that is first reached there."""
    for number in (12, 18, 27):
        earlier = min(width for at, width in widths.items() if at < number)
        if widths[number] < earlier:
            return number, (widths[number] + earlier) / 2
    raise AssertionError(widths)


@pytest.mark.slow
def test_stops_where_the_interval_is_narrow(
    content: dict[str, Any], whole: Path, widths: dict[int, float], tmp_path: Path
) -> None:
    """At the first look whose plain interval is as narrow; rows, looks and report say the same."""
    number, width = between(widths)
    said: list[str] = []
    config = configured(content, precision=asked(width))
    folder = run(config, tmp_path, say=said.append)
    pd.testing.assert_frame_equal(scores(folder), first_rows(whole, number))
    found = record(folder)
    assert found["status"] == "complete"
    looks = found["precision"]["looks"]
    assert [one["documents"] for one in looks] == [n for n in numbers(DOCUMENTS) if n <= number]
    for one in looks:
        assert one["half_width"] == pytest.approx(widths[one["documents"]], rel=1e-6)
        assert one["confidence"] == confidence_after(one["documents"], 0.95)
    assert said[-1].endswith(f"precise enough; {DOCUMENTS - number} documents more not needed")
    with open_run(folder) as opened:
        assert opened.analysis.confidence == confidence_after(number, 0.95)
    again = run(config, tmp_path, workers=Here(loader=no_model), say=said.append)
    assert record(again)["precision"] == found["precision"]
    assert record(again)["status"] == "complete"


def no_model(_: object) -> Any:
    """Nothing is missing: no model is to be loaded."""
    raise AssertionError("a model is loaded")


@pytest.mark.slow
def test_goes_on_without_or_with_a_narrower_precision(
    content: dict[str, Any], whole: Path, widths: dict[int, float], tmp_path: Path
) -> None:
    """The same folder: first up to a wide interval, then a narrower one, then all documents."""
    score(content, tmp_path, precision=asked(widths[8] * 1.01))
    assert len(scores(tmp_path / "tiny").document.unique()) == 8
    number, width = between(widths)
    folder = score(content, tmp_path, precision=asked(width))
    pd.testing.assert_frame_equal(scores(folder), first_rows(whole, number))
    assert [one["documents"] for one in record(folder)["precision"]["looks"]][:2] == [8, 12]
    folder = score(content, tmp_path)
    pd.testing.assert_frame_equal(scores(folder), scores(whole))
    assert "precision" not in record(folder)
    with open_run(folder) as opened:
        assert opened.analysis.confidence == 0.95


@pytest.mark.slow
@pytest.mark.parametrize("units", [1, 4, 5])
def test_cut_off_it_stops_at_the_same_document(
    content: dict[str, Any], widths: dict[int, float], tmp_path: Path, units: int
) -> None:
    """After any unit, at the end of a batch too: the same parts, looks and end."""
    _, width = between(widths)
    config = configured(content, precision=asked(width))
    uninterrupted = run(config, tmp_path / "whole")
    count = iter(range(1, 100))

    def end(_: object) -> None:
        if next(count) == units:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "cut", listen=end)
    assert record(tmp_path / "cut" / "tiny")["status"] == "unfinished"
    folder = run(config, tmp_path / "cut")
    assert parts(folder) == parts(uninterrupted)
    assert record(folder)["precision"] == record(uninterrupted)["precision"]


@pytest.mark.slow
def test_a_precision_that_is_not_reached(content: dict[str, Any], tmp_path: Path) -> None:
    """All documents are scored, and what would be needed is said; again, too."""
    config = configured(content, precision=asked(1e-6))
    for _ in range(2):
        said: list[str] = []
        folder = run(config, tmp_path, say=said.append)
        assert record(folder)["status"] == "complete"
        assert len(scores(folder).document.unique()) == DOCUMENTS
        found = record(folder)["precision"]
        last, level = (found["looks"][-1][name] for name in ("half_width", "confidence"))
        needed = int(found["needed"].replace(",", ""))
        # Of so many documents the t-quantile is that of the normal distribution.
        spread = last * norm.ppf((1 + level) / 2) / t.ppf((1 + level) / 2, DOCUMENTS - 1)
        assert needed == pytest.approx(DOCUMENTS * (spread / 1e-6) ** 2, rel=1e-3)
        assert f"documents needed for that: {found['needed']}" in said[-1]


@pytest.mark.slow
def test_an_effective_context(content: dict[str, Any], tmp_path: Path) -> None:
    """The width of its last look is that of a report; what has no two ends is no width."""
    precision = {"answer": "truncate@1%", "octaves": 20}
    folder = score(content, tmp_path, precision=precision)
    *before, last = record(folder)["precision"]["looks"]
    with open_run(folder) as opened:
        context = opened.context("truncate", "1%")
    assert context is not None
    width = half_width(context)
    assert last["half_width"] == (pytest.approx(width) if np.isfinite(width) else None)
    assert all(one["half_width"] is None for one in before)
    assert last["half_width"] is not None or last["documents"] == DOCUMENTS


@pytest.mark.slow
def test_progress_says_the_width(
    content: dict[str, Any], widths: dict[int, float], tmp_path: Path
) -> None:
    """The width at the last look, and no more windows than there are."""
    told: list[Any] = []
    run(configured(content, precision=asked(1e-6)), tmp_path, listen=told.append)
    assert told[0].width == "first look at 8 documents"
    assert f"± {widths[8]:.2g} nats at 8 documents, ± 1e-06 nats at about 30" in told[4].width
    assert (told[-1].windows, told[-1].total) == (DOCUMENTS, DOCUMENTS)


def test_parts_of_a_run_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    """A shard sees some documents only."""
    config = configured(content, precision=asked(0.01))
    with pytest.raises(UsageError, match=r"precision with --shard 0/2: .*allowed: without"):
        run(config, Store(tmp_path / "tiny", Shard(0, 2)))
    assert not (tmp_path / "tiny" / "run.json").exists()


def test_texts_that_documents_share_end_no_run(content: dict[str, Any]) -> None:
    """More documents make no more of them."""
    shared = ["replace(source='document', shared=4)"]
    with pytest.raises(UsageError, match=r"of them do not make more texts; allowed: a cond"):
        configured(content, conditions=shared, precision=asked(0.01))
    both = configured(content, conditions=[*shared, "truncate"], precision=asked(0.01))
    assert target_of(prepare(both)).condition == "truncate"


def test_distances_before_a_curve_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    """Far text that no other boundary shares has few targets near it."""
    config = configured(
        content,
        protocol__runs={1: 1, 4: 2},
        conditions=["shuffle"],
        precision={"nats": "0.01 @ 0-3"},
    )
    with pytest.raises(UsageError, match=r"of distances 0 to 3; allowed: 4 to 31, where the run"):
        run(config, tmp_path)
    assert not list(tmp_path.iterdir())
