"""An experiment ready to be scored: documents, windows, conditions, branches.

Everything here is decided before the model's weights are loaded, so that `plan` and `run` see the
same branches.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain, zip_longest

import numpy as np
from numpy.typing import NDArray

from probe.config import Config
from probe.corpus.sample import Corpus, Omitted, load_corpus
from probe.corpus.windows import Document, Place, Window, Windows, token_counts, whole
from probe.errors import UsageError
from probe.models.load import open_source
from probe.models.location import is_encoder
from probe.models.model_source import ModelSource
from probe.models.speech_seq2seq import SpeechModel, hearing_of, speak
from probe.perturbations.condition import Condition, check_texts, is_nested, is_random
from probe.perturbations.samplers import Sampler, Sources, ordinary_ids
from probe.perturbations.shared_texts import SharedTexts
from probe.perturbations.units import TokenText, common_types, pre_tokens
from probe.protocols import registry
from probe.protocols.base import EncoderFacts, Inputs, ModelFacts, Plan
from probe.protocols.branches import Draw, FirstToken, Scored
from probe.text import shown


class Experiment:
    """What a configuration means on its data.

    Args:
        config: The configuration.
        source: The model, without its weights.
        corpus: The documents.
        plan: The protocol, fitted to the windows and the model.
        pool: Ids of the documents that replaced text is taken from: those the run began with;
            ``None`` takes all.
    """

    def __init__(
        self,
        config: Config,
        source: ModelSource,
        corpus: Corpus,
        plan: Plan,
        pool: Sequence[str] | None = None,
    ) -> None:
        self.config, self.source, self.corpus = config, source, corpus
        self.first_token = plan.model.first_token
        self.documents = {document.id: document for document in corpus.documents}
        self.pool = tuple(self.documents if pool is None else pool)
        self.windows = _windows(corpus.documents, plan, config.seed)
        self.plan = plan.with_places(self.windows.places, self.documents, config.seed)
        self.plan.check_positions()

    @cached_property
    def _boundaries(self) -> tuple[int, int]:
        """The first and the last boundary of a window."""
        boundaries = [run.boundary for run in self.plan.runs(True)]
        return min(boundaries), max(boundaries)

    @cached_property
    def shared(self) -> dict[str, bool]:
        """Whether a condition's far context is shared between boundaries, by its text."""
        shortest, longest = self._boundaries
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
        config, (_, longest) = self.config, self._boundaries
        return draws(config.parsed, longest, config.repeats, config.seed)

    def frequencies(self) -> NDArray[np.int64]:
        """How often each token id occurs in the pool's documents, shape ``(vocabulary,)``."""
        return token_counts((self.documents[name] for name in self.pool), self.source.vocabulary)

    def draws_of(self, window: Window) -> list[Draw]:
        """The draws that are scored on a window, see :meth:`draws_at`."""
        return self.draws_at(self._numbers[window.document, window.index])

    def draws_at(self, number: int) -> list[Draw]:
        """The draws of the window of a number: ``noise(windows=n)`` on the first *n* only."""
        return [draw for draw, most in self._most_windows if number < most]

    def check_sources(self, numbers: Iterable[int] | None = None) -> None:
        """Find out before anything is scored whether every text is to be had that is needed.

        Args:
            numbers: Those of the windows of which something is to be scored; ``None`` is all.

        Raises:
            UsageError: If a source has no text for one of them, or a condition none to read in any
                window of the run.
        """
        for number in range(len(self.windows)) if numbers is None else numbers:
            window = self.windows[number]
            document = self.documents[window.document]
            plan = self.plan.of_window(window, document, self.config.seed)
            names = dict.fromkeys(run.name for run in plan.runs(True))
            for draw in self.draws_at(number):
                for name in names:
                    self._bound(draw, window, name)
        of_source = [condition for condition in self.config.parsed if condition.of == "source"]
        others = [condition for condition in self.config.parsed if condition.of != "source"]
        check_texts(others, map(self._text, self.windows))
        check_texts(of_source, map(self._source_text, self.documents.values()))

    def branches(self, window: Window, draws: Sequence[Draw]) -> list[Scored]:
        """What is scored of a window under some of its draws, and its intact text."""
        return self.plan.branches(window, draws, self.inputs(window))

    def inputs(self, window: Window) -> Inputs:
        """What the branches of a window are made of, besides the window."""
        return Inputs(
            document=self.documents[window.document],
            seed=self.config.seed,
            shared=self.shared,
            sources=lambda draw, name: self._bound(draw, window, name),
            text=self._text(window),
            source_text=self._source_text(self.documents[window.document]),
        )

    def _bound(self, draw: Draw, window: Window, name: str | None) -> Mapping[str, Sampler]:
        condition, document = draw.condition, self.documents[window.document]
        if condition.shared is not None:
            text = self._shared_texts.of(condition, window.document, draw.repeat, draw.seed)
            return {"document": text}
        if condition.of == "source" and document.source is not None:
            own = whole(document.source)
            return self._source_samplers.bind(condition.sources, own, document.source, name)
        return self._samplers.bind(condition.sources, window, document, name)

    def _source_text(self, document: Document) -> TokenText | None:
        """The text of what an encoder reads."""
        if document.source is None:
            return None
        return self._text(whole(document.source), of_source=True)

    def _text(self, window: Window, *, of_source: bool = False) -> TokenText | None:
        """The window's text beside its tokens; ``None`` where the data came as token ids."""
        if window.text is None:
            return None
        return TokenText(
            window.text,
            window.char_start,
            window.char_end,
            window.ids,
            words=pre_tokens(self.source.tokenizer),
            common=self._source_common if of_source else self._common,
        )

    @cached_property
    def _common(self) -> NDArray[np.bool_]:
        return common_types(self.frequencies())

    @cached_property
    def _source_common(self) -> NDArray[np.bool_]:
        sources = (document for document in self._source_documents)
        return common_types(token_counts(sources, self.source.source_vocabulary))

    @property
    def _source_documents(self) -> list[Document]:
        """What an encoder reads of the pool's documents."""
        sources = (self.documents[name].source for name in self.pool)
        return [source for source in sources if source is not None]

    @cached_property
    def _most_windows(self) -> list[tuple[Draw, float]]:
        return [(draw, most_windows(draw.condition)) for draw in self.draws]

    @cached_property
    def _numbers(self) -> dict[tuple[str, int], int]:
        places = self.windows.places
        return {(p.document, p.window): number for number, p in enumerate(places)}

    @cached_property
    def _samplers(self) -> Sources:
        pool = [self.documents[name] for name in self.pool]
        return self._sources(pool, self.source.vocabulary, self.plan.longest_far)

    @cached_property
    def _shared_texts(self) -> SharedTexts:
        return SharedTexts([self.documents[name] for name in self.pool], self.plan.longest_far)

    @cached_property
    def _source_samplers(self) -> Sources:
        pool = self._source_documents
        longest = max(len(source.ids) for source in pool)
        if (frames := pool[0].frames) is not None:  # every frame of the pool is as ordinary
            ids = np.concatenate([source.ids for source in pool]).astype(np.int64)
            return Sources(pool, ordinary=ids, size=len(frames), room=longest)
        return self._sources(pool, self.source.source_vocabulary, longest)

    def _sources(self, pool: Sequence[Document], size: int, room: int) -> Sources:
        tokenizer = self.source.tokenizer
        ordinary = ordinary_ids(tokenizer, size)
        return Sources(pool, ordinary=ordinary, size=size, room=room, tokenizer=tokenizer)


