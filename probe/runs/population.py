"""Windows of documents that are not scored: what is known of them narrows what others say."""

from collections.abc import Iterator

from probe.corpus.sample import read_records
from probe.corpus.tokenise import to_documents
from probe.corpus.windows import Window
from probe.errors import ProbeError
from probe.results.record import PLAIN
from probe.runs.experiment import Experiment

WORTH = 2
"""How many times as many documents as are scored there must be, for the gain to be worth a look."""
TOKENS = 20_000_000
"""Tokens of documents that are not scored after which no more are read: a minute of work."""


def wanted(experiment: Experiment) -> int:
    """How many documents, the scored ones among them, are to be looked at; 0 without a use for it.

    Args:
        experiment: The run.
    """
    config, protocol = experiment.config, type(experiment.config.protocol)
    useful = protocol.has_length and protocol.family == "causal" and config.windows.tokens
    useful = useful and protocol.reading(config.protocol.model_dump(mode="json")) == PLAIN
    asked, found = config.data.max_documents, len(experiment.documents)
    all_are_scored = not asked or found < asked
    most = config.analysis.population if config.analysis.predict else 0
    enough = most >= WORTH * found
    return most if useful and enough and not all_are_scored else 0


def has_others(experiment: Experiment) -> bool:
    """Whether a run knows documents besides those that it scores; reads the first of them."""
    most = wanted(experiment)
    try:
        return most > 0 and next(population(experiment, most), None) is not None
    except ProbeError:  # the run goes on without
        return False


def population(experiment: Experiment, most: int) -> Iterator[Window]:
    """Windows of the documents that come behind those of a run in the order of its sample.

    Args:
        experiment: The run.
        most: Documents at most, those of the run among them.

    Yields:
        The windows of one document after the other, cut as those of the run are.

    Raises:
        ProbeError: If the data cannot be read.
    """
    config, reader, plan = experiment.config, experiment.source.reader, experiment.plan
    read, _ = read_records(config.data, seed=config.seed)
    left, tokens = most - len(experiment.documents), 0
    others = (record for record in read if record.id not in experiment.documents)
    for document in to_documents(others, reader):
        tokens += len(document.ids)
        if len(document.ids) >= plan.fewest and (windows := plan.windows(document, config.seed)):
            yield from windows
            left -= 1
        if left <= 0 or tokens >= TOKENS:
            return
