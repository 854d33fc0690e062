"""A proxy: joined by characters, and what it says of a run is what plain sums say."""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
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

from probe.analysis.open_run import OpenRun, open_run
from probe.analysis.proxy import _character_edges, _sums_by_characters, explained, split, use_proxy
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


def in_characters(folder: Path) -> pd.DataFrame:
    """Distance of each target in characters, and how many it moves on, worked out row by row."""
    known, rows = windows(folder), scores(folder).query("condition == 'truncate'")
    found = []
    for row in rows.itertuples():
        window = known[row.document, row.window]
        starts = [*window["char_start"], window["char_end"][-1]]
        at, boundary = row.position - window["start"], row.boundary - window["start"]
        if row.distance <= boundary:
            distance, width = starts[at] - starts[boundary], starts[at + 1] - starts[at]
            delta = row.nll - row.nll_intact
            found.append((row.document, row.distance, distance, width, delta))
    return pd.DataFrame(found, columns=["document", "tokens", "distance", "width", "delta"])


def test_sums_by_characters(tiny_runs: Mapping[str, Path]) -> None:
    """Bins of a run of words hold, in one of characters, the characters that they have there."""
    with (
        open_run(tiny_runs["dear"], write=False) as run,
        open_run(tiny_runs["cheap"], write=False) as cheap,
    ):
        edges = _character_edges(run, run.edges)
        mean = in_characters(run.path).groupby("tokens")["distance"].mean()
        assert edges[:3].tolist() == [0, round(mean[1]), round(mean[2])]
        assert (np.diff(edges) > 0).all()
        sums, width = _sums_by_characters(cheap, edges)
        rows = in_characters(cheap.path)
        for number, document in enumerate(cheap.documents):
            own = rows[rows["document"] == document]
            for at, (low, high) in enumerate(pairwise(edges)):
                inside = own[(own["distance"] >= low) & (own["distance"] < high)]
                assert sums["truncate"][number, at] == pytest.approx(
                    inside["delta"].sum(), abs=1e-5
                )
                assert width["truncate"][number, at] == inside["width"].sum()
        use_proxy(run, cheap)
        assert run.prediction is not None
        assert run.prediction.population == 8
        assert len(explained(run)) > 1


@pytest.mark.parametrize(
    ("dear", "cheap", "message"),
    [
        ("dear", "other seed", "seed is 1; allowed: 0"),
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