def draws(
    conditions: Iterable[Condition], longest: int, repeats: int, seed: int
) -> tuple[Draw, ...]:
    """Conditions and repeats, in order; a condition that draws nothing is scored once.

    Args:
        conditions: The conditions.
        longest: Tokens before the last boundary.
        repeats: Draws of those that draw.
        seed: Seed of the run.
    """
    return tuple(
        Draw(condition, repeat, seed)
        for condition in conditions
        for repeat in range(repeats if is_random(condition, longest) else 1)
    )


def most_windows(condition: Condition) -> float:
    """How many windows, the first ones, a condition is scored on."""
    asked = condition.steps[0].parameters.get("windows") if condition.is_noise else None
    return math.inf if asked is None else int(asked)


def prepare(
    config: Config,
    pool: Sequence[str] | None = None,
    *,
    corpus: Corpus | None = None,
    listen: Callable[[int], None] = lambda _: None,
) -> Experiment:
    """Open the model's tokenizer, read the documents and cut the windows.

    Args:
        config: The configuration.
        pool: See :class:`Experiment`.
        corpus: That of an experiment with this configuration, whose documents are not read again.
        listen: Called with the number of documents that are read, each time there is one more.

    Raises:
        UsageError: If the configuration does not fit model or data.
        ProbeError: If something cannot be read.
    """
    source = open_source(
        config.model.path,
        revision=config.model.revision,
        family=config.model.family,
        trust_remote_code=config.model.trust_remote_code,
    )
    if config.protocol.family == "encoder":
        source = _without_head(config, source)
    if source.tokenizer is None and config.data.ids_column is None:
        raise UsageError(
            f"model.path {config.model.path!r} comes without a usable tokenizer "
            f"({source.without}); allowed: data as token ids, data.ids_column"
        )
    plan = config.protocol.plan(config.windows, facts_of(config, source))
    if corpus is not None:
        return Experiment(config, source, corpus, plan, pool)
    reader = source.reader
    if source.extractor is not None:
        hearing = hearing_of(source.extractor, plan.frame, model=config.model.path)
        reader = replace(reader, hearing=hearing)
    corpus = load_corpus(
        config.data,
        reader,
        minimum=plan.fewest,
        unit=config.windows.unit,
        seed=config.seed,
        listen=listen,
    )
    return Experiment(config, source, _with_usable(corpus, plan, config.seed), plan, pool)


