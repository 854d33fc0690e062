"""What holds for every run holds for those of masked models and of encoder–decoders."""

import json
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from command_line import good, probe, write
from family_runs import (  # noqa: F401 (fixtures)
    PROTOCOLS,
    family_configurations,
    pairs,
    write_rows,
)
from killed_runs import Tries, process_of_tries  # noqa: F401 (a fixture)
from models import tiny_seq2seq
from tiny_run import (  # noqa: F401 (fixtures)
    CHECKOUT,
    changed,
    configured,
    environment,
    no_network,
    parts,
    score,
    scores,
    text_of,
)

import probe as context_probe
from probe.analysis.open_run import open_run
from probe.commands.main import group
from probe.errors import ProbeError, UsageError
from probe.findings.base import findings
from probe.models.load import load_model, open_source
from probe.models.seq2seq import Seq2SeqModel
from probe.runs.experiment import prepare
from probe.runs.plan import _forwarded, costs
from probe.runs.run import run

KINDS = list(PROTOCOLS)


@pytest.fixture(name="content", params=KINDS)
def of_each_kind(
    contents: Mapping[str, dict[str, Any]], request: pytest.FixtureRequest
) -> dict[str, Any]:
    return contents[request.param]


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return found


def test_killed_and_taken_up_the_rows_are_the_same(
    content: dict[str, Any], tries: Tries, tmp_path: Path
) -> None:
    """Killed behind the first unit, and in the middle of a write; equal to the byte at the end."""
    content = changed(content, batch=1)
    kills: list[dict[str, Any]] = [
        {"after_first": 0.03, "pause": 0.5},
        {"write": 6},
        {"after_first": 0.1, "pause": 0.5},
        {},
    ]
    ends = [tries(configuration=content, results=tmp_path / "killed", **end) for end in kills]
    ends.append(tries(configuration=content, results=tmp_path / "whole"))
    killed = -signal.SIGKILL
    assert [one["status"] for one in ends] == [killed, killed, killed, 0, 0]
    assert 0 < ends[3]["units"] < ends[4]["units"] == 7
    folder, whole = tmp_path / "killed" / "tiny", tmp_path / "whole" / "tiny"
    assert parts(folder) == parts(whole)
    assert (folder / "windows.parquet").read_bytes() == (whole / "windows.parquet").read_bytes()


@pytest.mark.slow
def test_a_run_grows(content: dict[str, Any], tmp_path: Path) -> None:
    """More documents later: the first ones are left alone, and all rows are those of one go."""
    score(content, tmp_path / "a", data__max_documents=3)
    before = parts(tmp_path / "a" / "tiny")
    folder = score(content, tmp_path / "a", data__max_documents=7)
    whole = score(content, tmp_path / "b", data__max_documents=7)
    assert before.items() <= parts(folder).items()
    pd.testing.assert_frame_equal(scores(folder), scores(whole))


@pytest.mark.slow
def test_bfloat16_is_near_float32(content: dict[str, Any], tmp_path: Path) -> None:
    """The same weights, rounded, in either arithmetic: the same losses but for rounding."""
    config = configured(content, model__dtype="bfloat16", conditions=["noise", "truncate"])
    rounded = load_model(open_source(content["model"]["path"]), dtype="bfloat16", device="cpu")
    narrow = scores(run(config, tmp_path / "a", model=rounded))
    rounded.model.float()
    wide = scores(
        run(configured(content, conditions=["noise", "truncate"]), tmp_path / "b", model=rounded)
    )
    assert record(tmp_path / "a" / "tiny")["model"]["dtype"] == "bfloat16"
    if content["protocol"]["kind"] == "parallel":  # places are estimated in either arithmetic
        narrow, wide = (one[one.of != "source"] for one in (narrow, wide))
    assert narrow.position.tolist() == wide.position.tolist()
    difference = narrow.nll.to_numpy() - wide.nll.to_numpy()
    # A logit near 20 moves by 0.125; losses of these models lie between 1 and 30 nats.
    assert abs(difference.mean()) < 0.1 * wide.nll.std()
    assert 0 < difference.std() < 0.2 * wide.nll.std()


