"""Score texts under conditions, without a configuration and without a run folder."""

import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from probe.api.texts import ModelTokens, refuse_no_text
from probe.config import Config, check
from probe.corpus.records import Record
from probe.corpus.sample import Corpus, LeftOut
from probe.corpus.tokenise import to_document
from probe.corpus.windows import Document, Place, Window, whole
from probe.engine import selfcheck
from probe.engine.engine import Engine
from probe.engine.selfcheck import Report
from probe.errors import UsageError
from probe.models.causal import CausalModel
from probe.models.device import slow_dtype
from probe.models.load import load_model, open_source
from probe.models.location import Location
from probe.models.model_source import ModelSource
from probe.models.scorer import Scorer, fingerprint
from probe.perturbations.ids import AnyIds, to_array
from probe.protocols.base import (
    ModelFacts,
    WindowsConfig,
)
from probe.protocols.branches import TargetRun
from probe.protocols.whole_documents import WholeDocumentsPlan
from probe.render.markup import token_texts
from probe.results.scores import OPTIONAL, SCHEMA
from probe.runs.experiment import Experiment, first_token_of
from probe.runs.loaded import batch_size, check_model, score_unit
from probe.runs.plan import Missing
from probe.runs.rows import rows
from probe.text import counted, shown

Text = str | AnyIds
"""A text, or its token ids."""
FEWEST = 4
"""Tokens of the shortest text on which the model can be checked."""
COLUMNS = (
    *("document", "window", "position", "token", "far_start", "boundary", "distance"),
    *("condition", "repeat", "nll", "nll_intact", "delta"),
)
"""Columns of the frame: those of a run's scores, with ``token`` and ``delta``."""


