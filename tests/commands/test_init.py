"""`probe init`: what it writes is a valid configuration, says its defaults, replaces nothing."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import good, mistake, mistakes, probe
from tiny_run import (  # noqa: F401 (fixtures)
    CHECKOUT,
    model_folders,
    no_network,
    text_of,
)

from probe.commands.init import COMMENT, PACKAGE, SMALL, configuration, example_files, summary
from probe.commands.list import COLUMNS
from probe.commands.options import read
from probe.config import check, load
from probe.protocols import registry
from probe.protocols.sweep import SweepProtocol

KINDS = registry.kinds(registry.is_builtin)
CAUSAL = tuple(kind for kind in KINDS if registry.facts(kind).family == "causal")
POSITIONS = 300


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(name="model")
def short_model(models: Mapping[bool, Path], tmp_path: Path) -> Path:
    """A model of few positions whose weights are not there."""
    folder = tmp_path / "short"
    folder.mkdir()
    for file in models[True].iterdir():
        if file.suffix == ".json":
            (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["max_position_embeddings"] = POSITIONS
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def write_data(folder: Path, tokens: int) -> Path:
    """Documents of text with passages; each character is a token."""
    spans = [{"name": name, "start": at, "end": at + 40} for name, at in (("a", 9), ("answer", 99))]
    texts = [text_of(tokens, number) for number in range(6)]
    rows = [json.dumps({"text": text, "spans": spans}) for text in texts]
    (folder / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder / "rows.jsonl"


@pytest.mark.parametrize("kind", [None, *CAUSAL])
def test_what_is_written_can_be_planned(kind: str | None, model: Path, tmp_path: Path) -> None:
    """Windows fit the model's positions; every protocol has what it needs."""
    chosen = ("--protocol", kind) if kind else ()
    # A document with passages must fit into the model, another must hold a window.
    fits = registry.facts(kind).has_passages
    data = write_data(tmp_path, POSITIONS - 20 if fits else 3 * POSITIONS)
    said = good(probe("init", "--model", model, "--data", data, *chosen))
    assert said.splitlines()[0] == "Written: probe.yaml"
    config = load(Path("probe.yaml"))
    assert config.model.path == str(model)
    assert (config.data.path, config.data.data_files) == ("json", [str(tmp_path / "rows.jsonl")])
    assert registry.kind_of(type(config.protocol)) == kind or kind is None
    assert config.name == f"short-{tmp_path.name}-rows.jsonl".replace("_", "-") + (
        f"-{kind}" if kind else ""
    )
    planned = good(probe("plan", "probe.yaml", "--no-time"))
    assert planned.startswith("6 documents, 6 windows of ")


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_those_of_the_configuration(kind: str) -> None:
    """A line that begins with # says the default: without the # nothing changes."""
    text = configuration("gpt2", "stdlib", kind)
    shown = re.sub(r"^( *)# (\w+: )", r"\1\2", text, flags=re.M)
    assert shown.count("\n") == text.count("\n")
    assert yaml.safe_load(shown) != yaml.safe_load(text)
    assert check(yaml.safe_load(shown)) == check(yaml.safe_load(text))


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_says_what_it_does(kind: str) -> None:
    """A comment stands behind every key of a part, and no line is wider than a terminal."""
    lines = configuration("gpt2", "org/books", kind).splitlines()
    assert max(map(len, lines)) <= COLUMNS
    keys = [number for number, line in enumerate(lines) if re.match(r" *(# )?\w+: \S", line)]
    assert len(keys) > 12
    for number in keys:
        above = lines[number - 1].lstrip().startswith("# ")
        assert above or lines[number][COMMENT:].startswith("# "), lines[number]


def test_hostile_names(tmp_path: Path, model: Path) -> None:
    """A name with a line break ends no comment, and stays what it is."""
    place = model.rename(tmp_path / "a\nconditions: [x]\u202e")
    text = configuration(str(place), "stdlib")
    assert "\u202e" not in text
    config = check(yaml.safe_load(text))
    assert config.model.path == str(place)
    assert config.name == "a-conditions-x-stdlib"
    assert "truncate" in config.conditions


@pytest.mark.parametrize(
    ("content", "length"),
    [
        ('{"n_positions": 1024}', 1023),
        ('{"text_config": {"max_position_embeddings": 512}}', 511),
        ('{"max_position_embeddings": 131072}', 2048),
        ('{"max_position_embeddings": "many"}', 2048),
        ("{}", 2048),
        ("[]", 2048),
        ("no JSON", 2048),
    ],
)
def test_windows_fit_the_model(content: str, length: int, model: Path) -> None:
    """As far as its config.json tells, with room for a BOS; else they have the default length."""
    (model / "config.json").write_text(content, encoding="utf-8")
    written = check(yaml.safe_load(configuration(str(model), "stdlib")))
    assert written.windows.length == length


