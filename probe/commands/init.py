"""`probe init`: a commented configuration for a model and data, or a copy of an example."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.commands._visible import say
from probe.commands.list import COLUMNS, section, yaml_line
from probe.commands.options import Target, command_lines
from probe.errors import UsageError
from probe.text import printable, shown, suggestion

if TYPE_CHECKING:
    from probe.fields import Part
    from probe.models.location import Location
    from probe.protocols.base import Protocol

PACKAGE = Path(__file__).parents[1]
DOCUMENTS = 24
CONDITIONS = {
    "noise(windows=4)": "intact text on the conditions' way: what arithmetic alone does",
    "truncate": "far text is not there: how much context is used",
    "shuffle": "far text out of order: how far order counts",
    "replace(source='document')": "far text of another document: how far content counts",
}
"""Conditions of a new configuration, and what each tells."""
DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "model": ("label", "revision", "dtype", "device"),
    "data": ("label", "name", "split", "text_column"),
    "windows": ("skip",),
}
OTHERS = ("repeats", "measures", "seed")
"""Keys that a new configuration shows with their defaults; of its protocol it shows all."""
ABOUT = (
    "Every line says what it does. One that begins with # shows a default; without the # it is"
    " yours to change. Paths are seen from where probe is started."
)
COMMENT = 32
"""Column where comments begin."""


@click.command(
    "init",
    short_help="Write a configuration for your model and text.",
    epilog=command_lines(
        "probe init --model HuggingFaceTB/SmolLM2-135M --data 'books/*.txt'",
        "probe init --model models/mine --data rows.jsonl --into mine.yaml",
        "probe init --example quick",
    ),
)
@click.option("--model", help="Hub name, folder or GGUF file of the model.")
@click.option("--data", help="Folder, file, glob or hub name of the text, or stdlib.")
@click.option("--protocol", metavar="KIND", help="How to measure, as in probe list: sweep, ….")
@click.option("--example", metavar="NAME", help="Copy this example instead.")
@click.option("--list", "listing", is_flag=True, help="List the examples.")
@click.option(
    "--into",
    type=Target(),
    help="File to write, whose name the run gets; default: probe.yaml, or NAME.yaml.",
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def command(
    model: str | None,
    data: str | None,
    protocol: str | None,
    example: str | None,
    listing: bool,
    into: Path | None,
    force: bool,
) -> None:
    """Write a short configuration in which every line says what it does.

    No weights are loaded, and nothing is asked of the hub.
    """
    if listing:
        rows = [(name, summary(path.read_text("utf-8"))) for name, path in example_files().items()]
        say(section("Examples, probe init --example NAME", rows))
        return
    if example is not None:
        if model or data or protocol:
            raise UsageError(
                "--example is copied as it is; allowed without --model, --data, --protocol, which "
                "probe run takes"
            )
        text, into = _example(example), into or Path(f"{example}.yaml")
    elif model and data:
        name = into.stem if into else None
        text, into = configuration(model, data, protocol, name), into or Path("probe.yaml")
    else:
        raise UsageError("init needs --model and --data, or --example; see probe init --list")
    if into.exists() and not force:
        raise UsageError(f"'{into}' is there already; allowed: another --into, or --force")
    from probe.results.files import write_bytes

    write_bytes(into, text.encode())
    say(f"Written: {into}\nNext: probe plan {into}, then probe run {into}")


def example_files() -> dict[str, Path]:
    """The example configurations by name: of the installed package, or of the checkout."""
    installed = PACKAGE / "configs"
    folder = installed if installed.is_dir() else PACKAGE.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def summary(text: str) -> str:
    """The first sentence of a file's first comment."""
    comment = re.match(r"(?:#.*\n)+", text)
    words = " ".join(line.strip("# ") for line in comment[0].splitlines()) if comment else ""
    return re.split(r"(?<=[^.]{3}(?<! al)[.?]) ", words, maxsplit=1)[0]


def _example(name: str) -> str:
    known = example_files()
    if name not in known:
        hint = suggestion(name, known, f"allowed: {', '.join(known)}")
        raise UsageError(f"--example {shown(name)}{hint}")
    return known[name].read_text("utf-8")


