"""Pages and figures of runs that answer in their own way: bands, passages, suffixes, lengths."""

import json

import pytest
from click.testing import CliRunner
from reported import Page, reported
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    score,
    text_folder,
    text_of,
)

from probe.analysis.sums import in_words
from probe.commands.main import group
from probe.findings.bands import bands
from probe.findings.dense.context_lengths import lengths, mean_importance
from probe.findings.passages import passages
from probe.findings.suffix import suffixes
from probe.findings.table import decimals
from probe.render.page import write_page

pytestmark = pytest.mark.slow

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
CHARTS = {
    "band": ["Delta of each band"],
    "suffix": ["Gold continuation chosen, by the length of the prefix"],
    "dense": ["Mean importance of the token at each distance", "Loss by length of the context"],
    "passages": ["Delta of each passage", "Delta by distance of the passage"],
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
    shared = {name: value for name, value in base.items() if name not in ("windows", "conditions")}
    folders = {}
    for kind, changes in PROTOCOLS.items():
        more = {"data": data} if kind == "passages" else {}
        folders[kind] = score(shared, root / kind, name=kind, **changes, **more)
    return folders


@pytest.fixture(scope="module", name="pages")
def pages_of_runs(folders, tmp_path_factory):
    """Their open runs with their findings, and their pages as text."""
    root = tmp_path_factory.mktemp("pages")
    found = {}
    for kind, folder in folders.items():
        run, findings = reported(folder)
        path = write_page([run], [findings], root / f"{kind}.html")
        found[kind] = run, findings, path.read_text("utf-8")
    yield found
    for run, _, _ in found.values():
        run.close()


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_the_page_opens_with_their_answer(kind, pages):
    """One section is the answer: sentence, basis, caveats and charts; of lengths dense has some."""
    _, findings, text = pages[kind]
    page = Page(text)
    (answer,) = (one for one in findings if one.level == "answer" and one.shown)
    assert next(name for name in page.ids if name in {one.id for one in findings}) == "answer"
    words = " ".join(page.words)
    for line in (answer.sentence, answer.basis, *answer.caveats):
        assert line in words
    assert [chart.title for chart in answer.charts if chart.on_page] == CHARTS[kind]
    for title in CHARTS[kind]:
        assert title in page.words
    found = {"curve", "explorer", "tolerance", "classes"} & {*page.ids}
    assert found == ({"curve", "explorer", "tolerance", "classes"} if kind == "dense" else set())


def test_bands(pages):
    """A cell for each band."""
    run, _, text = pages["band"]
    cells = Page(text).cells
    for _, row in run.once(bands).iterrows():
        assert in_words(row) in cells


def test_passages(pages):
    """The passages by name, and by distance."""
    run, _, text = pages["passages"]
    cells = Page(text).cells
    measured = run.once(passages)
    for table in (measured.by_name, measured.by_distance):
        for _, row in table.iterrows():
            assert in_words(row) in cells


def test_suffix(pages):
    """The accuracy behind each prefix; no explorer of the other candidates."""
    run, _, text = pages["suffix"]
    assert run.once(suffixes).windows
    assert "Choices among candidates, by the length of the prefix (tokens)" in Page(text).words


def test_dense(pages):
    """Importance by distance and loss by length; the curve stands below."""
    run, _, text = pages["dense"]
    page = Page(text)
    shown = mean_importance(run).set_index("distance")["importance"]
    for distance in (1, 2, 4, 8, 12):
        assert decimals(shown[distance], 4) in text
    assert decimals(run.once(lengths).table.set_index("context")["nll"][12], 4) in text
    assert page.ids.index("answer") < page.ids.index("curve")


def probe(*arguments):
    return CliRunner().invoke(group, [*map(str, arguments)])


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_their_figure(kind, folders, tmp_path):
    """`probe plot` draws each as its curve; other kinds need lengths."""
    output = tmp_path / f"{kind}.png"
    arguments = ["plot", folders[kind], "--output", output]
    result = probe(*arguments)
    assert result.exit_code == 0, result.stderr
    assert output.read_bytes().startswith(b"\x89PNG")
    if kind == "dense":
        return
    result = probe(*arguments, "--kind", "tolerance")
    assert result.exit_code == 2
    assert f"a run with protocol {kind} has no lengths; allowed: --kind curve" in result.stderr
    result = probe(*arguments, "--condition", "reverse")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    result = probe(*arguments, folders["dense"])
    assert result.exit_code == 2
    assert f"some of the runs have protocol {kind}; allowed: all or none" in result.stderr
    result = probe("plot", folders[kind], folders[kind], "--output", output)
    if kind == "suffix":
        assert result.exit_code == 0, result.stderr
    else:
        assert result.exit_code == 2
        assert f"of protocol {kind} one run is drawn; got 2" in result.stderr


@pytest.mark.parametrize(
    ("kind", "stems"),
    {
        "band": ["bands"],
        "passages": ["passages"],
        "suffix": ["curve"],
        "dense": ["curve"],
    }.items(),
)
def test_what_report_draws(kind, stems, folders, tmp_path):
    """PNG and SVG of the answer in the run's figures, each PNG named."""
    page = tmp_path / "page.html"
    result = probe("report", folders[kind], "--output", page)
    assert result.exit_code == 0, result.output
    figures = folders[kind] / "figures"
    wanted = [f"{stem}.{end}" for stem in stems for end in ("png", "svg")]
    assert [file.name for file in sorted(figures.glob("*"))] == wanted
    for name in wanted:
        assert name.endswith(".svg") or f"Figure: {figures / name}\n" in result.stdout


def test_two_in_one_page(folders, tmp_path):
    """Each in full, with addresses of its own, though their answers are of two kinds."""
    page = tmp_path / "page.html"
    result = probe("report", folders["band"], folders["suffix"], "--output", page)
    assert result.exit_code == 0, result.output
    assert {"run1-answer", "run2-answer"} <= {*Page(page.read_text("utf-8")).ids}
