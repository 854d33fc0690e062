"""A card as Markdown: names are shown as they are, whatever they would mean there."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from test_card import EXAMPLE, card_of, card_of_example

from probe.cards.markdown import escaped, markdown, table
from probe.text import printable

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = [
    "<script>alert(1)</script>",
    "![x](http://host/p.png) [y](javascript:z)",
    "`code` **bold** _it_ ~~gone~~ $x$",
    "# heading",
    "1. list",
    "2) list",
    "- item",
    "+ item",
    "    code",
    "> quote",
    "---",
    "===",
    "a | b",
    "&lt;&#35;",
    "ends with \\",
    "two\nlines\u202e\x1b[31m",
    "``` fence",
]


def text_of(markup: str) -> str:
    """The text that a paragraph of Markdown shows; nothing else may be in it."""
    tokens = READER.parse(markup)
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    children = tokens[1].children or []
    assert {child.type for child in children} <= {"text", "text_special"}, children
    return "".join(child.content for child in children)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names(text: str) -> None:
    """No markup, at the beginning of a paragraph and in a cell."""
    assert text_of(escaped(text)) == printable(text).strip()
    cells = [token for token in READER.parse(table(["a", "b"], [["x", text]])) if token.children]
    assert len(cells) == 4
    assert "".join(child.content for child in cells[-1].children or []) == printable(text).strip()


@pytest.mark.slow
@given(st.text(min_size=1).filter(str.strip))
def test_every_text_is_shown_as_it_is(text: str) -> None:
    """Read back by a parser of CommonMark, it is the text with its unseen characters escaped."""
    shown = printable(text).strip()
    if shown:
        assert text_of(escaped(text)) == shown


@pytest.mark.slow
def test_card() -> None:
    """The answer comes first; every length, the hash and BibTeX are there."""
    card = card_of_example()
    text = markdown(card, figure="figures/curve.png")
    head, _, rest = text.partition("## Effective context")
    assert card.answers[0].sentences[0].split(" (")[0] in head
    assert "![Loss by distance](figures/curve.png)" in head
    rows = re.findall(r"^\| (truncate|shuffle|replace\S+) \|.*$", rest, re.M)
    assert len(rows) == len(card.effective_context) == 12
    assert "| truncate | 10% | 704 (448–768) | 704 | 448 | 768 |" in rest
    assert card.rows["sha256"] in rest
    assert "```bibtex\n@software{contextprobe," in rest
    assert "…/" not in text


@pytest.mark.slow
def test_unfinished_and_hostile_run(tmp_path: Any) -> None:
    """A run that is not finished says so, and its names break no table."""
    card = card_of(
        EXAMPLE, tmp_path, status="unfinished", name="a|b\n# c", model={"name": "<b>m</b> | x"}
    )
    text = markdown(card)
    assert "**This run is unfinished: more is to be scored.**" in text
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "<b>m</b>" not in html
    assert "&lt;b&gt;m&lt;/b&gt; | x" in html
    assert "<h1>c" not in html
