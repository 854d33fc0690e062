"""The self-check: do a model's losses mean what they should, and is each technique exact on it?

First the model alone: the loss of a target must not change with the tokens behind it (*causal*),
and should not change with their number (*length*). Then the engine: several families are silently
wrong with one of its techniques, so none is used before it has proved itself on the model at hand,
on a window of this run. What fails is switched off alone.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from transformers.cache_utils import Cache, DynamicCache

from probe.engine.branch import PACK, Node
from probe.engine.lower_layers import Layers
from probe.engine.walk import Techniques, packed_mask
from probe.errors import ProbeError
from probe.models.causal import is_plain, rows, snapshot
from probe.models.masked import MaskedModel
from probe.models.scorer import Scorer

TAIL = 288  # tokens whose losses are compared
HEAD = 288  # tokens whose logits are compared with the model's own
FIRST = 16  # tokens of the first piece of a prefix, fewer than any length that a family goes by
FLOAT32_MAX = 5e-4  # nats, the largest difference of one loss; what is wrong is off by far more
FLOAT32_MEAN = 2e-5  # nats: rounding has no direction
ROUNDED_MEAN, ROUNDED_SD = 0.02, 0.1  # nats, in bfloat16 and float16, where single losses differ
UNCHANGED = 1e-3  # nats in float32, the largest change of a loss by what follows its target
SHORTEST = 32  # tokens, at least as short is the last of the cuts, each half of the one before
CHANGED = 8  # tokens at the end of two thirds of a text that are changed
FEWEST_TARGETS = 256  # a mean change is estimated from at least so many
OF_STATES = "between states at length 1"
_UNCHANGED = (UNCHANGED, math.inf)
_TECHNIQUES = tuple(technique.name for technique in fields(Techniques))


@dataclass(frozen=True)
class Outcome:
    """How one technique, or one property of the model, came out.

    Args:
        technique: A field of :class:`probe.engine.walk.Techniques`, or ``causal`` or ``length``.
        passed: Whether it may be used; whether the model has the property.
        mean: Mean difference from whole forwards, nats.
        sd: Standard deviation of the difference, nats.
        worst: Largest difference, nats.
        reason: Why it has not passed; empty when it has.
        targets: How many losses were compared.
        limit: Upper 95 % limit of the absolute mean difference, nats.
        unit: Of the differences, where they are none of losses.
    """

    technique: str
    passed: bool
    mean: float = 0.0
    sd: float = 0.0
    worst: float = 0.0
    reason: str = ""
    targets: int = 0
    limit: float = 0.0
    unit: str = "nats"

    def __str__(self) -> str:
        if self.passed:
            exact = "exact" if self.worst < FLOAT32_MAX else "equal to rounding"
            return f"{self.technique}: {exact}, |difference| at most {self.worst:.2g} {self.unit}"
        properties = ("causal", "length")
        consequence = "" if self.technique in properties else "switched off, "
        return f"{self.technique}: {consequence}{self.reason}"


@dataclass(frozen=True)
class Report:
    """The outcomes, and the techniques that follow from them.

    Args:
        outcomes: What was tried, and how it came out.
        others: What may be used of what was not tried.
    """

    outcomes: tuple[Outcome, ...]
    others: Techniques = field(default_factory=Techniques)

    @property
    def techniques(self) -> Techniques:
        """What may be used on this model."""
        tried = {o.technique: o.passed for o in self.outcomes if o.technique in _TECHNIQUES}
        return replace(self.others, **tried)

    def refuse_acausal(self, model: Scorer) -> None:
        """Refuse a model that sees what follows: its losses are no losses of a text read so far.

        Raises:
            ProbeError: If so.
        """
        causal = next((o for o in self.outcomes if o.technique == "causal"), None)
        if causal is None or causal.passed:
            return
        text = model.model.config.get_text_config()
        kind = f"model_type {text.model_type!r}"
        if getattr(text, "is_decoder", True) is False:
            kind += ", is_decoder false"
        raise ProbeError(
            f"{type(model.model).__name__} ({kind}) sees what follows a token: other tokens behind "
            f"a target change its loss by up to {causal.worst:.2g} nats, so its losses mean "
            "nothing here; allowed: a causal language model"
        )

    def as_json(self) -> list[dict[str, object]]:
        """For run.json."""
        return [asdict(outcome) for outcome in self.outcomes]


def check(
    model: Scorer,
    ids: NDArray[np.int64],
    *,
    lower: bool = False,
    more: Iterable[NDArray[np.int64]] = (),
) -> Report:
    """Try the model, and every technique on it, on a text.

    Args:
        model: The model.
        ids: Token ids of one window with its kept first token, shape ``(n,)``; a window as long
            as the run's, since some families go wrong only beyond a length.
        lower: Whether lower layers are to be left out, which only attention patterns have need of.
        more: Texts like it, read only where losses depend on a sequence's length: how much they do
            is estimated from ``FEWEST_TARGETS`` targets.

    Returns:
        ``causal`` and ``length``, then one outcome per technique, in the order of
        :class:`probe.engine.walk.Techniques`; of a masked model the techniques alone that it uses.

    Raises:
        ProbeError: If the model cannot forward the text.
    """
    text = _tensor(model, ids)
    if isinstance(model, MaskedModel):
        return _check_masked(model, text, lower)
    causal, length, known = _properties(model, text, map(partial(_tensor, model), more))
    with torch.inference_mode(), model.exact_head():
        comparison = _Comparison(model, text, known)
        tried = [name for name in _TECHNIQUES if lower or name != "lower"]
        return Report((causal, length, *comparison.outcomes(tried)))


def _check_masked(model: Scorer, text: torch.Tensor, lower: bool) -> Report:
    """Try what is used on a masked model, where every branch is forwarded whole."""
    with torch.inference_mode(), model.exact_head():
        comparison = _WithoutCache(model, text)
        tried = ["rows", *(["head"] if model.has_head else []), *(["lower"] if lower else [])]
        outcomes = comparison.outcomes(tried)
        if not model.has_head:
            outcomes = [replace(one, unit=OF_STATES) for one in outcomes]
        return Report(tuple(outcomes), Techniques().whole())


def _properties(
    model: Scorer, text: torch.Tensor, more: Iterable[torch.Tensor]
) -> tuple[Outcome, Outcome, "_Known"]:
    """``causal`` and ``length``, and what the model itself was seen to give on the way.

    Branches differ in length. Where a loss goes by the length of its sequence (embeddings of
    positions that are rescaled beyond a length, keys that are chosen among all), a delta mixes the
    change of the text with that of the length. Of the cuts the one with the largest mean change
    counts, which is estimated from ``FEWEST_TARGETS`` targets where there are so many.
    """
    # A half, a quarter, an eighth, … of it, down to few tokens: the shortest branches of a run are
    # far shorter than its windows, and what a family goes by may lie between the two.
    powers = range(1, max(4, 1 + (len(text) // SHORTEST).bit_length()))
    parts = [2**power for power in powers]
    # Odd: where tokens are seen in blocks of an even size, no block ends before the first change.
    cached = 2 * len(text) // 3 | 1
    keep, caches = model.model.dtype == torch.float32, list[Cache | None]()

    def compute() -> list[torch.Tensor]:
        whole, count = _states(model, text), len(text)
        if count >= SHORTEST:
            # Other tokens, then none: what leaves each loss was not seen and goes by no length.
            other = _changed(model, text, cached, cached + CHANGED)
            states, cache = model.states(other[None], keep=keep)
            behind = _changes(model, text, whole, states[0], cached)
            cuts = [behind, *_cut(model, text, parts[1:], whole)]
            if all(change.abs().max() <= UNCHANGED for change in cuts):
                caches.append(cache)
                return [whole, behind, *cuts]
            del states, cache
        stop = min(cached, count - 1)
        states = _states(model, _changed(model, text, stop, count))
        behind = _changes(model, text, whole, states, stop)
        return [whole, behind, *_cut(model, text, parts, whole)]

    try:
        (whole, behind, *first), exact = _in_float32(model, compute)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a family raises
        line = next(iter(str(error).splitlines()), "")
        raise ProbeError(
            f"{type(model.model).__name__} cannot forward {len(text)} tokens at once "
            f"({type(error).__name__}: {line}); allowed: fewer, in a "
            "shorter window or text, of token ids that it knows"
        ) from error
    limits = _UNCHANGED if exact else None
    what = "the model sees what follows: other tokens behind a target change its loss"
    causal = judged("causal", behind, what, limits=limits)
    by_cut = [[change] for change in first]
    # Most models change nothing, and one text shows it; of the others the mean is wanted.
    changed = any(change.abs().max() > UNCHANGED for change in first)
    for other in more if changed else ():
        if sum(map(len, by_cut[-1])) >= FEWEST_TARGETS:
            break
        changes, exact = _in_float32(model, partial(_cut, model, other, parts))
        for seen, change in zip(by_cut, changes, strict=True):
            seen.append(change)
    limits = _UNCHANGED if exact else None
    what = "cutting off what follows a target changes its loss"
    cuts = [judged("length", torch.cat(seen), what, limits=limits) for seen in by_cut]
    length = max(cuts, key=lambda outcome: (outcome.limit, outcome.worst))
    if not keep:  # what is known was computed in another dtype
        return causal, length, _Known()
    return causal, length, _Known(whole, cached, *caches)


@dataclass(frozen=True, eq=False)
class _Known:
    """What plain forwards of a text gave.

    Args:
        whole: Hidden states of all of it, shape ``(n, d)``.
        cached: Of how many tokens there is a cache.
        cache: It, with some other tokens behind them; ``None`` where losses go by a sequence's
            length, so that one that began with few tokens may be another one.
    """

    whole: torch.Tensor | None = None
    cached: int = 0
    cache: Cache | None = None


def _cut(
    model: Scorer, text: torch.Tensor, parts: list[int], whole: torch.Tensor | None = None
) -> list[torch.Tensor]:
    """Changes of the losses before each cut of a text."""
    whole = _states(model, text) if whole is None else whole
    cuts = (text[: max(2, len(text) // part)] for part in parts)
    return [_changes(model, text, whole, _states(model, cut), len(cut) - 1) for cut in cuts]


def _changed(model: Scorer, text: torch.Tensor, stop: int, end: int) -> torch.Tensor:
    """A text with other tokens in the places from *stop* to *end*, where it is cut."""
    other = text[:end].clone()
    other[stop:] = (text[stop:end] + 1) % model.vocabulary
    return other


def _changes(
    model: Scorer, text: torch.Tensor, whole: torch.Tensor, states: torch.Tensor, stop: int
) -> torch.Tensor:
    """Changes of at most ``TAIL`` losses, nats, where another text is read, the same up to *stop*.

    The token before it predicts the last label. A loss that is no number has no change, the run
    itself refuses it.
    """
    own = slice(max(0, stop - TAIL), stop)
    labels = text[own.start + 1 : stop + 1]
    before, after = (model.nll(each[own], labels) for each in (whole, states))
    return torch.where(before.isfinite(), after - before, 0.0)


def _logp(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of labels; the sum in pairs, as `log_softmax` loses what is small."""
    logits = logits.float()
    return logits.gather(1, labels[:, None])[:, 0] - torch.logsumexp(logits, dim=-1)


