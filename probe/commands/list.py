"""`probe list`: what there is to choose from, by the names that a configuration takes."""

import inspect
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from probe.calls import listed
from probe.commands._visible import say
from probe.commands.options import own_perturbations

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from probe.attention.term import TermEntry
    from probe.classes.registry import Entry as ClassEntry
    from probe.perturbations.register import PerturbationEntry

COLUMNS = 100
CONTROLS = ("intact", "noise", "attend")
SOURCES = {
    "vocabulary": "ordinary tokens, each as likely",
    "unigram": "ordinary tokens, each as often as in the data",
    "document": "consecutive tokens of another document",
    "self": "consecutive older tokens of the same document",
    "passage": "the passage of the same name of another document (protocol passages)",
    "newline": "the token of a line break, everywhere",
    "pad": "the tokenizer's padding token, everywhere",
    "mask": "the tokenizer's mask token, everywhere",
}
PROTOCOLS = {
    "sweep": {
        "reach": "longest distance plus one, tokens; null is half the window",
        "runs": "how many boundaries have reach / key targets each, by key",
        "spread": "over which share of reach behind the first boundary the short runs begin",
        "all_runs": "short runs also for conditions that share no far text between boundaries",
        "insist": "allow a reach beyond half the window",
    },
    "grid": {
        "distances": "distances of the first target from the boundary, tokens",
        "targets": "how many, how many tokens before the window's end they end, and whether each"
        " has a sequence of its own (alone)",
    },
    "band": {
        "edges": "rising distances between which the bands lie, tokens; only a band is perturbed",
        "targets": "as in grid",
    },
    "passages": {
        "answer": "name of the span or column whose tokens are the targets",
    },
    "longppl": {
        "context": "fewest tokens of a short context; the first of a document are never key",
        "stride": "by how many tokens the short context moves",
    },
    "suffix": {
        "prefixes": "lengths of the text before the continuations, tokens",
        "tokens": "tokens of a continuation; windows.length follows if it is not said",
        "candidates": "the text's own continuation, and others from elsewhere in the document",
        "at": "regular expression: the continuations begin where the document's text matches",
    },
    "dense": {
        "context": "longest context, tokens: every length from 1 to it is measured",
        "targets": "how many, the last of a window; null is all that have so long a context",
    },
}
MEASURES = {
    "nll": "-ln p(target | context), nats; always measured",
    "kl": "KL(intact || condition) of the next-token distributions, nats",
    "top1": "whether the target is the most probable token",
    "entropy": "entropy of the condition's next-token distribution, nats",
}
FIRST_TOKEN = {
    "keep": "the BOS, or the window's own first token, stands in front of every condition",
    "none": "nothing stands in front",
    "published": "what the tokenizer itself puts in front of a text, not before truncated text",
}

PATTERNS = (
    "Patterns are joined by +, put on some layers and heads by heads(pattern, layers=[...], "
    "heads=[...]), and always within the model's own mask; each(n) in place of a list makes a "
    "condition for each layer or head below n"
)

OWN_CLASS = ("path/to/file.py:function", "a function of your own: window in, a label a token out")

OWN_COLUMN = (
    "the name of a column",
    "a column of data.metadata_columns: the value of the token's document",
)

Rows = Iterable[tuple[str, str]]


@click.command("list", short_help="Perturbations, patterns, protocols, measures, classes.")
@own_perturbations
def command() -> None:
    """List perturbations, attention patterns, protocols, measures, token classes."""
    from probe.classes import registry as classes
    from probe.perturbations import register
    from probe.perturbations.steps import FORMS

    entries = {name: register.get(name) for name in register.names()}
    perturbations = [entry for name, entry in entries.items() if name not in CONTROLS]
    parts = [
        section("Perturbations", _perturbations(perturbations)),
        section("Controls", _perturbations([entries[name] for name in CONTROLS])),
        textwrap.fill(f"A condition is written as {FORMS}", COLUMNS),
        section("Attention patterns, attend(pattern)", _patterns()),
        textwrap.fill(PATTERNS, COLUMNS),
        section("Protocols", _protocols()),
        section("Measures", MEASURES.items()),
        section(
            "Token classes", [*_classes(map(classes.get, classes.names())), OWN_CLASS, OWN_COLUMN]
        ),
        section("First token (first_token)", FIRST_TOKEN.items()),
    ]
    say("\n\n".join(parts))


def section(title: str, rows: Rows) -> str:
    """Write rows of two columns below a title, no line beyond `COLUMNS`.

    Args:
        title: A line of its own.
        rows: A name, which may begin with spaces, and what it is.
    """
    rows = [(f"  {name}", text) for name, text in rows]
    column = 2 + min(max((len(name) for name, _ in rows), default=0), COLUMNS // 3)
    return "\n".join([title, *(line for row in rows for line in _row(*row, column))])


def signature(entry: "PerturbationEntry | ClassEntry | TermEntry") -> str:
    """A perturbation or a token class with its parameters and defaults: ``shuffle(span=None)``."""
    parameters = listed(entry.parameters)
    return f"{entry.name}({parameters})" if parameters else entry.name


def _row(name: str, text: str, column: int) -> Iterator[str]:
    indent = " " * column
    first = f"{name:<{column}}"
    if len(name) > column - 2:
        yield from textwrap.wrap(name, COLUMNS, subsequent_indent="      ")
        first = indent
    lines = textwrap.wrap(text, COLUMNS, initial_indent=first, subsequent_indent=indent)
    if not lines and first.strip():
        lines = [first.rstrip()]
    yield from lines


def _perturbations(entries: Iterable["PerturbationEntry"]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        yield signature(entry), entry.summary
        if any(parameter.name == "source" for parameter in entry.parameters):
            for name, text in SOURCES.items():
                yield f"  source={name!r}", text


def _patterns() -> Iterator[tuple[str, str]]:
    from probe.attention import term

    for entry in map(term.get, term.names()):
        yield signature(entry), entry.summary


def _classes(entries: Iterable["ClassEntry"]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        yield signature(entry), entry.summary


def _protocols() -> Iterator[tuple[str, str]]:
    from typing import get_args

    from probe.config_protocols import ProtocolConfig

    for config in get_args(ProtocolConfig):
        (name,) = get_args(config.model_fields["kind"].annotation)
        yield name, inspect.getdoc(config) or ""
        for key, text in PROTOCOLS[name].items():
            yield f"  {_key(key, config.model_fields[key])}", text


def _key(key: str, field: "FieldInfo") -> str:
    """A key with its default as the configuration writes it."""
    import yaml

    if field.is_required():
        return f"{key} (required)"
    default: Any = field.get_default(call_default_factory=True)
    plain = default.model_dump() if hasattr(default, "model_dump") else default
    lines = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=COLUMNS)
    return f"{key}: {lines.splitlines()[0]}"  # YAML ends a lone scalar with a line of dots
