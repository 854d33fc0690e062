"""Conditions: their sources, their draws, and what they do to any far context."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from builtin_conditions import EVERY, PREFIXED, WITHIN
from token_texts import spelled

from probe.attention.parse import expand
from probe.attention.parse import parse as parse_pattern
from probe.errors import UsageError
from probe.perturbations import registry
from probe.perturbations.condition import (
    check_texts,
    draw_rng,
    is_nested,
    is_random,
    parse,
    tried_nested,
    tried_random,
)
from probe.perturbations.content import replace
from probe.perturbations.order import reverse, shuffle
from probe.perturbations.registry import Traits
from probe.perturbations.removal import drop
from probe.perturbations.samplers import vocabulary

pytestmark = pytest.mark.usefixtures("stand_in_for_spacy")

STEPS = [text for text in EVERY if not text.startswith("[")]
SPANS = [f"shuffle(span={span})" for span in (16, 100, 1000, 2000, 5000)]
SPANS += [f"shuffle_spans(span={span})" for span in (100, 1500, 2047)]
SPANS += [
    f"shuffle(span={span}, within={unit!r})" for span in (3, 20) for unit in ("word", "sentence")
]
SPANS += ["shuffle_spans(span=16, within='sentence')", "shuffle_spans(span=20, within='sentence')"]
LISTS = ["replace(source=[5])", "replace(source=[5, 5])", "replace(source=[5, 6])"]
LISTS += ["replace(source=5, rate=0.5)", "replace_target(source='pad', matched=True)"]


@pytest.fixture
def register(monkeypatch):
    registry.load_builtins()
    monkeypatch.setattr(registry.REGISTRY, "entries", dict(registry.REGISTRY.entries))
    return registry.register


def test_one_step_is_the_function_itself():
    """Applying a condition is calling its perturbation."""
    ids = list(range(100))
    assert parse("shuffle(span=7)").apply(ids, rng=3) == shuffle(ids, rng=3, span=7)
    sampler = vocabulary(range(500, 600))
    applied = parse("replace(source='vocabulary')").apply(
        ids, rng=3, sources={"vocabulary": sampler}
    )
    assert applied == replace(ids, rng=3, source=sampler)


def test_a_chain_is_applied_from_left_to_right():
    """Each step gets what the step before made, and a generator of its own."""
    ids = list(range(100))
    first, second = np.random.default_rng(3).integers(2**63, size=2)
    plain = reverse(drop(ids, rng=first, rate=0.5), rng=second)
    assert parse("[drop(rate=0.5), reverse]").apply(ids, rng=3) == plain
    assert parse(["drop(rate=0.5)", "reverse"]).apply(ids, rng=3) == plain


def test_sources_are_named_and_bound():
    """A condition says which samplers it needs, and which one is missing."""
    condition = parse("[replace(source='self'), replace(source='unigram')]")
    assert condition.sources == {"self", "unigram"}
    assert parse("replace(source=[1, 2])").sources == parse("shuffle").sources == set()
    with pytest.raises(UsageError, match=r"'unigram'\)\]\" needs .* 'unigram'; bound: 'self'"):
        condition.apply([1, 2], rng=0, sources={"self": vocabulary([7])})
    with pytest.raises(UsageError, match=r"source 'self' and 'unigram'; bound: none"):
        condition.apply([1, 2], rng=0)


def test_what_a_condition_is():
    """The controls and the removals are known by property; a chain has no one name."""
    assert parse("intact").is_intact
    assert parse("noise(windows=3)").is_noise
    assert not parse("shuffle").is_intact
    assert not parse("shuffle").is_noise
    assert parse("drop(rate=0.0001)").removes  # though it leaves most far contexts as they are
    assert parse("shuffle(span=20)").name == "shuffle"
    assert parse("[reverse, truncate]").name is None


def test_a_condition_is_a_value():
    """It is equal and hashed by its text, and can be sent to another process."""
    condition = parse("[drop(rate=0.5), shuffle]")
    assert len({condition, parse("[drop(.5), shuffle()]"), parse("shuffle")}) == 2
    copy = pickle.loads(pickle.dumps(condition))
    assert copy == condition
    assert copy.apply(list(range(50)), rng=0) == condition.apply(list(range(50)), rng=0)


def test_a_draw_depends_on_each_of_its_five_parts():
    """Changing any one gives another stream; none can be mistaken for another's part."""
    keys = [
        (0, "a", 0, "shuffle", 0),
        (1, "a", 0, "shuffle", 0),
        (0, "b", 0, "shuffle", 0),
        (0, "a", 1, "shuffle", 0),
        (0, "a", 0, "reverse", 0),
        (0, "a", 0, "shuffle", 1),
        (0, 'a", 0, "shuffle', 0, "shuffle", 0),
        (0, "\ud800é", 0, "shuffle", 0),
    ]
    assert len({draw_rng(*key).bit_generator.random_raw() for key in keys}) == len(keys)
    assert (
        draw_rng(*keys[0]).random()
        == draw_rng(np.int64(0), "a", np.int32(0), *keys[0][3:]).random()
    )


