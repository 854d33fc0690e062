"""The page of runs: whole, small, safe, and readable in both themes."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from charts import HOSTILE, curve
from hostile import ATTACK, hostile_run
from markupsafe import escape
from reported import Page, page_of, reported
from simulated import Simulation, write_run

from probe.errors import ProbeError, UsageError
from probe.findings.base import Finding, findings_of_all
from probe.findings.table import Table
from probe.render.explorer import STEPS
from probe.render.page import write_page
from probe.render.style import COLOURS
from probe.text import unbroken

EXAMPLE = Path(__file__).parents[2] / "results" / "example"
ASSETS = Path(__file__).parents[2] / "probe" / "render" / "assets"
SECTIONS = [
    *("answer", "explorer", "numbers", "prediction", "classes", "occurrences", "far_words"),
    *("contrasts", "information", "tolerance", "shares", "quantiles", "positions", "documents"),
    *("detectable", "run", "configuration"),
]
CURVES = {"truncate": lambda d: 0.5 / (1 + d), "shuffle": lambda d: 1 / (1 + d)}
SMALL = {"windows": 1, "length": 128, "boundaries": (64,), "reach": 64}


@pytest.fixture(scope="module", name="example")
def example_findings(tmp_path_factory):
    return reported(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("page") / "example"))


@pytest.fixture(scope="module", name="small")
def short_windows(tmp_path_factory):
    """As many parts as the example, in windows of 128 tokens: a page of it is soon written."""
    run = Simulation(CURVES, **SMALL)
    return reported(write_run(tmp_path_factory.mktemp("small") / "run", run), ["kind"])


@pytest.fixture(scope="module", name="page")
def example_page(example, tmp_path_factory):
    run, found = example
    path = write_page([run], [found], tmp_path_factory.mktemp("page") / "report.html")
    return path.read_text("utf-8")


@pytest.mark.slow
def test_the_answer_comes_first_and_every_finding_has_a_link(example, page):
    """Sections in the order of reading, each with an address; what is open is linked above, too."""
    _, found = example
    parsed = Page(page)
    assert [name for name in parsed.ids if name in SECTIONS] == SECTIONS
    answer = next(one for one in found if one.level == "answer")
    assert answer.sentence in "".join(parsed.words)
    assert answer.basis in "".join(parsed.words)
    for line in (*answer.caveats, *(line for one in found for line in one.headlines)):
        assert line in "".join(parsed.words)
    for name in SECTIONS:
        assert parsed.links.count(f"#{name}") == (2 if name in SECTIONS[:3] else 1)
    assert "#findings" in parsed.links
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {link.removeprefix("#") for link in parsed.links if link != "data:,"} <= {*parsed.ids}


@pytest.mark.slow
def test_the_order_is_that_of_the_findings(small, tmp_path):
    """The first is told in full around the explorer, the others are folded behind it."""
    run, found = small
    more = [
        Finding("late", "Late", "Late.", level="detail", order=60),
        Finding("early", "Early", "Early.", level="answer", order=40),
        Finding("silent", "Silent", notes=["a note that stands with the answer"]),
    ]
    every = sorted([*found, *more], key=lambda one: one.order)
    text = write_page([run], [every], tmp_path / "report.html").read_text("utf-8")
    ids = Page(text).ids
    places = [ids.index(name) for name in ("answer", "explorer", "numbers", "early", "late")]
    assert places == sorted(places)
    assert "silent" not in ids
    first = text[text.index('id="answer"') : text.index('id="early"')]
    assert "a note that stands with the answer" in first


@pytest.mark.slow
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


@pytest.mark.slow
def test_numbers_of_the_curve_are_in_its_table(example, page):
    """Every bin of every condition, with its interval; a cell breaks between the two, if at all."""
    run, _ = example
    cells = Page(page).cells
    rows = run.curve[~run.curve["condition"].str.startswith("noise")]
    for row in rows.sample(20, random_state=0).itertuples():
        cell = f"{row.delta:.3f} ({row.low:.3f} to {row.high:.3f})".replace("-", "−")
        assert cell in cells
        value, interval = cell.split(" ", 1)
        assert f"<span>{value}</span> <span>{interval}</span></td>" in page


@pytest.mark.slow
def test_every_folded_section_says_what_follows_from_it(example, small, page):
    """Title and sentence are the summary; all else, and the configuration, is inside."""
    for _, found in (example, small):
        assert all(one.sentence for one in found if one.shown)
    folds = re.findall(
        r'<details class="fold[^"]*"><summary><h2 id="(\w+)">.*?<span class="finding">(.*?)</span>'
        "</summary>",
        page,
        flags=re.DOTALL,
    )
    assert [name for name, _ in folds] == SECTIONS[3:]
    said = {one.id: str(escape(unbroken(one.sentence))) for one in example[1] if one.shown}
    assert all(sentence == said.get(name, sentence) for name, sentence in folds)


@pytest.mark.slow
def test_words_are_defined_where_they_are_first_used(small, tmp_path):
    """Once each, in the order in which they are met; what is never used is not defined."""
    run, _ = small
    words = {
        "alpha": "a letter",
        "beta(x=1)": "one with a value",
        "gamma": "unused",
        "kind": "sort",
    }
    found = [
        Finding("answer", "The answer", "Alpha is more than 3."),
        Finding("other", "Other", "Under beta(x=1) alpha is of a kind.", headlines=["By kind."]),
        Finding("words", "Words", terms=words),
    ]
    text = write_page([run], [found], tmp_path / "report.html").read_text("utf-8")
    terms = re.findall(r"<dt><bdi>(.*?)</bdi></dt><dd>(.*?)</dd>", text)
    assert terms == [("alpha", "a letter"), ("kind", "sort"), ("beta(x=1)", "one with a value")]
    lead, rest = text.split('<section aria-labelledby="numbers"')
    assert "a letter" in lead
    assert "sort" in rest.partition('id="findings"')[0]  # the headline stands there


@pytest.mark.slow
def test_charts_are_named_and_explained(example, page):
    """Each drawing has a name for a screen reader, each figure a line that tells how to read it."""
    _, found = example
    drawn = [chart for one in found for chart in one.charts if chart.on_page]
    charts = [a for tag, a in Page(page).tags if tag == "svg" and a["class"] == "chart"]
    assert len(charts) == len(drawn) > 8
    assert all(a["aria-label"] and a["role"] == "img" for a in charts)
    assert page.count("<figcaption>\n<p>") == len(drawn)
    assert page.count("<details><summary>Table:") >= len(drawn)
    assert page.count('<th scope="col">seen nowhere</th>') == 2
    assert page.count('<th scope="col">seen far</th>') == 2


def test_tables_are_shown_where_they_say(small, tmp_path):
    """Those of the terminal alone are left out, long ones are folded, empty ones are none."""
    run, _ = small
    rows = [[str(number), "x"] for number in range(31)]
    tables = [
        Table("of the terminal", ["a", "b"], rows[:1], shown="terminal"),
        Table("of both", ["a", "b"], rows[:30], shown="both"),
        Table("a long one", ["a", "b"], rows),
        Table("an empty one", ["a", "b"], []),
    ]
    finding = Finding("answer", "The answer", "A sentence.", tables=tables)
    text = write_page([run], [[finding]], tmp_path / "report.html").read_text("utf-8")
    assert "of the terminal" not in text
    assert "an empty one" not in text
    assert "<caption><span>of both</span></caption>" in text
    assert "<details><summary>Table: <bdi>a long one</bdi> (31 rows)</summary>" in text
    assert "<details><summary>Table: <bdi>of both" not in text


def test_charts_of_files_alone_are_left_out(small, tmp_path):
    """A chart says whether the page has it."""
    run, _ = small
    charts = [curve(title="seen"), curve(title="unseen", on_page=False)]
    finding = Finding("answer", "The answer", "A sentence.", charts=charts)
    text = write_page([run], [[finding]], tmp_path / "report.html").read_text("utf-8")
    assert "<bdi>seen</bdi>" in text
    assert "unseen" not in text


@pytest.mark.slow
def test_a_run_of_noise_alone_and_an_unresolved_one(tmp_path):
    """No curve, and too few documents: both have a page that says so."""
    for name, simulation, words in (
        ("noise", Simulation({}), "no condition with a curve was scored"),
        ("few", Simulation({"truncate": lambda d: 0 * d}, documents=2), "unresolved"),
        ("one", Simulation({"shuffle": lambda d: 0 * d}, documents=1), "unresolved"),
    ):
        folder = write_run(tmp_path / name, simulation)
        text = page_of(folder, tmp_path / f"{name}.html", ["kind"])
        assert words in "".join(Page(text).words)
        assert "nan" not in re.sub("<script.*?</script>", "", text, flags=re.DOTALL)


@pytest.mark.slow
def test_several_runs_are_drawn_over_one_another(tmp_path):
    """One line a run, a table, and each run in full with addresses of its own."""
    curves = {"truncate": lambda d: 0.5 / (1 + d)}
    every = [
        reported(write_run(tmp_path / str(seed), Simulation(curves, seed=seed, **SMALL)), ["kind"])
        for seed in (0, 1)
    ]
    runs, found = [run for run, _ in every], [one for _, one in every]
    together = findings_of_all(runs, found)
    path = write_page(runs, found, tmp_path / "report.html", together)
    parsed = Page(path.read_text("utf-8"))
    assert {"runs", "run1-answer", "run2-answer", "run1-explorer", "run2-run"} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert "simulated (0): truncate" in parsed.words  # the folders are called 0 and 1
    assert "simulated (1): truncate" in parsed.words


@pytest.mark.slow
def test_hostile_names_are_text(tmp_path):
    """No element of the page comes from the data, and no character turns its text around."""
    run, found = reported(hostile_run(tmp_path / "run"))
    rows = [[HOSTILE, ATTACK]]
    found.append(
        Finding(
            "hostile",
            ATTACK,
            HOSTILE,
            ATTACK,
            tables=[Table(HOSTILE, [ATTACK, HOSTILE], rows)],
            charts=[curve(title=ATTACK, how=HOSTILE, tables=[Table(ATTACK, [HOSTILE], rows[:0])])],
            caveats=[ATTACK, HOSTILE],
            more=[ATTACK],
            headlines=[HOSTILE],
            notes=[ATTACK],
        )
    )
    text = write_page([run], [found], tmp_path / "report.html").read_text("utf-8")
    two = write_page([run, run], [found, found], tmp_path / "two.html").read_text("utf-8")
    assert "&lt;b&gt;run[U+D800]&lt;/b&gt; (2)" in two
    parsed = Page(text)
    scripts = [a for tag, a in parsed.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "class": "losses"}, {}]
    assert "img" not in {tag for tag, _ in parsed.tags}
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u2028\x00\x1b\x07]", text)
    assert "[U+202E]" in text
    assert not [a for _, a in parsed.tags if any(name.startswith("on") for name in a)]


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


@pytest.mark.slow
def test_mistakes_are_one_line(small, tmp_path):
    """No run, and a place that cannot be written to; nothing half-written is left."""
    run, found = small
    with pytest.raises(UsageError, match="at least one"):
        write_page([], [], tmp_path / "report.html")
    (tmp_path / "file").touch()
    with pytest.raises(ProbeError, match="cannot write"):
        write_page([run], [found], tmp_path / "file" / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_equal_runs_give_equal_pages(small, tmp_path):
    """The page holds nothing of the hour it was written in."""
    run, found = small
    first = write_page([run], [found], tmp_path / "a.html").read_bytes()
    assert first == write_page([run], [found], tmp_path / "b.html").read_bytes()


@pytest.mark.slow
def test_findings_are_left_as_they_were(small, tmp_path):
    """A renderer changes nothing that it shows."""
    run, found = small
    before = [replace(one) for one in found]
    write_page([run], [found], tmp_path / "report.html")
    assert [vars(one) for one in found] == [vars(one) for one in before]