def score(
    text: Text | Sequence[Text],
    *,
    model: str | Path | PreTrainedModel,
    conditions: str | Sequence[str] = ("truncate",),
    reach: int | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    measures: str | Sequence[str] = ("nll",),
    first_token: str = "keep",
    repeats: int = 1,
    seed: int = 0,
    dtype: str = "auto",
    device: str = "auto",
) -> pd.DataFrame:
    """Score a text under conditions: what each token loses when the far context is perturbed.

    The last *reach* tokens of the text are the targets; all that stands before them is far context,
    intact once and then perturbed by each condition. The first target is at distance 0 from the far
    context, the last at *reach* − 1. Nothing is written. The engine is a run's, and so are the
    numbers: those of protocol sweep with one run of targets.

    As in a run the model is checked first, in forwards of five times the longest text, which
    takes longer than to score it. Score many texts in one call; or hand over a loaded model, which
    is checked again only when its weights have changed or a longer text comes.

    Args:
        text: A text, or token ids without special tokens in front, shape ``(n,)``: a list, array or
            tensor; or several, also a column of pandas, each scored alone. Then
            ``replace(source='document')`` takes its text from the others.
        model: A hub name, folder, ``*.gguf`` or ``package://`` location, loaded anew in every call;
            or a causal language model of transformers, in evaluation mode.
        conditions: As in a configuration: ``truncate``, ``shuffle(span=5)``,
            ``attend(local(256))``.
        reach: Targets (tokens); by default half of the text, rounded down. Beyond half of it far
            targets have less far context than near, and their delta falls to 0 by construction.
        tokenizer: The tokenizer of a model that is loaded already, for text and for ``token``; by
            default the model's own. Token ids need none.
        measures: What to compute beside ``nll``: ``kl``, ``top1``, ``entropy``.
        first_token: ``keep`` keeps the BOS, or without one the text's first token, in front of all;
            ``none`` and ``published`` as in a configuration. Where nothing stands in front of a
            truncated text, nothing predicts its first token: ``truncate`` has no row at distance 0.
        repeats: Draws of each condition that draws at random.
        seed: Seed of all draws; equal seed, equal frame.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto``; of a model that is loaded here.
        device: A torch device, or ``auto``: CUDA where there is one; of a model loaded here.

    Returns:
        A row for each target, condition and repeat, in the order of texts, conditions, repeats and
        positions. Columns are named as in a run's scores: ``document`` (the text's number, as a
        string), ``window`` (0), ``position`` (of the target, from 0), ``token`` (its text; ``None``
        without a tokenizer), ``far_start``, ``boundary``, ``distance`` (tokens), ``condition``,
        ``repeat``, ``nll``, ``nll_intact``, ``delta`` (their difference, nats), and the measures.

    Raises:
        UsageError: If a text has fewer than four tokens, *reach* does not fit it, the model has too
            few positions for it, or a condition or another value is not understood.
        ProbeError: If the model cannot be read, sees what follows, or gives losses that are not
            finite.

    Example:
        >>> import probe
        >>> text = "the cat sat on a mat and then ran far away from home " * 4
        >>> frame = probe.score(text, model="gpt2", conditions=["truncate", "shuffle"], reach=32)
        >>> frame.groupby("condition")["delta"].mean()  # nats per token
        >>> frame.nlargest(5, "delta")[["condition", "token", "distance", "delta"]]

        A model that is loaded already is handed over with its tokenizer (on a CPU load it with
        ``dtype=torch.float32``: many checkpoints are in bfloat16, which most CPUs emulate):

        >>> from transformers import AutoModelForCausalLM, AutoTokenizer
        >>> model = AutoModelForCausalLM.from_pretrained("gpt2").eval()
        >>> tokenizer = AutoTokenizer.from_pretrained("gpt2")
        >>> frame = probe.score(text, model=model, tokenizer=tokenizer, measures=["kl"])
    """
    with no_bars():
        source, loaded = _source(model, tokenizer, dtype, device)
    documents = _documents(text, source)
    named, measured = _several(conditions, "condition"), _several(measures, "measure")
    config = check(
        {
            "name": "score",
            "model": {"path": source.location.name, "dtype": dtype, "device": device},
            "data": {"path": "text"},
            # The engine takes as many windows at once as fit this length.
            "windows": {"length": max(8, *(len(one.ids) for one in documents))},
            "conditions": named,
            "measures": [*measured, "nll"],
            "first_token": first_token,
            "repeats": repeats,
            "seed": seed,
        },
        where="score",
    )
    experiment = _experiment(config, source, documents, reach)
    experiment.check_sources()
    with no_bars():
        causal = loaded or load_model(source, dtype=dtype, device=device)
    report = check_model(causal, experiment, check_once)
    # A technique that is switched off costs time and changes no number.
    failed = [str(one) for one in report.outcomes if one.technique == "length" and not one.passed]
    slow = slow_dtype(str(causal.model.dtype).removeprefix("torch."), causal.device)
    twice = _twice_in_front(experiment)
    for line in [*filter(None, [twice, slow]), *causal.warnings, *failed]:
        warnings.warn(line, UserWarning, stacklevel=2)
    return _frame(experiment, Engine(causal, report.techniques, tuple(config.measures)))


@dataclass(frozen=True)
class _Checked:
    """A report, and what it holds for.

    Args:
        fingerprint: Of the model, see :func:`probe.models.scorer.fingerprint`.
        length: Tokens of the text.
        lower: As handed to :func:`probe.engine.selfcheck.check`.
        report: What came out.
    """

    fingerprint: tuple[Hashable, ...]
    length: int
    lower: bool
    report: Report

    def holds(self, length: int, lower: bool) -> bool:
        """Whether it does for a text of *length* tokens.

        A run checks its longest window for all. But where losses depend on a sequence's length,
        how much they do is said of the text at hand.
        """
        steady = next(one for one in self.report.outcomes if one.technique == "length").passed
        fits = length <= self.length if steady else length == self.length
        return fits and (self.lower or not lower)


_CHECKED: WeakKeyDictionary[PreTrainedModel, _Checked] = WeakKeyDictionary()
"""The last report on each model that is still in memory."""


def check_once(
    model: Scorer,
    ids: NDArray[np.int64],
    *,
    lower: bool = False,
    more: Iterable[NDArray[np.int64]] = (),
) -> Report:
    """Check a model, but not again while it stays what it was and texts are no longer.

    Arguments are those of :func:`probe.engine.selfcheck.check`.
    """
    state, before = fingerprint(model.model), _CHECKED.get(model.model)
    if before and before.fingerprint == state and before.holds(len(ids), lower):
        return before.report
    report = selfcheck.check(model, ids, lower=lower, more=more)
    if state is not None:
        _CHECKED[model.model] = _Checked(state, len(ids), lower, report)
    return report


