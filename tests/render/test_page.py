"""The page of a run: whole, small, safe, and readable in both themes."""

import dataclasses
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from explained_run import Explained, explained
from hostile import ATTACK, hostile_run
from probe.report.explorer import STEPS
from probe.report.page import write_page
from simulated import Simulation, write_run

from probe.analysis.answer import basis, sentence
from probe.analysis.summary import summarise
from probe.errors import ProbeError, UsageError
from probe.plots.style import COLOURS

EXAMPLE = Path(__file__).parents[2] / "results" / "example"
ASSETS = Path(__file__).parents[2] / "probe" / "report" / "assets"
SECTIONS = [
    *("answer", "curve", "explorer", "classes", "occurrences", "contrasts", "information"),
    *("tolerance", "shares", "positions", "documents", "detectable", "run"),
]


class Page(HTMLParser):
    """What a page holds: addresses, links, attributes, and its text without markup."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.tags, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module", name="summary")
def example_summary(tmp_path_factory):
    folder = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("page") / "example")
    return summarise(folder, write=False)


@pytest.fixture(scope="module", name="small")
def summary_of_short_windows(tmp_path_factory):
    """As many parts as the example, in windows of 128 tokens: a page of it is soon written."""
    curves = {"truncate": lambda d: 0.5 / (1 + d), "shuffle": lambda d: 1 / (1 + d)}
    run = Simulation(curves, windows=1, length=128, boundaries=(64,), reach=64)
    return summarise(write_run(tmp_path_factory.mktemp("small") / "run", run), write=False)


@pytest.fixture(scope="module", name="page")
def example_page(summary, tmp_path_factory):
    path = write_page(explained(summary), tmp_path_factory.mktemp("page") / "report.html")
    return path.read_text("utf-8")


def test_the_answer_comes_first_and_every_finding_has_a_link(summary, page):
    """Sections in the order of reading, each with an address that the page links to twice."""
    found = Page(page)
    assert [name for name in found.ids if name in SECTIONS] == SECTIONS
    assert sentence(summary) in "".join(found.words)
    assert basis(summary) in "".join(found.words)
    for name in SECTIONS:
        assert found.links.count(f"#{name}") == 2
    assert len(found.ids) == len(set(found.ids))
    assert {link.removeprefix("#") for link in found.links if link != "data:,"} <= {*found.ids}


def test_the_page_is_small_and_needs_nothing(page):
    """At most 1.5 MB; no address of anything outside, no inline style, a closed policy."""
    assert len(page.encode()) < 1_500_000
    found = Page(page)
    assert not [a for _, a in found.tags if {"src", "style", "onload", "onclick"} & a.keys()]
    policy = next(a["content"] for tag, a in found.tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert all(link[0] == "#" or link == "data:," for link in found.links)
    style = "".join(re.findall("<style>(.*?)</style>", page, flags=re.DOTALL))
    assert not re.search(r"url\(|@import", style)


def test_numbers_of_the_curve_are_in_its_table(summary, page):
    """Every bin of every condition, with its interval."""
    rows = summary.curve[~summary.curve["condition"].str.startswith("noise")]
    for row in rows.sample(20, random_state=0).itertuples():
        cell = f"{row.delta:.3f} ({row.low:.3f} to {row.high:.3f})".replace("-", "−")
        assert cell in page


def test_charts_are_named_and_explained(page):
    """Each drawing has a name for a screen reader, each figure a line that tells how to read it."""
    charts = [a for tag, a in Page(page).tags if tag == "svg" and a["class"] == "chart"]
    assert len(charts) == 8
    assert all(a["aria-label"] and a["role"] == "img" for a in charts)
    assert page.count("<figcaption>\n<p>") == 8
    assert page.count("<details><summary>Table:") >= 8
    assert page.count('<th scope="col">seen nowhere</th>') == 1
    assert page.count('<th scope="col">seen far</th>') == 2


def test_a_run_without_findings_has_its_answer(small, tmp_path):
    """Frames that are empty, ``None`` or missing leave their sections out."""

    @dataclasses.dataclass(frozen=True)
    class Bare:
        summary: object

    nothing = {
        field.name: None for field in dataclasses.fields(Explained) if field.name != "summary"
    }
    for given in (Explained(small), Explained(small, **nothing), Bare(small)):
        text = write_page(given, tmp_path / "report.html").read_text("utf-8")
        left = ["answer", "curve", "explorer", "contrasts", "shares", "positions", "documents"]
        assert [name for name in Page(text).ids if name in SECTIONS] == [*left, "run"]


def test_a_run_of_noise_alone_and_an_unresolved_one(tmp_path):
    """No curve, and too few documents: both have a page that says so."""
    for name, simulation, said in (
        ("noise", Simulation({}), "no condition with a curve was scored"),
        ("few", Simulation({"truncate": lambda d: 0 * d}, documents=2), "unresolved"),
        ("one", Simulation({"shuffle": lambda d: 0 * d}, documents=1), "unresolved"),
    ):
        summary = summarise(write_run(tmp_path / name, simulation), write=False)
        text = write_page(Explained(summary), tmp_path / f"{name}.html").read_text("utf-8")
        assert said in "".join(Page(text).words)
        assert "nan" not in re.sub("<script.*?</script>", "", text, flags=re.DOTALL)


def test_several_runs_are_drawn_over_one_another(tmp_path):
    """One line a run, a table, and each run in full with addresses of its own."""
    curves = {"truncate": lambda d: 0.5 / (1 + d)}
    summaries = [
        summarise(
            write_run(tmp_path / str(seed), Simulation(curves, seed=seed)),
            write=False,
        )
        for seed in (0, 1)
    ]
    every = [Explained(summary) for summary in summaries]
    found = Page(write_page(every, tmp_path / "report.html").read_text("utf-8"))
    assert {"runs", "run1-answer", "run2-answer", "run1-explorer", "run2-run"} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert "simulated (0): truncate" in found.words  # the folders are called 0 and 1
    assert "simulated (1): truncate" in found.words
    table = pd.DataFrame({"run": ["a", "b"], "loss": [1.23456, None]})
    words = Page(write_page(every, tmp_path / "two.html", runs=table).read_text("utf-8")).words
    assert "1.235" in words


def test_a_class_too_small_for_an_answer_is_named_and_not_drawn(small, tmp_path):
    """The other values of its class are drawn, as the fits that lengths are read from."""
    full = explained(small)
    contexts = full.class_contexts.copy()
    contexts.loc[contexts["value"] == "rest", "kind"] = "unresolved"
    path = tmp_path / "report.html"
    drawn = dataclasses.replace(full, class_contexts=contexts)
    text = write_page(drawn, path).read_text("utf-8")
    words = Page(text).words
    assert "frequency: unresolved, hence not drawn: rest" in words
    assert "copy: unresolved, hence not drawn: yes (3 documents, at least 6 needed)" in words
    assert "unresolved: too few documents" in words
    assert "copy: no class" in words
    assert "<bdi>top 10 %</bdi>" in text
    assert "<bdi>rest</bdi>" not in text
    contexts["kind"] = "unresolved"
    drawn = dataclasses.replace(full, class_contexts=contexts)
    text = write_page(drawn, path).read_text("utf-8")
    assert "frequency: delta under truncate" not in text
    assert "frequency: unresolved, hence not drawn: top 10 %, rest" in text


def test_hostile_names_are_text(tmp_path):
    """No element of the page comes from the data, and no character turns its text around."""
    summary = summarise(hostile_run(tmp_path / "run"), write=False)
    path = write_page(explained(summary, name=ATTACK), tmp_path / "report.html")
    text = path.read_text("utf-8")
    two = write_page([Explained(summary)] * 2, tmp_path / "two.html").read_text("utf-8")
    assert "&lt;b&gt;run[U+D800]&lt;/b&gt; (2)" in two
    found = Page(text)
    scripts = [a for tag, a in found.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "class": "losses"}, {}]
    assert "img" not in {tag for tag, _ in found.tags}
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u2028\x00\x1b\x07]", text)
    assert "[U+202E]" in text
    assert not [a for _, a in found.tags if any(name.startswith("on") for name in a)]


def test_colours_can_be_read_and_are_those_of_the_figures():
    """Text on every colour has a contrast of 4.5 at least, in light and in dark."""
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", part))
        for part in (ASSETS / "colours.css").read_text("utf-8").split("@media")
    )
    assert tuple(light[f"l{look}"].upper() for look in range(6)) == COLOURS
    for theme in (light, dark):
        for number in range(len(STEPS) + 1):
            assert contrast(theme[f"c{number}"], theme[f"t{number}"]) >= 4.5
        for name in ("ink", "soft", "accent"):
            assert contrast(theme["paper"], theme[name]) >= 4.5
            assert contrast(theme["raised"], theme[name]) >= 4.5
    assert light.keys() == dark.keys()


def contrast(one, other):
    """WCAG 2.1: relative luminances, the lighter over the darker."""
    lights = []
    for colour in (one, other):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_mistakes_are_one_line(summary, tmp_path):
    """No run, and a place that cannot be written to; nothing half-written is left."""
    with pytest.raises(UsageError, match="at least one"):
        write_page([], tmp_path / "report.html")
    (tmp_path / "file").touch()
    with pytest.raises(ProbeError, match="cannot write"):
        write_page(Explained(summary), tmp_path / "file" / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_equal_runs_give_equal_pages(small, tmp_path):
    """The page holds nothing of the hour it was written in."""
    first = write_page(explained(small), tmp_path / "a.html").read_bytes()
    assert first == write_page(explained(small), tmp_path / "b.html").read_bytes()
