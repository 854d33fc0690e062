"""Losses from hidden states: equal to a plain softmax, through the model's own head."""

import numpy as np
import pytest
import torch
from models import FAMILIES, SMALL, plain_logp, random_ids, tiny, tiny_model
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, RobertaConfig

from probe.engine.losses import (
    MEASURES,
    Losses,
    Reference,
    model_losses,
    state_changes,
    token_losses,
)
from probe.errors import ProbeError
from probe.models import scorer
from probe.models.causal import CausalModel

Array = NDArray[np.float64]
SIZE, TARGETS = 50, 70
CAPPED_OR_SCALED = ("cohere", "granite", "gemma2", "gemma3")


def plain(logits: torch.Tensor) -> Array:
    """Log-probabilities in float64, by scipy."""
    exact = logits.double().numpy()
    with np.errstate(invalid="ignore"):
        found: Array = exact - logsumexp(exact, axis=-1, keepdims=True)
    return found


def random_logits(seed: int, scale: float = 5.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, (TARGETS, SIZE))).float()


def measure(
    logits: torch.Tensor, intact: torch.Tensor, labels: torch.Tensor, vocabulary: int = SIZE
) -> Losses:
    """All measures of logits that need no head."""
    return token_losses(
        lambda states: states,
        logits,
        labels,
        measures=MEASURES,
        reference=Reference(intact),
        vocabulary=vocabulary,
    )


LABELS = torch.from_numpy(np.random.default_rng(9).integers(0, SIZE, TARGETS))


def test_equals_plain_softmax() -> None:
    """The four measures are what a float64 softmax gives, in float32."""
    logits, intact = random_logits(0), random_logits(1)
    found = measure(logits, intact, LABELS)
    logp, reference = plain(logits), plain(intact)
    assert found.nll == pytest.approx(-logp[np.arange(TARGETS), LABELS], abs=1e-5)
    assert found.entropy == pytest.approx(-(np.exp(logp) * logp).sum(axis=1), abs=1e-5)
    kl = (np.exp(reference) * (reference - logp)).sum(axis=1)
    assert found.kl == pytest.approx(kl, abs=1e-4)
    assert found.top1 is not None
    assert found.top1.tolist() == (logp.argmax(axis=1) == LABELS.numpy()).tolist()
    assert {found.nll.dtype, found.kl.dtype, found.entropy.dtype} == {np.dtype(np.float32)}


def test_equal_distributions_have_no_kl() -> None:
    """KL of a distribution to itself is exactly 0."""
    logits = random_logits(0)
    assert (measure(logits, logits.clone(), LABELS).kl == 0).all()


