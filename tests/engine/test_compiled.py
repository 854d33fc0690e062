"""The compiled body: used where it is exact and faster, and only where torch has a graph for it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from models import random_ids, tiny, tiny_seq2seq
from torch._dynamo.utils import counters

from probe.engine.branch import Branch, Source
from probe.engine.compiled import CompiledBody, CompileOutcome, kind_of, try_compiled
from probe.engine.engine import Engine
from probe.engine.walk import Techniques
from probe.models.causal import CausalModel
from probe.models.scorer import Scorer, stubbed
from probe.models.seq2seq import Seq2SeqModel

IDS = random_ids(400)
KINDS = {"whole", "prefix", "continuation", "packing"}
Forward = Callable[..., Any]


@pytest.fixture(name="model", scope="module")
def tiny_model() -> Scorer:
    """A llama of one layer."""
    return CausalModel(tiny("llama", num_hidden_layers=1))


def compiled_as(patch: pytest.MonkeyPatch, wrap: Callable[[Forward], Forward]) -> None:
    """Let torch "compile" a forward by wrapping it, and call every one that is exact faster."""
    patch.setattr("torch.compile", lambda forward, **_: wrap(forward))
    patch.setattr("probe.engine.compiled.FASTER", np.inf)


def tried(model: Scorer, **given: Any) -> tuple[CompileOutcome, CompiledBody | None]:
    """What comes of a text of 400 tokens, and nothing is said meanwhile."""
    return try_compiled(model, IDS, Techniques(), pytest.fail, **given)


@pytest.mark.slow
def test_used(model: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exact and faster is used, for every kind of forward that was tried."""
    compiled_as(monkeypatch, lambda forward: forward)
    outcome, body = tried(model)
    assert outcome.passed
    assert outcome.worst == 0
    assert {*outcome.used} == {*outcome.ratios} == KINDS | {"whole of rows"}
    assert "compile: exact" in str(outcome)
    assert "continuation" in str(outcome)
    assert body is not None
    outcome, _ = tried(model, windows=3)
    assert {*outcome.used} == {f"{kind} of windows" for kind in KINDS} | {"whole of rows"}


