"""The configuration: what a file means, and every mistake in it told at once."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from plans import grid, sweep

from probe.config import Config, check, load
from probe.errors import UsageError

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
CONFIGS = [path for path in CONFIGS if path.stem not in ("matrix", "proxy")]  # of several runs
LEAST: dict[str, Any] = {
    "name": "a",
    "model": {"path": "m"},
    "data": {"path": "text"},
    "conditions": ["truncate"],
}


def mistakes(**changes: Any) -> list[str]:
    """The lines that follow the first, or the only line."""
    with pytest.raises(UsageError) as caught:
        check({**LEAST, **changes})
    first, *lines = str(caught.value).splitlines()
    if not lines:
        return [first]
    assert first == f"configuration has {len(lines)} mistake(s):"
    assert all(line.startswith("  ") for line in lines)
    return [line.strip() for line in lines]


def written(folder: Path, text: str) -> Path:
    path = folder / "a.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_least() -> None:
    """Name, model, data and conditions are enough; the rest are the defaults of the design."""
    config = check(LEAST)
    assert config.plan == sweep(2048, 1024, runs={1: 1, 4: 2, 8: 2, 64: 16})
    assert (config.first_token, config.repeats, config.measures) == ("keep", 1, ["nll"])
    assert config.analysis.tolerances == ["1%", "2%", "5%", "10%"]


def test_one_condition_is_a_list_of_one() -> None:
    """So that ``--set conditions=truncate`` says what it means."""
    assert check(LEAST | {"conditions": "truncate"}) == check(LEAST)


def test_every_mistake_at_once() -> None:
    """Each mistake is a line: its path, what is allowed, the value."""
    lines = mistakes(
        name="a/b",
        windws=3,
        model={"dtype": "int8"},
        data={"path": "text", "colour": "red", "data_files": 3},
        windows={"length": 4},
        first_token=3,
        repeats=0,
        measures=["nll", "nl"],
        batch="many",
        conditions=["shufle", "truncate", "drop(rate=2)", "replace"],
        analysis={"tolerances": ["1%", "x"], "confidence": 1},
    )
    expected = {
        "name": ("pattern", "got 'a/b'"),
        "windws": ("unknown key", "value 3"),
        "model.path": ("is missing",),
        "model.dtype": ("'auto', 'float32', 'bfloat16' or 'float16'", "got 'int8'"),
        "data.colour": ("unknown key", "value 'red'"),
        "data.data_files": ("allowed: a path or glob, a list of them", "got 3"),
        "windows.length": ("greater than or equal to 8", "got 4"),
        "first_token": ("'keep', 'none' or 'published'", "got 3"),
        "repeats": ("greater than or equal to 1", "got 0"),
        "measures.1": ("'nll', 'kl', 'top1', 'entropy' or 'embedding'", "got 'nl'"),
        "batch": ("allowed: auto, or a number of windows", "got 'many'"),
        "conditions.0": (
            "unknown perturbation 'shufle'",
            "did you mean 'shuffle'?",
            "known: attend",
        ),
        "conditions.2": ("rate must be a number above 0 and at most 1", "got 2.0"),
        "conditions.3": ("parameter 'source' is required",),
        "analysis.tolerances": ("'x' is not understood", "allowed: '1%'"),
        "analysis.confidence": ("less than 1", "got 1"),
    }
    found = dict(line.split(": ", 1) for line in lines)
    assert found.keys() == expected.keys()
    for path, words in expected.items():
        for word in words:
            assert word in found[path]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"protocol": {"kind": "swoop"}},
            "protocol.kind: is 'swoop'; did you mean 'sweep'? allowed: 'sweep', 'grid'",
        ),
        ({"protocol": {"kind": "grid"}}, "protocol.distances: is missing"),
        ({"protocol": {"reach": 9, "grid": 1}}, "protocol.grid: unknown key (value 1)"),
        ({"sweep": {"reach": 9}}, "sweep: unknown key (value {'reach': 9})"),
        (
            {"protocol": {"runs": {8: 2}}},
            "protocol.runs: allowed: {1: 1, …}, one long run over the whole reach, then others; "
            "got {8: 2}",
        ),
        ({"conditions": ["intact"]}, "conditions: allowed: one condition or more besides intact; "),
        ({"conditions": [3]}, "conditions.0: a condition must be text or a list of texts; got 3"),
        ({"model": None}, "model: Input should be a valid dictionary"),
        ({"model": {"path": 3}}, "model.path: Input should be a valid string; got 3"),
        ({"windows": {"length": "long"}}, "windows.length: Input should be a valid integer"),
    ],
)
def test_one_mistake(changes: dict[str, Any], line: str) -> None:
    """The path is that of the file, whatever is tried on the value."""
    (found,) = mistakes(**changes)
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("changes", "meant"),
    [
        ({"widnows": {}}, "windows"),
        ({"windows": {"lenght": 64}}, "length"),
        ({"data": {"path": "text", "max_documnts": 3}}, "max_documents"),
        ({"protocol": {"raech": 9}}, "reach"),
        ({"protocol": {"kind": "grid", "distances": [8], "targets": {"alon": True}}}, "alone"),
        ({"protocol": {"kind": "swep"}}, "sweep"),
        ({"max_documents": 3}, "data.max_documents"),  # a key of another part
        ({"windows": {"tolerances": ["1%"]}}, "analysis.tolerances"),
        ({"measures": ["kll"]}, "kl"),
        ({"model": {"path": "m", "dtype": "bloat16"}}, "bfloat16"),
        ({"conditions": ["shufle"]}, "shuffle"),
        ({"conditions": ["shuffle(spn=3)"]}, "span"),
        ({"conditions": ["shuffle(unit='wrod')"]}, "word"),
        ({"conditions": ["replace(source='documnt')"]}, "document"),
        ({"conditions": ["keep(what='NUON')"]}, "NOUN"),
        ({"conditions": ["attend(locl(3))"]}, "local"),
        ({"conditions": ["attend(local(wide=3))"]}, None),
        ({"analysis": {"tolerances": ["1 nast"]}}, "nats"),
        ({"analysis": {"classes": ["frequncy"]}}, "frequency"),
        ({"xyzzy": 1}, None),
    ],
)
def test_what_was_meant(changes: dict[str, Any], meant: str | None) -> None:
    """Of keys, kinds, values, perturbations, parameters, units and classes the nearest is named."""
    (found,) = mistakes(**changes)
    asked = re.findall("; did you mean '([^']*)'\\?", found)
    assert asked == ([] if meant is None else [meant])


@pytest.mark.parametrize(
    ("protocol", "line"),
    [
        ({"reach": 33}, "protocol.reach is 33; allowed: 1 to 32, half the window"),
        ({"reach": 64, "insist": True}, "protocol.reach is 64; allowed: 1 to 63"),
        ({"kind": "grid", "distances": []}, "protocol.distances is []; allowed: one or more"),
        (
            {"kind": "grid", "distances": [4, 14]},
            "protocol.distances is [4, 14]; allowed: one or more from 0 to 13",
        ),
        (
            {"kind": "grid", "distances": [4], "targets": {"count": 30}},
            "protocol.targets: 30 targets ending 40 tokens before the end do not fit windows of 64",
        ),
    ],
)
def test_protocol_must_fit_windows(protocol: dict[str, Any], line: str) -> None:
    """What each alone allows may not fit together."""
    (found,) = mistakes(windows={"length": 64}, protocol=protocol)
    assert found.startswith(line)


def test_protocols() -> None:
    """Each kind gives its protocol; without a kind it is a sweep."""
    windows = {"length": 64}
    given = {"reach": 40, "insist": True, "runs": {1: 1, 4: 3}, "spread": 0.5, "all_runs": True}
    expected = sweep(64, 40, runs={1: 1, 4: 3}, spread=0.5, all_runs=True, insist=True)
    for protocol in (given, {"kind": "sweep", **given}):
        assert check({**LEAST, "windows": windows, "protocol": protocol}).plan == expected
    protocol = {"kind": "grid", "distances": [5, 9], "targets": {"count": 3, "end_offset": 2}}
    config = check({**LEAST, "windows": windows, "protocol": protocol})
    assert config.plan == grid(64, [5, 9], count=3, end_offset=2)


def test_conditions_are_canonical() -> None:
    """However a condition is written it is one text; one named twice, and intact, are dropped."""
    given = [
        "shuffle(20)",
        "shuffle( span = 20 )",
        "intact",
        "shuffle(span=None)",
        ["drop(rate=0.5)", "shuffle"],
        "[drop(0.5), shuffle()]",
    ]
    config = check({**LEAST, "conditions": given})
    assert config.conditions == ["shuffle(span=20)", "shuffle", "[drop(rate=0.5), shuffle]"]
    assert [condition.text for condition in config.parsed] == config.conditions


def test_set(tmp_path: Path) -> None:
    """Dotted keys replace or add what the file says; their values are YAML."""
    path = written(tmp_path, yaml.safe_dump(LEAST))
    config = load(
        path,
        [
            ("windows.length", "64"),
            ("protocol.runs", "{1: 1, 4: 2}"),
            ("conditions", "[reverse, 'drop(rate=0.5)']"),
            ("data.max_documents", "null"),
            ("data.options.encoding", "latin-1"),
            ("model.path", "other"),
        ],
    )
    other = {
        **LEAST,
        "windows": {"length": 64},
        "protocol": {"runs": {1: 1, 4: 2}},
        "conditions": ["reverse", "drop(rate=0.5)"],
        "data": {"path": "text", "options": {"encoding": "latin-1"}},
        "model": {"path": "other"},
    }
    assert config == check(other)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("windws.length", "3"), "windws: unknown key"),
        (("windows.length", "[3"), "--set windows.length=[3: the value is no YAML"),
        (("name.length", "3"), "--set name.length=3: 'name' holds no keys"),
        (("repeats", "none"), "repeats: Input should be a valid integer"),
    ],
)
def test_set_mistakes(tmp_path: Path, change: tuple[str, str], line: str) -> None:
    """A wrong change is told like a wrong line of the file."""
    with pytest.raises(UsageError) as caught:
        load(written(tmp_path, yaml.safe_dump(LEAST)), [change])
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [a", "is no YAML"),
        ("name: !!python/object:os.system x", "is no YAML"),
        ("", "holds None; allowed: keys with values"),
        ("- a", "holds ['a']; allowed: keys with values"),
    ],
)
def test_no_configuration(tmp_path: Path, text: str, words: str) -> None:
    """A file that holds something else is named, on one line."""
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there, a folder, and one that is no text are told apart."""
    for path, words in ((tmp_path / "b.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=words):
            load(path)
    (tmp_path / "b.yaml").write_bytes(b"name: \xff\xfe\xfa")
    with pytest.raises(UsageError, match="is no YAML"):
        load(tmp_path / "b.yaml")


def test_mistakes_in_a_file_name_it(tmp_path: Path) -> None:
    """The first line says which file."""
    path = written(tmp_path, "name: a")
    with pytest.raises(UsageError) as caught:
        load(path)
    assert str(caught.value).splitlines()[0] == f"{path} has 3 mistake(s):"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_round_trip(path: Path) -> None:
    """A configuration of ours, written down whole and read again, is the same."""
    config = load(path)
    assert Config.model_validate(config.model_dump()) == config
    assert Config.model_validate_json(config.model_dump_json()) == config
    assert check(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))) == config
    assert path.read_text(encoding="utf-8").startswith("#")