def test_a_draw_is_the_same_in_every_process_and_version():
    """Its first raw numbers are written down here, and another process draws them too."""
    code = (
        "from probe.perturbations.condition import draw_rng\n"
        "print(draw_rng(7, 'emma', 2, 'shuffle(span=20)', 1).bit_generator.random_raw(2).tolist())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == [5821558954818504561, 2793245225766152004]


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (f"[{', '.join(['shuffle'] * 101)}]", "has more than 100 steps; allowed: up to 100"),
        (["[shuffle, reverse]"] * 51, "has more than 100 steps; allowed: up to 100"),
        ("x" * 10_001, "has 10,001 characters; allowed: up to 10,000"),
        (["x" * 9_000] * 2, "has 18,002 characters; allowed: up to 10,000"),
        (f"attend({'+'.join(['zero'] * 1_900)})", "has 1,899 signs of addition; allowed: up to"),
        (f"attend({'+'.join(['pool(2)'] * 2_000)})", "has 16,007 characters; allowed: up to"),
        (
            f"attend({'+'.join(f'local({w})' for w in range(1, 460))})",
            "characters; allowed: up to 10,000",  # of the canonical text
        ),
    ],
)
def test_what_nobody_wrote_is_refused_at_once(text, limit):
    """Too many steps, characters or sums: the limit is named, and the text is cut."""
    with pytest.raises(UsageError, match=limit) as caught:
        parse(text)
    assert len(str(caught.value)) < 500


def test_a_limit_is_the_last_that_is_allowed():
    """A hundred steps are read, and so is a pattern of 144 heads."""
    text = f"[{', '.join(['shuffle'] * 100)}]"
    assert parse(text).text == text
    assert len(parse([text[1:-1].partition(", ")[0]] * 100).steps) == 100
    heads = parse_pattern("+".join(f"heads(zero,heads={n})" for n in range(144)))
    assert len(heads.placed) == 144


@pytest.mark.parametrize("depth", [50, 90, 150, 190, 300, 600, 900, 1_200, 3_000, 4_900])
@pytest.mark.parametrize(
    ("front", "middle", "back"),
    [
        ("shuffle(", "1", ")"),
        ("shuffle([", "1", "])"),
        ("-", "1", ""),
        ("not ", "1", ""),
        ("shuffle.", "x", ""),
        ("", "shuffle", "()"),
        ("[", "shuffle", "]"),
        ("heads(", "zero", ", layers=[0])"),
        ("x+(", "x", ")"),
        ("f(x=", "x", ")"),
        ("lambda: ", "x", ""),
    ],
)
def test_nesting_is_no_crash(front, middle, back, depth):
    """However deep a text nests, wherever it stands, it is refused in one line."""
    deep_text = front * depth + middle + back * depth
    for text in (deep_text, f"attend({deep_text})", f"shuffle({deep_text})"):
        with pytest.raises(UsageError) as caught:
            parse(text)
        assert len(str(caught.value)) < 1_000
    with pytest.raises(UsageError):
        parse_pattern(deep_text)
    with pytest.raises(UsageError):
        parse_pattern(f"heads(each({deep_text}), layers=each({deep_text}))")


def test_long_texts_are_not_written_out():
    """`each` looks at no text that is refused anyway."""
    with pytest.raises(UsageError, match="characters; allowed"):
        expand("attend(heads(zero, layers=each(3)))" * 1_000)


# ------------------------------------------------------------------------------ text


@pytest.mark.parametrize("condition", ["shuffle(unit='sentence')", "[keep(what='rare'), shuffle]"])
def test_a_condition_that_reads_needs_text(condition):
    """Data that came as token ids has no words, and one text without is one too many."""
    texts = [spelled([0, 1, 2, 3, 4]), None]
    with pytest.raises(UsageError, match="reads words or sentences, and the data is token ids"):
        check_texts([parse(condition)], texts)
    check_texts([parse(condition)], texts[:1])
    check_texts([parse("shuffle"), parse("drop(rate=0.5)")], texts)


def test_sentences_are_needed_somewhere():
    """One window with two sentences is enough; without any the condition is refused."""
    one, two = spelled([0, 1, 2]), spelled([0, 1, 2, 3, 4, 5, 2])
    for text in ("shuffle(unit='sentence')", "shuffle_spans(span=3, within='sentence')"):
        check_texts([parse(text)], [one, two])
        with pytest.raises(UsageError, match="needs sentences, and no window of the data has two"):
            check_texts([parse(text)], [one, one])
    check_texts([parse("shuffle(unit='word')")], [one])


# ------------------------------------------------------------------------------ traits


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
    monkeypatch.setattr("probe.perturbations.condition._perturbed", lambda *_: pytest.fail("tried"))
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
