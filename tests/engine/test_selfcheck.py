"""The self-check: what is wrong on a model is found out, and the engine does without it."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from models import (
    FAMILIES,
    LONGROPE,
    SMALL,
    plain_logp,
    random_ids,
    tiny,
    tiny_model,
    tiny_report,
)
from planted import CopyRule, planted
from scipy.stats import t
from transformers import (
    AutoModelForCausalLM,
    BertGenerationConfig,
    DogeConfig,
    Phi3Config,
    PretrainedConfig,
    RobertaConfig,
)
from transformers.cache_utils import Cache

from probe.engine import selfcheck
from probe.engine.branch import Branch
from probe.engine.engine import Engine
from probe.engine.selfcheck import Outcome, Report, check
from probe.engine.walk import Techniques
from probe.errors import ProbeError
from probe.models.causal import CausalModel

DOGE = DogeConfig(**SMALL, max_position_embeddings=1024, keep_window_size=64)
"""Keys are chosen among all: losses go by how many there are."""
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
MODEL = {"causal", "length"}
"""What is asked of the model itself; every family has both."""
Forward = Callable[..., Any]


def passed(report: Report) -> set[str]:
    """The techniques that passed, of a model that passed itself."""
    found = {outcome.technique for outcome in report.outcomes if outcome.passed}
    assert found >= MODEL
    return found - MODEL


@pytest.mark.parametrize("family", FAMILIES)
def test_what_passes(family: str) -> None:
    """Each family passes what is known to be right on it, and nothing else."""
    report = tiny_report(family)
    assert passed(report) == PASSES[family]
    assert report.techniques == Techniques(**{name: name in PASSES[family] for name in ALL})


@pytest.mark.parametrize("family", FAMILIES)
def test_what_passes_where_a_long_text_is_gone_on_from(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache of the causal test, as far as its text is the same, serves as the prefix."""
    monkeypatch.setattr(selfcheck, "TAIL", 8)
    report = check(tiny_model(family), IDS)
    assert passed(report) == PASSES[family]
    assert all(one.worst < 1e-5 for one in report.outcomes if one.passed)


