"""Branches of protocol dense: the text from every token on, and the longest context of a target."""

from collections.abc import Sequence

from probe.branches import FirstToken, Scored, perturbed
from probe.corpus.windows import Window
from probe.engine.branch import Branch
from probe.perturbations.condition import parse
from probe.protocol import Dense

TRUNCATE = parse("truncate")


def contexts(
    window: Window, plan: Dense, conditions: Sequence[str], first_token: FirstToken
) -> list[Scored]:
    """Every start of a window, rising, before it the intact branch of the target it is longest for.

    Intact is here a target's longest context, exactly ``plan.context`` tokens: an intact branch is
    the beginning of the text from one start, with a single target, and costs no forward.

    Args:
        window: The window.
        plan: The protocol.
        conditions: What is missing of the window: ``truncate``, or nothing but intact.
        first_token: What stands in front.
    """
    found = []
    for run in plan.runs(shared=True):
        one = perturbed(window, run, TRUNCATE, first_token=first_token, seed=0)
        if run.stop - 1 - run.boundary == plan.context:
            found.append(_longest(one))
        if TRUNCATE.text in conditions:
            found.append(one)
    return found


def _longest(one: Scored) -> Scored:
    """The last target of a branch, as intact."""
    ids, last = one.branch.ids, one.branch.targets - 1
    branch = Branch(ids, ids, len(ids) - 1, len(ids), one.branch.origin + last)
    return Scored(branch, "intact", 0, one.position + last, -1, -1)
