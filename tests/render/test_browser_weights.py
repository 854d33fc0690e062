"""Colouring by weight in a real browser: by keyboard, in light and dark, on paper."""

import re

import pandas as pd
import pytest
from browser import BROWSER, headless_browser, visit_page  # noqa: F401 (fixtures)
from longppl_run import texts, write
from reported import page_of

from probe.analysis.open_run import open_run
from probe.render.explorer import WEIGHT_STEPS
from probe.training.rules import parse
from probe.training.weigh import weigh

pytestmark = BROWSER
BY = "all => all.map(one => one.dataset.by)"
LOOK = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"


@pytest.fixture(scope="module", name="weights")
def page_with_weights(tmp_path_factory):
    """Its path, and what each token weighs by document and position."""
    folder = tmp_path_factory.mktemp("weights")
    path = write(folder / "run", texts(5))
    with open_run(path, write=False) as run:
        weigh(run, parse("ppmi"), parse("mean_delta"))
    page_of(path, folder / "report.html")
    rows = pd.read_parquet(path / "weights.parquet").astype({"document": str})
    return folder / "report.html", rows.set_index(["document", "position"])["weight"]


def colours_of(window):
    """The level of each token of a window, and whether it is key."""
    return window.locator(".tokens > b").evaluate_all("all => all.map(one => one.className)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tokens_are_coloured_by_weight(visit, weights, scheme):
    """By keyboard, in every window, to the level of the legend; delta comes back as it was."""
    path, weight_of = weights
    page = visit(path, color_scheme=scheme)
    windows, select = page.locator(".window").all(), page.get_by_label("Colour by")
    written = [colours_of(window) for window in windows]
    assert {"delta"} == {*page.locator("[data-by]:visible").evaluate_all(BY)}
    select.focus()
    page.keyboard.press("ArrowDown")
    assert select.input_value() == "weight"
    assert {"weight"} == {*page.locator("[data-by]:visible").evaluate_all(BY)}
    looks = set()
    for window, before in zip(windows, written, strict=True):
        name = window.locator(".window-name")
        document = name.locator("bdi").text_content()
        first = int(re.search(r"tokens ([\d,]+) to", name.text_content())[1])
        now = colours_of(window)
        for place, (look, old) in enumerate(zip(now, before, strict=True)):
            weight = round(float(weight_of[document, first + place]), 3)
            level = f"c{sum(weight >= step for step in WEIGHT_STEPS)}" if weight else "none"
            assert set(look.split()) == {level} | ({"key"} & {*old.split()})
            looks.add(level)
    assert looks >= {"none", "c6", "c8"}
    legend = page.locator(".scale:visible li")
    for look in looks:  # the legend has the colours of the text
        sample = page.locator(f".scale:visible li.{look}").evaluate(LOOK)
        assert sample == page.locator(f".tokens > b.{look}").first.evaluate(LOOK)
    assert legend.last.text_content() == "key token"
    token = page.locator(".window:visible .tokens > b").first
    token.focus()
    told = page.locator("[aria-live]").text_content()
    weight = re.search(r", weight ([\d.]+)$", re.sub("Key token.*", "", told))[1]
    document = page.locator(".window-name:visible bdi").text_content()
    assert float(weight) == pytest.approx(weight_of[document, 12], abs=0.0006)
    page.emulate_media(media="print")
    assert select.is_hidden()
    assert {"weight"} == {*page.locator("[data-by]:visible").evaluate_all(BY)}
    page.emulate_media(media="screen")
    select.select_option("delta")
    page.keyboard.press("Escape")
    again = [colours_of(window) for window in windows]
    assert [[{*one.split()} for one in all] for all in again] == [
        [{*one.split()} for one in all] for all in written
    ]


def test_without_a_script_there_is_no_choice_of_colours(visit, weights):
    page = visit(weights[0], java_script_enabled=False)
    assert page.locator(".choose:visible").count() == 0
    assert {"delta"} == {*page.locator("[data-by]:visible").evaluate_all(BY)}