@pytest.mark.slow
def test_a_matrix_of_two(content: dict[str, Any], tmp_path: Path) -> None:
    """Two sets of documents under one name, each with a folder, and compared."""
    rows = [write_rows(tmp_path / f"{name}.jsonl", pairs()[part]) for name, part in _HALVES.items()]
    content = changed(content, name="grid", conditions=["truncate"])
    data = content.pop("data")
    content["matrix"] = {"data": [{**data, "path": str(file)} for file in rows]}
    said = good(probe("run", write(tmp_path / "grid.yaml", content), "--results", tmp_path / "r"))
    folders = sorted(path.parent for path in tmp_path.glob("r/grid/*/run.json"))
    assert len(folders) == 2
    assert "2 runs: 1 model on 2 data sets." in said


_HALVES = {"odd": slice(1, None, 2), "even": slice(0, None, 2)}


@pytest.mark.slow
def test_where_a_target_was_seen_is_told_of_text_before_it_alone(
    contents: Mapping[str, dict[str, Any]], tmp_path: Path
) -> None:
    """Not of a source, of text behind the target, or of distances from something else."""
    given = {"conditions": ["truncate"], "data__max_documents": 2}
    cases = {
        "pll": ("both", {"truncate"}),
        "pll right": ("right", set()),
        "parallel": (None, {"truncate(of='target')"}),
        "span_corruption": (None, set()),
    }
    for name, (side, expected) in cases.items():
        changes = given | ({} if side is None else {"protocol__side": side})
        folder = score(contents[name.split()[0]], tmp_path, name=name.replace(" ", "-"), **changes)
        with open_run(folder, write=False) as opened:
            (one,) = (one for one in findings(opened) if one.id == "occurrences")
        assert {row["condition"] for row in one.files["findings.json"]["occurrences"]} == expected
        assert one.shown == bool(expected)


@pytest.mark.slow
def test_card_and_open(content: dict[str, Any], tmp_path: Path) -> None:
    """A card names the papers of the protocol; from Python all rows are there."""
    folder = score(content, tmp_path)
    card = good(probe("card", folder))
    works = {"pll": "kauf2023better", "span_corruption": "raffel2020exploring"}
    assert works.get(content["protocol"]["kind"], "contextprobe") in card
    opened = context_probe.open(folder)
    assert len(opened.scores) == len(scores(folder))
    assert opened.answer


@pytest.mark.slow
def test_a_plan_counts_what_a_run_forwards(content: dict[str, Any], tmp_path: Path) -> None:
    """Tokens to the number; where places are estimated, with what that takes."""
    if content["protocol"]["kind"] == "parallel":
        content = changed(content, protocol__of="target")
    planned = costs(prepare(configured(content, batch=1)), 1, set())
    spent = record(score(content, tmp_path, batch=1))["costs"]
    assert planned.tokens == spent["tokens"]
    assert sum(sum(one.values()) for one in planned.targets.values()) == spent["targets"]


@pytest.mark.slow
def test_estimating_places_is_counted_once(
    contents: Mapping[str, dict[str, Any]], tmp_path: Path
) -> None:
    """One forward of encoder and of decoder a document, in a plan and in a run's costs."""
    config = configured(contents["parallel"], batch=1, conditions=["truncate"])
    experiment = prepare(config)
    spent: list[tuple[int, int]] = []
    model = Seq2SeqModel(tiny_seq2seq("t5"))
    experiment.plan = experiment.plan.fitted(model, lambda *one: spent.append(one[:2]))
    forwarded = 0
    for _ in range(2):
        windows = [experiment.branches(w, experiment.draws_of(w)) for w in experiment.windows]
        forwarded = sum(_forwarded([window], 2, set()) for window in windows)
    sizes = [(len(row["source"]) + 1, len(row["text"]) + 1) for row in pairs()]
    assert sorted(spent) == sorted((sum(pair), 2) for pair in sizes)
    aligned = sum(map(sum, sizes))
    assert record(run(config, tmp_path, model=model))["costs"]["tokens"] == forwarded + aligned
    planned, target = (
        costs(prepare(configured(contents["parallel"], batch=1, conditions=one)), 1, set())
        for one in (["truncate(of='source')", "truncate(of='target')"], ["truncate(of='target')"])
    )
    assert planned.tokens - target.tokens > aligned
    assert planned.plain_tokens - target.plain_tokens > aligned


