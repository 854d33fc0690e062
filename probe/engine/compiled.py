"""A model's body compiled by torch, used for the forwards on which it is exact and faster.

Like a technique of the engine it proves itself first, on a window of the run: losses against those
of the plain body, seconds against its seconds, each kind of forward by itself. Whole forwards may
be slower while those that go on from a cache are faster: transformers writes the causal mask out
while it is compiled, where the plain body lets the kernel know of it.
"""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch._dynamo import config as dynamo
from transformers.cache_utils import Cache

from probe.engine.branch import SHORT, Branch, Source
from probe.engine.engine import Engine
from probe.engine.selfcheck import FLOAT32_MAX, FLOAT32_MEAN, Outcome, judged
from probe.engine.walk import Techniques
from probe.models.causal import snapshot
from probe.models.scorer import Scorer
from probe.text import one_line

COMPILE = "compile"
"""What its outcome is called."""
TEXT = 2048  # tokens of the window that are forwarded
FASTER = 0.95  # of the plain seconds, at most so many
TIMED = 5  # passes that are timed, behind one in which torch compiles
GRAPHS = 64  # of one model at most; torch's own limit is 8, and a walk of batches takes 12

Forward = Callable[..., Any]
Kind = tuple[tuple[str, Any], ...]
"""What decides which graph serves a forward: its arguments, whose sizes are 1 or any other."""


@dataclass(frozen=True)
class CompileOutcome(Outcome):
    """How the compiled body came out.

    Args:
        ratios: Its seconds, of those of the plain body, by kind of forward; the median.
        used: For which kinds it is used.
        seconds: What compiling and comparing took.
    """

    ratios: Mapping[str, float] = field(default_factory=dict)
    used: tuple[str, ...] = ()
    seconds: float = 0.0

    def __str__(self) -> str:
        if not self.passed:
            return super().__str__()
        ratios = ", ".join(f"{name} {self.ratios[name]:.2f}" for name in self.used)
        return f"{super().__str__()}; of the plain seconds: {ratios}"


class CompiledBody:
    """The forward of a model's body, compiled for some kinds of forwards and plain for others.

    It takes the place of the body's own forward only while text is scored without a pattern: what
    a hook or a stub does in a layer is lost on a graph that is compiled.

    Args:
        model: The model.
        say: Told in one line if torch fails later on; the body is plain then.
    """

    def __init__(self, model: Scorer, say: Callable[[str], None]) -> None:
        # Graphs of earlier models count against the limit of this one's.
        torch._dynamo.reset()
        self.plain: Forward = model.body.forward
        # One graph or none: an error comes before anything of the forward has been done.
        self._compiled: Forward = torch.compile(self.plain, dynamic=True, fullgraph=True)
        self.kinds: frozenset[Kind] = frozenset()
        self._say = say

    def __call__(self, **given: Any) -> Any:
        """Forward, as the body would."""
        if kind_of(given) in self.kinds:
            try:
                return self.compiled(given)
            except Exception as error:  # whatever torch raises on a shape that it has not seen
                self.kinds = frozenset()
                self._say(str(Outcome(COMPILE, False, reason=_raised(error))))
        return self.plain(**given)

    def compiled(self, given: Mapping[str, Any]) -> Any:
        """Forward through the compiled graph.

        Raises:
            Exception: Whatever torch's compiler raises.
        """
        # Beyond its limit torch would go on without a graph; with `fullgraph` it raises.
        with warnings.catch_warnings(), dynamo.patch(recompile_limit=GRAPHS):
            warnings.simplefilter("ignore")  # torch's compiler warns of its own parts
            return self._compiled(**given)


