"""Models whose losses mean less, or nothing: told with every answer, or refused."""

import json
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from models import LONGROPE, SMALL
from open_runs import answer, opened, written
from simulated import Simulation, write_run
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    character_tokenizer,
    configured,
    model_folders,
    no_network,
    text_folder,
    windows,
)
from transformers import AutoModelForCausalLM, Phi3Config, RobertaConfig

import probe.runs.loaded
from probe.analysis.floor import length_caveat, length_limit
from probe.analysis.open_run import open_run
from probe.analysis.precision import pilot
from probe.commands.main import group
from probe.engine.selfcheck import Report
from probe.errors import ProbeError
from probe.findings.answer import warnings_of
from probe.findings.base import findings
from probe.findings.by_tolerance import tolerance_curve
from probe.findings.classes import classes
from probe.findings.compare.comparison import compare
from probe.models.causal import CausalModel
from probe.render.page import render
from probe.results.record import Record
from probe.runs.run import run

CHECK = {
    "technique": "length",
    "passed": False,
    "mean": -0.02,
    "sd": 0.1,
    "worst": 1.5,
    "targets": 288,
    "limit": 0.03,
}
TOLD = "the model's losses depend on a sequence's length: cutting off what follows a target changes"


def simulated(folder: Path, check: list[dict[str, Any]], **record: Any) -> Path:
    """A run of known curves, with an outcome of the self-check."""
    curves = {"truncate": lambda d: 0.6 * 2.0 ** (-d / 40.0)}
    write_run(folder, Simulation(curves, documents=12))
    content = json.loads((folder / "run.json").read_text()) | {"check": check} | record
    (folder / "run.json").write_text(json.dumps(content))
    return folder


def on_disk(config: Any, folder: Path) -> Path:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    character_tokenizer(True).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_an_encoder_is_not_scored(base: dict[str, Any], tmp_path: Path) -> None:
    """A run on it ends before its first unit; the folder holds no score."""
    config = RobertaConfig(**SMALL, is_decoder=False, max_position_embeddings=200)
    folder = on_disk(config, tmp_path / "encoder")
    with pytest.raises(ProbeError, match=r"RobertaForCausalLM .* sees what follows a token"):
        run(configured(base, model__path=str(folder)), tmp_path)
    assert not list(tmp_path.glob("tiny/scores/*"))
    result = CliRunner().invoke(group, ["check", str(folder), "--length", "96", "--device", "cpu"])
    assert result.exit_code == 1
    assert "  causal: the model sees what follows: other tokens behind" in result.stdout
    assert "RobertaForCausalLM" in result.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_run_whose_losses_go_by_the_length(base: dict[str, Any], tmp_path: Path) -> None:
    """It is told before the first unit, in run.json and with the answer, which is unresolved."""
    config = Phi3Config(
        **SMALL,
        max_position_embeddings=200,
        original_max_position_embeddings=40,
        rope_parameters=LONGROPE,
    )
    model = on_disk(config, tmp_path / "longrope")
    lines: list[str] = []
    folder = run(configured(base, model__path=str(model)), tmp_path, say=lines.append)
    (line,) = [line for line in lines if line.startswith("length: ")]
    assert "cutting off what follows a target changes its loss by up to" in line
    record = json.loads((folder / "run.json").read_text())
    (check,) = [one for one in record["check"] if one["technique"] == "length"]
    assert not check["passed"]
    assert check["targets"] >= 256 or check["targets"] == 7 * len(record["data"]["documents"])
    opened_run = opened(folder)
    assert TOLD in answer(opened_run)
    at = {context.tolerance: context for context in opened_run.contexts}
    assert at["1%"].kind == "unresolved"
    assert any("depends on a sequence's length" in reason for reason in at["1%"].reasons)


