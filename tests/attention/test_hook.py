"""Block masks: the same losses as dense masks, and dense masks where they do not compile."""

import shutil

import numpy as np
import pytest
import torch
from models import plain_logp, random_ids, tiny

from probe.attention import hook as flex
from probe.attention.apply import apply_pattern
from probe.attention.hook import FlexHook, PatternHook
from probe.attention.parse import parse
from probe.errors import UsageError
from probe.models.causal import CausalModel

IDS = random_ids(200)


@pytest.mark.parametrize("text", ["local(5)", "blocks(9)", "global([3, 7]) + dilated(3, 2)"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "gemma2"])
def test_block_masks_are_dense_masks(family: str, text: str) -> None:
    """What flex_attention makes of a pattern is what its dense mask gives, whole and in pieces."""
    model = CausalModel(tiny(family))
    ids = torch.from_numpy(IDS)[None]
    found = []
    for asked in (False, True):
        with (
            torch.inference_mode(),
            torch.compiler.set_stance("force_eager"),  # compiled it takes half a minute
            apply_pattern(model.model, parse(text), flex=asked) as hook,
        ):
            assert isinstance(hook, FlexHook) is asked
            assert hook.note == ""
            states, cache = model.states(ids[:, :150])
            found.append(torch.cat([states, model.states(ids[:, 150:], cache)[0]], dim=1))
    assert (found[1] - found[0]).abs().max() < 1e-4
    assert model.model.config._attn_implementation in ("sdpa", "eager")


def test_where_it_does_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler one line says so, and dense masks serve."""

    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr(flex, "flex_attention_forward", no_compiler)
    model = tiny("llama")
    with apply_pattern(model, parse("local(5)")):
        expected = plain_logp(model, IDS)
    with apply_pattern(model, parse("local(5)"), flex=True) as hook:
        assert type(hook) is PatternHook
        assert hook.note.startswith("flex_attention does not serve here, dense masks do: ")
        assert hook.note.endswith("no C++ compiler")
        assert np.array_equal(plain_logp(model, IDS), expected)


@pytest.mark.parametrize(
    "text", ["heads(local(3), heads=[1])", "random(3)", "gaussian", "heads(pool(2), layers=[1])"]
)
def test_patterns_that_no_block_mask_has(text: str) -> None:
    """What differs between heads, or has weights of its own, is a dense mask's, and told."""
    model, pattern = tiny("llama"), parse(text)
    with apply_pattern(model, pattern, boundary=3):
        expected = plain_logp(model, IDS)
    with apply_pattern(model, pattern, boundary=3, flex=True) as hook:
        assert "a block mask serves all heads alike" in hook.note
        assert np.array_equal(plain_logp(model, IDS), expected)


compiled = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="there is no C++ compiler"
)


@pytest.mark.real
@compiled
def test_one_kernel_for_all_patterns() -> None:
    """Compiled, patterns that come after the first of a shape are not compiled again."""
    model, took = tiny("llama"), []
    with torch.inference_mode():
        for text in ("local(5)", "blocks(9)", "heads(local(20), layers=[1])", "local(100)"):
            with apply_pattern(model, parse(text), flex=True) as hook:
                assert hook.note == ""
                found = plain_logp(model, IDS)
            took.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
            with apply_pattern(model, parse(text)):
                assert np.abs(plain_logp(model, IDS) - found).max() < 1e-4
    assert len(set(took)) == 1


@pytest.mark.real
@compiled
def test_more_shapes_than_torch_keeps_by_itself() -> None:
    """Beyond its limit torch would go on without a kernel, skip nothing and say nothing."""
    model = tiny("llama")
    with (
        torch.inference_mode(),
        torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True),
    ):
        for length in (40, 70, 110):
            with apply_pattern(model, parse("local(5)"), flex=True) as hook:
                assert hook.note == ""
                plain_logp(model, IDS[:length])


def test_models_that_take_no_notice() -> None:
    """Asking for flex lets no model through that heeds no pattern."""
    with (
        pytest.raises(UsageError, match="cannot be put on BloomForCausalLM"),
        apply_pattern(tiny("bloom"), parse("local(3)"), flex=True),
    ):
        pytest.fail("it was let through")
