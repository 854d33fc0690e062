"""Hostile text is shown as text, and nothing of it is lost."""

import html
import re
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from probe.render.markup import text_markup, token_markup, token_texts, visible


def test_unseen_characters_have_labels():
    """Bidi marks, control characters, lone surrogates and blanks become their code."""
    assert visible("a\u202eb\x00\ud800\u3164") == "a[U+202E]b[U+0000][U+D800][U+3164]"
    assert visible("naïve – “Ωמ” 😀 👩\u200d💻") == "naïve – “Ωמ” 😀 👩\u200d💻"


def test_a_token_is_escaped():
    """Markup in a document is text; breaks are marked and kept."""
    assert token_markup("<script>&'\"") == "&lt;script&gt;&amp;&#39;&#34;"
    assert token_markup("\n") == '<i class="w">↵</i>\n'
    assert token_markup("\r") == '<i class="u">U+000D</i>'
    assert text_markup("a\n\u202e<b>") == 'a\n<i class="u">U+202E</i>&lt;b&gt;'


def test_a_lone_accent_is_drawn_on_a_circle():
    """Split from its letter it would sit on the text before; joiners at an edge are labelled."""
    assert token_markup("\u0301") == "◌\u0301"
    assert token_markup("e\u0301") == "e\u0301"
    assert token_markup("\u200d") == '<i class="u">U+200D</i>'


@given(st.text())
def test_no_character_can_reorder_or_break_out(text):
    """Whatever the text, markup holds no tag of its own and no bidi control."""
    for shown in (token_markup(text), text_markup(text), escape(visible(text))):
        assert not re.search("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\x00\x1b]", shown)
        assert set(re.findall("<[^>]*>", shown)) <= {'<i class="u">', '<i class="w">', "</i>"}


@given(st.lists(st.text(min_size=1, max_size=4), min_size=1), st.data())
def test_the_tokens_are_the_text(pieces, data):
    """Joined, the tokens from the first one on are the text, where no two share a character."""
    ends = list(accumulate(map(len, pieces)))
    starts = [0, *ends[:-1]]
    first = data.draw(st.integers(0, len(pieces) - 1))
    found = token_texts("".join(pieces), starts, ends, first, len(pieces) - 1)
    assert found == pieces[first:]


def test_tokens_that_share_a_character():
    """The first shows it, the others which part of it they are; uncovered text is not lost."""
    starts, ends = [0, 2, 2, 2, 4], [1, 3, 3, 3, 5]
    assert token_texts("a 😀 b", starts, ends, 0, 4) == ["a", " 😀", "‹2/3›", "‹3/3›", " b"]
    assert token_texts("ab", [0, 1, 1], [1, 1, 2], 0, 2) == ["a", "‹›", "b"]
    assert html.unescape(token_markup("‹2/3›")) == "‹2/3›"