@pytest.mark.slow
def test_the_longest_window_is_checked(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of whole documents the longest: what goes wrong beyond a length goes wrong there."""
    seen: list[int] = []
    own = probe.runs.loaded.check

    def check(model: CausalModel, ids: Any, **given: Any) -> Report:
        seen.append(len(ids))
        return own(model, ids, **given)

    monkeypatch.setattr(probe.runs.loaded, "check", check)
    protocol = {"kind": "longppl", "context": 32, "stride": 16}
    whole = {"conditions": ["truncate"], "windows": {}, "protocol": protocol}
    folder = run(configured(base, **whole), tmp_path)
    lengths = [len(row["token_ids"]) for row in windows(folder).values()]
    assert lengths[0] < max(lengths)
    assert seen == [max(lengths) + 1]  # behind the BOS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "unresolved"), [(0.0049, []), (0.0051, ["1%"]), (0.03, ["1%", "2%", "5%"])]
)
def test_half_a_tolerance(limit: float, unresolved: list[str], tmp_path: Path) -> None:
    """An answer is unresolved where the limit exceeds half of its tolerance, and there alone."""
    plain = opened(simulated(tmp_path / "plain", []))
    found = opened(simulated(tmp_path / "a", [CHECK | {"limit": limit}]))
    for before, after in zip(plain.contexts, found.contexts, strict=True):
        if before.tolerance in unresolved:
            assert (after.kind, len(after.reasons)) == ("unresolved", len(before.reasons) + 1)
        else:
            assert after == before
    assert [line for line in found.warnings if line.startswith(TOLD)]
    assert not [line for line in plain.warnings if line.startswith(TOLD)]


@pytest.mark.slow
def test_every_reader_of_lengths(tmp_path: Path) -> None:
    """Classes, tolerances, planning and comparisons answer as the run does."""
    folder = simulated(tmp_path / "a", [CHECK])
    other = simulated(tmp_path / "b", [])
    own = opened(folder)
    answers = own.once(classes)[0].contexts
    assert set(answers.loc[answers["tolerance"] == "1%", "kind"]) == {"unresolved"}
    curve = own.once(tolerance_curve)
    assert set(curve.loc[curve["tolerance"] < 0.05, "kind"]) == {"unresolved"}
    needed = pilot(own, 0.5)
    assert needed.loc[needed["tolerance"] == "1%", "half_width"].isna().all()
    with open_run(folder, write=False) as a, open_run(other, write=False) as b:
        pair = compare(a, b).contexts
    row: pd.Series = pair[pair["tolerance"] == "1%"].iloc[0]
    assert "unresolved" in row["a_text"]
    assert "unresolved" not in row["b_text"]


@pytest.mark.slow
def test_every_section_says_so(tmp_path: Path) -> None:
    """Each section of the page can be read alone, and so can each file of findings."""
    folder = simulated(tmp_path / "a", [CHECK])
    found = written(folder)
    page = render([found], [findings(found)])
    sections = page.split("<section")[1:]
    answers = [part for part in sections if TOLD in unescape(part)]
    assert len(answers) >= 4
    for file in ("findings.json", "summary.json"):
        assert TOLD in (folder / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("check", [[], [CHECK | {"passed": True}], [{"technique": "rows"}]])
def test_nothing_is_said_of_other_models(check: list[dict[str, Any]]) -> None:
    """Nor of runs that were scored before anybody looked."""
    assert length_limit(Record(check=check)) == 0.0
    assert length_caveat(Record(check=check)) is None
    assert length_limit(Record()) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("trained", "named"), [(None, False), (4096, False), (100, True)])
def test_the_trained_length(trained: int | None, named: bool, tmp_path: Path) -> None:
    """Where the intact loss worsens, it is named only if targets stand beyond it."""
    curves = {"truncate": lambda d: 0.6 * 2.0 ** (-d / 40.0)}
    folder = write_run(tmp_path / "a", Simulation(curves, position_slope=5.0, documents=10))
    record = json.loads((folder / "run.json").read_text())
    record["model"] = {"name": "m", "trained_length": trained}
    (folder / "run.json").write_text(json.dumps(record))
    (line,) = [x for x in warnings_of(opened(folder)) if x.startswith("the intact loss")]
    words = "beyond the length that the model was trained on (100 by its configuration) delta has"
    assert (words in line) == named
    assert ("trained" in line) == named
