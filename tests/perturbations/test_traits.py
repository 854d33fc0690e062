"""What a condition does to any far context: declared, and the same where it is tried."""

import numpy as np
import pytest
from builtin_conditions import EVERY, PREFIXED, WITHIN
from stub_spacy import forget, install

from probe.perturbations import registry
from probe.perturbations.condition import parse
from probe.perturbations.registry import Traits
from probe.perturbations.traits import is_nested, is_random, tried_nested, tried_random

STEPS = [text for text in EVERY if not text.startswith("[")]
SPANS = [f"shuffle(span={span})" for span in (16, 100, 1000, 2000, 5000)]
SPANS += [f"shuffle_spans(span={span})" for span in (100, 1500, 2047)]
SPANS += [
    f"shuffle(span={span}, within={unit!r})" for span in (3, 20) for unit in ("word", "sentence")
]
SPANS += ["shuffle_spans(span=16, within='sentence')", "shuffle_spans(span=20, within='sentence')"]
LISTS = ["replace(source=[5])", "replace(source=[5, 5])", "replace(source=[5, 6])"]
LISTS += ["replace(source=5, rate=0.5)", "replace_target(source='pad', matched=True)"]


@pytest.fixture(autouse=True, scope="module")
def _stand_in_for_spacy():
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        yield
    forget()


@pytest.fixture
def register(monkeypatch):
    registry.load_builtins()
    monkeypatch.setattr(registry.REGISTRY, "entries", dict(registry.REGISTRY.entries))
    return registry.register


def test_every_builtin_declares_all() -> None:
    """Nothing of ours is left to be found out by trying."""
    entries = map(registry.get, registry.names())
    ours = [entry for entry in entries if entry.function.__module__ in registry.BUILTINS]
    assert {entry.name for entry in ours} == {
        step.name for text in STEPS for step in parse(text).steps
    }
    for entry in ours:
        assert None not in vars(entry.traits).values(), entry.name


@pytest.mark.parametrize("text", [*STEPS, *SPANS, *LISTS])
def test_what_is_declared_is_what_trying_finds(text: str) -> None:
    """Whether draws differ, whether longer far contexts begin alike, whether it needs a text."""
    condition = parse(text)
    (step,) = condition.steps
    for tokens in (2, 16, 17, 64, 1000):
        if tokens > 2 or not text.startswith("drop("):  # two tokens may all stay by luck
            assert is_random(condition, tokens) is tried_random(condition, tokens), tokens
    for shorter, longer in ((16, 20), (24, 28), (64, 96), (1008, 2016), (4000, 6000)):
        # The one place of a matched control is by luck the same in two short far contexts.
        if not step.parameters.get("matched") or shorter > 1000:
            expected = tried_nested(condition, shorter, longer)
            assert is_nested(condition, shorter=shorter, longer=longer) is expected, (
                shorter,
                longer,
            )
    if "text" in registry.get(step.name).reads:
        assert step.needs_text is step.tried_needs_text()
    else:
        assert not step.needs_text


def test_nothing_of_a_builtin_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen draws for every condition would be most of the time of a plan."""
    monkeypatch.setattr("probe.perturbations.traits._perturbed", lambda *_: pytest.fail("tried"))
    for text in STEPS:
        is_random(parse(text), 1000)
        is_nested(parse(text))


@pytest.mark.parametrize("text", EVERY)
def test_far_contexts_that_begin_alike_share_their_prefix(text):
    """And others do not; chains are tried."""
    expected = text in PREFIXED or text in WITHIN or text == "paste"
    assert is_nested(parse(text), shorter=1008, longer=2016) is expected


def test_an_empty_far_context_is_never_random(register) -> None:
    """Whatever would be drawn on a longer one."""
    assert not is_random(parse("shuffle"), 0)
    assert not is_random(parse("[shuffle, drop(rate=0.5)]"), 0)


def test_a_users_function_may_declare(register) -> None:
    """Then it is not tried; what it leaves open is."""

    @register("rolled", traits=Traits(nested=True))
    def rolled(far, *, rng):
        return np.roll(far, int(rng.integers(len(far) or 1)))

    assert is_nested(parse("rolled"))  # though it is not: it is the user's word
    assert is_random(parse("rolled"), 10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("intact", True),
        ("truncate", True),
        ("drop(rate=0.5)", True),
        ("drop(rate=1.0)", True),
        ("replace(source='document')", True),
        ("shuffle(span=2)", True),
        ("shuffle(span=1000)", True),
        ("shuffle(span=1024)", True),
        ("shuffle(span=2000)", False),  # cut at 1024 it is another permutation
        ("shuffle", False),
        ("reverse", False),
        ("[drop(rate=0.5), replace(source='self')]", True),
        ("[drop(rate=0.5), shuffle]", False),
    ],
)
def test_nesting_is_found_out(text, expected):
    """What a longer far context begins with is seen by trying both."""
    assert is_nested(parse(text)) is expected


def test_permuted_spans_are_never_taken_for_nested():
    """Long spans often agree by luck in one trial; several trials tell."""
    spans = [1, 2, 100, 341, 512, 600, 1000, 1024, 1500, 2000, 2047]
    assert not any(is_nested(parse(f"shuffle_spans(span={span})")) for span in spans)


def test_nesting_is_asked_for_the_boundaries_at_hand():
    """Spans of 2,000 tokens are nested where the boundaries are 4,000 and 6,000."""
    assert is_nested(parse("shuffle(span=2000)"), shorter=4000, longer=6000)
    with pytest.raises(ValueError, match="longer must be an integer >= 11; got 10"):
        is_nested(parse("shuffle"), shorter=10, longer=10)


def test_nesting_of_a_users_function_is_found_out(register):
    """Nothing is declared: a rotation is not nested, adding one to each id is."""

    @register("rotate")
    def rotate(far, *, rng):
        return np.roll(far, 1)

    @register("next_id")
    def next_id(far, *, rng):
        return far + 1

    assert not is_nested(parse("rotate"))
    assert is_nested(parse("next_id"))