@pytest.mark.slow
def test_wrong(model: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled body that is off by little is not used, be it only with a cache."""

    def off(forward: Forward) -> Forward:
        def wrong(**given: Any) -> Any:
            output = forward(**given)
            if given.get("past_key_values") is not None:
                output.last_hidden_state = output.last_hidden_state * 1.001
            return output

        return wrong

    compiled_as(monkeypatch, off)
    outcome, body = tried(model)
    assert body is None
    assert str(outcome).startswith("compile: switched off, its losses differ by up to 0.00")


def test_raises(model: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever torch raises is a line, at compiling as in the first forward."""

    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler\nis installed")

    line = "compile: switched off, torch raised RuntimeError: no compiler is installed"
    compiled_as(monkeypatch, fails)
    outcome, body = tried(model)
    assert (str(outcome), body) == (line, None)
    compiled_as(monkeypatch, lambda _: fails)
    outcome, body = tried(model)
    assert (str(outcome), body) == (line, None)
    assert "forward" not in vars(model.body)


@pytest.mark.slow
def test_slower(model: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is slower is not used, and of several kinds of forwards each stands by itself."""
    now = 0.0

    def taking(forward: Forward, seconds: float, only: str = "input_ids") -> Forward:
        def slower(**given: Any) -> Any:
            nonlocal now
            now += seconds if given.get(only) is not None else 0
            return forward(**given)

        return slower

    monkeypatch.setattr("probe.engine.compiled._Trial._clock", lambda _: now)
    with stubbed(model.body, taking(model.body.forward, 1.0)):
        compiled_as(monkeypatch, lambda forward: taking(forward, 0.5))
        monkeypatch.setattr("probe.engine.compiled.FASTER", 0.95)
        outcome, body = tried(model)
        assert body is None
        assert outcome.worst == 0
        assert {*outcome.ratios.values()} == {1.5}
        assert "off, no faster; its seconds, of those of the plain body: whole 1.50" in str(outcome)
        compiled_as(monkeypatch, lambda forward: taking(forward, 0.5, "past_key_values"))
        monkeypatch.setattr("probe.engine.compiled.FASTER", 1.2)
        outcome, _ = tried(model)
        assert {*outcome.used} == {"whole", "prefix", "whole of rows"}


@pytest.mark.slow
def test_fails_later(model: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch raises on a later forward is said once, and the body is plain from then on."""
    broken = False

    def brittle(forward: Forward) -> Forward:
        def maybe(**given: Any) -> Any:
            if broken:
                raise RuntimeError("recompile limit")
            return forward(**given)

        return maybe

    compiled_as(monkeypatch, brittle)
    said: list[str] = []
    _, body = try_compiled(model, IDS, Techniques(), said.append)
    broken = True
    branch = Branch(IDS, IDS, 200, 400, 200)
    (losses,) = Engine(model, forward=body).score([[branch, branch]])
    (plain,) = Engine(model).score([[branch, branch]])
    assert said == ["compile: switched off, torch raised RuntimeError: recompile limit"]
    np.testing.assert_array_equal(losses[0].measured, plain[0].measured)


@pytest.mark.slow
def test_other_kinds(model: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forwards of a kind that was not tried stay plain: texts with gaps between positions."""
    forwarded: list[dict[str, Any]] = []

    def noted(forward: Forward) -> Forward:
        def noting(**given: Any) -> Any:
            forwarded.append(given)
            return forward(**given)

        return noting

    compiled_as(monkeypatch, noted)
    _, body = tried(model)
    engine = Engine(model, forward=body)
    forwarded.clear()
    places = np.arange(400) + 100 * (np.arange(400) > 200)
    engine.score([[Branch(IDS, IDS, 300, 400, 300, positions=places)]])
    assert not forwarded
    engine.score([[Branch(IDS, IDS, 300, 400, 300)]])
    assert forwarded
    engine.whole().score([[Branch(IDS, IDS, 300, 400, 300)]])
    assert len(forwarded) == 1


@pytest.mark.slow
def test_reads_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an encoder–decoder the decoder is compiled, and reads a source meanwhile."""
    compiled_as(monkeypatch, lambda forward: forward)
    model = Seq2SeqModel(tiny_seq2seq("t5"))
    outcome, _ = try_compiled(
        model, random_ids(90), Techniques(), pytest.fail, source=Source(random_ids(20))
    )
    assert outcome.passed
    assert "packing" in outcome.used or "prefix" in outcome.used


def test_kinds() -> None:
    """A size of 1 is a kind of its own, all others are one."""
    one, two, nine = (torch.zeros(1, size) for size in (1, 2, 9))
    assert kind_of({"input_ids": two}) == kind_of({"input_ids": nine})
    assert kind_of({"input_ids": one}) != kind_of({"input_ids": nine})
    assert kind_of({"a": two, "b": None}) != kind_of({"a": two, "b": two})


@pytest.mark.slow
def test_torch(model: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch really compiles gives the plain losses, one graph for all lengths of a kind."""
    real = torch.compile
    monkeypatch.setattr("torch.compile", lambda f, **given: real(f, backend="eager", **given))
    monkeypatch.setattr("probe.engine.compiled.FASTER", np.inf)
    outcome, body = tried(model)
    assert outcome.passed, str(outcome)
    assert body is not None
    before = counters["stats"]["unique_graphs"]
    for length in range(80, 400, 23):
        ids, other = IDS[:length], np.concatenate([IDS[: length // 2], IDS[: length // 2]])
        window = [Branch(text, text, length // 2 + 1, len(text), 1) for text in (ids, other)]
        (losses,), (plain,) = (
            Engine(model, forward=one).score([window], reference=0) for one in (body, None)
        )
        for each, expected in zip(losses, plain, strict=True):
            np.testing.assert_allclose(each.measured, expected.measured, atol=1e-5)
    assert counters["stats"]["unique_graphs"] <= before + 2


@pytest.mark.slow
def test_inductor(model: Scorer) -> None:
    """A graph of torch's own compiler goes on from a cache as the plain body does."""
    body = CompiledBody(model, pytest.fail)

    def states(length: int) -> torch.Tensor:
        ids = torch.from_numpy(IDS[None, :length])
        places = torch.arange(length)[None]
        _, cache = model.states(ids[:, :50], positions=places[:, :50])
        with stubbed(model.body, lambda **given: body.compiled(given)):
            found, _ = model.states(ids[:, 50:], cache, positions=places[:, 50:])
        return found

    def plain(length: int) -> torch.Tensor:
        return model.states(torch.from_numpy(IDS[None, :length]))[0][:, 50:]

    with torch.inference_mode():
        for length in (100, 333):
            torch.testing.assert_close(states(length), plain(length), atol=1e-5, rtol=1e-5)
