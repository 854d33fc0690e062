"""`probe card`: its formats, where it writes, and what it refuses."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml
from command_line import good, mistake, probe

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "results" / "example"
RUNS = ROOT / "tests" / "golden" / "runs"
SCHEMA = ROOT / "tests" / "cards" / "every_eval_ever" / "eval.schema.json"


def test_markdown_is_printed() -> None:
    """By default the card is Markdown on standard output, and the folder is not written to."""
    before = sorted(path.name for path in RUNS.joinpath("sweep").iterdir())
    said = good(probe("card", RUNS / "sweep"))
    assert said.startswith("# How far near reads\n")
    assert "## Cite" in said
    assert sorted(path.name for path in RUNS.joinpath("sweep").iterdir()) == before


def test_into(tmp_path: Path) -> None:
    """A file holds what would be printed, and the place is told."""
    file = tmp_path / "new" / "card.md"
    assert good(probe("card", RUNS / "sweep", "--into", file)) == f"Card: {file}\n"
    assert file.read_text("utf-8") == good(probe("card", RUNS / "sweep"))


def test_formats() -> None:
    """JSON of our own, a record that every-eval-ever takes, and an entry of the hub."""
    card = json.loads(good(probe("card", EXAMPLE, "--format", "json")))
    assert card["rows"]["count"] == 155_648
    record = json.loads(good(probe("card", EXAMPLE, "--format", "every-eval-ever")))
    jsonschema.validate(record, json.loads(SCHEMA.read_text("utf-8")))
    named = ("--dataset-id", "org/data", "--task-id", "reach")
    (entry,) = yaml.safe_load(good(probe("card", EXAMPLE, "--format", "eval-results", *named)))
    assert entry["dataset"] == {"id": "org/data", "task_id": "reach"}
    assert entry["value"] == 896
    odd = "\x1b[31m\u202e\x7f Größe: 'a'\t#"  # the terminal gets none of it, and YAML all
    said = good(probe("card", EXAMPLE, "--format", "eval-results", *named[:3], odd))
    assert said.replace("\n", "").isprintable()
    assert yaml.safe_load(said)[0]["dataset"]["task_id"] == odd


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--format", "eval-results"], 2, "give --dataset-id and --task-id, or another --format"),
        (["--dataset-id", "a/b"], 2, "--dataset-id and --task-id need --format eval-results"),
        (["--into", ""], 2, "--into '' is no name; allowed: a file"),
    ],
)
def test_mistakes(arguments: list[str], status: int, said: str) -> None:
    """One line, before or after the run is read."""
    assert mistake(probe("card", EXAMPLE, *arguments), status).endswith(said)


def test_no_run(tmp_path: Path) -> None:
    """A folder that is no run folder, and a run without a resolved length."""
    assert "is no run folder" in mistake(probe("card", tmp_path), 2)
    line = mistake(probe("card", RUNS / "band", "--format", "every-eval-ever"), 1)
    assert line.endswith("has no resolved length; allowed: --format md, json")


def test_names_are_not_obeyed(tmp_path: Path) -> None:
    """What a terminal or Markdown would obey in a name is escaped."""
    folder = Path(shutil.copytree(RUNS / "sweep", tmp_path / "sweep"))
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record["model"]["name"] = "\x1b[31mred\n# <b>x</b>"
    (folder / "run.json").write_text(json.dumps(record), "utf-8")
    head = good(probe("card", folder)).splitlines()[0]
    assert head == "# How far \\\\x1b\\[31mred\\\\n# \\<b\\>x\\</b\\> reads"


def test_json_holds_what_no_terminal_shows(tmp_path: Path) -> None:
    """A name with a soft hyphen is the same in what is printed and in a file."""
    folder = Path(shutil.copytree(RUNS / "sweep", tmp_path / "sweep"))
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record["model"]["name"] = "a\u00adb\u202e…"
    (folder / "run.json").write_text(json.dumps(record), "utf-8")
    printed, file = good(probe("card", folder, "--format", "json")), tmp_path / "card.json"
    good(probe("card", folder, "--format", "json", "--into", file))
    assert printed.isascii()
    assert json.loads(printed) == json.loads(file.read_text("utf-8"))
    assert json.loads(printed)["model"]["name"] == "a\u00adb\u202e…"


@pytest.mark.parametrize("form", ["json", "every-eval-ever"])
def test_json_stays_json(form: str, tmp_path: Path) -> None:
    """What is printed is read back, whatever a name holds."""
    folder = Path(shutil.copytree(RUNS / "sweep", tmp_path / "sweep"))
    record = json.loads((folder / "run.json").read_text("utf-8"))
    name = record["name"] = record["model"]["name"] = 'a\x7f"\x85\u202e\U000e0001\\'
    (folder / "run.json").write_text(json.dumps(record), "utf-8")
    said = json.loads(good(probe("card", folder, "--format", form)))
    assert name in (said.get("run"), said.get("model_info", {}).get("name"))