@pytest.mark.parametrize("value", ["2020-13-45", "!!int x", "[" * 600, "9" * 5000])
def test_values_that_yaml_chokes_on(value: str, tmp_path: Path) -> None:
    """What PyYAML raises on a value is told in one line, in the file and in --set."""
    path = tmp_path / "a.yaml"
    path.write_text(f"seed: {value}\n", encoding="utf-8")
    with pytest.raises(UsageError, match="is no YAML"):
        load(path)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match="the value is no YAML"):
        load(path, [("seed", value)])


def bomb(levels: int) -> str:
    """Lists of nine that name one another, as YAML: ``9 ** levels`` values at key ``z``."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]")
    return "\n".join([*lines, f"z: *l{levels - 1}"])


@pytest.mark.slow
@pytest.mark.parametrize("key", ["name", "conditions", "windows", "analysis", "z", "data.options"])
def test_a_value_is_cut_before_it_is_shown(tmp_path: Path, key: str) -> None:
    """A few lines of YAML that stand for 59,049 values make no long message."""
    value = {key: None}
    part = yaml.safe_dump(value).replace("null", "*l4")
    with pytest.raises(UsageError) as caught:
        load(written(tmp_path, f"{bomb(5)}\n{part}"))
    assert max(map(len, str(caught.value).splitlines())) < 600
    with pytest.raises(UsageError, match="holds more than 1,000,000 values, with every alias"):
        load(written(tmp_path, f"{bomb(9)}\n{part}"))


@pytest.mark.parametrize("text", ["seed: &a [*a]", "seed: 0x" + "f" * 8000, "? 0x1" + "0" * 99])
def test_values_without_an_end(tmp_path: Path, text: str) -> None:
    """A list that holds itself and a number that cannot be written are one line each."""
    with pytest.raises(UsageError, match=r"1,000,000 values|of 64 bits") as caught:
        load(written(tmp_path, text))
    assert len(str(caught.value)) < 400


def test_merged_mappings_do_not_multiply(tmp_path: Path) -> None:
    """Mappings that merge one another, nine times on each of forty levels, are read at once."""
    lines = ["l0: &l0 {x: 1, y: 2}"]
    for level in range(1, 40):
        lines.append(f"l{level}: &l{level} {{<<: [{', '.join([f'*l{level - 1}'] * 9)}]}}")
    with pytest.raises(UsageError, match=r"name: .*\{'x': 1, 'y': 2\}"):
        load(written(tmp_path, "\n".join([*lines, "name: *l39"])))


@pytest.mark.parametrize("aliases", ["*a, *b, *a", "*b, *a, *b", "*a, *a", "*b"])
def test_merged_mappings_hold_what_yaml_says(tmp_path: Path, aliases: str) -> None:
    """A mapping's own keys hold, then those of the first that is merged."""
    text = f"a: &a {{x: 1, y: 1}}\nb: &b {{x: 2, z: 2}}\nc: {{<<: [{aliases}], y: 3}}"
    with pytest.raises(UsageError) as caught:
        load(written(tmp_path, text))
    line = next(line for line in str(caught.value).splitlines() if line.startswith("  c: "))
    for key, value in yaml.safe_load(text)["c"].items():
        assert f"{key!r}: {value}" in line


