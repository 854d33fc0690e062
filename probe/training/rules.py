"""Rules that make weights of tokens, or a score of a document, from what far text is worth.

A rule is a function that is registered, here or in a file of the user's own.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from probe.calls import Call, Syntax, literal
from probe.errors import UsageError
from probe.registry import Registry, summary
from probe.text import one_line, shown, suggestion

Floats = NDArray[np.float64]
SYNTAX = Syntax("rule", "name, or name(parameter=value)")
MOST = float(np.finfo(np.float32).max)
"""The largest weight that a file holds."""
LSD, LCL = 2.0, -2.0
"""Above which a token is key, nats (Fang et al. 2025)."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """What was measured of the tokens of one sequence, in order.

    Args:
        delta: Loss in the short context less that in the long one, nats, shape ``(n,)``; 0 where
            no short context was measured, or where it is the long one.
        long: Loss in the long context, nats; missing where it was not measured.
        measured: Which have a delta that was measured.
        kl: KL of the short context's distribution from the long one's, nats; missing where it was
            not measured.
    """

    delta: Floats
    long: Floats
    measured: NDArray[np.bool_]
    kl: Floats = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.delta)


Level = Literal["token", "document"]
LEVELS: dict[Level, str] = {"token": "rule of tokens", "document": "score of documents"}
"""What a rule of each level is called in messages."""


@dataclass(frozen=True)
class RuleEntry:
    """A registered rule.

    Args:
        name: What it is called in a text.
        function: From :class:`Tokens` to weights, shape ``(n,)``, or to a score and its standard
            error.
        level: Which of the two.
        measures: Measures that a run must have.
        summary: First line of its docstring.
        parameters: Its parameters.
    """

    name: str
    function: Callable[..., Any]
    level: Level
    measures: frozenset[str]
    summary: str
    parameters: tuple[inspect.Parameter, ...]


@dataclass(frozen=True)
class Rule:
    """A rule with its parameters.

    Args:
        text: The canonical text, which has every parameter.
        entry: What is registered.
        parameters: Values by name.
    """

    text: str
    entry: RuleEntry
    parameters: dict[str, float]

    def __call__(self, tokens: Tokens) -> Any:
        """Weights of tokens, or the score of a document and its standard error.

        Raises:
            UsageError: If it fails, or gives something else.
        """
        named = f"rule {shown(self.text)}"
        try:
            found = self.entry.function(tokens, **self.parameters)
            if self.entry.level == "document":
                score, spread = found
                return float(score), float(spread)
            weights = np.asarray(found, dtype=np.float64)
        except UsageError:
            raise
        except ValueError as error:
            raise UsageError(f"{named}: {one_line(error)}") from error
        except Exception as error:  # whatever a user's own function does
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise UsageError(f"{named} failed: {reason}") from error
        count = len(tokens)
        if weights.shape != (count,) or not ((weights >= 0) & (weights <= MOST)).all():
            raise UsageError(f"{named} gave {shown(found)}; allowed: {count} numbers from 0 on")
        return weights


REGISTRY = Registry[RuleEntry]("rule", "f(tokens, *, parameter=1.0)", (__name__,))
Function = TypeVar("Function", bound=Callable[..., Any])


def register(
    *, level: Level = "token", measures: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Make a function a rule, under its own name.

    Args:
        level: ``token`` for weights, ``document`` for a score.
        measures: Measures that a run must have beside ``nll``.

    Raises:
        ValueError: If the name is taken, or the function has another face.
    """

    def decorate(function: Function) -> Function:
        name = function.__name__
        REGISTRY.check_free(name, function)
        parameters = REGISTRY.parameters(name, function)
        REGISTRY.entries[name] = RuleEntry(
            name, function, level, frozenset(measures), summary(function), parameters
        )
        return function

    return decorate


