"""An experiment ready to be scored: documents, windows, conditions, branches.

Everything here is decided before the model's weights are loaded, so that `plan` and `run` see the
same branches.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.branches import FirstToken, Scored, intact, perturbed
from probe.config import Config
from probe.corpus.sample import Corpus, load_corpus
from probe.errors import UsageError
from probe.models.load import ModelSource, open_source
from probe.perturbations.condition import Condition
from probe.perturbations.samplers import Sampler
from probe.perturbations.text import TokenText, pre_tokens
from probe.perturbations.trials import nested, trial
from probe.protocol import LongPPL, Plan, longppl
from probe.sources import Sources
from probe.store import Key
from probe.windows import Window, cut, token_counts, whole


@dataclass(frozen=True)
class Draw:
    """A condition and the number of its draw."""

    condition: Condition
    repeat: int


class Experiment:
    """What a configuration means on its data.

    Args:
        config: The configuration.
        source: The model, without its weights.
        corpus: The documents.
        pool: Ids of the documents that replaced text is taken from: those the run began with;
            ``None`` takes all.
    """

    def __init__(
        self,
        config: Config,
        source: ModelSource,
        corpus: Corpus,
        pool: Sequence[str] | None = None,
    ) -> None:
        self.config, self.source, self.corpus = config, source, corpus
        self.first_token = FirstToken(config.first_token, source.bos)
        self.protocol: Plan = _protocol(config, source, self.first_token.extra)
        self.documents = {document.id: document for document in corpus.documents}
        self.pool = tuple(self.documents if pool is None else pool)
        self.windows = tuple(self._cut())
        self._check_positions()

    @cached_property
    def shared(self) -> dict[str, bool]:
        """Whether a condition's far context is shared between boundaries, by its text."""
        boundaries = [run.boundary for run in self.protocol.runs(True)]
        shortest, longest = min(boundaries), max(boundaries)
        if shortest == longest:
            return {condition.text: True for condition in self.config.parsed}
        return {
            condition.text: nested(condition, m=max(1, shortest), n=max(2, longest))
            for condition in self.config.parsed
        }

    @cached_property
    def draws(self) -> tuple[Draw, ...]:
        """Conditions and repeats, in order; a condition that draws nothing is scored once."""
        longest = max(run.boundary for run in self.protocol.runs(True))
        return tuple(
            Draw(condition, repeat)
            for condition in self.config.parsed
            for repeat in range(self.config.repeats if _is_random(condition, longest) else 1)
        )

    def frequencies(self) -> NDArray[np.int64]:
        """How often each token id occurs in the pool's documents, shape ``(vocabulary,)``."""
        return token_counts((self.documents[name] for name in self.pool), self.source.vocabulary)

    def draws_of(self, window: Window) -> list[Draw]:
        """The draws that are scored on a window: ``noise(windows=n)`` on the first *n* only."""
        number = self._numbers[window.document, window.index]
        return [draw for draw in self.draws if number < self._most_windows(draw.condition)]

    def keys(self, window: Window) -> list[Key]:
        """What is scored on a window."""
        intact = Key(window.document, window.index, "intact", 0)
        return [intact] + [
            Key(window.document, window.index, draw.condition.text, draw.repeat)
            for draw in self.draws_of(window)
        ]

    def check_sources(self) -> None:
        """Find out before anything is scored whether every replaced text is to be had.

        Raises:
            UsageError: If a source has no text for some window.
        """
        for window in self.windows:
            for draw in self.draws_of(window):
                self._bound(draw.condition, window)

    def branches(self, window: Window, draws: Sequence[Draw]) -> list[Scored]:
        """The intact branch, then every run of each draw."""
        protocol = self.protocol.within(len(window.ids), self.first_token.extra)
        scored = [intact(window, protocol.targets, self.first_token)]
        for condition, repeat in ((draw.condition, draw.repeat) for draw in draws):
            sources = self._bound(condition, window)
            text = self._text(window) if "text" in condition.reads else None
            scored += [
                perturbed(
                    window,
                    run,
                    condition,
                    first_token=self.first_token,
                    seed=self.config.seed,
                    repeat=repeat,
                    sources=sources,
                    text=text,
                )
                for run in protocol.runs(self.shared[condition.text])
            ]
        return [one for one in scored if one.branch.targets > 0]

    def _bound(self, condition: Condition, window: Window) -> Mapping[str, Sampler]:
        document = self.documents[window.document]
        return self._sources.bind(condition.sources, window, document)

    def _text(self, window: Window) -> TokenText | None:
        """The window's text beside its tokens; ``None`` where the data came as token ids."""
        if window.text is None:
            return None
        words = pre_tokens(self.source.tokenizer)
        return TokenText(window.text, window.char_start, window.char_end, window.ids, words=words)

    def _most_windows(self, condition: Condition) -> int:
        asked = condition.steps[0].parameters.get("windows") if condition.is_noise else None
        return len(self.windows) if asked is None else int(asked)

    @cached_property
    def _numbers(self) -> dict[tuple[str, int], int]:
        return {(w.document, w.index): number for number, w in enumerate(self.windows)}

    @cached_property
    def _sources(self) -> Sources:
        room = max(run.boundary for run in self.protocol.runs(True))
        pool = [self.documents[name] for name in self.pool]
        size = self.source.vocabulary
        return Sources(pool, ordinary=self._ordinary(), size=size, room=room)

    def _ordinary(self) -> NDArray[np.int64]:
        """Ids that stand for text: every id of the tokenizer but the special ones."""
        size, tokenizer = self.source.vocabulary, self.source.tokenizer
        if tokenizer is None:
            return np.arange(size)
        added: dict[int, Any] = tokenizer.added_tokens_decoder
        special = {i for i, token in added.items() if token.special} | set(
            tokenizer.all_special_ids
        )
        ids = np.arange(min(size, len(tokenizer)))
        return ids[~np.isin(ids, sorted(special))]

    def _cut(self) -> Iterator[Window]:
        """Windows of all documents: each one's first, then each one's second, and so on."""
        settings = self.config.windows
        if isinstance(self.protocol, LongPPL):
            length = _longest(self.config, self.source, self.first_token.extra)
            yield from (whole(document, length=length) for document in self.corpus.documents)
            return
        by_document = [
            cut(
                document,
                length=settings.fixed,
                per_document=settings.per_document,
                skip=settings.skip,
                seed=self.config.seed,
            )
            for document in self.corpus.documents
        ]
        for index in range(max(map(len, by_document))):
            yield from (windows[index] for windows in by_document if index < len(windows))

    def _check_positions(self) -> None:
        bos, size = self.first_token.bos, self.source.vocabulary
        if bos is not None and bos >= size and self.first_token.extra:
            raise UsageError(
                f"first_token is {self.first_token.mode!r}: the tokenizer's BOS has the id {bos}; "
                f"the model knows 0 to {size - 1}"
            )
        positions, length = self.source.positions, self.config.windows.length
        needed = (length or 0) + self.first_token.extra
        if positions is not None and needed > positions:
            extra = " and the kept first token" if self.first_token.extra else ""
            raise UsageError(
                f"windows.length is {length}{extra}: the model has {positions} positions; "
                f"allowed: up to {positions - self.first_token.extra}"
            )


