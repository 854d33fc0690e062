"""How the documents of two runs are drawn in the bootstrap: together, or independently."""

from dataclasses import dataclass

from probe.analysis.bootstrap import Floats, resample_weights
from probe.analysis.compare.pair import Pairing
from probe.analysis.settings import Analysis


@dataclass(frozen=True, eq=False)
class Draws:
    """How the documents of two runs are drawn.

    Args:
        pairing: What the runs have in common.
        documents: Documents of each run, in order of name.
        weights: How often each is drawn, of each run ``(resamples, documents)``.
    """

    pairing: Pairing
    documents: tuple[list[str], list[str]]
    weights: tuple[Floats, Floats]


def draw(documents: tuple[list[str], list[str]], pairing: Pairing, how: Analysis) -> Draws:
    """Draw the documents of both runs, together what is in both and else independently."""
    first = resample_weights(len(documents[0]), how.resamples, how.seed)
    if pairing != "none":
        return Draws(pairing, documents, (first, first))
    second = resample_weights(len(documents[1]), how.resamples, how.seed + 1)
    return Draws(pairing, documents, (first, second))
