"""Which windows a protocol takes of the documents, and which documents have none for it."""

from collections.abc import Sequence
from dataclasses import replace

from probe.candidates import windows_of
from probe.corpus.sample import Corpus, Omitted
from probe.corpus.windows import Document, Place, Window, Windows, cut, whole
from probe.errors import ProbeError
from probe.options import WindowsConfig
from probe.protocol import LongPPL, Passages, Plan, Suffix
from probe.text import shown


def windows(
    documents: Sequence[Document],
    plan: Plan,
    settings: WindowsConfig,
    *,
    longest: int | None,
    seed: int,
) -> Windows:
    """Windows of all documents: each one's first, then each one's second, and so on.

    Args:
        documents: The documents, each long enough.
        plan: The protocol on the model.
        settings: Which windows.
        longest: Tokens at which whole documents are cut, ``None`` leaves them whole.
        seed: Seed of the run.
    """
    by_document = [
        [
            Place(document.id, window.index, window.start, len(window.ids))
            for window in _windows_of(document, plan, settings, longest, seed)
        ]
        for document in documents
    ]
    return Windows(
        {document.id: document for document in documents},
        (
            found[index]
            for index in range(max(map(len, by_document)))
            for found in by_document
            if index < len(found)
        ),
    )


def fewest(plan: Plan, settings: WindowsConfig) -> int:
    """Fewest tokens that a document must have, those that are skipped among them."""
    if isinstance(plan, LongPPL):
        return plan.context + 2
    if isinstance(plan, Passages):
        return 2
    return settings.skip + (plan.needed if isinstance(plan, Suffix) else settings.fixed)


def usable(corpus: Corpus, plan: Plan, settings: WindowsConfig, seed: int) -> Corpus:
    """Leave out the documents that the protocol can do nothing with.

    With suffix those with too few places for candidates; with passages those without an answer or a
    passage before it, and those that are too long for the model.

    Args:
        corpus: Documents that are long enough.
        plan: The protocol on the model.
        settings: Which windows.
        seed: Seed of the run.

    Raises:
        ProbeError: If none is left.
    """
    if isinstance(plan, Passages):
        kept = tuple(
            d
            for d in corpus.documents
            if len(d.ids) <= plan.length and plan.within_document(d.spans).passages
        )
        if not kept:
            raise ProbeError(
                f"no document has a span called {shown(plan.answer)} with a passage before it, in "
                f"at most {plan.length} tokens"
            )
    elif isinstance(plan, Suffix):
        first = settings.model_copy(update={"per_document": 1})
        kept = tuple(d for d in corpus.documents if _cut(d, plan, first, seed))
        if not kept:
            raise ProbeError(
                f"no document has a window: protocol.at {shown(plan.at)} matches nowhere behind "
                f"{plan.length - plan.count} tokens with {plan.distractors} matches apart from it"
            )
    else:
        return corpus
    names = {document.id for document in kept}
    omitted = [document.id for document in corpus.documents if document.id not in names]
    left_out = replace(corpus.left_out, no_window=Omitted.of(omitted))
    return replace(corpus, documents=kept, left_out=left_out)


def _windows_of(
    document: Document, plan: Plan, settings: WindowsConfig, longest: int | None, seed: int
) -> list[Window]:
    if isinstance(plan, LongPPL | Passages):
        return [whole(document, length=longest)]
    return _cut(document, plan, settings, seed)


def _cut(document: Document, plan: Plan, settings: WindowsConfig, seed: int) -> list[Window]:
    many, skip = settings.per_document, settings.skip
    if isinstance(plan, Suffix):
        return windows_of(document, plan, per_document=many, skip=skip, seed=seed)
    return cut(document, length=settings.fixed, per_document=many, skip=skip, seed=seed)
