"""`probe list`: what there is to choose from, by the names that a configuration takes."""

import inspect
import math
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from probe.calls import listed
from probe.commands._visible import print_json, say
from probe.commands.options import command_lines, user_files, with_json
from probe.registry import summary

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from probe.attention.term import TermEntry
    from probe.classes.registry import Entry as ClassEntry
    from probe.perturbations.registry import PerturbationEntry
    from probe.training.rules import RuleEntry

    Entry = PerturbationEntry | ClassEntry | TermEntry | RuleEntry

COLUMNS = 100
MEASURES = {
    "nll": "−ln p(target | context), nats; always measured where tokens are predicted",
    "kl": "KL(intact || condition) of the next-token distributions, nats",
    "top1": "whether the target is the most probable token",
    "entropy": "entropy of the condition's next-token distribution, nats",
    "embedding": "1 − cosine of a token's last hidden state and its intact one; of encoders alone",
}
FIRST_TOKEN = {
    "keep": "the BOS, or the window's own first token, stands in front of every condition",
    "none": "nothing stands in front",
    "published": "what the tokenizer itself puts in front of a text, not before truncated text",
}

PATTERNS = (
    "Patterns are joined by +, put on some layers and heads by heads(pattern, layers=[...], "
    "heads=[...]), and always within the model's own mask; each(n) in place of a list makes a "
    "condition for each layer or head below n; of an encoder–decoder encoder(pattern), "
    "decoder(pattern) and cross(pattern), which goes by the place in the source that a token "
    "belongs to"
)

OWN_CLASS = (
    "path/to/file.py:function",
    "a function of your own: window in, one label per token out",
)

OWN_COLUMN = (
    "the name of a column",
    "a column of data.metadata_columns: the value of the token's document",
)

Rows = Iterable[tuple[str, str]]


@click.command(
    "list",
    short_help="Perturbations, patterns, protocols, measures, classes, rules.",
    epilog=command_lines("probe list", "probe list --perturbations my.py  # with your own"),
)
@user_files("perturbations")
@user_files("protocols")
@user_files("rules")
@with_json("list")
def command(as_json: bool) -> None:
    """List perturbations, attention patterns, protocols, measures, token classes, rules."""
    if as_json:
        print_json(catalogue())
        return
    from probe.attention import term
    from probe.classes import registry as classes
    from probe.perturbations import registry
    from probe.perturbations.condition import CONTROLS
    from probe.perturbations.steps import FORMS
    from probe.training import rules

    perturbations = [name for name in registry.names() if name not in CONTROLS]
    own_classes = _entries(map(classes.get, classes.names()))
    parts = [
        section("Perturbations", _entries(map(registry.get, perturbations), sources=True)),
        section("Controls", _entries(map(registry.get, CONTROLS))),
        textwrap.fill(f"A condition is written as {FORMS}", COLUMNS),
        section("Attention patterns, attend(pattern)", _entries(map(term.get, term.names()))),
        textwrap.fill(PATTERNS, COLUMNS),
        section("Protocols", _protocols()),
        section("Measures", MEASURES.items()),
        section("Token classes", [*own_classes, OWN_CLASS, OWN_COLUMN]),
        section("First token (first_token)", FIRST_TOKEN.items()),
        section("Weights of tokens (probe weigh --rule)", _entries(rules.entries("token"))),
        section("Scores of documents (probe weigh --score)", _entries(rules.entries("document"))),
    ]
    say("\n\n".join(parts))


