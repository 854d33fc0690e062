"""Every family of causal models that was tried, tiny: the losses are those of whole forwards."""

import numpy as np
import pytest
from models import CONFIGS, random_ids, tiny
from plain_forwards import Paths, Plain, branches_of, window

from probe.engine.engine import Engine
from probe.engine.selfcheck import check
from probe.engine.walk import Techniques
from probe.models.causal import CausalModel

pytestmark = pytest.mark.families
WORST = 5e-4  # nats; a technique that a family does not bear is off by far more
BRANCHES = [
    branches_of(window(), plan=plan, conditions=["reverse", "noise", "drop(rate=0.5)"])
    for plan in ("sweep", "grid")
]


def worst(model: CausalModel, techniques: Techniques, plain: Plain) -> float:
    """Largest difference of a loss of the branches from one whole forward each, nats."""
    return max(
        float(np.abs(losses.nll - plain.nll(branch)).max())
        for own in BRANCHES
        for branch, losses in zip(own, Engine(model, techniques).score([own])[0], strict=True)
    )


@pytest.mark.parametrize("family", CONFIGS)
def test_family(family: str, paths: Paths) -> None:
    """Causal, and exact in a sweep and in a grid with what its self-check allows."""
    model = CausalModel(tiny(family))
    report = check(model, random_ids(97))
    report.refuse_acausal(model)
    plain = Plain(model, BRANCHES)
    found = worst(model, report.techniques, plain)
    print(f"{family}: at most {found:.1e} nats from whole forwards")  # shown with -rP
    assert found <= WORST
    intact, reverse = BRANCHES[0][:2]
    read = np.abs(plain.nll(reverse) - plain.nll(intact)).max()
    assert read > 20 * WORST, "the far text does not count: a wrong technique would not show"


@pytest.mark.parametrize("family", ["mamba", "falcon_mamba"])
def test_a_technique_that_is_wrong_shows(family: str, paths: Paths) -> None:
    """With its caches forced on, a family that does not bear them is off."""
    model = CausalModel(tiny(family))
    assert worst(model, Techniques(packing=False), Plain(model, BRANCHES)) > 20 * WORST
