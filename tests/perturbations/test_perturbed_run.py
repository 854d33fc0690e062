"""Perturbations of words, targets and positions in a whole run, against whole forwards."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    character_tokenizer,
    model_folders,
    no_network,
    parts,
    score,
    scores,
    text_folder,
    windows,
)
from transformers import AutoModelForCausalLM

from probe.errors import UsageError
from probe.perturbations import registry
from probe.perturbations.condition import draw_rng, parse
from probe.perturbations.samplers import unigram, vocabulary
from probe.perturbations.units import TokenText, common_types, pre_tokens

DISTANCES, COUNT, OFFSET, LENGTH = (0, 6, 20), 2, 3, 64
CONDITIONS = [
    "shuffle(unit='sentence')",
    "shuffle(within='sentence')",
    "reverse(unit='sentence')",
    "keep(what='common')",
    "drop(what='common', positions='kept')",
    "replace(source='newline', rate=0.5)",
    "replace(source='pad')",
    "hide(sinks=2)",
    "delete(sinks=2, positions='kept')",
    "delete(sinks=2)",
    "drop_target",
    "replace_target(source='unigram')",
    "paste",
]
CONTROLS = ["drop_target(matched=True)", "replace_target(source='unigram', matched=True)"]


@pytest.fixture(scope="module", name="folder")
def run_folder(base, tmp_path_factory):
    grid = {"kind": "grid", "distances": list(DISTANCES)}
    targets = {"count": COUNT, "end_offset": OFFSET, "alone": True}
    return score(
        base,
        tmp_path_factory.mktemp("perturbations"),
        name="perturbations",
        protocol={**grid, "targets": targets},
        conditions=CONDITIONS,
    )


@torch.inference_mode()
def loss(model, ids, places):
    """Loss of the last token, by one forward of all."""
    given = {"position_ids": torch.tensor([places]), "attention_mask": torch.ones(1, len(ids))}
    logits = model(torch.tensor([ids]), use_cache=False, **given).logits[0, -2]
    return -float(torch.log_softmax(logits.double(), dim=-1)[ids[-1]])


def frequencies(folder):
    table = pq.read_table(folder / "frequencies.parquet").to_pandas()
    counts = np.zeros(96, dtype=np.int64)
    counts[table.iloc[:, 0].to_numpy()] = table.iloc[:, 1].to_numpy()
    return counts


def expected_rows(folder, base):
    """Every row of the run, target by target, without any sharing."""
    model = AutoModelForCausalLM.from_pretrained(base["model"]["path"]).eval()
    tokenizer, counts = character_tokenizer(False), frequencies(folder)
    sources = {
        "newline": vocabulary(tokenizer("\n")["input_ids"]),
        "pad": vocabulary([tokenizer.pad_token_id]),
        "unigram": unigram(counts),
    }
    for (document, number), window in windows(folder).items():
        ids = np.array(window["token_ids"])
        text = TokenText(
            window["text"],
            np.array(window["char_start"]),
            np.array(window["char_end"]),
            ids,
            words=pre_tokens(tokenizer),
            common=common_types(counts),
        )
        for name in CONDITIONS + CONTROLS:
            condition = parse(name)
            for target in range(LENGTH - OFFSET - COUNT, LENGTH - OFFSET):
                for distance in DISTANCES:
                    at = target - distance
                    given = {
                        "rng": draw_rng(0, document, number, condition.text, 0),
                        "text": text[:at],
                        "targets": ids[target : target + 1],
                    }
                    places = list(range(at))
                    if condition.keeps_positions:
                        places = condition.remaining(ids[:at], **given).tolist()
                        far = ids[places].tolist()
                    else:
                        far = condition.apply(ids[:at], sources=sources, **given).tolist()
                        places = None
                    whole = [0, *far, *ids[at : target + 1].tolist()]
                    if places is None:
                        own = list(range(len(whole)))
                    else:
                        own = [0, *(1 + place for place in [*places, *range(at, target + 1)])]
                    position = window["start"] + target
                    yield document, condition.text, position, distance, loss(model, whole, own)


@pytest.mark.slow
def test_rows_are_those_of_whole_forwards(folder, base):
    """Words, sentences, common types, single tokens, targets and positions reach the engine."""
    assert json.loads((folder / "run.json").read_text())["model"]["bos"] == 0
    columns = ["document", "condition", "position", "distance", "nll"]
    expected = pd.DataFrame(expected_rows(folder, base), columns=columns)
    found = scores(folder)
    found = found[found["condition"] != "intact"][columns]
    both = found.merge(expected, on=columns[:-1], how="outer", suffixes=("", "_expected"))
    assert len(both) == len(found) == len(expected)
    np.testing.assert_allclose(both["nll"], both["nll_expected"], atol=2e-5)


@pytest.mark.slow
def test_controls_are_planned_beside_what_they_control(folder):
    """A targeted removal brings its count-matched control along."""
    assert set(CONTROLS) < set(scores(folder)["condition"])


def test_a_condition_that_draws_nothing_is_scored_once(base, tmp_path):
    """Repeats are for what is drawn: a single token is the same in all."""
    folder = score(
        base,
        tmp_path,
        conditions=["replace(source='newline')", "reverse(unit='sentence')", "shuffle"],
        repeats=2,
        data__max_documents=2,
    )
    repeats = scores(folder).groupby("condition")["repeat"].nunique().to_dict()
    assert repeats.pop("shuffle") == 2
    assert set(repeats.values()) == {1}


OWN = '''
"""A perturbation of the user's own."""

import numpy as np

from probe.perturbations.registry import register


@register("rotate_for_a_run")
def rotate(far, *, rng, by: int = 1):
    """Move every token by some places."""
    return np.roll(far, by)
'''


@pytest.mark.slow
def test_a_perturbation_of_ones_own_is_scored_and_resumed(base, tmp_path, monkeypatch):
    """It goes through a run like any other; changed code under its name is refused, rows stay."""
    registry.load_builtins()
    monkeypatch.setattr(registry.REGISTRY, "entries", dict(registry.REGISTRY.entries))
    file = tmp_path / "own.py"
    file.write_text(OWN)
    changes = {"perturbations": [str(file)], "data__max_documents": 2}
    folder = score(base, tmp_path, conditions=["rotate_for_a_run(by=3)"], **changes)
    found = scores(folder)
    assert (found.loc[found["boundary"] >= 0, "condition"] == "rotate_for_a_run(by=3)").all()
    assert (found["nll"] != found["nll_intact"]).any()
    before = parts(folder)
    score(base, tmp_path, conditions=["rotate_for_a_run(by=3)", "truncate"], **changes)
    assert before.items() <= parts(folder).items()
    file.write_text(OWN.replace("np.roll(far, by)", "np.roll(far, -by)"))
    with pytest.raises(UsageError, match="scored with other code of perturbation"):
        score(base, tmp_path, conditions=["rotate_for_a_run(by=3)"], **changes)
    assert before.items() <= parts(folder).items()
