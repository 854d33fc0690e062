"""The token explorer colours by the weights that lie in the run folder, and by no others."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from longppl_run import texts, write
from reported import Page, page_of, reported

from probe.analysis.open_run import open_run
from probe.render.explorer import WEIGHT_STEPS, explore
from probe.render.page import write_page
from probe.results.weights import token_weights
from probe.training.rules import parse
from probe.training.weigh import weigh

RULE = "sparse(kappa=0.5)"


@pytest.fixture(scope="module", name="weighed")
def weighed_run(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("weighed") / "run", texts(4))
    with open_run(folder, write=False) as run:
        weigh(run, parse(RULE), parse("mean_delta"))
    return folder


@pytest.fixture(scope="module", name="marks")
def marks_of(weighed):
    """What its findings mark in the text."""
    run, found = reported(weighed)
    with run:
        return next(one.marks for one in found if one.marks is not None)


@pytest.fixture(name="folder")
def copied_run(weighed, tmp_path):
    return shutil.copytree(weighed, tmp_path / "run")


def explored(folder, page=None):
    """What the page shows of a run's tokens; the page too is written where a path is given."""
    run, found = reported(folder)
    with run:
        if page is not None:
            write_page([run], [found], page)
        marks = next(one.marks for one in found if one.marks is not None)
        return explore(run, marks)


@pytest.mark.slow
def test_the_weights_shown_are_those_of_the_file(weighed):
    """Of every token that is shown, to half a thousandth, as pandas reads them."""
    found = explored(weighed)
    payload = json.loads(found.payload)
    frame = pd.read_parquet(weighed / "weights.parquet").astype({"document": str})
    assert payload["steps"] == [round(step * 1000) for step in WEIGHT_STEPS]
    assert found.without_weights is None
    made = found.weights
    assert (made.rule, made.condition, made.distance) == (RULE, "truncate", 8)
    for window, data in zip(found.windows, payload["windows"], strict=True):
        own = frame[frame["document"] == window.document].set_index("position")["weight"]
        first = window.start + window.first
        expected = own.loc[first : first + len(window.tokens) - 1].to_numpy()
        assert len(data["weights"]) == len(window.tokens) > 50
        assert np.abs(np.array(data["weights"]) / 1000 - expected).max() <= 0.0005 + 1e-6
        assert min(data["weights"]) == 0 < 2000 <= max(data["weights"])


@pytest.mark.slow
def test_the_page_offers_the_choice(weighed, tmp_path):
    """A select with its label; a sentence and a legend each, those of delta shown at first."""
    text = page_of(weighed, tmp_path / "report.html")
    page = Page(text)
    assert [one["value"] for tag, one in page.tags if tag == "option"][:2] == ["delta", "weight"]
    assert ("label", {"for": "colour"}) in page.tags
    parts = [(tag, one) for tag, one in page.tags if "data-by" in one]
    assert [(tag, one["data-by"], "hidden" in one) for tag, one in parts] == [
        *(("p", "delta", False), ("p", "weight", True)),
        *(("ul", "delta", False), ("ul", "weight", True)),
    ]
    words = " ".join(" ".join(page.words).split())
    assert f"which the rule {RULE} makes of its delta under truncate behind 8 tokens" in words
    steps = " ".join(f"{low:g} to {high:g}" for low, high in pairwise(WEIGHT_STEPS))
    assert f"0 below 0.1 {steps} 5 or more weight by {RULE}" in words


@pytest.mark.slow
def test_a_run_without_weights_has_no_choice(folder, tmp_path):
    """Nor a word of them, and its page is that of before."""
    (folder / "weights.parquet").unlink()
    text = page_of(folder, tmp_path / "report.html")
    body = text[text.index("<body>") : text.index("<script>")]
    assert "weigh" not in body
    assert "data-by" not in body


def with_footer(folder, **changes):
    """Write the file of weights with another footer."""
    path = folder / "weights.parquet"
    table = pq.read_table(path)
    said = dict(table.schema.metadata)
    made = json.loads(said[b"context_probe.weights"]) | changes
    said[b"context_probe.weights"] = json.dumps(made).encode()
    pq.write_table(table.replace_schema_metadata(said), path)


