"""What the token explorer shows of a run: windows with their tokens, and what their signs mean."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

SIGNS = {
    "‹": "‹1/2› is the first of two tokens that share the characters before it",
    '<i class="u">': "a box such as U+202E is a character that has no shape of its own",
    '<i class="w">↵': "↵ is the end of a line",
    '<i class="w">→': "→ is a tab",
}
"""What stands in the text for what cannot be seen, by its markup."""


@dataclass(frozen=True)
class Token:
    """A token on the page.

    Args:
        markup: Its text.
        level: Its level on the colour scale, if it is a target.
        key: What it says of itself if it is a key token of LongPPL.
    """

    markup: Markup
    level: int | None
    key: str | None = None


@dataclass(frozen=True)
class Window:
    """A window of the explorer.

    Args:
        document: Its document.
        number: Its number in the document.
        mean: Mean delta of the main condition in it (nats).
        first: Index in the window of the first token shown.
        length: Tokens of the window.
        before: The text before the first token shown, its beginning cut where it is long.
        before_cut: Whether it was cut.
        tokens: The tokens shown.
        start: Index of the window's first token in its document.
        single: How many of the tokens shown have one distance under the main condition.
    """

    document: str
    number: int
    mean: float
    first: int
    length: int
    before: Markup
    before_cut: bool
    tokens: Sequence[Token]
    start: int = 0
    single: int = 0

    @property
    def key_tokens(self) -> int:
        """How many of the tokens shown are key."""
        return sum(token.key is not None for token in self.tokens)


@dataclass(frozen=True)
class Explorer:
    """What the page shows of a run's tokens.

    Args:
        condition: The condition whose delta colours the tokens.
        windows: The windows.
        of: Windows that the run has.
        distances: Shortest and longest distance at which a token is coloured.
        payload: JSON of the losses in thousandths of a nat, safe inside a script element.
        keys: Which tokens are key and who chose them, for a run with protocol longppl.
    """

    condition: str
    windows: Sequence[Window]
    of: int
    distances: tuple[int, int]
    payload: Markup
    keys: str | None = None

    @property
    def single(self) -> float:
        """Share of the targets shown that have one distance under the main condition."""
        targets = sum(token.level is not None for window in self.windows for token in window.tokens)
        return sum(window.single for window in self.windows) / max(1, targets)

    @property
    def signs(self) -> list[str]:
        """What the signs in the text mean, those that are in it."""
        text = "".join(token.markup for window in self.windows for token in window.tokens)
        return [meaning for sign, meaning in SIGNS.items() if sign in text]
