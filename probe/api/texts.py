"""Texts and their tokens, a model's own or words; and texts at hand, which need no data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.errors import UsageError
from probe.perturbations.samplers import token_of
from probe.perturbations.units import TokenText, plain_words
from probe.text import shown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The texts are all in the public domain.

TEXT = (
    "Elizabeth, as they drove along, watched for the first appearance of Pemberley Woods with "
    "some perturbation; and when at length they turned in at the lodge, her spirits were in a high "
    "flutter.\n\n"
    "The park was very large, and contained great variety of ground. They entered it in one of its "
    "lowest points, and drove for some time through a beautiful wood, stretching over a wide "
    "extent.\n\n"
    "Elizabeth's mind was too full for conversation, but she saw and admired every remarkable spot "
    "and point of view. They gradually ascended for half a mile, and then found themselves at the "
    "top of a considerable eminence, where the wood ceased, and the eye was instantly caught by "
    "Pemberley House, situated on the opposite side of a valley, into which the road with some "
    "abruptness wound. It was a large, handsome, stone building, standing well on rising ground, "
    "and backed by a ridge of high woody hills; and in front, a stream of some natural importance "
    "was swelled into greater, but without any artificial appearance."
)
"""Jane Austen, Pride and Prejudice (1813), chapter 43."""

OLDER = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, "
    "must be in want of a wife.\n\n"
    "However little known the feelings or views of such a man may be on his first entering a "
    "neighbourhood, this truth is so well fixed in the minds of the surrounding families, that he "
    "is considered the rightful property of some one or other of their daughters.\n\n"
    '"My dear Mr. Bennet," said his lady to him one day, "have you heard that Netherfield Park is '
    'let at last?"\n\n'
    "Mr. Bennet replied that he had not.\n\n"
    '"But it is," returned she; "for Mrs. Long has just been here, and she told me all about it."'
    "\n\n"
    "Mr. Bennet made no answer.\n\n"
    '"Do you not want to know who has taken it?" cried his wife impatiently.\n\n'
    '"You want to tell me, and I have no objection to hearing it."\n\n'
    "This was invitation enough.\n\n"
    '"Why, my dear, you must know, Mrs. Long says that Netherfield is taken by a young man of '
    "large fortune from the north of England; that he came down on Monday in a chaise and four to "
    "see the place, and was so much delighted with it that he agreed with Mr. Morris immediately; "
    "that he is to take possession before Michaelmas, and some of his servants are to be in the "
    'house by the end of next week."'
)
"""The same book's opening: what stands before `TEXT` in its document."""

OTHER = (
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in "
    "my purse, and nothing particular to interest me on shore, I thought I would sail about a "
    "little and see the watery part of the world. It is a way I have of driving off the spleen and "
    "regulating the circulation. Whenever I find myself growing grim about the mouth; whenever it "
    "is a damp, drizzly November in my soul; whenever I find myself involuntarily pausing before "
    "coffin warehouses, and bringing up the rear of every funeral I meet; and especially whenever "
    "my hypos get such an upper hand of me, that it requires a strong moral principle to prevent "
    "me from deliberately stepping into the street, and methodically knocking people's hats off; "
    "then, I account it high time to get to sea as soon as I can. This is my substitute for pistol "
    "and ball. With a philosophical flourish Cato throws himself upon his sword; I quietly take to "
    "the ship."
)
"""Herman Melville, Moby-Dick (1851), the opening: another document."""


