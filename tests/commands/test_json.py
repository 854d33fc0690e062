"""``--json``: standard output is one value as its schema in ``docs/schemas`` describes it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_line import mistake, probe, write
from jsonschema import Draft202012Validator, ValidationError
from simulated import Simulation, write_run
from tiny_run import (  # noqa: F401 (fixtures)
    CHECKOUT,
    base_configuration,
    model_folders,
    no_network,
    text_folder,
)

from probe.analysis.open_run import open_run

RUNS = CHECKOUT / "tests" / "golden" / "runs"
KINDS = ("attend", "band", "dense", "few", "heads", "longppl", "passages", "suffix", "sweep")
SCHEMAS = sorted((CHECKOUT / "docs" / "schemas").glob("*.json"))


def schema(name: str) -> dict[str, Any]:
    file = CHECKOUT / "docs" / "schemas" / f"{name}.json"
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return content


def refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def value(result: Result, name: str) -> dict[str, Any]:
    """What a call printed, checked: plain JSON in ASCII, and as the schema says."""
    assert result.exit_code == 0, result.output
    assert result.stdout.isascii()
    found: dict[str, Any] = json.loads(result.stdout, parse_constant=refuse)
    Draft202012Validator(schema(name)).validate(found)
    assert next(iter(found)) == "schema"
    return found


def copy(name: str, folder: Path) -> Path:
    """A kept run, which the test may write into."""
    return Path(shutil.copytree(RUNS / name, folder / name))


def objects(part: Any) -> list[dict[str, Any]]:
    """Every schema of an object inside a schema."""
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
    found = [one for each in inner for one in objects(each)]
    return [part, *found] if isinstance(part, dict) and "properties" in part else found


@pytest.mark.parametrize("file", SCHEMAS, ids=lambda file: file.stem)
def test_schemas_can_fail(file: Path) -> None:
    """Each is a schema, wants every key that it knows, allows no other, and describes each."""
    content = json.loads(file.read_text("utf-8"))
    Draft202012Validator.check_schema(content)
    assert "allOf" not in file.read_text("utf-8")  # whose parts could not be closed each
    for part in objects(content):
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"])
        for key, about in part["properties"].items():
            assert about.get("description") or "$ref" in about, f"{file.name}: {key}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_report(kind: str, tmp_path: Path) -> None:
    """Of a run of every protocol: the numbers of its answers, the words of its findings."""
    folder = copy(kind, tmp_path)
    (found,) = value(probe("report", folder, "--json"), "report")["runs"]
    with open_run(folder, write=False) as run:
        contexts = [(one.condition, one.tolerance, one.estimate, one.lower) for one in run.contexts]
    keys = ("condition", "tolerance", "estimate", "lower")
    assert [tuple(answer[key] for key in keys) for answer in found["answers"]] == contexts
    assert found["findings"][0]["level"] == "answer"
    assert found["page"] == str(folder / "report.html")
    for file in (*found["files"], found["page"]):
        assert Path(file).is_file()


@pytest.mark.slow
def test_report_of_several(tmp_path: Path) -> None:
    """Each run has its own part and page, and all together one more."""
    folders = [copy(name, tmp_path) for name in ("sweep", "finished")]
    found = value(probe("report", *folders, "--json"), "report")
    assert [run["run"] for run in found["runs"]] == [str(folder) for folder in folders]
    assert found["together"]["page"] == str(folders[0] / "reports.html")
    assert all(Path(file).is_file() for file in found["together"]["files"])


@pytest.mark.slow
def test_schemas_do_fail(tmp_path: Path) -> None:
    """A key more, a key less or another type is found."""
    found = value(probe("report", copy("sweep", tmp_path), "--json"), "report")
    validator = Draft202012Validator(schema("report"))
    (run,) = found["runs"]
    for changed in ({**run, "new": 1}, {**run, "documents": "8"}, dict(list(run.items())[1:])):
        with pytest.raises(ValidationError):
            validator.validate({**found, "runs": [changed]})


@pytest.mark.slow
def test_keys(tmp_path: Path) -> None:
    """LongPPL where it is the answer, else LSD alone; what is exported is the same."""
    file = tmp_path / "keys.json"
    result = probe("keys", RUNS / "longppl", "--json", "--export", file)
    found = value(result, "keys")
    exported = json.loads(file.read_text("utf-8"))
    assert found["longppl"]["longppl"] == pytest.approx(exported["longppl"], rel=1e-7)
    assert len(found["lsd_by_distance"]) == len(exported["lsd_by_distance"])
    assert result.stderr == ""
    other = probe("keys", RUNS / "sweep", "--json")
    assert value(other, "keys")["longppl"] is None
    assert other.stderr.startswith("LongPPL needs a run with protocol longppl")
    assert value(probe("keys", RUNS / "longppl-near", "--json"), "keys")["longppl"]["keys"] == 0


def test_list() -> None:
    """Every name that the text has, with the defaults of its parameters."""
    found = value(probe("list", "--json"), "list")
    text = probe("list").stdout
    for part in found.values():
        for one in part if isinstance(part, list) else ():
            assert one["name"] in text
    shuffle = next(one for one in found["perturbations"] if one["name"] == "shuffle")
    assert shuffle["parameters"][0] == {"name": "span", "required": False, "default": None}


def test_list_of_ones_own(tmp_path: Path) -> None:
    """A default that JSON has no type for is shown as text."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from pathlib import Path\n"
        "from probe.perturbations.registry import register\n"
        "@register('listed_as_json')\n"
        "def listed_as_json(far, *, rng, a=Path('x'), b=(1, 2), c=float('inf')):\n"
        "    '''Do \\x1b[2J nothing.'''\n"
        "    return far\n",
        encoding="utf-8",
    )
    found = value(probe("list", "--json", "--perturbations", mine), "list")
    own = next(one for one in found["perturbations"] if one["name"] == "listed_as_json")
    assert [one["default"] for one in own["parameters"]] == ["x", [1, 2], None]
    assert own["summary"] == "Do \x1b[2J nothing."