def parse(text: str, level: Level | None = None) -> Rule:
    """Read a rule: ``longce``, ``longce(gamma=5)``, ``sparse(0.2)``.

    Args:
        text: What was written.
        level: The level that is wanted; ``None`` takes either.

    Raises:
        UsageError: If it cannot be read, is unknown or of the other level, or has a parameter out
            of range.
    """
    call = SYNTAX.call(SYNTAX.read(text), text)
    entry = REGISTRY.get(call.name) if level is None else _of_level(call.name, level)
    try:
        given = call.arguments(entry.parameters, _number)
        call.refuse_missing(given, entry.parameters)
    except ValueError as error:
        raise UsageError(f"rule {shown(text)}: {error}") from error
    values = {one.name: float(given.get(one.name, one.default)) for one in entry.parameters}
    rule = Rule(_written(Call(entry.name), values), entry, values)
    rule(Tokens(np.zeros(1), np.ones(1), np.ones(1, dtype=bool), np.zeros(1)))
    return rule


def _of_level(name: str, level: Level) -> RuleEntry:
    """The rule of this name; what a message allows and suggests is of its level alone."""
    known = {entry.name: entry for entry in entries(level)}
    if name in known:
        return known[name]
    allowed = ", ".join(known)
    if name in REGISTRY.entries:
        other = LEVELS[REGISTRY.get(name).level]
        raise UsageError(f"{shown(name)} is a {other}, no {LEVELS[level]}; allowed: {allowed}")
    hint = suggestion(name, known, f"known: {allowed}")
    raise UsageError(f"unknown {LEVELS[level]} {shown(name)}{hint}")


def _number(name: str, node: Any) -> float:
    try:
        value = literal(node)
        number = float(value) if type(value) in (int, float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"the value of {shown(name)} must be a number")
    return number


def _written(call: Call, values: dict[str, float]) -> str:
    inside = ", ".join(f"{name}={repr(value).removesuffix('.0')}" for name, value in values.items())
    return f"{call.name}({inside})" if inside else call.name


def _within(name: str, value: float, least: float, most: float = math.inf) -> None:
    if not least <= value <= most:
        most_text = "" if most == math.inf else f" to {most:g}"
        raise ValueError(f"{name} is {value:g}; allowed: {least:g}{most_text or ' or more'}")


# -- weights of tokens ---------------------------------------------------------------------------


@register()
def longce(tokens: Tokens, *, gamma: float = 5.0) -> Floats:
    """min(exp(delta), γ): as much more as the long context makes a token likelier, γ at most.

    A token without a short context has delta 0 and weighs 1; weights are not normalised.

    Args:
        tokens: The tokens of a sequence.
        gamma: The largest weight, 1 or more.

    Source: Fang et al. 2025 (LongCE), γ = 5.
    """
    _within("gamma", gamma, 1)
    weights: Floats = np.exp(np.minimum(tokens.delta, math.log(gamma)))
    return weights


@register()
def dense(tokens: Tokens, *, lam: float = 0.5) -> Floats:
    """λ + (1 − λ)·|delta| / mean |delta|: every token weighs something; the mean is 1.

    Args:
        tokens: The tokens of a sequence.
        lam: What every token weighs, 0 to 1.

    Source: Helm et al. 2025.
    """
    _within("lam", lam, 0, 1)
    return lam + (1 - lam) * _to_mean_1(np.abs(tokens.delta))


@register()
def sparse(tokens: Tokens, *, kappa: float = 0.2) -> Floats:
    """1/κ for the share κ of tokens with the largest |delta|, 0 for the others.

    Of n tokens ⌊κ·n⌋ are taken, at least one, the later of equals; their weight is n over their
    number, so that the mean is 1.

    Args:
        tokens: The tokens of a sequence.
        kappa: The share, above 0 and up to 1.

    Source: Helm et al. 2025, whose code draws among tokens of delta 0 where too few others are.
    """
    if not 0 < kappa <= 1:
        raise ValueError(f"kappa is {kappa:g}; allowed: above 0 and up to 1")
    count = max(1, math.floor(kappa * len(tokens) + 1e-9))
    weights = np.zeros(len(tokens))
    weights[np.argsort(np.abs(tokens.delta), kind="stable")[-count:]] = len(tokens) / count
    return weights


