"""Text to token ids and back, with a model's tokenizer or, without one, by words."""

import re
from typing import Any, Protocol

import numpy as np

from probe.perturbations.units import TokenText

# White space belongs to what follows it, so that the tokens joined are the text.
_WORD = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")


class Tokens(Protocol):
    """What `probe show` needs of a tokenizer."""

    name: str

    def encode(self, text: str) -> list[int]:
        """Token ids of *text*, without special tokens around it."""

    def decode(self, token: int) -> str:
        """The text of one token, with the space before it; never empty."""

    def text(self, text: str) -> TokenText | None:
        """*text* beside its tokens; ``None`` where the tokenizer does not tell which is which."""

    def single(self, name: str) -> int:
        """The token of a source of single tokens (``newline``, ``pad``, ``mask``).

        Raises:
            UsageError: If there is none.
        """


class Words:
    """Words and punctuation marks, numbered as they are met."""

    name = "words and punctuation marks"

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._words: list[str] = []

    def encode(self, text: str) -> list[int]:
        """See `Tokens`; decoded and joined, the ids give *text* back."""
        return [self._number(word) for word in _WORD.findall(text)]

    def decode(self, token: int) -> str:
        """See `Tokens`; an id that was never given out is shown as a number."""
        return self._words[token] if 0 <= token < len(self._words) else f"<{token}>"

    def text(self, text: str) -> TokenText:
        """See `Tokens`; each token is a word."""
        spans = np.array([found.span() for found in _WORD.finditer(text)]).reshape(-1, 2)
        return TokenText(text, spans[:, 0], spans[:, 1], np.array(self.encode(text)))

    def single(self, name: str) -> int:
        """See `Tokens`."""
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
        """See `Tokens`."""
        encoding = self._tokenizer(text, add_special_tokens=False, verbose=False)
        return list(encoding["input_ids"])

    def decode(self, token: int) -> str:
        """See `Tokens`; a part of a character is shown as U+FFFD."""
        if not 0 <= token < len(self._tokenizer):
            return f"<{token}>"
        anchor, behind = self._decode(self._anchor), self._decode([*self._anchor, token])
        own = behind.removeprefix(anchor) if behind.startswith(anchor) else self._decode([token])
        return own or f"<{token}>"

    def text(self, text: str) -> TokenText | None:
        """See `Tokens`."""
        fast = getattr(self._tokenizer, "is_fast", False)
        return TokenText.of(text, self._tokenizer) if fast else None

    def single(self, name: str) -> int:
        """See `Tokens`."""
        from probe.perturbations.sources import token_of

        return token_of(name, self._tokenizer, len(self._tokenizer))

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def tokens_of(model: str | None) -> Tokens:
    """The tokens of a model, or words where there is none.

    Args:
        model: As in ``model.path`` of a configuration, or ``None``.

    Raises:
        UsageError: If there is no such model or it comes without a tokenizer.
        ProbeError: If it cannot be read.
    """
    if model is None:
        return Words()
    from probe.commands.options import quiet
    from probe.errors import UsageError
    from probe.models.load import open_source

    quiet()
    source = open_source(model)
    if source.tokenizer is None:
        raise UsageError(f"--model {model!r} has no tokenizer; allowed: a model with one, or none")
    return ModelTokens(source.tokenizer, source.location.name)