@pytest.mark.parametrize(("kind", "first"), [("llama", 65), ("longrope", 16), ("mistral", 16)])
def test_where_a_prefix_begins(kind: str, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At two thirds; early where losses go by the length, or a cache does not keep every key."""
    monkeypatch.setattr(selfcheck, "TAIL", 8)
    model = longrope() if kind == "longrope" else CausalModel(tiny(kind))
    own, behind = model.states, set()

    def states(ids: torch.Tensor, cache: Cache | None = None, **given: Any) -> Any:
        if cache is not None:
            behind.add((cache.get_seq_length(), ids.shape[1]))
        return own(ids, cache, **given)

    monkeypatch.setattr(model, "states", states)
    check(model, IDS, more=TEXTS)
    assert (first, 97 - 8 - first) in behind
    assert {start for start, _ in behind} == {first, 97 - 8}


@pytest.mark.parametrize("family", [f for f in FAMILIES if "packing" in PASSES[f]])
def test_eager_attention(family: str) -> None:
    """Eager attention passes what sdpa passes: the packed mask is right in both."""
    own = tiny(family)
    assert own.config._attn_implementation == "sdpa"
    own.set_attn_implementation("eager")
    model = CausalModel(own)
    assert passed(check(model, IDS)) == PASSES[family]


def test_model_without_cache() -> None:
    """A model without cache has its head alone, and the reason is said."""
    report = check(CausalModel(planted(CopyRule(5, 96))), IDS)
    assert passed(report) == {"head"}
    assert "continuation: switched off, the model returns no cache" in map(str, report.outcomes)


def test_bfloat16() -> None:
    """In bfloat16 single losses differ and the techniques pass by mean and deviation."""
    report = check(CausalModel(tiny("llama", dtype=torch.bfloat16)), random_ids(400))
    assert passed(report) == ALL
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


@pytest.mark.parametrize("tail", [selfcheck.TAIL, 8])
@pytest.mark.parametrize("how", SABOTAGE, ids=lambda how: how.__name__)
def test_sabotage_is_found_out(
    how: Callable[..., Any], tail: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that is wrong loses the techniques that show it, and the losses stay right."""
    monkeypatch.setattr(selfcheck, "TAIL", tail)
    model = sabotaged(how)
    report = check(model, IDS)
    assert passed(report) == SABOTAGE[how]
    assert_engine_is_right(model, report.techniques)


def test_what_one_fork_leaves_for_the_next_of_its_shape() -> None:
    """States that a module keeps show in the fork that goes on after another."""
    left: dict[torch.Size, torch.Tensor] = {}

    def remembers(forward: Forward, given: dict[str, Any]) -> Any:
        output = forward(**given)
        states, behind = output.last_hidden_state, given.get("past_key_values") is not None
        if behind and given.get("attention_mask") is None:
            output.last_hidden_state = states + 0.1 * left.get(states.shape, 0 * states)
            left[states.shape] = states
        return output

    assert "forks" not in passed(check(sabotaged(remembers), IDS))


@pytest.mark.parametrize("length", [100, 150, 200, 240])
def test_keys_that_are_counted(length: int) -> None:
    """GPT-Neo finds the keys of its local layers by their number: a pack has more than a text."""
    model = CausalModel(tiny("gpt_neo", window_size=256, max_position_embeddings=2048))
    assert passed(check(model, random_ids(length))) == UNPACKED


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
    assert passed(report) == ALL - {"head"}
    text = random_ids(60)
    losses = Engine(model, report.techniques).score([[Branch(text, text, 30, 60, 30)]])[0][0]
    expected = -plain_logp(model.model, text)[np.arange(29, 59), text[30:]]
    assert np.abs(losses.nll - expected).max() < 1e-5


def test_reason_is_one_line() -> None:
    """What a family raises is told in one line, with the kind of the exception."""
    _, _, outcome, *_ = check(sabotaged(raises), IDS).outcomes
    assert outcome.reason == "the model raised NotImplementedError: one token at a time"
    assert str(outcome) == f"continuation: switched off, {outcome.reason}"


def test_report_as_json() -> None:
    """run.json names every technique once, in the order in which they were tried."""
    written = tiny_report("mpt").as_json()
    *names, lower = vars(Techniques())
    assert lower == "lower"  # tried where attention patterns have need of it
    assert [entry["technique"] for entry in written] == ["causal", "length", *names]
    assert [entry["passed"] for entry in written[2:]] == [True, True, True, False, True]


# -- the model itself --------------------------------------------------------------------------

TEXTS = [random_ids(150, seed=seed) for seed in range(40)]


def model_of(config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> CausalModel:
    torch.manual_seed(0)
    return CausalModel(AutoModelForCausalLM.from_config(config, dtype=dtype).eval())


def encoder(name: str, *, is_decoder: bool) -> PretrainedConfig:
    kind = {"roberta": RobertaConfig, "bert-generation": BertGenerationConfig}[name]
    return kind(**SMALL, is_decoder=is_decoder, max_position_embeddings=200)


def longrope() -> CausalModel:
    """Its angles are others where a sequence is longer than 60 tokens."""
    return model_of(
        Phi3Config(**SMALL, original_max_position_embeddings=60, rope_parameters=LONGROPE)
    )


def outcome_of(report: Report, name: str) -> Outcome:
    return next(outcome for outcome in report.outcomes if outcome.technique == name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["roberta", "bert-generation"])
def test_a_model_that_sees_what_follows(name: str, dtype: torch.dtype) -> None:
    """An encoder that transformers loads as a causal LM is refused; as a decoder it passes."""
    report = check(model := model_of(encoder(name, is_decoder=False), dtype), TEXTS[0])
    assert not outcome_of(report, "causal").passed
    with pytest.raises(ProbeError, match=rf"model_type '{name}', is_decoder false.* sees what"):
        report.refuse_acausal(model)
    report = check(model := model_of(encoder(name, is_decoder=True), dtype), TEXTS[0])
    assert str(outcome_of(report, "causal")).startswith("causal: exact, ")
    report.refuse_acausal(model)


def seeing(mixed: Callable[[torch.Tensor], torch.Tensor]) -> CausalModel:
    """A model whose last states are mixed with those of other tokens."""
    model = CausalModel(tiny("llama"))
    own = model.body.forward

    def forward(**given: Any) -> Any:
        output = own(**given)
        output.last_hidden_state = mixed(output.last_hidden_state)
        return output

    forward.__signature__ = inspect.signature(own)  # type: ignore[attr-defined]
    model.body.forward = forward
    return model


def test_one_token_is_seen() -> None:
    """A model that mixes only the next token into a state is found out, on any text."""
    model = seeing(lambda states: states + 0.1 * states.roll(-1, dims=1))
    for ids in (IDS, np.full(97, 7)):
        assert not outcome_of(check(model, ids), "causal").passed


def with_mean(states: torch.Tensor) -> torch.Tensor:
    """States of tokens that see each other."""
    return states + 0.1 * states.mean(dim=1, keepdim=True)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4, 32])
