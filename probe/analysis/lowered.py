"""Conditions that lower the loss: a copy that helps, a removal that does. No length says so."""

from collections.abc import Sequence
from dataclasses import replace

from probe.analysis.bootstrap import pointwise_band
from probe.analysis.effective import LOWERS, EffectiveContext
from probe.analysis.fitted import FittedCurve


def marked(contexts: Sequence[EffectiveContext], curve: FittedCurve) -> list[EffectiveContext]:
    """Flag the answers of a curve that lies below 0 by more than a tolerance, at some distance.

    An effective context says from where on a condition no longer raises the loss; one that lowers
    it from the start would read as *reads nothing*.

    Args:
        contexts: Its answers at every tolerance.
        curve: The curve that they were read off.

    Returns:
        The answers; all have the flag where the upper limit of some bin is below minus the
        smallest tolerance.
    """
    epsilons = [one.epsilon for one in contexts if one.epsilon is not None]
    _, high = pointwise_band(curve.resampled, curve.confidence)
    if not epsilons or not (high < -min(epsilons)).any():
        return list(contexts)
    return [
        one if one.kind == "unresolved" else replace(one, flags=(*one.flags, LOWERS))
        for one in contexts
    ]