@pytest.mark.parametrize("ending", ["txt", "jsonl", "folder"])
@pytest.mark.parametrize(
    ("tokens", "length"),
    [
        ([5000] * 8, 2048),
        ([2048] * 8, 2048),
        ([2047] * 8, 1024),
        # Half of the documents, or six, or all that there are.
        ([600] * 20 + [300] * 20, 512),
        ([600] * 8 + [300] * 32, 256),
        ([600] * 6 + [20] * 6, 512),
        ([600] * 5 + [20] * 7, 64),
        ([600], 512),
        ([9] * 8, 64),
    ],
)
def test_windows_fit_the_documents(
    tokens: list[int], length: int, ending: str, tmp_path: Path
) -> None:
    """As far as bytes tell, at six a token; half of the documents at least hold a window."""
    texts = ["x" * (6 * count) for count in tokens]
    if ending == "jsonl":
        empty = len(json.dumps({"text": ""})) + 1
        lines = [json.dumps({"text": text[empty:]}) for text in texts]
        (tmp_path / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
    else:
        for number, text in enumerate(texts):
            (tmp_path / f"{number}.txt").write_text(text)
    data = {"txt": "*.txt", "jsonl": "rows.jsonl", "folder": str(tmp_path)}[ending]
    text = configuration("gpt2", data)
    assert check(yaml.safe_load(text)).windows.length == length
    long = sum(count >= length for count in tokens)
    assert f"; {long} of {len(tokens)} document" in " ".join(text.replace("#", " ").split())


@pytest.mark.parametrize(
    ("size", "dtype"), [(9, "float32"), (SMALL, "float32"), (SMALL + 1, "auto")]
)
def test_small_weights_are_read_in_float32(
    size: int, dtype: str, model: Path, tmp_path: Path
) -> None:
    """A CPU can do it, and rounding to bfloat16 may hide an answer; of others nothing is said."""
    assert check(yaml.safe_load(configuration(str(model), "stdlib"))).model.dtype == "auto"
    with (model / "model.safetensors").open("wb") as stream:
        stream.truncate(size)
    text = configuration(str(model), "stdlib")
    assert check(yaml.safe_load(text)).model.dtype == dtype
    assert "rounding may leave an answer at 1 % unresolved" in " ".join(
        text.replace("#", " ").split()
    )
    with (tmp_path / "a.gguf").open("wb") as stream:
        stream.truncate(size // 4)
    text = configuration(str(tmp_path / "a.gguf"), "stdlib")
    assert check(yaml.safe_load(text)).model.dtype == "float32"


def test_a_model_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its positions are known without a network."""
    commit = "0" * 40
    cached = tmp_path / "models--org--name"
    (cached / "snapshots" / commit).mkdir(parents=True)
    (cached / "snapshots" / commit / "config.json").write_text('{"n_positions": 256}', "utf-8")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit, encoding="utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "  length: 255 " in configuration("org/name", "stdlib")
    assert "  length: 2048 " in configuration("org/other", "stdlib")


@pytest.mark.slow
def test_no_torch(model: Path) -> None:
    """A configuration is written at once: no weights, no tokenizer, no torch."""
    from test_imports import loaded

    code = "from probe.commands.init import configuration\n"
    assert loaded(f"{code}configuration({str(model)!r}, 'stdlib')") == []


@pytest.mark.parametrize(
    ("into", "name"), [("my.yaml", "my"), ("my/own.v2.yaml", "own.v2"), ("_my ä_b.yaml", "my-_b")]
)
def test_the_run_is_named_after_its_file(model: Path, into: str, name: str) -> None:
    """``--into my.yaml`` runs into ``results/my``; unsaid, model and data name the run."""
    good(probe("init", "--model", model, "--data", "stdlib", "--into", into))
    assert load(Path(into)).name == name
    good(probe("init", "--model", model, "--data", "stdlib"))
    assert load(Path("probe.yaml")).name == "short-stdlib"


def test_nothing_is_written_over(model: Path, tmp_path: Path) -> None:
    """A file that is there stays, unless --force says otherwise."""
    asked = ("init", "--model", model, "--data", "stdlib", "--into", "my/own.yaml")
    good(probe(*asked))
    Path("my/own.yaml").write_text("mine", encoding="utf-8")
    line = mistake(probe(*asked), 2)
    assert line == "'my/own.yaml' is there already; allowed: another --into, or --force"
    assert Path("my/own.yaml").read_text("utf-8") == "mine"
    good(probe(*asked, "--force"))
    assert load(Path("my/own.yaml")).model.path == str(model)


MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), "init needs --model and --data, or --example; see probe init --list"),
    "data": (("--model", "gpt2"), "init needs --model and --data, or --example"),
    "no model": (("--model", "./gpt2", "--data", "stdlib"), "model.path is './gpt2': there is no"),
    "no files": (("--model", "gpt2", "--data", "no/*.txt"), "data: 'no/*.txt' matches"),
    "no folder": (("--model", "gpt2", "--data", "./no"), "cannot find data set './no': there is"),
    "kind": (
        ("--model", "gpt2", "--data", "stdlib", "--protocol", "swep"),
        f"--protocol is 'swep'; did you mean 'sweep'? allowed: {', '.join(KINDS)}",
    ),
    "example": (("--example", "demmo"), "--example 'demmo'; did you mean 'demo'? allowed: att"),
    "both": (
        ("--example", "demo", "--model", "x"),
        "--example is copied as it is; allowed with",
    ),
}


@pytest.mark.parametrize(("asked", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(asked: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """One line, and no file."""
    assert mistake(probe("init", *asked), 2).startswith(said)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_examples_are_copied() -> None:
    """To the letter, under their own name."""
    for name, path in example_files().items():
        good(probe("init", "--example", name))
        assert Path(f"{name}.yaml").read_bytes() == path.read_bytes()
        assert read(Path(f"{name}.yaml"), ()).name == name


def test_examples_are_listed() -> None:
    """Each with the first sentence of what it says of itself."""
    said = " ".join(good(probe("init", "--list")).split())
    for name, path in example_files().items():
        (sentence,) = {summary(path.read_text("utf-8"))}
        assert f"{name} {sentence}" in said
        assert sentence.endswith((".", "?"))
        assert "\n" not in sentence


def test_examples_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand in the package there, beside it in a checkout."""
    assert {path.parent for path in example_files().values()} == {CHECKOUT / "configs"}
    assert PACKAGE == CHECKOUT / "probe"
    (tmp_path / "probe" / "configs").mkdir(parents=True)
    (tmp_path / "probe" / "configs" / "mine.yaml").touch()
    monkeypatch.setattr("probe.commands.init.PACKAGE", tmp_path / "probe")
    assert list(example_files()) == ["mine"]


def test_a_protocol_without_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol that needs options and does not say which is refused, and nothing is written."""

    class Needy(SweepProtocol):
        """It needs a width."""

        width: int

    def starting(*_: Any) -> type[Needy]:
        return Needy

    monkeypatch.setattr(registry, "protocol_of", starting)
    asked = ("init", "--model", "gpt2", "--data", "stdlib", "--protocol", "x")
    told, line = mistakes(probe(*asked), 2)
    assert told == "--model 'gpt2' --data 'stdlib' has 1 mistake(s):"
    assert line == "  protocol.width: is missing"
    assert not Path("probe.yaml").exists()


def test_a_masked_model_gets_its_protocol(model: Path, tmp_path: Path) -> None:
    """The protocol is the first for the family that config.json tells; others are refused."""
    config = json.loads((model / "config.json").read_text("utf-8"))
    config["architectures"] = ["BertForMaskedLM"]
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    data = write_data(tmp_path, 4_000)
    written = yaml.safe_load(configuration(str(model), str(data)))
    assert written["protocol"] == {"kind": "pll"}
    assert written["windows"]["length"] == POSITIONS - 2
    told = mistake(probe("init", "--model", model, "--data", data, "--protocol", "sweep"), 2)
    assert "is a masked one; allowed: pll" in told
    config |= {"architectures": ["BertModel"], "model_type": "bert"}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    written = yaml.safe_load(configuration(str(model), str(data)))
    assert (written["protocol"], written["measures"]) == ({"kind": "chunks"}, ["embedding"])
    told = mistake(probe("init", "--model", model, "--data", data, "--protocol", "pll"), 2)
    assert "is an encoder one; allowed: chunks" in told
    config["architectures"] = ["BertForMaskedLM"]  # which is read without its head, if asked for
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    written = yaml.safe_load(configuration(str(model), str(data), "chunks"))
    assert written["protocol"] == {"kind": "chunks"}


def test_windows_are_no_longer_than_the_protocol_has_them(model: Path, tmp_path: Path) -> None:
    """T5 has no positions to go by, and was trained on 512 tokens."""
    config = json.loads((model / "config.json").read_text("utf-8"))
    config |= {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}
    config["max_position_embeddings"] = 10_000
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    data = write_data(tmp_path, 4_000)
    written = yaml.safe_load(configuration(str(model), str(data), "span_corruption"))
    assert written["protocol"] == {"kind": "span_corruption"}
    assert written["windows"]["length"] == 512
