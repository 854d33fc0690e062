"""Patterns on models: each hides what it says, nothing else changes, and nothing stays behind."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from models import FAMILIES, VOCABULARY, plain_logp, random_ids, tiny
from plain_attention import SEES, Sees, additive, double_loop
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    BertConfig,
    BertModel,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from probe.attention.apply import apply_pattern, check_support
from probe.attention.parse import parse
from probe.errors import UsageError
from probe.models.causal import CausalModel

LENGTH, BOUNDARY, WINDOW = 48, 30, 24
IDS = random_ids(LENGTH)
FULL = ("llama", "gpt2", "gpt_neox")
SLIDING = ("mistral", "gemma3", "gemma2")
REFUSED = ("bloom", "mpt", "falcon", "mamba", "mamba2", "qwen3_next")
EVERY = (
    *SEES,
    "random(links=3)",
    "heads(local(w=4), layers=[0, 2], heads=[1, 2]) + heads(blocks(size=9), layers=[1])",
    "gaussian(offset=0)",
    "heads(gaussian, layers=[1], heads=[0]) + local(w=9)",
    "heads(uniform, heads=[1]) + heads(zero, heads=[2]) + heads(first_token, heads=[3])",
)
LOW_RANK = ("pool(k=4)", "svd(k=3)", "project(k=5)")
# Layers with windows hide far keys by themselves, so that there only Gemma 3's full layer is left.
CASES = [
    *((family, text) for family in (*FULL, *SLIDING) for text in EVERY),
    *((family, text) for family in FULL for text in LOW_RANK),
    *(("gemma3", f"heads({text}, layers=[1])") for text in LOW_RANK),
]


def tiny_bert() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        initializer_range=0.2,
    )
    return BertModel(config).eval()


@torch.inference_mode()
def states(model: BertModel, ids: np.ndarray, **given: Any) -> np.ndarray:
    return model(input_ids=torch.from_numpy(ids)[None], **given).last_hidden_state[0].numpy()


@torch.inference_mode()
def masked_logp(model: PreTrainedModel, sees: Sees) -> np.ndarray:
    """Log-probabilities under masks of four dimensions, handed to the model as it is."""
    mask = double_loop(sees, LENGTH)
    index = np.arange(LENGTH)
    near = np.abs(index[:, None] - index[None]) < WINDOW
    kinds = {"full_attention": additive(mask), "sliding_attention": additive(mask & near)}
    family = model.config.model_type
    given: Any = kinds["sliding_attention" if family == "mistral" else "full_attention"]
    if family.startswith("gemma"):
        given = kinds
    ids = torch.from_numpy(IDS)[None]
    places = torch.arange(LENGTH)[None]  # OPT does not find them behind such a mask
    logits = model(input_ids=ids, attention_mask=given, position_ids=places, use_cache=False).logits
    return torch.log_softmax(logits.double(), dim=-1).numpy()[0]


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """No test leaves anything in transformers' registries."""
    before = AttentionInterface().valid_keys(), AttentionMaskInterface().valid_keys()
    yield
    assert before == (AttentionInterface().valid_keys(), AttentionMaskInterface().valid_keys())


@pytest.mark.parametrize("text", SEES)
@pytest.mark.parametrize("family", [*FULL, *SLIDING])
def test_masks(family: str, text: str) -> None:
    """A pattern is what a mask filled in by hand is, together with the model's own window."""
    model = tiny(family)
    expected = masked_logp(model, SEES[text])
    with apply_pattern(model, parse(text)):
        found = plain_logp(model, IDS)
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(found - plain_logp(model, IDS)).max() > 0.1, "it hides something"


@pytest.mark.parametrize("text", SEES)
def test_masks_of_encoders(text: str) -> None:
    """In BERT a pattern is symmetric: later keys are seen as earlier ones are."""
    model = tiny_bert()
    mask = additive(double_loop(SEES[text], LENGTH, symmetric=True))
    expected = states(model, IDS, attention_mask=mask)
    with apply_pattern(model, parse(text)) as hook:
        found = states(model, IDS)
    assert hook.symmetric
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found - states(model, IDS)).max() > 0.01


