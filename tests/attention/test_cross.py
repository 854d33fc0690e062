"""Patterns on the three attentions of encoder–decoders, against attention written out plainly."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from models import SEQ2SEQ, VOCABULARY, tiny, tiny_masked, tiny_seq2seq
from numpy.typing import NDArray
from torch import nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForSeq2SeqLM,
    M2M100Config,
    PreTrainedModel,
    SwitchTransformersConfig,
)

from probe.attention.apply import apply_pattern, check_support
from probe.attention.parse import parse
from probe.errors import UsageError

SOURCE, TARGET = 14, 9
RNG = np.random.default_rng(4)
IDS = torch.from_numpy(RNG.integers(3, VOCABULARY, size=(1, SOURCE)))
DECODER = torch.from_numpy(RNG.integers(3, VOCABULARY, size=(1, TARGET)))
PLACES = (3, 0, 11, 5, 5, 13, 2, 7, 1)
"""A source token for each token of the decoder, in no order."""

Weigh = Callable[[str, int, int, int, int, NDArray[np.float64]], NDArray[np.float64]]
"""From attention, layer, head, query, its place and logits to weights."""


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def near(place: int, width: int, logits: NDArray[np.float64], sinks: int) -> NDArray[np.float64]:
    seen = [abs(key - place) < width or key < sinks for key in range(len(logits))]
    return softmax(np.where(seen, logits, -np.inf))


def normal(place: int, size: int, offset: int, sigma: float) -> NDArray[np.float64]:
    return softmax(np.array([-((j - place - offset) ** 2) / (2 * sigma**2) for j in range(size)]))


PATTERNS: dict[str, Weigh] = {
    "cross(local(w=3))": lambda a, _l, _h, _q, p, x: (
        near(p, 3, x, 1) if a == "cross" else softmax(x)
    ),
    "cross(local(w=2, sinks=0))": lambda a, _l, _h, _q, p, x: (
        near(p, 2, x, 0) if a == "cross" else softmax(x)
    ),
    "cross(zero)": lambda a, _l, _h, _q, _p, x: 0 * x if a == "cross" else softmax(x),
    "cross(uniform)": lambda a, _l, _h, _q, _p, x: (
        np.full(len(x), 1 / len(x)) if a == "cross" else softmax(x)
    ),
    "cross(gaussian(offset=1, sigma=2.0))": lambda a, _l, _h, _q, p, x: (
        normal(p, len(x), 1, 2.0) if a == "cross" else softmax(x)
    ),
    "heads(cross(gaussian(offset=0)), layers=[1], heads=[0, 2])": lambda a, n, h, _q, p, x: (
        normal(p, len(x), 0, 1.0) if (a, n) == ("cross", 1) and h in (0, 2) else softmax(x)
    ),
    "encoder(local(w=4, sinks=0))": lambda a, _l, _h, q, _p, x: (
        near(q, 4, x, 0) if a == "encoder" else softmax(x)
    ),
    "decoder(local(w=2))": lambda a, _l, _h, q, _p, x: (
        near(q, 2, x, 1) if a == "decoder" else softmax(x)
    ),
    "heads(decoder(zero), layers=[0], heads=[3]) + encoder(uniform) + cross(local(w=4))": (
        lambda a, n, h, _q, p, x: {
            "encoder": np.full(len(x), 1 / len(x)),
            "decoder": 0 * softmax(x) if (n, h) == (0, 3) else softmax(x),
            "cross": near(p, 4, x, 1),
        }[a]
    ),
}
"""Patterns, and what each makes of the logits of one query in one head."""


def attention_named(name: str) -> str:
    """Which attention a module is, by its name in transformers."""
    if "encoder_attn" in name or "EncDecAttention" in name:
        return "cross"
    return "encoder" if "encoder." in name.replace("encoder_", "") else "decoder"


@contextmanager
def plainly(model: PreTrainedModel, weigh: Weigh, places: tuple[int, ...]) -> Iterator[None]:
    """Attention written out, one query of one head after another."""
    names = {module: name for name, module in model.named_modules()}

    def attention(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        _mask: Any,
        scaling: float,
        position_bias: torch.Tensor | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        which = attention_named(names[module])
        layer = int(next(part for part in names[module].split(".") if part.isdigit()))
        logits = (query @ key.mT * scaling).double()
        if position_bias is not None:
            logits = logits + position_bias
        output = torch.zeros(*query.shape[:3], value.shape[-1], dtype=torch.float64)
        for row in range(query.shape[0]):
            for head in range(query.shape[1]):
                for at in range(query.shape[2]):
                    stop = at + 1 if which == "decoder" else key.shape[2]
                    seen = logits[row, head, at, :stop].numpy()
                    weights = torch.from_numpy(weigh(which, layer, head, at, places[at % 9], seen))
                    output[row, head, at] = weights @ value[row, head, :stop].double()
        return output.transpose(1, 2).to(query.dtype), None

    AttentionInterface.register("plain", attention)
    AttentionMaskInterface.register("plain", lambda *_, **__: None)
    before = model.config._attn_implementation
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            part.config._attn_implementation = "plain"
    try:
        yield
    finally:
        for part in model.modules():
            if isinstance(part, PreTrainedModel):
                part.config._attn_implementation = before
        AttentionInterface._global_mapping.pop("plain")
        AttentionMaskInterface._global_mapping.pop("plain")


@torch.inference_mode()
def logits_of(
    model: PreTrainedModel, source: torch.Tensor = IDS, target: torch.Tensor = DECODER
) -> NDArray[np.float32]:
    found: NDArray[np.float32] = model(input_ids=source, decoder_input_ids=target).logits[0].numpy()
    return found


@pytest.mark.parametrize("text", PATTERNS)
@pytest.mark.parametrize("family", SEQ2SEQ)
def test_a_pattern_is_attention_written_out(family: str, text: str) -> None:
    model = tiny_seq2seq(family)
    with plainly(model, PATTERNS[text], PLACES):
        expected = logits_of(model)
    own = logits_of(model)
    pattern = parse(text)
    places = PLACES if pattern.needs_places else None
    with apply_pattern(model, pattern, places=places):
        found = logits_of(model)
    scale = np.abs(own).max()
    assert np.abs(found - expected).max() < 1e-4 * max(1, scale)
    assert np.abs(found - own).max() > 1e-2, "it changes something"
    assert np.array_equal(logits_of(model), own), "and nothing afterwards"


@pytest.mark.parametrize("family", ["t5", "bart"])  # what attends in the others is BART's
@pytest.mark.parametrize("text", [*PATTERNS, "decoder(uniform)", "decoder(gaussian(offset=1))"])
def test_no_pattern_lets_a_decoder_see_later_targets(family: str, text: str) -> None:
    model, later = tiny_seq2seq(family), DECODER.clone()
    later[0, 5:] = 7
    with apply_pattern(model, text, places=PLACES):
        before, after = logits_of(model), logits_of(model, target=later)
    assert np.abs(before[:5] - after[:5]).max() < 1e-5 * np.abs(before).max()
    assert np.abs(before[5:] - after[5:]).max() > 1e-2


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_decoder_that_goes_on_from_a_cache_keeps_its_places(family: str) -> None:
    """A token at a time, as in generation."""
    model = tiny_seq2seq(family)
    text = "cross(local(w=2, sinks=0)) + decoder(local(w=3))"
    with apply_pattern(model, text, places=PLACES), torch.inference_mode():
        whole = logits_of(model)
        states = model.get_encoder()(input_ids=IDS)
        cache, rows = None, []
        for at in range(TARGET):
            output = model(
                encoder_outputs=states,
                decoder_input_ids=DECODER[:, at : at + 1],
                past_key_values=cache,
                use_cache=True,
            )
            cache = output.past_key_values
            rows.append(output.logits[0, -1].numpy())
    assert np.abs(np.stack(rows) - whole).max() < 1e-4 * np.abs(whole).max()


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_what_support_shows(family: str) -> None:
    model = tiny_seq2seq(family)
    supports = check_support(model, parse("cross(zero)"))
    assert list(supports) == ["encoder", "decoder", "cross"]
    assert [one.symmetric for one in supports.values()] == [True, False, True]
    assert {one.heads for one in supports.values()} == {4}
    assert {one.layers for one in supports.values()} == {2}


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_padding_that_has_no_position_is_no_leak(padding: int) -> None:
    """Of M2M100 (NLLB) and RoBERTa, whose padding is 1, positions count other tokens alone."""
    sizes = {"vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "init_std": 0.2}
    config = M2M100Config(**sizes, **heads, pad_token_id=padding, decoder_start_token_id=2)
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    assert list(check_support(model, parse("cross(zero)"))) == ["encoder", "decoder", "cross"]
    masked = tiny_masked("roberta", pad_token_id=padding)
    assert check_support(masked, parse("local(3)"))[""].symmetric


@pytest.mark.parametrize("places", [5, [-1] * 9, ["a"] * 9, [1.5] * 9, [None] * 9])
def test_places_that_are_none_are_one_line(places: Any) -> None:
    line = "allowed: an index of the source, 0 or more, for each token that the decoder reads"
    model = tiny_seq2seq("t5")
    with (
        pytest.raises(UsageError, match=line),
        apply_pattern(model, "cross(local(3))", places=places),
    ):
        logits_of(model)
    with (
        pytest.raises(UsageError, match="has 14 source tokens and the place 14 among them"),
        apply_pattern(model, "cross(local(3, sinks=0))", places=[14] * 9),
    ):
        logits_of(model)


def test_a_refusal_names_the_pattern_that_was_asked_for() -> None:
    """And not what was tried to see that it can be had."""
    sizes = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2}
    config = SwitchTransformersConfig(**sizes, num_heads=2, num_experts=2, decoder_start_token_id=0)
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    with pytest.raises(UsageError, match=r"^pattern 'cross\(uniform\)'.* mask that no index is"):
        check_support(model, parse("cross(uniform)"))


def test_a_decoder_that_attends_past_the_hook_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer of cross attention that calls no hook, and one that says it is the decoder's own."""
    model = tiny_seq2seq("bart")
    layer = model.model.decoder.layers[1].encoder_attn
    monkeypatch.setattr(layer, "forward", lambda hidden, **_: (hidden, None))
    with pytest.raises(UsageError, match="all but 1 of its 2 cross layers uses transformers'"):
        check_support(model, parse("cross(zero)"))
    model = tiny_seq2seq("bart")
    monkeypatch.setattr(model.model.decoder.layers[0].encoder_attn, "is_causal", True)
    with pytest.raises(UsageError, match="all but 0 of its 2 cross layers"):
        check_support(model, parse("cross(zero)"))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("cross(heads(zero, layers=[1], heads=[0]))", "heads(cross(zero), layers=[1], heads=[0])"),
        ("cross(local(3) + zero)", "cross(local(w=3, sinks=1)) + cross(zero)"),
        ("encoder(local(2)) + cross(uniform)", "cross(uniform) + encoder(local(w=2, sinks=1))"),
    ],
)
def test_texts(text: str, canonical: str) -> None:
    assert parse(text).text == canonical
    assert parse(canonical) == parse(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("cross(cross(zero))", "cross(...) stands in cross(...); allowed: one"),
        ("cross(mean)", "mean has no meaning in cross(...)"),
        ("encoder(pool(4))", "has no meaning in encoder(...)"),
        ("decoder(last_token)", "a decoder sees no later tokens; allowed: first_token"),
        ("cross()", "cross takes one pattern; allowed: cross(pattern)"),
        ("cross(local(3), layers=[0])", "cross takes one pattern; allowed: cross(pattern)"),
        ("heads(cross(heads(zero, layers=[0])), heads=[1])", "heads stands in heads"),
    ],
)
def test_texts_that_mean_nothing(text: str, line: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert line in str(error.value)


def test_what_does_not_go_together() -> None:
    seq2seq, causal = tiny_seq2seq("t5"), tiny("llama")
    for model, text, line in (
        (seq2seq, "local(3)", "has three attentions; allowed: encoder(...), decoder(...) and"),
        (causal, "cross(zero)", "has one attention; allowed: a pattern without cross"),
        (seq2seq, "cross(local(3))", "goes by the places in the source that tokens belong to"),
        (seq2seq, "heads(cross(zero), layers=[2])", "layers holds 2; allowed: 0 to 1"),
    ):
        with pytest.raises(UsageError) as error, apply_pattern(model, text):
            pass
        assert line in str(error.value)
    with (
        pytest.raises(UsageError, match="has 9 queries and 3 places of them"),
        apply_pattern(seq2seq, "cross(local(3))", places=(0, 1, 2)),
    ):
        logits_of(seq2seq)
