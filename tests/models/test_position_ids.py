"""Hiding by leaving out: exact where position ids are heeded, found out where they are not."""

import numpy as np
import pytest
import torch
from models import BOS, FAMILIES, RECURRENT, SLIDING, random_ids, tiny, tiny_model
from numpy.typing import NDArray

from probe.corpus.windows import Window
from probe.errors import ProbeError
from probe.models.causal import CausalModel
from probe.models.position_ids import omission_hides, refuse_ignored_positions, uses_position_ids
from probe.perturbations.condition import parse
from probe.protocols.branches import Draw, FirstToken, TargetRun, perturbed

ALIBI = ("bloom", "falcon", "mpt")
IDS = random_ids(80)
RUN = TargetRun(50, 55, 80)


def window() -> Window:
    nothing = np.empty(0, dtype=np.int32)
    return Window("a", 0, 0, IDS, None, nothing, nothing)


@torch.inference_mode()
def masked(model: CausalModel, hidden: slice) -> NDArray[np.float32]:
    """Losses of the run's targets in one forward of BOS and window, *hidden* from near queries."""
    ids = torch.from_numpy(np.concatenate([[BOS], IDS]))
    mask = torch.zeros(len(ids), len(ids))
    for query in range(len(ids)):
        for key in range(len(ids)):
            is_hidden = query > RUN.boundary and hidden.start <= key < hidden.stop
            if key > query or is_hidden:
                mask[query, key] = torch.finfo(torch.float32).min
    logits = model.model(
        input_ids=ids[None],
        attention_mask=mask[None, None],
        position_ids=torch.arange(len(ids))[None],
        use_cache=False,
    ).logits[0]
    logp = torch.log_softmax(logits.float(), -1)
    places = torch.arange(RUN.first, RUN.stop)
    return -logp[places, ids[places + 1]].numpy()


@torch.inference_mode()
def scored(model: CausalModel, condition: str) -> NDArray[np.float32]:
    """Losses of the run's targets in the branch of a condition."""
    branch = perturbed(window(), RUN, Draw(parse(condition)), FirstToken("keep", BOS)).branch
    ids, places = torch.from_numpy(branch.ids), torch.from_numpy(branch.places)
    states, _ = model.states(ids[None], positions=places[None], keep=False)
    logp = torch.log_softmax(model.head(states[0]).float(), -1)
    rows = torch.arange(branch.first - 1, branch.stop - 1)
    return -logp[rows, ids[branch.first : branch.stop]].numpy()


@pytest.mark.parametrize("sinks", [0, 4, 60])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_hide_is_an_attention_mask(family: str, sinks: int) -> None:
    """Near tokens see the kept first token, the sinks and near text, at their own positions."""
    model = tiny_model(family)
    expected = masked(model, slice(min(1 + sinks, 51), 51))
    for condition in (f"hide(sinks={sinks})", f"delete(sinks={sinks}, positions='kept')"):
        np.testing.assert_allclose(scored(model, condition), expected, atol=2e-5)
    closed = scored(model, f"delete(sinks={sinks})")
    assert (np.abs(closed - expected).max() > 0.01) == (sinks < 50), "nothing is left to close up"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_family_makes_of_positions(family: str) -> None:
    """Found out on the model: ALiBi heeds none, windows and recurrent layers hide nothing."""
    model, ids = tiny_model(family), IDS
    ignored = (*ALIBI, "mamba", "mamba2")
    assert uses_position_ids(model, ids) == (family not in ignored)
    assert omission_hides(model, ids) == (family not in (*ALIBI, *SLIDING, *RECURRENT))


@pytest.mark.parametrize("family", SLIDING)
def test_a_window_longer_than_the_text_is_none(family: str) -> None:
    """A layer that sees all of the text by its window hides as any other."""
    model = CausalModel(tiny(family, sliding_window=128))
    assert omission_hides(model, IDS)


def test_what_is_not_heeded_is_refused() -> None:
    """The condition, the model and what is allowed are named; the others go through."""
    refuse_ignored_positions(
        tiny_model("llama"), IDS, {"hide": "hide", "delete(positions='kept')": "delete"}
    )
    refuse_ignored_positions(tiny_model("mistral"), IDS, {"delete(positions='kept')": "delete"})
    refuse_ignored_positions(tiny_model("bloom"), IDS, {})
    with pytest.raises(ProbeError, match=r"'delete\(positions='kept'\)|\"delete.*BloomForCausalLM"):
        refuse_ignored_positions(tiny_model("bloom"), IDS, {"delete(positions='kept')": "delete"})
    with pytest.raises(ProbeError, match=r"'hide': MistralForCausalLM .* not hidden; allowed"):
        refuse_ignored_positions(tiny_model("mistral"), IDS, {"hide": "hide"})