def test_last_token_heads_of_encoders() -> None:
    """In an encoder whose heads all look at the last token, the first changes itself alone."""
    model = tiny_bert()
    other = IDS.copy()
    other[0] = (IDS[0] - 3 + 1) % (VOCABULARY - 3) + 3
    last = IDS.copy()
    last[-1] = (IDS[-1] - 3 + 1) % (VOCABULARY - 3) + 3
    with apply_pattern(model, parse("last_token")):
        before, after, changed = (states(model, ids) for ids in (IDS, other, last))
    assert np.abs(after[1:] - before[1:]).max() < 1e-6
    assert np.abs(after[0] - before[0]).max() > 0.01
    assert np.abs(changed - before).max(axis=1).min() > 0.001


@pytest.mark.parametrize(
    "text", ["local(48)", "local(999)", "blocks(48)", "dilated(48, 0)", "strided(1)", "random(400)"]
)
@pytest.mark.parametrize("family", [*FULL, *SLIDING])
def test_full_patterns_are_intact(family: str, text: str) -> None:
    """What hides nothing changes no loss."""
    model = tiny(family)
    length = 16 if text == "random(400)" else LENGTH
    intact = plain_logp(model, IDS[:length])
    with apply_pattern(model, parse(text)):
        assert np.abs(plain_logp(model, IDS[:length]) - intact).max() < 1e-5


@pytest.mark.parametrize("text", ["local(48)", "blocks(48)", "strided(1)"])
def test_full_patterns_leave_encoders_intact(text: str) -> None:
    """Nor any hidden state of BERT."""
    model = tiny_bert()
    intact = states(model, IDS)
    with apply_pattern(model, parse(text)):
        assert np.abs(states(model, IDS) - intact).max() < 1e-5


@pytest.mark.parametrize("text", ["pool(29)", "pool(1000)", "svd(8)", "pool(1)@1", "svd(1)@0"])
@pytest.mark.parametrize("family", FULL)
def test_low_rank_at_full_size_is_intact(family: str, text: str) -> None:
    """All segments, the whole rank, or no far text but the first token: the intact losses."""
    model = tiny(family)
    pattern, _, boundary = text.partition("@")
    intact = plain_logp(model, IDS)
    with apply_pattern(model, parse(pattern), boundary=int(boundary or BOUNDARY)):
        assert np.abs(plain_logp(model, IDS) - intact).max() < 1e-5


@pytest.mark.parametrize(("family", "text"), CASES)
def test_no_query_sees_a_later_key(family: str, text: str) -> None:
    """Later tokens that are others leave the losses before them as they were."""
    model = tiny(family)
    with apply_pattern(model, parse(text), boundary=BOUNDARY):
        before = plain_logp(model, IDS)
        for changed in (12, 40):
            other = np.concatenate([IDS[:changed], random_ids(LENGTH - changed, seed=changed)])
            after = plain_logp(model, other)
            assert np.abs(after[:changed] - before[:changed]).max() < 1e-5
            assert np.abs(after[changed:] - before[changed:]).max() > 0.1


@pytest.mark.parametrize(("family", "text"), CASES)
def test_going_on_from_a_cache(family: str, text: str) -> None:
    """Forwarded in pieces, each token stands where it stands in the whole text."""
    model = CausalModel(tiny(family))
    ids = torch.from_numpy(IDS)[None]
    with torch.inference_mode(), apply_pattern(model.model, parse(text), boundary=BOUNDARY):
        whole, _ = model.states(ids, keep=False)
        cache, pieces = None, []
        for piece in torch.split(ids, [26, 1, 9, 12], dim=1):
            got, cache = model.states(piece, cache)
            pieces.append(got)
    assert (torch.cat(pieces, dim=1) - whole).abs().max() < 1e-4


@pytest.mark.parametrize("text", [*EVERY, *LOW_RANK])
def test_rows_of_a_batch(text: str) -> None:
    """Each row of a batch is what it is alone."""
    model = tiny("llama")
    rows = np.stack([IDS, random_ids(LENGTH, seed=9)])
    with apply_pattern(model, parse(text), boundary=BOUNDARY):
        both = plain_logp(model, rows)
        alone = [plain_logp(model, row) for row in rows]
    assert np.abs(both - np.stack(alone)).max() < 1e-5


