"""The page in a real browser: offline, by mouse and by keyboard, with hostile text."""

import re
import shutil
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pyarrow.parquet as pq
import pytest
from browser import BROWSER, headless_browser, visit_page  # noqa: F401 (fixtures)
from charts import SAMPLES
from hostile import SPLIT, hostile_run, renamed
from longppl_run import texts, write
from reported import page_of, reported

from probe.findings.base import Finding, findings
from probe.render.page import write_page

EXAMPLE = Path(__file__).parents[2] / "results" / "example"
pytestmark = BROWSER


@pytest.fixture(scope="module", name="example")
def example_page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    run, found = reported(shutil.copytree(EXAMPLE, folder / "example"))
    return run, write_page([run], [found], folder / "report.html")


@pytest.fixture(scope="module", name="hostile")
def hostile_page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    page_of(hostile_run(folder / "run"), folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module", name="keys")
def page_with_key_tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    page_of(write(folder / "run", texts(9)), folder / "report.html", ["kind"])
    return folder / "report.html"


@pytest.fixture(scope="module", name="charts")
def page_with_every_chart(example, tmp_path_factory):
    """A page of the sample charts alone, but for that whose every text is too long."""
    drawn = [make() for name, make in SAMPLES.items() if name != "hostile"]
    finding = Finding("answer", "All charts", "One of each.", charts=drawn)
    path = tmp_path_factory.mktemp("charts") / "report.html"
    return write_page([example[0]], [[finding]], path)


def losses_shown(page):
    """The losses and deltas that are shown, by distance and condition, in nats."""
    names, *rows = page.locator(".drawn table tr").evaluate_all(
        "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
    )
    found = {}
    for distance, *cells in rows:
        for name, cell in zip(names[1:], cells, strict=True):
            if cell != "–":
                numbers = [float(n.replace("−", "-")) for n in re.findall(r"[+−]?\d+\.\d+", cell)]
                found[int(distance.replace(",", "")), name] = tuple(numbers)
    return found


def test_hover_tells_the_numbers_of_the_parquet(visit, example):
    """In every window, for tokens from the first to the last: each row, to a thousandth."""
    run, path = example
    page = visit(path)
    rows = pd.concat([pq.read_table(part).to_pandas() for part in run.folder.parts])
    rows = rows.astype({"document": str, "condition": str})
    starts = pq.read_table(run.path / "windows.parquet").to_pandas()
    select, kinds = page.locator(".choose select"), set()
    for number in range(select.locator("option").count()):
        select.select_option(str(number))
        window = page.locator(".window").nth(number)
        document = window.locator(".window-name bdi").text_content()
        start = int(starts[starts["document"] == document]["start"].iloc[0])
        for place in (0, 1, 17, 300, 1023):
            window.locator(".tokens > b").nth(place).hover()
            own = rows[(rows["document"] == document) & (rows["position"] == start + 1024 + place)]
            intact = own.loc[own["condition"] == "intact", "nll"].item()
            own = own[(own["boundary"] >= 0) & ~own["condition"].str.startswith("noise")]
            found = losses_shown(page)
            assert len(found) == len(own) > 0
            for row in own.itertuples():
                shown = found[row.distance, row.condition]
                assert shown[0] == pytest.approx(row.nll, abs=0.0006)
                assert shown[1] == pytest.approx(row.nll - intact, abs=0.0011)
            assert f"intact loss {intact:.3f}"[:-1] in page.locator(".said p").text_content()
            # What is read aloud is one sentence, without the table.
            assert page.locator("[aria-live] > *").count() == 1
            # A token with one distance has a bar for each condition and for the intact loss.
            single = len({distance for distance, _ in found}) == 1
            drawn = page.locator(".drawn svg.chart")
            assert drawn.locator(".loss").count() == (len(found) + 1 if single else 0)
            assert (drawn.locator(".line").count() >= 2) == (not single)
            kinds.add(single)
    assert kinds == {True, False}


def test_keys_move_and_keep_and_let_go(visit, example):
    """Arrows walk, Enter keeps a token while others are pointed at, Escape lets it go."""
    page = visit(example[1])
    tokens = page.locator(".window >> nth=0 >> .tokens > b")
    place = "(at => [...at.parentElement.children].indexOf(at))(document.activeElement)"
    tokens.first.focus()
    assert page.evaluate(place) == 0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(place) == 1
    assert page.locator('.tokens b[tabindex="0"]').count() == 6  # one a window
    assert "token 1025" in page.locator(".said").text_content()
    page.keyboard.press("ArrowDown")
    below = page.evaluate(place)
    assert below > 1
    page.keyboard.press("ArrowUp")
    assert page.evaluate(place) < below
    page.keyboard.press("End")
    assert page.evaluate(place) == 1023
    page.keyboard.press("Enter")
    assert tokens.last.get_attribute("aria-selected") == "true"
    page.keyboard.press("Home")
    assert "token 2047" in page.locator(".said").text_content()
    page.keyboard.press("Escape")
    assert page.locator(".said").text_content() == "No token is chosen."
    assert page.locator('[aria-selected="true"]').count() == 0


def test_a_click_keeps_and_the_button_lets_go(visit, example):
    """The same by mouse, on a small screen."""
    page = visit(example[1], 420)
    assert page.locator(".details").is_hidden()
    tokens = page.locator(".window >> nth=0 >> .tokens > b")
    tokens.nth(5).click()
    tokens.nth(9).hover()
    assert "token 1029" in page.locator(".said").text_content()
    page.locator(".close").click()
    assert page.locator(".details").is_hidden()


def test_a_tapped_token_stands_above_its_panel(visit, example):
    """On a small screen the panel lies over the text, but not over the token that it tells of."""
    page = visit(example[1], 420)
    start = re.search(r"first is token ([\d,]+)", page.locator(".window-name").first.inner_text())[
        1
    ]
    for place in (40, 500, 1000):
        token = page.locator(".window >> nth=0 >> .tokens > b").nth(place)
        token.scroll_into_view_if_needed()
        token.evaluate("e => window.scrollBy(0, e.getBoundingClientRect().top - 600)")
        token.dispatch_event("click")
        box, panel = token.bounding_box(), page.locator(".details").bounding_box()
        assert 0 <= box["y"] < box["y"] + box["height"] <= panel["y"]
        told = (
            f"token {1024 + place} of the window, {int(start.replace(',', '')) + 1024 + place} of"
        )
        assert told in page.locator(".said").text_content()


def test_wide_tables_stand_in_lines_on_a_small_screen(visit, example):
    """All but long ones, whose rows keep their names while the rest is scrolled."""
    page = visit(example[1], 420)
    page.evaluate("document.querySelectorAll('details').forEach(one => (one.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    wide = page.locator(".scroll").evaluate_all(
        "all => all.filter(e => e.scrollWidth > e.clientWidth + 1)"
        ".map(e => [e.querySelectorAll('tbody tr').length, e.querySelector('th[scope=row]')])"
        ".map(([rows, name]) => [rows, getComputedStyle(name).position])"
    )
    assert all(rows > 48 and position == "sticky" for rows, position in wide)
    names = page.locator(".stacks td").first.evaluate(
        "e => getComputedStyle(e, '::before').content"
    )
    assert names not in ("none", "normal", '""')


def test_hostile_text_is_shown_and_nothing_runs(visit, hostile):
    """Script, quotes, bidi marks and control characters stand there as text."""
    page = visit(hostile)
    assert page.evaluate("window.hacked") is None
    assert page.locator("script").count() == 2
    assert page.locator("main img").count() == 0
    window = page.locator(".window:visible")
    shown = window.locator(".tokens > b").all_text_contents()
    assert len(shown) == 64
    assert shown[6:10] == [SPLIT, "‹2/4›", "‹3/4›", "‹4/4›"]
    for text in ("<script>", "window.hacked=1", "</script>", "U+202E", "U+0000", "U+2028", "&amp;"):
        assert text in shown
    assert "◌\u0301" in shown
    # Wherever a token stands, its neighbours keep their side: the text runs from left to right.
    boxes = window.locator(".tokens > b").evaluate_all(
        "all => all.slice(0, 60).map(b => b.getClientRects()[0]).map(r => [r.top, r.left])"
    )
    for (top, left), (next_top, next_left) in pairwise(boxes):
        assert next_top > top + 2 or next_left >= left
    place = shown.index("<script>")
    window.locator(".tokens > b").nth(place).hover()
    assert page.locator(".said .token").text_content() == "<script>"
    name = renamed("doc00").partition("doc00")[2].replace("\u202e", "[U+202E]")
    assert name in window.locator(".window-name bdi").text_content()
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize("width", [1400, 420])
def test_a_key_token_tells_its_lsd_and_lcl(visit, keys, width):
    """By mouse and by keyboard; LSD is the delta of its row, LCL less its intact loss."""
    page = visit(keys, width)
    window = page.locator(".window:visible")
    marked = window.locator(".tokens > b.key")
    assert marked.count() > 1
    assert f", {marked.count()} key tokens" in window.locator(".window-name").text_content()
    for focus in (marked.first.hover, marked.last.focus):
        focus()
        first, key = page.locator(".said p").all_text_contents()
        lsd, lcl = (float(n.replace("−", "-")) for n in re.findall(r"−?\d+\.\d+", key))
        assert key.startswith("Key token: LSD ")
        assert lsd > 2
        assert lcl > -2
        ((_, delta),) = losses_shown(page).values()
        assert delta == pytest.approx(lsd, abs=0.0015)
        assert f"intact loss {-lcl:.3f} nats" in first
    window.locator(".tokens > b:not(.key)").first.focus()
    assert page.locator(".said p").count() == 1
    border = marked.first.evaluate("e => getComputedStyle(e).borderBottom")
    assert border.startswith("3px solid")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 420])
