"""The perturbations by name: registering one, finding one, listing all."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.random import Generator

from probe import checks
from probe.perturbations.ids import Kind, like, to_array
from probe.registry import Registry, summary

BUILTINS = (
    "probe.perturbations.controls",
    "probe.perturbations.controls",
    "probe.perturbations.order",
    "probe.perturbations.content",
    "probe.perturbations.filters",
    "probe.perturbations.removal",
    "probe.perturbations.targets",
    "probe.perturbations.content",
)
HANDED = frozenset({"text", "targets", "passage"})
"""Parameters that no condition writes: the run hands them over."""
RESERVED = frozenset({"distractor"})
"""Names of conditions that a protocol has of its own."""


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
        reads: Which of ``text``, ``targets`` and ``passage`` it is handed besides the far context.
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


REGISTRY = Registry[Entry]("perturbation", "f(far, *, rng, **parameters)", BUILTINS)
names, get, load_builtins = REGISTRY.names, REGISTRY.get, REGISTRY.load_builtins


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
    Three parameters are never written in a condition: ``text`` is handed the
    :class:`probe.perturbations.text.TokenText` of the far context, ``targets`` the ids of the
    targets behind it, shape ``(m,)``, int64, and ``passage`` the place of a passage in it, a
    slice (protocol passages). A function with a parameter ``positions``
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
    REGISTRY.check_name(name)

    if name in RESERVED:
        raise ValueError(f"{name!r} is what a protocol calls its candidates; choose another")

    def decorate(function: Callable[..., Any]) -> Perturbation:
        REGISTRY.check_free(name, function)
        perturb = _wrap(name, function, removes=removes)
        parameters = REGISTRY.parameters(name, function, first="far", needs="rng")
        REGISTRY.entries[name] = Entry(
            name,
            perturb,
            summary(function),
            tuple(parameter for parameter in parameters if parameter.name not in HANDED),
            removes,
            frozenset(parameter.name for parameter in parameters) & HANDED,
            alone,
            keeps_positions,
        )
        return perturb

    return decorate


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


def source_of(function: Callable[..., Any]) -> str:
    """The source of a function, empty where it is not to be had (an interactive session)."""
    try:
        return inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError):
        return ""