@pytest.mark.parametrize("rows", [16, 17, 64, 1024])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Every measure is the same whichever the number of rows that are computed at once."""
    logits, intact = random_logits(0), random_logits(1)
    sizes: list[int] = []

    def head(states: torch.Tensor) -> torch.Tensor:
        sizes.append(len(states))
        return states

    monkeypatch.setattr(scorer, "ELEMENTS", rows * SIZE)
    found = token_losses(
        head, logits, LABELS, measures=MEASURES, reference=Reference(intact), vocabulary=SIZE
    )
    assert max(sizes) == min(rows, TARGETS)
    whole = measure(logits, intact, LABELS, vocabulary=1)
    for name in MEASURES:
        assert np.array_equal(getattr(found, name), getattr(whole, name))


def test_tokens_without_mass() -> None:
    """Tokens whose logits are −inf add nothing to KL and entropy, and no NaN."""
    logits, intact = random_logits(0), random_logits(1)
    logits[:, 10:20] = intact[:, 10:20] = -torch.inf
    kept = [*range(10), *range(20, SIZE)]
    found = measure(logits, intact, LABELS)
    small = measure(logits[:, kept], intact[:, kept], LABELS % 10)
    assert found.kl == pytest.approx(small.kl, abs=1e-5)
    assert found.entropy == pytest.approx(small.entropy, abs=1e-5)
    assert np.array_equal(np.isposinf(found.nll), (LABELS >= 10) & (LABELS < 20))


def test_kl_where_only_the_condition_gives_no_mass() -> None:
    """KL is infinite, not NaN, where a token that intact gives mass has none."""
    logits, intact = random_logits(0), random_logits(1)
    logits[:, 3] = -torch.inf
    assert np.isposinf(measure(logits, intact, LABELS).kl).all()


def test_kl_of_mass_too_small_for_float32() -> None:
    """KL has no NaN where a token has next to no mass in intact and none in the condition."""
    logits, intact = random_logits(0), random_logits(1)
    logits[:, 3], intact[:, 3] = -torch.inf, -300.0
    kept = [*range(3), *range(4, SIZE)]
    small = measure(logits[:, kept], intact[:, kept], LABELS % 40)
    assert measure(logits, intact, LABELS).kl == pytest.approx(small.kl, abs=1e-5)


def test_only_what_is_asked_for() -> None:
    """The nll is always there; nothing else is computed unasked."""
    found = token_losses(lambda states: states, random_logits(0), LABELS, vocabulary=SIZE)
    assert (found.kl, found.top1, found.entropy) == (None, None, None)
    assert len(found.nll) == TARGETS


def test_take_and_join() -> None:
    """Losses cut in two and joined are the losses."""
    found = measure(random_logits(0), random_logits(1), LABELS)
    again = Losses.join([found.take(slice(0, 13)), found.take(slice(13, TARGETS))])
    for name in MEASURES:
        assert np.array_equal(getattr(again, name), getattr(found, name))


# -- the model's own head ---------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_head_gives_own_logits(family: str) -> None:
    """Hidden states through the head are the logits of the model's own forward."""
    model, ids = tiny_model(family), torch.from_numpy(random_ids(40))
    with torch.inference_mode():
        states, _ = model.states(ids[None])
        own = model.model(input_ids=ids[None]).logits[0]
        ours = torch.cat([model.head(states[0, :7]), model.head(states[0, 7:])])
    assert torch.allclose(ours, own, rtol=0, atol=5e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_the_models(family: str) -> None:
    """Losses by way of states and head are those of a plain whole forward."""
    model, ids = tiny_model(family), random_ids(40)
    with torch.inference_mode():
        states, _ = model.states(torch.from_numpy(ids)[None])
        found = token_losses(
            model.head, states[0, :-1], torch.from_numpy(ids[1:]), vocabulary=model.vocabulary
        )
    expected = -plain_logp(model.model, ids)[np.arange(39), ids[1:]]
    assert found.nll == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_by_parts_of_the_vocabulary(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the logits, each by the model's own head, give the losses of all at once."""
    ids = torch.from_numpy(random_ids(40))
    expected = -plain_logp(tiny_model(family).model, ids.numpy())[np.arange(39), ids[1:]]
    for rows, entries in ((16, 7), (1024, 64)):
        monkeypatch.setattr(scorer, "_PART_ROWS", rows)
        monkeypatch.setattr(scorer, "_PART", entries)
        model = CausalModel(tiny(family))
        with torch.inference_mode():
            found = model.nll(model.states(ids[None])[0][0, :-1], ids[1:])
        assert model.by_parts
        assert found.numpy() == pytest.approx(expected, abs=1e-5)
        assert "forward" not in vars(model.model.get_output_embeddings())


def test_a_run_has_all_of_its_losses_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more than losses is measured the intact ones, which need no more, are no exception."""
    model, ids = tiny_model(FAMILIES[0]), torch.from_numpy(random_ids(40))
    monkeypatch.setattr(model, "nll", lambda states, labels: torch.full((len(labels),), 7.0))
    with torch.inference_mode():
        states = model.states(ids[None])[0][0, :-1]
        alone = model_losses(model, states, ids[1:])
        among = model_losses(model, states, ids[1:], measures=("nll", "kl"))
    assert (alone.nll == 7).all()
    expected = -plain_logp(model.model, ids.numpy())[np.arange(39), ids[1:]]
    assert among.nll == pytest.approx(expected, abs=1e-5)


def test_parts_are_exact_near_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss far below the rounding of the logits that it comes from has its own digits."""
    monkeypatch.setattr(scorer, "_PART", 7)
    model = CausalModel(tiny("llama"))
    weight = model.model.get_output_embeddings().weight
    with torch.inference_mode():
        states = (
            12 * torch.nn.functional.normalize(weight.detach()[:40]) / weight.norm(dim=1)[:40, None]
        )
        logits = (states * 3).double() @ weight.double().T
        labels = logits.argmax(dim=-1)
        expected = torch.logsumexp(logits, -1) - logits.max(dim=-1).values
        found = model.nll(states * 3, labels).double()
    assert model.by_parts
    assert expected.min() < 1e-5
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_parts_without_any_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of -inf adds nothing, a target in it has an infinite loss, and NaN stays NaN."""
    monkeypatch.setattr(scorer, "_PART", 7)
    model, states = CausalModel(tiny("llama")), torch.zeros(3, 32)
    vars(model)["by_parts"] = True
    logits = torch.randn(3, model.vocabulary, generator=torch.Generator().manual_seed(0))
    logits[:, 7:14] = -torch.inf
    logits[2, 30] = torch.nan
    monkeypatch.setattr(model, "_part_of_head", lambda at, _: logits[:, at : at + 7].clone())
    labels = torch.tensor([3, 9, 3])
    found = model.nll(states, labels)
    expected = -torch.log_softmax(logits, -1)[torch.arange(3), labels]
    assert torch.allclose(found, expected, rtol=0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_of_an_exact_head(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are as exact as the head is that they are made by: unrounded in its context."""
    monkeypatch.setattr(scorer, "_PART", 7)
    model, ids = CausalModel(tiny("cohere", dtype=dtype)), torch.from_numpy(random_ids(40))
    with torch.inference_mode():
        states = model.states(ids[None])[0][0, :-1]
        rounded = model.nll(states, ids[1:])
        with model.exact_head():
            exact = model.nll(states, ids[1:])
            expected = -torch.log_softmax(model.head(states), -1)[torch.arange(39), ids[1:]]
    assert model.by_parts
    assert torch.allclose(exact, expected, rtol=0, atol=1e-5)
    assert torch.equal(rounded, exact) == (dtype is torch.float32)


class Masking(nn.Module):
    """A head's projection and what follows it, which asks for the whole vocabulary at once."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Some logits that go by all of them, or by their place."""
        if self.how == "normed":
            return logits / logits.square().mean(dim=-1, keepdim=True).sqrt()
        if self.how == "biased":
            return logits + torch.arange(SIZE)
        logits = logits.clone()
        logits[..., [3, SIZE - 1] if self.how == "masked" else [3]] = -torch.inf
        return logits


@pytest.mark.parametrize("how", ["normed", "biased", "masked", "masked early"])
def test_a_head_that_has_no_parts(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a logit goes by others, or by its place, all are made at once, and rightly."""
    monkeypatch.setattr(scorer, "_PART", 7)
    config = tiny("llama").config
    config.vocab_size = SIZE
    model = AutoModelForCausalLM.from_config(config).eval()
    own, last = model.forward, Masking(how)

    def forward(**given: object) -> object:
        output = own(**given)
        output.logits = last(output.logits)
        return output

    model.forward = forward
    wrapped, ids = CausalModel(model), torch.from_numpy(random_ids(40)) % 3
    with torch.inference_mode():
        logits = model(input_ids=ids[None]).logits[0]
        found = wrapped.nll(wrapped.states(ids[None])[0][0, :-1], ids[1:])
    assert not wrapped.by_parts
    expected = -torch.log_softmax(logits, -1)[torch.arange(39), ids[1:]]
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rows", [SIZE - 8, SIZE])
def test_a_projection_of_fewer_rows_than_the_vocabulary(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the configuration calls the vocabulary may be more than the head has."""
    monkeypatch.setattr(scorer, "_PART", 7)
    config = tiny("llama").config
    config.vocab_size = rows
    model = AutoModelForCausalLM.from_config(config).eval()
    model.config.vocab_size = SIZE
    wrapped = CausalModel(model)
    labels = torch.zeros(3, dtype=torch.long)
    with torch.inference_mode():
        assert len(wrapped.nll(torch.randn(3, 32), labels)) == 3
    assert wrapped.by_parts == (rows == SIZE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_that_transforms_states_is_asked_once(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would transform them anew for every part."""
    monkeypatch.setattr(scorer, "_PART", 7)
    config = RobertaConfig(**SMALL, is_decoder=True, max_position_embeddings=200)
    model = CausalModel(AutoModelForCausalLM.from_config(config, dtype=dtype).eval())
    with torch.inference_mode(), model.exact_head():
        assert not model.by_parts


def test_what_hears_the_projection_is_left_its_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that keeps logits keeps them: nothing is written into."""
    monkeypatch.setattr(scorer, "_PART", 7)
    model, ids, kept = CausalModel(tiny("llama")), torch.from_numpy(random_ids(40)), []
    linear = model.model.get_output_embeddings()
    with torch.inference_mode():
        states = model.states(ids[None])[0][0, :-1]
        assert model.by_parts
        linear.register_forward_hook(lambda _module, _given, output: kept.append(output[0]))
        model.nll(states, ids[1:])
        found, expected = torch.cat(kept, dim=-1), states @ linear.weight.T
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


def test_a_target_beyond_the_vocabulary_has_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is NaN, which a run refuses, and no number that stood in memory."""
    monkeypatch.setattr(scorer, "_PART", 7)
    model = CausalModel(tiny("llama"))
    with torch.inference_mode():
        found = model.nll(torch.randn(2, 32), torch.tensor([1, model.vocabulary]))
    assert found.isnan().tolist() == [False, True]


def test_parts_are_left_to_another_tools_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forward that somebody put on the projection is called, and with what it expects."""
    monkeypatch.setattr(scorer, "_PART", 7)
    model, ids = CausalModel(tiny("llama")), torch.from_numpy(random_ids(40))
    linear = model.model.get_output_embeddings()
    linear.forward = lambda x: 2 * nn.functional.linear(x, linear.weight)
    with torch.inference_mode():
        states = model.states(ids[None])[0][0, :-1]
        expected = -torch.log_softmax(2 * states @ linear.weight.T, -1)
        found = model.nll(states, ids[1:])
    assert torch.allclose(found, expected[torch.arange(39), ids[1:]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", CAPPED_OR_SCALED)
def test_projection_alone_is_not_the_head(family: str) -> None:
    """In some families the output projection alone is wrong, so the test above means something."""
    model, ids = tiny_model(family), torch.from_numpy(random_ids(40))
    with torch.inference_mode():
        states, _ = model.states(ids[None])
        projected = model.model.get_output_embeddings()(states[0])
        own = model.model(input_ids=ids[None]).logits[0]
    assert (projected - own).abs().max() > 0.05


@pytest.mark.parametrize("family", ["llama", "opt", "cohere", "gemma2", "mamba"])
def test_exact_head(family: str) -> None:
    """In bfloat16 the projection computes in float32: logits that bfloat16 cannot hold."""
    model = CausalModel(tiny(family, dtype=torch.bfloat16))
    linear = model.model.get_output_embeddings()
    with torch.inference_mode():
        states, _ = model.states(torch.from_numpy(random_ids(40))[None])
        rounded = model.head(states[0]).float()
        with model.exact_head():
            exact = model.head(states[0]).float()
        again = model.head(states[0]).float()
    assert (exact != exact.bfloat16().float()).any()
    assert torch.equal(rounded, again)
    # Half a step of the largest logit, twice: the product and its scale are each rounded.
    assert (exact - rounded).abs().max() <= rounded.abs().max() / 128
    assert "forward" not in vars(linear)


def test_exact_head_of_plain_projection() -> None:
    """Unrounded logits are the float32 product of states and weights."""
    model = CausalModel(tiny("llama", dtype=torch.bfloat16))
    weight = model.model.get_output_embeddings().weight
    with torch.inference_mode(), model.exact_head():
        states, _ = model.states(torch.from_numpy(random_ids(40))[None])
        found = model.head(states[0])
        expected = states[0].double() @ weight.double().T
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, rtol=0, atol=1e-5)


def test_exact_head_leaves_float32_alone() -> None:
    """Where nothing is rounded nothing is replaced."""
    model = tiny_model("llama")
    with model.exact_head():
        assert "forward" not in vars(model.model.get_output_embeddings())


def test_exact_head_is_undone_after_an_exception() -> None:
    """The projection is the model's own again, whatever happened in between."""
    model = CausalModel(tiny("llama", dtype=torch.bfloat16))
    linear = model.model.get_output_embeddings()
    before = linear.forward
    with pytest.raises(RuntimeError), model.exact_head():
        linear(torch.zeros(3, 5))
    assert "forward" not in vars(linear)
    assert linear.forward == before


@pytest.mark.parametrize("family", FAMILIES)
def test_body_is_restored(family: str) -> None:
    """After the head has run the model is the one that it was."""
    model, ids = tiny_model(family), random_ids(20)
    before = plain_logp(model.model, ids)
    with torch.inference_mode():
        model.head(model.states(torch.from_numpy(ids)[None])[0][0])
    assert "forward" not in vars(model.body)
    assert np.array_equal(plain_logp(model.model, ids), before)


def test_body_is_restored_after_an_exception() -> None:
    """States of a wrong size raise in the head, and leave the body as it was."""
    model, ids = tiny_model("llama"), random_ids(20)
    before = plain_logp(model.model, ids)
    with pytest.raises(RuntimeError), torch.inference_mode():
        model.head(torch.zeros(3, 5))
    assert "forward" not in vars(model.body)
    assert np.array_equal(plain_logp(model.model, ids), before)


def test_a_forward_that_stood_there_stands_there_again() -> None:
    """A forward that another tool put on the body (an attention pattern) survives the head."""
    model = CausalModel(tiny("llama"))
    own = model.body.forward
    model.body.forward = own
    with torch.inference_mode():
        model.head(torch.zeros(3, 32))
    assert vars(model.body)["forward"] is own


def test_no_body() -> None:
    """A model none of whose parts returns hidden states is refused in one line."""

    class Bare(PreTrainedModel):
        def __init__(self) -> None:
            super().__init__(PretrainedConfig(vocab_size=8))
            self.linear = nn.Linear(2, 2)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.linear(torch.zeros(*input_ids.shape, 2))

    with pytest.raises(ProbeError, match="Bare is no causal language model") as caught:
        CausalModel(Bare().eval())
    assert "\n" not in str(caught.value)


def test_states_are_compared_as_they_are_defined() -> None:
    """1 − cosine of each token, and of each window's mean, in the order of windows."""
    rng = np.random.default_rng(0)
    states, intact = (torch.from_numpy(rng.normal(size=(3, 7, 16))).float() for _ in range(2))
    found = state_changes(states, intact)
    cosine = torch.nn.functional.cosine_similarity
    tokens = 1 - cosine(states.double(), intact.double(), dim=-1).flatten()
    pooled = 1 - cosine(states.double().mean(1), intact.double().mean(1), dim=-1)
    assert found.nll is None
    assert found.measured is found.embedding
    assert found.embedding == pytest.approx(tokens.numpy(), abs=1e-6)
    assert found.embedding_pooled == pytest.approx(np.repeat(pooled.numpy(), 7), abs=1e-6)
    part = found.take(slice(2, 9))
    whole = Losses.join([found.take(slice(0, 2)), part, found.take(slice(9, None))])
    assert part.nll is whole.nll is None
    np.testing.assert_array_equal(whole.embedding, found.embedding)
    np.testing.assert_array_equal(whole.embedding_pooled, found.embedding_pooled)


def test_small_changes_of_states_are_not_rounded_away() -> None:
    """Equal states are at 0; a turn of a ten-thousandth is told to a thousandth of its size."""
    states = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(0))
    turned = states + 1e-4 * torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(1))
    assert not state_changes(3 * states, 3 * states.clone()).embedding.any()
    cosine = torch.nn.functional.cosine_similarity(states.double(), turned.double(), dim=-1)
    expected = (1 - cosine).flatten().numpy()
    assert 1e-10 < expected.max() < 1e-7
    assert state_changes(turned, states).embedding == pytest.approx(expected, rel=1e-2)
