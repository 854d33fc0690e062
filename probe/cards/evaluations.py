"""A card in the words of other tools: the hub's evaluation results, and every-eval-ever."""

import time
from typing import Any

from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from probe.analysis.effective import EffectiveContext
from probe.analysis.open_run import OpenRun
from probe.cards.card import Card
from probe.cards.private import COMMIT, hub_data, hub_model
from probe.errors import ProbeError, UsageError
from probe.text import slug

SCHEMA_VERSION = "0.3.0"
"""Version of every-eval-ever's ``eval.schema.json`` that is written."""
METRIC = "context-probe.effective_context"


def lower_limit(context: EffectiveContext) -> int | None:
    """The lower limit of an effective context (tokens): what may be said of it in one number.

    Args:
        context: The answer.

    Returns:
        The limit, 0 where nothing is known below the first distance measured; ``None`` where the
        answer is unresolved, or the condition only lowers the loss.
    """
    if context.kind == "unresolved" or context.only_lowers:
        return None
    if context.kind == "greater" and context.lower is None:
        return context.value  # the whole interval lies beyond it
    return context.lower or 0


def eval_results(
    run: OpenRun, card: Card, *, dataset_id: str | None = None, task_id: str | None = None
) -> list[dict[str, Any]]:
    """What a model repository on the hub keeps as ``.eval_results/*.yaml``.

    Args:
        run: The run; its headline is what is told.
        card: Its card.
        dataset_id: The data set on the hub; by default the one that the run read.
        task_id: The task of that data set.

    Returns:
        One entry, of huggingface_hub's own making: the lower limit as the value, interval and
        tolerance in the notes.

    Raises:
        UsageError: If there is no data set or no task.
        ProbeError: If no answer is resolved.
    """
    dataset = dataset_id or hub_data(run.record)
    missing = {"--dataset-id": dataset, "--task-id": task_id}
    if lacks := [option for option, value in missing.items() if not value]:
        raise UsageError(
            "the hub's evaluation results need a data set of the hub and a task of it; run"
            f" '{card.run}' names {'no data set there' if not dataset else 'no task'}: give"
            f" {' and '.join(lacks)}, or another --format"
        )
    context = run.headline()
    value = None if context is None else lower_limit(context)
    if context is None or value is None:
        raise _no_length(card)
    own = str(card.data.get("revision")) if dataset == hub_data(run.record) else ""
    commit = own if COMMIT.fullmatch(own) else None
    notes = _notes(card, context)
    entry = EvalResultEntry(str(dataset), str(task_id), value, dataset_revision=commit, notes=notes)
    return eval_result_entries_to_yaml([entry])


def every_eval_ever(run: OpenRun, card: Card) -> dict[str, Any]:
    """The run as a record of every-eval-ever, ``eval.schema.json`` 0.3.0.

    Args:
        run: The run.
        card: Its card.

    Returns:
        The record: a result for each resolved answer, the lower limit as its score.

    Raises:
        ProbeError: If no answer is resolved.
    """
    results = [
        _result(run, card, context, score)
        for context in run.contexts
        if (score := lower_limit(context)) is not None
    ]
    if not results:
        raise _no_length(card)
    model, now = hub_model(run.record) or slug(_model_name(card)), str(int(time.time()))
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"context-probe/{model}/{now}",
        "retrieved_timestamp": now,
        "source_metadata": {
            "source_name": card.run,
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
            "additional_details": {"rows_sha256": card.rows["sha256"], "status": card.status},
        },
        "eval_library": {
            "name": "context-probe",
            "version": str(card.versions.get("context-probe", "unknown")),
            "additional_details": {name: str(value) for name, value in card.versions.items()},
        },
        "model_info": {
            "name": _model_name(card),
            "id": model,
            "inference_engine": {
                "name": "transformers",
                "version": str(card.versions.get("transformers", "unknown")),
            },
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                **{name: str(value) for name, value in card.model.items()},
            },
        },
        "evaluation_results": results,
    }


def _result(run: OpenRun, card: Card, context: EffectiveContext, score: int) -> dict[str, Any]:
    """One effective context; an interval is given where it has both limits."""
    share = card.settings["analysis"]["confidence"]
    name = f"effective context: {context.condition} at {context.tolerance}"
    details = {
        "answer": context.text(),
        "estimate": "beyond the reach" if context.estimate is None else str(context.estimate),
        "upper_limit": "none" if context.upper is None else str(context.upper),
        "reach": str(context.reach),
        "targets": str(context.targets),
        "flags": "; ".join(context.flags),
    }
    uncertainty: dict[str, Any] = {
        "num_samples": context.documents,
        "num_bootstrap_samples": card.settings["analysis"]["resamples"],
    }
    if context.upper is not None:
        uncertainty["confidence_interval"] = {
            "lower": score,
            "upper": context.upper,
            "confidence_level": share,
            "method": "bootstrap over documents",
        }
    return {
        "evaluation_result_id": f"{context.condition}@{context.tolerance}",
        "evaluation_name": name,
        "source_data": _source(run, card),
        "metric_config": {
            "evaluation_description": (
                f"Lower limit of the interval of the smallest distance ({card.unit}) from which the"
                f" loss under {context.condition} stays within {context.tolerance} of the intact"
                " text's"
            ),
            "metric_id": METRIC,
            "metric_name": f"Effective context, lower limit ({share * 100:g} %)",
            "metric_kind": "context_length",
            "metric_unit": card.unit,
            "metric_parameters": {
                "condition": context.condition,
                "tolerance": context.tolerance,
                "confidence": share,
            },
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": context.reach,
        },
        "score_details": {"score": score, "details": details, "uncertainty": uncertainty},
    }


def _source(run: OpenRun, card: Card) -> dict[str, Any]:
    name, repository = str(card.data.get("name", "unknown")), hub_data(run.record)
    details = {key: str(value) for key, value in card.data.items()}
    if repository is None:
        return {"dataset_name": name, "source_type": "other", "additional_details": details}
    return {
        "dataset_name": name,
        "source_type": "hf_dataset",
        "hf_repo": repository,
        "hf_split": str(card.data.get("split", "train")),
        "samples_number": card.data["documents"],
        "additional_details": details,
    }


def _notes(card: Card, context: EffectiveContext) -> str:
    share = card.settings["analysis"]["confidence"] * 100
    return (
        f"effective context in {card.unit}, lower limit of the {share:g} % interval:"
        f" {context.text()}; {context.condition} at a tolerance of {context.tolerance}, measured"
        f" up to {context.reach:,} {card.unit} on {card.data['measured']};"
        f" context-probe {card.versions.get('context-probe', 'unknown')},"
        f" rows sha256:{card.rows['sha256'][:16]}"
    )


def _no_length(card: Card) -> ProbeError:
    return ProbeError(f"run '{card.run}' has no resolved length; allowed: --format md, json")


def _model_name(card: Card) -> str:
    return str(card.model.get("name", "unknown"))
