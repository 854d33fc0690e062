"""Perturbations by name, ours and the user's."""

import inspect
import pickle

import numpy as np
import pytest
import torch

from probe.errors import UsageError
from probe.perturbations import registry
from probe.perturbations.order import shuffle

BUILTINS = {
    "intact", "noise", "shuffle", "shuffle_spans", "reverse", "replace", "keep", "drop",
    "truncate", "delete", "hide", "drop_target", "replace_target", "paste",
}  # fmt: skip


def rotate(far, *, rng, by=1):
    """Move the first tokens to the end.

    More is said here.
    """
    return np.roll(far, -by)


def test_the_builtins_are_there_unasked():
    """Looking up a name needs no import of the module that defines it."""
    assert set(registry.names()) >= BUILTINS
    assert list(registry.names()) == sorted(registry.names())


@pytest.mark.parametrize("name", sorted(BUILTINS))
def test_every_builtin_describes_itself(name):
    """Each has a one-line summary, and a docstring that explains every parameter."""
    entry = registry.get(name)
    assert entry.name == name
    assert entry.summary.endswith(".")
    doc = inspect.getdoc(entry.function)
    assert "Args:" in doc
    assert "Returns:" in doc
    assert all(f"{parameter.name}:" in doc for parameter in entry.parameters)


def test_an_entry_knows_the_parameters_and_defaults():
    """Parameters come without far and rng; one without a default is required."""
    span, *_ = registry.get("shuffle").parameters
    assert (span.name, span.default) == ("span", None)
    what, *_ = registry.get("keep").parameters
    assert what.default is inspect.Parameter.empty
    assert registry.get("truncate").parameters == ()


def test_an_unknown_name_is_answered_with_the_nearest_and_all():
    """A slip of the pen is met with what was meant, and with the whole list."""
    with pytest.raises(UsageError, match=r"'shufle'; did you mean 'shuffle'\? known: attend"):
        registry.get("shufle")
    with pytest.raises(UsageError, match="'xyz'; known: attend"):
        registry.get("xyz")


def test_a_function_of_the_user_becomes_a_perturbation():
    """It takes every kind and a seed, and is found by name with its summary."""
    perturb = registry.register("rotate")(rotate)
    assert registry.get("rotate").function is perturb
    assert registry.get("rotate").summary == "Move the first tokens to the end."
    assert perturb([1, 2, 3], rng=0) == [2, 3, 1]
    assert perturb([1, 2, 3], rng=0, by=2) == [3, 1, 2]
    assert perturb(torch.tensor([1, 2, 3]), rng=0).tolist() == [2, 3, 1]


def test_help_shows_the_plain_function():
    """Name, signature and docstring are those of the function as it was written."""
    perturb = registry.register("rotate")(rotate)
    assert perturb.__name__ == "rotate"
    assert inspect.signature(perturb) == inspect.signature(rotate)
    assert inspect.getdoc(perturb) == inspect.getdoc(rotate)
    assert str(inspect.signature(shuffle)).startswith("(far: 'Ids', *, rng: 'Generator', span: ")


def test_a_perturbation_can_be_sent_to_another_process():
    """It is pickled by its name in its module."""
    assert pickle.loads(pickle.dumps(shuffle)) is shuffle


def test_a_name_belongs_to_one_function():
    """Registering again is fine for the same function (a cell run twice), not for another."""
    registry.register("rotate")(rotate)
    registry.register("rotate")(rotate)
    with pytest.raises(ValueError, match=r"'shuffle' is already probe.perturbations.order.shuffle"):
        registry.register("shuffle")(rotate)


@pytest.mark.parametrize("name", ["", "two words", "a.b", "class", 3])
def test_a_name_must_be_readable_in_a_condition(name):
    """What a condition could not hold as a name is refused."""
    with pytest.raises(ValueError, match="must be an identifier; got"):
        registry.register(name)


@pytest.mark.parametrize(
    "function",
    [
        lambda: None,
        lambda far: far,
        lambda far, rng: far,
        lambda far, *, span: far,
        lambda ids, *, rng: ids,
        lambda far, *, rng, **rest: far,
    ],
)
def test_another_face_is_refused(function):
    """A perturbation is called as f(far, *, rng, **parameters), each parameter by its name."""
    with pytest.raises(ValueError, match="must have the face"):
        registry.register("faceless")(function)


def test_the_function_may_write_into_its_argument():
    """It gets a copy, so that a far context is never changed."""

    @registry.register("overwrite")
    def overwrite(far, *, rng):
        far[:] = 0
        return far

    far = np.arange(3)
    assert overwrite(far, rng=0).tolist() == [0, 0, 0]
    assert far.tolist() == [0, 1, 2]


def test_the_number_of_ids_is_declared():
    """Fewer ids only where it was said, more never, and no ids at all is not ids."""

    def halve(far, *, rng):
        return far[::2]

    with pytest.raises(ValueError, match=r"made 2 ids of 4; .* removes=True"):
        registry.register("halve")(halve)([1, 2, 3, 4], rng=0)
    assert registry.register("halve", removes=True)(halve)([1, 2, 3, 4], rng=0) == [1, 3]

    @registry.register("double", removes=True)
    def double(far, *, rng):
        return np.repeat(far, 2)

    with pytest.raises(ValueError, match="made 8 ids of 4; allowed: at most as many"):
        double([1, 2, 3, 4], rng=0)

    @registry.register("forgetful")
    def forgetful(far, *, rng):
        far.sort()

    with pytest.raises(ValueError, match="the result of 'forgetful' must be a list"):
        forgetful([1], rng=0)


@pytest.mark.parametrize("rng", [None, 1.5, True, -1, np.random.RandomState(0)])
def test_rng_is_a_generator_or_a_seed(rng):
    """Another source of randomness is refused, before anything is drawn."""
    with pytest.raises(ValueError, match=r"rng must be a numpy\.random\.Generator or a seed >= 0"):
        shuffle([1, 2], rng=rng)


def test_a_seed_is_a_fresh_generator():
    """A seed gives what a new generator of that seed gives."""
    ids = list(range(50))
    assert shuffle(ids, rng=7) == shuffle(ids, rng=np.random.default_rng(7))
    assert shuffle(ids, rng=np.int64(7)) == shuffle(ids, rng=7)
