"""Records of other tools: they fit their schema, and hold the lower limit of each answer."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from huggingface_hub import parse_eval_result_entries
from test_card import EXAMPLE, RUNS, card_of, copied, opened_with_card

from probe.analysis.effective import LOWERS, EffectiveContext
from probe.cards.evaluations import SCHEMA_VERSION, eval_results, every_eval_ever, lower_limit
from probe.errors import ProbeError, UsageError

SCHEMA = json.loads(
    (Path(__file__).parent / "every_eval_ever" / "eval.schema.json").read_text("utf-8")
)
ANSWER = EffectiveContext("truncate", "1%", 0.01, "length", 64, 64, 32, 128, 256, (), (), 24, 1000)


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({}, 32),
        ({"kind": "greater", "value": 256, "estimate": None, "lower": 100, "upper": None}, 100),
        ({"kind": "greater", "value": 256, "estimate": None, "lower": None, "upper": None}, 256),
        ({"kind": "zero", "value": 0, "estimate": 0, "lower": 0, "upper": 8}, 0),
        ({"flags": ("at most",), "value": 16, "lower": 0, "start": 16}, 0),
        ({"kind": "unresolved", "value": None, "reasons": ("too few",)}, None),
        ({"kind": "zero", "value": 0, "lower": 0, "flags": (LOWERS,)}, None),
    ],
)
def test_lower_limit(changes: dict[str, Any], limit: int | None) -> None:
    """What one number may say of an answer; nothing of one that is unresolved."""
    assert lower_limit(dataclasses.replace(ANSWER, **changes)) == limit


@pytest.mark.slow
@pytest.mark.parametrize("folder", [EXAMPLE, RUNS / "sweep"], ids=["example", "sweep"])
def test_every_eval_ever_fits_its_schema(folder: Path) -> None:
    """The record is valid, and has a result for every resolved answer with its lower limit."""
    run, card = opened_with_card(folder)
    with run:
        record = json.loads(json.dumps(every_eval_ever(run, card), allow_nan=False))
        limits = [limit for one in run.contexts if (limit := lower_limit(one)) is not None]
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(record, SCHEMA, jsonschema.Draft7Validator)
    assert SCHEMA["version"] == record["schema_version"] == SCHEMA_VERSION
    results = record["evaluation_results"]
    assert [one["score_details"]["score"] for one in results] == limits
    assert len({one["evaluation_result_id"] for one in results}) == len(results)


@pytest.mark.slow
def test_a_length_is_told_in_its_unit() -> None:
    """Of sound in ms, in records, notes and what they describe."""
    run, card = opened_with_card(EXAMPLE)
    card = dataclasses.replace(card, unit="ms")
    with run:
        for one in every_eval_ever(run, card)["evaluation_results"]:
            assert one["metric_config"]["metric_unit"] == "ms"
            assert "(ms)" in one["metric_config"]["evaluation_description"]
        notes = str(eval_results(run, card, dataset_id="org/data", task_id="reach"))
    assert "in ms" in notes
    assert " tokens on" not in notes


@pytest.mark.slow
def test_intervals_have_both_limits_or_none() -> None:
    """Where the interval is open above there is no confidence interval, and the details say so."""
    run, card = opened_with_card(EXAMPLE)
    with run:
        results = every_eval_ever(run, card)["evaluation_results"]
    found = {one["evaluation_result_id"]: one["score_details"] for one in results}
    closed, open_above = found["truncate@10%"], found["truncate@1%"]
    interval = closed["uncertainty"]["confidence_interval"]
    assert (interval["lower"], interval["upper"], interval["confidence_level"]) == (448, 768, 0.95)
    assert "confidence_interval" not in open_above["uncertainty"]
    assert open_above["details"]["upper_limit"] == "none"
    assert open_above["details"]["estimate"] == "beyond the reach"


@pytest.mark.slow
def test_a_schema_that_would_refuse_does() -> None:
    """The oracle: without a required key, or with a score that is text, the record is refused."""
    run, card = opened_with_card(EXAMPLE)
    with run:
        record = every_eval_ever(run, card)
    record["evaluation_results"][0]["score_details"]["score"] = "640"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(record, SCHEMA)
    del record["evaluation_results"][0]
    del record["model_info"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(record, SCHEMA)


@pytest.mark.slow
def test_names_of_the_hub(tmp_path: Path) -> None:
    """A model and data of the hub are told by their names there."""
    folder = copied(
        EXAMPLE,
        tmp_path,
        model={"path": "org/model", "revision": "a" * 40},
        config={"data": {"path": "org/data", "split": "test", "revision": "b" * 40}},
    )
    run, card = opened_with_card(folder)
    with run:
        record = every_eval_ever(run, card)
        (entry,) = eval_results(run, card, task_id="reach")
        (other,) = eval_results(run, card, task_id="reach", dataset_id="org/other")
    jsonschema.validate(record, SCHEMA)
    assert record["model_info"]["id"] == "org/model"
    source = record["evaluation_results"][0]["source_data"]
    assert (source["source_type"], source["hf_repo"]) == ("hf_dataset", "org/data")
    assert entry["dataset"] == {"id": "org/data", "task_id": "reach", "revision": "b" * 40}
    assert other["dataset"] == {"id": "org/other", "task_id": "reach"}


@pytest.mark.slow
def test_eval_results() -> None:
    """huggingface_hub reads the entry back: the lower limit; interval and tolerance as notes."""
    run, card = opened_with_card(EXAMPLE)
    with run:
        (entry,) = parse_eval_result_entries(
            eval_results(run, card, dataset_id="org/data", task_id="reach")
        )
    assert (entry.dataset_id, entry.task_id, entry.value) == ("org/data", "reach", 896)
    assert entry.notes is not None
    for part in ("95 %", "> 896", "truncate", "1%", "24 documents", card.rows["sha256"][:16]):
        assert part in entry.notes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "lacks"),
    [
        ({}, "--dataset-id and --task-id"),
        ({"dataset_id": "org/data"}, "give --task-id"),
        ({"task_id": "reach"}, "give --dataset-id"),
    ],
)
def test_eval_results_need_a_data_set_and_a_task(given: dict[str, str], lacks: str) -> None:
    """One line says what is missing, and which option gives it."""
    run, card = opened_with_card(EXAMPLE)
    with run, pytest.raises(UsageError, match=lacks):
        eval_results(run, card, **given)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["band", "few"])
def test_nothing_resolved(name: str) -> None:
    """A run without a resolved length has no record of another tool, but a card."""
    run, card = opened_with_card(RUNS / name)
    with run:
        for record in (
            lambda: every_eval_ever(run, card),
            lambda: eval_results(run, card, dataset_id="a/b", task_id="c"),
        ):
            with pytest.raises(ProbeError, match="no resolved length"):
                record()
    assert card_of(RUNS / name).answers