def test_a_block_is_seen(size: int) -> None:
    """A model that sees the whole of a block of tokens is found out wherever its blocks end."""
    model = seeing(lambda states: torch.cat([*map(with_mean, states.split(size, dim=1))], dim=1))
    for length in (96, 97, 192):
        assert not outcome_of(check(model, random_ids(length)), "causal").passed


@pytest.mark.parametrize("first", [100, 128, 150])
def test_what_is_seen_behind_a_first_part(first: int) -> None:
    """A model that reads its first tokens one after the other, and what follows them at once."""
    model = seeing(lambda states: torch.cat([states[:, :first], with_mean(states[:, first:])], 1))
    assert not outcome_of(check(model, random_ids(256)), "causal").passed


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba2", "qwen3_next"])
def test_float32(family: str) -> None:
    """Meanwhile a bfloat16 model computes as its float32 twin does; its weights stay the same."""
    narrow = tiny(family, dtype=torch.bfloat16)
    before = {name: weight.clone() for name, weight in narrow.state_dict().items()}
    wide = tiny(family)
    wide.load_state_dict(before)
    model, ids = CausalModel(narrow), torch.from_numpy(IDS)[None]
    with torch.no_grad(), model.float32():
        states, _ = model.states(ids)
    with torch.no_grad():
        expected, _ = CausalModel(wide).states(ids)
    assert states.dtype == torch.float32
    assert (states - expected).abs().max() < 1e-5
    for name, weight in narrow.state_dict().items():
        assert weight.dtype == before[name].dtype
        assert torch.equal(weight, before[name])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["longrope", "doge"])
def test_losses_that_depend_on_the_length(kind: str) -> None:
    """What is told is what whole forwards of cut texts give, over 256 targets or more."""
    model = longrope() if kind == "longrope" else model_of(DOGE)
    outcome = outcome_of(check(model, TEXTS[0], more=TEXTS[1:]), "length")
    assert not outcome.passed
    assert outcome.targets >= 256
    limits = []
    for part in (2, 4, 8):
        stop, changes = 150 // part, []
        for ids in TEXTS[:16]:  # 16 texts hold 17 targets each before the earliest cut
            labels = ids[1:stop]
            whole, cut = (
                -plain_logp(model.model, some)[np.arange(stop - 1), labels]
                for some in (ids, ids[:stop])
            )
            changes.append(cut - whole)
        every = np.concatenate(changes)
        error = every.std(ddof=1) / np.sqrt(len(every))
        limits.append(abs(every.mean()) + t.ppf(0.975, len(every) - 1) * error)
    assert outcome.limit == pytest.approx(max(limits), rel=1e-3)


@pytest.mark.slow
def test_a_length_far_below_the_window() -> None:
    """What a family goes by may be shorter than an eighth of a window, and branches shorter yet."""
    texts = [random_ids(1000, seed=seed) for seed in range(16)]
    outcome = outcome_of(check(longrope(), texts[0], more=texts[1:]), "length")
    assert not outcome.passed
    assert outcome.targets >= 256


@pytest.mark.slow
def test_length_reads_on_behind_a_text_that_shows_nothing() -> None:
    """Where one text shows that losses go by the length, others are read whatever they show."""
    model = CausalModel(tiny("llama"))
    own = model.body.forward

    def forward(**given: Any) -> Any:
        output, ids = own(**given), given["input_ids"]
        if ids[0, 0] == TEXTS[0][0]:
            output.last_hidden_state = output.last_hidden_state * (1 + ids.shape[1] / 150)
        return output

    forward.__signature__ = inspect.signature(own)  # type: ignore[attr-defined]
    model.body.forward = forward
    assert sum(ids[0] == TEXTS[0][0] for ids in TEXTS) < len(TEXTS) / 2
    outcome = outcome_of(check(model, TEXTS[0], more=TEXTS[1:]), "length")
    assert not outcome.passed
    assert outcome.targets >= 256


def test_length_reads_one_text() -> None:
    """A model whose losses do not go by the length reads one text and no other."""

    def none() -> Iterator[Any]:
        raise AssertionError("read another text")
        yield

    assert outcome_of(check(CausalModel(tiny("llama")), TEXTS[0], more=none()), "length").passed


def test_too_many_tokens() -> None:
    """A text that the model has no positions for is one line."""
    model = model_of(encoder("roberta", is_decoder=True))  # its positions begin behind the padding
    with pytest.raises(ProbeError, match="RobertaForCausalLM cannot forward 199 tokens at once"):
        check(model, random_ids(199))