@register()
def ppmi(tokens: Tokens, *, s: float = 1.0) -> Floats:
    """max(0, delta − ln s), to mean 1: tokens that the long context makes likelier.

    Args:
        tokens: The tokens of a sequence.
        s: The shift of the pointwise mutual information, above 0.

    Source: Helm et al. 2025.
    """
    return _to_mean_1(np.maximum(0, tokens.delta - _shift(s)))


@register()
def npmi(tokens: Tokens, *, s: float = 1.0) -> Floats:
    """max(0, −delta − ln s), to mean 1: tokens that the long context makes less likely.

    Args:
        tokens: The tokens of a sequence.
        s: The shift of the pointwise mutual information, above 0.

    Source: Helm et al. 2025.
    """
    return _to_mean_1(np.maximum(0, -tokens.delta - _shift(s)))


@register()
def keys(tokens: Tokens, *, lsd: float = LSD, lcl: float = LCL) -> Floats:
    """1 for key tokens, which the long context helps and makes likely; 0 for the others.

    Args:
        tokens: The tokens of a sequence.
        lsd: Above this lies their delta (LSD), nats.
        lcl: Above this lies their log-probability in the long context (LCL), nats.

    Source: Fang et al. 2025 (LongPPL), LSD > 2 and LCL > −2.
    """
    return _key(tokens, lsd, lcl).astype(np.float64)


def _key(tokens: Tokens, lsd: float, lcl: float) -> NDArray[np.bool_]:
    return tokens.measured & (tokens.delta > lsd) & (-np.nan_to_num(tokens.long, nan=np.inf) > lcl)


def _shift(s: float) -> float:
    if not s > 0:
        raise ValueError(f"s is {s:g}; allowed: above 0")
    return math.log(s)


def _to_mean_1(weights: Floats) -> Floats:
    """Weights times what makes their mean 1; all 1 where none weighs anything."""
    mean = weights.mean() if len(weights) else 0.0
    # Of smaller numbers, which have fewer digits, no quotient is exact.
    return weights / mean if mean >= np.finfo(np.float64).tiny else np.ones(len(weights))


# -- scores of documents -------------------------------------------------------------------------


@register(level="document", measures=("kl",))
def longfilter(tokens: Tokens) -> tuple[float, float]:
    """Mean KL(long ‖ short) of the measured tokens, nats.

    Source: LongFilter (ICLR 2026); `mean_delta` is its cheap form, which needs no distributions.
    """
    return _mean(tokens.kl[tokens.measured])


@register(level="document")
def mean_delta(tokens: Tokens) -> tuple[float, float]:
    """Mean delta of the measured tokens, nats."""
    return _mean(tokens.delta[tokens.measured])


@register(level="document")
def p90(tokens: Tokens) -> tuple[float, float]:
    """The 90 % quantile of delta of the measured tokens, nats.

    Its standard error is half the distance of the quantiles one standard deviation of the number of
    tokens below it apart (binomial).
    """
    delta = tokens.delta[tokens.measured]
    if len(delta) < 2:
        return float(delta[0]) if len(delta) else math.nan, math.nan
    spread = math.sqrt(0.09 / len(delta))
    low, value, high = np.quantile(delta, [max(0.0, 0.9 - spread), 0.9, min(1.0, 0.9 + spread)])
    return float(value), float(high - low) / 2


@register(level="document")
def key_share(tokens: Tokens, *, lsd: float = LSD, lcl: float = LCL) -> tuple[float, float]:
    """The share of key tokens among the measured ones.

    Args:
        tokens: The tokens of a document.
        lsd: See `keys`.
        lcl: See `keys`.
    """
    return _mean(_key(tokens, lsd, lcl)[tokens.measured].astype(np.float64))


def _mean(values: Floats) -> tuple[float, float]:
    """Mean and standard error of tokens taken as independent."""
    if not len(values):
        return math.nan, math.nan
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), error


def entries(level: Level) -> tuple[RuleEntry, ...]:
    """The rules of tokens, or of documents, by name."""
    every = map(REGISTRY.get, REGISTRY.names())
    return tuple(entry for entry in every if entry.level == level)