@pytest.mark.parametrize("text", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_a_mask_of_ones_own(text: str, dtype: torch.dtype) -> None:
    """Two continuations packed behind one prefix are each what they are alone, once placed."""
    model = tiny("llama")
    prefix, one, two = 20, 7, 9
    other = random_ids(two, seed=4)
    packed = np.concatenate([IDS[: prefix + one], other])
    mask = np.tri(len(packed), dtype=bool)
    mask[prefix + one :, prefix : prefix + one] = False
    places = np.concatenate([np.arange(prefix + one), prefix + np.arange(two)])
    with torch.inference_mode(), apply_pattern(model, parse(text)) as hook:
        index = torch.from_numpy(places)
        given = additive(mask) if dtype == torch.float32 else torch.from_numpy(mask)[None, None]
        logits = model(
            input_ids=torch.from_numpy(packed)[None],
            position_ids=index[None],
            attention_mask=hook.place(given, index, index),
            use_cache=False,
        ).logits[0]
        found = torch.log_softmax(logits.double(), -1).numpy()
        alone = plain_logp(model, np.concatenate([IDS[:prefix], other]))
        with pytest.raises(UsageError, match="a mask that no index is known of"):
            model(input_ids=torch.from_numpy(packed)[None], attention_mask=additive(mask))
    assert np.abs(found[prefix + one :] - alone[prefix:]).max() < 1e-4


@pytest.mark.parametrize("family", REFUSED)
def test_models_that_take_no_notice(family: str) -> None:
    """A model with a layer that never calls the function is refused by name, and is as it was."""
    model = tiny(family)
    before, intact = model.config._attn_implementation, plain_logp(model, IDS)
    with (
        pytest.raises(UsageError, match=rf"cannot be put on {type(model).__name__}: ") as caught,
        apply_pattern(model, parse("local(5)")),
    ):
        pytest.fail("it was let through")
    assert "\n" not in str(caught.value)
    assert model.config._attn_implementation == before
    assert np.array_equal(plain_logp(model, IDS), intact)


def test_every_family_is_one_of_them() -> None:
    """Every family of the tests is known to heed patterns or to be refused."""
    heeded = {*FULL, *SLIDING, "opt", "cohere", "granite"}
    assert set(FAMILIES) == heeded | set(REFUSED)
    for family in ("opt", "cohere", "granite"):
        model = tiny(family)
        expected = masked_logp(model, SEES["local(w=5)"])
        with apply_pattern(model, parse("local(w=5)")):
            assert np.abs(plain_logp(model, IDS) - expected).max() < 1e-4


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_restored(family: str, implementation: str) -> None:
    """After the context, and after an error in it, the model is what it was, to the last bit."""
    model = tiny(family)
    model.set_attn_implementation(implementation)
    intact = plain_logp(model, IDS)
    with apply_pattern(model, parse("local(4)")):
        assert not np.array_equal(plain_logp(model, IDS), intact)
        with apply_pattern(model, parse("zero")):
            zero = plain_logp(model, IDS)
        assert not np.array_equal(plain_logp(model, IDS), zero), "the outer one is back"
    assert np.array_equal(plain_logp(model, IDS), intact)
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        apply_pattern(model, parse("local(4)")),
    ):
        raise RuntimeError("in the middle")
    assert model.config._attn_implementation == implementation
    assert np.array_equal(plain_logp(model, IDS), intact)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("heads(zero, layers=[3])", "layers holds 3; allowed: 0 to 2"),
        ("heads(zero, heads=[4])", "heads holds 4; allowed: 0 to 3"),
        ("zero + mean", "layer 0, head 0 has"),
        ("pool(3)", "needs a boundary; got None"),
        ("last_token", "LlamaForCausalLM sees no later tokens; allowed: first_token"),
    ],
)
def test_patterns_that_do_not_go_with_a_model(text: str, message: str) -> None:
    """A pattern that a model cannot have is refused before anything is scored."""
    model = tiny("llama")
    with pytest.raises(UsageError, match=re.escape(message)), apply_pattern(model, parse(text)):
        pytest.fail("it was let through")
    assert model.config._attn_implementation == "sdpa"


def test_models_that_cannot_be_probed() -> None:
    """A pattern that does not say which attention, and a model in training, are refused."""
    config = T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    both = T5ForConditionalGeneration(config).eval()
    with (
        pytest.raises(UsageError, match="three attentions"),
        apply_pattern(both, parse("local(3)")),
    ):
        pytest.fail("it was let through")
    training = tiny("llama").train()
    with (
        pytest.raises(UsageError, match="training mode"),
        apply_pattern(training, parse("local(3)")),
    ):
        pytest.fail("it was let through")


