"""One registry for every kind of function: its names, its messages, what it refuses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from probe.errors import UsageError
from probe.registry import Registry, summary


@dataclass(frozen=True)
class Entry:
    function: Callable[..., Any]


def keep(query: int, *, width: int, left: bool = True) -> bool:
    """Whether a key is seen.

    More is not told.
    """
    return left and query < width


def other(query: int) -> bool:
    return query > 0


@pytest.fixture
def patterns() -> Registry[Entry]:
    """A registry of a made-up kind, with one function in it."""
    made = Registry[Entry]("attention pattern", "f(query, *, **parameters)", (), ", or your own")
    made.check_free("keep", keep)
    made.entries["keep"] = Entry(keep)
    return made


def test_what_is_registered_is_found(patterns):
    """Names are in order; the summary is the docstring's first line."""
    patterns.entries["all"] = Entry(other)
    assert patterns.names() == ("all", "keep")
    assert patterns.get("keep").function is keep
    assert [summary(keep), summary(other)] == ["Whether a key is seen.", ""]


def test_an_unknown_name_is_answered_with_the_known_ones(patterns):
    with pytest.raises(UsageError) as error:
        patterns.get("kep")
    assert str(error.value) == (
        "unknown attention pattern 'kep'; did you mean 'keep'? known: keep, or your own"
    )


@pytest.mark.parametrize("name", ["", "two words", "1st", "lambda", 3])
def test_a_name_is_an_identifier(patterns, name):
    with pytest.raises(ValueError, match="name of an attention pattern must be an identifier"):
        patterns.check_name(name)


def test_a_name_belongs_to_one_function(patterns):
    """The same one may come again, as a reloaded module or a notebook's cell does."""
    patterns.check_free("keep", keep)
    with pytest.raises(ValueError, match=r"'keep' is already \S+\.keep; choose another name for"):
        patterns.check_free("keep", other)


def test_parameters_by_name(patterns):
    """The one in front is left out, and what every function of the kind needs."""
    assert [each.name for each in patterns.parameters("keep", keep)] == ["width", "left"]
    (left,) = patterns.parameters("keep", keep, first="query", needs="width")
    assert (left.name, left.default) == ("left", True)
    assert patterns.parameters("other", other) == ()


@pytest.mark.parametrize(
    ("function", "asked"),
    [
        (lambda: True, {}),
        (lambda *, width: width, {}),
        (lambda query, width: width, {}),
        (lambda query, *widths: widths, {}),
        (lambda query, **widths: widths, {}),
        (lambda query: query, {"first": "far"}),
        (lambda query, *, width: width, {"needs": "rng"}),
    ],
)
def test_another_face_is_refused(patterns, function, asked):
    with pytest.raises(ValueError, match=r"'odd' must have the face f\(query, \*, \*\*parameters"):
        patterns.parameters("odd", function, **asked)


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("Every length up to ``context``.", "Every length up to context."),
        ("A window of *w* keys, every *stride*-th.", "A window of w keys, every stride-th."),
        ("Costs 2*n*m; `far` has none.", "Costs 2*n*m; far has none."),
        ("Takes ``*ids`` and **all**.", "Takes *ids and **all**."),
    ],
)
def test_a_summary_has_no_marks_of_code(line, plain):
    """It is read in lists and on the page."""

    def function():
        pass

    function.__doc__ = f"{line}\n\nMore."
    assert summary(function) == plain
