"""`probe plot`: a figure of every kind, in the format that its file asks for, or one line."""

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from command_line import INSIDE, process
from simulated import Simulation, write_run

from probe.commands.main import group
from probe.findings.base import plots
from probe.text import slug

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "replace(source='document')": lambda d: np.where(d < 64, 0.4, 0.0),
    "shuffle": lambda d: 0.5 / (1 + d),
}
KINDS = {
    "curve": ["curve"],
    "classes": ["classes-copy", "classes-frequency", "classes-kind", "classes-last_occurrence"],
    "information": ["information"],
    "tolerance": ["tolerance"],
    "heatmap": ["heatmap"],
}
STARTS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture(scope="module", name="run")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up run; tests draw it into folders of their own."""
    simulation = Simulation(CURVES, windows=1, length=256, boundaries=(128,), reach=128)
    return write_run(tmp_path_factory.mktemp("plot") / "run", simulation)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy that may be written into."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def plot(*arguments: object) -> tuple[int, list[str], str]:
    """Status, the files that were named, and what was said on stderr."""
    result = CliRunner().invoke(group, ["plot", *map(str, arguments)])
    files = [line.removeprefix("Figure: ") for line in result.stdout.splitlines()]
    return result.exit_code, files, result.stderr


@pytest.mark.slow
def test_help_is_that_of_the_findings(tmp_path: Path) -> None:
    """Every kind and every option of theirs, without a library that takes seconds."""
    done = process("-c", INSIDE, "plot", "--help", caches=tmp_path, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    every = plots()
    assert re.search(r"--kind \[([\w|]+)\]", done.stdout)[1].split("|") == list(
        dict.fromkeys(one.kind for one in every)
    )
    for option in (option for one in every for option in one.options):
        assert f"  {option.flag} " in done.stdout
    loaded = set(json.loads(done.stderr.splitlines()[-1])["loaded"])
    assert not {"torch", "transformers", "datasets", "matplotlib"} & loaded


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_one_run(kind: str, copy: Path) -> None:
    """PNG and SVG in the run's figures, each named; classes have a file each."""
    status, files, told = plot(copy, "--kind", kind)
    assert status == 0, told
    found = sorted((copy / "figures").iterdir())
    assert sorted(files) == [str(path) for path in found]
    assert {path.suffix for path in found} == {".png", ".svg"}
    assert {path.stem for path in found} >= set(KINDS[kind])
    for path in found:
        assert path.read_bytes().startswith(STARTS[path.suffix])
    assert not (copy / "summary.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", STARTS)
def test_a_file_says_its_format(suffix: str, run: Path, tmp_path: Path) -> None:
    """One file and no other, in a folder that is made; nothing is written into the run."""
    before = sorted(run.rglob("*"))
    output = tmp_path / "paper" / f"figure.v1{suffix}"
    status, files, told = plot(run, "--output", output, "--condition", "shuffle")
    assert status == 0, told
    assert files == [str(output)]
    assert list(output.parent.iterdir()) == [output]
    assert output.read_bytes().startswith(STARTS[suffix])
    assert sorted(run.rglob("*")) == before


@pytest.mark.slow
def test_one_class(copy: Path) -> None:
    """A class that is asked for has the file's own name, also one of the user's."""
    mine = copy / "mine.py"
    mine.write_text(
        "def even(window):\n    return [bool(at % 2 == 0) for at in window.ids]\n", encoding="utf-8"
    )
    output = copy / "even.png"
    options = ("--kind", "classes", "--class", f"{mine}:even", "--output", output)
    status, files, told = plot(copy, *options)
    assert status == 0, told
    assert files == [str(output)]


@pytest.mark.slow
def test_two_runs(run: Path, copy: Path, tmp_path: Path) -> None:
    """Compared in tokens or bytes, or their curves over one another, in the first run's figures."""
    for options in (("--kind", "compare"), ("--kind", "compare", "--unit", "bytes"), ()):
        status, files, told = plot(copy, run, *options)
        assert status == 0, told
        name = "-".join(["compare", *options[3:]]) if options else "curves"
        assert files == [str(copy / "figures" / f"{name}{end}") for end in (".png", ".svg")]


