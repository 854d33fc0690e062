"""Hard-coded heads and low-rank far context: what a plain loop over queries gives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from models import plain_logp, random_ids, tiny
from plain_attention import (
    Head,
    compressed_head,
    first_head,
    gaussian_head,
    masked_head,
    mean_head,
    plain_heads,
    uniform_head,
    zero_head,
)

from probe.attention.apply import apply_pattern
from probe.attention.parse import parse
from probe.attention.terms.hardcoded import Gaussian
from probe.attention.terms.lowrank import Pool, Project, Svd
from probe.attention.terms.mask import Random

LENGTH, BOUNDARY = 20, 13
IDS = random_ids(LENGTH)
WITHOUT_WINDOW = ("llama", "gpt2", "gpt_neox", "gemma2")  # at this length
HEADS: dict[str, Head] = {
    "gaussian": gaussian_head(-1, 1.0, renormalise=True),
    "gaussian(offset=0, sigma=2.5)": gaussian_head(0, 2.5, renormalise=True),
    "gaussian(offset=-3, renormalise=False)": gaussian_head(-3, 1.0, renormalise=False),
    "first_token": first_head,
    "zero": zero_head,
    "mean": mean_head,
    "uniform": uniform_head,
}


def pooled(k: int) -> Callable[..., Any]:
    def compress(key: torch.Tensor, value: torch.Tensor, _layer: int, _shared: int) -> Any:
        n = len(key)
        groups = [[t for t in range(n) if t * k // n == s] for s in range(k)]
        keys = torch.stack([key[group].mean(dim=0) for group in groups])
        values = torch.stack([value[group].mean(dim=0) for group in groups])
        return keys, values, [float(np.log(len(group))) for group in groups]

    return compress


def lowered(k: int) -> Callable[..., Any]:
    def low(some: torch.Tensor) -> torch.Tensor:
        left, values, right = torch.linalg.svd(some, full_matrices=False)
        return left[:, :k] @ torch.diag(values[:k]) @ right[:k]

    return lambda key, value, _layer, _shared: (low(key), low(value), [0.0] * len(key))


def projected(k: int, seed: int) -> Callable[..., Any]:
    def compress(key: torch.Tensor, value: torch.Tensor, layer: int, shared: int) -> Any:
        rng = np.random.default_rng([seed, layer])
        draws = [rng.standard_normal((k, len(key)), dtype=np.float32) for _ in range(shared + 1)]
        matrix = torch.from_numpy(draws[-1]) / k**0.5
        return matrix @ key, matrix @ value, [0.0] * k

    return compress


@pytest.mark.parametrize("family", WITHOUT_WINDOW)
@pytest.mark.parametrize("text", HEADS)
def test_hard_coded_heads(family: str, text: str) -> None:
    """Two heads of one layer get weights that go by position; the others attend as ever."""
    model = tiny(family)
    expected = plain_heads(model, IDS, HEADS[text], layers=(1,), heads=(0, 3))
    with apply_pattern(model, parse(f"heads({text}, layers=[1], heads=[0, 3])")):
        found = plain_logp(model, IDS)
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(plain_logp(model, IDS) - expected).max() > 0.1, "it changes something"


@pytest.mark.parametrize("family", WITHOUT_WINDOW)
def test_random_links_of_each_layer_and_head(family: str) -> None:
    """Every head of every layer follows links of its own."""
    term = Random(2, seed=1)
    model = tiny(family)
    head = masked_head(lambda i, j, layer, own: bool(term.allowed(i, j, layer=layer, head=own)))
    expected = plain_heads(model, IDS, head, layers=(0, 1, 2), heads=(1, 3))
    with apply_pattern(model, parse("heads(random(2, seed=1), heads=[1, 3])")):
        found = plain_logp(model, IDS)
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("family", WITHOUT_WINDOW)
@pytest.mark.parametrize(
    ("text", "compress"),
    [
        ("pool(5)", pooled(5)),
        ("pool(1)", pooled(1)),
        ("svd(2)", lowered(2)),
        ("project(4, seed=7)", projected(4, 7)),
    ],
)
@pytest.mark.parametrize("heads", [(0, 1, 2, 3), (1, 2)])
def test_low_rank_far_context(
    family: str, text: str, compress: Callable[..., Any], heads: tuple[int, ...]
) -> None:
    """Near queries see the compressed far text, far ones the text itself, both the first token."""
    model = tiny(family)
    head = compressed_head(compress, BOUNDARY)
    expected = plain_heads(model, IDS, head, layers=(0, 2), heads=heads)
    with apply_pattern(
        model, parse(f"heads({text}, layers=[0, 2], heads={list(heads)})"), boundary=BOUNDARY
    ):
        found = plain_logp(model, IDS)
    assert np.abs(found - expected).max() < 1e-4
    intact = plain_logp(model, IDS)
    assert np.abs(intact[:BOUNDARY] - found[:BOUNDARY]).max() < 1e-5, "far text reads itself"
    assert np.abs(intact[BOUNDARY:] - found[BOUNDARY:]).max() > 0.01, "it changes something"


def test_gaussian_weights_are_the_density() -> None:
    """The weights are those of the normal distribution, in numpy as in torch."""
    index = np.arange(30)
    weights = Gaussian(offset=-2, sigma=1.5).weights(index[:, None], index[None])
    assert weights[20].sum() == pytest.approx(1, abs=1e-6)
    assert weights[20].argmax() == 18
    assert weights[20, 18] / weights[20, 19] == pytest.approx(np.exp(1 / (2 * 1.5**2)))
    there = torch.arange(30)
    same = Gaussian(offset=-2, sigma=1.5).weights(there[:, None], there[None])
    assert np.abs(same.numpy() - weights).max() < 1e-6


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("gaussian(offset=-300)", first_head),
        ("gaussian(offset=300)", lambda value, **_: value),
    ],
)
def test_a_middle_out_of_sight(text: str, nearest: Head) -> None:
    """Renormalised, all weight falls on the nearest key that is seen; nothing becomes NaN."""
    model = tiny("gpt2")
    expected = plain_heads(model, IDS, nearest, layers=(0, 1, 2), heads=(0,))
    with apply_pattern(model, parse(f"heads({text}, heads=[0])")):
        assert np.abs(plain_logp(model, IDS) - expected).max() < 1e-4


def far(n: int = 23, d: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn((2, 3, n, d), generator=generator) for _ in range(2))  # type: ignore


def test_pool_at_full_size_is_exact() -> None:
    """As many segments as keys, or more, leave all as it was, to the last bit."""
    keys, values = far()
    for k in (23, 24, 1000):
        pooled_keys, pooled_values, bias = Pool(k).compress(keys, values)
        assert torch.equal(pooled_keys, keys)
        assert torch.equal(pooled_values, values)
        assert torch.equal(bias, torch.zeros(23))
    _, _, bias = Pool(5).compress(keys, values)
    sizes = bias.exp().round()
    assert sizes.sum() == 23
    assert sizes.max() - sizes.min() == 1


def test_svd_is_the_best_approximation() -> None:
    """Its error is that of the singular values left out, none at the head's dimension."""
    keys, values = far()
    for k in (1, 3, 5):
        low, _, _ = Svd(k).compress(keys, values)
        assert torch.linalg.matrix_rank(low[0, 0], rtol=1e-4) == k
        left_out = torch.linalg.svdvals(keys)[..., k:].square().sum(dim=-1)
        assert torch.allclose((keys - low).square().sum(dim=(-1, -2)), left_out, rtol=1e-3)
    assert torch.equal(Svd(6).compress(keys, values)[0], keys)
    assert torch.equal(Svd(6).compress(keys, values)[1], values)


def test_project_draws_for_each_layer_and_head() -> None:
    """Equal seeds give equal projections, other seeds, layers and heads others."""
    keys, values = far()
    same = keys[:, :1].expand(-1, 3, -1, -1)
    first, _, _ = Project(4).compress(same, values)
    assert torch.equal(first, Project(4).compress(same, values)[0])
    assert not torch.equal(first, Project(4, seed=1).compress(same, values)[0])
    assert not torch.equal(first, Project(4).compress(same, values, layer=1)[0])
    assert not torch.equal(first[:, 0], first[:, 1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("term", [Pool(4), Svd(2), Project(4)])
def test_compression_keeps_the_dtype(term: Pool | Svd | Project, dtype: torch.dtype) -> None:
    """Half-precision keys and values come out as they went in, within their rounding."""
    keys, values = (some.to(dtype) for some in far())
    got_keys, got_values, _ = term.compress(keys, values)
    assert got_keys.dtype == got_values.dtype == dtype
    exact, _, _ = term.compress(keys.float(), values.float())
    assert (got_keys.float() - exact).abs().max() < 0.05