@pytest.mark.slow
def test_empty_and_short_documents_are_left_out(content: dict[str, Any], tmp_path: Path) -> None:
    """Of no token and of one, and sources that are: counted, and no traceback."""
    odd = [{"text": "", "source": ""}, {"text": "a", "source": "a"}]
    odd += [{"text": text_of(80, 1), "source": ""}, {"text": text_of(80, 2), "source": "a"}]
    odd += [{"text": "", "source": text_of(80, 3)}, {"text": "a", "source": text_of(80, 4)}]
    file = write_rows(tmp_path / "odd.jsonl", [*odd, *pairs()])
    folder = score(content, tmp_path, data__path=str(file), conditions=["truncate"])
    data = record(folder)["data"]
    is_pair = content["protocol"]["kind"] == "parallel"
    assert len(data["documents"]) == (7 if is_pair else 9)
    left = [one["count"] for one in data["left_out"].values() if isinstance(one, dict)]
    assert sum(left) == len(odd) + 7 - len(data["documents"])
    file = write_rows(tmp_path / "none.jsonl", odd[:2])
    with pytest.raises((ProbeError, UsageError), match="no document"):
        score(content, tmp_path, name="none", data__path=str(file), conditions=["truncate"])


@pytest.mark.slow
def test_distance_0_alone(content: dict[str, Any], tmp_path: Path) -> None:
    """Nothing stays but the target, or its place in the source."""
    folder = score(content, tmp_path, protocol__distances=[0])
    frame = scores(folder)
    assert set(frame.distance) == {-1, 0}
    assert np.isfinite(frame.nll).all()
    assert CliRunner().invoke(group, ["report", str(folder)]).exit_code == 0


@pytest.mark.slow
def test_more_at_once_than_there_are(
    contents: Mapping[str, dict[str, Any]], tmp_path: Path
) -> None:
    """All targets of a window at once, however many were asked for."""
    changes = {"protocol__targets": 4, "conditions": ["truncate"]}
    folders = [
        score(contents["pll"], tmp_path, name=f"k{k}", protocol__targets_per_forward=k, **changes)
        for k in (4, 99)
    ]
    pd.testing.assert_frame_equal(*map(scores, folders))
    proofs = [
        [one for one in record(folder)["check"] if one["technique"] == "targets_per_forward"]
        for folder in folders
    ]
    assert proofs[0] == proofs[1]
    assert "too few to try it on" in proofs[0][0]["reason"]


@pytest.mark.slow
@torch.inference_mode()
def test_kl_of_source_and_target(contents: Mapping[str, dict[str, Any]], tmp_path: Path) -> None:
    """KL of the whole text's distribution to the changed one's, of plain forwards."""
    changes = {"conditions": ["truncate"], "measures": ["nll", "kl"], "data__max_documents": 2}
    folder = score(contents["parallel"], tmp_path, **changes)
    model, frame = tiny_seq2seq("t5"), scores(folder)
    tokens = open_source(contents["parallel"]["model"]["path"]).tokenizer
    assert tokens is not None
    encoded = [
        {name: tokens(text, add_special_tokens=False)["input_ids"] for name, text in row.items()}
        for row in pairs()
    ]

    def logp(source: list[int], before: list[int]) -> torch.Tensor:
        logits = model(
            input_ids=torch.tensor([[*source, 1]]), decoder_input_ids=torch.tensor([[2, *before]])
        ).logits
        return torch.log_softmax(logits[0, -1].double(), -1)

    seen = set()
    for row in frame[frame.condition != "intact"].itertuples():
        text, at = encoded[int(row.document)], row.position
        source, before = text["source"], text["text"][:at]
        whole = logp(source, before)
        if row.of == "source":
            stop = row.boundary_right if row.boundary_right >= 0 else len(source)
            source = source[row.far_start : stop]
        else:
            before = before[row.boundary :]
        other = logp(source, before)
        assert row.kl == pytest.approx(float((whole.exp() * (whole - other)).sum()), abs=2e-4)
        seen.add((row.of, row.kl > 0.01))
    assert seen >= {("source", True), ("target", True)}


@pytest.mark.slow
def test_two_runs_are_compared(content: dict[str, Any], tmp_path: Path) -> None:
    """A run with itself: no difference; distances in a source have no bytes, and a line says so."""
    folders = [score(content, tmp_path, name=name, conditions=["truncate"]) for name in ("a", "b")]
    said = re.sub(r"\s+", " ", good(probe("compare", *folders, "--full")))
    assert "B − A is 0 nats per token (95 % interval 0 to 0)" in said
    of_source = "truncate(of='source'): distances in a source, whose text a run does not keep, have"
    is_pair = content["protocol"]["kind"] == "parallel"
    assert (of_source in said) == is_pair
    condition = "truncate(of='target')" if is_pair else "truncate"
    assert f"Delta, B − A (bits per byte) distance (bytes) {condition} 0–" in said
    assert said.count("a distance") == 1  # what holds for both runs is said once