def catalogue() -> dict[str, Any]:
    """The same as plain values, as ``docs/schemas/list.json`` has them."""
    from probe.attention import term
    from probe.classes import registry as classes
    from probe.perturbations import registry
    from probe.perturbations.condition import CONTROLS
    from probe.perturbations.samplers import SOURCES
    from probe.training import rules

    def named(rows: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
        return [{"name": name, "summary": text} for name, text in rows]

    perturbations = [name for name in registry.names() if name not in CONTROLS]
    return {
        "schema": 1,
        "perturbations": [_values(registry.get(name)) for name in perturbations],
        "controls": [_values(registry.get(name)) for name in CONTROLS],
        "sources": named(SOURCES.items()),
        "attention_patterns": [_values(term.get(name)) for name in term.names()],
        "protocols": list(_protocol_values()),
        "measures": named(MEASURES.items()),
        "token_classes": [_values(classes.get(name)) for name in classes.names()],
        "first_token": named(FIRST_TOKEN.items()),
        "weights": [_values(entry) for entry in rules.entries("token")],
        "scores": [_values(entry) for entry in rules.entries("document")],
    }


def _values(entry: "Entry") -> dict[str, Any]:
    parameters = [
        _parameter(one.name, one.default is inspect.Parameter.empty, one.default)
        for one in entry.parameters
    ]
    return {"name": entry.name, "summary": entry.summary, "parameters": parameters}


def _protocol_values() -> Iterator[dict[str, Any]]:
    from probe.protocols import registry

    for protocol in registry.protocols():
        options = []
        for key, field in protocol.model_fields.items():
            if key != "kind":
                default = field.get_default(call_default_factory=True)
                about = " ".join((field.description or "").split())
                option = _parameter(key, field.is_required(), default)
                options.append({**option, "summary": about})
        yield {"name": registry.kind_of(protocol), "summary": summary(protocol), "options": options}


def _parameter(name: str, required: bool, default: Any) -> dict[str, Any]:
    from pydantic_core import to_jsonable_python

    plain = None if required else to_jsonable_python(default, serialize_unknown=True)
    return {"name": name, "required": required, "default": plain}


def section(title: str, rows: Rows) -> str:
    """Write rows of two columns below a title, no line beyond `COLUMNS`.

    Args:
        title: A line of its own.
        rows: A name, which may begin with spaces, and what it is.
    """
    rows = [(f"  {name}", text) for name, text in rows]
    column = 2 + min(max((len(name) for name, _ in rows), default=0), COLUMNS // 3)
    return "\n".join([title, *(line for row in rows for line in _row(*row, column))])


def signature(entry: "Entry") -> str:
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


def _entries(entries: Iterable["Entry"], *, sources: bool = False) -> Iterator[tuple[str, str]]:
    for entry in entries:
        yield signature(entry), entry.summary
        if sources and any(parameter.name == "source" for parameter in entry.parameters):
            yield from _sources()


def _sources() -> Iterator[tuple[str, str]]:
    from probe.perturbations.samplers import SOURCES
    from probe.protocols import registry

    with_passages = " or ".join(registry.kinds(lambda protocol: protocol.has_passages))
    for name, text in SOURCES.items():
        where = f" (protocol {with_passages})" if name == "passage" else ""
        yield f"  source={name!r}", f"{text}{where}"


def _protocols() -> Iterator[tuple[str, str]]:
    from probe.protocols import registry

    for protocol in registry.protocols():
        yield registry.kind_of(protocol), summary(protocol)
        for key, field in protocol.model_fields.items():
            if key != "kind":
                yield f"  {_key(key, field)}", " ".join((field.description or "").split())


def _key(key: str, field: "FieldInfo") -> str:
    """A key with its default as the configuration writes it."""
    if field.is_required():
        return f"{key} (required)"
    return f"{key}: {yaml_line(field.get_default(call_default_factory=True))}"


def yaml_line(value: Any) -> str:
    """A value on one line, as a configuration writes it."""
    import yaml

    plain = value.model_dump() if hasattr(value, "model_dump") else value
    form: dict[str, Any] = {"default_flow_style": True, "sort_keys": False, "width": math.inf}
    # YAML ends a lone scalar with a line of dots.
    line: str = yaml.safe_dump(plain, **form, allow_unicode=True).removesuffix("...\n").rstrip("\n")
    if line.isprintable():
        return line
    return str(yaml.safe_dump(plain, **form, default_style='"')).rstrip("\n")