class Words:
    """Words and punctuation marks, numbered as they are met: tokens where there is no model."""

    name = "words and punctuation marks"

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._words: list[str] = []

    def encode(self, text: str) -> list[int]:
        """Token ids of *text*; decoded and joined they give it back."""
        return [self._number(text[first:end]) for first, end in plain_words(text)]

    def decode(self, token: int) -> str:
        """The text of one token; an id that was never given out is shown as a number."""
        return self._words[token] if 0 <= token < len(self._words) else f"<{token}>"

    def join(self, ids: Sequence[int]) -> str:
        """The text of several tokens."""
        return "".join(map(self.decode, ids))

    def text(self, text: str) -> TokenText:
        """*text* beside its tokens."""
        spans = np.array(plain_words(text)).reshape(-1, 2)
        return TokenText(text, spans[:, 0], spans[:, 1], np.array(self.encode(text)))

    def single(self, name: str) -> int:
        """The token of a source of single tokens (``newline``, ``pad``, ``mask``)."""
        return self._number("\n" if name == "newline" else f"<{name}>")

    def _number(self, word: str) -> int:
        if word not in self._ids:
            self._ids[word] = len(self._words)
            self._words.append(word)
        return self._ids[word]


class ModelTokens:
    """The tokens of a model.

    Args:
        tokenizer: A tokenizer of transformers.
        name: Whose tokens these are, for the reader.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self.name = f"tokens of {name}"
        # Many decoders drop the space before the first token; behind another token it stays.
        self._anchor = self.encode("a")[-1:]

    def encode(self, text: str) -> list[int]:
        """Token ids of *text*, without special tokens around it."""
        encoding = self._tokenizer(text, add_special_tokens=False, verbose=False)
        return list(encoding["input_ids"])

    def decode(self, token: int) -> str:
        """The text of one token, with the space before it; never empty.

        A part of a character is shown as U+FFFD, an id that the tokenizer has not as a number.
        """
        if not 0 <= token < len(self._tokenizer):
            return f"<{token}>"
        anchor, behind = self._decode(self._anchor), self._decode([*self._anchor, token])
        own = behind.removeprefix(anchor) if behind.startswith(anchor) else self._decode([token])
        return own or f"<{token}>"

    def join(self, ids: Sequence[int]) -> str:
        """The text of several tokens, the parts of a character together."""
        known = all(0 <= token < len(self._tokenizer) for token in ids)
        return self._decode(list(ids)) if known else "".join(map(self.decode, ids))

    def text(self, text: str) -> TokenText | None:
        """*text* beside its tokens; ``None`` where the tokenizer does not tell which is which."""
        fast = getattr(self._tokenizer, "is_fast", False)
        return TokenText.of(text, self._tokenizer) if fast else None

    def single(self, name: str) -> int:
        """The token of a source of single tokens.

        Raises:
            UsageError: If there is none.
        """
        return token_of(name, self._tokenizer, len(self._tokenizer))

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))


Tokens = Words | ModelTokens


def refuse_no_text(text: object, what: str) -> None:
    """Refuse what is no text, or one that no tokenizer takes.

    Raises:
        UsageError: If it is of another type, or holds half of a character of UTF-16.
    """
    if not isinstance(text, str):
        raise UsageError(f"{what} is of type {type(text).__name__}; allowed: a text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise UsageError(
            f"{what} holds {half} at {error.start}, half of a character; allowed: Unicode text"
        ) from error


def tokens_of(model: "str | Path | PreTrainedTokenizerBase | None") -> Tokens:
    """The tokens of a model, or words where there is none.

    Args:
        model: As in ``model.path`` of a configuration, a tokenizer, or ``None``.

    Raises:
        UsageError: If there is no such model or it comes without a tokenizer.
        ProbeError: If it cannot be read.
    """
    if model is None:
        return Words()
    if not isinstance(model, str | Path):
        if not (callable(model) and hasattr(model, "decode")):
            raise UsageError(
                f"tokenizer is of type {type(model).__name__}; allowed: a name or folder, or a"
                " tokenizer of transformers"
            )
        return ModelTokens(model, str(model.name_or_path) or type(model).__name__)
    from probe.models.load import open_source

    source = open_source(str(model))
    if source.tokenizer is None:
        raise UsageError(f"model {shown(str(model))} has no tokenizer; allowed: a model with one")
    return ModelTokens(source.tokenizer, source.location.name)
