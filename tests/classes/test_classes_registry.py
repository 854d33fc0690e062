"""Classes are registered, and named as text; a mistake in it is one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from class_runs import window_of

from probe.classes import registry
from probe.classes.registry import choose, register
from probe.classes.tokens import WindowTokens
from probe.errors import ProbeError, UsageError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my classes.py"
    path.write_text(
        '''
from probe.classes.registry import register

LEAST = 2

@register("of_file")
def long(window, *, least=LEAST):
    """Tokens of many signs."""
    return [None if text is None else len(text) > least for text in window.texts]

def broken(window):
    return 1 / 0

def leaves(window):
    raise SystemExit
''',
        encoding="utf-8",
    )
    return path


def label(name: str, *tokens: str) -> list[str | None]:
    (one,) = choose([name])
    return one.labels(window_of(tokens))


def test_names() -> None:
    """The classes that the documentation promises are there, with a line of what they are."""
    promised = {"frequency", "subword", "last_occurrence", "copy", "kind", "group"}
    promised |= {"pos", "entity", "word_frequency"}
    assert promised <= set(registry.names())
    assert all(registry.get(name).summary.endswith(".") for name in registry.names())


def test_a_users_class() -> None:
    """A function of a notebook: bools are yes and no, None is no class; parameters by name."""

    @register("mine")
    def mine(window: WindowTokens, *, sign: str = "a") -> Any:
        """Whether a token holds a sign."""
        return np.array([None if text == "-" else sign in (text or "") for text in window.texts])

    assert label("mine", "ab", "b", "-") == ["yes", "no", None]
    assert label("mine(sign='b')", "ab", "c", "-") == ["yes", "no", None]
    assert registry.get("mine").summary == "Whether a token holds a sign."
    assert choose(["mine"])[0].version is None, "nothing says whether its code is still the same"


def test_registering_again() -> None:
    """A cell that is run again replaces its function; another function may not take the name."""
    for answer in ("a", "b"):

        @register("again")
        def again(window: WindowTokens) -> list[str]:
            return [answer] * len(window)  # noqa: B023 - called in this turn

        assert label("again", "x") == [answer]
    with pytest.raises(ValueError, match="'again' is already"):
        register("again")(lambda window: [])
    with pytest.raises(ValueError, match="'copy' is already probe"):
        register("copy")(lambda window: [])


@pytest.mark.parametrize("name", ["a b", "", "class", "1", "copy_length", "Document"])
def test_names_that_are_refused(name: str) -> None:
    """A name is an identifier and no other column of the table."""
    with pytest.raises(ValueError, match="name"):
        register(name)


def test_faces_that_are_refused() -> None:
    """The window comes first, whatever else there is has a name."""
    for function in (lambda: [], lambda window, other: [], lambda *, window: []):
        with pytest.raises(ValueError, match=r"must have the face f\(window"):
            register("other")(function)


def test_canonical_text() -> None:
    """Defaults are left out, parameters stand in the signature's order, twice the same is one."""
    names = ["copy(edges=[2, 4, 8])", " copy ", "frequency( top = 0.2 )", "copy(edges=(3,))"]
    texts = [one.text for one in choose(names)]
    assert texts == ["copy", "frequency(top=0.2)", "copy(edges=[3])"]
    listed = [one.text for one in choose(["copy(edges=[3])", "copy(edges=(3,))"])]
    assert listed == ["copy(edges=[3])"]
    assert choose(["word_frequency(edges=[4], language='de')"])[0].text == (
        "word_frequency(language='de', edges=[4])"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("frequncy", "did you mean 'frequency'"),
        ("nothing_like_it", "known: copy, "),
        (
            "frequency(tip=1)",
            "unknown parameter 'tip'; did you mean 'top'? parameters of",
        ),
        ("group(a=1)", "parameters of group: none"),
        ("frequency(0.2)", "cannot be read; allowed"),
        ("frequency(top='a')", "top is 'a'; allowed: a number, as top=0.1"),
        ("frequency(top=True)", "top is True; allowed: a number"),
        ("frequency(top=[1])", "top is [1]; allowed: a number"),
        ("word_frequency(language=5)", "language is 5; allowed: a text, as language='en'"),
        ("frequency(top=0.1, top=0.2)", "parameter 'top' is given twice"),
        ("frequency(top=__import__('os'))", "cannot be read"),
        ("frequency(**{'top': 1})", "'**' is not allowed; parameters of frequency: top=0.1"),
        ("a.b", "cannot be read"),
        ("copy; kind", "cannot be read"),
        ("(" * 500, "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_mistakes(text: str, said: str) -> None:
    """What is wrong, and what is allowed, in one line; nothing of a text is run."""
    with pytest.raises(UsageError) as caught:
        choose([text])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_required_parameter() -> None:
    """A parameter without default has to be given."""

    @register("needs")
    def needs(window: WindowTokens, *, word: str) -> list[bool]:
        return [word == text for text in window.texts]

    assert label("needs(word='a')", "a", "b") == ["yes", "no"]
    with pytest.raises(UsageError, match="parameter 'word' is required"):
        choose(["needs"])


def test_names_that_differ_by_case() -> None:
    """Two columns whose names a query cannot tell apart are refused."""
    for name in ("Mine", "mine"):
        register(name)(lambda window: [])
    with pytest.raises(UsageError, match="differ only in the case"):
        choose(["mine", "Mine"])


BAD_LABELS: list[Any] = [
    *(["a"], ["a"] * 3, np.ones((2, 2)), [1, 2], [1.5, "a"], None, np.array(["a"]))
]


@pytest.mark.parametrize("given", BAD_LABELS)
def test_bad_labels(given: Any) -> None:
    """Another number of labels, or labels of another kind, name class and window."""
    register("bad")(lambda window: given)
    with pytest.raises(ProbeError, match=r"^token class 'bad', window 0 of 'a': ") as caught:
        label("bad", "x", "y")
    assert "\n" not in str(caught.value)


# -- a function of a file -----------------------------------------------------------------------


def test_a_function_of_a_file(file: Path) -> None:
    """It is loaded as the user named it, and has the file's content for its version."""
    name = f"{file}:long"
    assert label(name, "abc", "a", "") == ["yes", "no", None]
    before = choose([name])[0].version
    assert before == choose([name])[0].version
    file.write_text(file.read_text("utf-8").replace("LEAST = 2", "LEAST = 3"), encoding="utf-8")
    assert label(name, "abc", "a", "") == ["no", "no", None], "no older compiled file is run"
    assert choose([name])[0].version != before
    assert not list(file.parent.glob("__pycache__"))
    assert label("of_file(least=0)", "a") == ["yes"], "what a file registers has its own name"


def test_files_that_cannot_be_used(file: Path) -> None:
    """What is missing or broken is told in one line."""
    for text, content, said in (
        ("absent.py:f", None, "'absent.py' cannot be read: No such file"),
        (f"{file}:short", None, "no function 'short' there; the file has long, broken, leaves"),
        (f"{file}:LEAST", None, "no function 'LEAST'"),
        (f"{file}:", None, "no function ''"),
        (f"{file}:f", "import a_module_that_nobody_has", "cannot be loaded: ModuleNotFoundError"),
        (f"{file}:f", "def f(:\n  x", "cannot be loaded: SyntaxError"),
        (f"{file}:f", "x = 'a\0'", "cannot be loaded: "),
        (f"{file}:f", "raise ValueError('a\\nb')", "cannot be loaded: ValueError: a b"),
    ):
        if content is not None:
            file.write_text(content, encoding="utf-8")
        with pytest.raises(UsageError) as caught:
            choose([text])
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_function_that_fails(file: Path) -> None:
    """The window on which it failed is named."""
    with pytest.raises(ProbeError, match=r"window 0 of 'a': ZeroDivisionError: division by zero"):
        label(f"{file}:broken", "x")
    with pytest.raises(ProbeError, match=r"window 0 of 'a': SystemExit"):
        label(f"{file}:leaves", "x")