def test_at_most_twenty_mistakes() -> None:
    """Twenty mistakes are told, of the others their number."""
    with pytest.raises(UsageError) as caught:
        check({**LEAST, "conditions": ["x" * 9000 for _ in range(51)]})
    first, *lines = str(caught.value).splitlines()
    assert first == "configuration has 51 mistake(s):"
    assert len(lines) == 21
    assert lines[-1] == "  … and 31 more"
    assert max(map(len, lines)) < 900  # the value twice, and all that is known


@pytest.mark.parametrize("field", sorted(Config.model_fields))
def test_long_values_are_cut(field: str) -> None:
    """Whatever stands there, 100,000 characters of it are not said again."""
    for value in ("x" * 100_000, ["x" * 100_000], {"x" * 100_000: 1}, {"kind": "x" * 100_000}):
        with pytest.raises(UsageError) as caught:
            check({**LEAST, field: value})
        assert max(map(len, str(caught.value).splitlines())) < 900


@pytest.mark.parametrize(
    "protocol",
    [
        {"kind": "grid", "distances": list(range(9_000))},
        {"kind": "band", "edges": list(range(9_000))},
        {"kind": "suffix", "prefixes": list(range(9_000))},
        {"runs": dict.fromkeys(range(2, 9000), 1)},
    ],
)
def test_long_lists_are_cut(protocol: dict[str, Any]) -> None:
    """Nor are 9,000 numbers of which one is too large."""
    lines = mistakes(windows={"length": 64}, protocol=protocol)
    assert max(map(len, lines)) < 400