def go_on(folder):
    """What resuming a run does: a part more."""
    part = next((folder / "scores").glob("*.parquet"))
    more = pq.read_table(part).slice(0, 40)
    repeat = pa.array([7] * len(more), more.schema.field("repeat").type)
    more = more.set_column(more.schema.get_field_index("repeat"), "repeat", repeat)
    pq.write_table(more, folder / "scores" / "zz.parquet")


def of_another_run(folder):
    """Another run's file lies in the folder of this one."""
    path, record = folder / "weights.parquet", json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"identity_hash": "one"}))
    table = pq.read_table(path)
    said = {**table.schema.metadata, b"context_probe.identity": b"two"}
    pq.write_table(table.replace_schema_metadata(said), path)


def by_an_older_version(folder):
    """Without a footer."""
    path = folder / "weights.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)


def changed_column(name, change):
    def apply(folder):
        path = folder / "weights.parquet"
        table = pq.read_table(path)
        values = table[name].to_numpy().copy()
        at = table.schema.get_field_index(name)
        pq.write_table(table.set_column(at, name, pa.array(change(values))), path)

    return apply


def damaged(folder):
    path = folder / "weights.parquet"
    content = path.read_bytes()
    path.write_bytes(b"\0" * (len(content) // 2) + content[len(content) // 2 :])


ROWS = "was made of other rows than the run has now"
LACKS = "lacks tokens of the windows"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (go_on, ROWS),
        (of_another_run, "is of another run"),
        (by_an_older_version, "does not say which rows it was made of"),
        (changed_column("token_id", lambda ids: ids + 1), LACKS),
    ],
)
def test_weights_of_other_rows_are_left_out_and_the_page_says_why(folder, change, why, tmp_path):
    change(folder)
    found = explored(folder, tmp_path / "report.html")
    left_out(found, why)
    text = (tmp_path / "report.html").read_text("utf-8")
    words = " ".join("".join(Page(text).words).split())
    assert f"Tokens cannot be coloured by weight: {found.without_weights}. probe weigh" in words
    assert 'data-by="weight"' not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda folder: with_footer(folder, rows=1), ROWS),
        (lambda folder: with_footer(folder, rows="many"), "does not say which rows"),
        (lambda folder: with_footer(folder, rows=float("inf")), "does not say which rows"),
        (lambda folder: (folder / "weights.parquet").write_text("{"), "does not say which rows"),
        (changed_column("position", lambda places: places + 1), LACKS),
        (changed_column("weight", lambda weights: weights * np.nan), LACKS),
        (changed_column("weight", lambda weights: weights - 1), LACKS),
        (changed_column("weight", lambda weights: ["x"] * len(weights)), LACKS),
        (damaged, LACKS),
    ],
)
def test_weights_that_are_in_doubt_are_left_out(folder, marks, change, why):
    """The rows are those of before, and so is what is marked of them."""
    change(folder)
    with open_run(folder, write=False) as run:
        left_out(explore(run, marks), why)


def left_out(found, why):
    assert found.weights is None
    assert why in found.without_weights
    payload = json.loads(found.payload)
    assert "steps" not in payload
    assert not any("weights" in window for window in payload["windows"])


@pytest.mark.slow
def test_weights_that_were_made_anew_are_shown(folder):
    go_on(folder)
    with open_run(folder, write=False) as run:
        weigh(run, parse("longce"), parse("mean_delta"))
    assert explored(folder).weights.rule == "longce(gamma=5)"


def test_a_run_of_the_same_identity_has_its_weights(folder):
    """The hash of its identity goes into the footer."""
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"identity_hash": "one"}))
    with open_run(folder, write=False) as run:
        weigh(run, parse("longce"), parse("mean_delta"))
        assert (
            pq.read_schema(folder / "weights.parquet").metadata[b"context_probe.identity"] == b"one"
        )
        assert token_weights(run.folder)[0].rule == "longce(gamma=5)"


@pytest.mark.slow
def test_what_a_file_says_of_itself_is_escaped(folder, tmp_path):
    """A footer is text that others wrote."""
    with_footer(folder, rule="</bdi><script>x()</script>\u202e", condition="<b>")
    text = page_of(folder, tmp_path / "report.html")
    assert "<script>x()" not in text
    assert "&lt;/bdi&gt;&lt;script&gt;x()" in text
    assert "under <bdi>&lt;b&gt;</bdi> behind" in text
    assert "\u202e" not in text