def configuration(model: str, data: str, kind: str | None = None, name: str | None = None) -> str:
    """A commented configuration for a model and data of which no more than the place is looked at.

    Args:
        model: The ``path`` of a model.
        data: The ``path`` of a data set.
        kind: A protocol; ``None`` is the default one.
        name: Of the run, and so of its folder; by default model and data.

    Raises:
        UsageError: If model, data or protocol are not there, as far as this machine can tell, or
            do not fit one another.
    """
    from probe.config import Config, check
    from probe.corpus.dataset import data_files, data_name, refuse_missing
    from probe.models.location import locate
    from probe.protocols import registry

    location = locate(model)
    protocol = registry.protocol_of(kind) if kind else type(Config.model_fields["protocol"].default)
    if protocol is None:
        known = registry.kinds(registry.is_builtin)
        hint = suggestion(kind, known, f"allowed: {', '.join(known)}")
        raise UsageError(f"--protocol is {shown(kind)}{hint}")
    positions = known_positions(location)
    usual = Config.model_fields["windows"].default.fixed
    # One position is for the BOS that may stand in front.
    length = usual if positions is None else min(usual, positions - 1)
    content: dict[str, Any] = {
        "name": "new",  # until the data have a name
        "model": {"path": model},
        "data": {"path": data, "max_documents": DOCUMENTS},
        "windows": {"length": length, "per_document": 1},
        "protocol": {"kind": registry.kind_of(protocol)},
    }
    given = protocol.defaults({"protocol": content["protocol"]})
    if given.get("windows", {}).get("length", length) is None:  # a window is a whole document
        del content["windows"]
        length = positions - 1 if positions else length
    content["conditions"] = given.get("conditions", list(CONDITIONS))
    content |= {key: given[key] for key in OTHERS if key in given}
    for part, values in protocol.starting(length).items():
        content[part] = content[part] | values if isinstance(values, Mapping) else values
    options = check(content, where=f"--model {shown(model)} --data {shown(data)}").data
    refuse_missing(options)
    data_files(options)
    of_model = location.name.replace(" weights dequantised", "")
    of_both = f"{of_model}-{data_name(options)}-{kind or ''}".replace("_", "-")
    content["name"] = _run_name(name or of_both)
    title = f"How far back does {location.name} read on {data_name(options)}? {ABOUT}"
    head = textwrap.wrap(printable(title), COLUMNS - 2, break_long_words=False)
    lines = [f"# {line}" for line in head]
    return "\n".join([*lines, "", *_lines(content, protocol, positions), ""])


def known_positions(location: "Location") -> int | None:
    """Positions of a model whose ``config.json`` is on this machine, ``None`` of another."""
    from probe.models.location import POSITIONS

    if location.sources:
        return None
    file: Any = Path(location.path) / "config.json"
    config: Any = None
    with suppress(OSError, ValueError):  # a name that is none of the hub's; JSON that is none
        if not file.is_file():
            from huggingface_hub import try_to_load_from_cache

            file = try_to_load_from_cache(location.path, "config.json")
        config = json.loads(Path(file).read_text("utf-8")) if isinstance(file, Path | str) else None
    if not isinstance(config, dict):
        return None
    text = config.get("text_config")
    given = [(text if isinstance(text, dict) else config).get(name) for name in POSITIONS]
    return next((value for value in given if type(value) is int and value > 0), None)


def _run_name(words: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", words).strip("-._")[:80] or "run"


def _lines(
    content: Mapping[str, Any], protocol: "type[Protocol]", positions: int | None
) -> Iterator[str]:
    """The lines of a configuration, each with what its key does."""
    from probe.config import AnalysisConfig, Config, DataConfig, ModelConfig
    from probe.corpus.windows import FEWEST_DOCUMENTS
    from probe.protocols.base import WindowsConfig

    fields = Config.model_fields
    more = {
        "max_documents": f"intervals need {FEWEST_DOCUMENTS} documents, more narrow them",
        "length": "" if positions is None else f"the model has {positions:,} positions",
        "kind": f"{(getdoc(protocol) or '.').splitlines()[0][:-1]}; probe list has others",
    }
    parts: dict[str, type[Part]] = {
        "model": ModelConfig,
        "data": DataConfig,
        "windows": WindowsConfig,
        "protocol": protocol,
    }
    yield from _line(f"name: {yaml_line(content['name'])}", fields["name"].description)
    for part, options in parts.items():
        values = content.get(part)
        if values is None:
            continue
        yield f"{part}:"
        known = options.model_fields
        for key, value in values.items():
            words = [known[key].description if key != "kind" else None, more.get(key)]
            yield from _line(f"  {key}: {yaml_line(value)}", "; ".join(filter(None, words)))
        for key in DEFAULTS.get(part, tuple(known)):
            if key not in values:
                default = known[key].get_default(call_default_factory=True)
                yield from _line(f"  # {key}: {yaml_line(default)}", known[key].description)
    yield from _line("conditions:", fields["conditions"].description)
    for text in content["conditions"]:
        yield from _line(f"  - {yaml_line(text)}", CONDITIONS.get(text))
    for key in OTHERS:
        default = fields[key].get_default(call_default_factory=True)
        mark = "" if key in content else "# "
        value = yaml_line(content.get(key, default))
        yield from _line(f"{mark}{key}: {value}", fields[key].description)
    tolerances = yaml_line(AnalysisConfig().model_dump(include={"tolerances"}))
    yield from _line(
        f"# analysis: {tolerances}", AnalysisConfig.model_fields["tolerances"].description
    )


def _line(text: str, comment: str | None) -> Iterator[str]:
    """A line with its comment behind it, or above it where it is long."""
    words = " ".join((comment or "").replace("``", "").split())
    indent = " " * (len(text) - len(text.lstrip()))
    if len(text) + 2 > COMMENT:
        mark = f"{indent}# "
        yield from textwrap.wrap(words, COLUMNS, initial_indent=mark, subsequent_indent=mark)
        yield text
        return
    lines = textwrap.wrap(words, COLUMNS - COMMENT - 2) or [""]
    yield f"{text:<{COMMENT}}# {lines[0]}" if words else text
    yield from (f"{'':<{COMMENT}}# {line}" for line in lines[1:])