def test_the_page_fits_in_both_themes(visit, example, width, scheme):
    """Nothing sticks out sideways; the background follows the theme."""
    page = visit(example[1], width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 27)"}[scheme]


@pytest.mark.parametrize("width", [1400, 420])
def test_texts_of_charts_stay_inside(visit, charts, width):
    """Labels of axes, ticks, rules and scales of every chart, also on a small screen."""
    page = visit(charts, width)
    page.evaluate("document.querySelectorAll('details').forEach(one => (one.open = true))")
    assert page.locator("svg.chart:visible").count() == len(SAMPLES) - 1
    outside = page.locator("svg.chart text").evaluate_all(
        "all => all.filter(t => t.textContent).filter(t => {"
        " const own = t.getBoundingClientRect(), all = t.closest('svg').getBoundingClientRect();"
        " return own.left < all.left - 3 || own.right > all.right + 3"
        "  || own.top < all.top - 3 || own.bottom > all.bottom + 3; }).map(t => t.textContent)"
    )
    assert outside == []


@pytest.mark.parametrize("media", ["screen", "print"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_follow_the_theme(visit, charts, scheme, media):
    """Texts, lines and cells without a value are told from the background; paper is white."""
    page = visit(charts, color_scheme=scheme)
    page.emulate_media(media=media, color_scheme=scheme)
    colour = "([name, key]) => getComputedStyle(document.querySelector(name))[key]"
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = scheme == "dark" and media == "screen"
    assert (max(channels(paper)) < 64) == dark
    seen = {
        name: page.evaluate(colour, [name, key])
        for name, key in {
            "svg.chart text": "fill",
            "svg.chart .line.s0": "stroke",
            "svg.chart .line.s5, svg.chart .line.s1": "stroke",
            "svg.chart .cell.none": "fill",
            "svg.chart .cell.c8": "fill",
        }.items()
    }
    for name, found in seen.items():
        apart = max(abs(a - b) for a, b in zip(channels(found), channels(paper), strict=True))
        assert apart > (20 if "none" in name else 60), (name, found)


def channels(colour):
    """Red, green and blue of a colour as a browser gives it."""
    return [float(number) for number in re.findall(r"[\d.]+", colour)[:3]]


def seen(page, selector):
    """How many elements of a kind take room and are not skipped by being folded."""
    return page.locator(selector).evaluate_all(
        "all => all.filter(e => e.getBoundingClientRect().height > 0"
        " && e.checkVisibility({ contentVisibilityAuto: true })).length"
    )


def test_the_answer_and_its_figure_stand_on_the_first_screen(visit, example):
    """At 1400 × 900 both are whole; before anything is opened there are four screens at most."""
    page = visit(example[1])
    for part in (".lead .finding", ".lead .terms", ".lead .drawing", ".lead .drawing svg.chart"):
        box = page.locator(part).first.bounding_box()
        assert 0 <= box["y"] < box["y"] + box["height"] <= 900, part
    chart = page.locator(".lead svg.chart").bounding_box()
    assert min(chart["width"], 1.5 * chart["height"]) > 450  # to be read without being opened
    assert page.evaluate("document.documentElement.scrollHeight") <= 4 * 900
    assert page.locator("details[open]").count() == 0
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(one => one.tagName)")
    assert levels == ["H1"] + ["H2"] * (len(levels) - 1)


def test_a_link_opens_what_it_leads_to(visit, example, tmp_path):
    """A section, a token of another window, and a section of a run among several."""
    run, path = example
    page = visit(path)
    page.evaluate("location.hash = '#tolerance'")
    page.locator(".part-tolerance details[open] svg.chart").wait_for()
    assert 0 <= page.locator("#tolerance").bounding_box()["y"] < 200
    assert page.locator(".fold[open]").count() == 1
    page.locator("#tolerance").click()
    assert page.locator(".fold[open]").count() == 0
    page.locator('a[href="#tolerance"]').click()  # the address is the same as before
    assert page.locator(".fold[open]").count() == 1
    page.locator("#far_words").click()
    link = page.locator('.part-far_words a[href^="#token-"]').last
    link.click()
    token = page.locator(link.get_attribute("href"))
    token.and_(page.locator('[aria-selected="true"]')).wait_for()
    assert page.locator(".window:visible").count() == 1
    box = token.bounding_box()
    assert 0 <= box["y"] <= 900
    position = link.text_content().rpartition(" ")[2].replace(",", "")
    assert f", {position} of the document" in page.locator(".said").text_content()

    both = write_page([run, run], [findings(run)] * 2, tmp_path / "both.html")
    page = visit(both)
    assert page.locator("#run2-tolerance").is_hidden()
    page.evaluate("location.hash = '#run2-tolerance'")
    page.locator(".part-tolerance details[open] svg.chart").wait_for()
    assert page.locator(".fold[open]").count() == 2


def test_the_browsers_search_opens_what_it_finds(visit, example):
    """A text inside a folded section is found, as by the search of the page."""
    page = visit(example[1], fragment=f":~:text={quote('where a line is missing')}")
    assert page.content().count("where a line is missing") == 1
    page.locator(".part-tolerance details[open] svg.chart").wait_for()
    assert page.locator(".fold[open]").count() == 1


def test_paper_has_everything_and_the_screen_is_as_before(visit, example):
    """Before printing every section opens, and closes again; numbers behind figures stay folded."""
    page = visit(example[1])
    page.locator("#tolerance").click()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open], .before, figcaption details)").count() == 0
    assert page.locator("figcaption details[open]").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator(".fold[open]").count() == page.locator("details[open]").count() == 1


