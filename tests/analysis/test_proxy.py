"""A proxy: joined by the text, and what it says of a run is what plain sums say."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from models import tiny
from simulated import Simulation, write_run
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
    windows,
    word_tokenizer,
)

from probe.analysis.bins import octave_edges
from probe.analysis.open_run import OpenRun, open_run
from probe.analysis.proxy import explained, scaled, split, use_proxy
from probe.errors import UsageError

CURVE = {"truncate": lambda d: 0.4 / (1 + d / 16)}
DEAR = Simulation(CURVE, documents=12, document_spread=0.5, model="dear")
CHEAP = Simulation(
    {"replace": CURVE["truncate"], "truncate": lambda d: 0.8 / (1 + d / 16)},
    documents=120,
    document_spread=0.5,
    model="cheap",
)
"""The same documents, ten times as many, with other noise and at twice the loss."""


@pytest.fixture(scope="module", name="simulated")
def simulated_runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("simulated")
    runs = {"dear": DEAR, "cheap": CHEAP, "all": replace(DEAR, documents=120)}
    written = {name: write_run(folder / name, one) for name, one in runs.items()}
    for name, flops in (("dear", 12e9), ("cheap", 12e9)):  # the cheap one a tenth a document
        file = written[name] / "run.json"
        record = json.loads(file.read_text(encoding="utf-8")) | {"costs": {"flops": flops}}
        file.write_text(json.dumps(record), encoding="utf-8")
    return written


def proxied(folder: Path, cheap: Path) -> OpenRun:
    run = open_run(folder, write=False)
    with open_run(cheap, write=False) as other:
        use_proxy(run, other)
    return run


@pytest.mark.slow
def test_intervals_are_narrower_around_the_mean_of_all(simulated: Mapping[str, Path]) -> None:
    """Twelve documents and a proxy of 120 say what 120 documents say, nearly as surely."""
    with (
        open_run(simulated["dear"], write=False) as plain,
        proxied(simulated["dear"], simulated["cheap"]) as run,
        open_run(simulated["all"], write=False) as all_,
    ):
        of = [one.curve.query("condition == 'truncate'") for one in (plain, run, all_)]
        width = [(one["high"] - one["low"]).mean() for one in of]
        off = [np.abs(one["delta"] - of[2]["delta"].to_numpy()).mean() for one in of]
        assert width[1] < width[0] / 1.5
        assert off[1] < off[0] / 2
        found = explained(run)
        assert (found["r_squared"] > 0.8).all()
        assert (found["low"] <= found["r_squared"]).all()


@pytest.mark.slow
def test_r_squared_is_that_of_a_plain_regression(simulated: Mapping[str, Path]) -> None:
    """Of equally many targets a document R² is the squared correlation of their means."""
    with (
        proxied(simulated["dear"], simulated["cheap"]) as run,
        open_run(simulated["cheap"], write=False) as cheap,
    ):
        ours, theirs = (
            one.plain_sums.query("condition == 'truncate' and 32 <= distance_from < 64")
            .groupby("document")["delta_sum"]
            .sum()
            for one in (run, cheap)
        )
        expected = np.corrcoef(ours, theirs[ours.index])[0, 1] ** 2
        found = explained(run).set_index("distance_from").loc[32, "r_squared"]
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_a_budget_is_divided_where_the_variance_is_least(simulated: Mapping[str, Path]) -> None:
    """No other numbers of documents at the same cost give a narrower interval."""
    with (
        proxied(simulated["dear"], simulated["cheap"]) as run,
        open_run(simulated["cheap"], write=False) as cheap,
    ):
        for _, row in split(run, cheap, 1000).iterrows():
            left = 1 - row["r_squared"]
            many = np.linspace(1, 999, 5000)
            more = (1000 - many) * 10  # a tenth of the cost
            least = np.sqrt((left / many + (1 - left) / more)[more > many].min() * 1000)
            assert row["half_width"] / row["plain"] == pytest.approx(least, rel=1e-3)
            spent = row["documents"] + row["proxy_documents"] / 10
            assert spent == pytest.approx(1000, abs=1)
        cheap.facts.costs.clear()
        with pytest.raises(UsageError, match="does not say what it has cost"):
            split(run, cheap, 1000)


@pytest.fixture(scope="module", name="tiny_runs")
def two_tokenizers(
    base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """A run of words on six documents, and one of characters on eight."""
    folder = tmp_path_factory.mktemp("two")
    tiny("cohere", seed=1).save_pretrained(folder / "words")
    word_tokenizer().save_pretrained(folder / "words")
    base = changed(
        base,
        windows={"unit": "characters", "length": 80, "per_document": 2},
        protocol={"kind": "sweep", "reach": 40, "runs": {1: 1, 4: 2}},
        conditions=["truncate"],
    )
    words = {"model__path": str(folder / "words")}
    return {
        "cheap": score(base, folder, name="cheap"),
        "dear": score(base, folder, name="dear", data__max_documents=6, **words),
        "other seed": score(base, folder, name="seed", seed=1, **words),
        "other condition": score(base, folder, name="condition", conditions=["reverse"]),
    }


@pytest.mark.slow
def test_predicted_is_what_plain_sums_say(tiny_runs: Mapping[str, Path]) -> None:
    """An octave of words holds as many characters' tokens as words have, of every document."""
    dear, cheap = (scores(tiny_runs[name]) for name in ("dear", "cheap"))
    known = [windows(tiny_runs[name]) for name in ("dear", "cheap")]
    behind = []
    for rows, texts in zip((dear, cheap), known, strict=True):
        first = rows[rows.boundary >= 0].groupby(["document", "window"])["boundary"].min()
        behind.append(
            {
                key: window["start"] + len(window["token_ids"]) - first[key]
                for key, window in texts.items()
            }
        )
    words = sum(behind[0].values())
    characters = sum(behind[1][key] for key in behind[0])
    with proxied(tiny_runs["dear"], tiny_runs["cheap"]) as run:
        assert run.prediction is not None
        assert run.prediction.population == 8
        (_, end, *_), known_edges = octave_edges(run.last_edge).tolist(), run.edges
        rows = cheap[cheap.condition == "truncate"]
        start = rows.merge(
            pd.DataFrame(
                [(*key, w["start"]) for key, w in known[1].items()],
                columns=["document", "window", "start"],
            )
        )
        usable = start[start.distance <= start.boundary - start.start]
        usable = usable[usable.distance < round(end * characters / words)]
        sums = (usable.nll - usable.nll_intact).astype(float).groupby(usable.document).sum()
        counts = usable.groupby("document")["nll"].count()
        expected = sums - sums.sum() / counts.sum() * counts
        found = run.prediction.inside("truncate", np.array([0]), np.array([end]))[:, 0]
        assert known_edges[0] == 0
        np.testing.assert_allclose(found, expected[run.documents], atol=1e-4)
        assert len(explained(run)) > 1


