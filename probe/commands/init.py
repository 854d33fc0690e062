"""`probe init`: a commented configuration for a model and data, or a copy of an example."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.commands._visible import say
from probe.commands.list import COLUMNS, section, yaml_line
from probe.commands.options import Target, command_lines
from probe.errors import UsageError
from probe.registry import summary as first_line
from probe.text import counted, printable, shown, suggestion

if TYPE_CHECKING:
    from probe.corpus.dataset import DataOptions
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
OTHERS = ("repeats", "measures", "seed", "precision")
"""Keys that a new configuration shows with their defaults; of its protocol it shows all."""
ABOUT = (
    "Every line says what it does. One that begins with # shows a default; without the # it is"
    " yours to change. Paths are seen from where probe is started."
)
COMMENT = 32
"""Column where comments begin."""
SMALL = 2 << 30
"""Bytes of the largest weights for which float32 is written, at two or more a parameter."""
BYTES = 6
"""Bytes of a token, at most, in nearly all texts."""
SHORTEST = 64
"""Tokens of the shortest window that is written."""
LOOK = 1 << 20
"""Bytes of a file of JSON lines that are looked at."""


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
    """A commented configuration for a model and data, of which only files are looked at.

    Windows fit the positions of the model, and into documents of text files and JSON lines.

    Args:
        model: The ``path`` of a model.
        data: The ``path`` of a data set.
        kind: A protocol; ``None`` is the first that measures models of its family.
        name: Of the run, and so of its folder; by default model and data.

    Raises:
        UsageError: If model, data or protocol are not there, as far as this machine can tell, or
            do not fit one another.
    """
    from probe.config import Config, check
    from probe.corpus.dataset import data_name, refuse_missing
    from probe.corpus.windows import FEWEST_DOCUMENTS
    from probe.models.location import family_of, is_encoder, locate
    from probe.protocols import registry

    location = locate(model)
    file = config_file(location)
    known = {} if file is None else read_config(file)
    kinds = registry.kinds(lambda one: one.family == family_of(known))
    protocol = registry.protocol_of(kind or kinds[0])
    if protocol is None:
        kinds = registry.kinds(registry.is_builtin)
        hint = suggestion(kind, kinds, f"allowed: {', '.join(kinds)}")
        raise UsageError(f"--protocol is {shown(kind)}{hint}")
    family = family_of(known)
    fits = protocol.family == family or (protocol.family == "encoder" and is_encoder(known))
    if known and not fits:
        raise UsageError(
            f"--protocol is {shown(kind)}, which measures {protocol.family} language models, and "
            f"--model {shown(model)} is {'an' if family == 'encoder' else 'a'} {family} one; "
            f"allowed: {', '.join(kinds)}"
        )
    positions = known_positions(known)
    usual = Config.model_fields["windows"].default.fixed
    # A position is for the BOS that may stand in front, two are for an encoder's special tokens.
    extra = 1 if protocol.family == "causal" else 2
    length = usual if positions is None else min(usual, positions - extra)
    small = 0 < weight_bytes(location, file) <= SMALL
    content: dict[str, Any] = {
        "name": "new",  # until the data have a name
        "model": {"path": model} | ({"dtype": "float32"} if small else {}),
        "data": {"path": data, "max_documents": DOCUMENTS},
        "windows": {"length": length, "per_document": 1},
        "protocol": {"kind": registry.kind_of(protocol)},
    }
    given = protocol.defaults({"protocol": content["protocol"]})
    content["conditions"] = given.get("conditions", list(CONDITIONS))
    content |= {key: given[key] for key in OTHERS if key in given}
    own = given.get("windows", {}).get("length", length)
    if own is None:  # a window is a whole document
        del content["windows"]
        length = positions - 1 if positions else length
    else:
        length = content["windows"]["length"] = min(length, own)
    where = f"--model {shown(model)} --data {shown(data)}"
    options = check(_started(content, protocol, length), where=where).data
    refuse_missing(options)
    sizes = document_sizes(options)
    if "windows" in content:
        length = content["windows"]["length"] = fitting(length, sizes)
    content = _started(content, protocol, length)
    of_model = location.name.replace(" weights dequantised", "")
    of_both = f"{of_model}-{data_name(options)}-{kind or ''}".replace("_", "-")
    content["name"] = _run_name(name or of_both)
    title = f"How far back does {location.name} read on {data_name(options)}? {ABOUT}"
    head = textwrap.wrap(printable(title), COLUMNS - 2, break_long_words=False)
    lines = [f"# {line}" for line in head]
    words = {
        "dtype": "in bfloat16 rounding may leave an answer at 1 % unresolved",
        "max_documents": f"intervals need {FEWEST_DOCUMENTS} documents, more narrow them",
        "length": _about_length(length, positions, sizes),
        "kind": f"{first_line(protocol).rstrip('.')}; probe list has others",
    }
    return "\n".join([*lines, "", *_lines(content, protocol, words), ""])


def _started(content: Mapping[str, Any], protocol: "type[Protocol]", length: int) -> dict[str, Any]:
    """The content with the options that a protocol begins with on windows of a length."""
    added = protocol.starting(length).items()
    return {**content} | {
        part: content[part] | values if isinstance(values, Mapping) else values
        for part, values in added
    }


def document_sizes(options: "DataOptions") -> list[int]:
    """Bytes of the documents in text files, JSON lines and tables of this machine, else none.

    Of a table or JSON a line is looked at, with whatever else stands in it, and its beginning.

    Raises:
        UsageError: If a pattern matches no file.
    """
    from probe.corpus.dataset import as_text_files, data_files, is_address

    options = as_text_files(options)
    named = data_files(options).get(options.split, ())
    files = [Path(name) for name in named if not is_address(name)]
    if options.path == "text":
        return [file.stat().st_size for file in files if file.suffix == ".txt"]
    sizes: list[int] = []
    for file in files[:DOCUMENTS]:
        if file.suffix in (".jsonl", ".ndjson", ".csv", ".tsv"):
            with suppress(OSError), file.open("rb") as stream:  # reading says what is wrong
                sizes += map(len, stream.readlines(LOOK))
    return sizes


def fitting(length: int, sizes: Sequence[int]) -> int:
    """The longest window, halved from *length* on, that goes into half of the documents at least.

    Args:
        length: Tokens of the longest that the model takes.
        sizes: Bytes of documents.
    """
    from probe.corpus.windows import FEWEST_DOCUMENTS

    wanted = min(len(sizes), max(FEWEST_DOCUMENTS, min(DOCUMENTS, len(sizes) // 2)))
    while length > SHORTEST and sum(size >= BYTES * length for size in sizes) < wanted:
        length = max(SHORTEST, 1 << ((length - 1).bit_length() - 1))
    return length


def _about_length(length: int, positions: int | None, sizes: Sequence[int]) -> str:
    """What to say of the length of windows."""
    model = "" if positions is None else f"the model has {positions:,} positions"
    long = sum(size >= BYTES * length for size in sizes)
    looked = (
        f"{long:,} of {counted(len(sizes), 'document')} so long or longer, at {BYTES} bytes each"
    )
    omitted = "shorter ones are left out, see probe plan"
    return "; ".join(filter(None, [model, looked if sizes else "", omitted]))


def config_file(location: "Location") -> Path | None:
    """The ``config.json`` of a model that is on this machine, ``None`` of another.

    What a package holds in a form of its own is converted for that, which takes seconds.
    """
    if location.recipe is not None:
        from probe.models.load import converted

        return converted(location) / "config.json"
    if location.sources:
        return None
    file: Any = Path(location.path) / "config.json"
    with suppress(OSError, ValueError):  # a name that is none of the hub's
        if not file.is_file():
            from huggingface_hub import try_to_load_from_cache

            file = try_to_load_from_cache(location.path, "config.json")
        return Path(file) if isinstance(file, Path | str) else None
    return None


def weight_bytes(location: "Location", file: Path | None) -> int:
    """Bytes of a model's weights at two or more a parameter, 0 where they are not on this machine.

    Args:
        location: The model.
        file: Its ``config.json``, where there is one.
    """
    held = [] if file is None else [*file.parent.glob("*.safetensors")]
    size = sum(each.stat().st_size for each in location.sources or held)
    return 4 * size if location.gguf else size  # a GGUF file has four bits a parameter, or more


def read_config(file: Path) -> dict[str, Any]:
    """The content of a ``config.json``, empty where it cannot be read."""
    with suppress(OSError, ValueError):  # JSON that is none
        config = json.loads(file.read_text("utf-8"))
        return config if isinstance(config, dict) else {}
    return {}


def known_positions(config: Mapping[str, Any]) -> int | None:
    """Positions of a model by its ``config.json``, ``None`` where it does not say."""
    from probe.models.location import POSITIONS

    text = config.get("text_config")
    given = [(text if isinstance(text, dict) else config).get(name) for name in POSITIONS]
    return next((value for value in given if type(value) is int and value > 0), None)


def _run_name(words: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", words).strip("-._")[:80] or "run"


def _lines(
    content: Mapping[str, Any], protocol: "type[Protocol]", more: Mapping[str, str]
) -> Iterator[str]:
    """The lines of a configuration, each with what its key does, and what *more* says of it."""
    from probe.config import AnalysisConfig, Config, DataConfig, ModelConfig
    from probe.protocols.base import WindowsConfig

    fields = Config.model_fields
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
                words = [known[key].description, more.get(key)]
                yield from _line(f"  # {key}: {yaml_line(default)}", "; ".join(filter(None, words)))
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
