"""`probe keys`, and what `probe run`, `plan`, `report` and `list` say of protocol longppl."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from models import tiny
from open_runs import opened
from tiny_run import (  # noqa: F401 (fixtures)
    LENGTHS,
    base_configuration,
    changed,
    character_tokenizer,
    model_folders,
    no_network,
    parts,
    score,
    scores,
    text_folder,
)

from probe.commands.main import group
from probe.findings.longppl import alone, longppl
from probe.protocols.longppl import LongPPLProtocol
from probe.render.terminal import text as text_of


def probe(*arguments: object) -> Result:
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


def good(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def mistake(result: Result, status: int) -> str:
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


def answer(folder: Path) -> str:
    return text_of(alone(longppl(opened(folder))))


@pytest.fixture(scope="module", name="content")
def longppl_configuration(base: dict[str, Any]) -> dict[str, Any]:
    content = {key: value for key, value in base.items() if key not in ("windows", "conditions")}
    short = {"kind": "longppl", "context": 64, "stride": 32}
    return changed(content, protocol=short, first_token="published", name="mine")


@pytest.fixture(scope="module")
def results(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two models over the same documents; tests only read them."""
    place = tmp_path_factory.mktemp("results")
    score(content, place)
    tiny("llama", num_hidden_layers=2, seed=1).save_pretrained(place / "model")
    character_tokenizer(True).save_pretrained(place / "model")
    score(content, place, name="theirs", model__path=str(place / "model"))
    return place


@pytest.mark.slow
def test_run_and_report(content: dict[str, Any], tmp_path: Path) -> None:
    """A run ends with LongPPL and the table of LSD, keeps both, and says the same again."""
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    folder = tmp_path / "results" / "mine"
    text = good(probe("run", config, "--results", folder.parent))
    assert text.startswith(answer(folder))
    assert text.endswith(f"Numbers: {folder / 'longppl.json'}, {folder / 'summary.json'}\n")
    held = json.loads((folder / "longppl.json").read_text(encoding="utf-8"))
    assert held["longppl"] == pytest.approx(longppl(opened(folder)).perplexity)
    before = parts(folder)
    assert good(probe("run", config, "--results", folder.parent)) == text
    assert parts(folder) == before
    assert good(probe("report", folder)).startswith(text)


def test_plan(content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would cost, without weights; windows are as long as their documents."""
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setattr("probe.models.load.load_model", None)
    text = good(probe("plan", config, "--no-time"))
    assert f"8 windows of {min(LENGTHS)} to {max(LENGTHS)} tokens, reach 96" in text
    assert f"{sum(LENGTHS):,}" in text  # targets of intact: every token


@pytest.mark.slow
def test_keys(results: Path) -> None:
    """The answer of the run itself, and with other limits."""
    folder = results / "mine"
    assert good(probe("keys", folder)) == f"{answer(folder)}\n"
    text = good(probe("keys", folder, "--lsd", "0.5", "--lcl", "-9"))
    rows = scores(folder)
    rows = rows[rows.condition == "truncate"]
    count = ((rows.nll - rows.nll_intact > 0.5) & (rows.nll_intact < 9)).sum()
    assert f"\n{count:,} key tokens: " in text
    assert "(LSD > 0.5, LCL > −9;" in text


@pytest.mark.slow
def test_score_and_export(results: Path, tmp_path: Path) -> None:
    """Another run's losses, and the spans in a file."""
    file = tmp_path / "keys.json"
    limits = ("--lsd", "0.5", "--lcl", "-9")
    text = good(
        probe("keys", results / "mine", "--score", results / "theirs", "--export", file, *limits)
    )
    held = json.loads(file.read_text(encoding="utf-8"))
    assert text.endswith(f"\nKey tokens: {file} ({len(held['spans']):,} spans)\n")
    assert (held["evaluator"]["run"], held["scored"]["run"]) == ("mine", "theirs")
    assert not held["same_model"]
    assert sum(span["tokens"] for span in held["spans"]) == held["keys"]
    mine, theirs = scores(results / "mine"), scores(results / "theirs")
    mine = mine[(mine.condition == "truncate") & (mine.nll - mine.nll_intact > 0.5)]
    mine = mine[mine.nll_intact < 9][["document", "position"]]
    theirs = theirs[theirs.condition == "intact"].merge(mine)
    assert held["loss"] == pytest.approx(theirs.nll.mean(), rel=1e-6)


@pytest.mark.slow
def test_other_protocols(base: dict[str, Any], tmp_path: Path) -> None:
    """Of a sweep LSD by octave of distance is told, and nothing else."""
    folder = score(base, tmp_path, data__max_documents=3)
    result = probe("keys", folder)
    lines = good(result).splitlines()
    assert lines[0].startswith("LSD, loss in the short context")
    assert [line.split()[0] for line in lines[2:5]] == ["0–7", "8–15", "16–31"]
    assert "needs a run with protocol longppl" in result.stderr
    assert "--score and --export need" in mistake(probe("keys", folder, "--score", folder), 2)
    bare = score(base, tmp_path, name="bare", conditions=["reverse"], data__max_documents=2)
    assert "no condition 'truncate'" in mistake(probe("keys", bare), 1)


@pytest.mark.slow
def test_refusals(results: Path, base: dict[str, Any], tmp_path: Path) -> None:
    """No run, a run of another protocol, a folder that is not there: one line."""
    assert "no run folder" in mistake(probe("keys", tmp_path / "none"), 2)
    other = score(base, tmp_path, data__max_documents=2, conditions=["truncate"])
    line = mistake(probe("keys", results / "mine", "--score", other), 2)
    assert "has protocol 'sweep'; allowed for LongPPL: longppl" in line
    for name, words in {"": "--export '' is no name", str(tmp_path): "is a folder"}.items():
        line = mistake(probe("keys", results / "mine", "--export", name), 2)
        assert f"{words}; allowed: a file" in line


@pytest.mark.slow
def test_export_into_a_new_folder(results: Path, tmp_path: Path) -> None:
    """The folder is made, as `probe run` makes its own; a device is written and stays."""
    file = tmp_path / "none" / "keys.json"
    good(probe("keys", results / "mine", "--export", file))
    assert json.loads(file.read_text(encoding="utf-8"))["evaluator"]["run"] == "mine"
    assert list(file.parent.iterdir()) == [file]
    good(probe("keys", results / "mine", "--export", "/dev/null"))
    assert Path("/dev/null").is_char_device()


def test_list() -> None:
    """Every key of the protocol is listed, with its default."""
    text = good(probe("list"))
    assert all(f"{name}: " in text for name in LongPPLProtocol.model_fields if name != "kind")
    assert "context: 4096" in text
    assert "stride: 1024" in text
