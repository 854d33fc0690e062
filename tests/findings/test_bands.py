"""A run of protocol `band`, from the configuration to the table, against whole forwards."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from open_runs import answer, by_id, opened
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
    windows,
)
from transformers import AutoModelForCausalLM

from probe.analysis.bootstrap import bootstrap, pointwise_band, resample_weights
from probe.commands.report import tell
from probe.errors import ProbeError
from probe.findings.bands import bands, plot
from probe.findings.base import findings
from probe.perturbations.condition import draw_rng, parse
from probe.results.files import read_csv

EDGES = (0, 4, 12, 40)
COUNT, OFFSET, LENGTH = 3, 6, 64
CHANGES = {
    "name": "bands",
    "protocol": {
        "kind": "band",
        "edges": list(EDGES),
        "targets": {"count": COUNT, "end_offset": OFFSET},
    },
    "conditions": ["truncate", "shuffle", "reverse"],
}


@pytest.fixture(scope="module", name="folder")
def run_folder(base, tmp_path_factory):
    return score(base, tmp_path_factory.mktemp("bands"), **CHANGES)


def whole_forward(model, ids, targets):
    """Losses of the targets at these indices, by one forward of the whole sequence."""
    with torch.inference_mode():
        logp = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), dim=-1)
    return [-float(logp[at - 1, ids[at]]) for at in targets]


def expected_rows(folder, base):
    """Every row of the run, worked out band by band without any sharing."""
    model = AutoModelForCausalLM.from_pretrained(base["model"]["path"]).eval()
    seed, bos = 0, json.loads((folder / "run.json").read_text())["model"]["bos"]
    first = LENGTH - OFFSET - COUNT
    for (document, number), window in windows(folder).items():
        ids = window["token_ids"]
        for text in CHANGES["conditions"]:
            for near, far in pairwise(EDGES):
                start, boundary = first - far, first - near
                rng = draw_rng(seed, document, number, text, 0)
                changed_ids = parse(text).apply(ids[start:boundary], rng=rng)
                before = [bos, *ids[:start], *changed_ids, *ids[boundary:first]]
                whole = before + ids[first : first + COUNT]
                losses = whole_forward(model, whole, range(len(before), len(whole)))
                for at, nll in enumerate(losses):
                    position = window["start"] + first + at
                    yield document, text, near, far, position, near + at, nll


def test_rows_are_those_of_whole_forwards(folder, base):
    """Each band perturbs its own tokens, and those beyond and between stand as they were."""
    expected = pd.DataFrame(
        expected_rows(folder, base),
        columns=["document", "condition", "near", "far", "position", "distance", "nll"],
    )
    found = scores(folder)
    found = found[found["boundary"] >= 0].copy()
    found["far"] = found["position"] - found["far_start"]
    found["far"] -= found["position"] - found.groupby("document")["position"].transform("min")
    keys = ["document", "condition", "far", "position"]
    both = expected.merge(found, on=keys, suffixes=("", "_found"), validate="1:1")
    assert len(both) == len(expected) == len(found)
    np.testing.assert_allclose(both["nll_found"], both["nll"], atol=2e-5)
    assert (both["distance"] == both["distance_found"]).all()


@pytest.mark.slow
def test_table_is_the_mean_of_the_rows(folder):
    """Delta of a band is the mean over its targets; limits come from the document bootstrap."""
    table = bands(opened(folder))
    numbers = ["delta", "low", "high", "targets", "documents"]
    assert list(table.columns) == ["condition", "band_from", "band_to", *numbers]
    rows = scores(folder)
    rows = rows[rows["boundary"] >= 0]
    rows = rows.assign(
        width=rows["boundary"] - rows["far_start"], delta=rows["nll"] - rows["nll_intact"]
    )
    widths = {far - near: (near, far) for near, far in pairwise(EDGES)}
    assert len(table) == 3 * len(widths)
    documents = sorted(rows["document"].unique())
    weights = resample_weights(len(documents), 100, 0)
    for (condition, width), own in rows.groupby(["condition", "width"]):
        near, far = widths[width]
        (row,) = table[(table["condition"] == condition) & (table["band_from"] == near)].to_dict(
            "records"
        )
        assert row["band_to"] == far
        assert row["delta"] == pytest.approx(own["delta"].mean(), abs=1e-6)
        assert row["targets"] == len(own)
        by = own.groupby("document")["delta"].agg(["sum", "size"]).reindex(documents).to_numpy()
        resampled = bootstrap(by[:, :1], by[:, 1:], weights, 0.95)
        low, high = pointwise_band(resampled, 0.95)
        np.testing.assert_allclose([row["low"], row["high"]], [low[0], high[0]], atol=1e-6)


def test_no_length_is_read_from_bands(folder):
    """Text beyond a band is intact, so that there is no effective context."""
    assert opened(folder).contexts == ()


@pytest.mark.slow
def test_the_answer_and_its_figure(folder, capsys):
    """Printed as it is kept: table, figure, and the numbers with their places."""
    run = opened(folder)
    tell(run, findings(run, brief=True))
    said = capsys.readouterr().out
    assert "what lies beyond a band is intact" in said
    assert "- no contrast replace − truncate: not scored: 'replace'\n" in said
    for word in ("0–3", "4–11", "12–39", "truncate", "shuffle", "reverse", "bands.csv"):
        assert word in said
    assert (folder / "figures" / "bands.png").stat().st_size > 5_000
    assert len(read_csv(folder / "bands.csv")) == 9
    assert f"Numbers: {folder / 'bands.csv'}, {folder / 'summary.json'}\n" in said


@pytest.mark.slow
def test_few_documents_have_no_interval(base, tmp_path):
    """Below six documents a delta stands alone, and the reason is said."""
    folder = score(base, tmp_path, **CHANGES, data__max_documents=3)
    run = opened(folder)
    assert bands(run)[["low", "high"]].isna().all(axis=None)
    assert "3 documents: an interval needs 6" in answer(run)


@pytest.mark.slow
def test_targets_alone_have_bands_of_their_own(base, tmp_path):
    """Every target has its own band; the table is by distance from it."""
    protocol = {**CHANGES["protocol"], "targets": {"count": 2, "end_offset": 6, "alone": True}}
    folder = score(base, tmp_path, **{**CHANGES, "protocol": protocol})
    rows = scores(folder)
    rows = rows[rows["boundary"] >= 0]
    assert set(rows["distance"]) == set(EDGES[:-1])
    table = bands(opened(folder))
    assert set(table["targets"]) == {2 * rows["document"].nunique()}
    assert list(table["band_from"].unique()) == list(EDGES[:-1])


@pytest.mark.slow
def test_the_chart_holds_every_mark(folder):
    """A mark with its interval for each condition and band, the band named below it."""
    run = opened(folder)
    (chart,) = by_id(run)["answer"].charts
    table = bands(run)
    assert chart.x.names == ["0–3", "4–11", "12–39"]
    assert [line.name for line in chart.series] == ["truncate", "shuffle", "reverse"]
    for line in chart.series:
        own = table[table["condition"] == line.name].sort_values("band_from")
        np.testing.assert_array_equal(line.x.round(), [0, 1, 2])
        for drawn, column in ((line.y, "delta"), (line.low, "low"), (line.high, "high")):
            np.testing.assert_array_equal(drawn, own[column])
        assert line.barred
    assert chart.file == "bands"
    ((_, one),) = plot([run], condition="shuffle")
    assert [line.name for line in one.series] == ["shuffle"]


@pytest.mark.slow
def test_another_protocol_has_no_bands(base, tmp_path):
    """Its findings have none, and its own answer leads."""
    folder = score(base, tmp_path, data__max_documents=1, conditions=["truncate"])
    run = opened(folder)
    with pytest.raises(ProbeError, match="has no bands; allowed: a run with protocol band"):
        bands(run)
    assert all("bands.csv" not in finding.files for finding in findings(run, brief=True))
