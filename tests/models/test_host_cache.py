"""A cache that rests in this machine's memory: the same losses, and when it is chosen."""

import pytest
import torch
from models import random_ids, tiny
from test_engine import branches_of, window

from probe.engine.engine import Engine
from probe.engine.selfcheck import check
from probe.models.causal import CausalModel, HostLayer, is_plain, rows, snapshot


def model_on_host(family: str) -> CausalModel:
    model = CausalModel(tiny(family))
    model.rests_on_host = True
    return model


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2"])
def test_the_same_losses(family: str) -> None:
    plain, host = CausalModel(tiny(family)), model_on_host(family)
    branches = [branches_of(window(index)) for index in (0, 1)]
    techniques = check(plain, random_ids(97)).techniques
    assert check(host, random_ids(97)).techniques == techniques
    expected, found = (Engine(one, techniques).score(branches) for one in (plain, host))
    for before, after in zip(expected, found, strict=True):
        for one, other in zip(before, after, strict=True):
            assert torch.equal(torch.from_numpy(one.nll), torch.from_numpy(other.nll))


def test_every_full_layer_rests_and_forks() -> None:
    model = model_on_host("llama")
    ids = torch.from_numpy(random_ids(12))[None]
    with torch.inference_mode():
        _, cache = model.states(ids)
        assert cache is not None
        assert is_plain(cache)
        assert all(type(layer) is HostLayer for layer in cache.layers)
        twin = snapshot(cache)
        _, grown = model.states(ids.repeat(2, 1), rows(cache, torch.tensor([0, 0])))
        assert grown is not None
        assert grown.get_seq_length() == 24
        assert cache.get_seq_length() == twin.get_seq_length() == 12


def test_a_family_with_a_cache_of_its_own_keeps_it() -> None:
    model = model_on_host("mamba2")
    with torch.inference_mode():
        _, cache = model.states(torch.from_numpy(random_ids(12))[None])
    assert cache is None or not any(type(layer) is HostLayer for layer in cache.layers)
