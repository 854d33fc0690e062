"""The self-check: what is wrong on a model is found out, and the engine does without it."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from models import FAMILIES, plain_logp, random_ids, tiny, tiny_report
from planted import CopyRule, planted

from probe.branch import Branch
from probe.engine import Engine, Techniques
from probe.models.causal import CausalModel
from probe.selfcheck import check

ALL = frozenset({"continuation", "forks", "rows", "packing", "head"})
UNPACKED = ALL - {"packing"}
PASSES = {
    "llama": ALL,
    "gpt2": ALL,
    "gpt_neox": ALL,
    "opt": ALL,
    "cohere": ALL,
    "granite": ALL,
    "bloom": UNPACKED,  # builds its ALiBi for the mask's own shape
    "falcon": UNPACKED,
    "mpt": UNPACKED,
    "mistral": UNPACKED,  # sliding layers forget keys
    "gemma2": UNPACKED,
    "gemma3": UNPACKED,
    "mamba": {"head"},  # goes on from a cache one token at a time only
    "mamba2": UNPACKED,
    "qwen3_next": UNPACKED,
}
IDS = random_ids(97)
Forward = Callable[..., Any]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_passes(family: str) -> None:
    """Each family passes what is known to be right on it, and nothing else."""
    report = tiny_report(family)
    assert {o.technique for o in report.outcomes if o.passed} == PASSES[family]
    assert report.techniques == Techniques(**{name: name in PASSES[family] for name in ALL})


@pytest.mark.parametrize("family", [f for f in FAMILIES if "packing" in PASSES[f]])
def test_eager_attention(family: str) -> None:
    """Eager attention passes what sdpa passes: the packed mask is right in both."""
    own = tiny(family)
    assert own.config._attn_implementation == "sdpa"
    own.set_attn_implementation("eager")
    model = CausalModel(own)
    assert {o.technique for o in check(model, IDS).outcomes if o.passed} == PASSES[family]


def test_model_without_cache() -> None:
    """A model without cache has its head alone, and the reason is said."""
    report = check(CausalModel(planted(CopyRule(5, 96))), IDS)
    assert {o.technique for o in report.outcomes if o.passed} == {"head"}
    assert "continuation: switched off, the model returns no cache" in map(str, report.outcomes)


def test_bfloat16() -> None:
    """In bfloat16 single losses differ and the techniques pass by mean and deviation."""
    report = check(CausalModel(tiny("llama", dtype=torch.bfloat16)), random_ids(400))
    assert {o.technique for o in report.outcomes if o.passed} == ALL
    assert any(outcome.worst > 5e-5 for outcome in report.outcomes)


# -- sabotage ---------------------------------------------------------------------------------


def forgets(forward: Forward, given: dict[str, Any]) -> Any:
    """Goes on from a cache as if it were empty, silently (as Mamba does)."""
    if given.get("past_key_values") is not None:
        given["past_key_values"] = None
    return forward(**given)


def misplaces(forward: Forward, given: dict[str, Any]) -> Any:
    """Counts positions wrongly after a cache."""
    if given.get("past_key_values") is not None:
        given["position_ids"] = given["position_ids"] + 1
    return forward(**given)


def ignores_masks(forward: Forward, given: dict[str, Any]) -> Any:
    """Takes a 4-D mask and does not look at it (as MPT does)."""
    given.pop("attention_mask", None)
    return forward(**given)


def mixes_rows(forward: Forward, given: dict[str, Any]) -> Any:
    """Confuses the rows of a batch."""
    output = forward(**given)
    output.last_hidden_state = output.last_hidden_state.flip(0)
    return output


def writes_into_parents(forward: Forward, given: dict[str, Any]) -> Any:
    """Grows a cache by writing into keys that others hold too."""
    cache = given.get("past_key_values")
    if cache is not None:
        shared = [layer.keys for layer in cache.layers]
        output = forward(**given)
        for keys in shared:
            keys.mul_(0.5)
        return output
    return forward(**given)


def raises(forward: Forward, given: dict[str, Any]) -> Any:
    """Refuses to go on."""
    if given.get("past_key_values") is not None:
        raise NotImplementedError("one token at a time\nsee the documentation")
    return forward(**given)


SABOTAGE: dict[Callable[..., Any], frozenset[str]] = {
    forgets: frozenset({"head"}),
    misplaces: frozenset({"head"}),
    ignores_masks: UNPACKED,
    mixes_rows: ALL - {"rows"},
    writes_into_parents: frozenset({"continuation", "head"}),
    raises: frozenset({"head"}),
}


def sabotaged(how: Callable[..., Any]) -> CausalModel:
    """A Llama whose body is wrong in one way."""
    model = CausalModel(tiny("llama"))
    own = model.body.forward

    def forward(**given: Any) -> Any:
        return how(own, given)

    forward.__signature__ = inspect.signature(own)  # type: ignore[attr-defined]
    model.body.forward = forward
    return model


def assert_engine_is_right(model: CausalModel, techniques: Techniques) -> None:
    """Branches that would be packed, batched and continued have the losses of an honest Llama."""
    text = random_ids(90)
    own = [Branch(text, text, 50, 90, 50)]
    for seed in (1, 2, 3):
        ids = np.concatenate([text[:60], random_ids(30, seed=seed)])
        own.append(Branch(ids, ids, 61, 90, 61))
    honest = tiny("llama")
    for branch, losses in zip(own, Engine(model, techniques).score([own])[0], strict=True):
        logp = plain_logp(honest, branch.ids)[branch.first - 1 : branch.stop - 1]
        expected = -logp[np.arange(branch.targets), branch.labels]
        assert np.abs(losses.nll - expected).max() < 1e-5


@pytest.mark.parametrize("how", SABOTAGE, ids=lambda how: how.__name__)
def test_sabotage_is_found_out(how: Callable[..., Any]) -> None:
    """A body that is wrong loses the techniques that show it, and the losses stay right."""
    model = sabotaged(how)
    report = check(model, IDS)
    assert {o.technique for o in report.outcomes if o.passed} == SABOTAGE[how]
    assert_engine_is_right(model, report.techniques)


@pytest.mark.parametrize("how", [forgets, misplaces, ignores_masks], ids=lambda how: how.__name__)
def test_sabotage_shows(how: Callable[..., Any]) -> None:
    """Without the self-check the losses would be wrong, so the test above means something."""
    techniques = Techniques(packing=how is ignores_masks)
    with pytest.raises(AssertionError):
        assert_engine_is_right(sabotaged(how), techniques)


def test_head_that_reads_ids() -> None:
    """A forward that uses the ids outside the body is found out; its own logits are taken."""
    model = CausalModel(tiny("llama"))
    own = model.model.forward

    def forward(input_ids: torch.Tensor, **given: Any) -> Any:
        output = own(input_ids=input_ids, **given)
        output.logits = output.logits + input_ids[..., None] % 2 * torch.linspace(0, 1, 96)
        return output

    model.model.forward = forward
    report = check(model, IDS)
    assert {o.technique for o in report.outcomes if o.passed} == ALL - {"head"}
    text = random_ids(60)
    losses = Engine(model, report.techniques).score([[Branch(text, text, 30, 60, 30)]])[0][0]
    expected = -plain_logp(model.model, text)[np.arange(29, 59), text[30:]]
    assert np.abs(losses.nll - expected).max() < 1e-5


def test_reason_is_one_line() -> None:
    """What a family raises is told in one line, with the kind of the exception."""
    (outcome, *_) = check(sabotaged(raises), IDS).outcomes
    assert outcome.reason == "the model raised NotImplementedError: one token at a time"
    assert str(outcome) == f"continuation: switched off, {outcome.reason}"


def test_report_as_json() -> None:
    """run.json names every technique once, in the order in which they were tried."""
    written = tiny_report("mpt").as_json()
    *names, lower = vars(Techniques())
    assert lower == "lower"  # tried where attention patterns have need of it
    assert [entry["technique"] for entry in written] == names
    assert [entry["passed"] for entry in written] == [True, True, True, False, True]