def _states(model: Scorer, ids: torch.Tensor) -> torch.Tensor:
    """Hidden states of a text by one plain forward, shape ``(n, d)``."""
    return model.states(ids[None], keep=False)[0][0]


def _in_float32(
    model: Scorer, compute: Callable[[], list[torch.Tensor]]
) -> tuple[list[torch.Tensor], bool]:
    """What is computed in float32, or in the model's own dtype where that fails, and whether exact.

    In bfloat16 a loss moves by hundredths of a nat when the same text is split elsewhere: a change
    by what follows could not be told from rounding.
    """
    with torch.no_grad():
        if model.model.dtype != torch.float32:
            try:
                with model.float32():
                    return compute(), True
            except Exception:  # not enough memory, or a family that knows its own dtype alone
                return compute(), False
        return compute(), True


def judged(
    name: str,
    difference: torch.Tensor | NDArray[np.float32],
    what: str,
    *,
    limits: tuple[float, float] | None = None,
) -> Outcome:
    """Judge by differences of losses.

    Args:
        name: Of the technique or property.
        difference: Differences, shape ``(m,)``, nats.
        what: What differs, for the reason why it has not passed.
        limits: The largest difference of one loss and of their mean, nats, in float32; ``None``
            where differences are rounded.
    """
    difference, count = torch.as_tensor(difference), len(difference)
    mean, worst = float(difference.mean()), float(difference.abs().max())
    sd, limit = 0.0, worst
    if count > 1:
        sd = float(difference.std())
        limit = abs(mean) + float(stdtrit(count - 1, 0.975)) * sd / count**0.5
    if limits is None:
        passed = abs(mean) <= ROUNDED_MEAN and sd <= ROUNDED_SD
    else:
        passed = worst <= limits[0] and abs(mean) <= limits[1]
    reason = "" if passed else f"{what} by up to {worst:.2g} nats"
    return Outcome(name, passed, mean, sd, worst, reason, count, limit)


