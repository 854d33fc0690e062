"""Pages of runs that answer in their own way: bands, passages, suffix choices, context lengths."""

import json

import pytest
from click.testing import CliRunner
from explained_run import Explained
from probe.report.page import write_page
from test_page import Page
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    score,
    text_folder,
    text_of,
)

from probe.analysis import bands
from probe.analysis.explain import explain
from probe.commands.main import group
from probe.report.explained import decimals

PROTOCOLS = {
    "band": {
        "protocol": {
            "kind": "band",
            "edges": [0, 4, 12, 40],
            "targets": {"count": 3, "end_offset": 6},
        },
        "windows": {"length": 64, "per_document": 1},
        "conditions": ["truncate", "shuffle"],
    },
    "suffix": {
        "protocol": {"kind": "suffix", "prefixes": [0, 24], "tokens": 8, "candidates": 3},
        "windows": {"per_document": 1},
    },
    "dense": {
        "protocol": {"kind": "dense", "context": 12, "targets": 6},
        "windows": {"length": 24, "per_document": 1},
    },
    "passages": {"protocol": {"kind": "passages"}, "windows": {}, "conditions": ["delete"]},
}


@pytest.fixture(scope="module", name="folders")
def run_folders(base, tmp_path_factory):
    """A run of each protocol."""
    root = tmp_path_factory.mktemp("protocols")
    rows = []
    for number in range(7):
        text = text_of(60, number)
        spans = [("first", 5, 20), ("second", 24, 40), ("answer", 50, 55)]
        named = [{"name": name, "start": start, "end": end} for name, start, end in spans]
        rows.append(json.dumps({"text": text, "spans": named}))
    (root / "qa.jsonl").write_text("\n".join(rows))
    data = {"path": "json", "data_files": str(root / "qa.jsonl"), "spans_column": "spans"}
    found = {}
    for kind, changes in PROTOCOLS.items():
        own = {"data": data} if kind == "passages" else {}
        kept = {
            name: value for name, value in base.items() if name not in ("windows", "conditions")
        }
        found[kind] = score(kept, root / kind, name=kind, **changes, **own)
    return found


def page_of(folder, tmp_path):
    text = write_page(explain(folder, write=False), tmp_path / "report.html").read_text("utf-8")
    return Page(text), text


def test_bands(folders, tmp_path):
    """The page opens with the bands, a stroke and a cell for each, and draws no curve."""
    page, text = page_of(folders["band"], tmp_path)
    assert [name for name in page.ids if name in ("answer", "curve", "explorer", "tolerance")] == [
        "answer"
    ]
    found = bands.bands(folders["band"], write=False)
    assert bands.answer(found).partition("\n")[0] in " ".join(page.words)
    for delta in found.table["delta"]:
        assert decimals(delta) in text
    assert "Delta of each band" in text
    assert "no contrast" not in text


@pytest.mark.parametrize("kind", ["band", "passages", "suffix", "dense"])
def test_their_figure(kind, folders, tmp_path):
    """`probe plot` draws each as its curve; other kinds need lengths."""
    output = tmp_path / f"{kind}.png"
    arguments = ["plot", str(folders[kind]), "--output", str(output)]
    result = CliRunner().invoke(group, arguments)
    assert result.exit_code == 0, result.stderr
    assert output.read_bytes().startswith(b"\x89PNG")
    if kind == "dense":
        return
    result = CliRunner().invoke(group, [*arguments, "--kind", "tolerance"])
    assert result.exit_code == 2
    assert f"a run with protocol {kind} has no lengths; allowed: --kind curve" in result.stderr
    result = CliRunner().invoke(group, [*arguments, "--condition", "reverse"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    result = CliRunner().invoke(group, [*arguments, str(folders["dense"])])
    assert f"some of the runs have protocol {kind}; allowed: all or none" in result.stderr


def test_an_explained_run_may_be_bare(folders, tmp_path):
    """The summary alone is enough for a page."""
    summary = explain(folders["band"], write=False).summary
    assert write_page(Explained(summary), tmp_path / "page.html").exists()
