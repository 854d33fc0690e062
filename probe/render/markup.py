"""Markup: hostile text made visible and escaped, and elements written of it."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from markupsafe import Markup, escape

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_JOINERS = frozenset("\u200c\u200d")  # seen in what they join: emoji, Arabic and Indic letters
_BREAKS = {"\n": ("↵", "\n"), "\t": ("→", "\t")}


def visible(text: str) -> str:
    """A name or message with every unseen character as ``U+XXXX`` in brackets.

    Args:
        text: Any text, also with lone surrogates.

    Returns:
        Text without control, format, surrogate, private or unassigned characters.
    """
    return "".join(
        f"[{label}]" if unseen else char for char, unseen, label in _characters(text, inside=True)
    )


def shortened(text: str, most: int = 30) -> str:
    """One visible line of at most *most* characters, the last of which is ``…`` if it was cut."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def element(name: str, *children: str, **attributes: object) -> Markup:
    """An element of SVG or HTML; all but its name and its attributes' names is escaped.

    Args:
        name: Name of the element.
        children: Text, or markup of other elements.
        attributes: Attributes; ``class_`` is ``class``, other underscores are hyphens, numbers
            are rounded, ``None`` is left out.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _value(value))
        for key, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(
        child if isinstance(child, Markup) else visible(child) for child in children
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inside)


def joined(points: Iterable[tuple[float, float]]) -> str:
    """Points of a drawing as the attribute ``points`` takes them."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def token_markup(piece: str) -> Markup:
    """A token's text as HTML: escaped, unseen characters as boxes, newlines and tabs marked.

    A combining mark at the start of a piece, where a tokenizer split a letter from its accent, is
    drawn on a dotted circle.

    Args:
        piece: Part of a document's text.
    """
    if _is_plain(piece):
        return escape(piece)
    parts = []
    for index, (char, unseen, label) in enumerate(_characters(piece, inside=False)):
        if char in _BREAKS:
            sign, kept = _BREAKS[char]
            parts.append(Markup('<i class="w">{}</i>{}').format(sign, kept))
        elif unseen:
            parts.append(Markup('<i class="u">{}</i>').format(label))
        elif index == 0 and unicodedata.category(char).startswith("M"):
            parts.append(escape(f"\u25cc{char}"))
        else:
            parts.append(escape(char))
    return Markup("").join(parts)


def text_markup(text: str) -> Markup:
    """Running text as HTML: as :func:`token_markup`, but newlines and tabs are just kept."""
    if _is_plain(text.translate(dict.fromkeys(map(ord, _BREAKS)))):
        return escape(text)
    return Markup("").join(
        Markup('<i class="u">{}</i>').format(label)
        if unseen and char not in _BREAKS
        else escape(char)
        for char, unseen, label in _characters(text, inside=False)
    )


def token_texts(
    text: str, starts: Sequence[int], ends: Sequence[int], first: int, last: int
) -> list[str]:
    """The text that each of some tokens is shown with; together they are the whole text.

    Tokens that share a character, as the bytes of an emoji do, show it once; the others show
    which part of it they are, ``‹2/4›``. Characters that no token covers stand before the next.

    Args:
        text: The window's text.
        starts: First character of each token.
        ends: First character behind each token.
        first: Index of the first token to show.
        last: Index of the last one.
    """
    done = starts[first]
    pieces = []
    for place in range(first, last + 1):
        piece = text[done : ends[place]] if ends[place] > done else ""
        done = max(done, ends[place])
        pieces.append(piece or _part(starts, ends, place))
    return pieces


def _part(starts: Sequence[int], ends: Sequence[int], place: int) -> str:
    """What stands for a token without characters of its own."""
    span = starts[place], ends[place]
    if span[0] == span[1]:
        return "‹›"
    low = high = place
    while low > 0 and (starts[low - 1], ends[low - 1]) == span:
        low -= 1
    while high + 1 < len(starts) and (starts[high + 1], ends[high + 1]) == span:
        high += 1
    return f"‹{place - low + 1}/{high - low + 1}›"


def _is_plain(text: str) -> bool:
    """Whether each character is shown as it is; the quick answer for most text."""
    return text.isascii() and text.isprintable()


def _characters(text: str, *, inside: bool) -> Iterator[tuple[str, bool, str]]:
    """Each character, whether it has no shape of its own, and its label."""
    last = len(text) - 1
    for index, char in enumerate(text):
        joins = char in _JOINERS and (inside or 0 < index < last)
        selects = "\ufe00" <= char <= "\ufe0f" and index == 0
        unseen = unicodedata.category(char) in _UNSEEN or char in _BLANK or selects
        yield char, unseen and not joins, f"U+{ord(char):04X}"


def _value(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