@pytest.mark.slow
def test_plan(base: dict[str, Any], tmp_path: Path) -> None:
    """Counts, targets by octave, the time, what a pilot says; notes on standard error too."""
    config = write(tmp_path / "tiny.yaml", base, data__max_documents=3)
    result = probe("plan", config, "--json", "--from", RUNS / "sweep")
    found = value(result, "plan")
    assert found["documents"] == 3
    assert found["tokens"] <= found["plain_tokens"]
    assert f"{found['tokens']:,} tokens to forward" in probe("plan", config, "--no-time").stdout
    assert found["timing"]["seconds"] > 0
    assert {row["condition"] for row in found["precision"]["needed"]} >= {"truncate"}
    for note in found["notes"]:
        assert f"note: {note}" in result.stderr
    quiet = probe("plan", config, "--json", "--no-time", "-q")
    assert value(quiet, "plan")["timing"] is None
    assert quiet.stderr == ""


@pytest.mark.slow
def test_text_is_untouched(tmp_path: Path) -> None:
    """A name that a terminal would obey comes out of the JSON as it was; none is in its text."""
    hostile = "evil\x1b[2J\u202egpj\nname"
    curves = {"truncate": lambda distance: 0.3 / (1 + distance)}
    names = dict.fromkeys(("name", "model", "data"), hostile)
    simulation = Simulation(curves, windows=1, length=256, boundaries=(128,), reach=128, **names)
    folder = write_run(tmp_path / "run", simulation)
    result = probe("report", folder, "--json")
    (run,) = value(result, "report")["runs"]
    assert (run["name"], run["model"], run["data"]) == (hostile, hostile, hostile)
    assert "\x1b" not in result.stdout


def test_mistakes_print_no_json(tmp_path: Path) -> None:
    """What goes wrong is a line on standard error, as ever."""
    assert mistake(probe("report", tmp_path / "none", "--json"), 2).startswith("no run folder")
