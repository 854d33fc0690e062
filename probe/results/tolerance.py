"""A tolerance: how much delta still counts as no loss."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from probe.errors import UsageError
from probe.text import shown, suggestion

ALLOWED = "'1%' (rise in perplexity), '0.01 nats', '0.02 bpb' or '5% of delta0'"
_UNITS: dict[str, Literal["perplexity", "nats", "bpb", "delta0"]] = {
    "%": "perplexity",
    "nats": "nats",
    "bpb": "bpb",
    "% of delta0": "delta0",
}


@dataclass(frozen=True)
class Tolerance:
    """A tolerance as it was asked for.

    Args:
        text: Canonical text, ``1%``, ``0.01 nats``, ``0.02 bpb``, ``5% of delta0``.
        unit: What the amount is measured in; ``perplexity`` and ``delta0`` are shares.
        amount: The amount, above 0; shares as fractions (``1%`` is 0.01).
    """

    text: str
    unit: Literal["perplexity", "nats", "bpb", "delta0"]
    amount: float

    def nats(self, *, bytes_per_token: float | None = None) -> float | None:
        """The tolerance as delta, in nats per token.

        Args:
            bytes_per_token: Mean UTF-8 bytes of a token; only bits per byte need it.

        Returns:
            Epsilon in nats per token, or ``None`` where it depends on the curve (``delta0``).

        Raises:
            UsageError: If bits per byte are asked of a run without text.
        """
        if self.unit == "perplexity":
            return math.log1p(self.amount)
        if self.unit == "nats":
            return self.amount
        if self.unit == "delta0":
            return None
        if bytes_per_token is None:
            raise UsageError(
                f"tolerance '{self.text}' needs the text of the windows, and this run has only"
                " token ids; use a tolerance in % or nats"
            )
        return self.amount * math.log(2) * bytes_per_token


def spaced(text: str) -> str:
    """A tolerance's text as figures and tables show it: ``1 %``."""
    return text.replace("%", " %")


def parse_tolerance(text: str) -> Tolerance:
    """Read a tolerance.

    Args:
        text: For example ``1%``, ``0.01 nats``, ``0.02 bpb``, ``5% of delta0``.

    Returns:
        The tolerance, with its text made canonical.

    Raises:
        UsageError: If the text is none of these, or the amount is not above 0.
    """
    words = " ".join(str(text).split())
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s?(%|nats|bpb|% of delta0)", words)
    if match is None:
        hint = suggestion(words.lstrip("0123456789. "), _UNITS, f"allowed: {ALLOWED}")
        raise UsageError(f"tolerance {shown(text)} is not understood{hint}")
    unit = _UNITS[match[2]]
    amount = float(match[1])
    if amount <= 0:
        raise UsageError(f"tolerance {shown(text)} must be above 0; allowed: {ALLOWED}")
    canonical = f"{amount:g}{'' if match[2].startswith('%') else ' '}{match[2]}"
    return Tolerance(canonical, unit, amount / 100 if match[2].startswith("%") else amount)