@pytest.mark.slow
def test_heatmap_by_position(run: Path, tmp_path: Path) -> None:
    """Another figure than by document."""
    outputs = [tmp_path / f"{by}.png" for by in ("document", "position")]
    for output in outputs:
        options = ("--kind", "heatmap", "--by", output.stem, "--output", output)
        assert plot(run, *options)[0] == 0
    assert outputs[0].read_bytes() != outputs[1].read_bytes()


@pytest.mark.slow
def test_what_is_asked_for_stands_in_the_name(copy: Path) -> None:
    """A figure of one condition, or class, or by position replaces none of the others."""
    for options, name in {
        (): "curve",
        ("--condition", "replace(source='document')"): "curve-replace-source-document",
        ("--kind", "heatmap", "--by", "position"): "heatmap-position",
        ("--kind", "heatmap", "--by", "document"): "heatmap",
        ("--kind", "heatmap", "--condition", "shuffle"): "heatmap-shuffle",
        ("--kind", "classes", "--class", "copy"): "classes-copy",
        ("--kind", "classes", "--class", "copy", "--condition", "shuffle"): "classes-shuffle-copy",
    }.items():
        _, files, told = plot(copy, *options)
        assert files == [str(copy / "figures" / f"{name}{end}") for end in (".png", ".svg")], told


def svg_texts(file: Path) -> list[str]:
    """The texts of a figure, which stand in it as text."""
    found = re.findall(r"<text[^>]*>(.*?)</text>", file.read_text(encoding="utf-8"), re.DOTALL)
    return [html.unescape(text) for text in found]


@pytest.mark.slow
def test_title_and_labels_are_the_users(run: Path, tmp_path: Path) -> None:
    """In every text that has the name, and in no longer name; a name may hold equals signs."""
    output = tmp_path / "figure.svg"
    labels = ("truncate=no far text", "replace(source='document')=a = b $x$", "shuffle=order")
    options = [part for label in labels for part in ("--label", label)]
    status, _, told = plot(run, "--output", output, "--title", "Mine & yours", *options)
    assert status == 0, told
    texts = svg_texts(output)
    assert "Mine & yours" in texts
    assert {"no far text", "a = b $x$", "order"} < set(texts)
    assert "no far text, 1 %: 32" in texts
    assert not [text for text in texts if "truncate" in text or "shuffle" in text]
    assert plot(run, "--output", output, "--title", "none")[0] == 0
    assert "made-up" not in svg_texts(output)
    assert "truncate" in svg_texts(output)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classes", "information", "tolerance", "heatmap"])
def test_title_label_and_size_are_for_every_kind(kind: str, run: Path, tmp_path: Path) -> None:
    """The figure is as large as was asked for, and has the label where it has the condition."""
    only = ("--class", "kind") if kind == "classes" else ()
    output = tmp_path / "figure.svg"
    options = ("--title", "none", "--size", "5x6.5", "--output", output)
    if kind in ("information", "tolerance"):
        options += ("--label", "truncate=no far text")
    status, _, told = plot(run, "--kind", kind, *only, *options)
    assert status == 0, told
    assert 'width="360pt" height="468pt"' in output.read_text(encoding="utf-8")
    if kind in ("information", "tolerance"):
        assert any("no far text" in text for text in svg_texts(output))


@pytest.mark.slow
def test_columns_and_bins(run: Path, tmp_path: Path) -> None:
    """Both columns are wider than one; more bins are more points, and change nothing else."""
    texts = []
    for size, bins, width in (("single", 1, "237.6pt"), ("double", 8, "489.6pt")):
        output = tmp_path / f"{size}.svg"
        status, _, told = plot(run, "--output", output, "--size", size, "--bins", bins)
        assert status == 0, told
        assert f'width="{width}"' in output.read_text(encoding="utf-8")
        texts.append(svg_texts(output))
    assert {"truncate", "truncate, 1 %: 32"} < set(texts[0]) & set(texts[1])