def _several(value: str | Sequence[str], what: str) -> list[str]:
    """One or several names, as a list."""
    if not isinstance(value, Iterable):
        raise UsageError(f"{what}s is {shown(value)}; allowed: a {what}, or several")
    return [value] if isinstance(value, str) else list(value)


@contextmanager
def no_bars() -> Iterator[None]:
    """Keep the bars of transformers and datasets off the screen for a while."""
    shown = not datasets.are_progress_bars_disabled(), logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown[0]:
            datasets.enable_progress_bars()
        if shown[1]:
            logging.enable_progress_bar()


@dataclass(frozen=True)
class TextsPlan(WholeDocumentsPlan):
    """Whole texts, of each its last tokens as targets behind one boundary.

    Args:
        asked: How many targets; ``None`` is half of each text.
    """

    asked: int | None = None
    forwarded: ClassVar[str] = "the longest text has, in tokens,"

    @property
    def length(self) -> int:
        """Tokens of the text at hand, or of the longest."""
        return self.tokens or 0

    @property
    def longest_forward(self) -> int | None:
        """All tokens of the longest text."""
        return self.tokens

    def windows(self, document: Document, seed: int) -> list[Window]:
        """The text, which is never cut off."""
        return [whole(document)]

    def with_places(
        self, places: Sequence[Place], documents: Mapping[str, Document], seed: int
    ) -> "TextsPlan":
        """The same, now that the longest text is known."""
        return replace(self, tokens=max(place.length for place in places))

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """One boundary, and every token behind it."""
        boundary = self.length - (self.asked or self.length // 2)
        return (TargetRun(boundary, boundary, self.length),)


def _source(
    model: str | Path | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    dtype: str,
    device: str,
) -> tuple[ModelSource, CausalModel | None]:
    """The model as a run knows it before its weights, and the model itself if it is loaded."""
    if not isinstance(tokenizer, PreTrainedTokenizerBase | None):
        raise UsageError(
            f"tokenizer is of type {type(tokenizer).__name__}; allowed: a tokenizer of transformers"
        )
    if isinstance(model, str | Path):
        source = open_source(str(model))
        if source.family != CausalModel.family:
            raise UsageError(
                f"model is {shown(str(model))}, a {source.family} language model; allowed: a "
                "causal one, or probe.run with a protocol for it"
            )
        return (source if tokenizer is None else replace(source, tokenizer=tokenizer)), None
    causal = CausalModel(model)
    for name, value in (("dtype", dtype), ("device", device)):
        if value != "auto":
            raise UsageError(
                f"{name} is {shown(value)}; allowed with a loaded model: auto, its own"
            )
    name = str(model.config.name_or_path) or type(model).__name__
    source = ModelSource(Location(name, None, name), tokenizer, model.config, None)
    return source, causal


def _documents(text: Text | Sequence[Text], source: ModelSource) -> list[Document]:
    """The texts as documents of tokens, named by their number.

    Raises:
        UsageError: If there is none, one has fewer than ``FEWEST`` tokens or is none.
    """
    several = isinstance(text, Sequence) or getattr(text, "ndim", False)
    if not several or isinstance(text, pd.DataFrame):
        raise UsageError(f"text is {shown(text)}; allowed: a text, token ids, or several of these")
    if isinstance(text, pd.Series) or (isinstance(text, np.ndarray) and text.dtype.kind in "OUT"):
        text = text.tolist()  # a column of texts, or of token ids
    texts: Sequence[Any] = [text] if isinstance(text, str) or _is_ids(text) else list(text)
    if not texts:
        raise UsageError("no text to score; allowed: one or more")
    if source.tokenizer is None and any(isinstance(one, str) for one in texts):
        raise UsageError("a text needs a tokenizer; allowed: tokenizer=, or token ids")
    documents = []
    for number, one in enumerate(texts):
        if isinstance(one, str):
            refuse_no_text(one, f"text {number}")
        given = {"text": one} if isinstance(one, str) else {"ids": _ids(one, number)}
        document = to_document(Record(str(number), **given), source.reader)
        if len(document.ids) < FEWEST:
            raise UsageError(
                f"text {number} has {counted(len(document.ids), 'token')}; "
                f"allowed: {FEWEST} or more"
            )
        documents.append(document)
    return documents


def _is_ids(value: Any) -> bool:
    """Whether this is one sequence of token ids, not several."""
    if hasattr(value, "ndim"):
        return bool(value.ndim == 1)
    return isinstance(value, Sequence) and bool(value) and isinstance(value[0], int | np.integer)


def _ids(value: Any, number: int) -> NDArray[np.int64]:
    try:
        return to_array(list(value) if isinstance(value, tuple) else value, f"text {number}")
    except ValueError as error:
        raise UsageError(str(error)) from error


def _experiment(
    config: Config, source: ModelSource, documents: Sequence[Document], reach: int | None
) -> Experiment:
    """The texts under the conditions, as a run scores them.

    Raises:
        UsageError: If *reach* leaves no far context in a text, or the model has too few positions.
    """
    first = first_token_of(config, source)
    for document in documents:
        most = len(document.ids) - 1 - first.kept
        fits = isinstance(reach, int | np.integer) and 1 <= reach <= most
        fits = fits and not isinstance(reach, bool)
        if reach is not None and not fits:
            raise UsageError(
                f"reach is {shown(reach)}; allowed: 1 to {most}, as text {document.id} has "
                f"{len(document.ids)} tokens" + (" and its first one is kept" * first.kept)
            )
    windows = WindowsConfig(length=None, per_document=1)
    plan = TextsPlan(windows, ModelFacts(source.positions, first), asked=reach)
    return Experiment(config, source, Corpus(tuple(documents), LeftOut()), plan)


def _twice_in_front(experiment: Experiment) -> str | None:
    """What to say of token ids that bring the BOS, which is then there twice."""
    first = experiment.first_token
    for document in experiment.corpus.documents:
        if first.extra and document.text is None and document.ids[0] == first.bos:
            return (
                f"text {document.id} begins with the BOS (token id {first.bos}), and first_token "
                f"{first.mode!r} puts another in front; hand the ids over without it"
            )
    return None


def _frame(experiment: Experiment, engine: Engine) -> pd.DataFrame:
    """Score all texts, several at once where they are alike; of each row its token and delta."""
    blocks, batch = [], batch_size(experiment.config, engine.model)
    for at in range(0, len(experiment.windows), batch):
        unit = [
            Missing(experiment.windows, number, tuple(experiment.draws_at(number)), intact=False)
            for number in range(len(experiment.windows))[at : at + batch]
        ]
        blocks += [
            pd.DataFrame(block) for block in rows(unit, *score_unit(engine, experiment, unit))
        ]
    frame = pd.concat(blocks, ignore_index=True)
    numbers = [field for field in SCHEMA if not pa.types.is_dictionary(field.type)]
    frame = frame.astype({field.name: field.type.to_pandas_dtype() for field in numbers})
    frame["delta"] = frame["nll"].astype(np.float64) - frame["nll_intact"].astype(np.float64)
    places = zip(frame["document"], frame["position"], strict=True)
    tokens = {one.document: _tokens(one, experiment.source) for one in experiment.windows}
    frame["token"] = [tokens[document][position] for document, position in places]
    return frame[[*COLUMNS, *(name for name in OPTIONAL if name in frame)]]


def _tokens(window: Window, source: ModelSource) -> Sequence[str | None]:
    """The text of each token of a window; together they are its text, where it came as one."""
    if window.text is not None:
        return token_texts(
            window.text,
            window.char_start.tolist(),
            window.char_end.tolist(),
            0,
            len(window.ids) - 1,
        )
    if source.tokenizer is None:
        return [None] * len(window.ids)
    return list(map(ModelTokens(source.tokenizer, "").decode, window.ids.tolist()))
