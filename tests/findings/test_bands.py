"""A run of protocol `band`, from the configuration to the table, against whole forwards."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from probe.analysis.bands import answer, bands
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
from probe.commands._answers import tell
from probe.errors import ProbeError
from probe.perturbations.condition import draw_rng, parse
from probe.plots import bands as draw
from probe.results.csv_files import read_csv

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


def test_table_is_the_mean_of_the_rows(folder):
    """Delta of a band is the mean over its targets; limits come from the document bootstrap."""
    found = bands(folder)
    rows = scores(folder)
    rows = rows[rows["boundary"] >= 0]
    rows = rows.assign(
        width=rows["boundary"] - rows["far_start"], delta=rows["nll"] - rows["nll_intact"]
    )
    widths = {far - near: (near, far) for near, far in pairwise(EDGES)}
    assert len(found.table) == 3 * len(widths)
    documents = sorted(rows["document"].unique())
    weights = resample_weights(len(documents), 100, 0)
    for (condition, width), own in rows.groupby(["condition", "width"]):
        near, far = widths[width]
        (row,) = found.table[
            (found.table["condition"] == condition) & (found.table["band_from"] == near)
        ].to_dict("records")
        assert row["band_to"] == far
        assert row["delta"] == pytest.approx(own["delta"].mean(), abs=1e-6)
        assert row["targets"] == len(own)
        by = own.groupby("document")["delta"].agg(["sum", "size"]).reindex(documents).to_numpy()
        resampled = bootstrap(by[:, :1], by[:, 1:], weights, 0.95)
        low, high = pointwise_band(resampled, 0.95)
        np.testing.assert_allclose([row["low"], row["high"]], [low[0], high[0]], atol=1e-6)


def test_no_length_is_read_from_bands(folder):
    """Text beyond a band is intact, so that there is no effective context."""
    assert bands(folder, write=False).summary.contexts == ()


def test_the_answer_and_its_figure(folder, capsys):
    tell(folder)
    said = capsys.readouterr().out
    assert "what lies beyond a band is intact" in said
    for word in ("0–3", "4–11", "12–39", "truncate", "shuffle", "reverse", "bands.csv"):
        assert word in said
    assert (folder / "figures" / "bands.png").stat().st_size > 5_000
    assert len(read_csv(folder / "bands.csv")) == 9


def test_few_documents_have_no_interval(base, tmp_path):
    """Below six documents a delta stands alone, and the reason is said."""
    folder = score(base, tmp_path, **CHANGES, data__max_documents=3)
    found = bands(folder)
    assert found.table[["low", "high"]].isna().all(axis=None)
    assert "3 documents: an interval needs 6" in answer(found)


def test_targets_alone_have_bands_of_their_own(base, tmp_path):
    """Every target has its own band; the table is by distance from it."""
    protocol = {**CHANGES["protocol"], "targets": {"count": 2, "end_offset": 6, "alone": True}}
    folder = score(base, tmp_path, **{**CHANGES, "protocol": protocol})
    rows = scores(folder)
    rows = rows[rows["boundary"] >= 0]
    assert set(rows["distance"]) == set(EDGES[:-1])
    table = bands(folder).table
    assert set(table["targets"]) == {2 * rows["document"].nunique()}
    assert list(table["band_from"].unique()) == list(EDGES[:-1])


def test_the_figure_shows_every_mark(folder):
    axes = draw(bands(folder, write=False).table)
    marks = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
    assert sum(len(line.get_xdata()) for line in marks) == 9


def test_another_protocol_has_no_bands(base, tmp_path):
    folder = score(base, tmp_path, data__max_documents=1, conditions=["truncate"])
    with pytest.raises(ProbeError, match="has no bands; allowed: a run with protocol band"):
        bands(folder)
