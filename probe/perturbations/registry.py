"""The perturbations by name: registering one, finding one, listing all."""

import difflib
import functools
import inspect
import keyword
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from numpy.random import Generator

from probe.errors import UsageError
from probe.perturbations import checks
from probe.perturbations.ids import Kind, like, to_array

BUILTINS = (
    "probe.perturbations.control",
    "probe.perturbations.order",
    "probe.perturbations.content",
    "probe.perturbations.removal",
)
HANDED = frozenset({"text", "targets"})
"""Parameters that no condition writes: the run hands them over."""


class Perturbation(Protocol):
    """A registered function: ids in, ids of the same kind out."""

    __name__: str

    def __call__(self, far: Kind, *, rng: Generator | int, **parameters: Any) -> Kind:
        """Give back the perturbed far context; *far* is left untouched."""


@dataclass(frozen=True)
class Entry:
    """What is known of a perturbation.

    Args:
        name: The name it has in a condition.
        function: The perturbation, as it came from `register`.
        summary: First line of its docstring.
        parameters: Its own parameters in the order of the signature, without *far* and *rng*;
            ``default`` is ``inspect.Parameter.empty`` where a value is required.
        removes: Whether it may give back fewer ids than it was given.
        reads: Which of ``text`` and ``targets`` it is handed besides the far context.
        alone: Whether each target needs a sequence of its own.
        keeps_positions: Whether what is left always keeps its position ids.
    """

    name: str
    function: Perturbation
    summary: str
    parameters: tuple[inspect.Parameter, ...]
    removes: bool
    reads: frozenset[str] = frozenset()
    alone: bool = False
    keeps_positions: bool = False


_entries: dict[str, Entry] = {}


def register(
    name: str, *, removes: bool = False, alone: bool = False, keeps_positions: bool = False
) -> Callable[[Callable[..., Any]], Perturbation]:
    """Make a function on an int64 array a perturbation with a name.

    The registered function takes and gives back a list, an array or a tensor, works on a copy,
    and accepts an int seed as *rng*; signature and docstring stay those of the plain function::

        @register("rotate")
        def rotate(far: Ids, *, rng: Generator, by: int = 1) -> Ids:
            return np.roll(far, by)

    A parameter called ``source`` is written as a name in a condition and is handed a sampler.
    Two parameters are never written in a condition: ``text`` is handed the
    :class:`probe.perturbations.text.TokenText` of the far context, and ``targets`` the ids of the
    targets behind it, shape ``(m,)``, int64. A function with a parameter ``positions``
    (``'closed'`` or ``'kept'``) must do nothing but leave tokens out: where positions are kept it
    is called with their places instead of their ids.

    Equal states of *rng* must give equal results. It must work on an empty far context too.

    Args:
        name: The name in conditions, a Python identifier.
        removes: Whether the function may give back fewer ids than it was given; without it,
            another number of ids is an error.
        alone: Whether the result depends on a single target, so that no two can share a sequence.
        keeps_positions: Whether what is left keeps its position ids, without being asked.

    Returns:
        The decorator.

    Raises:
        ValueError: If *name* is no identifier or belongs to another function, or if the function
            has not the face ``f(far, *, rng, **parameters)``.
    """
    if not (isinstance(name, str) and name.isidentifier()) or keyword.iskeyword(name):
        raise ValueError(f"the name of a perturbation must be an identifier; got {name!r}")

    def decorate(function: Callable[..., Any]) -> Perturbation:
        if function.__module__ not in BUILTINS:
            load_builtins()  # so that a name of theirs is taken, whoever is imported first
        known = _entries.get(name)
        if known is not None and _origin(known.function) != _origin(function):
            raise ValueError(
                f"perturbation {name!r} is already {'.'.join(_origin(known.function))}; "
                f"choose another name for {'.'.join(_origin(function))}"
            )
        perturb = _wrap(name, function, removes=removes)
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        parameters = _parameters(name, function)
        _entries[name] = Entry(
            name,
            perturb,
            summary,
            tuple(parameter for parameter in parameters if parameter.name not in HANDED),
            removes,
            frozenset(parameter.name for parameter in parameters) & HANDED,
            alone,
            keeps_positions,
        )
        return perturb

    return decorate


def names() -> tuple[str, ...]:
    """Name every perturbation that is registered, in alphabetical order."""
    load_builtins()
    return tuple(sorted(_entries))


def get(name: str) -> Entry:
    """Look a perturbation up.

    Raises:
        UsageError: If no perturbation has this name; the message lists those that are known.
    """
    load_builtins()
    if name in _entries:
        return _entries[name]
    nearest = difflib.get_close_matches(name, _entries, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise UsageError(f"unknown perturbation {name!r}; {hint}known: {', '.join(names())}")


def load_builtins() -> None:
    """Import the perturbations of this package, which registers them; once is enough."""
    for module in BUILTINS:
        import_module(module)


def _wrap(name: str, function: Callable[..., Any], *, removes: bool) -> Perturbation:
    @functools.wraps(function)
    def perturb(far: Any, *, rng: Generator | int, **parameters: Any) -> Any:
        ids = to_array(far)
        given = len(ids)
        result = function(ids, rng=checks.generator(rng), **parameters)
        perturbed = to_array(result, what=f"the result of {name!r}")
        if len(perturbed) > given or (len(perturbed) < given and not removes):
            allowed = "at most as many" if removes else "as many (or register it with removes=True)"
            raise ValueError(
                f"perturbation {name!r} made {len(perturbed)} ids of {given}; allowed: {allowed}"
            )
        return like(perturbed, far)

    return perturb


def _parameters(name: str, function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    first, *others = inspect.signature(function).parameters.values() or (None,)
    named = {parameter.name: parameter for parameter in others}
    rng = named.pop("rng", None)
    keyword_only = all(other.kind is inspect.Parameter.KEYWORD_ONLY for other in others)
    if first is None or first.name != "far" or rng is None or not keyword_only:
        raise ValueError(
            f"perturbation {name!r} must have the face f(far, *, rng, **parameters) with every "
            f"parameter named; got {inspect.signature(function)}"
        )
    return tuple(named.values())


def source_of(function: Callable[..., Any]) -> str:
    """The source of a function, empty where it is not to be had (an interactive session)."""
    try:
        return inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError):
        return ""


def _origin(function: Callable[..., Any]) -> tuple[str, str]:
    # Not identity: a module that is reloaded, or a notebook cell run again, may register again.
    return function.__module__, function.__qualname__