def test_a_name_for_a_file() -> None:
    """Short enough for any disk, never empty, and different for different long conditions."""
    long = [f"{sign}{'漢' * 300}" for sign in "ab"]
    names = [slug(text) for text in long]
    assert names[0][1:] != names[1][1:]
    assert all(len(name.encode()) < 100 for name in names)
    assert slug("'/'") == "unnamed"
    assert slug("[drop(rate=0.5), shuffle]") == "drop-rate-0.5-shuffle"


MISTAKES = {
    "--class": (("--class", "copy"), 2, "--class belongs to --kind classes; got --kind curve"),
    "--by": (("--by", "document"), 2, "--by belongs to --kind heatmap; got --kind curve"),
    "--unit": (("--unit", "bytes"), 2, "--unit belongs to --kind compare; got --kind curve"),
    "--window": (("--window", "0"), 2, "--window belongs to --kind importance; got"),
    "--document": (("--document", "a"), 2, "--document belongs to --kind importance; got"),
    "--measure": (("--measure", "nll"), 2, "--measure belongs to --kind importance; got"),
    "--condition": (
        ("--kind", "importance", "--condition", "shuffle"),
        2,
        "--condition belongs to --kind curve, classes, .*; got --kind importance",
    ),
    "empty": (("--output", ""), 2, "--output '' is no name; allowed: a file"),
    "format": (("--output", "figure.tiff"), 2, "'figure.tiff': allowed: .* .png, .svg or .pdf"),
    "no suffix": (("--output", "figure"), 2, "--output 'figure': allowed"),
    "condition": (("--condition", "reverse"), 2, "'reverse' was not found; allowed: .*truncate"),
    "condition of a heatmap": (
        ("--kind", "heatmap", "--condition", "reverse"),
        2,
        "'reverse' was not scored; allowed: .*truncate",
    ),
    "class": (("--kind", "classes", "--class", "coppy"), 2, "'coppy'; did you mean 'copy'"),
    "--bins": (("--kind", "heatmap", "--bins", "2"), 2, "--bins belongs to --kind curve; got"),
    "bins": (("--bins", "3"), 2, "--bins 3: .* 8 bins per octave; allowed: 1, 2, 4, 8"),
    "size": (("--size", "wide"), 2, "--size 'wide': allowed: single, double, or width x height"),
    "small": (("--size", "1x9"), 2, "--size '1x9': allowed"),
    "low": (("--size", "3x1"), 2, "a height of 1 has no room .* at least .* inches"),
    "label": (("--label", "truncate"), 2, "--label 'truncate': allowed: NAME=TEXT"),
    "blank label": (("--label", "truncate= "), 2, "--label 'truncate= ': allowed: NAME=TEXT"),
    "no such name": (("--label", "cut=x"), 2, "--label 'cut': .* no such name; allowed: truncate,"),
    "one run": (("--kind", "compare"), 2, "compare takes two runs; got 1"),
    "noise": (("--condition", "noise"), 1, "--kind curve of .*: no run with a curve to draw"),
}


@pytest.mark.parametrize(("options", "status", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(options: tuple[str, ...], status: int, words: str, run: Path) -> None:
    """Each is one line, and no file is written."""
    before = sorted(run.rglob("*"))
    code, files, told = plot(run, *options)
    assert code == status
    assert not files
    assert re.match(f"Error: .*{words}", told), told
    assert told.count("\n") == 1
    assert sorted(run.rglob("*")) == before


def test_too_many_runs(run: Path) -> None:
    """A heatmap is of one run."""
    code, _, told = plot(run, run, "--kind", "heatmap")
    assert code == 2
    assert told == "Error: --kind heatmap takes one run; got 2\n"


@pytest.mark.slow
def test_nothing_to_contrast(tmp_path: Path) -> None:
    """What was not scored is named."""
    run = write_run(tmp_path / "run", Simulation({"shuffle": CURVES["shuffle"]}, windows=1))
    code, _, told = plot(run, "--kind", "information")
    assert code == 1
    assert "not scored: 'truncate'" in told