def test_low_rank_needs_layers_that_see_all_of_far() -> None:
    """A sliding layer is refused by its number; the full layer of Gemma 3 is compressed."""
    model = tiny("gemma3")
    with (
        apply_pattern(model, parse("pool(3)"), boundary=BOUNDARY),
        pytest.raises(UsageError, match=r"pool\(k=3\) .* layer 0 hides some of them"),
    ):
        plain_logp(model, IDS)
    intact = plain_logp(model, IDS)
    with apply_pattern(model, parse("heads(pool(3), layers=[1])"), boundary=BOUNDARY):
        found = plain_logp(model, IDS)
    assert np.abs(found - intact)[:BOUNDARY].max() < 1e-5
    assert np.abs(found - intact)[BOUNDARY:].max() > 0.01


def test_the_mean_of_what_a_head_gave_needs_all_of_it() -> None:
    """Nothing keeps what a head gave before a cache: it is refused, and only there."""
    model = CausalModel(tiny("llama"))
    ids = torch.from_numpy(IDS)[None]
    with torch.inference_mode(), apply_pattern(model.model, parse("mean")):
        _, cache = model.states(ids[:, :9])
        with pytest.raises(UsageError, match="mean needs what the head gave before"):
            model.states(ids[:, 9:], cache)


def test_without_a_trial() -> None:
    """A model that was tried before is not forwarded again on entering."""
    model = tiny("llama")
    forwards = []
    handle = model.register_forward_hook(lambda *_: forwards.append(1))
    with apply_pattern(model, parse("local(3)")):
        assert len(forwards) == 2  # does every layer call, does it read by attention alone
    support = check_support(model, parse("local(3)"))
    assert (support[""].layers, support[""].heads, support[""].symmetric, len(forwards)) == (
        3,
        4,
        False,
        4,
    )
    with apply_pattern(model, parse("local(3)"), support=support):
        assert len(forwards) == 4
    handle.remove()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "mistral"])
def test_a_model_that_attends_eagerly_goes_on_so(family: str, dtype: torch.dtype) -> None:
    """What hides nothing changes not one bit, so that delta is no difference of two kernels."""
    model = tiny(family, dtype=dtype)
    sdpa = plain_logp(model, IDS)
    model.set_attn_implementation("eager")
    intact = plain_logp(model, IDS)
    with apply_pattern(model, "local(999)"):
        assert np.array_equal(plain_logp(model, IDS), intact)
    if dtype == torch.bfloat16:
        assert not np.array_equal(sdpa, intact)


def test_what_is_no_pattern_or_no_model() -> None:
    """A text is parsed; what cannot be is refused in a line, and so is what is no model."""
    model = tiny("llama")
    with apply_pattern(model, "local(3)") as hook:
        assert hook.pattern == parse("local(3)")
    for pattern, told in (("attend(local(3))", "allowed here: the pattern in it"), (3, "text")):
        with pytest.raises(UsageError, match=told), apply_pattern(model, pattern):  # type: ignore
            pytest.fail("it was let through")
    with (
        pytest.raises(UsageError, match="cannot be put on Linear; allowed: a model"),
        apply_pattern(torch.nn.Linear(2, 2), parse("local(3)")),  # type: ignore[arg-type]
    ):
        pytest.fail("it was let through")


def test_half_precision() -> None:
    """In bfloat16 a pattern that hides nothing stays within rounding, whatever it is made of."""
    model = tiny("llama", dtype=torch.bfloat16)
    intact = plain_logp(model, IDS)
    for text in ("local(99)", "pool(99)", "svd(8)", "heads(local(99), heads=[1])"):
        with apply_pattern(model, parse(text), boundary=BOUNDARY):
            assert np.abs(plain_logp(model, IDS) - intact).mean() < 0.05
    with apply_pattern(model, parse("gaussian")):
        assert np.isfinite(plain_logp(model, IDS)).all()


def test_a_model_that_reads_beside_attention_is_refused() -> None:
    """A running sum beside attention, as recurrent layers have it, goes on telling what is hid."""
    model = tiny("llama")
    mlp = model.model.layers[0].mlp
    handle = mlp.register_forward_hook(lambda _, given, out: out + given[0].cumsum(dim=1))
    with (
        pytest.raises(UsageError, match="text reaches a token although attention hides it"),
        apply_pattern(model, parse("local(3)")),
    ):
        pass
    handle.remove()
    with apply_pattern(model, parse("local(3)")):
        pass