def _without_head(config: Config, source: ModelSource) -> ModelSource:
    """The model as an encoder, whatever head it has, where that is what it is.

    Raises:
        UsageError: If it is asked to be read so, and is none.
    """
    asked, written = config.model.family, source.config.to_dict()
    if asked == "auto" and is_encoder(written):
        return replace(source, family="encoder")
    known = is_encoder(written) or config.model.trust_remote_code
    if asked == "encoder" and not known:
        raise UsageError(
            f"model.family is 'encoder', and model.path {config.model.path!r} is "
            f"{shown(written.get('model_type'))}; allowed: a model whose tokens see both sides, "
            "as those of AutoModelForMaskedLM do, with a head or without"
        )
    return source


def facts_of(config: Config, source: ModelSource) -> ModelFacts:
    """What a plan must know of a model.

    Args:
        config: The configuration.
        source: The model.

    Raises:
        UsageError: If the protocol measures models of another family, or a masked model has no
            mask token.
    """
    protocol, path, family = config.protocol, config.model.path, source.family
    if protocol.family != family:
        kinds = ", ".join(registry.kinds(lambda one: one.family == family))
        raise UsageError(
            f"protocol {registry.kind_of(type(protocol))} measures {protocol.family} language "
            f"models, and model.path {path!r} is {'an' if family == 'encoder' else 'a'} {family} "
            f"one; allowed: protocol {kinds}"
        )
    if family in ("seq2seq", SpeechModel.family):
        return _encoder_decoder(config, source)
    first_token = first_token_of(config, source)
    if family == "causal":
        return ModelFacts(source.positions, first_token)
    if source.mask is None and family == "masked":
        raise UsageError(
            f"model.path {path!r}: its tokenizer has no mask token; allowed: a "
            "tokenizer with mask_token"
        )
    behind = source.appended if config.first_token != "none" else ()
    return ModelFacts(source.positions, first_token, behind, source.mask)


def _encoder_decoder(config: Config, source: ModelSource) -> ModelFacts:
    """What a plan must know of an encoder–decoder.

    Raises:
        UsageError: If nothing says how its decoder begins, or it is asked to begin with nothing.
    """
    hears = source.family == SpeechModel.family
    if hears and source.tokenizer is not None:
        path, language = config.model.path, config.data.language
        speak(source.tokenizer, language, vocabulary=source.vocabulary, model=path)
    lead = source.decoder_lead
    if not lead:
        raise UsageError(
            f"model.path {config.model.path!r}: nothing says how its decoder begins; allowed: a "
            "config.json with decoder_start_token_id"
        )
    if config.first_token == "none":
        raise UsageError(
            "first_token is 'none': a decoder begins with its start token; allowed: keep"
        )
    around = source.prepended, source.appended
    encoder = EncoderFacts(source.source_positions, *around, lead, source.sentinel)
    if hears:  # nothing stands around sound; how long it may be is known of its samples
        encoder = EncoderFacts(None, (), (), lead, seconds=source.position_seconds)
    return ModelFacts(source.positions, FirstToken("keep", lead[-1]), encoder=encoder)


def _with_usable(corpus: Corpus, plan: Plan, seed: int) -> Corpus:
    """Leave out the documents that the protocol can do nothing with, and count them."""
    usable = tuple(plan.usable(corpus.documents, seed))
    names = {document.id for document in usable}
    omitted = [document.id for document in corpus.documents if document.id not in names]
    left_out = replace(corpus.left_out, no_window=Omitted.of(omitted))
    return replace(corpus, documents=usable, left_out=left_out)


def _windows(documents: Sequence[Document], plan: Plan, seed: int) -> Windows:
    """Windows of all documents: each one's first, then each one's second, and so on."""
    by_document = [
        [
            Place(document.id, window.index, window.start, len(window.ids))
            for window in plan.windows(document, seed)
        ]
        for document in documents
    ]
    in_turn = chain.from_iterable(zip_longest(*by_document))
    return Windows(
        {document.id: document for document in documents},
        (place for place in in_turn if place is not None),
    )


def first_token_of(config: Config, source: ModelSource) -> FirstToken:
    """What stands in front: the BOS, or with ``published`` what the tokenizer itself puts there.

    Args:
        config: The configuration.
        source: The model, whose tokenizer tells.

    Raises:
        UsageError: If it puts several tokens there, which ``published`` does not know how to cut,
            or if the model does not know the BOS.
    """
    mode, bos, size = config.first_token, source.bos, source.vocabulary
    if source.family != "causal" and mode != "none":
        mode = "published"  # what stands in front of a masked model's text is its tokenizer's
    if mode == "published":
        prepended = source.prepended
        if len(prepended) > 1:
            allowed = "keep, none" if source.family == "causal" else "none"
            raise UsageError(
                f"first_token is {config.first_token!r}: the tokenizer puts {len(prepended)} "
                f"tokens in front of a text, {list(prepended)}; allowed with such a tokenizer: "
                f"{allowed}"
            )
        bos = prepended[0] if prepended else None
    if bos is not None and bos >= size and mode != "none":
        raise UsageError(
            f"first_token is {mode!r}: the tokenizer's BOS has the id {bos}; "
            f"the model knows 0 to {size - 1}"
        )
    if source.family != "causal":
        mode = "none" if bos is None else "keep"
    return FirstToken(mode, bos)