class _Trial:
    """Forwards everything by both ways: what the compiled one gives counts, both are timed."""

    def __init__(self, body: CompiledBody, device: torch.device) -> None:
        self._body, self._device = body, device
        self._seconds: dict[Kind, list[tuple[float, float]]] = {}
        self._words: dict[Kind, str] = {}

    def __call__(self, **given: Any) -> Any:
        kind = kind_of(given)
        is_new = kind not in self._seconds
        pairs = self._seconds.setdefault(kind, [])
        self._words[kind] = _words(given)
        same = {
            name: snapshot(value) if isinstance(value, Cache) else value
            for name, value in given.items()
        }
        if len(pairs) % 2:  # in turns, so that neither always finds the data in the CPU's cache
            plain, _ = self._timed(lambda: self._body.plain(**same))
            compiled, output = self._timed(lambda: self._body.compiled(given))
        else:
            compiled, output = self._timed(lambda: self._body.compiled(given))
            plain, _ = self._timed(lambda: self._body.plain(**same))
        if not is_new:  # or torch would be timed as it compiles
            pairs.append((plain, compiled))
        return output

    def ratios(self) -> dict[Kind, float]:
        """Seconds of the compiled forward, of those of the plain one, by kind."""
        return {
            kind: median(compiled / plain for plain, compiled in pairs)
            for kind, pairs in self._seconds.items()
            if pairs
        }

    def by_words(self, ratios: Mapping[Kind, float]) -> dict[str, float]:
        """The same by what kinds are called."""
        return {self._words[kind]: ratio for kind, ratio in ratios.items()}

    def _timed(self, forward: Callable[[], Any]) -> tuple[float, Any]:
        started = self._clock()
        output = forward()
        return self._clock() - started, output

    def _clock(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def try_compiled(
    model: Scorer,
    ids: NDArray[np.int64],
    techniques: Techniques,
    say: Callable[[str], None],
    *,
    source: Source | None = None,
    windows: int = 1,
) -> tuple[CompileOutcome, CompiledBody | None]:
    """Compile a model's body and compare it with the plain one on a text.

    The text is forwarded whole and through a prefix tree, as a run does it: a prefix, what goes on
    from its cache, and short pieces that are packed or rows. Kinds of forwards that do not come up
    there stay plain, such as those of texts with gaps between positions.

    Args:
        model: The model.
        ids: Token ids of a window of the run, shape ``(n,)``.
        techniques: What the engine may use on it.
        say: See :class:`CompiledBody`.
        source: What an encoder reads meanwhile.
        windows: Windows that are walked together; of several, one that is walked alone stays plain.

    Returns:
        The outcome, and the body where it may be used.
    """
    started = time.perf_counter()
    try:
        outcome, body = _compared(model, ids, techniques, say, source, windows)
    except Exception as error:  # whatever torch raises: no compiler, no memory, an operation
        outcome, body = CompileOutcome(COMPILE, False, reason=_raised(error)), None
    return replace(outcome, seconds=time.perf_counter() - started), body


def _compared(
    model: Scorer,
    ids: NDArray[np.int64],
    techniques: Techniques,
    say: Callable[[str], None],
    source: Source | None,
    windows: int,
) -> tuple[CompileOutcome, CompiledBody | None]:
    """See :func:`try_compiled`; whatever torch raises is raised."""
    if not model.has_head:
        return CompileOutcome(COMPILE, False, reason="a model without a head has no losses"), None
    body = CompiledBody(model, say)
    trial = _Trial(body, model.device)
    batch = [_branches(ids[:TEXT], source)] * min(2, windows)
    before = _losses(model, techniques, batch, body.plain)
    for _ in range(1 + TIMED):
        after = _losses(model, techniques, batch, trial)
    difference = np.where(np.isfinite(before), after - before, np.float32(0))
    limits = (FLOAT32_MAX, FLOAT32_MEAN) if model.model.dtype == torch.float32 else None
    judgement = judged(COMPILE, difference, "its losses differ", limits=limits)
    ratios = trial.ratios()
    outcome = CompileOutcome(**vars(judgement), ratios=trial.by_words(ratios))
    if not outcome.passed:
        return outcome, None
    faster = {kind: ratio for kind, ratio in ratios.items() if ratio < FASTER}
    if not faster:
        listed = ", ".join(f"{name} {ratio:.2f}" for name, ratio in outcome.ratios.items())
        reason = f"no faster; its seconds, of those of the plain body: {listed}"
        return replace(outcome, passed=False, reason=reason), None
    body.kinds = frozenset(faster)
    return replace(outcome, used=tuple(trial.by_words(faster))), body


def kind_of(given: Mapping[str, Any]) -> Kind:
    """The kind of a forward, by what the body is given.

    torch makes a graph for each, and a second one where the keys of a cache lie otherwise in
    memory, but none for other lengths: only 1 is a size of its own to it.
    """

    def described(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return tuple(min(2, size) for size in value.shape)
        return value if isinstance(value, bool | None) else type(value)

    return tuple((name, described(given[name])) for name in sorted(given))


def _words(given: Mapping[str, Any]) -> str:
    """What a kind of forward is called, in the words of the techniques."""
    mask = given.get("attention_mask")
    if any(isinstance(value, Cache) for value in given.values()):
        name = "packing" if mask is not None and mask.ndim == 4 else "continuation"
    else:
        name = "prefix" if given.get("use_cache") else "whole"
    if len(given["input_ids"]) == 1:
        return name
    positions = given.get("position_ids")
    return f"{name} of {'windows' if positions is None or len(positions) == 1 else 'rows'}"


def _losses(
    model: Scorer, techniques: Techniques, batch: list[list[Branch]], forward: Forward
) -> NDArray[np.float32]:
    """Losses of a text forwarded whole, and of all branches, by a forward of the body."""
    ways = [(techniques.whole(), 1)]
    if techniques.branching:
        ways.append((techniques, len(batch[0])))
    losses = []
    for using, count in ways:
        engine = Engine(model, using, forward=forward)
        scored = engine.score([window[:count] for window in batch], reference=0)
        losses += [one.measured for window in scored for one in window]
    return np.concatenate(losses)


def _branches(ids: NDArray[np.int64], source: Source | None) -> list[Branch]:
    """A text, and others that leave it: every kind of forward of a walk comes up among them."""
    size = min(SHORT, len(ids) // 4)
    at, other = len(ids) - 2 * size, ids[::-1]
    early, half = ids[: at // 2], np.concatenate([ids[:at], other[:size]])
    texts = [
        ids,
        # A node with two leaves: the text and it go on from one cache, none of them packed.
        np.concatenate([half, other[size : 2 * size]]),
        np.concatenate([half, np.roll(other, 1)[size : 2 * size]]),
        # Short leaves of the prefix, of the half of it, and of nothing: packed, or rows.
        np.concatenate([ids[:at], np.roll(other, 1)[:size]]),
        np.concatenate([ids[:at], np.roll(other, 2)[:size]]),
        np.concatenate([early, other[:size]]),
        other[:size],
        np.roll(other, 1)[:size],
    ]
    firsts = [at, at, at, at, at, len(early), 0, 0]
    return [
        Branch(text, text, first + 1, len(text), first + 1, source=source)
        for text, first in zip(map(np.ascontiguousarray, texts), firsts, strict=True)
    ]


def _raised(error: Exception) -> str:
    return f"torch raised {type(error).__name__}: {one_line(error)}"