@pytest.mark.parametrize(
    ("edges", "factor", "expected"),
    [([0, 8, 16], 1.0, [0, 8, 16]), ([0, 8, 16], 1.5, [0, 12, 24]), ([0, 1, 2], 0.1, [0, 1, 2])],
)
def test_scaled(edges: list[int], factor: float, expected: list[int]) -> None:
    """Every bin keeps a distance of its own."""
    assert scaled(np.array(edges), factor).tolist() == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dear", "cheap", "message"),
    [
        ("dear", "other seed", "seed is 1; allowed: 0"),
        ("dear", "dear", "a run is no proxy of itself; allowed: another model's run"),
        ("dear", "other condition", "conditions lack 'truncate'; allowed: all of"),
        ("cheap", "dear", "2 documents of .* has no score there"),
    ],
)
def test_what_is_no_proxy(
    tiny_runs: Mapping[str, Path], dear: str, cheap: str, message: str
) -> None:
    """Another seed, other conditions or fewer documents are refused in one line."""
    with pytest.raises(UsageError, match=message) as caught:
        proxied(tiny_runs[dear], tiny_runs[cheap])
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_windows_in_other_places_are_refused(
    base: dict[str, Any], tiny_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    """Two tokenizers cut windows of as many tokens at other characters."""
    how = changed(base, windows__per_document=1, conditions=["truncate"])
    how = changed(how, windows__length=32, protocol={"kind": "sweep", "reach": 16})
    words = str(tiny_runs["dear"].parent / "words")
    one, two = (
        score(how, tmp_path, name=name, **more)
        for name, more in (
            ("characters", {}),
            ("words", {"model__path": words}),
        )
    )
    with pytest.raises(UsageError, match=r"holds another text|has no score there"):
        proxied(two, one)
