"""A cache that rests in this machine's memory: the same losses, and when it is chosen."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from models import random_ids, tiny
from plain_forwards import branches_of, window

from probe.engine.engine import Engine
from probe.engine.selfcheck import check
from probe.models import device
from probe.models.causal import CausalModel, HostLayer, is_plain, rows, snapshot
from probe.models.device import free_memory
from probe.runs import loaded

LENGTH = 64
CACHE = 2 * 3 * 2 * 8 * 4 * LENGTH  # bytes of keys and values of the tiny Llama


def model_on_host(family: str) -> CausalModel:
    model = CausalModel(tiny(family))
    model.rests_on_host = True
    return model


@pytest.mark.slow
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


def test_what_is_handed_to_a_layer_is_where_its_queries_are() -> None:
    """On a device that holds no numbers: only what rests is elsewhere."""
    layer = HostLayer()  # type: ignore[no-untyped-call]
    rest: list[torch.Tensor] = []

    class Elsewhere:
        """Keys as a device would hand them over, which are asked for their copy here."""

        device = torch.device("meta")

        def cpu(self) -> torch.Tensor:
            rest.append(torch.ones(1, 2, 3, 4))
            return rest[-1]

    keys, values = layer.update(Elsewhere(), Elsewhere())  # type: ignore[arg-type]
    assert keys.device == values.device == torch.device("meta")
    assert len(rest) == 2
    assert layer.keys is not None
    assert layer.keys.device == torch.device("cpu")


def test_a_family_with_a_cache_of_its_own_keeps_it() -> None:
    assert CausalModel(tiny("llama")).can_rest
    model = model_on_host("mamba2")
    with torch.inference_mode():
        _, cache = model.states(torch.from_numpy(random_ids(12))[None])
    assert cache is None or not any(type(layer) is HostLayer for layer in cache.layers)


@pytest.mark.parametrize(
    ("windows", "batch", "rests", "together"),
    [
        (100.0, "auto", False, 16),
        (20.0, "auto", False, 5),
        (4.0, "auto", False, 1),
        (1.4, "auto", False, 1),
        (1.3, "auto", True, 1),
        (0.1, "auto", True, 1),
        (4.0, 8, True, 8),
        (20.0, 8, False, 8),
    ],
)
def test_when_it_is_chosen(
    windows: float,
    batch: Any,
    rests: bool,
    together: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the free memory: a window's keys and values are there twice, and some is left over."""
    model, said = CausalModel(tiny("llama")), list[str]()
    monkeypatch.setattr(loaded, "free_memory", lambda _: 2 * CACHE * windows)
    config = SimpleNamespace(batch=batch, windows=SimpleNamespace(tokens=LENGTH))
    places = [SimpleNamespace(length=LENGTH)]
    experiment: Any = SimpleNamespace(config=config, windows=SimpleNamespace(places=places))
    loaded._rest_on_host(model, experiment, said.append)
    assert model.rests_on_host == rests == bool(said)
    assert loaded.batch_size(experiment.config, model) == together
    monkeypatch.setattr(loaded, "free_memory", lambda _: 1e12)
    loaded._rest_on_host(model, experiment, said.append)
    assert not model.rests_on_host


def test_memory_that_torch_holds_for_later_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_memory(tiny("llama")) is None
    weight = SimpleNamespace(device=torch.device("cuda", 0))
    model: Any = SimpleNamespace(parameters=lambda: [weight])
    monkeypatch.setattr(device.torch.cuda, "mem_get_info", lambda _: (100, 1000))
    monkeypatch.setattr(device.torch.cuda, "memory_reserved", lambda _: 60)
    monkeypatch.setattr(device.torch.cuda, "memory_allocated", lambda _: 20)
    assert free_memory(model) == 140
