"""The studies of `configs/training`: each is valid, and small twins of them go through."""

from pathlib import Path

import numpy as np
import pytest
from tiny_run import CHECKOUT

from probe.training.study import load
from probe.training.study_arms import arms_of
from probe.training.study_run import train

FILES = sorted((CHECKOUT / "configs" / "training").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_published_study_is_valid(path: Path):
    study = load(path)
    assert study.first == "plain"
    if path.stem != "planted-start":  # of which one model is needed
        assert len(study.seeds) >= 3
        assert set(study.measures) == {"distance", "longppl"}


@pytest.mark.slow
def test_a_twin_of_the_study_on_the_standard_library(tmp_path):
    """All arms and measures, from one seed, on fewer files and tokens, with a smaller model."""
    changes = {
        "model.config.hidden_size": "32",
        "model.config.intermediate_size": "64",
        "model.config.num_hidden_layers": "2",
        "model.config.num_attention_heads": "2",
        "tokenizer.size": "512",
        "data.max_documents": "40",
        "held_out": "8",
        "length": "256",
        "tokens": str(48 * 256),
        "seeds": "[0]",
        "arms.longce.online": "{context: 64, stride: 64}",
        "arms.shuffled.online": "{context: 64, stride: 64}",
        "arms.next_segment.auxiliary": '["next_segment(context=64, segment=32)"]',
        "scoring.windows.length": "255",
        "scoring.protocol": "{kind: longppl, context: 64, stride: 64}",
        "measures.distance.windows.length": "255",
        "measures.distance.protocol.distances": "[8, 32, 128, 200]",
        "measures.longppl.windows.length": "255",
        "measures.longppl.protocol": "{kind: longppl, context: 64, stride: 64}",
    }
    study = load(CHECKOUT / "configs/training/stdlib.yaml", list(changes.items()))
    arms = arms_of(study, train(study, tmp_path))
    assert arms.arms == list(study.arms)
    for arm in study.arms:
        loss = arms.row("intact loss", arm)
        assert 3 < loss["value"] < np.log(512), "it has learned something"
        assert loss["low"] < loss["value"] < loss["high"]
        near, far = arms.row("near loss", arm), arms.row("far delta", arm)
        assert near["value"] > 0
        assert np.isfinite(far["value"])
    changed = [arms.row("intact loss", arm)["difference"] for arm in list(study.arms)[1:]]
    assert len(set(changed)) == len(changed), "no two arms are one"
    assert 0 not in changed