def test_tables_of_charts_open_by_keyboard(visit, example):
    """The summary takes the focus, Enter unfolds the numbers."""
    page = visit(example[1])
    folded = page.locator("figure details").first
    assert folded.get_attribute("open") is None
    assert not folded.locator("table").is_visible()
    folded.locator("summary").focus()
    page.keyboard.press("Enter")
    assert folded.locator("table").is_visible()


def test_without_javascript_everything_but_the_details_is_there(visit, example):
    """Tokens with their colours, all windows, charts and tables; no empty panel.

    What is folded opens by a click, and on paper.
    """
    page = visit(example[1], java_script_enabled=False)
    assert page.locator(".window:visible").count() == 6
    assert page.locator('.window:visible b[class^="c"]').count() == 6 * 1024
    assert page.locator("svg.chart:visible").count() == 1
    assert page.locator(".details:visible, .choose:visible").count() == 0
    page.locator("#tolerance").click()
    assert page.locator(".part-tolerance svg.chart").is_visible()
    page.emulate_media(media="print")
    assert seen(page, "svg.chart") == page.locator("svg.chart").count() > 8
    assert seen(page, "table") == page.locator("table:not(figcaption table)").count() > 8
    assert page.locator("noscript p").count() == 1


def test_paper_is_white_and_without_controls(visit, example):
    """Also when the screen is dark."""
    page = visit(example[1], color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("nav:visible, .choose:visible, .details:visible").count() == 0
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(255, 255, 255)"
    assert page.locator(".tokens >> nth=0").evaluate("e => e.scrollHeight - e.clientHeight") == 0
