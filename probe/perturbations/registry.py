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
    "probe.perturbations.order",
    "probe.perturbations.content",
    "probe.perturbations.removal",
    "probe.perturbations.targets",
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
class Traits:
    """What a perturbation does to any far context; what is ``None`` is found out by trying it.

    Each is a bool, or a function that is handed the perturbation's parameters by name, behind the
    numbers of tokens that it depends on.

    Args:
        random: Whether two draws can differ, on so many far tokens.
        nested: Whether a longer far context begins with what a shorter one becomes, on so many
            tokens of the shorter and of the longer one. Branches at two boundaries then share it.
        needs_text: Whether it cannot do without the text of the far context.
    """

    random: bool | Callable[..., bool] | None = None
    nested: bool | Callable[..., bool] | None = None
    needs_text: bool | Callable[..., bool] | None = None


UNKNOWN = Traits()
"""Nothing is declared: a user's own function may leave it at that."""
STEADY = Traits(random=False, nested=True, needs_text=False)
"""Draws nothing, and does to a token what it does whatever follows."""


@dataclass(frozen=True)
class PerturbationEntry:
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
        traits: What is declared of it.
    """

    name: str
    function: Perturbation
    summary: str
    parameters: tuple[inspect.Parameter, ...]
    removes: bool
    reads: frozenset[str] = frozenset()
    alone: bool = False
    keeps_positions: bool = False
    traits: Traits = UNKNOWN

    def declares(self, trait: str, given: dict[str, Any], *tokens: int) -> bool | None:
        """What is declared of it with some parameters.

        Args:
            trait: A field of :class:`Traits`.
            given: Parameters that differ from their defaults.
            tokens: The numbers of tokens that the trait depends on.

        Returns:
            ``None`` where it is not declared.
        """
        declared = getattr(self.traits, trait)
        if not callable(declared):
            return declared  # type: ignore[no-any-return]
        defaults = {parameter.name: parameter.default for parameter in self.parameters}
        return bool(declared(*tokens, **(defaults | given)))


REGISTRY = Registry[PerturbationEntry]("perturbation", "f(far, *, rng, **parameters)", BUILTINS)
names, get, load_builtins = REGISTRY.names, REGISTRY.get, REGISTRY.load_builtins


def register(
    name: str,
    *,
    removes: bool = False,
    alone: bool = False,
    keeps_positions: bool = False,
    traits: Traits = UNKNOWN,
) -> Callable[[Callable[..., Any]], Perturbation]:
    """Make a function on an int64 array a perturbation with a name.

    The registered function takes and gives back a list, an array or a tensor, works on a copy,
    and accepts an int seed as *rng*; signature and docstring stay those of the plain function::

        @register("rotate")
        def rotate(far: Ids, *, rng: Generator, by: int = 1) -> Ids:
            return np.roll(far, by)

    A parameter called ``source`` is written as a name in a condition and is handed a sampler.
    Three parameters are never written in a condition: ``text`` is handed the
    :class:`probe.perturbations.units.TokenText` of the far context, ``targets`` the ids of the
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
        traits: What it does to any far context, as far as it need not be found out by trying.

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
        REGISTRY.entries[name] = PerturbationEntry(
            name,
            perturb,
            summary(function),
            tuple(parameter for parameter in parameters if parameter.name not in HANDED),
            removes,
            frozenset(parameter.name for parameter in parameters) & HANDED,
            alone,
            keeps_positions,
            traits,
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
