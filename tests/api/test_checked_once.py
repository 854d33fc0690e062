"""``probe.score`` checks a model once, and anew when it has changed."""

import gc
from collections.abc import Callable
from typing import Any
from weakref import ref

import pytest
import torch
from models import SMALL, random_ids, tiny
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, DogeConfig, PreTrainedModel

from probe.api.score import check_once
from probe.engine.selfcheck import Report, check
from probe.models.causal import CausalModel
from probe.models.scorer import fingerprint

IDS = random_ids(97)


@pytest.fixture(name="checked")
def count_checks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the texts that a model is really checked on, one after another."""
    lengths: list[int] = []

    def count(model: CausalModel, ids: NDArray[Any], **more: Any) -> Report:
        lengths.append(len(ids))
        return check(model, ids, **more)

    monkeypatch.setattr("probe.engine.selfcheck.check", count)
    return lengths


@pytest.mark.slow
def test_a_model_is_checked_once(checked: list[int]) -> None:
    """For texts no longer than the first, also in another wrapper; another model anew."""
    model = tiny("llama")
    first = check_once(CausalModel(model), random_ids(97))
    assert check_once(CausalModel(model), random_ids(97, seed=1)) == first
    assert check_once(CausalModel(model), random_ids(40)) == first
    assert checked == [97]
    check_once(CausalModel(tiny("llama")), random_ids(40))
    check_once(CausalModel(model), random_ids(98))
    assert checked == [97, 40, 98]


def test_lower_layers_are_checked_when_they_are_asked_for(checked: list[int]) -> None:
    """A report with them serves without."""
    model = CausalModel(tiny("llama"))
    reports = [check_once(model, IDS, lower=lower) for lower in (False, True, True, False)]
    tried = [any(one.technique == "lower" for one in report.outcomes) for report in reports]
    assert (tried, len(checked)) == ([False, True, True, True], 2)


@pytest.mark.slow
def test_lengths_that_matter_are_checked_each(checked: list[int]) -> None:
    """Where a loss goes by the length of its sequence, a short text is none of a long one."""
    own = DogeConfig(**SMALL, max_position_embeddings=1024, keep_window_size=64)
    model = CausalModel(AutoModelForCausalLM.from_config(own).eval())
    for length in (150, 150, 40):
        check_once(model, random_ids(length))
    assert checked == [150, 40]


def _fused(model: PreTrainedModel) -> None:
    weight = model.lm_head.weight
    weight.grad = torch.ones_like(weight)
    torch.optim.AdamW([weight], lr=1e-6, fused=True).step()


def _one_bit(model: PreTrainedModel) -> None:
    weight = model.get_input_embeddings().weight.data.view(torch.int32)
    weight[5, 7] ^= 1


def _hook(model: PreTrainedModel) -> None:
    model.lm_head.register_forward_hook(lambda _module, _given, output: output + 1)


def _forward(model: PreTrainedModel) -> None:
    model.lm_head.forward = lambda states: states @ model.lm_head.weight.T


def _attention(model: PreTrainedModel) -> None:
    model.set_attn_implementation("eager")


@pytest.mark.parametrize(
    "change", [_fused, _one_bit, _hook, _forward, _attention, torch.nn.Module.double]
)
def test_a_changed_model_is_checked_anew(change: Callable[..., Any], checked: list[int]) -> None:
    """Fused optimizers and ``.data`` change weights that count no version more."""
    model = tiny("llama")
    check_once(CausalModel(model), IDS)
    check_once(CausalModel(model), IDS)
    assert len(checked) == 1
    change(model)
    check_once(CausalModel(model), IDS)
    assert len(checked) == 2


def test_what_cannot_be_read_is_checked_anew(
    checked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are elsewhere may change unseen."""
    monkeypatch.setattr("probe.api.score.fingerprint", lambda _: None)
    model = CausalModel(tiny("llama"))
    assert check_once(model, IDS) == check_once(model, IDS)
    assert len(checked) == 2
    assert fingerprint(tiny("llama").to("meta")) is None


@pytest.mark.slow
def test_a_model_is_not_kept_in_memory() -> None:
    """What is remembered of it goes with it."""
    model = tiny("llama")
    check_once(CausalModel(model), IDS)
    there = ref(model)
    del model
    gc.collect()
    assert there() is None
