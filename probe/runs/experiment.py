"""An experiment ready to be scored: documents, windows, conditions, branches.

Everything here is decided before the model's weights are loaded, so that `plan` and `run` see the
same branches.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from probe.branches import FirstToken, Scored, attended, intact, perturbed
from probe.candidates import GOLD, candidates, places
from probe.config import Config
from probe.contexts import contexts
from probe.corpus.sample import Corpus, load_corpus
from probe.corpus.windows import Window, token_counts
from probe.cutting import fewest, usable, windows
from probe.errors import UsageError
from probe.models.load import ModelSource, open_source
from probe.perturbations.condition import Condition
from probe.perturbations.samplers import Sampler
from probe.perturbations.sources import Sources, check_texts, ordinary_ids
from probe.perturbations.traits import is_nested, is_random
from probe.perturbations.units import TokenText, common_types, pre_tokens
from probe.protocol import Dense, Passages, Plan, Run, Suffix
from probe.results.scores import Key
from probe.room import check_positions, fitted, longest_forward, longest_window


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
        self.first_token = first_token(config, source)
        self.protocol: Plan = fitted(config, source, self.first_token.extra)
        self.documents = {document.id: document for document in corpus.documents}
        self.pool = tuple(self.documents if pool is None else pool)
        self.windows = windows(
            corpus.documents,
            self.protocol,
            config.windows,
            longest=longest_window(config, source, self.first_token.extra),
            seed=config.seed,
        )
        if isinstance(self.protocol, Passages):
            longest = max(place.length for place in self.windows.places)
            self.protocol = self.protocol.within(longest, self.first_token.extra)
        check_positions(config, self.protocol, source, self.first_token)

    @cached_property
    def shared(self) -> dict[str, bool]:
        """Whether a condition's far context is shared between boundaries, by its text."""
        boundaries = [run.boundary for run in self.protocol.runs(True)]
        shortest, longest = min(boundaries), max(boundaries)
        if shortest == longest:
            return {condition.text: True for condition in self.config.parsed}
        return {
            # Under a pattern of attention nothing is shared, not even what is the same text.
            condition.text: condition.pattern is None
            and is_nested(condition, shorter=max(1, shortest), longer=max(2, longest))
            for condition in self.config.parsed
        }

    @cached_property
    def draws(self) -> tuple[Draw, ...]:
        """Conditions and repeats, in order; a condition that draws nothing is scored once."""
        longest = max(run.boundary for run in self.protocol.runs(True))
        return tuple(
            Draw(condition, repeat)
            for condition in self.config.parsed
            for repeat in range(self.config.repeats if is_random(condition, longest) else 1)
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
        """Find out before anything is scored whether every text is to be had that is needed.

        Raises:
            UsageError: If a source has no text for some window, or a condition none to read.
        """
        for window in self.windows:
            for draw in self.draws_of(window):
                for name in self._passage_names(window):
                    self._bound(draw.condition, window, name)
        check_texts(self.config.parsed, map(self._text, self.windows))

    def branches(self, window: Window, draws: Sequence[Draw]) -> list[Scored]:
        """The intact branch, then every run of each draw; with protocol dense, both by start."""
        protocol = self.protocol.within(len(window.ids), self.first_token.extra)
        if isinstance(protocol, Dense):
            names = [draw.condition.text for draw in draws]
            return contexts(window, protocol, names, self.first_token)
        if isinstance(protocol, Passages):
            protocol = protocol.within_document(self.documents[window.document].spans)
        scored = [intact(window, protocol.targets, self.first_token)]
        text = self._text(window)
        for condition, repeat in ((draw.condition, draw.repeat) for draw in draws):
            if condition.is_attended:
                scored.append(attended(window, protocol.targets, self.first_token, condition))
                continue
            runs = [
                perturbed(
                    window,
                    run,
                    condition,
                    first_token=self.first_token,
                    seed=self.config.seed,
                    repeat=repeat,
                    sources=self._bound(condition, window, name),
                    text=text,
                    passage=place,
                )
                for run, name, place in self._runs(protocol, condition)
            ]
            scored += [*runs, *(self._candidates(window, runs) if condition.text == GOLD else ())]
        return [one for one in scored if one.branch.targets > 0]

    def _candidates(self, window: Window, gold: Sequence[Scored]) -> list[Scored]:
        """The distractors of protocol suffix, behind each prefix; none with any other."""
        plan, document = self.protocol, self.documents[window.document]
        if not isinstance(plan, Suffix):
            return []
        skip, seed = self.config.windows.skip, self.config.seed
        return candidates(gold, document, places(document, window.start, plan, skip, seed), plan)

    def _passage_names(self, window: Window) -> Sequence[str | None]:
        """Names of the passages that are perturbed; one of none with any other protocol."""
        if not isinstance(self.protocol, Passages):
            return (None,)
        spans = self.documents[window.document].spans
        return [span.name for span in self.protocol.within_document(spans).passages]

    def _runs(
        self, protocol: Plan, condition: Condition
    ) -> Iterator[tuple[Run, str | None, slice | None]]:
        """Runs of a condition; with protocol passages each with the name and place of one."""
        if not isinstance(protocol, Passages):
            yield from ((run, None, None) for run in protocol.runs(self.shared[condition.text]))
        elif "passage" in condition.reads:
            yield from protocol.moved(condition.steps[0].parameters.get("to", "last"))
        else:
            for span, run in zip(protocol.passages, protocol.runs(True), strict=True):
                yield run, span.name, None

    def _bound(
        self, condition: Condition, window: Window, passage: str | None = None
    ) -> Mapping[str, Sampler]:
        document = self.documents[window.document]
        return self._sources.bind(condition.sources, window, document, passage)

    def _text(self, window: Window) -> TokenText | None:
        """The window's text beside its tokens; ``None`` where the data came as token ids."""
        if window.text is None:
            return None
        return TokenText(
            window.text,
            window.char_start,
            window.char_end,
            window.ids,
            words=pre_tokens(self.source.tokenizer),
            common=self._common,
        )

    @cached_property
    def _common(self) -> NDArray[np.bool_]:
        return common_types(self.frequencies())

    def _most_windows(self, condition: Condition) -> int:
        asked = condition.steps[0].parameters.get("windows") if condition.is_noise else None
        return len(self.windows) if asked is None else int(asked)

    @property
    def longest(self) -> int | None:
        """Most tokens of a window that are forwarded at once, ``None`` for all of it."""
        return longest_forward(self.config, self.protocol, self.first_token)

    @cached_property
    def _numbers(self) -> dict[tuple[str, int], int]:
        places = self.windows.places
        return {(p.document, p.window): number for number, p in enumerate(places)}

    @cached_property
    def _sources(self) -> Sources:
        room = max(run.boundary for run in self.protocol.runs(True))
        pool = [self.documents[name] for name in self.pool]
        size = self.source.vocabulary
        tokenizer = self.source.tokenizer
        ordinary = ordinary_ids(tokenizer, size)
        return Sources(pool, ordinary=ordinary, size=size, room=room, tokenizer=tokenizer)


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
    protocol = fitted(config, source, first_token(config, source).extra)
    corpus = load_corpus(
        config.data.as_options(),
        tokenizer=source.tokenizer,
        vocabulary_size=source.vocabulary,
        minimum=fewest(protocol, config.windows),
        seed=config.seed,
    )
    corpus = usable(corpus, protocol, config.windows, config.seed)
    return Experiment(config, source, corpus, pool)


def first_token(config: Config, source: ModelSource) -> FirstToken:
    """What stands in front: the BOS, or with ``published`` what the tokenizer itself puts there.

    Raises:
        UsageError: If it puts several tokens there, which ``published`` does not know how to cut.
    """
    if config.first_token != "published":
        return FirstToken(config.first_token, source.bos)
    prepended = source.prepended
    if len(prepended) > 1:
        raise UsageError(
            f"first_token is 'published': the tokenizer puts {len(prepended)} tokens in front of a "
            f"text, {list(prepended)}; allowed with such a tokenizer: keep, none"
        )
    return FirstToken(config.first_token, prepended[0] if prepended else None)
