"""What words mean: conditions and token classes by the first lines of their docstrings."""

import pytest
from open_runs import opened
from simulated import Simulation, write_run

from probe.classes import registry as classes
from probe.findings.base import findings
from probe.findings.terms import COMMON, describe_class, describe_condition
from probe.perturbations import registry as perturbations


@pytest.mark.parametrize(
    ("text", "meaning"),
    {
        "truncate": "remove all of the far context",
        "[reverse, truncate]": (
            "put the tokens, words or sentences in the opposite order; then remove all of the far"
            " context"
        ),
        "replace(source='newline')": (
            "put other tokens in the place of the far ones, of all or of a share of them (the token"
            " of a line break, everywhere)"
        ),
        "unheard_of(by=3)": "a perturbation of the run's own code",
    }.items(),
)
def test_conditions(text, meaning):
    """A chain step by step, a source with its own words; what is not known here is said to be."""
    assert describe_condition(text) == meaning


def test_what_users_register_is_described(monkeypatch):
    """A perturbation and a class of a notebook have the first lines of their docstrings."""
    for one in (perturbations.REGISTRY, classes.REGISTRY):
        monkeypatch.setattr(one, "entries", dict(one.entries))

    @perturbations.register("rotate_by")
    def rotate(far, *, rng, by=1):
        """Move the first tokens to the end."""
        return [*far[by:], *far[:by]]

    @classes.register("long_ones")
    def long(window):
        """Whether a token has *many* characters."""
        return [bool(text and len(text) > 4) for text in window.texts]

    assert describe_condition("rotate_by(by=2)") == "move the first tokens to the end"
    assert describe_class("long_ones") == "whether a token has many characters"
    assert describe_class("my.py:rare") == "a token class of the reader's own code"
    assert describe_class("genre") == "the value that the data give for the document"


@pytest.mark.slow
def test_a_run_has_terms_for_its_conditions_and_classes(tmp_path):
    """The noise control is not told of; nothing is shown but what other findings use."""
    folder = write_run(tmp_path / "run", Simulation({"truncate": lambda d: 0.5 / (1 + d)}))
    with opened(folder, classes=["kind"]) as run:
        (found,) = (one for one in findings(run) if one.id == "terms")
    assert not found.shown
    assert list(found.terms) == [*COMMON, "truncate", "kind"]
