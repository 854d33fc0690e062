"""One reader of `name(key=value)`: what it takes, and what it says of everything else."""

import ast
import contextlib
import inspect

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probe.attention.parse import parse as pattern
from probe.calls import LIMITS, Call, Syntax, listed, literal
from probe.classes.registry import choose
from probe.errors import UsageError
from probe.perturbations.condition import parse as condition

SYNTAX = Syntax("recipe", "name or name(key=value)", frozenset({"global"}))


def bake(far, *, heat: int, minutes: float = 2.0, what=None):
    """A function whose parameters are given by name."""


PARAMETERS = tuple(inspect.signature(bake).parameters.values())[1:]


def arguments(text: str) -> dict[str, object]:
    call = SYNTAX.call(SYNTAX.read(text), text)
    given = call.arguments(PARAMETERS, lambda _, node: literal(node))
    call.refuse_missing(given, PARAMETERS)
    return given


def test_values_go_to_their_parameters():
    """By place or by name; literals of every kind."""
    assert arguments("bake(3)") == {"heat": 3}
    assert arguments("bake(3, .5, what=['a', (1, None)])") == {
        "heat": 3,
        "minutes": 0.5,
        "what": ["a", (1, None)],
    }
    assert arguments(" bake ( what = {1: 2} , heat=-1 ) ") == {"what": {1: 2}, "heat": -1}
    assert SYNTAX.call(SYNTAX.read("bake"), "bake") == Call("bake")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "bake(1, 2, 3, 4)",
            "too many values (4); parameters of bake: heat, minutes=2.0, what=None",
        ),
        ("bake(heat=1, heat=2)", "parameter 'heat' is given twice; parameters of bake: heat"),
        ("bake(1, heat=2)", "parameter 'heat' is given twice; parameters of bake: heat"),
        ("bake(**{'heat': 1})", "'**' is not allowed; parameters of bake: heat"),
        ("bake(1, cold=2)", "unknown parameter 'cold'; parameters of bake: heat"),
        ("bake(what=1)", "parameter 'heat' is required; parameters of bake: heat"),
    ],
)
def test_a_mistake_ends_with_the_parameters(text, said):
    with pytest.raises(UsageError) as caught:
        arguments(text)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("text", ["", "bake(", "a.bake(1)", "bake(1)(2)", "1", "bake; bake", "\0"])
def test_what_is_no_call(text):
    with pytest.raises(UsageError) as caught:
        SYNTAX.call(SYNTAX.read(text), text)
    assert str(caught.value) == (
        f"recipe {text!r} cannot be read; allowed: name or name(key=value)"
    )


def test_a_word_of_pythons_own_can_be_called():
    """Where it is called, not in quotes, and not as a name of something else."""
    for text in ("global(1)", " global (1)", "global_(1)"):
        assert SYNTAX.unescaped(SYNTAX.call(SYNTAX.read(text), text).name) == "global"
    assert SYNTAX.escaped("f('global(1)', global(2))") == "f('global(1)', global_(2))"
    assert SYNTAX.unescaped("globally") == "globally"
    with pytest.raises(UsageError, match="cannot be read"):
        Syntax("recipe", "…").read("global(1)")


def test_nothing_is_run():
    """A value is a literal, or none."""
    with pytest.raises(ValueError, match="no literal"):
        arguments("bake(open('x'))")


@given(st.text())
@example("(" * 5_000)
@example("bake(" + "[" * 100 + "]" * 100 + ")")
@example("bake(0x" + "f" * 5_000 + ")")
@example("\ud800")
def test_any_text_is_read_or_refused(text):
    """In one way, whatever Python's parser raises."""
    with contextlib.suppress(UsageError):
        SYNTAX.call(SYNTAX.read(text), text)


@pytest.mark.parametrize(("what", "most"), LIMITS.items())
@pytest.mark.parametrize("read", [condition, pattern, lambda text: choose([text])])
def test_all_that_are_written_so_are_refused_alike(read, what, most):
    """A text that nobody wrote by hand, in one line that names the limit."""
    sign = "+" if what == "signs of addition" else "x"
    with pytest.raises(UsageError, match=rf"has {most + 1:,} {what}; allowed: up to {most:,}$"):
        read(sign * (most + 1))


def test_parameters_are_listed_without_their_types():
    assert listed(PARAMETERS) == "heat, minutes=2.0, what=None"
    assert listed(()) == ""
    assert isinstance(SYNTAX.read("bake"), ast.Name)