def _tensor(model: Scorer, ids: NDArray[np.int64]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(ids)).to(model.device)


class _Unusable(Exception):
    """A technique that cannot be tried, with the reason."""


class _Comparison:
    """Each technique against the whole forward of one text, from one prefix of it."""

    def __init__(self, model: Scorer, ids: torch.Tensor, known: _Known | None = None) -> None:
        self.model, self.ids, self.known = model, ids, known or _Known()
        exact = model.model.dtype == torch.float32
        self.limits = (FLOAT32_MAX, FLOAT32_MEAN) if exact else None
        self.tail = max(2, min(TAIL, len(ids) // 3))
        self.at = len(ids) - self.tail
        self.whole = _states(model, ids) if known is None or known.whole is None else known.whole
        # Another text of the same tokens, for what must not leak from one branch into the other.
        self.other = self.ids.flip(0)

    def outcomes(self, techniques: Sequence[str]) -> list[Outcome]:
        """How each came out; a fork that goes on rightly behind another does so alone."""
        forks = self.outcome("forks") if "forks" in techniques else None
        if forks and not forks.passed:
            # What has gone on from it may have written into it.
            vars(self).pop("_prefix", None)
            self.known = replace(self.known, cache=None)
            forks = None
        known = {"forks": forks, "continuation": forks and replace(forks, technique="continuation")}
        return [known.get(name) or self.outcome(name) for name in techniques]

    def outcome(self, technique: str) -> Outcome:
        try:
            difference: torch.Tensor = getattr(self, technique)()
        except _Unusable as error:
            return Outcome(technique, False, reason=str(error))
        except Exception as error:  # whatever a family raises, the technique is not for it
            line = (str(error).splitlines() or [""])[0]
            reason = f"the model raised {type(error).__name__}: {line}"
            return Outcome(technique, False, reason=reason)
        return judged(technique, difference, "its losses differ", limits=self.limits)

    # -- the techniques by their names; each returns differences of losses, shape (m,) ------

    def continuation(self) -> torch.Tensor:
        return self._difference(self._go_on(self._end[None], self._branch())[0], self.at)

    def forks(self) -> torch.Tensor:
        # Both at once: what the first one writes into the other's states would show in its losses.
        first, second = self._branch(), self._branch()
        self._go_on(self.other[None, : self.tail], first)
        return self._difference(self._go_on(self._end[None], second)[0], self.at)

    def rows(self) -> torch.Tensor:
        index = torch.zeros(2, dtype=torch.long, device=self.model.device)
        both = torch.stack([self.other[: self.tail], self._end])
        return self._difference(self._go_on(both, rows(self._branch(), index))[1], self.at)

    def packing(self) -> torch.Tensor:
        cache = self._branch()
        if not self.model.takes_positions:
            raise _Unusable("the model takes no position ids")
        if not is_plain(cache):
            raise _Unusable("its cache does not keep every key (sliding or recurrent layers)")
        early, tail = self.at // 2, self.tail
        size = min(tail, self.at - early)
        # A leaf that left the prefix halfway, and one behind others that it must not see: as many
        # as a run may pack, since some families look at how many keys there are, or at their place.
        others = max(1, (PACK - size - tail) // tail)
        leaves = [
            Node(early, early + size, 0, [0]),
            *(Node(self.at, self.at + tail, at, [at]) for at in range(1, others + 2)),
        ]
        first = self.ids[early : early + size]
        ids = torch.cat([first, *[self.other[:tail]] * others, self._end])
        positions = torch.cat([torch.arange(leaf.start, leaf.stop) for leaf in leaves])
        mask = packed_mask(leaves, self.at, self.model.model.dtype).to(self.model.device)
        states, _ = self.model.states(
            ids[None], cache, positions=positions[None].to(self.model.device), mask=mask
        )
        last = self._difference(states[0, -tail:], self.at)
        return torch.cat([self._difference(states[0, :size], early), last])

    def head(self) -> torch.Tensor:
        labels = self.ids[1 : HEAD + 1]
        whole, own = self.whole[: len(labels)], self._own_logits(len(labels))
        expected, stubbed = (_logp(logits, labels) for logits in (own, self.model.head(whole)))
        found = stubbed - expected
        if self.model.by_parts:
            parts = -self.model.nll(whole, labels) - expected
            self.model.by_parts = judged("head", parts, "", limits=self.limits).passed
            if self.model.by_parts and parts.abs().max() > found.abs().max():
                return parts
        return found

    def lower(self) -> torch.Tensor:
        layers = Layers(self.model)
        half = layers.count // 2
        if half == 0:
            raise _Unusable("the model has no list of layers")
        with layers.recorded([half - 1]) as outputs:
            self.model.states(self.ids[None], keep=False)
        with layers.skipped(half, outputs):
            states, _ = self.model.states(self.ids[None], keep=False)
        return self._difference(states[0, self.at :], self.at)

    # -- helpers ----------------------------------------------------------------------------

    def _own_logits(self, count: int) -> torch.Tensor:
        """The model's own logits of the first tokens, which those that follow do not change."""
        return self.model.logits(self.ids[None, :count])[0]

    @property
    def _end(self) -> torch.Tensor:
        return self.ids[self.at :]

    @cached_property
    def _prefix(self) -> Cache | None:
        """The cache of the prefix, in two pieces as a walk may make it.

        Some families (longrope, dynamic NTK) embed positions by the length of what is forwarded,
        and a cache that grew across such a length is none of a whole forward: where losses go by a
        length, the first piece is short.
        """
        first, cache = self.known.cached, self.known.cache
        if type(cache) is DynamicCache and is_plain(cache) and first < self.at:
            cache.crop(-CHANGED)
        else:
            first = min(FIRST, self.at // 2)
            _, cache = self.model.states(self.ids[None, :first])
        positions = self._positions(first, self.at)
        return self.model.states(self.ids[None, first : self.at], cache, positions=positions)[1]

    def _branch(self) -> Cache:
        if self.model.cache_name is None or (cache := self._prefix) is None:
            raise _Unusable("the model returns no cache")
        return snapshot(cache)

    def _go_on(self, ids: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Hidden states of as many texts of the end, from a cache of the prefix."""
        return self.model.states(ids, cache, positions=self._positions(self.at, len(self.ids)))[0]

    def _positions(self, start: int, stop: int) -> torch.Tensor | None:
        if not self.model.takes_positions:
            return None
        return torch.arange(start, stop, device=self.model.device)[None]

    def _difference(self, states: torch.Tensor, start: int) -> torch.Tensor:
        """Losses of the tokens after ``start`` from *states*, less those of the whole forward."""
        labels = self.ids[start + 1 : start + len(states)]
        whole = self.whole[start : start + len(labels)]
        return self.model.difference(states[: len(labels)], whole, labels)


class _WithoutCache(_Comparison):
    """Each technique that needs no prefix, on a model whose tokens see those that follow."""

    def _own_logits(self, count: int) -> torch.Tensor:
        return self.model.logits(self.ids[None])[0, :count]

    def rows(self) -> torch.Tensor:
        states, _ = self.model.states(torch.stack([self.other, self.ids]), keep=False)
        return self._difference(states[1, self.at :], self.at)