def test_keys_that_contradict_one_another_are_one_line() -> None:
    """A condition on its own target, where targets share a sequence: what to write instead."""
    (line,) = mistakes(conditions=["truncate", "drop_target"])
    assert "'drop_target' depends on its target" in line
    assert "allowed: protocol grid or band with targets: {alone: true}" in line
    assert line.endswith("targets: {alone: true}")


OWN_FILE = """
from probe.perturbations.registry import register

@register("{name}")
def own(far, *, rng):
    return far

def word(window):
    return [None] * len(window)
"""


def test_files_stand_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python files are looked for beside the configuration, then in the working directory."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "own.py").write_text(OWN_FILE.format(name="beside_a_config"), encoding="utf-8")
    (tmp_path / "own.py").write_text("raise SystemExit", encoding="utf-8")
    (tmp_path / "other.py").write_text(OWN_FILE.format(name="not_beside_it"), encoding="utf-8")
    content = {
        **LEAST,
        "perturbations": ["own.py", "other.py"],
        "conditions": ["beside_a_config", "not_beside_it"],
        "analysis": {"classes": ["own.py:word"]},
    }
    path = written(folder, yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    config = load(path.relative_to(tmp_path))
    assert config.perturbations == ["configs/own.py", "other.py"]
    assert config.analysis.classes == ["configs/own.py:word"]
    assert check(config.model_dump()) == config, "what run.json keeps means the same"


def test_a_protocol_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of a protocol is looked for there, too; what is missing is named."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "own.py").write_text("value = 1", encoding="utf-8")
    text = yaml.safe_dump({**LEAST, "protocols": ["own.py"]})
    monkeypatch.chdir(tmp_path)
    assert load(written(tmp_path / "configs", text)).protocols == [str(tmp_path / "configs/own.py")]
    with pytest.raises(UsageError, match=r"protocols\.0: 'own.py' cannot be read: No such file"):
        load(written(tmp_path, text))
