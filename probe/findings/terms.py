"""Terms: what the words of a run mean, conditions and token classes by what their code says."""

from collections.abc import Sequence

from probe.analysis.fit import in_order
from probe.analysis.floor import is_noise
from probe.analysis.open_run import PATTERN, OpenRun
from probe.classes import registry as classes
from probe.errors import UsageError
from probe.findings.base import Finding, register
from probe.findings.classes import asked
from probe.perturbations import registry as perturbations
from probe.perturbations.samplers import SOURCES
from probe.perturbations.steps import Step, read_steps

COMMON = {
    "delta": (
        "the rise of a token's loss, −ln of its probability in nats, when text that it is predicted"
        " from is changed"
    ),
    "distance": (
        "tokens between a token, or the place in a source that it belongs to, and the far text,"
        " which is the text that is changed"
    ),
    "tolerance": (
        "a rise too small to matter: at 1 % of perplexity a mean delta of 0.01 nats; the effective"
        " context ends where delta falls below it"
    ),
}
"""Words of every page; those of conditions and classes are added from their registries."""
OF_SOUND = "milliseconds of sound between what is heard of a token and the far sound"
"""What a distance is where it is one of sound."""


@register("terms", order=1)
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """What the words of a run's findings mean; it shows nothing of its own.

    Args:
        run: The open run.
        others: Not needed.
    """
    texts = in_order(name for name in run.conditions if not is_noise(name))
    conditions = {
        "attend" if text.startswith(PATTERN) else text: describe_condition(text) for text in texts
    }
    of_classes = {text: describe_class(text) for text in run.once(asked).table.classes}
    common = COMMON if run.unit == "tokens" else COMMON | {"distance": OF_SOUND}
    return Finding("terms", "Terms", terms=common | conditions | of_classes)


def describe_condition(text: str) -> str:
    """What a condition does, by the first lines of its perturbations' docstrings.

    Args:
        text: Its canonical text; of a chain each step is described.

    Returns:
        ``remove all of the far context``; for a perturbation that this process does not know,
        where it comes from.
    """
    try:
        steps = tuple(read_steps(text))
    except UsageError:
        return "a perturbation of the run's own code"
    return "; then ".join(map(_step, steps))


def describe_class(text: str) -> str:
    """What a token class tells apart, by the first line of its docstring.

    Args:
        text: Its canonical text.
    """
    if classes.is_user(text):
        return "a token class of the reader's own code"
    try:
        return _phrase(classes.get(text.partition("(")[0]).summary)
    except UsageError:
        return "the value that the data give for the document"


def _step(step: Step) -> str:
    said = _phrase(perturbations.get(step.name).summary)
    source = SOURCES.get(step.source or "")
    return f"{said} ({source})" if source else said


def _phrase(summary: str) -> str:
    """A docstring's first line as a part of a sentence."""
    plain = summary.rstrip(".:")
    return plain[:1].lower() + plain[1:]