def prepare(config: Config, pool: Sequence[str] | None = None) -> Experiment:
    """Open the model's tokenizer, read the documents and cut the windows.

    Args:
        config: The configuration.
        pool: See :class:`Experiment`.

    Raises:
        UsageError: If the configuration does not fit model or data.
        ProbeError: If something cannot be read.
    """
    source = open_source(
        config.model.path,
        revision=config.model.revision,
        trust_remote_code=config.model.trust_remote_code,
    )
    if source.tokenizer is None and config.data.ids_column is None:
        raise UsageError(
            f"model.path {config.model.path!r} comes without a usable tokenizer "
            f"({source.without}); allowed: data as token ids, data.ids_column"
        )
    protocol = _protocol(config, source, FirstToken(config.first_token, source.bos).extra)
    corpus = load_corpus(
        config.data.as_options(),
        tokenizer=source.tokenizer,
        vocabulary_size=source.vocabulary,
        minimum=protocol.context + 2
        if isinstance(protocol, LongPPL)
        else config.windows.fixed + config.windows.skip,
        seed=config.seed,
    )
    return Experiment(config, source, corpus, pool)


def _longest(config: Config, source: ModelSource, extra: int) -> int | None:
    """Tokens at which whole documents are cut: the model's positions, or fewer if asked for."""
    places = None if source.positions is None else source.positions - extra
    return places if config.windows.length is None else config.windows.length


def _protocol(config: Config, source: ModelSource, extra: int) -> Plan:
    """The protocol on a model, behind *extra* tokens that stand in front of every window."""
    plan = config.plan
    if isinstance(plan, LongPPL):
        plan = longppl(_longest(config, source, extra), plan.context, plan.stride)
    return plan.within(plan.length, extra)


def _is_random(condition: Condition, longest: int) -> bool:
    """Whether a condition draws anything on far contexts up to *longest*, found out by trying."""
    outcomes = [trial(condition, longest, seed).tolist() for seed in range(16)]
    return any(outcome != outcomes[0] for outcome in outcomes)
