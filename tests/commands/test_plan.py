"""`probe plan`: what a run would cost, and with `--from` how many documents its answers need."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import Result
from command_line import (  # noqa: F401 (a fixture among them)
    Finished,
    finished_run,
    good,
    probe,
)
from predicted_runs import repeating
from simulated import Simulation, write_run
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    parts,
    scores,
    text_folder,
)

from probe.analysis import looks
from probe.analysis.open_run import open_run
from probe.analysis.precision import pilot

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "shuffle": lambda d: 0.3 + 0 * d,
}


def plan(config: Path, *arguments: object) -> Result:
    return probe("plan", config, "--no-time", *arguments)


@pytest.fixture
def config(base: dict[str, Any], tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(base | {"analysis": {"tolerances": ["1%", "50%"]}}), "utf-8")
    return file


@pytest.mark.slow
def test_plan_from_a_run(config: Path, tmp_path: Path) -> None:
    """The configuration's tolerances, the run's conditions, the numbers of the library."""
    run = write_run(tmp_path / "pilot", Simulation(CURVES))
    plain, told = plan(config), plan(config, "--from", run)
    assert plain.exit_code == told.exit_code == 0
    table = told.stdout.removeprefix(plain.stdout).strip().splitlines()
    assert table == [
        "Documents needed for an interval of ± 0.5 octaves, like the 8 of"
        f" {run} and with as many windows each (its conditions, windows and reach; the"
        " tolerances are those asked for here)",
        "condition  1%            50%",
        "shuffle    beyond reach  6",
        "truncate   6             6",
        "- shuffle at 1%: needs a longer reach than 256, not more documents",
    ]
    with open_run(run, write=False) as opened:
        needed = pilot(opened, 0.5).set_index(["condition", "tolerance"])["needed"]
    assert needed["truncate", "1%"] == 6


def test_one_document(config: Path) -> None:
    """One is no number of many, in the count and in the note."""
    told = plan(config, "--set", "data.max_documents=1", "--set", "conditions=[truncate]")
    assert told.stdout.startswith("1 document, 1 window of 64 tokens, reach 32\n")
    assert "note: 1 document: an interval needs 6" in told.stderr


@pytest.mark.slow
def test_another_precision(config: Path, tmp_path: Path) -> None:
    """A finer interval is told with its own number, and what is never reached with a bound."""
    run = write_run(tmp_path / "pilot", Simulation({"truncate": lambda d: 40 / (1 + d)}))
    told = plan(config, "--from", run, "--octaves", 0.01).stdout
    assert "± 0.01 octaves" in told
    assert "> 512" in told


@pytest.mark.slow
def test_a_run_that_is_not_finished(config: Path, tmp_path: Path) -> None:
    """It is planned from what is there, and a note says so; too few documents say nothing."""
    run = write_run(tmp_path / "pilot", Simulation(CURVES, documents=3))
    text = (run / "run.json").read_text(encoding="utf-8")
    (run / "run.json").write_text(text.replace('"complete"', '"unfinished"'), encoding="utf-8")
    result = plan(config, "--from", run)
    assert "note: run 'pilot' is unfinished: this is what has been scored so far" in result.stderr
    assert "truncate   unresolved  unresolved" in result.stdout
    assert "- truncate at 1%, 50%: unresolved (3 documents, at least 6 needed)" in result.stdout


MISTAKES = {
    "no folder": (["--from", "{tmp}/none"], 2, "no run folder at '{tmp}/none'"),
    "no run": (["--from", "{tmp}"], 2, "'{tmp}' is no run folder: it has no run.json"),
    "no width": (["--from", "{tmp}/pilot", "--octaves", "0"], 2, "--octaves is 0; allowed: a "),
    "nan": (["--from", "{tmp}/pilot", "--octaves", "nan"], 2, "--octaves is nan; allowed: a "),
    "width alone": (["--octaves", "1"], 2, "--octaves 1 needs a run to plan from: --from RUN"),
    "no curve": (["--from", "{tmp}/pilot"], 1, "run '{tmp}/pilot' has no condition with a curve"),
}


@pytest.mark.parametrize(("arguments", "status", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(
    arguments: list[str], status: int, words: str, config: Path, tmp_path: Path
) -> None:
    """One line that names what is wrong, before anything is counted."""
    write_run(tmp_path / "pilot", Simulation({}))
    result = plan(config, *(argument.format(tmp=tmp_path) for argument in arguments))
    assert result.exit_code == status
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {words.format(tmp=tmp_path)}")
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_plan_is_what_is_forwarded(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is planned without any weight is what the run then forwards, to the token."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("probe.models.load.load_model", None)
    text = good(probe("plan", finished.config, "--no-time"))
    found = re.search(
        r"^([\d,]+) branches, ([\d,]+) tokens to forward; .*: ([\d,]+) \(", text, re.M
    )
    assert found is not None, text
    branches, tokens, plain = (int(number.replace(",", "")) for number in found.groups())
    record = json.loads((finished.folder / "run.json").read_text(encoding="utf-8"))
    assert tokens == record["costs"]["tokens"]
    assert plain > tokens
    rows = scores(finished.folder)
    run = ["document", "window", "condition", "repeat", "boundary"]
    assert branches == len(rows.drop_duplicates(run))
    assert targets_of(text) == {
        (condition, octave): count
        for (condition, octave), count in rows.groupby(["condition", rows.distance.map(octave_of)])
        .size()
        .items()
    }
    assert not list(tmp_path.iterdir())


def targets_of(text: str) -> dict[tuple[str, str], int]:
    """The table of a plan: targets by condition and octave."""
    lines = iter(text.split("\nTargets\n")[1].split("\n\n")[0].splitlines())
    _, *conditions = next(lines).split()
    rows = [line.replace(",", "").split() for line in lines]
    return {
        (condition, octave): int(count)
        for octave, *counts in rows
        for condition, count in zip(conditions, counts, strict=True)
        if count != "–"
    }


def octave_of(distance: int) -> str:
    """The distances that share their number of binary digits with one."""
    if distance < 2:
        return str(distance) if distance >= 0 else "none"
    first = 1 << (distance.bit_length() - 1)
    return f"{first}–{2 * first - 1}"


@pytest.mark.slow
def test_estimated_time(finished: Finished) -> None:
    """Behind what it counts, a plan says how long that takes and on what; it scores nothing."""
    before = parts(finished.folder)
    text = good(probe("plan", finished.config))
    counted = good(probe("plan", finished.config, "--no-time"))
    assert text.startswith(counted)
    estimate = text.removeprefix(counted).strip()
    assert re.fullmatch(
        r"About \d+ s on cpu in float32 \([\d,]+ tokens/s, [\d,]+ targets/s\), "
        r"[\d,]+ MiB of weights and [\d,]+ MiB of cache per window",
        estimate,
    ), estimate
    assert parts(finished.folder) == before


@pytest.mark.slow
def test_where_a_run_stops(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not known without a run like it; with one, the first look that is narrow enough."""
    monkeypatch.setattr(looks, "NEAREST", 0)  # the windows here are short
    precise = ("--set", "precision={answer: truncate@1%, octaves: 2}")
    asked = "Precision: the effective context under truncate at 1 %, ± 2 octaves: "
    plain = plan(config, *precise)
    assert f"{asked}looked at after 8 … documents, 8 at most; where the run" in plain.stdout
    pilot_folder = write_run(tmp_path / "pilot", Simulation(CURVES))
    found = plan(config, *precise, "--from", pilot_folder)
    assert "for an interval of ± 2 octaves" in found.stdout
    assert f"{asked}the run is expected to stop after 8 of 8 documents, 8 windows" in found.stdout
    narrow = ("--set", "precision={nats: 0.00001 @ 4-30}")
    values = json.loads(plan(config, *narrow, "--from", pilot_folder, "--json").stdout)
    assert values["stop"]["documents"] is None
    assert "not within 8 documents, which give ± 0.0" in values["stop"]["text"]
    assert plan(config).stdout in plain.stdout


@pytest.mark.slow
def test_a_stop_is_predicted_as_the_run_will_read_its_rows(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that scores all documents of its data has no others to predict by, unlike the pilot."""
    monkeypatch.setattr(looks, "NEAREST", 0)
    finished = repeating(tmp_path / "pilot")

    def stop() -> str:
        asked = ("--set", "precision={nats: 0.001 @ 16-31}", "--from", finished)
        (line,) = (
            line for line in plan(config, *asked).stdout.splitlines() if "Precision:" in line
        )
        return line

    found = stop()
    (finished / "population.parquet").unlink()
    assert found == stop()
    assert "not within 8 documents, which give ±" in found
